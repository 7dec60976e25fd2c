"""The wheel is whole, and so is the sdist: to use one, or to test the other, takes nothing of the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT

from labdiff.exercises.names import LABS
from labdiff.files import CHECKPOINTS

QUICK = (
    "tests/test_packing.py",
    "tests/test_canvas.py",
    "tests/test_build.py::test_a_students_notebook_holds_no_answer",
)
Run = Callable[..., subprocess.CompletedProcess[str]]


def built(kind: str, source: Path, folder: Path) -> Path:
    """The sdist or the wheel of a folder, as `pip wheel` makes it, which would ask the network for hatchling."""
    code = f"import sys; from hatchling.build import build_{kind} as build; print(build(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, folder], cwd=source, capture_output=True, text=True, check=True)
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built("sdist", ROOT, folder)) as archive:
        archive.extractall(folder, filter="data")
    return next(each for each in folder.iterdir() if each.is_dir())


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    return built("wheel", sdist, sdist.parent)


@pytest.fixture(scope="module")
def installed(new_python: Callable[..., Path], wheel: Path) -> Path:
    """The interpreter of an environment that has the wheel."""
    python = new_python(links=False)
    pip(python, str(wheel))
    return python


def pip(python: Path, *what: str) -> None:
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed")
    subprocess.run([str(python), "-m", "pip", "install", *options, *what], check=True)


@pytest.fixture
def labdiff(installed: Path, tmp_path: Path) -> Run:
    """Runs the command in an empty folder."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(installed.with_name("labdiff")), *arguments]
        surroundings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=300)

    return run


def test_the_wheel_holds_the_package_and_what_lies_beside_it_in_the_repository(sdist, wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = [file for file in (sdist / "labdiff").rglob("*") if file.is_file()]
    assert held >= {str(file.relative_to(sdist)) for file in package}
    assert held >= {f"labdiff/notebooks/{lab}/{lab}.ipynb" for lab in LABS}
    assert held >= {f"labdiff/shipped/{file.name}" for file in CHECKPOINTS.glob("*.ckpt")}
    assert len([name for name in held if name.startswith("labdiff/examples/")]) == 12
    assert "labdiff/py.typed" in held
    assert {name.split("/")[0] for name in held} == {"labdiff"}


def test_the_demo_needs_no_repository(labdiff, tmp_path):
    done = labdiff("demo")
    assert done.returncode == 0, done.stderr
    assert "labdiff release lab1_forward" in done.stdout
    assert (tmp_path / "demo" / "digits.png").exists()
    assert (tmp_path / "demo" / "feedback" / "chen" / "lab1_forward" / "lab1_forward.html").exists()


def test_a_release_made_from_the_wheel_has_the_bytes_of_one_made_from_the_repository(labdiff, packed, tmp_path):
    for lab in ("lab1_forward", "lab4_sampling"):
        assert labdiff("release", lab).returncode == 0
        assert (tmp_path / f"{lab}.zip").read_bytes() == packed(lab).read_bytes()


def test_a_correction_asks_for_the_repository(labdiff):
    done = labdiff("release", "lab1_forward", "--correction")
    assert done.returncode == 1
    assert "run this in a copy of the repository" in done.stderr


@pytest.mark.sandbox
def test_a_submission_is_graded(labdiff):
    done = labdiff("grade", str(ROOT / "tests" / "class" / "ada.ipynb"), "--json")
    assert done.returncode == 0, done.stderr
    assert {each["status"] for each in json.loads(done.stdout)["exercises"]} == {"right"}


def test_tests_pass_from_the_sdist(new_python, sdist):
    python = new_python()
    pip(python, "--editable", str(sdist))
    command = [python, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *QUICK]
    done = subprocess.run([*map(str, command)], cwd=sdist, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    where = [str(python), "-c", "import labdiff; print(labdiff.__file__)"]
    assert str(sdist) in subprocess.run(where, cwd=sdist.parent, capture_output=True, text=True).stdout
