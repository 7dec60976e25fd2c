"""How the tests run: on one thread, and without those that need what is not here."""

from __future__ import annotations

import os

import pytest
import torch

from labdiff import data
from labdiff.errors import SandboxError
from labdiff.grading.sandbox.host import check_isolation

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
