"""The CSV file of Canvas's gradebook.

Canvas takes it back: it finds a student by ID, SIS User ID, SIS Login ID or name, and an assignment by the number in
brackets behind its title. With the file that came from Canvas as the roster, only the marks are filled in.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook

from labdiff.errors import ExportError
from labdiff.grading.classroom.export.marks import Exported, Mark, exported_to, marks, numbered, printable
from labdiff.grading.classroom.export.match import RosterRow, give_marks, letters_of
from labdiff.grading.classroom.export.table import Table, as_cell, as_number, parsed_number, write_rows

GRADEBOOK = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
KEPT = ("EX", "N/A")  # what Canvas writes for who is excused or was not assigned the work


def to_canvas(gradebook: Gradebook, lab: str, to: Path, roster: Path | None, column: str | None, *_: Any) -> Exported:
    """The CSV file of Canvas's gradebook: `roster` with the marks filled in, or one from the gradebook alone."""
    known = marks(gradebook, lab)
    done = exported_to(to, known)
    if roster is None:
        rows = [
            [*GRADEBOOK, column or lab],
            ["    Points Possible", "", "", "", "", as_number(known[0].max_score if known else 0)],
        ]
        for mark in known:
            if mark.score is not None:
                name = (
                    ", ".join(part for part in (mark.last_name, mark.first_name) if part) or numbered(mark.student)[0]
                )
                login = "" if mark.number else as_cell(mark.student)
                rows.append([as_cell(name), mark.number, "", login, "", as_number(mark.score)])
                done.filled += 1
            else:
                done.without_marks.append(mark.student)
        write_rows(to, rows, csv.excel)
        done.remarks.append("Canvas finds students by ID: give the gradebook that it exports as the roster.")
        return done
    table = Table(roster)
    header = [title.strip() for title in table.rows[0]]
    if "ID" not in header or "Section" not in header or header[0] not in ("Student", "LastName"):
        raise ExportError(f"{roster} is no gradebook of Canvas: export it there as CSV, with Canvas set to English.")
    place = _assignment(header, lab, column, roster)
    points = next((row[place] for row in table.rows[1:] if "Points Possible" in row[0]), "")
    if "read only" in points.casefold():
        raise ExportError(f"Canvas does not let the column {header[place]!r} be changed: name another.")
    worth = parsed_number(points)
    number, logins = header.index("ID"), [header.index(t) for t in ("SIS User ID", "SIS Login ID") if t in header]
    students = [
        RosterRow(at, row[number].strip(), {row[i].strip() for i in logins} - {""}, "", _canvas_name(header, row))
        for at, row in enumerate(table.rows[1:], 1)
        if row[number].strip()
    ]

    def fill(at: int, mark: Mark, score: float) -> str:
        row = table.rows[at]
        if row[place].strip().upper() in KEPT:
            return f"{printable(mark.student)} is left at {row[place].strip()}, as Canvas has it"
        row[place] = as_number(score * worth / mark.max_score if worth and mark.max_score else score)
        done.filled += 1
        return ""

    give_marks(known, students, fill, done)
    table.write(to)
    if worth and known and worth != known[0].max_score:
        done.remarks.append(
            f"Marks of {as_number(known[0].max_score)} are scaled to the {as_number(worth)} points of Canvas."
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
        lambda i: letters_of(titles[i]) == letters_of(wanted),
        lambda i: letters_of(titles[i]).startswith(letters_of(wanted)),
    ]
    for way in ways:
        found = [i for i in titles if way(i)]
        if len(found) == 1:
            return found[0]
    there = ", ".join(repr(header[i]) for i in titles) or "none"
    raise ExportError(f"Which column of {roster} is {wanted}? Give its title; its assignments are: {there}.")
