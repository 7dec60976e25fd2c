"""Runs a job in a sandbox: bubblewrap, whose first process has torch imported and forks one for each submission.

No network, no environment, no home folder, no gradebook, no answers; a private /tmp; limits on time, memory, processes
and what is written. What comes out is bytes, which `packing.unpack` takes for hostile.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from labdiff.errors import Malformed, SandboxError
from labdiff.exercises.names import LABS
from labdiff.files import PACKAGE
from labdiff.grading.sandbox.limits import Isolation, Limits
from labdiff.grading.sandbox.packing import LENGTH, pack, read_exactly, unpack
from labdiff.grading.sandbox.view import HOME, VIEW, site_folders, view_of

INSTALL = "sudo apt-get install bubblewrap"


def check_isolation(isolation: Isolation) -> None:
    """Raises SandboxError where submissions cannot be run with this isolation here; says what to do."""
    if isolation is Isolation.BUBBLEWRAP:
        _way()
    elif not hasattr(os, "fork"):
        raise SandboxError("Grading forks processes, which Windows cannot: grade in WSL or on Linux or macOS.")


def run(
    lab: str, job: dict[str, Any], limits: Limits, isolation: Isolation = Isolation.BUBBLEWRAP
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Run a job where nothing of another one is, and yield what it says: (event, data), as `inside.Submission` does.

    job: cells, exercises, replaced and reference; see `inside.Submission`. Ends early where the
    job says something that cannot be read, dies, or takes too long.
    Raises SandboxError where there is no sandbox of that kind.
    """
    check_isolation(isolation)
    message = pack(job | {"lab": lab, "limits": asdict(limits)})
    deadline = time.monotonic() + limits.submission_seconds + 60
    most = limits.output_bytes + (1 << 20)
    sandbox, clean = _take(lab, isolation), False
    with sandbox.line() as line:
        try:
            line.settimeout(60)
            line.sendall(LENGTH.pack(len(message)) + message)
            while True:
                event = unpack(_read(line.fileno(), deadline, most))
                data = _read(line.fileno(), deadline, most)
                if not isinstance(event, dict) or event.get("end"):
                    break
                yield event, data
            _end_of(line.fileno(), time.monotonic() + 5)
            clean = not sandbox.once
        except (Malformed, EOFError, OSError):
            return
        finally:
            if clean:
                _give_back(sandbox)
            else:
                sandbox.close()  # whatever went wrong, nobody comes after it


class Sandbox:
    """A process behind bubblewrap that has torch imported, runs no student's code, and forks one that does."""

    def __init__(self, lab: str, isolation: Isolation):
        self.lab, self.isolation, self.grader = lab, isolation, os.getpid()
        self.once = isolation is Isolation.BUBBLEWRAP and _way().where == "once"
        self.control, there = socket.socketpair()
        command, environment = _command(lab, isolation)
        self.process = subprocess.Popen(
            command,
            stdin=there.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
            **(_way().user if isolation is Isolation.BUBBLEWRAP else {}),
        )
        there.close()

    def line(self) -> socket.socket:
        """This side of a line to a new process. Whatever goes wrong there is seen at the first reading."""
        here, there = socket.socketpair()
        with there, contextlib.suppress(OSError):
            socket.send_fds(self.control, [b"-"], [there.fileno()])
        return here

    def close(self) -> None:
        """End it, and with it whatever still runs in it."""
        if self.grader != os.getpid():
            return  # a fork of the process that it belongs to
        self.control.close()
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


_idle: list[Sandbox] = []  # at most one, of the lab that was graded last
_lock = threading.Lock()


def _take(lab: str, isolation: Isolation) -> Sandbox:
    """The idle sandbox where it serves, or a new one."""
    with _lock:
        waiting = _idle.pop() if _idle else None
    if waiting:
        wanted = (lab, isolation, os.getpid())
        if (waiting.lab, waiting.isolation, waiting.grader) == wanted and waiting.process.poll() is None:
            return waiting
        waiting.close()
    return Sandbox(lab, isolation)


def _give_back(sandbox: Sandbox) -> None:
    """Keep a sandbox for the next submission."""
    with _lock:
        last = _idle.pop() if _idle else None
        _idle.append(sandbox)
    if last:
        last.close()


@atexit.register
def close() -> None:
    """End the sandbox that waits for another submission."""
    with _lock:
        while _idle:
            _idle.pop().close()


