"""A notebook of mended cells that nbgrader can read, with the release's metadata where it belongs."""

from __future__ import annotations

import copy
import itertools
import re

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labdiff.exercises import Lab
from labdiff.grading.submission.program import program
from labdiff.grading.submission.read import LONGEST, Cell, folded
from labdiff.grading.submission.release import released

MOST_TAGS = 500  # of a text cell; how long it takes to clean them grows with their square


def restore(cells: list[Cell], lab: Lab) -> NotebookNode:
    """A notebook of mended cells in the current format, with the release's metadata where it belongs.

    Each exercise has its cell and its check, each question its cell, once; what was lost comes
    from the release. Outputs, and whatever else the submission said of its cells, are gone.
    """
    original = released(lab.name).notebook
    marked = {c.metadata.nbgrader.grade_id: c for c in original.cells if "nbgrader" in c.metadata}
    runs = program(cells, lab)
    answers: dict[int, list[str]] = {}
    for name, at in runs.defined.items():
        answers.setdefault(runs.numbers[at], []).append(name)
    questions = {number: name for name, number in answered_questions(cells, lab, {*answers}).items()}
    unchanged = {folded(marked[name].source) for name in lab.questions}
    below: dict[int, list[int]] = {}  # question's cell -> the cells below it, where the student answered there
    for number in questions:
        if folded(cells[number - 1].source) in unchanged:
            theirs = (_is_theirs(cell, lab) for cell in cells[number:])
            below[number] = [number + 1 + i for i, _ in enumerate(itertools.takewhile(bool, theirs))]
    moved = {number for numbers in below.values() for number in numbers}
    stubs = {folded(marked[name].source): name for name in lab.exercises}
    restored: list[NotebookNode] = []
    placed: set[str] = set()

    def place(*names: str) -> None:
        for name in names:
            restored.append(copy.deepcopy(marked[f"check-{name}"]))
            placed.add(name)

    for number, cell in enumerate(cells, 1):
        if number in moved or (cell.kind == "code" and re.fullmatch(r"check\(\w+\)", folded(cell.source))):
            continue
        names = answers.get(number, [])
        stub = stubs.get(folded(cell.source))
        if stub and stub not in runs.defined and stub not in placed:
            names = [stub]
        question = questions.get(number)
        if below.get(number):
            cell = Cell("markdown", "\n\n".join(cells[n - 1].source for n in below[number]))
        code = cell.kind == "code" and not question
        node = new_code_cell(cell.source) if code else new_markdown_cell(_harmless(cell.source, lab))
        if names or question:
            node.metadata = copy.deepcopy(marked[question or names[0]].metadata)
            placed |= {question} if question else set()
        restored.append(node)
        place(*names)
    for name in lab.exercises:
        if name not in placed:
            restored.append(copy.deepcopy(marked[name]))
            place(name)
    restored += [copy.deepcopy(marked[name]) for name in lab.questions if name not in placed]
    for i, node in enumerate(restored):
        node["id"] = f"cell-{i}"
    notebook: NotebookNode = new_notebook(cells=restored, metadata=copy.deepcopy(original.metadata))
    return notebook


def _harmless(text: str, lab: Lab) -> str:
    """A student's text without scripts: nbgrader's pages would run them in the grader's browser, with their rights."""
    if folded(text) in released(lab.name).texts or not re.search(r"<\s*[a-zA-Z/!]", text):
        return text
    from nbconvert.filters import clean_html  # imported here, since only nbgrader's door needs it

    if len(text) > LONGEST or text.count("<") > MOST_TAGS:
        return text.replace("<", "&lt;")
    cleaned: str = clean_html(text)
    return cleaned


def _is_theirs(cell: Cell, lab: Lab) -> bool:
    """Whether a cell holds words that the release does not."""
    return cell.kind != "code" and bool(cell.source.strip()) and folded(cell.source) not in released(lab.name).texts


def answered_questions(cells: list[Cell], lab: Lab, taken: set[int]) -> dict[str, int]:
    """The cell that answers each question, by its id or else by what stands above it: question -> number.

    taken: the numbers of the cells that define answers, whatever their id says.
    """
    original = released(lab.name).notebook.cells
    found: dict[str, int] = {}
    for i, cell in enumerate(original):
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name not in lab.questions:
            continue
        above = [folded(c.source) for c in original[max(0, i - 2) : i]]
        ways = (
            [n for n, c in enumerate(cells, 1) if c.grade_id == name and n not in taken],
            [n for n in range(3, len(cells) + 1) if [folded(c.source) for c in cells[n - 3 : n - 1]] == above],
        )
        numbers = next((way for way in ways if way), [])
        said = [n for n in numbers if folded(cells[n - 1].source) != folded(cell.source)]
        if numbers:
            found[name] = (said or numbers)[-1]
    return found
