"""How the tests run: which of them, on how many cores, and what is said of those that were left out.

A folder of tests is a marker: what lies in proofs/, install/, browser/ or class_runs/ takes minutes and runs when it
is asked for, by `-m` or by the path of a file or folder. All other tests are quick, but for a few that are `slow`.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from labdiff import data
from labdiff.errors import SandboxError
from labdiff.grading.sandbox.host import check_isolation

HERE = Path(__file__).parent
FOLDERS = {
    "proofs": "mutants, manglings, cheats, the grader's own score",
    "install": "installs labdiff, a release or Colab's Jupyter into environments of their own",
    "browser": "needs Chromium",
    "class_runs": "grades whole classes, through nbgrader and pytest too, and kills what grades them",
}
CORES = 4  # used at most: beside it the files of tests are too few to share out

# Meant for these tests, not for those that they start.
os.environ.pop("PYTEST_ADDOPTS", None)

# One thread makes small operations repeatable and leaves the other cores to the other tests; so it does in the kernels
# that tests start, which beside a second worker would wait for each other's threads.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

left_out: Counter[str] = Counter()


def pytest_configure(config: pytest.Config) -> None:
    for name, about in FOLDERS.items():
        config.addinivalue_line("markers", f"{name}: {about}")
    options, named = config.getini("addopts"), [Path(_path(each)) for each in config.args]
    by_default = config.option.markexpr == options[options.index("-m") + 1]
    if by_default and any(_folder(path) or path.is_file() for path in named):
        config.option.markexpr = "not stock"  # a path that is named is meant


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share all tests out, but start no processes for a file that is named."""
    if not all(Path(_path(each)).is_dir() for each in config.args):
        return 0
    return min(CORES, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def pytest_itemcollected(item: pytest.Item) -> None:
    if folder := _folder(item.path):
        item.add_marker(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need MNIST or a sandbox where these are not on this machine."""
    try:
        check_isolation("bubblewrap")
    except SandboxError as error:
        for item in items:
            if "sandbox" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=str(error)))
    if os.environ.get("LABDIFF_DATA") != "offline" and data._present("mnist", True) and data._present("mnist", False):
        return
    for item in items:
        if "mnist" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="MNIST is not here: set LABDIFF_DATA to a folder that holds it"))


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for kind in ("stock", *FOLDERS, "slow"):
        left_out[kind] += sum(kind in item.keywords for item in items)
        items = [item for item in items if kind not in item.keywords]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # of a process that the tests were shared out to
        session.config.workeroutput["left_out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}) if not left_out else {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, and how to run it."""
    if not left_out.total():
        return
    kinds = ", ".join(f"{number} {kind}" for kind, number in left_out.items() if number)
    terminalreporter.section("left out")
    terminalreporter.line(f'{left_out.total()} tests: {kinds}. `pytest -m ""` runs everything,')
    terminalreporter.line(
        "`pytest -m proofs` those of one kind, and `pytest tests/proofs` too; .ci/run says what CI runs."
    )


def _path(argument: str) -> str:
    """The file or folder of an argument as `tests/test_build.py::test_name[one]`."""
    return argument.partition("::")[0]


def _folder(path: Path) -> str:
    """The folder of FOLDERS that a path lies in; "" where it is none."""
    inside = path.absolute()
    names = inside.relative_to(HERE).parts if inside.is_relative_to(HERE) else ()
    return names[0] if names and names[0] in FOLDERS else ""


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The zip of a lab as `labdiff release` packs it, made once: packed(lab, correction=False)."""
    from labdiff.grading.classroom.release import pack_release

    folder = tmp_path_factory.mktemp("packed")
    return functools.cache(lambda lab, correction=False: pack_release(lab, folder, correction=correction))
