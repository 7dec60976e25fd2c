"""Marks out of nbgrader's gradebook, in the files that Moodle and Canvas import, and reports as JUnit XML.

A mark is never guessed: where two students could be meant, it is left out and said.

nbgrader's own command does the same:
`nbgrader export --exporter=labdiff.grading.classroom.export.MoodleExport --to FILE`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook
from nbgrader.plugins import CsvExportPlugin, ExportPlugin
from traitlets import Unicode

from labdiff.errors import ExportError
from labdiff.grading.classroom.course import Course
from labdiff.grading.classroom.export.canvas import to_canvas
from labdiff.grading.classroom.export.junit import to_junit
from labdiff.grading.classroom.export.marks import Exported, exported_to, marks
from labdiff.grading.classroom.export.moodle import to_moodle


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


def to_nbgrader(gradebook: Gradebook, lab: str, to: Path, *_: Any) -> Exported:
    """nbgrader's own table, as its CsvExportPlugin writes it."""
    known = marks(gradebook, lab)
    CsvExportPlugin(to=str(to), assignment=[lab]).export(gradebook)
    done = exported_to(to, known)
    done.without_marks = [mark.student for mark in known if mark.score is None]
    done.filled = len(known) - len(done.without_marks)
    if done.without_marks:
        done.remarks.append("nbgrader writes 0 for who has no mark.")
    return done


FORMATS: dict[str, Callable[..., Exported]] = {
    "nbgrader": to_nbgrader,
    "moodle": to_moodle,
    "canvas": to_canvas,
    "junit": to_junit,
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
