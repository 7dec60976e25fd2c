"""What a process gives up before it runs a student's code: its view of others, its rights, and system calls.

The sandbox's first process has torch imported and runs no student's code. It forks a process
for each submission, which goes on alone with this module: namespaces of its own (processes,
files, network, System V memory, name), so that no submission meets anything of another one or
of the process it came from; then no capabilities and a filter of system calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from typing import Any

from labdiff.grading.sandbox import syscalls

NEWNS, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000  # unshare(2)
RDONLY, NOSUID, NODEV, NOEXEC, BIND, WITH_ALL_BELOW = 1, 2, 4, 8, 4096, 16384  # mount(2)
FILES = 16_384  # in /tmp, and in /dev/shm: the kernel's memory for them counts in no other limit
SET_DUMPABLE, SET_SECCOMP, CAPBSET_DROP, SET_CHILD_SUBREAPER, SET_NO_NEW_PRIVS, CAP_AMBIENT = 4, 22, 24, 36, 38, 47
SECCOMP_MODE_FILTER, CAP_AMBIENT_CLEAR_ALL, CAPABILITY_VERSION_3, CAPABILITIES = 2, 4, 0x20080522, 64


class _Filter(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def separate() -> bool:
    """Split off a process alone in namespaces of its own; True in that one, False here once all of it has ended.

    Raises OSError where the kernel refuses.
    """
    _call("unshare", NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET)
    pid = os.fork()
    if pid:
        # it is the first process of its namespace, so the kernel ends all others there before this returns
        os.waitpid(pid, 0)
        return False
    return True


def hide(home: str, size: int) -> None:
    """Cover what the processes share: processes, temporary files, shared memory. home: made anew. size: in bytes.

    Raises OSError where the kernel refuses.
    """
    below = [place for place in _mounts() if place.startswith(("/tmp/", "/dev/shm/"))]
    below = [place for place in below if not any(place.startswith(f"{other}/") for other in below)]
    held = {place: os.open(place, os.O_PATH) for place in below}  # Python itself may lie there
    _mount("proc", "/proc", NOSUID | NODEV | NOEXEC, "")
    for place in ("/tmp", "/dev/shm"):
        _mount("tmpfs", place, NOSUID | NODEV, f"size={size},nr_inodes={FILES},mode=0755")
    _mount("tmpfs", "/dev/pts", NOSUID | NODEV | NOEXEC | RDONLY, "size=4096")
    for place, descriptor in held.items():
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            os.makedirs(place, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY))
        _mount("none", place, BIND | WITH_ALL_BELOW, "", source=f"/proc/self/fd/{descriptor}")
        os.close(descriptor)
    with open("/proc/sys/user/max_user_namespaces", "w") as most:
        most.write("0")
    os.makedirs(home)
    os.chdir(home)


def surrender() -> None:
    """Give up all capabilities and the system calls that no lab needs. Raises OSError where the kernel refuses."""
    _call("prctl", SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with contextlib.suppress(OSError):  # where there are none to clear
        _call("prctl", CAP_AMBIENT, CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(CAPABILITIES):  # those that this kernel has, as far as they are there to be dropped
        with contextlib.suppress(OSError):
            _call("prctl", CAPBSET_DROP, capability, 0, 0, 0)
    head = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    _call("capset", ctypes.byref(head), ctypes.byref((ctypes.c_uint32 * 6)()))
    code = syscalls.program()
    if code:
        program = _Filter(len(code) // 8, code)
        _call("prctl", SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
    guard()


def guard() -> None:
    """No other process may look into this one, and orphans come here to be reaped."""
    _call("prctl", SET_DUMPABLE, 0, 0, 0, 0)
    _call("prctl", SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _mounts() -> list[str]:
    """Where something is mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        places = [line.split()[4] for line in lines]
    return [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place) for place in places]


def _mount(kind: str, place: str, flags: int, data: str, source: str = "none") -> None:
    _call("mount", source.encode(), place.encode(), kind.encode(), flags, data.encode())


def _call(name: str, *arguments: Any) -> None:
    words = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in arguments]
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*words):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def main() -> None:
    """Try it all; ends with an exception where something is refused."""
    reading, writing = os.pipe()
    if separate():
        hide("/tmp/home", 1 << 20)
        surrender()
        os.write(writing, b"done")
        os._exit(0)
    os.close(writing)
    if os.read(reading, 4) != b"done":
        raise OSError("no namespaces within the sandbox")


if __name__ == "__main__":
    main()
