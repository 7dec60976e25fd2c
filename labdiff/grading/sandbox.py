"""Where a student's code runs: bubblewrap, with nothing in sight but Python and what the lab gives.

No network, no environment, no home folder, no gradebook, no answers; a private /tmp;
limits on time, memory, processes and what is written. What comes out is bytes, which
`packing.unpack` takes for hostile.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import os
import select
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labdiff import checkpoints, exercises
from labdiff.grading import syscalls
from labdiff.grading.packing import LENGTH, Malformed, pack, unpack

PACKAGE = Path(__file__).resolve().parents[1]
VIEW = "/labdiff"  # where the sandbox sees the package
HOME = "/tmp/home"  # where a submission starts
NEEDED = ("torch", "numpy", "safetensors", "tqdm", "matplotlib", "torchvision", "IPython", "PIL")
ISOLATIONS = ("bubblewrap", "none")
INSTALL = "sudo apt-get install bubblewrap"


class SandboxError(Exception):
    """There is no sandbox to run a submission in; the message says what to do."""


@dataclass(frozen=True)
class Limits:
    """What one submission may use; times in seconds of wall clock, sizes in bytes."""

    cell_seconds: float = 30
    exercise_seconds: float = 20
    submission_seconds: float = 300
    process_memory: int = 2 << 30  # what one process may ask for
    memory: int = 4 << 30  # what all of them may hold
    processes: int = 64
    written_bytes: int = 64 << 20  # of one file, and of /tmp
    output_bytes: int = 32 << 20  # of one exercise


def check_isolation(isolation: str) -> None:
    """Raises SandboxError where submissions cannot be run with this isolation here; says what to do."""
    if isolation not in ISOLATIONS:
        raise SandboxError(f"There is no isolation called {isolation!r}; there are {' and '.join(ISOLATIONS)}.")
    if isolation == "bubblewrap":
        _way()
    elif not hasattr(os, "fork"):
        raise SandboxError("Grading forks processes, which Windows cannot: grade in WSL or on Linux or macOS.")


def run(lab: str, job: dict[str, Any], limits: Limits, isolation: str = "bubblewrap") -> Iterator[tuple[dict, bytes]]:
    """Run a job in a fresh sandbox and yield what it says: (event, data), as `inside.Submission` sends them.

    job: cells, exercises, replaced and reference; see `inside.Submission`. Ends early where the
    sandbox says something that cannot be read, dies, or takes too long.
    Raises SandboxError where there is no sandbox of that kind.
    """
    check_isolation(isolation)
    message = pack(job | {"lab": lab, "limits": asdict(limits)})
    deadline = time.monotonic() + limits.submission_seconds + 60
    command, environment = _command(lab, isolation, limits)
    options = _user() if isolation == "bubblewrap" else {}
    filters = _filter() if isolation == "bubblewrap" else []
    for descriptor in filters:
        command = [command[0], "--seccomp", str(descriptor), *command[1:]]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        start_new_session=True,
        pass_fds=filters,
        **options,
    )
    for descriptor in filters:
        os.close(descriptor)
    try:
        process.stdin.write(LENGTH.pack(len(message)) + message)
        process.stdin.close()
        most = limits.output_bytes + (1 << 20)
        while True:
            event = unpack(_read(process.stdout.fileno(), deadline, most))
            data = _read(process.stdout.fileno(), deadline, most)
            if not isinstance(event, dict) or event.get("end"):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                return
            yield event, data
    except (Malformed, EOFError, TimeoutError, BrokenPipeError):
        return
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _read(descriptor: int, deadline: float, most: int) -> bytes:
    """One message. Raises EOFError, TimeoutError, or Malformed where it says to be longer than `most`."""
    (size,) = LENGTH.unpack(_read_exactly(descriptor, LENGTH.size, deadline))
    if size > most:
        raise Malformed("a message too long")
    return _read_exactly(descriptor, size, deadline)


def _read_exactly(descriptor: int, size: int, deadline: float) -> bytes:
    pieces = []
    while size:
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        piece = os.read(descriptor, min(size, 1 << 20))
        if not piece:
            raise EOFError
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


# --- the command ------------------------------------------------------------------------------


def _command(lab: str, isolation: str, limits: Limits) -> tuple[list[str], dict[str, str]]:
    home = HOME if isolation == "bubblewrap" else tempfile.gettempdir()
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
    inside = ["-s", "-m", "labdiff.grading.inside"]
    if isolation == "none":
        environment["PYTHONPATH"] = os.pathsep.join([str(PACKAGE.parent), *sites])
        return [sys.executable, *inside], environment
    environment["PYTHONPATH"] = os.pathsep.join([VIEW, *sites])
    python = [os.path.realpath(sys.executable), "-S", *inside]
    return [*_bubblewrap(), *_view(lab, limits), *_environment(environment), "--", *python], {}


def _environment(values: dict[str, str]) -> list[str]:
    return ["--clearenv", *(word for name, value in values.items() for word in ("--setenv", name, value))]


@functools.cache
def site_folders() -> tuple[str, ...]:
    """The folders that hold the packages a lab uses."""
    found = (importlib.util.find_spec(name) for name in NEEDED)
    return tuple(dict.fromkeys(str(Path(spec.origin).parents[1]) for spec in found if spec and spec.origin))


def _view(lab: str, limits: Limits) -> list[str]:
    """What the sandbox sees: Python, its packages, and of labdiff what the lab itself gives."""
    size = str(limits.written_bytes)
    words = ["--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev", "--proc", "/proc"]
    # first, since Python itself may lie in a folder below /tmp
    words += ["--size", size, "--tmpfs", "/tmp", "--dir", HOME]
    words += ["--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]
    for place in _system_folders():
        words += ["--symlink", os.readlink(place), place] if os.path.islink(place) else ["--ro-bind", place, place]
    for place in dict.fromkeys([*_python_folders(), *site_folders()]):
        words += ["--ro-bind", place, place]
    # an installed labdiff lies among the packages, with the answers in it
    for site in site_folders():
        if os.path.isdir(f"{site}/labdiff"):
            words += ["--tmpfs", f"{site}/labdiff"]
    for file, place in _package_files(lab):
        words += ["--ro-bind", str(file), f"{VIEW}/labdiff/{place}"]
    return [*words, "--chdir", HOME, "--remount-ro", "/"]


def _system_folders() -> list[str]:
    places = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"]
    if sys.base_prefix == "/usr/local":
        places.append("/usr/local/lib")
    return [place for place in places if os.path.lexists(place)]


def _python_folders() -> list[str]:
    """The interpreter and its standard library, without the rest of the folder they are installed in."""
    names = ("stdlib", "platstdlib")
    paths = {sysconfig.get_path(name, vars={"base": sys.base_prefix, "platbase": sys.base_prefix}) for name in names}
    library = sysconfig.get_config_var("LIBDIR")
    if library and sys.base_prefix not in ("/usr", "/usr/local"):
        paths.add(library)
    return [*sorted(paths), os.path.realpath(sys.executable)]


def _package_files(lab: str) -> list[tuple[Path, str]]:
    """The files of labdiff that the sandbox sees, and where: no golden answers, no reference but of earlier labs."""
    earlier = exercises.LABS[: exercises.LABS.index(lab)]
    names = ["__init__.py", "data.py", "plotting.py", "metrics.py", "checkpoints.py"]
    names += [f"checking/{name}.py" for name in ("__init__", "notebook", "run", "judge", "golden")]
    names += [f"grading/{name}.py" for name in ("__init__", "inside", "packing")]
    names += [f"reference/{name}.py" for name in ("__init__", *earlier)]
    names += [file.name for file in PACKAGE.glob("*.npz")]
    shipped = next(place for place in checkpoints.PLACES if list(place.glob("*.ckpt")))
    asked = Path(_exercises().name)
    return [*((PACKAGE / name, name) for name in names), (shipped, "shipped"), (asked, "exercises")]


@functools.cache
def _exercises() -> tempfile.TemporaryDirectory:
    """A copy of labdiff/exercises without the hints, the last of which is nearly the answer."""
    copy = tempfile.TemporaryDirectory(prefix="labdiff-exercises-")
    os.chmod(copy.name, 0o755)
    for file in (PACKAGE / "exercises").glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if file.stem != "__init__":
            tree = _WithoutHints().visit(tree)
        Path(copy.name, file.name).write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
    return copy


class _WithoutHints(ast.NodeTransformer):
    """Empties the hints of exercises and predictions."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        none = ast.Tuple([ast.Constant("")] * 3, ast.Load())
        for keyword in node.keywords:
            if keyword.arg == "hints":
                keyword.value = none
        if isinstance(node.func, ast.Attribute) and node.func.attr == "prediction" and len(node.args) > 2:
            node.args[2] = none
        return self.generic_visit(node)


