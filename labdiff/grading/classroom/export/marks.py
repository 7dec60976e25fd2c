"""The marks that the gradebook holds, and what an export says of itself."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from nbgrader.api import Assignment, Grade, Gradebook, MissingEntry, Student, SubmittedAssignment, SubmittedNotebook
from sqlalchemy import func

from labdiff.errors import ExportError


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
        return numbered(self.student)[1]


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
                lines.append(f"{len(names)} {what}: {', '.join(map(printable, names[:20]))}{more}.")
        return "\n".join(lines + self.remarks)


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


def exported_to(to: Path, known: list[Mark]) -> Exported:
    """What is known of an export before a mark is written."""
    return Exported(to, waiting={mark.student: mark.waiting for mark in known if mark.waiting})


def numbered(student: str) -> tuple[str, str]:
    """The name and the number in an id that `collect` made of Moodle's or Canvas's names; (id, "") of others."""
    match = re.fullmatch(r"(.*)_(\d+)", student, re.S)
    return (re.sub(r"-[0-9a-f]{8}$", "", match[1]), match[2]) if match else (student, "")


def printable(text: str) -> str:
    """A name without characters that would move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)
