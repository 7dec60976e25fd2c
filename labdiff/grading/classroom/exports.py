"""Marks out of nbgrader's gradebook, in the files that Moodle and Canvas import, and reports as JUnit XML.

Moodle takes the worksheet of "Download grading worksheet" back (the assignment's feedback type "Offline grading
worksheet"): it finds a student by the column Identifier, reads Grade, skips a grade above the maximum, and asks for the
column Last modified (grade). Canvas takes its gradebook's CSV back: it finds a student by ID, SIS User ID, SIS Login
ID or name, and an assignment by the number in brackets behind its title. With the file that came from the platform, the
roster, only the marks are filled in. A mark is never guessed: where two students could be meant, it is left out and
said.

nbgrader's own command does the same:
`nbgrader export --exporter=labdiff.grading.classroom.exports.MoodleExport --to FILE`.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from nbgrader.api import Assignment, Grade, Gradebook, MissingEntry, Student, SubmittedAssignment, SubmittedNotebook
from nbgrader.plugins import CsvExportPlugin, ExportPlugin
from sqlalchemy import func
from traitlets import Unicode

from labdiff.checking.judge import Part
from labdiff.checking.notebook import MIME
from labdiff.grading.classroom.collect import MOODLE
from labdiff.grading.classroom.course import Course
from labdiff.grading.report import CARRIED, Report, Result

WORKSHEET = [
    "Identifier",
    "Full name",
    "Email address",
    "Status",
    "Grade",
    "Maximum Grade",
    "Grade can be changed",
    "Last modified (submission)",
    "Last modified (grade)",
    "Feedback comments",
]
GRADEBOOK = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what makes a spreadsheet calculate a cell
KEPT = ("EX", "N/A")  # what Canvas writes for who is excused or was not assigned the work


class ExportError(Exception):
    """Marks cannot be written; the message says why and what to do."""


@dataclass(frozen=True)
class Mark:
    """What the gradebook knows of one student's work on one lab.

    score: after the late penalty and never below 0, None where nothing was graded. waiting: how
    many answers wait for a person; they count 0 in the score so far.
    """

    student: str
    first_name: str
    last_name: str
    email: str
    score: float | None
    max_score: float
    waiting: int

    @property
    def number(self) -> str:
        """The number that Moodle or Canvas knows the student by, if `collect` found one; else ""."""
        return _numbered(self.student)[1]


@dataclass
class Exported:
    """What was written, and who was left out.

    filled: marks written. without_marks: students of the roster who have none. not_in_roster:
    students with marks whom no row, or more than one, could be. waiting: student -> answers that
    a person has still to mark. remarks: sentences on anything else that a person should know.
    """

    file: Path
    filled: int = 0
    without_marks: list[str] = field(default_factory=list)
    not_in_roster: list[str] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def as_text(self) -> str:
        """All of it for a terminal, a line each; names beyond the first twenty are counted."""
        lines = [f"Wrote {self.filled} marks to {self.file}."]
        for names, what in (
            (self.without_marks, "have no mark and stay empty"),
            (self.not_in_roster, "have a mark that no row was found for"),
            ([*self.waiting], "have answers that wait for a person, which count 0 in the mark so far"),
        ):
            if names:
                more = f" and {len(names) - 20} more" if len(names) > 20 else ""
                lines.append(f"{len(names)} {what}: {', '.join(map(_printable, names[:20]))}{more}.")
        return "\n".join(lines + self.remarks)


# --- the gradebook ----------------------------------------------------------------------------


def marks(gradebook: Gradebook, lab: str) -> list[Mark]:
    """The marks of all students of a gradebook, sorted by student. Raises ExportError."""
    try:
        worth = float(gradebook.find_assignment(lab).max_score)
    except MissingEntry as error:
        raise ExportError(f"The gradebook holds no {lab}: grade it first.") from error
    submitted = (
        gradebook.db.query(SubmittedAssignment.id, SubmittedAssignment.student_id)
        .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
        .filter(Assignment.name == lab)
        .all()
    )
    of = {submission: student for submission, student in submitted}
    penalty: Counter[str] = Counter()
    earned: dict[str, float] = {student: 0.0 for student in of.values()}
    waiting: Counter[str] = Counter()
    query = gradebook.db.query(SubmittedNotebook.assignment_id, func.sum(SubmittedNotebook.late_submission_penalty))
    for submission, lost in query.group_by(SubmittedNotebook.assignment_id):
        if submission in of:
            penalty[of[submission]] += lost or 0
    query = gradebook.db.query(
        SubmittedNotebook.assignment_id, func.sum(Grade.score), func.sum(Grade.needs_manual_grade)
    )
    query = query.join(Grade, Grade.notebook_id == SubmittedNotebook.id)
    for submission, score, left in query.group_by(SubmittedNotebook.assignment_id):
        if submission in of:
            earned[of[submission]] += score or 0
            waiting[of[submission]] += int(left or 0)
    columns = gradebook.db.query(Student.id, Student.first_name, Student.last_name, Student.email).order_by(Student.id)
    return [
        Mark(
            student,
            first or "",
            last or "",
            email or "",
            max(0.0, earned[student] - penalty[student]) if student in earned else None,
            worth,
            waiting[student],
        )
        for student, first, last, email in columns
    ]


def export(
    course: Path | str, lab: str, format: str, to: Path, roster: Path | None = None, column: str | None = None
) -> Exported:
    """Write the marks of a lab to a file.

    course: nbgrader's course folder, or the URL of a gradebook (without the folder, JUnit has no
    hints). format: "nbgrader", "moodle", "canvas" or "junit". roster: the file that Moodle or Canvas
    gave, to be filled in. column: the title of the assignment in Canvas's file, where it is not
    found by the lab's name. Raises ExportError.
    """
    if format not in FORMATS:
        raise ExportError(f"There is no format {format!r}: it is one of {', '.join(FORMATS)}.")
    url, root = (str(course), None) if "://" in str(course) else (Course(Path(course)).url, Path(course))
    if root and url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise ExportError(f"There is no gradebook in {root}: grade the lab first, or give the course's folder.")
    to = Path(to)
    with Gradebook(url) as gradebook:
        return FORMATS[format](gradebook, lab, to, roster, column, root)


def _nbgrader(gradebook: Gradebook, lab: str, to: Path, *_: Any) -> Exported:
    known = marks(gradebook, lab)
    CsvExportPlugin(to=str(to), assignment=[lab]).export(gradebook)
    done = _about(to, known)
    done.without_marks = [mark.student for mark in known if mark.score is None]
    done.filled = len(known) - len(done.without_marks)
    if done.without_marks:
        done.remarks.append("nbgrader writes 0 for who has no mark.")
    return done


def _about(to: Path, known: list[Mark]) -> Exported:
    return Exported(to, waiting={mark.student: mark.waiting for mark in known if mark.waiting})


# --- Moodle -----------------------------------------------------------------------------------


def _moodle(gradebook: Gradebook, lab: str, to: Path, roster: Path | None, *_: Any) -> Exported:
    known = marks(gradebook, lab)
    done = _about(to, known)
    if roster is None:
        rows = []
        for mark in known:
            if mark.score is not None:
                name = f"{mark.first_name} {mark.last_name}".strip() or _numbered(mark.student)[0]
                number = f"Participant {mark.number}" if mark.number else ""
                about = [
                    number,
                    as_cell(name),
                    as_cell(mark.email),
                    "",
                    _number(mark.score),
                    _number(mark.max_score),
                ]
                rows.append([*about, "", "", "", ""])
                done.filled += 1
            else:
                done.without_marks.append(mark.student)
        _write(to, [WORKSHEET, *rows], csv.excel)
        done.remarks.append(
            "Moodle finds students by Identifier only: give the worksheet that it offers for download as the roster."
        )
        return done
    table = _Table(roster)
    header = {title.strip().casefold(): i for i, title in reversed(list(enumerate(table.rows[0])))}
    missing = [title for title in ("Identifier", "Grade", "Last modified (grade)") if title.casefold() not in header]
    if missing or "maximum grade" not in header:
        lacks = " and ".join(missing or ["Maximum Grade"])
        raise ExportError(
            f"{roster} has no column {lacks}: download the grading worksheet with Moodle set to English, "
            "for an assignment that is graded in points."
        )
    grade, most, locked = header["grade"], header["maximum grade"], header.get("grade can be changed")
    texts = [header[title] for title in ("username", "id number") if title in header]
    students = [
        _Row(
            at,
            number=(re.search(r"\d+$", row[header["identifier"]].strip()) or [""])[0],
            ids={row[i] for i in texts} - {""},
            email=row[header["email address"]] if "email address" in header else "",
            name=row[header["full name"]] if "full name" in header else "",
        )
        for at, row in enumerate(table.rows[1:], 1)
    ]

    def fill(at: int, mark: Mark) -> str:
        row, above = table.rows[at], ""
        worth = _parsed(row[most])
        if worth is None:
            return f"{_printable(mark.student)} has no Maximum Grade in the worksheet and gets no mark"
        if locked is not None and row[locked].strip().casefold() == "no":
            return f"{_printable(mark.student)}'s grade cannot be changed in Moodle and is left as it was"
        score = mark.score * worth / mark.max_score if mark.max_score else mark.score
        if score > worth:  # Moodle would skip it without a word
            above = (
                f"{_printable(mark.student)} earned {_number(score)} of {_number(worth)}; Moodle takes the maximum only"
            )
        row[grade] = _number(min(score, worth))
        done.filled += 1
        return above

    _fill(known, students, fill, done)
    table.write(to)
    return done


def moodle_feedback_zip(pages: Iterable[tuple[str, str, Path]], to: Path) -> list[str]:
    """Write feedback pages as the zip that Moodle's "Upload multiple feedback files in a zip" takes.

    pages: (origin, student, HTML file), the first two as `collect` gave them. Moodle hands a file
    to the participant whose number stands second in a folder's or file's name, between
    underscores: `Full Name_1234567_assignsubmission_file_`. What did not come from Moodle gets a
    folder for each student. Returns the students whom Moodle will not find.
    """
    unknown = []
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for origin, student, page in pages:
            place = next((part for part in re.split(r"[/\\]", origin) if re.fullmatch(MOODLE, part)), "")
            match = re.fullmatch(MOODLE, place, re.S)
            is_found = bool(match and re.fullmatch(r"[^_]*_\d+", match["student"]))
            if not is_found:
                unknown.append(student)
                name = f"{student}/{Path(page).name}"
            elif match["flat"]:
                name = f"{match['student']}_assignsubmission_file_{Path(page).name}"
            else:
                name = f"{place}/{Path(page).name}"
            archive.write(page, name)
    return unknown


# --- Canvas -----------------------------------------------------------------------------------


def _canvas(gradebook: Gradebook, lab: str, to: Path, roster: Path | None, column: str | None, *_: Any) -> Exported:
    known = marks(gradebook, lab)
    done = _about(to, known)
    if roster is None:
        rows = [
            [*GRADEBOOK, column or lab],
            ["    Points Possible", "", "", "", "", _number(known[0].max_score if known else 0)],
        ]
        for mark in known:
            if mark.score is not None:
                name = (
                    ", ".join(part for part in (mark.last_name, mark.first_name) if part) or _numbered(mark.student)[0]
                )
                login = "" if mark.number else as_cell(mark.student)
                rows.append([as_cell(name), mark.number, "", login, "", _number(mark.score)])
                done.filled += 1
            else:
                done.without_marks.append(mark.student)
        _write(to, rows, csv.excel)
        done.remarks.append("Canvas finds students by ID: give the gradebook that it exports as the roster.")
        return done
    table = _Table(roster)
    header = [title.strip() for title in table.rows[0]]
    if "ID" not in header or "Section" not in header or header[0] not in ("Student", "LastName"):
        raise ExportError(f"{roster} is no gradebook of Canvas: export it there as CSV, with Canvas set to English.")
    place = _assignment(header, lab, column, roster)
    points = next((row[place] for row in table.rows[1:] if "Points Possible" in row[0]), "")
    if "read only" in points.casefold():
        raise ExportError(f"Canvas does not let the column {header[place]!r} be changed: name another.")
    worth = _parsed(points)
    number, login = header.index("ID"), [header.index(t) for t in ("SIS User ID", "SIS Login ID") if t in header]
    students = [
        _Row(at, row[number].strip(), {row[i].strip() for i in login} - {""}, "", _canvas_name(header, row))
        for at, row in enumerate(table.rows[1:], 1)
        if row[number].strip()
    ]

    def fill(at: int, mark: Mark) -> str:
        row = table.rows[at]
        if row[place].strip().upper() in KEPT:
            return f"{_printable(mark.student)} is left at {row[place].strip()}, as Canvas has it"
        row[place] = _number(mark.score * worth / mark.max_score if worth and mark.max_score else mark.score)
        done.filled += 1
        return ""

    _fill(known, students, fill, done)
    table.write(to)
    if worth and known and worth != known[0].max_score:
        done.remarks.append(
            f"Marks of {_number(known[0].max_score)} are scaled to the {_number(worth)} points of Canvas."
        )
    return done


def _canvas_name(header: list[str], row: list[str]) -> str:
    return " ".join(row[:2]) if header[0] == "LastName" else row[0]


def _assignment(header: list[str], lab: str, column: str | None, roster: Path) -> int:
    """The column of an assignment, by its title with or without the number behind it. Raises ExportError."""
    titles = {i: match[1] for i, title in enumerate(header) if (match := re.fullmatch(r"(.*)\s\(\d+\)", title, re.S))}
    wanted = column or lab
    ways: list[Callable[[int], bool]] = [
        lambda i: wanted in (header[i], titles[i]),
        lambda i: _letters(titles[i]) == _letters(wanted),
        lambda i: _letters(titles[i]).startswith(_letters(wanted)),
    ]
    for way in ways:
        found = [i for i in titles if way(i)]
        if len(found) == 1:
            return found[0]
    there = ", ".join(repr(header[i]) for i in titles) or "none"
    raise ExportError(f"Which column of {roster} is {wanted}? Give its title; its assignments are: {there}.")


# --- who is who -------------------------------------------------------------------------------


@dataclass
class _Row:
    """A student of a roster: where the row is, and by what it can be told."""

    at: int
    number: str
    ids: set[str]
    email: str
    name: str

    @property
    def shown(self) -> str:
        return self.name or self.email or self.number


def _fill(known: list[Mark], rows: list[_Row], fill: Callable[[int, Mark], str], done: Exported) -> None:
    """Give each mark to the one row that it belongs to, by number, then id, e-mail, name; note who is left."""
    marked = [mark for mark in known if mark.score is not None]
    pairs: dict[int, Mark] = {}
    taken: set[str] = set()
    ways: list[tuple[Callable[[_Row], set[str]], Callable[[Mark], set[str]]]] = [
        # both, because the names that students choose are in the names of files
        (lambda row: {f"{row.number} {_letters(row.name)}"}, lambda mark: {_number_and_name(mark)} - {""}),
        (lambda row: row.ids, lambda mark: {mark.student}),
        (
            lambda row: {row.email.casefold()} - {""},
            lambda mark: {mark.email.casefold(), mark.student.casefold()} - {""},
        ),
        (lambda row: {_letters(row.name)} - {""}, _names),
    ]
    for of_row, of_mark in ways:
        by_row, by_mark = _index(rows, of_row), _index(marked, of_mark)
        for key, some in by_mark.items():
            fits = by_row.get(key, [])
            if len(some) == 1 and len(fits) == 1 and some[0].student not in taken and fits[0].at not in pairs:
                pairs[fits[0].at] = some[0]
                taken.add(some[0].student)
    for at, mark in pairs.items():
        said = fill(at, mark)
        if said:
            done.remarks.append(f"{said}.")
    done.not_in_roster += [mark.student for mark in marked if mark.student not in taken]
    done.without_marks += [row.shown for row in rows if row.at not in pairs]
    listed = {name for row in rows for name in (row.number, *row.ids, row.email)} - {""}
    done.without_marks += [m.student for m in known if m.score is None and not {m.student, m.number, m.email} & listed]


def _index(things: list[Any], keys: Callable[[Any], set[str]]) -> dict[str, list[Any]]:
    index: dict[str, list[Any]] = {}
    for thing in things:
        for key in keys(thing):
            index.setdefault(key, []).append(thing)
    return index


def _numbered(student: str) -> tuple[str, str]:
    """The name and the number in an id that `collect` made of Moodle's or Canvas's names; (id, "") of others."""
    match = re.fullmatch(r"(.*)_(\d+)", student, re.S)
    return (re.sub(r"-[0-9a-f]{8}$", "", match[1]), match[2]) if match else (student, "")


def _number_and_name(mark: Mark) -> str:
    name, number = _numbered(mark.student)
    return f"{number} {_letters(name)}" if number else ""


def _names(mark: Mark) -> set[str]:
    """How a roster may write a student's name."""
    if mark.number:  # a name alone is not enough where the platform's number says another
        return set()
    both = (f"{mark.first_name}{mark.last_name}", f"{mark.last_name}{mark.first_name}", mark.student)
    return {_letters(name) for name in both} - {""}


