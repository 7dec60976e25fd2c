"""The cheats as submissions: those of tests/cheats, and the files that attack whoever opens them."""

from __future__ import annotations

import copy
import inspect
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from support import ROOT, reference

from labdiff.grading.submission.release import released

LAB = "lab1_forward"
SEED = 1402857369
PORT = 48131  # of a server on loopback which knows the right answers; the cheat `network` asks it
MARK = "labdiff-cheat"  # in the name of whatever a cheat makes, or in its text
WRONG = {
    "extract": "def extract(values, t, x):\n    return values[t]",
    "q_sample": "def q_sample(x_0, abar_t, noise):\n    return x_0 + noise",
    "posterior_mean": "def posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev):\n    return x_t",
}
RIGHT = {name: inspect.getsource(getattr(reference(LAB), name)).rstrip() for name in WRONG}
MARKED = {c.metadata.nbgrader.grade_id: c for c in released(LAB).notebook.cells if "nbgrader" in c.metadata}
MOST = sum(MARKED[f"check-{name}"].metadata.nbgrader.points for name in WRONG)


@dataclass(frozen=True)
class Cheat:
    """A submission that attacks.

    tries: what. honest: what its answers are worth. data: of the file. kind: "file", "link" to the
    solutions, or "pipe". patience: seconds after which stock nbgrader is given up.
    """

    name: str
    tries: str
    honest: float
    data: bytes = b""
    kind: str = "file"
    patience: float = 60


def load(file: Path) -> Cheat:
    """A cheat from its file.

    The first cell says what it tries, its metadata what the answers are worth. A cell titled as one
    of the release carries the release's metadata; answers that the file does not give are wrong ones.
    """
    about, *cells = jupytext.read(file, fmt="py:percent").cells
    tries = " ".join(about.source.split()).split(". ")[0].removesuffix(".")
    return Cheat(file.stem, tries, float(about.metadata.get("honest", 0)), text(completed(cells)))


def completed(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Titled cells with the release's metadata, and with the three exercises' other cells among them."""
    titles = [cell.metadata.pop("title", "") for cell in cells]
    for cell, title in zip(cells, titles, strict=True):
        if title in MARKED:
            given = copy.deepcopy(MARKED[title])
            cell.metadata = {**cell.metadata, **given.metadata} | {
                "nbgrader": {**given.metadata.nbgrader, **cell.metadata.get("nbgrader", {})}
            }
            cell.source = cell.source or given.source
    for i, name in enumerate(WRONG):
        if name not in titles:
            after = {f"check-{name}", *list(WRONG)[i + 1 :]}
            at = next((at for at, title in enumerate(titles) if title in after), len(titles))
            titles.insert(at, name)
            cells.insert(at, with_answer(name, WRONG[name]))
        if f"check-{name}" not in titles:
            at = titles.index(name) + 1
            titles.insert(at, f"check-{name}")
            cells.insert(at, copy.deepcopy(MARKED[f"check-{name}"]))
    return [new_code_cell("import torch"), *cells]


def with_answer(name: str, answer: str) -> NotebookNode:
    """The release's cell of an exercise with an answer in it."""
    cell = copy.deepcopy(MARKED[name])
    cell.source = answer
    return cell


def text(cells: list[NotebookNode]) -> bytes:
    """Cells as the text of a notebook with the release's metadata."""
    return nbformat.writes(new_notebook(cells=cells, metadata=copy.deepcopy(released(LAB).notebook.metadata))).encode()


def answered(answers: dict[str, str], *more: NotebookNode) -> bytes:
    """A notebook with these answers, and with more cells above them."""
    cells = [new_code_cell(answer, metadata={"title": name}) for name, answer in answers.items()]
    return text(completed([*more, *cells]))


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{LAB}.ipynb", answered(WRONG))
        archive.writestr("bomb", bytes(8 << 20))
    return file.getvalue()


def crowded(number: int) -> bytes:
    notebook = json.loads(answered(WRONG))
    notebook["cells"] += [{"cell_type": "markdown", "metadata": {}, "source": "", "id": f"m{i}"} for i in range(number)]
    return json.dumps(notebook).encode()


HARD_TO_READ = {
    "parentheses, 90,000 deep": "(" * 90_000 + ")" * 90_000,
    "100,000 minus signs": "-" * 100_000 + "1",
    "as deep as the parser allows": "x = " + "-" * 1_500 + "1",
    "a long chain": "x = " + "a if b else " * 1_500 + "a",
    "a long sum": "x = " + "+".join(["1"] * 50_000),
    "100,000 digits": "x = " + "9" * 100_000,
    "no decimal number": "x = 0x" + "f" * 5_000,
    "60,000 statements": "a\n" * 60_000,
    "501 magics": "%a\n" * 501,
    "no text": "x = '\ud800\x00\x1a\x0c'",
}
# those that stock nbgrader's kernel reads in no time
QUICK = {"100,000 minus signs", "as deep as the parser allows", "a long chain", "100,000 digits", "no decimal number"}


def hostile_files() -> list[Cheat]:
    """The attacks that are aimed at whoever opens the file."""
    hard = [new_code_cell(source) for name, source in HARD_TO_READ.items() if name in QUICK]
    deep = b'{"cells": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    text_as_code = new_markdown_cell("a\n" * 1_000_000)
    return [
        Cheat("hard_to_read", "Writes cells on which Python's own parser fails", 0, answered(WRONG, *hard)),
        Cheat("long_text", "Writes 2 MB of text that could be code", 0, answered(WRONG, text_as_code)),
        Cheat("deep_json", "Nests lists 100,000 deep in the file", 0, deep),
        Cheat("many_cells", "Adds 100,000 empty cells", 0, crowded(100_000), patience=8),
        Cheat("zip_file", "Hands in a zip file under a notebook's name", 0, zipped()),
        Cheat("symbolic_link", "Hands in a link to the solutions", 0, kind="link"),
        Cheat("named_pipe", "Hands in a pipe that nobody writes to", 0, kind="pipe", patience=8),
    ]


CHEATS = [*map(load, sorted((ROOT / "tests" / "cheats").glob("*.py"))), *hostile_files()]
