"""What runs inside the sandbox: a student's cells, then the probes on what they defined.

The first process runs no student's code. It forks a process for each step (a cell, then an
exercise), so that whatever dies costs its own step only: the state before it lives on in
the process that was forked from. Nothing here is trusted by the grader. It computes; what
is right is decided outside, where the expected values are.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import functools
import gc
import linecache
import os
import resource
import select
import signal
import socket
import sys
import time
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

import labdiff
from labdiff import exercises
from labdiff.checking.run import Output, explain, run_probe
from labdiff.errors import Malformed
from labdiff.exercises.names import LABS
from labdiff.grading.sandbox import confine
from labdiff.grading.sandbox.packing import LENGTH, pack, read_exactly, unpack

unchanged = types.ModuleType("os")
vars(unchanged).update(vars(os))
os = unchanged  # as it is before a student's code can change it
FUTURE = functools.reduce(
    int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
POLL = 0.05  # seconds between two looks at the memory and the processes of a submission
RESTARTS = 50
DESCRIPTORS = 64  # what a socket or a pipe holds counts in no other limit


@dataclass
class State:
    """A process that holds what the cells so far have made, and this side's end of its line."""

    pid: int
    line: socket.socket
    made_by: int  # the cell that it ran
    in_use: bool = False  # whether it ended while a step was on its way


class Lost(Exception):
    """The process that held the state is gone, so the cells must be run again."""


