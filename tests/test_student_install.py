"""Installing labdiff changes nothing in Colab, and a student's import stays small and quick."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import labdiff

HERE = Path(__file__).parent / "install"
PACKAGE = Path(labdiff.__file__).parent
PLAIN = {"torch", "torchvision", "numpy", "scipy", "matplotlib", "tqdm", "scikit-image", "pillow"}
IMPORTED_AS = {"skimage", "PIL"}
OPTIONAL = {"IPython", "ipywidgets"}  # used where a notebook has them, never needed
INSTRUCTORS = {"grading", "authoring"}
COLAB_PYTHONS = ("3.12.13", "3.13.15")  # both runtimes that Colab offered in August 2026
STUDENTS = sorted(
    file
    for file in (
        *PACKAGE.glob("*.py"),
        *(PACKAGE / "exercises").rglob("*.py"),
        *(PACKAGE / "checking").rglob("*.py"),
        *(PACKAGE / "reference").rglob("*.py"),
    )
    if file not in (PACKAGE / "cli.py", PACKAGE / "train.py")
)
each_student_module = pytest.mark.parametrize("file", STUDENTS, ids=lambda f: f.relative_to(PACKAGE).as_posix())


def plain_requirements() -> list[Requirement]:
    """What `pip install labdiff` asks for where no extra is named."""
    wanted = map(Requirement, metadata.requires("labdiff") or [])
    return [r for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]


def packages(file: Path) -> dict[str, str]:
    """Name -> version of a list that `pip freeze` wrote."""
    lines = (line.split("==") for line in file.read_text(encoding="utf-8").splitlines() if "==" in line)
    return {canonicalize_name(name): version for name, version in lines}


def imports(tree: ast.AST) -> Iterator[str]:
    """The dotted name of everything that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "labdiff" if node.level else node.module
            yield from (f"{start}.{alias.name}" for alias in node.names)
            yield f"{'labdiff.' * bool(node.level)}{node.module or ''}"


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def in_a_new_process(code: str) -> dict:
    """Run code in a fresh interpreter and return the JSON that it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_plain_dependencies_are_only_what_every_student_needs():
    assert {canonicalize_name(r.name) for r in plain_requirements()} == PLAIN


@pytest.mark.parametrize("runtime", ["colab_packages.txt", "colab_gpu_packages.txt"])
def test_installing_in_colab_changes_no_installed_package(runtime):
    installed = packages(HERE / runtime)
    for wanted in plain_requirements():
        version = installed.get(canonicalize_name(wanted.name))
        assert version, f"{wanted.name} is not in {runtime}"
        assert wanted.specifier.contains(version, prereleases=True), f"{wanted} would replace {version}"


@pytest.mark.parametrize("python", COLAB_PYTHONS)
def test_colabs_python_is_among_those_that_labdiff_takes(python):
    assert SpecifierSet(metadata.metadata("labdiff")["Requires-Python"]).contains(python)


def test_importing_labdiff_and_its_check_loads_nothing_that_a_student_could_miss():
    code = "import json, sys, labdiff; labdiff.check; print(json.dumps({'modules': sorted(sys.modules)}))"
    loaded = in_a_new_process(code)["modules"]
    unwanted = ("torchvision", "IPython", "matplotlib", *(f"labdiff.{name}" for name in sorted(INSTRUCTORS)))
    assert [name for name in loaded if any(name == u or name.startswith(f"{u}.") for u in unwanted)] == []


def test_importing_labdiff_takes_no_time_beyond_that_of_torch():
    # The processor's time, not the clock's: a busy machine must not fail this.
    code = """
import json, time, torch
start = time.process_time()
import labdiff
labdiff.check
print(json.dumps({"seconds": time.process_time() - start}))
"""
    assert in_a_new_process(code)["seconds"] < 0.2


@each_student_module
def test_a_students_module_never_imports_the_instructors_side(file):
    assert [name for name in imports(parsed(file)) if INSTRUCTORS & set(name.split(".")[:2])] == []


@each_student_module
def test_a_students_module_imports_only_plain_dependencies(file):
    known = PLAIN | IMPORTED_AS | OPTIONAL | {"labdiff"} | set(sys.stdlib_module_names)
    assert {name.split(".")[0] for name in imports(parsed(file))} - known == set()


@each_student_module
def test_a_students_module_imports_slow_and_optional_packages_only_where_they_are_used(file):
    at_the_top = [n for n in parsed(file).body if isinstance(n, (ast.Import, ast.ImportFrom))]
    loaded = {name.split(".")[0] for node in at_the_top for name in imports(node)}
    assert loaded & (OPTIONAL | {"torchvision", "matplotlib"}) == set()
