"""What a sandbox sees of the file system: nothing but Python, its packages, and of labdiff what the lab gives."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from labdiff import manifest
from labdiff.files import PACKAGE
from labdiff.grading.sandbox.limits import Limits

VIEW = "/labdiff"  # where the sandbox sees the package
HOME = "/tmp/home"  # where a submission starts
NEEDED = ("torch", "numpy", "safetensors", "tqdm", "matplotlib", "torchvision", "IPython", "PIL")


@functools.cache
def site_folders() -> tuple[str, ...]:
    """The folders that hold the packages a lab uses."""
    found = (importlib.util.find_spec(name) for name in NEEDED)
    return tuple(dict.fromkeys(str(Path(spec.origin).parents[1]) for spec in found if spec and spec.origin))


def view_of(lab: str, where: str) -> list[str]:
    """What the sandbox sees: Python, its packages, and of labdiff what the lab itself gives."""
    size = str(Limits.written_bytes)
    # shared memory from /dev/zero would count in no limit
    words = [
        "--dev",
        "/dev",
        "--dev-bind",
        "/dev/null",
        "/dev/zero",
        "--size",
        size,
        "--tmpfs",
        "/dev/shm",
        "--remount-ro",
        "/dev",
    ]
    # a process may cover /proc with its own only where all of it is to be seen; no student's code sees this one
    words += ["--bind", "/proc", "/proc"] if where == "namespaces" else ["--proc", "/proc"]
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
            words += ["--size", "4096", "--tmpfs", f"{site}/labdiff", "--remount-ro", f"{site}/labdiff"]
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
    """The files of labdiff that the sandbox sees, and where: no golden answers, no answers but of earlier labs."""
    hidden = Path(_without_hints().name)
    return [
        (hidden / file.name if file.parent.name == "exercises" else file, place)
        for place, file in sorted(manifest.of_sandbox(lab).files.items())
    ]


@functools.cache
def _without_hints() -> tempfile.TemporaryDirectory[str]:
    """A copy of labdiff/exercises without the hints, the last of which is nearly the answer."""
    copy = tempfile.TemporaryDirectory(prefix="labdiff-exercises-")
    os.chmod(copy.name, 0o755)
    for file in (PACKAGE / "exercises").glob("*.py"):
        tree = _WithoutHints().visit(ast.parse(file.read_text(encoding="utf-8")))
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