def _letters(name: str) -> str:
    """A name without what platforms take out of file names: only letters and digits, small."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")


# --- CSV --------------------------------------------------------------------------------------


class _Table:
    """A CSV file as a platform wrote it; what is not changed stays as it was, separator and byte order mark too."""

    def __init__(self, file: Path):
        try:
            data = Path(file).read_bytes()
            text = data.decode("utf-8-sig")
        except OSError as error:
            raise ExportError(f"{file} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise ExportError(f"{file} is not in UTF-8: give it as it was downloaded.") from error
        self.mark = "\ufeff" if data.startswith(b"\xef\xbb\xbf") else ""
        first = text.partition("\n")[0]
        self.separator = max(",;\t", key=first.count)
        self.end = "\r\n" if first.endswith("\r") else "\n"
        csv.field_size_limit(10 << 20)
        try:
            self.rows = [
                row for row in csv.reader(io.StringIO(text, newline=""), delimiter=self.separator, strict=True) if row
            ]
        except csv.Error as error:
            raise ExportError(f"{file} is no CSV file: {error}.") from error
        if not self.rows or any(len(row) != len(self.rows[0]) for row in self.rows):
            raise ExportError(f"{file} is no table: its rows differ in length. Give it as it was downloaded.")

    def write(self, to: Path) -> None:
        dialect = type("_Same", (csv.excel,), {"delimiter": self.separator, "lineterminator": self.end})
        _write(to, self.rows, dialect, self.mark)


def _write(to: Path, rows: list[list[str]], dialect: Any, mark: str = "") -> None:
    text = io.StringIO(newline="")
    csv.writer(text, dialect).writerows(rows)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes((mark + text.getvalue()).encode())


def as_cell(text: str) -> str:
    """A text for a cell, that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _number(value: float) -> str:
    """A number with at most five digits behind the point, as many as Moodle keeps."""
    return f"{value:.5f}".rstrip("0").rstrip(".")