def _end_of(descriptor: int, deadline: float) -> None:
    """Wait until nobody holds the other side of a line. Raises TimeoutError, or Malformed where more is said."""
    with contextlib.suppress(EOFError):
        read_exactly(descriptor, 1, deadline)
        raise Malformed("something after the end")


def _read(descriptor: int, deadline: float, most: int) -> bytes:
    """One message. Raises EOFError, TimeoutError, or Malformed where it says to be longer than `most`."""
    (size,) = LENGTH.unpack(read_exactly(descriptor, LENGTH.size, deadline))
    if size > most:
        raise Malformed("a message too long")
    return read_exactly(descriptor, size, deadline)


def _command(lab: str, isolation: Isolation) -> tuple[list[str], dict[str, str]]:
    home = HOME if isolation is Isolation.BUBBLEWRAP else tempfile.gettempdir()
    environment = {
        "PATH": "/nonexistent",
        "HOME": home,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": home,
        "IPYTHONDIR": home,
        "CUDA_VISIBLE_DEVICES": "",
        "TORCHDYNAMO_DISABLE": "1",  # torch.compile would look for a compiler
        "LABDIFF_DATA": "offline",
        "NBGRADER_EXECUTION": "autograde",  # what labdiff.being_graded reads
    }
    sites = site_folders()
    where = "fork" if isolation is Isolation.NONE else _way().where
    inside = ["-s", "-m", "labdiff.grading.sandbox.inside", where]
    if isolation is Isolation.NONE:
        environment["PYTHONPATH"] = os.pathsep.join([str(PACKAGE.parent), *sites])
        return [sys.executable, *inside], environment
    environment["PYTHONPATH"] = os.pathsep.join([VIEW, *sites])
    python = [os.path.realpath(sys.executable), "-S", *inside]
    return [*_way().command, *view_of(lab, _way().where), *_environment(environment), "--", *python], {}


def _environment(values: dict[str, str]) -> list[str]:
    return ["--clearenv", *(word for name, value in values.items() for word in ("--setenv", name, value))]


CONFINED = ["--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"]
OWN_USER = ["--unshare-user", "--uid", "65534", "--gid", "65534"]
SEPARATING = ("CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_SETPCAP")  # what `confine` needs and gives up
TO_SEPARATE = [word for capability in SEPARATING for word in ("--cap-add", capability)]
NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}


@dataclass(frozen=True)
class Way:
    """A way to use bubblewrap. where: see `inside.main`."""

    where: str
    words: list[str]
    user: dict[str, Any]

    @property
    def command(self) -> list[str]:
        """The beginning of the command."""
        return [shutil.which("bwrap") or "bwrap", *self.words]


# The first that works here is used. As root, first as somebody else, so that even the kernel sees no root.
WAYS = [
    Way(where, words, user)
    for where, words in (
        ("namespaces", [*CONFINED, *OWN_USER, *TO_SEPARATE]),
        ("once", [*CONFINED, *OWN_USER, "--disable-userns"]),
        ("once", CONFINED),
    )
    for user in (NOBODY, {})
]


@functools.cache
def _way() -> Way:
    """How bubblewrap works on this machine. Raises SandboxError where it does not."""
    if sys.platform != "linux":
        raise SandboxError(
            "Grading runs a student's code in bubblewrap, which needs Linux (on Windows: WSL, elsewhere: a container). "
            "`--isolation none` runs it with your own rights instead."
        )
    if not shutil.which("bwrap"):
        raise SandboxError(
            f"Grading runs a student's code in bubblewrap, which is not installed: {INSTALL}. "
            "`--isolation none` runs it with your own rights instead."
        )
    said = ""
    for way in WAYS:
        if way.user and os.geteuid() != 0:
            continue
        tried = ["-m", "labdiff.grading.sandbox.confine"] if way.where == "namespaces" else ["-c", ""]
        command = [*way.command, *view_of(LABS[0], way.where), "--setenv", "PYTHONPATH", VIEW, "--"]
        command += [os.path.realpath(sys.executable), "-S", *tried]
        done = subprocess.run(command, capture_output=True, text=True, env={}, cwd="/", **way.user)
        if done.returncode == 0:
            return way
        said = said or done.stderr.strip()
    raise SandboxError(f"bubblewrap is installed and does not work here: {said[-300:]}")
