"""nbgrader's formgrader on a class that labdiff graded, in a real browser."""

from __future__ import annotations

import pytest
from chromium import NEEDED, chromium, page  # noqa: F401, the fixtures that tests here ask for
from formgrader import formgrader
from support import ROOT

from labdiff.grading.classroom.course import Course
from labdiff.grading.classroom.run import grade_class

pytestmark = [*NEEDED, pytest.mark.sandbox]
LAB = "lab1_forward"


def test_it_shows_the_marks_of_the_class(page, tmp_path):
    course = Course(tmp_path)
    grade_class(course, LAB, ROOT / "tests" / "class")
    with course.api.gradebook as gradebook:
        marks = {each.student.id: each.score for each in gradebook.assignment_submissions(LAB)}
    with formgrader(tmp_path) as address:
        page.goto(f"{address}/manage_submissions/{LAB}")
        page.wait_for_selector("tbody tr >> text=kofi")
        shown = [" ".join(row.split()) for row in page.locator("tbody tr").all_inner_texts()]
        page.goto(f"{address}/gradebook/{LAB}/{LAB}")
        page.wait_for_selector("tbody tr >> text=Submission #")
        to_mark = " ".join(page.locator("tbody").inner_text().split())
    assert len(shown) == len(marks) == 12
    for student, mark in marks.items():
        (row,) = [row for row in shown if student in row]
        assert f"{mark:g} / 22" in row, row
    assert to_mark.count("Submission #") == 12  # anonymous, as nbgrader shows them to who marks
