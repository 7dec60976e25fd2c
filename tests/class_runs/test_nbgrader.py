"""nbgrader on the labs: with the grader that nbgrader_config.py switches on, and as it comes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import nbformat
import pytest
from formgrader import formgrader
from submissions import SEED, stock_course, submission
from support import ROOT

from labdiff import exercises
from labdiff.grading.classroom.course import Course, on_path
from labdiff.grading.classroom.demo import summary, table

CLASS = ROOT / "tests" / "class"


@pytest.fixture(scope="module", params=["labdiff", pytest.param("stock", marks=pytest.mark.stock)])
def course(tmp_path_factory, request):
    """A course whose submissions labdiff grades, and one of stock nbgrader."""
    root = tmp_path_factory.mktemp(request.param)
    shutil.copytree(ROOT / "solutions", root / "solutions", ignore=shutil.ignore_patterns("__pycache__"))
    return Course(root, seed=SEED) if request.param == "labdiff" else stock_course(root)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("LABDIFF_DATA", "offline")


def handed_in(course: Course, lab: str, right: bool) -> Path:
    released = course.release(lab)
    if not right:
        return released
    file = course.root / f"{lab}_right.ipynb"
    nbformat.write(submission(lab), file)
    return file


@pytest.mark.sandbox
@pytest.mark.parametrize("lab", exercises.LABS)
@pytest.mark.parametrize("right", [True, False], ids=["reference", "untouched"])
def test_the_reference_earns_full_marks_and_the_untouched_release_nothing(course, lab, right, request):
    if "stock" in request.node.callspec.params.values() and lab in exercises.LABS[4:]:
        pytest.skip("stock nbgrader runs every demonstration, in these labs for longer than all other tests take")
    student = "reference" if right else "untouched"
    course.submit(lab, student, handed_in(course, lab, right))
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
    for cell in nbformat.read(course.root / "autograded" / student / lab / f"{lab}.ipynb", as_version=4).cells:
        # an unfilled notebook runs top to bottom
        assert not [output for output in cell.get("outputs", []) if output.output_type == "error"], cell.source


@pytest.mark.sandbox
def test_partial_marks_and_hints_reach_the_gradebook(course):
    course.release("lab1_forward")
    course.submit("lab1_forward", "chen", CLASS / "chen.ipynb")
    graded = course.autograde("lab1_forward", "chen")
    rows = {row.name: row for row in graded}
    assert rows["linear_betas"].score == rows["linear_betas"].max_score
    assert 0 < rows["extract"].score < rows["extract"].max_score
    assert rows["q_sample"].score == 0
    assert "a standard deviation, not a variance" in rows["q_sample"].hint
    assert rows["cosine_betas"].status == "not done"
    assert "q_sample" in table(graded)
    assert "7.6 / 20" in summary("chen", graded)


@pytest.mark.sandbox
def test_a_renamed_file_is_found_and_an_unreadable_one_stops_nobody(tmp_path):
    shutil.copytree(ROOT / "solutions" / "lab1_forward", tmp_path / "solutions" / "lab1_forward")
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    course = Course(tmp_path, seed=SEED)
    course.release("lab1_forward")
    for student, name in (
        ("ada", "Lab 1 (final).ipynb"),
        ("lena", "lab1_forward.ipynb"),
        ("chen", "lab1_forward.ipynb"),
    ):
        place = tmp_path / "submitted" / student / "lab1_forward"
        place.mkdir(parents=True)
        shutil.copy(CLASS / f"{student}.ipynb", place / name)
    # as an instructor types it, for the whole class
    command = [sys.executable, "-m", "nbgrader", "autograde", "lab1_forward"]
    with on_path():
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot be graded: This is no notebook" in done.stderr
    earned = {
        student: sum(r.score or 0 for r in course.results("lab1_forward", student))
        for student in ("ada", "lena", "chen")
    }
    assert earned == {"ada": 20, "lena": 0, "chen": 7.6}
    seeds = set()
    for student in ("ada", "chen"):
        graded = nbformat.read(tmp_path / "autograded" / student / "lab1_forward" / "lab1_forward.ipynb", 4)
        seeds |= {d["seed"] for c in graded.cells for o in c.get("outputs", []) for d in o.data.values() if "seed" in d}
    assert len(seeds) == 1  # the whole class is asked the same


@pytest.mark.sandbox
def test_formgrader_shows_marks_hints_and_the_question_that_waits(tmp_path):
    shutil.copytree(ROOT / "solutions" / "lab1_forward", tmp_path / "solutions" / "lab1_forward")
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    course = Course(tmp_path, seed=SEED)
    course.release("lab1_forward")
    course.submit("lab1_forward", "chen", CLASS / "chen.ipynb")
    course.autograde("lab1_forward", "chen")
    with formgrader(tmp_path) as address:
        found = json.loads(page(f"{address}/api/submitted_notebooks/lab1_forward/lab1_forward"))
        assert [(row["student"], row["needs_manual_grade"]) for row in found] == [("chen", True)]
        assert found[0]["score"] == 7.6
        shown = page(f"{address}/submissions/{found[0]['id']}/")
    assert "a standard deviation, not a variance" in shown
    assert shown.count("labdiff-verdict") == len(exercises.lab("lab1_forward").exercises)


def page(address: str) -> str:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read().decode()
