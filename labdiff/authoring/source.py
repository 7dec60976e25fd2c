"""From a lab's source to the correction notebook and the reference module.

The author writes prose and answers. What follows from them is put in here: the badge, the
cell that installs labdiff, the line above each exercise, the check below it, and all of
nbgrader's metadata.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from labdiff import __version__
from labdiff.errors import SourceError
from labdiff.exercises import Exercise, Lab, Written
from labdiff.grading.classroom.release.cells import cell_of, installs
from labdiff.grading.submission.syntax import DEFINITIONS, only_defines, uses

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
REGION = re.compile(rf"[ \t]*{BEGIN}\n(.*?)[ \t]*{END}\n?", re.DOTALL)

INSTALL = Path(__file__).with_name("install_cell.py")


def correction_of(file: Path, lab: Lab, repository: str) -> NotebookNode:
    """The correction notebook of a lab's source, without outputs. It installs this version of labdiff.

    Raises SourceError where an exercise has no answer in the source, or an answer no exercise.
    """
    written = jupytext.read(file, fmt="py:percent")
    cells: list[NotebookNode] = []
    asked: list[str] = []
    for cell in written.cells:
        question = cell.metadata.pop("question", None)
        cell.metadata.pop("lines_to_next_cell", None)  # jupytext's own bookkeeping
        if question:
            cells += _question(cell, lab, question)
            asked.append(question)
        elif cell.cell_type == "code" and BEGIN in cell.source:
            name = _defines(cell.source, lab)
            cells += _exercise(cell, lab.exercises[name])
            asked.append(name)
        else:
            cells.append(cell)
    _all_asked(asked, lab)
    if cells[0].cell_type != "markdown":
        raise SourceError(f"{file.name} must begin with a markdown cell that holds the lab's title.")
    cells[0].source += "\n\n" + _badge(lab, repository)
    cells.insert(1, new_code_cell(cell_of(INSTALL, ADDRESS=f"git+{repository}@v{__version__}")))
    notebook: NotebookNode = nbformat.v4.new_notebook(cells=cells, metadata=_metadata())
    _set_ids(notebook, lab.name)
    return notebook


def _metadata() -> dict[str, Any]:
    return {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def _badge(lab: Lab, repository: str) -> str:
    place = repository.removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{lab.name}/{lab.name}.ipynb"
    return f"[Open in Colab]({address})"


def _defines(source: str, lab: Lab) -> str:
    names = [n.name for n in ast.parse(source).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    known = [name for name in names if name in lab.exercises]
    if len(known) != 1:
        raise SourceError(
            f"{lab.name}: a cell with {BEGIN} must define exactly one exercise of "
            f"labdiff/exercises/{lab.name}.py; it defines {', '.join(names) or 'nothing'}."
        )
    return known[0]


def _exercise(cell: NotebookNode, exercise: Exercise) -> list[NotebookNode]:
    name = exercise.name
    cell.metadata["nbgrader"] = _nbgrader(name, grade=False, solution=True, locked=False)
    check = new_code_cell(f"check({name})")
    check.metadata["nbgrader"] = _nbgrader(
        f"check-{name}", grade=True, solution=False, locked=True, points=exercise.points
    )
    level = "\N{BLACK CIRCLE}" * exercise.difficulty + "\N{WHITE CIRCLE}" * (3 - exercise.difficulty)
    return [
        _banner(f"**Exercise `{name}`**", exercise, f"difficulty {level} · stuck? `hint({name})`"),
        cell,
        check,
    ]


def _question(cell: NotebookNode, lab: Lab, name: str) -> list[NotebookNode]:
    if name not in lab.questions:
        raise SourceError(f"{lab.name}: the source asks {name!r}, labdiff/exercises/{lab.name}.py does not.")
    question = lab.questions[name]
    cell.metadata["nbgrader"] = _nbgrader(name, grade=True, solution=True, locked=False, points=question.points)
    return [_banner("**In your own words**", question, "marked by a person"), cell]


def _banner(title: str, asked: Exercise | Written, rest: str) -> NotebookNode:
    points = f"{asked.points:g} point{'' if asked.points == 1 else 's'}"
    banner: NotebookNode = new_markdown_cell(f"{title} · {points} · about {asked.minutes} minutes · {rest}")
    return banner


def _nbgrader(
    grade_id: str, *, grade: bool, solution: bool, locked: bool, points: float | None = None
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "schema_version": 3,
        "grade_id": grade_id,
        "grade": grade,
        "solution": solution,
        "locked": locked,
        "task": False,
    }
    return record if points is None else record | {"points": points}


def _all_asked(asked: list[str], lab: Lab) -> None:
    twice = [name for name, n in Counter(asked).items() if n > 1]
    if twice:
        raise SourceError(f"{lab.name}: {', '.join(twice)} stands in the source more than once.")
    missing = [name for name in (*lab.exercises, *lab.questions) if name not in asked]
    if missing:
        raise SourceError(
            f"{lab.name}: no cell of the source answers {', '.join(missing)}; write one with {BEGIN} and {END}."
        )


def _set_ids(notebook: NotebookNode, lab: str) -> None:
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        said = "install" if installs(cell) else cell.source  # which version must not change the id
        key = hashlib.sha256(f"{lab}/{cell.cell_type}/{said}".encode()).hexdigest()[:12]
        seen[key] += 1
        cell["id"] = (grade_id or (key if seen[key] == 1 else f"{key}-{seen[key]}")).replace(".", "-")


def fill(notebook: NotebookNode, answers: dict[str, str]) -> NotebookNode:
    """A copy of a student's notebook with answers written into their cells: name -> source."""
    filled = copy.deepcopy(notebook)
    for cell in filled.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in answers:
            cell.source = answers[name]
    return filled


def code_hash(notebook: NotebookNode) -> str:
    """A hash of all code that has outputs, which says whether they were made from this source.

    The cell that installs labdiff has none, and names a version, so that each new one would ask for new outputs.
    """
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code" and not installs(cell)]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def reference(notebook: NotebookNode, lab: Lab) -> str:
    """The reference module: every cell that only imports, defines or names constants.

    Demonstrations, checks and figures stay out, so importing a reference runs nothing; so does what uses the shipped
    networks and their schedule, which themselves are made of references.
    """
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code" and not installs(cell)]
    kept = []
    left_out = {"models", "schedules"}
    for text in code:
        body = ast.parse(text).body
        if only_defines(text) and body and not uses(body) & left_out:
            kept.append(text)
        elif body:
            left_out |= {node.name for node in body if isinstance(node, DEFINITIONS)}
    written = without_marks("\n\n\n".join(kept))
    text = (
        f'"""Built by `labdiff build` from solutions/{lab.name}/{lab.name}.py; edit that, not this."""\n\n{written}\n'
    )
    return _ruff(_ruff(text, "check", "--fix", "--select", "F401,I", "--quiet"), "format", "--quiet")


def without_marks(text: str) -> str:
    """An answer without the marks around its solution."""
    return REGION.sub(r"\1", text)


def _ruff(text: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", "labdiff/reference/lab.py", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise SourceError(f"ruff could not read the reference: {done.stderr.strip()}")
    return done.stdout