# --- bubblewrap -------------------------------------------------------------------------------

CONFINED = ["--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"]
OWN_USER = ["--unshare-user", "--uid", "65534", "--gid", "65534", "--disable-userns"]
NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}
# The first that works here is used. As root, first as somebody else, so that even the kernel sees no root.
WAYS = (
    ("nobody", [*CONFINED, *OWN_USER]),
    ("self", [*CONFINED, *OWN_USER]),
    ("self", CONFINED),
)


def _bubblewrap() -> list[str]:
    return [shutil.which("bwrap") or "bwrap", *_way()[1]]


def _filter() -> list[int]:
    """An open descriptor to read the filter of system calls from, where there is one for this machine."""
    code = syscalls.program()
    if not code:
        return []
    reading, writing = os.pipe()
    os.write(writing, code)
    os.close(writing)
    return [reading]


def _user() -> dict[str, Any]:
    return NOBODY if _way()[0] == "nobody" else {}


@functools.cache
def _way() -> tuple[str, list[str]]:
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
    for user, words in WAYS:
        if user == "nobody" and os.geteuid() != 0:
            continue
        options = NOBODY if user == "nobody" else {}
        command = [
            shutil.which("bwrap") or "bwrap",
            *words,
            *_view(exercises.LABS[0], Limits()),
            "--",
            os.path.realpath(sys.executable),
            "-S",
        ]
        done = subprocess.run([*command, "-c", ""], capture_output=True, text=True, env={}, cwd="/", **options)
        if done.returncode == 0:
            return user, words
        said = said or done.stderr.strip()
    raise SandboxError(f"bubblewrap is installed and does not work here: {said[:300]}")
