"""Moodle's grading worksheet, and the zip of its feedback files.

Moodle takes the worksheet of "Download grading worksheet" back (the assignment's feedback type "Offline grading
worksheet"): it finds a student by the column Identifier, reads Grade, skips a grade above the maximum, and asks for the
column Last modified (grade). With the worksheet as the roster, only the marks are filled in.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook

from labdiff.errors import ExportError
from labdiff.grading.classroom.collect import MOODLE
from labdiff.grading.classroom.export.marks import Exported, Mark, exported_to, marks, numbered, printable
from labdiff.grading.classroom.export.match import RosterRow, give_marks
from labdiff.grading.classroom.export.table import Table, as_cell, as_number, parsed_number, write_rows

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


def to_moodle(gradebook: Gradebook, lab: str, to: Path, roster: Path | None, *_: Any) -> Exported:
    """Moodle's grading worksheet: `roster` with the marks filled in, or one from the gradebook alone."""
    known = marks(gradebook, lab)
    done = exported_to(to, known)
    if roster is None:
        rows = []
        for mark in known:
            if mark.score is not None:
                name = f"{mark.first_name} {mark.last_name}".strip() or numbered(mark.student)[0]
                number = f"Participant {mark.number}" if mark.number else ""
                about = [
                    number,
                    as_cell(name),
                    as_cell(mark.email),
                    "",
                    as_number(mark.score),
                    as_number(mark.max_score),
                ]
                rows.append([*about, "", "", "", ""])
                done.filled += 1
            else:
                done.without_marks.append(mark.student)
        write_rows(to, [WORKSHEET, *rows], csv.excel)
        done.remarks.append(
            "Moodle finds students by Identifier only: give the worksheet that it offers for download as the roster."
        )
        return done
    table = Table(roster)
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
        RosterRow(
            at,
            number=(re.search(r"\d+$", row[header["identifier"]].strip()) or [""])[0],
            ids={row[i] for i in texts} - {""},
            email=row[header["email address"]] if "email address" in header else "",
            name=row[header["full name"]] if "full name" in header else "",
        )
        for at, row in enumerate(table.rows[1:], 1)
    ]

    def fill(at: int, mark: Mark, score: float) -> str:
        row, above = table.rows[at], ""
        worth = parsed_number(row[most])
        if worth is None:
            return f"{printable(mark.student)} has no Maximum Grade in the worksheet and gets no mark"
        if locked is not None and row[locked].strip().casefold() == "no":
            return f"{printable(mark.student)}'s grade cannot be changed in Moodle and is left as it was"
        score = score * worth / mark.max_score if mark.max_score else score
        if score > worth:  # Moodle would skip it without a word
            earned = f"{printable(mark.student)} earned {as_number(score)} of {as_number(worth)}"
            above = f"{earned}; Moodle takes the maximum only"
        row[grade] = as_number(min(score, worth))
        done.filled += 1
        return above

    give_marks(known, students, fill, done)
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
            if not match or not re.fullmatch(r"[^_]*_\d+", match["student"]):
                unknown.append(student)
                name = f"{student}/{Path(page).name}"
            elif match["flat"]:
                name = f"{match['student']}_assignsubmission_file_{Path(page).name}"
            else:
                name = f"{place}/{Path(page).name}"
            archive.write(page, name)
    return unknown