class Submission:
    """One submission: its cells, then its exercises, each in a process of its own.

    job: what `sandbox.run` packed. send: takes what is to be said outside. alone: whether all other
    processes in sight are the submission's.
    """

    def __init__(self, job: dict[str, Any], send: Callable[..., None], alone: bool):
        self.alone = alone
        self.cells: list[str] = job["cells"]
        self.inputs: dict[str, list[dict[str, Any]]] = job["exercises"]
        self.names = list(self.inputs)
        self.lab = exercises.lab(job["lab"])
        self.replaced: list[str] = job["replaced"]
        self.reference: str = job["reference"]
        self.limits: dict[str, Any] = job["limits"]
        self.send = send
        self.deadline = time.monotonic() + self.limits["submission_seconds"]
        self.groups: set[int] = set()
        self.errors: dict[int, str] = {}  # what each cell raised, or ""

    def run(self) -> None:
        """Run the cells and the probes, and send what came of each."""
        stopped: dict[int, str] = {}
        waiting = list(self.names)
        together = True  # a process for each cell is needed only where one of them goes wrong
        for _ in range(RESTARTS):
            try:
                self.state = self._begin()
                together = together and self._run_cells(0, len(self.cells), stopped)
                if not together:
                    for i in range(len(self.cells)):
                        self._run_cells(i, i + 1, stopped)
                self._run_again(stopped)
                for i in range(len(self.cells)):
                    self.send({"cell": i, "error": self.errors.get(i, ""), "stopped": stopped.get(i, "")})
                while waiting:
                    self._exercise(waiting[0])
                    waiting.pop(0)  # also where it took the state along: that it does once
                    if waiting and self.state.in_use:
                        raise Lost
                return
            except Lost:
                # alone, it can only have been ended by something that its cell left behind
                if not self.state.in_use and not together:
                    stopped[self.state.made_by] = "it ended Python after it had finished"
                together = False
            finally:
                self._clear()

    def _run_again(self, stopped: dict[int, str]) -> None:
        """Run cells again that met an unknown name, while that helps: the student ran them in another order."""
        while early := [i for i, error in self.errors.items() if error.startswith("NameError") and i not in stopped]:
            for i in early:
                self._run_cells(i, i + 1, stopped, again=True)
            if not any(i not in stopped and self.errors[i] == "" for i in early):
                return

    def _run_cells(self, first: int, end: int, stopped: dict[int, str], again: bool = False) -> bool:
        """Run some cells in one process, which then holds the state. Returns whether it came through.

        again: what has a name by now keeps it.
        """
        if end == first + 1 and first in stopped:
            return False
        _, why, said = self._step(f"cells {first} {end} {int(again)}", self.limits["cell_seconds"], end - 1)
        if why and end == first + 1:
            stopped[first] = why
        try:
            errors = unpack(said) if not why else []
        except Malformed:
            errors = []
        self.errors.update(zip(range(first, end), map(str, errors), strict=False))
        return not why

    def _exercise(self, name: str) -> None:
        seconds, why, outputs = self._step(f"exercise {self.names.index(name)}", self.limits["exercise_seconds"], None)
        self.send({"exercise": name, "stopped": why, "seconds": seconds}, outputs)

    # --- one step: ask the state for a process, watch it, take what it says ------------------------

    def _step(self, message: str, limit: float, cell: int | None) -> tuple[float, str, bytes]:
        """Have a process forked from the state do something: seconds, why it was stopped or "", what it said.

        cell: where given, the process holds the state from then on.
        """
        started = time.monotonic()
        limit = min(limit, self.deadline - started)
        if limit <= 0:
            return 0.0, "the time for the whole submission was up", b""
        here, there = socket.socketpair()
        try:
            socket.send_fds(self.state.line, [message.encode()], [there.fileno()])
        except OSError as error:
            raise Lost from error
        there.close()
        pid, said, why, status, lines = 0, b"", "", None, [here, self.state.line]
        while not why:
            if pid and len(said) >= LENGTH.size and len(said) >= LENGTH.size + LENGTH.unpack_from(said)[0]:
                break
            ready, _, _ = select.select(lines, [], [], POLL)
            if here in ready:
                data = here.recv(1 << 20)
                if not data:
                    lines.remove(here)
                elif not pid and len(data) >= LENGTH.size:
                    (pid,) = LENGTH.unpack_from(data)
                    self.groups.add(pid)
                    data = data[LENGTH.size :]
                said += data
            elif self.state.line in ready:
                status = self._status()
                if status is None:  # the state is gone; the step may yet come to its end
                    lines.remove(self.state.line)
                    self.state.in_use = True
                else:
                    why = _how_it_ended(status)
            if not lines:
                why = "it ended Python, and the process that it came from"
            if time.monotonic() - started > limit:
                why = f"it ran longer than {limit:.0f} s"
            elif len(said) > self.limits["output_bytes"]:
                why = f"it returned more than {self.limits['output_bytes'] >> 20} MB"
            else:
                why = why or self._too_much()
        seconds = time.monotonic() - started
        if cell is not None and not why:
            self.state.line.close()
            self.state = State(pid, here, cell)
            self._clear(self.state.pid)
            return seconds, "", said[LENGTH.size :]
        self._clear(self.state.pid)
        here.close()
        if status is None and not self.state.in_use:
            self.state.in_use = self._status() is None
        return seconds, why, b"" if why else said[LENGTH.size :]

    def _status(self) -> int | None:
        """How the process that the state forked has ended, as waitpid tells it; None where the state is gone."""
        self.state.line.settimeout(10)
        try:
            data = self.state.line.recv(LENGTH.size)
        except OSError:
            return None
        return LENGTH.unpack(data)[0] & 0xFFFF if len(data) == LENGTH.size else None

    def _too_much(self) -> str:
        """What all processes of the submission together use too much of, or ""."""
        if not self.alone:
            return ""
        pids, memory = _others(), 0
        if len(pids) > self.limits["processes"]:
            return f"it started more than {self.limits['processes']} processes"
        for pid in pids:
            try:
                with open(f"/proc/{pid}/status") as status:
                    memory += sum(int(s.split()[1]) << 10 for s in status if s.startswith(("RssAnon", "RssShmem")))
            except (OSError, ValueError):
                continue  # it has just ended
        return f"it used more than {self.limits['memory'] / 2**30:g} GB" if memory > self.limits["memory"] else ""

    def _clear(self, keep: int = 0) -> None:
        """End every process but the one that holds the state."""
        if not self.alone:
            for group in self.groups - {keep}:
                _signal(-group, signal.SIGKILL)
            self.groups &= {keep}
        else:
            # stopped first, so that a process that keeps forking cannot outrun its end
            seen: set[int] = set()
            while (now := _others() - {keep}) - seen:
                for pid in now - seen:
                    _signal(pid, signal.SIGSTOP)
                seen |= now
            until = time.monotonic() + 10
            while (now := _others() - {keep}) and time.monotonic() < until:
                for pid in now:
                    _signal(pid, signal.SIGKILL)
                _reap()
                time.sleep(0.001)
        _reap()

    # --- in the forked processes ------------------------------------------------------------------

    def _begin(self) -> State:
        """Fork the process that holds the state before the first cell."""
        here, there = socket.socketpair()
        pid = os.fork()
        if pid:
            there.close()
            self.groups.add(pid)
            return State(pid, here, -1)
        try:
            here.close()
            os.setpgid(0, 0)
            _restrict(self.limits, there.fileno(), self.alone)
            self.namespace = fresh_namespace()
            self.answers: dict[str, Any] = {}
            self.given: dict[str, Any] = {"__name__": "reference"}
            if self.reference:
                _remember("<reference>", self.reference)
                exec(compile(self.reference, "<reference>", "exec"), self.given)
            self._hold(there)
        finally:
            os._exit(1)

    def _hold(self, line: socket.socket) -> None:
        """Hold a state: fork a process for each step that is asked for, and tell how it ended.

        A process that ran a cell then holds the state after it, in the same way.
        """
        while True:
            message, descriptors, _, _ = socket.recv_fds(line, 64, 1)
            if not message:
                os._exit(0)
            pid = os.fork()
            if pid:
                os.close(descriptors[0])
                line.sendall(LENGTH.pack(os.waitpid(pid, 0)[1]))
                continue
            line.close()
            line = socket.socket(fileno=descriptors[0])
            os.setpgid(0, 0)
            line.sendall(LENGTH.pack(os.getpid()))
            kind, *numbers = message.decode().split()
            said = self._execute(*map(int, numbers)) if kind == "cells" else self._outputs(self.names[int(numbers[0])])
            line.sendall(LENGTH.pack(len(said)) + said)
            if kind == "exercise":
                os._exit(0)

    def _execute(self, first: int, end: int, again: int) -> bytes:
        errors = []
        for i in range(first, end):
            before = dict(self.namespace) if again else {}
            error = execute(self.cells[i], f"<cell {i + 1}>", self.namespace)
            self.namespace.update(before)
            # a notebook may give the name to a result later on
            self.answers |= {name: self.namespace[name] for name in self.names if callable(self.namespace.get(name))}
            errors.append(error[:500].encode(errors="replace").decode())
            self.namespace.update({name: self.given[name] for name in self.replaced})
        return pack(errors)

    def _outputs(self, name: str) -> bytes:
        answer = self.answers.get(name, self.namespace.get(name, _undefined))
        tried = [run_probe(self.lab.exercises[name], answer, inputs) for inputs in self.inputs[name]]
        try:
            return pack([{part: asdict(output) for part, output in outputs.items()} for outputs in tried])
        except TypeError as error:
            failed = asdict(Output(error=f"TypeError: {error}"))
            return pack([{part: failed for part in outputs} for outputs in tried])


