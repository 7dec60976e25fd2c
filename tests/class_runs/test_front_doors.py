"""One function grades, and its three front doors, the command line, nbgrader and pytest, say what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from submissions import SEED, lost, marks
from support import ROOT, labdiff

from labdiff import exercises
from labdiff.grading.classroom.course import Course
from labdiff.grading.grade import grade

CLASS = ROOT / "tests" / "class"


@pytest.mark.sandbox
@pytest.mark.parametrize("student", ["chen", "kofi", "ivan", "lena"])
def test_all_front_doors_give_the_same_marks_and_hints(student, tmp_path):
    file = CLASS / f"{student}.ipynb"
    lab = "lab1_forward"
    report = grade(file, lab, seed=SEED)

    said = labdiff("grade", file, "--lab", lab, "--json", "--seed", SEED)
    assert said.exit_code == (1 if report.problem else 0)
    told = json.loads(said.stdout)
    keys = ("name", "score", "max_score", "own_score", "status", "hint")
    assert [[row[key] for key in keys] for row in told["exercises"]] == [
        [getattr(result, key) for key in keys] for result in report.exercises
    ]
    assert (told["lab"], told["score"], told["max_score"]) == (lab, report.score, report.max_score)
    assert (told["seed"], told["isolation"]) == (SEED, "bubblewrap")

    shutil.copytree(ROOT / "solutions" / lab, tmp_path / "solutions" / lab)
    course = Course(tmp_path, seed=SEED)
    course.release(lab)
    course.submit(lab, student, file)
    rows = {row.name: row for row in course.autograde(lab, student) if row.name in exercises.lab(lab).exercises}
    assert {name: row.score for name, row in rows.items()} == marks(report)
    assert {name: row.status for name, row in rows.items()} == {r.name: r.status for r in report.exercises}
    page = course.feedback(lab, student).read_text(encoding="utf-8")
    assert page.count("labdiff-verdict") == len(rows)

    if not report.problem:  # pytest leaves what is no notebook alone
        junit = tmp_path / "junit.xml"
        shutil.copy(file, tmp_path)  # out of the reach of these tests' own settings
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file.name, f"--junitxml={junit}"]
        done = subprocess.run([*command, f"--labdiff-seed={SEED}"], capture_output=True, text=True, cwd=tmp_path)
        cases = {case.get("name"): case for case in ElementTree.parse(junit).iter("testcase")}
        given = {p.get("name"): p.get("value") for c in cases.values() for p in c.iter("property") if p.get("name")}
        assert given["seed"] == str(SEED)
        assert {name for name, case in cases.items() if case.find("failure") is not None} == lost(report)
        for result in report.exercises:
            assert result.hint in done.stdout or result.score == result.max_score
