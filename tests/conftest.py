"""What every test shares: the labs' exercises, their answers, and where MNIST lies."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from labdiff import data, exercises
from labdiff.authoring import proofs
from labdiff.grading.sandbox.host import check_isolation
from labdiff.grading.sandbox.limits import SandboxError

ROOT = Path(__file__).resolve().parents[1]

# Meant for these tests, not for those that they start.
os.environ.pop("PYTEST_ADDOPTS", None)

# One thread makes small operations repeatable and leaves the other cores to the other tests; so it does in the kernels
# that tests start, which beside a second worker would wait for each other's threads.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")


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


@functools.cache
def reference(lab: str) -> Any:
    """The module of a lab's reference answers."""
    return importlib.import_module(f"labdiff.reference.{lab}")


@functools.cache
def answers(lab: str, kind: str) -> dict[str, dict[str, Any]]:
    """A lab's mistakes or variants: exercise -> name -> answer."""
    return proofs.load(ROOT / "solutions" / lab / f"{kind}s.py", kind)


ALL = [exercise for lab in exercises.LABS for exercise in exercises.lab(lab).exercises.values()]


def named(kind: str) -> list[Any]:
    """Every mistake or variant as a pytest parameter (exercise, answer)."""
    return [
        pytest.param(exercise, answer, id=f"{exercise.name}-{title}")
        for exercise in ALL
        for title, answer in answers(exercise.lab, kind).get(exercise.name, {}).items()
    ]
