"""Marks in the files that Moodle and Canvas import, JUnit XML, and feedback for Moodle."""

from __future__ import annotations

import csv
import functools
import io
import json
import logging
import re
import tempfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbgrader.api import Gradebook

from labdiff.checking.verdict import MIME, NOT_DONE, RIGHT, WRONG
from labdiff.errors import ExportError
from labdiff.grading.classroom.collect import collect
from labdiff.grading.classroom.course import on_path
from labdiff.grading.classroom.export import Format, export
from labdiff.grading.classroom.export.junit import junit
from labdiff.grading.classroom.export.marks import marks
from labdiff.grading.classroom.export.moodle import moodle_feedback_zip
from labdiff.grading.classroom.export.plugins import CanvasExport, JUnitExport, MoodleExport
from labdiff.grading.report import CARRIED, Result

pytestmark = pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning")  # nbgrader's own
LAB = "lab1_forward"
ADA, ZOE, EVE, KOFI, LI = "Ada Lovelace_101", "Zoë de la Cruz_102", "Eve_13", "kofi", "Li_104"
# (first name, last name, e-mail, marks of the code, marks of the question, late penalty); None: not handed in
CLASS = {
    ADA: ("", "", "", 8, 2, 0),
    ZOE: ("", "", "", 7.5, None, 1.25),  # the question waits
    EVE: ("", "", "", 1, 0, 3),
    KOFI: ("Kofi", "Mensah", "Kofi@example.org", 4, 1, 0),
    LI: None,
}
MARKS = {ADA: 10, ZOE: 6.25, EVE: 0, KOFI: 5, LI: None}


@functools.cache
def empty() -> bytes:
    """A gradebook with a lab worth 8 + 2 and nobody in it; nbgrader takes seconds to make one."""
    with tempfile.TemporaryDirectory() as folder:
        with on_path(), Gradebook(f"sqlite:///{folder}/gradebook.db") as gradebook:
            gradebook.add_assignment(LAB)
            gradebook.add_notebook(LAB, LAB)
            gradebook.add_grade_cell("check-extract", LAB, LAB, max_score=8, cell_type="code")
            gradebook.add_grade_cell("question-snr", LAB, LAB, max_score=2, cell_type="markdown")
        return Path(folder, "gradebook.db").read_bytes()


def course(root: Path, students=CLASS) -> Path:
    """A course folder whose gradebook holds these marks."""
    root.mkdir(exist_ok=True)
    (root / "gradebook.db").write_bytes(empty())
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}") as gradebook:
        for student, about in students.items():
            first, last, email, code, words, late = about or ("", "", "", None, None, 0)
            gradebook.add_student(student, first_name=first, last_name=last, email=email)
            if about is None:
                continue
            gradebook.add_submission(LAB, student)
            grade = gradebook.find_grade("check-extract", LAB, LAB, student)
            grade.auto_score, grade.needs_manual_grade = code, False
            grade = gradebook.find_grade("question-snr", LAB, LAB, student)
            grade.manual_score, grade.needs_manual_grade = words, words is None
            gradebook.find_submission_notebook(LAB, LAB, student).late_submission_penalty = late
        gradebook.db.commit()
    return root


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Path:
    return course(tmp_path_factory.mktemp("course"))


HEADER = (
    'Identifier,"Full name","Email address",Status,Grade,"Maximum Grade","Grade can be changed",'
    '"Last modified (submission)","Last modified (grade)","Feedback comments"'
)


def worksheet(root: Path, rows: list[str], header: str = HEADER) -> Path:
    """As Moodle writes it: only what has spaces or commas is quoted."""
    file = root / "Grades-DL-Lab 1-4711.csv"
    file.write_bytes("\n".join([header, *rows, ""]).encode())
    return file


def table(file: Path, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline=""), delimiter=delimiter))


SUBMITTED = '"Submitted for grading - "'
ROWS = [
    f'"Participant 101","Ada Lovelace",ada@example.org,{SUBMITTED},,100.00,Yes,"Sunday, 1 November 2026, 9:00 AM",-,',
    f'"Participant 102","Zoë de la Cruz",zoe@example.org,{SUBMITTED},55.00,100.00,Yes,-,-,"Line, one\nline ""two"""',
    f'"Participant 13",Bob,bob@example.org,{SUBMITTED},,100.00,Yes,-,-,=1+1',
    f'"Participant 105","K. Mensah",kofi@example.org,{SUBMITTED},,100.00,Yes,-,-,',
    '"Participant 104",Li,li@example.org,"No submission - ",,100.00,Yes,-,-,',
]


