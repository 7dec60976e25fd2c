"""Submissions that tests hand in, and what came of them: a lab's release with answers filled in."""

from __future__ import annotations

import functools
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from support import ROOT

from labdiff.authoring.proofs import as_answer
from labdiff.authoring.source import fill, without_marks
from labdiff.grading.classroom.course import Course
from labdiff.grading.report import Report
from labdiff.grading.submission.release import released

SEED = 20_262


@functools.cache
def right_answers(lab: str) -> dict[str, str]:
    """The reference's answers of a lab, as a student would have written them: name -> source."""
    correction = nbformat.read(ROOT / "solutions" / lab / f"{lab}.ipynb", as_version=4)
    marked = [cell for cell in correction.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    return {cell.metadata.nbgrader.grade_id: without_marks(cell.source) for cell in marked}


def submission(lab: str, **answers: str) -> NotebookNode:
    """A lab with all answers right but those given here."""
    return fill(released(lab).notebook, right_answers(lab) | answers)


def mistaken(lab: str, **titles: str) -> NotebookNode:
    """A lab with all answers right but for the named mistakes."""
    file = ROOT / "solutions" / lab / "mistakes.py"
    return submission(lab, **{name: as_answer(file, title, name) for name, title in titles.items()})


def stock_course(root: Path) -> Course:
    """A course whose submissions nbgrader executes itself, with the rights of whoever grades them."""
    course = Course(root)
    del course.config["Autograde"]
    course.config.Execute.timeout = 600  # seconds per cell; nbgrader gives 30, and lab 4 draws digits by the hundred
    return course


def marks(report: Report) -> dict[str, float]:
    """What each exercise earned."""
    return {result.name: result.score for result in report.exercises}


def lost(report: Report) -> set[str]:
    """The exercises that did not earn all their marks."""
    assert not report.problem
    return {result.name for result in report.exercises if result.score < result.max_score}