def _undefined(*args: Any, **kwargs: Any) -> None:
    raise NotImplementedError


def execute(source: str, filename: str, namespace: dict[str, Any]) -> str:
    """Run a cell, and go on after a statement that fails, so that it costs no answer further down.

    Returns what was raised first, in one line, or "".
    """
    _remember(filename, source)
    said = ""
    try:
        try:
            flags = compile(source, filename, "exec").co_flags & FUTURE
        except SyntaxError:
            return _execute_in_ipython(source, namespace)
        for statement in ast.parse(source).body:
            try:
                exec(compile(ast.Module([statement], []), filename, "exec", flags, dont_inherit=True), namespace)
            except BaseException as error:  # SystemExit too: it ends a statement, not the notebook
                said = said or explain(error)
    except BaseException as error:
        return explain(error)
    return said


def _execute_in_ipython(source: str, namespace: dict[str, Any]) -> str:
    """For a cell with magics, shell commands or a top-level await. Imported here, since few cells need it."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config, user_module=sys.modules["__main__"], user_ns=namespace)
    # there is no shell here, and line magics such as %matplotlib are for the eyes
    vars(shell).update(system=_nothing, getoutput=lambda *args, **kwargs: [], run_line_magic=_nothing)
    result = shell.run_cell(source, store_history=False, silent=True)
    error = result.error_before_exec or result.error_in_exec
    return explain(error) if error else ""


class _Silent(types.ModuleType):
    """A module whose every function does nothing: nobody looks at pictures here."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