def test_moodles_worksheet_gets_grades_scaled_to_its_maximum_and_nothing_else_changes(graded, tmp_path):
    roster, to = worksheet(tmp_path, ROWS), tmp_path / "marks.csv"
    done = export(graded, LAB, "moodle", to, roster)
    before, after = table(roster), table(to)
    assert [row[4] for row in after[1:]] == ["100", "62.5", "", "50", ""]
    for old, new in zip(before, after, strict=True):
        assert old[:4] + old[5:] == new[:4] + new[5:]
    assert done.filled == 3
    # participant 13 is Bob in Moodle, and no Eve: a name is not enough to take his mark, nor is a number
    assert done.not_in_roster == [EVE]
    assert done.without_marks == ["Bob", "Li"]
    assert done.waiting == {ZOE: 1}
    said = done.as_text()
    assert "Eve_13" in said and "Bob, Li" in said and "wait for a person" in said


def test_a_locked_grade_a_scale_and_a_grade_above_the_maximum_are_said(tmp_path):
    above = course(tmp_path / "above", {ADA: ("", "", "", 9.5, 2, 0), KOFI: CLASS[KOFI]})
    rows = [ROWS[0], ROWS[3].replace("Yes", "No").replace(",,100", ",31.00,100")]
    done = export(above, LAB, "moodle", tmp_path / "marks.csv", worksheet(tmp_path, rows))
    assert [row[4] for row in table(tmp_path / "marks.csv")[1:]] == ["100", "31.00"]
    assert [remark.partition(";")[0] for remark in done.remarks] == [
        "Ada Lovelace_101 earned 115 of 100",
        "kofi's grade cannot be changed in Moodle and is left as it was.",
    ]
    scale = worksheet(tmp_path, [], HEADER.replace('"Maximum Grade"', "Scale"))
    with pytest.raises(ExportError, match="no column Maximum Grade: download the grading worksheet"):
        export(above, LAB, "moodle", tmp_path / "marks.csv", scale)


def test_without_a_worksheet_moodle_gets_what_its_importer_needs(graded, tmp_path):
    done = export(graded, LAB, "moodle", tmp_path / "marks.csv")
    header, *rows = table(tmp_path / "marks.csv")
    assert {"Identifier", "Grade", "Last modified (grade)"} <= {*header}
    assert {row[0]: row[4] for row in rows} == {
        "Participant 101": "10", "Participant 102": "6.25", "Participant 13": "0", "": "5",
    }  # fmt: skip
    assert done.without_marks == [LI]


CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section,"Lab 0 (11)","lab1_forward (4711)",Current Score
,,,,,,Manual Posting,
    Points Possible,,,,,5.00,50.00,(read only)
