"""A lab's notebook as it goes out: its first cell installs the wheel that comes with it."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from labdiff.errors import ReleaseError
from labdiff.files import ROOT
from labdiff.grading.classroom.release.cells import cell_of, installs
from labdiff.grading.submission.release import released

FIRST_CELL = Path(__file__).with_name("first_cell.py")


def notebook(lab: str, name: str, version: str, correction: bool) -> NotebookNode:
    """A lab's notebook, or its correction, without the link to a repository that may not exist.

    name, version: of the zip and of the wheel in it. Raises ReleaseError, and FileError where it is not built.
    """
    made = copy.deepcopy(_correction(lab) if correction else released(lab).notebook)
    first = [cell for cell in made.cells if installs(cell)]
    if len(first) != 1:
        raise ReleaseError("The lab's notebook has no cell that installs labdiff: run `labdiff build`.")
    first[0].source = cell_of(FIRST_CELL, ZIP=name, VERSION=version)
    made.cells[0].source = re.sub(r"\n*\[Open in Colab\]\([^)]*\)", "", made.cells[0].source)
    return made


def _correction(lab: str) -> NotebookNode:
    for root in (ROOT, Path.cwd()):
        file = root / "solutions" / lab / f"{lab}.ipynb"
        if file.exists():
            correction: NotebookNode = nbformat.read(file, as_version=4)
            return correction
    raise ReleaseError(
        f"The correction of {lab} is not here: run this in a copy of the repository, which holds it in solutions/."
    )