def fresh_namespace() -> dict[str, Any]:
    """The names that a notebook's first cell finds."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    for name in ("labdiff.plotting", "google", "google.colab"):
        sys.modules[name] = _Silent(name)
    labdiff.check = labdiff.hint = _nothing
    module.__dict__.update(display=_nothing, get_ipython=_nothing)
    torch.manual_seed(0)
    return module.__dict__


def _remember(filename: str, source: str) -> None:
    """Let tracebacks and inspect.getsource find a source that is in no file."""
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)


def _restrict(limits: dict[str, Any], line: int, alone: bool) -> None:
    """Limits of a submission's processes, nothing to read or print to, and no descriptor but the line."""
    for what, most in (
        (resource.RLIMIT_DATA, limits["process_memory"]),
        (resource.RLIMIT_FSIZE, limits["written_bytes"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
        *([(resource.RLIMIT_NPROC, limits["processes"])] if alone else []),
    ):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.closerange(3, line)
    os.closerange(line + 1, 1024)


def _others() -> set[int]:
    """The living processes of the sandbox but this one; a dead one that nobody waited for is no process any more."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as status:
                if status.read().rpartition(")")[2].split()[0] not in "ZX":
                    found.add(int(name))
    return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError, OverflowError):
        os.kill(pid, number)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _how_it_ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        known: dict[int, str] = {signal.SIGSEGV: "a segmentation fault", signal.SIGKILL: "for want of memory, it seems"}
        return f"it was ended by signal {number} ({known.get(number) or signal.strsignal(number)})"
    return f"it ended Python (exit status {os.waitstatus_to_exitcode(status)})"


def main() -> None:
    """Run the submissions that come in on standard input, each as a line to talk on, one after the other.

    The argument says where: "namespaces" forks a process for each that is alone in namespaces of its
    own; "fork" only forks; "once" runs one, in this process, which the sandbox belongs to.
    """
    (where,) = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the kernel keeps all else from a sandbox's first process
    torch.set_num_threads(1)  # forks stay safe while nothing has run in parallel
    for lab in LABS:
        exercises.lab(lab)
    gc.collect()
    gc.freeze()  # so that a child's collector does not touch, and copy, every page of its parent
    grader = socket.socket(fileno=0)
    while True:
        _, lines, _, _ = socket.recv_fds(grader, 1, 1)
        if not lines:
            return  # the grader has gone
        line = socket.socket(fileno=lines[0])
        if where == "once":
            serve(line, where)
            return
        pid = os.fork()
        if not pid:
            grader.close()
            try:
                serve(line, where)
            finally:
                os._exit(0)
        line.close()
        os.waitpid(pid, 0)


def serve(line: socket.socket, where: str) -> None:
    """Take one job from a line, and say there what comes of it."""
    if where == "namespaces" and not confine.separate():
        return
    size = LENGTH.unpack(read_exactly(line.fileno(), LENGTH.size))[0]
    job = unpack(read_exactly(line.fileno(), size))
    if where == "namespaces":
        confine.hide(os.getcwd(), job["limits"]["written_bytes"])
    if where != "fork":
        confine.surrender()
    elif sys.platform == "linux":
        confine.guard()

    def send(event: dict[str, Any], data: bytes = b"") -> None:
        head = pack(event)
        line.sendall(LENGTH.pack(len(head)) + head + LENGTH.pack(len(data)) + data)

    Submission(job, send, alone=where != "fork").run()
    send({"end": True})


if __name__ == "__main__":
    main()