"Lovelace, Ada",101,S-1,ada@example.org,DL,4.00,,80.0
"de la Cruz, Zoë",102,S-2,zoe@example.org,"DL ""B"" and C",3.00,12.00,60.0
Bob,13,S-3,bob@example.org,DL,,,
"Mensah, Kofi",106,S-4,kofi,DL,1.00,EX,
"Student, Test",999,,abcdef,DL,,,
"""


@pytest.fixture(scope="module")
def canvas_course(tmp_path_factory) -> Path:
    names = {ADA: "lovelaceada_101", ZOE: "delacruzzoë_102", EVE: "eve_13", LI: "li_104"}
    students = {names.get(student, student): about for student, about in CLASS.items()}
    return course(tmp_path_factory.mktemp("canvas"), students)


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_canvas_gets_its_own_file_back_with_one_column_filled(canvas_course, tmp_path, separator, mark):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator).writerows(csv.reader(io.StringIO(CANVAS)))
    roster, to = tmp_path / "roster.csv", tmp_path / "marks.csv"
    roster.write_bytes((mark + out.getvalue()).encode())
    done = export(canvas_course, LAB, "canvas", to, roster)
    before, after = table(roster, separator), table(to, separator)
    assert [row[6] for row in after] == ["lab1_forward (4711)", "Manual Posting", "50.00", "50", "31.25", "", "EX", ""]
    for old, new in zip(before, after, strict=True):
        assert old[:6] + old[7:] == new[:6] + new[7:]
    assert to.read_bytes().startswith(mark.encode()) and (mark or not to.read_bytes().startswith(b"\xef"))
    assert done.not_in_roster == ["eve_13"]
    assert done.without_marks == ["Bob", "Student, Test", "li_104"]
    assert done.remarks == [
        "kofi is left at EX, as Canvas has it.",
        "Marks of 10 are scaled to the 50 points of Canvas.",
    ]


def test_canvas_with_family_names_in_a_column_of_their_own(canvas_course, tmp_path):
    header = "LastName,FirstName,ID,SIS Login ID,Section,Lab 1 forward: noise (3)"
    (tmp_path / "roster.csv").write_text(f"{header}\nPoints Possible,,,,,10\nLovelace,Ada,101,a,X,\n")
    done = export(canvas_course, LAB, "canvas", tmp_path / "marks.csv", tmp_path / "roster.csv")
    assert done.filled == 1 and table(tmp_path / "marks.csv")[2][5] == "10"


def test_canvas_column_is_asked_for_where_none_or_two_could_be_meant(canvas_course, tmp_path):
    (tmp_path / "roster.csv").write_text(CANVAS.replace("lab1_forward", "Noising"))
    with pytest.raises(ExportError, match=r"Give its title; its assignments are: 'Lab 0 \(11\)', 'Noising \(4711\)'"):
        export(canvas_course, LAB, "canvas", tmp_path / "marks.csv", tmp_path / "roster.csv")
    done = export(canvas_course, LAB, "canvas", tmp_path / "marks.csv", tmp_path / "roster.csv", column="Noising")
    assert done.filled == 2


def test_without_a_roster_canvas_gets_what_its_importer_needs(canvas_course, tmp_path):
    export(canvas_course, LAB, "canvas", tmp_path / "marks.csv")
    header, points, *rows = table(tmp_path / "marks.csv")
    assert header == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", LAB]
    assert "Points Possible" in points[0] and points[5] == "10"
    assert {(row[1], row[3]): row[5] for row in rows} == {
        ("101", ""): "10", ("102", ""): "6.25", ("13", ""): "0", ("", "kofi"): "5",
    }  # fmt: skip


@pytest.mark.parametrize("format", ["moodle", "canvas"])
def test_a_name_that_a_spreadsheet_would_calculate_is_written_as_text(tmp_path, format):
    names = ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\tx"]
    students = {f"s{i}": (name, "", name, 1, 1, 0) for i, name in enumerate(names)} | {"=cmd()": ("", "", "", 1, 1, 0)}
    export(course(tmp_path / "course", students), LAB, format, tmp_path / "marks.csv")
    cells = [cell for row in table(tmp_path / "marks.csv") for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]
    assert "'=HYPERLINK(1)" in cells


def test_two_students_who_could_be_one_row_get_no_mark_and_are_named(tmp_path):
    twins = {"k1": ("Kofi", "Mensah", "", 8, 2, 0), "k2": ("Mensah", "Kofi", "", 1, 0, 0)}
    row = ROWS[3].replace("K. Mensah", "Kofi Mensah")
    done = export(course(tmp_path / "c", twins), LAB, "moodle", tmp_path / "marks.csv", worksheet(tmp_path, [row]))
    assert (done.filled, done.not_in_roster, done.without_marks) == (0, ["k1", "k2"], ["Kofi Mensah"])


def test_a_bad_roster_format_or_lab_is_one_sentence(graded, tmp_path):
    (tmp_path / "latin.csv").write_bytes(ROWS[1].encode("latin-1"))
    (tmp_path / "ragged.csv").write_text("Identifier,Grade\nx\n")
    (tmp_path / "other.csv").write_text("Name,Mark\nx,1\n")
    bad = [
        (graded, LAB, "moodle", "latin.csv", "not in UTF-8"),
        (graded, LAB, "moodle", "ragged.csv", "rows differ in length"),
        (graded, LAB, "moodle", "other.csv", "no column Identifier and Grade and Last modified"),
        (graded, LAB, "canvas", "other.csv", "is no gradebook of Canvas"),
        (graded, LAB, "moodle", "missing.csv", "cannot be read"),
        (graded, "lab2_unet", "moodle", None, "holds no lab2_unet: grade it first"),
        (graded, LAB, "excel", None, "one of nbgrader, moodle, canvas, junit"),
        (tmp_path, LAB, "moodle", None, "no gradebook in"),
    ]
    for root, lab, format, roster, said in bad:
        with pytest.raises(ExportError, match=said) as error:
            export(root, lab, format, tmp_path / "marks.csv", roster and tmp_path / roster)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "marks.csv").exists() and not (tmp_path / "gradebook.db").exists()


def test_every_format_says_who_waits_and_who_has_no_mark(graded, tmp_path):
    for format in Format:
        done = export(graded, LAB, format, tmp_path / format)
        assert (done.waiting, done.without_marks, done.filled) == ({ZOE: 1}, [LI], 4), format
    with open(tmp_path / "nbgrader", newline="", encoding="utf-8") as file:
        written = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert written == {student: mark or 0 for student, mark in MARKS.items()}


scores = st.floats(0, 8).map(lambda x: round(x, 3))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(scores, st.none() | scores.map(lambda x: x / 4), scores), min_size=1, max_size=6),
    st.integers(1, 200),
)
def test_marks_read_back_from_the_files_are_the_gradebooks(tmp_path_factory, given_marks, worth):
    root = tmp_path_factory.mktemp("any")
    students = {f"Name {i}_{i + 1}": ("", "", "", *each) for i, each in enumerate(given_marks)}
    course(root, students)
    right = {s: max(0, code + (words or 0) - late) for s, (*_, code, words, late) in students.items()}
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}") as gradebook:
        assert {mark.student: mark.score for mark in marks(gradebook, LAB)} == pytest.approx(right)
    rows = [f"Participant {i + 1},Name {i},,,,{worth},Yes,-,-," for i in range(len(students))]
    export(root, LAB, "moodle", root / "marks.csv", worksheet(root, rows))
    back = {f"{row[1]}_{row[0].split()[1]}": float(row[4]) / worth * 10 for row in table(root / "marks.csv")[1:]}
    assert back == pytest.approx(right, abs=1e-3)


def test_nbgraders_own_command_uses_the_exporters(graded, tmp_path, caplog):
    roster = worksheet(tmp_path, ROWS)
    with Gradebook(f"sqlite:///{graded / 'gradebook.db'}") as gradebook, caplog.at_level(logging.WARNING):
        for plugin in (MoodleExport, CanvasExport, JUnitExport):
            exporter = plugin(to=str(tmp_path / plugin.__name__))
            if plugin is MoodleExport:
                exporter.roster = str(roster)
            exporter.export(gradebook)
            assert (tmp_path / plugin.__name__).stat().st_size
        with pytest.raises(ExportError, match="leave --student out"):
            MoodleExport(student=["ada"]).export(gradebook)
    assert table(tmp_path / "MoodleExport")[1][4] == "100"


# --- JUnit ------------------------------------------------------------------------------------


def test_junit_has_a_suite_for_each_student_and_the_hint_as_the_failure(tmp_path):
    hint = "a <standard> deviation,\x00 not \x1b[31m\ud800 a variance"
    results = [
        Result("extract", RIGHT, 2, 2, 2, seconds=0.25),
        Result("q_sample", WRONG, 1.5, 3, 0, hint, basis=CARRIED, seconds=0.5),
        Result("snr", NOT_DONE, 0, 1, 0),
    ]
    graded = [("ada", results, ["question"]), ("Łukasz <&\x07>", results[:1], [])]
    assert junit(LAB, graded, tmp_path / "class.xml") == 2
    suites = ElementTree.parse(tmp_path / "class.xml").getroot()
    ada, other = suites.findall("testsuite")
    assert (ada.get("name"), ada.get("tests"), ada.get("failures"), ada.get("skipped")) == ("ada", "4", "2", "1")
    assert ada.get("time") == "0.750"
    failure = ada.find("testcase[@name='q_sample']/failure")
    assert failure.get("message").startswith("1.5 of 3 marks, error carried forward: a <standard> deviation,")
    assert ada.find("testcase[@name='snr']/failure").get("type") == "not done"
    assert ada.find("testcase[@name='question']/skipped") is not None
    assert len(ada.find("testcase[@name='extract']")) == 0
    assert other.get("name") == "Łukasz <&\ufffd>" and (other.get("tests"), other.get("failures")) == ("1", "0")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_junit_is_xml_whatever_a_name_or_a_hint_holds(tmp_path_factory, student, hint):
    file = tmp_path_factory.getbasetemp() / "any.xml"
    junit(LAB, [(student, [Result("x", WRONG, 0, 1, 0, hint)], [])], file)
    assert ElementTree.parse(file).getroot().find("testsuite/testcase/failure") is not None


def test_junit_of_a_course_takes_hints_from_the_graded_notebooks(tmp_path):
    root = course(tmp_path / "course", {ADA: CLASS[ADA], ZOE: CLASS[ZOE]})
    said = {"name": "extract", "status": "wrong", "hint": "Index with t, not t - 1.", "seconds": 0.5, "parts": []}
    place = root / "autograded" / ZOE / LAB
    place.mkdir(parents=True)
    cells = [{"outputs": [{"data": {MIME: said}}]}, {}]
    (place / f"{LAB}.ipynb").write_text(json.dumps({"cells": cells}))
    export(root, LAB, "junit", tmp_path / "class.xml")
    ada, zoe = ElementTree.parse(tmp_path / "class.xml").getroot()
    assert ada.get("failures") == "0"
    assert zoe.find("testcase/failure").get("message") == "7.5 of 8 marks: Index with t, not t - 1."
    assert zoe.get("skipped") == "1"


# --- feedback to Moodle -----------------------------------------------------------------------


def imported(name: str) -> tuple[int, str] | None:
    """Whom Moodle gives a file to and under which name, by the rule of its importziplib.php."""
    parts = name.split("/")
    if parts[-1][:1] in (".", "~"):
        return None
    while parts:
        pieces = parts.pop(0).split("_", 4)
        if len(pieces) >= 4 and pieces[1].isdigit() and pieces[2:4] == ["assignsubmission", "file"]:
            return int(pieces[1]), "/".join([*pieces[4:], *parts]).lstrip("/")
    return None


@pytest.mark.parametrize(
    "given_files",
    [
        [
            f"Ada Lovelace_101_assignsubmission_file_/{LAB}.ipynb",
            "Zoë Müller_102_assignsubmission_file_/a_1_b_c/x.ipynb",
        ],
        [f"Ada Lovelace_101_assignsubmission_file/{LAB}.ipynb", f"Zoë Müller_102_assignsubmission_file/{LAB}.ipynb"],
        [f"Ada Lovelace_101_assignsubmission_file_{LAB}.ipynb", "Zoë Müller_102_assignsubmission_file_x_7_y_z.ipynb"],
        [
            f"zip/Ada Lovelace_101_assignsubmission_file_/{LAB}.ipynb",
            "zip/Zoë Müller_102_assignsubmission_file_/x.ipynb",
        ],
    ],
)
def test_moodle_hands_each_feedback_page_to_the_student_it_is_for(tmp_path, given_files):
    for name in given_files:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"{}")
    found = collect(tmp_path / "in", LAB)
    page = tmp_path / f"{LAB}.html"
    pages = []
    for each in found:
        page = tmp_path / each.student / f"{LAB}.html"
        page.parent.mkdir()
        page.write_text(each.student)
        pages.append((each.origin, each.student, page))
    assert moodle_feedback_zip(pages, tmp_path / "feedback.zip") == []
    with zipfile.ZipFile(tmp_path / "feedback.zip") as archive:
        handed = {imported(name): archive.read(name).decode() for name in archive.namelist()}
    assert handed == {(101, f"{LAB}.html"): "Ada Lovelace_101", (102, f"{LAB}.html"): "Zoë Müller_102"}


def test_feedback_for_what_did_not_come_from_moodle_lies_in_a_folder_for_each_student(tmp_path):
    page = tmp_path / f"{LAB}.html"
    page.write_text("page")
    pages = [("ada.ipynb", "ada", page), ("Default group_assignsubmission_file_/x.ipynb", "Default group", page)]
    assert moodle_feedback_zip(pages, tmp_path / "feedback.zip") == ["ada", "Default group"]
    with zipfile.ZipFile(tmp_path / "feedback.zip") as archive:
        assert archive.namelist() == [f"ada/{LAB}.html", f"Default group/{LAB}.html"]
    assert not re.search("assignsubmission", " ".join(archive.namelist()))
