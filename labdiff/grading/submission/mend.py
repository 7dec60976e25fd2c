"""Puts cells right that came back copied, cut, merged, converted, or from other editors.

What counts is the source of the cells. A cell belongs to an exercise because it defines its name, whatever its
metadata says.
"""

from __future__ import annotations

import re
import textwrap

from labdiff.errors import Unreadable
from labdiff.exercises import Lab
from labdiff.grading.submission.read import LONGEST, Cell, folded
from labdiff.grading.submission.release import lab_of, released
from labdiff.grading.submission.syntax import DEFINITIONS, binds, compiles, key_of, parsed


def mend(cells: list[Cell], lab: Lab) -> list[Cell]:
    """Cells with their kind put right and cut ones joined; doing it twice changes nothing.

    Raises Unreadable where they belong to another lab or to none.
    """
    found = lab_of(cells)
    if found != lab.name and not _belongs(cells, lab):
        raise Unreadable(f"This is {found}, and {lab.name} was to be graded.")
    names = {*lab.exercises}
    answered = set().union(*(_answers(cell, names, lab.name) for cell in cells if cell.kind == "code"))
    mended: list[Cell] = []
    for cell in cells:
        if cell.kind == "code" and not cell.source.strip():
            continue
        if cell.kind == "code" and cell.grade_id in lab.questions and not _answers(cell, names, lab.name):
            cell = Cell("markdown", cell.source, cell.grade_id)
        # an answer in words' clothes, unless it was put aside for one that is code
        if cell.kind != "code" and _answers(cell, names, lab.name) - answered:
            cell = Cell("code", _unfenced(cell.source), cell.grade_id)
        last = mended[-1] if mended and mended[-1].kind == "code" else None
        if last and cell.kind == "code" and _is_continued(last, cell, names):
            mended[-1] = Cell("code", mended[-1].source + "\n" + cell.source, mended[-1].grade_id or cell.grade_id)
        else:
            mended.append(cell)
    return mended


def _belongs(cells: list[Cell], lab: Lab) -> bool:
    """Whether more of the cells' names are this lab's than could be by accident."""
    defined = {name for cell in cells for name in re.findall(r"^(?:def|class)\s+(\w+)", cell.source, re.M)}
    return len(defined & set(lab.exercises)) >= 3


def _answers(cell: Cell, names: set[str], lab: str) -> set[str]:
    """The exercises that a cell's text answers, were it code."""
    known = folded(cell.source) in released(lab).texts or len(cell.source) > LONGEST
    tree = None if known else parsed(_unfenced(cell.source))
    shown = released(lab).shown
    return set().union(*(binds(n) & names for n in tree.body if key_of(n) not in shown)) if tree else set()


def _unfenced(text: str) -> str:
    """Code without the fence that markdown puts around it."""
    fenced = re.fullmatch(r"\s*```\w*\n(.*?)\n?```\s*", text, re.S)
    return fenced.group(1) if fenced else text


def _is_continued(first: Cell, second: Cell, names: set[str]) -> bool:
    """Whether a cell was cut in two: the second begins inside a block, or one of them is no code by itself."""
    alone = parsed(textwrap.dedent(second.source))
    if alone and any(isinstance(node, DEFINITIONS) and node.name in names for node in alone.body):
        return False  # indented as a whole
    line = next((line for line in second.source.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    inside = line[:1].isspace()
    if not inside and parsed(first.source) is not None and parsed(second.source) is not None:
        return False
    return compiles(first.source + "\n" + second.source)