def _parsed(text: str) -> float | None:
    """A number as a platform writes it, with a point or a comma; None of anything else."""
    if not re.fullmatch(r"\s*\d[\d.,\s]*", text):
        return None
    *whole, last = re.split(r"[.,]", re.sub(r"\s", "", text))
    return float(f"{''.join(whole)}.{last}") if whole else float(last)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


# --- JUnit ------------------------------------------------------------------------------------


def junit(reports: Iterable[tuple[str, Report]], to: Path) -> int:
    """Write one JUnit XML file for a class: a testsuite for each student, a testcase for each exercise.

    An exercise that is not right fails, with its marks and its hint as the message; a question
    in words is skipped; a submission that could not be graded is an error. Reports are taken one by
    one, so a large class needs no more memory. Returns the number of students.
    """
    count = 0
    to.parent.mkdir(parents=True, exist_ok=True)
    with open(to, "wb") as file:
        file.write(b"<?xml version='1.0' encoding='utf-8'?>\n<testsuites name=\"labdiff\">\n")
        for student, report in reports:
            file.write(ElementTree.tostring(_suite(student, report), encoding="utf-8", xml_declaration=False) + b"\n")
            count += 1
        file.write(b"</testsuites>\n")
    return count


def _suite(student: str, report: Report) -> ElementTree.Element:
    failed = 0 if report.problem else sum(result.status != "right" for result in report.exercises)
    cases = [*report.exercises, *report.questions] if not report.problem else []
    suite = _element(
        None,
        "testsuite",
        name=student,
        tests=len(cases) or 1,
        failures=failed,
        errors=int(bool(report.problem)),
        skipped=len(report.questions) if cases else 0,
        time=f"{report.seconds:.3f}",
    )
    if report.problem:
        case = _element(suite, "testcase", classname=f"{report.lab}.{student}", name=report.lab, time="0")
        _element(case, "error", message=report.problem, type="ungraded")
        return suite
    for result in report.exercises:
        about = {"classname": f"{report.lab}.{student}", "name": result.name, "time": f"{result.seconds:.3f}"}
        case = _element(suite, "testcase", **about)
        if result.status != "right":
            carried = f", {CARRIED}" if result.basis == CARRIED else ""
            earned = f"{result.score:g} of {result.max_score:g} marks{carried}"
            _element(case, "failure", message=f"{earned}: {_why(result)}", type=result.status)
    for question in report.questions:
        case = _element(suite, "testcase", classname=f"{report.lab}.{student}", name=question["name"], time="0")
        _element(case, "skipped", message="waits for a person")
    return suite


