"""An instructor's evening: the commands in the order in which somebody types them."""

from __future__ import annotations

import zipfile

import pytest
from support import ROOT, labdiff


@pytest.mark.sandbox
def test_an_instructors_evening_from_the_release_to_what_moodle_takes_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    handed_in = tmp_path / "handed_in.zip"
    with zipfile.ZipFile(handed_in, "w") as archive:
        for number, student in enumerate(("ada", "chen", "lena"), 1234):
            name = f"{student.title()} Lovelace_{number}_assignsubmission_file_/lab1_forward.ipynb"
            archive.write(ROOT / "tests" / "class" / f"{student}.ipynb", name)
    worksheet = tmp_path / "worksheet.csv"
    worksheet.write_text(
        "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,"
        '"Last modified (submission)","Last modified (grade)",Feedback comments\n'
        "Participant 1234,Ada Lovelace,ada@example.org,Submitted for grading,,100.00,Yes,-,-,\n"
        "Participant 1235,Chen Lovelace,chen@example.org,Submitted for grading,,100.00,Yes,-,-,\n"
    )
    for arguments, said in (
        (["release", "lab1_forward"], "Wrote lab1_forward.zip."),
        (["grade", "lab1_forward", "--submitted", str(handed_in), "--workers", "1"], "3 submissions of lab1_forward"),
        (["feedback", "lab1_forward", "--zip", "feedback.zip"], "feedback.zip"),
        (["export", "lab1_forward", "--format", "moodle", "--roster", str(worksheet), "--out", "marks.csv"], "Lena"),
        (["similar", "lab1_forward", "--submitted", str(handed_in)], "0 pairs of 2 submissions"),
    ):
        done = labdiff(*arguments)
        assert done.exit_code == 0, done.stdout + done.stderr
        assert said in done.stdout, done.stdout
    assert "Chen Lovelace_1235,7.6,20" in (tmp_path / "reports" / "lab1_forward" / "summary.csv").read_text()
    marks = (tmp_path / "marks.csv").read_text()
    assert "Participant 1234,Ada Lovelace,ada@example.org,Submitted for grading,90.9" in marks
    with zipfile.ZipFile(tmp_path / "feedback.zip") as archive:
        assert "Ada Lovelace_1234_assignsubmission_file_/lab1_forward.html" in archive.namelist()
