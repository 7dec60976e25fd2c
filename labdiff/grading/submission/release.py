"""What a lab's released notebook holds, and which lab a submission belongs to."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from labdiff import exercises
from labdiff.errors import FileError, Unreadable
from labdiff.exercises.names import LABS
from labdiff.files import NOTEBOOKS
from labdiff.grading.submission.read import Cell, folded
from labdiff.grading.submission.syntax import key_of, only_defines


def release_file(lab: str) -> Path:
    """Where the released notebook of a lab lies. Raises FileError where it does not."""
    file = NOTEBOOKS / lab / f"{lab}.ipynb"
    if not file.exists():
        raise FileError(f"The released notebook of {lab} is missing: run `labdiff build {lab}`.")
    return file


@dataclass(frozen=True)
class Release:
    """What a lab's released notebook holds, by its role.

    given: sources of cells that only define and import, which answers may rely on. shown: the
    statements of all other cells, as `key_of` makes them. texts: every cell's text, spaces folded.
    order: the exercises as they are asked.
    """

    notebook: NotebookNode
    given: tuple[str, ...]
    shown: frozenset[str]
    texts: frozenset[str]
    order: tuple[str, ...]


@functools.cache
def released(lab: str) -> Release:
    """The release of a lab, read once."""
    notebook = nbformat.read(release_file(lab), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    given = tuple(cell.source for cell in code if "nbgrader" not in cell.metadata and only_defines(cell.source))
    known = [cell.source for cell in code if cell.source not in given]
    shown = frozenset(key_of(statement) for source in known for statement in ast.parse(source).body)
    ids = [cell.metadata.nbgrader.grade_id for cell in code if "nbgrader" in cell.metadata]
    order = tuple(name for name in ids if name in exercises.lab(lab).exercises)
    return Release(notebook, given, shown, frozenset(folded(cell.source) for cell in notebook.cells), order)


def lab_of(cells: list[Cell]) -> str:
    """The lab that cells belong to: the one most of whose exercises they name. Raises Unreadable."""
    text = "\n".join(cell.source for cell in cells)
    words = set(re.findall(r"\b(?:def|class)\s+(\w+)|\bcheck\(\s*(\w+)|^(\w+)\s*=", text, re.M))
    named = {name for pair in words for name in pair if name}
    best = max(LABS, key=lambda lab: len(named & set(exercises.lab(lab).exercises)))
    if not named & set(exercises.lab(best).exercises):
        raise Unreadable("This is no lab: no cell names one of the exercises.")
    return best
