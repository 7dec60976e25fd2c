"""The students' notebooks in JupyterLab, in a real browser."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from chromium import NEEDED, SECONDS, chromium, page  # noqa: F401, the fixtures that tests here ask for
from nbformat import NotebookNode
from serving import code_cell, run_cell, serving

from labdiff import exercises
from labdiff.checking.notebook import COLOURS
from labdiff.checking.verdict import NOT_DONE, RIGHT

with contextlib.suppress(ImportError):
    from playwright.sync_api import Locator, Page, TimeoutError, expect

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    *NEEDED,
    pytest.mark.skipif(not importlib.util.find_spec("jupyterlab"), reason="JupyterLab is not installed"),
]

# Answers as a student types them: not the reference's text, and over several lines.
ANSWERS = {
    "linear_betas": """\
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    steps = torch.arange(T) / max(T - 1, 1)
    return beta_start + (beta_end - beta_start) * steps
""",
}

# MathJax leaves a formula that it cannot read as it is, and writes a command that it does not know in red.
LEFT_AS_TEXT = r"""() => {
    const left = []
    for (const cell of document.querySelectorAll('.jp-RenderedMarkdown')) {
        for (const formula of cell.querySelectorAll('mjx-merror, mjx-mtext[style*="red"]')) left.push(formula.outerHTML)
        const copy = cell.cloneNode(true)
        copy.querySelectorAll('code, mjx-container').forEach(part => part.remove())
        if (/\$|\\[a-z]/i.test(copy.textContent)) left.push(copy.textContent)
    }
    return left
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab on a copy of the students' notebooks."""
    place = tmp_path_factory.mktemp("jupyterlab")
    for lab in exercises.LABS:
        (place / "root" / lab).mkdir(parents=True)
        shutil.copy(student_file(lab), place / "root" / lab)
    with serving(place) as address:
        yield address


def student_file(lab: str) -> Path:
    return ROOT / "notebooks" / lab / f"{lab}.ipynb"


def student_notebook(lab: str) -> NotebookNode:
    return nbformat.read(student_file(lab), as_version=4)


def title_of(notebook: NotebookNode) -> str:
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def open_notebook(page: Page, server: str, lab: str) -> None:
    """Open a lab's notebook in a workspace of its own, and wait until its kernel is ready."""
    page.goto(f"{server}/lab/workspaces/{lab}/tree/{lab}/{lab}.ipynb?reset")
    cells = student_notebook(lab).cells
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(len(cells))
    expect(page.get_by_text(re.compile(r"\| Idle$"))).to_be_visible()


def write_into(page: Page, cell: Locator, text: str) -> None:
    """Replace a cell's source as a person does: click into it, select all, type."""
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)


def formulas_left_as_text(page: Page, seconds: float = 10) -> list[str]:
    """The paragraphs in which a dollar sign or a TeX command is still to be read, once MathJax had its time."""
    with contextlib.suppress(TimeoutError):
        page.wait_for_function(f"({LEFT_AS_TEXT})().length === 0", timeout=seconds * SECONDS)
    return page.evaluate(LEFT_AS_TEXT)


def verdict_in(cell: Locator) -> Locator:
    return cell.locator("div.labdiff-verdict")


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


@pytest.mark.parametrize("lab", exercises.LABS)
def test_a_students_notebook_opens_with_its_title_its_formulas_and_its_checks(lab, server, page):
    open_notebook(page, server, lab)
    title = page.locator(".jp-RenderedMarkdown h1", has_text=title_of(student_notebook(lab)))
    expect(title).to_be_visible()
    for exercise in exercises.lab(lab).exercises:
        expect(code_cell(page, f"check({exercise})")).to_have_count(1)
    expect(page.locator(".jp-Dialog")).to_have_count(0)
    assert formulas_left_as_text(page) == []


@pytest.mark.parametrize("exercise", ANSWERS)
def test_a_verdict_turns_green_when_the_exercise_is_filled_in(exercise, server, page):
    open_notebook(page, server, "lab1_forward")
    answer, check = code_cell(page, f"def {exercise}("), code_cell(page, f"check({exercise})")
    run_cell(page, code_cell(page, "from labdiff import"))
    run_cell(page, answer)
    run_cell(page, check)
    expect(verdict_in(check)).to_have_attribute("data-status", NOT_DONE)

    write_into(page, answer, ANSWERS[exercise])
    run_cell(page, answer)
    run_cell(page, check)
    expect(verdict_in(check)).to_have_attribute("data-status", RIGHT)
    expect(verdict_in(check)).to_have_css("border-left-color", rgb(COLOURS[RIGHT]))
    expect(verdict_in(check)).to_be_visible()
    expect(page.locator(".jp-Dialog")).to_have_count(0)