def _why(result: Result) -> str:
    if result.hint:
        return result.hint
    failed = [part for part in result.parts if not part.passed]
    return f"{failed[0].name}: {failed[0].message}" if failed else result.status


def _element(parent: ElementTree.Element | None, tag: str, **attributes: Any) -> ElementTree.Element:
    """An element whose texts hold only what XML 1.0 allows; the rest becomes the replacement character."""
    said = {
        key: re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(value))
        for key, value in attributes.items()
    }
    return ElementTree.Element(tag, said) if parent is None else ElementTree.SubElement(parent, tag, said)


def _junit(gradebook: Gradebook, lab: str, to: Path, roster: Any, column: Any, root: Path | None) -> Exported:
    known = marks(gradebook, lab)
    done = _about(to, known)
    done.without_marks = [mark.student for mark in known if mark.score is None]
    done.filled = junit(
        ((m.student, _report(gradebook, lab, m.student, root)) for m in known if m.score is not None), to
    )
    return done


def _report(gradebook: Gradebook, lab: str, student: str, root: Path | None) -> Report:
    """The report of a graded submission, from the gradebook and, for its hints, from what the grader left behind."""
    said = _left_behind(root / "autograded" / student / lab / f"{lab}.ipynb") if root else {}
    report = Report(lab, 0, "", [])
    for grade in gradebook.find_submission_notebook(lab, lab, student).grades:
        name = grade.name.removeprefix("check-")
        if grade.needs_manual_grade:
            report.questions.append({"name": name, "max_score": grade.max_score})
            continue
        about = said.get(name, {})
        status = "right" if grade.score >= grade.max_score else "wrong"
        result = Result(name, about.get("status", status), grade.score, grade.max_score, grade.score)
        result.hint, result.basis = about.get("hint", ""), about.get("basis", result.basis)
        result.seconds = about.get("seconds", 0.0)
        result.parts = [Part(**part) for part in about.get("parts", [])]
        report.exercises.append(result)
    return report


