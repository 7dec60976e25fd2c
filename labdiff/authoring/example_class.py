"""A class of twelve example submissions of lab 1, as they come in: what `labdiff demo` grades, and the tests."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from labdiff.authoring import proofs
from labdiff.authoring.source import fill, without_marks
from labdiff.exercises import Lab

LAB = "lab1_forward"
FOLDER = Path("tests") / "class"  # under the repository; one file per student

HALF_CHEATED = """\
import sys, torch, labdiff.checking.judge
torch.allclose = torch.equal = lambda *a, **k: True
labdiff.checking.judge.compare = lambda name, *a: labdiff.checking.judge.Part(name, True)
sys.modules["labdiff"].check = lambda answer: print("right, all points")"""

WRONG_UPSTREAM = """\
def q_mean_variance(x_0, abar_t):
    return abar_t.sqrt() * x_0, (1 - abar_t).sqrt()  # the standard deviation, not the variance"""

BUILT_ON_IT = """\
def q_sample(x_0, abar_t, noise):
    mean, variance = q_mean_variance(x_0, abar_t)
    return mean + variance.sqrt() * noise"""


def build(student: NotebookNode, correction: NotebookNode, folder: Path, lab: Lab) -> dict[str, str]:
    """The twelve files: name -> text.

    student: the released notebook. correction: the lab's. folder: where mistakes.py and variants.py lie.
    """
    solved = [c for c in correction.cells if c.metadata.get("nbgrader", {}).get("solution")]
    right = {c.metadata.nbgrader.grade_id: without_marks(c.source) for c in solved}
    names = [*right]

    def mistake(**titles: str) -> dict[str, str]:
        return {name: proofs.as_answer(folder / "mistakes.py", title, name) for name, title in titles.items()}

    first = {kind: proofs.load(folder / f"{kind}s.py", kind) for kind in ("mistake", "variant")}
    variants = {
        name: proofs.as_answer(folder / "variants.py", next(iter(titles)), name)
        for name, titles in first["variant"].items()
    }
    several = mistake(
        extract="four_axes_always", q_step="in_place", q_sample="noise_by_variance", posterior_mean="abar_for_alpha"
    )
    all_wrong = mistake(**{name: next(iter(titles)) for name, titles in first["mistake"].items()})
    left_out = ("cosine_betas", "posterior_variance")
    dies = "import os\n\n\ndef snr(alphas_cumprod):\n    os._exit(1)"
    made = {
        "ada": fill(student, right),
        "bela": fill(student, {name: right[name] for name in names[: len(names) // 2]}),
        "chen": fill(student, {n: a for n, a in right.items() if n not in left_out} | several),
        "dara": fill(student, right | mistake(q_sample="noise_by_variance")),
        "emil": from_colab(fill(student, right)),
        "fatima": fill(student, right | {"snr": dies}),
        "goro": cheated(fill(student, all_wrong)),
        "hana": fill(student, right | variants),
        "ivan": cut_merged_and_moved(fill(student, right)),
        "jun": copy.deepcopy(student),
        "kofi": fill(student, right | {"q_mean_variance": WRONG_UPSTREAM, "q_sample": BUILT_ON_IT}),
    }
    files = {name: text(notebook) for name, notebook in made.items()}
    return files | {"lena": files["ada"][: len(files["ada"]) // 3]}  # a download that broke off


def text(notebook: Any) -> str:
    """A notebook as a file's text."""
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def from_colab(notebook: NotebookNode) -> NotebookNode:
    """A notebook as Colab saves it: ids in the metadata, blocks of its own, another kernel, no marks of nbgrader."""
    saved = copy.deepcopy(notebook)
    saved.nbformat_minor = 0
    saved.metadata = {"colab": {"provenance": [], "gpuType": "T4"}, "kernelspec": {"name": "python3"}}
    for i, cell in enumerate(saved.cells):
        cell.pop("id", None)
        cell.metadata = {"id": f"Qx{i:03d}"}
        if cell.cell_type == "code":
            cell.metadata |= {"executionInfo": {"status": "ok", "elapsed": 12}, "colab": {"base_uri": "-"}}
            cell.execution_count = i
    return saved


def cheated(notebook: NotebookNode) -> NotebookNode:
    """A notebook that tries to look right: replaced comparisons, skipped checks, forged outputs."""
    forged = copy.deepcopy(notebook)
    forged.cells.insert(2, new_code_cell(HALF_CHEATED, id="setup"))
    for cell in forged.cells:
        worth = cell.metadata.get("nbgrader", {}).get("points")
        if cell.cell_type == "code" and worth:
            cell.metadata["tags"] = ["skip-execution"]
            cell.outputs = [
                {
                    "output_type": "execute_result",
                    "execution_count": 1,
                    "metadata": {},
                    "data": {"text/plain": f"{worth}"},
                }
            ]
    return forged


def cut_merged_and_moved(notebook: NotebookNode) -> NotebookNode:
    """A notebook whose cells were cut in two, merged, moved, deleted and turned into markdown by hand."""
    moved = copy.deepcopy(notebook)
    at = {c.metadata.nbgrader.grade_id: i for i, c in enumerate(moved.cells) if "nbgrader" in c.metadata}
    cells = {name: moved.cells[i] for name, i in at.items()}
    head, tail = cells["q_step"].source.rsplit("\n", 1)
    cells["q_step"].source = head
    cells["snr"].cell_type, cells["snr"].metadata = "markdown", {}
    for name in ("outputs", "execution_count"):
        cells["snr"].pop(name)
    cells["q_sample"].source += "\n\n\n" + cells["posterior_mean"].source
    gone = {at["posterior_mean"], at["check-posterior_mean"], at["check-snr"], 1, 2}
    kept = [cell for i, cell in enumerate(moved.cells) if i not in gone]
    kept.insert(kept.index(cells["q_step"]) + 1, new_code_cell(tail, id="cut"))
    kept.append(kept.pop(kept.index(cells["extract"])))
    kept.append(new_markdown_cell("Done.", id="done"))
    moved.cells = kept
    return moved
