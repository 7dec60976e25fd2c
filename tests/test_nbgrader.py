"""Stock nbgrader on all labs: the reference earns everything, the untouched release nothing."""

from __future__ import annotations

import shutil

import nbformat
import pytest
from conftest import ROOT

from labdiff import exercises
from labdiff.authoring.source import fill, without_marks
from labdiff.grading.course import Course
from labdiff.grading.demo import EXAMPLE, table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    root = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "solutions", root / "solutions", ignore=shutil.ignore_patterns("__pycache__"))
    made = Course(root)
    return made


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("LABDIFF_DATA", "offline")


def submission(course: Course, lab: str, right: bool):
    """A student's notebook of a lab: with the reference's answers, or as it was released."""
    released = course.release(lab)
    if not right:
        return released
    correction = nbformat.read(ROOT / "solutions" / lab / f"{lab}.ipynb", as_version=4)
    marked = [cell for cell in correction.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    answers = {cell.metadata.nbgrader.grade_id: without_marks(cell.source) for cell in marked}
    file = course.root / f"{lab}_right.ipynb"
    nbformat.write(fill(nbformat.read(released, as_version=4), answers), file)
    return file


@pytest.mark.parametrize("lab", exercises.LABS)
@pytest.mark.parametrize("right", [True, False], ids=["reference", "untouched"])
def test_the_reference_earns_full_marks_and_the_untouched_release_nothing(course, lab, right):
    student = "reference" if right else "untouched"
    course.submit(lab, student, submission(course, lab, right))
    rows = course.autograde(lab, student)
    automatic = [row for row in rows if row.name in exercises.lab(lab).exercises]
    assert len(automatic) == len(exercises.lab(lab).exercises)
    for row in automatic:
        assert row.status == ("right" if right else "not done"), row
        assert row.score == (row.max_score if right else 0), row
    manual = [row for row in rows if row.name in exercises.lab(lab).questions]
    assert [row.status == "waits for a person" for row in manual] == [right] * len(manual)
    page = course.feedback(lab, student)
    assert "labdiff-verdict" in page.read_text(encoding="utf-8")


def test_the_example_submission_gets_partial_marks_and_hints(course):
    course.release("lab1_forward")
    course.submit("lab1_forward", "ada", EXAMPLE)
    rows = {row.name: row for row in course.autograde("lab1_forward", "ada")}
    assert rows["linear_betas"].score == rows["linear_betas"].max_score
    assert 0 < rows["extract"].score < rows["extract"].max_score
    assert rows["q_sample"].score == 0
    assert "a standard deviation, not a variance" in rows["q_sample"].hint
    assert rows["cosine_betas"].status == "not done"
    assert "q_sample" in table(list(rows.values()))


def test_an_unfilled_notebook_runs_top_to_bottom_without_an_error(course):
    for lab in exercises.LABS:
        graded = course.root / "autograded" / "untouched" / lab / f"{lab}.ipynb"
        for cell in nbformat.read(graded, as_version=4).cells:
            assert not [output for output in cell.get("outputs", []) if output.output_type == "error"], cell.source