def _left_behind(notebook: Path) -> dict[str, dict[str, Any]]:
    """The results in a graded notebook's cells: exercise -> result."""
    try:
        cells = json.loads(notebook.read_bytes())["cells"]
        outputs = [output["data"] for cell in cells for output in cell.get("outputs", []) if "data" in output]
        return {data[MIME]["name"]: data[MIME] for data in outputs if MIME in data}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


# --- nbgrader's command -----------------------------------------------------------------------


FORMATS: dict[str, Callable[..., Exported]] = {
    "nbgrader": _nbgrader,
    "moodle": _moodle,
    "canvas": _canvas,
    "junit": _junit,
}


class _Export(ExportPlugin):
    """What the exporters share: one lab, a file, and everything that was left out on the log."""

    roster = Unicode("", help="The file that the platform gave, to be filled in.").tag(config=True)
    column = Unicode("", help="The title of the assignment in Canvas's file.").tag(config=True)
    format = ""
    ending = "csv"

    def export(self, gradebook: Gradebook) -> None:
        """Write the marks of one assignment. Raises ExportError."""
        if self.student:
            raise ExportError("This exporter writes the whole class: leave --student out.")
        labs = [str(lab) for lab in self.assignment] or [assignment.name for assignment in gradebook.assignments]
        if len(labs) != 1:
            raise ExportError(f"One assignment fits in a file, and there are {len(labs)}: name it with --assignment.")
        to = Path(self.to or f"{labs[0]}_{self.format}.{self.ending}")
        coursedir = getattr(self.parent, "coursedir", None)
        root = Path(coursedir.root) if coursedir else None
        roster = Path(self.roster) if self.roster else None
        done = FORMATS[self.format](gradebook, labs[0], to, roster, self.column or None, root)
        self.log.warning(done.as_text())


class MoodleExport(_Export):
    """Moodle's grading worksheet."""

    format = "moodle"


class CanvasExport(_Export):
    """The CSV file of Canvas's gradebook."""

    format = "canvas"


class JUnitExport(_Export):
    """JUnit XML, for CI services."""

    format = "junit"
    ending = "xml"
