"""A filter of system calls for the sandbox: what no lab needs and what would get around its limits is refused.

The kernel's own interface (seccomp with classic BPF) takes a program of eight-byte instructions.
"""

from __future__ import annotations

import errno
import platform
import struct

# of memory that no limit counts, of new namespaces, of other processes' memory, of the kernel's own machinery
REFUSED = {
    "x86_64": {
        "memfd_create": 319, "memfd_secret": 447, "unshare": 272, "setns": 308, "mount": 165, "ptrace": 101,
        "process_vm_readv": 310, "process_vm_writev": 311, "pidfd_getfd": 438, "bpf": 321, "perf_event_open": 298,
        "userfaultfd": 323, "io_uring_setup": 425, "add_key": 248, "request_key": 249, "keyctl": 250,
        "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240, "clone3": 435,
    },
    "aarch64": {
        "memfd_create": 279, "memfd_secret": 447, "unshare": 97, "setns": 268, "mount": 40, "ptrace": 117,
        "process_vm_readv": 270, "process_vm_writev": 271, "pidfd_getfd": 438, "bpf": 280, "perf_event_open": 241,
        "userfaultfd": 282, "io_uring_setup": 425, "add_key": 217, "request_key": 218, "keyctl": 219,
        "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180, "clone3": 435,
    },
}  # fmt: skip
ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*, linux/audit.h
CHECKED = {  # calls that are refused for some values of an argument
    "x86_64": {"clone": 56, "mmap": 9, "socket": 41, "prlimit64": 302},
    "aarch64": {"clone": 220, "mmap": 222, "socket": 198, "prlimit64": 261},
}
NEW_NAMESPACES = 0x7E020000  # CLONE_NEW*, linux/sched.h
SHARED, ANONYMOUS = 0x1, 0x20  # of mmap(2): memory that counts neither as data nor, put aside, as resident
FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6; others may reach the host of a virtual machine
LOAD, EQUAL, GREATER_OR_EQUAL, ANY_OF, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000  # SECCOMP_RET_*
X32 = 0x40000000  # x86-64's second table of calls begins here
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data


def program(machine: str | None = None) -> bytes:
    """The filter for a machine ("x86_64" or "aarch64"; this one unless given), b"" for one that is not known."""
    machine = machine or platform.machine()
    refused = REFUSED.get(machine, {})
    if not refused:
        return b""
    # clone3 is refused as if it did not exist: the C library then uses clone
    numbers = [(number, errno.ENOSYS if name == "clone3" else errno.EPERM) for name, number in refused.items()]
    code = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUAL, 1, 0, ARCHITECTURE[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
        (GREATER_OR_EQUAL, 0, 1, X32),
        (RETURN, 0, 0, REFUSE | errno.ENOSYS),
    ]
    for number, error in numbers:
        code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE | error)]
    for name, test in _tests().items():
        # a test ends by refusing; what it lets through goes on below it
        code += [(EQUAL, 0, len(test) + 1, CHECKED[machine][name]), *test, (RETURN, 0, 0, ALLOW)]
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def _tests() -> dict[str, list[tuple[int, int, int, int]]]:
    """For each checked call: what looks at its arguments, and falls through where it may go on."""
    refuse = (RETURN, 0, 0, REFUSE | errno.EPERM)
    families = [(EQUAL, len(FAMILIES) - i, 0, family) for i, family in enumerate(FAMILIES)]
    return {
        "clone": [_load(0), (ANY_OF, 0, 1, NEW_NAMESPACES), refuse],
        "mmap": [_load(3), (ANY_OF, 0, 2, ANONYMOUS), (ANY_OF, 0, 1, SHARED), refuse],
        "socket": [_load(0), *families, refuse],
        "prlimit64": [_load(0), (EQUAL, 1, 0, 0), refuse],  # of other processes
    }


def _load(argument: int) -> tuple[int, int, int, int]:
    """Load the lower half of an argument; both machines are little-endian."""
    return (LOAD, 0, 0, ARGUMENTS_AT + 8 * argument)
