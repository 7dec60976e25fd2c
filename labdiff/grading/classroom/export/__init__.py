"""Marks out of nbgrader's gradebook, in the files that Moodle and Canvas import, and reports as JUnit XML.

A mark is never guessed: where two students could be meant, it is left out and said.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from labdiff.errors import ExportError
from labdiff.grading.classroom.course import Course

if TYPE_CHECKING:
    from labdiff.grading.classroom.export.marks import Exported


class Format(str, Enum):
    """What marks are written for. Format("...") raises ExportError where there is none of that name."""

    NBGRADER = "nbgrader"
    MOODLE = "moodle"
    CANVAS = "canvas"
    JUNIT = "junit"

    __str__ = str.__str__

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ExportError(f"There is no format {value!r}: it is one of {', '.join(cls)}.")

    def file_of(self, lab: str) -> str:
        """The name of a file of this format, unless another is given."""
        return f"{lab}_{self}.{'xml' if self is Format.JUNIT else 'csv'}"


def export(
    course: Path | str,
    lab: str,
    format: Format | str,
    to: Path,
    roster: Path | None = None,
    column: str | None = None,
) -> Exported:
    """Write the marks of a lab to a file.

    course: nbgrader's course folder, or the URL of a gradebook (without the folder, JUnit has no hints). roster: the
    file that Moodle or Canvas gave, to be filled in. column: the title of the assignment in Canvas's file, where it is
    not found by the lab's name. Raises ExportError, and FileError where the file cannot be written.
    """
    format = Format(format)
    url, root = (str(course), None) if "://" in str(course) else (Course(Path(course)).url, Path(course))
    if root and url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise ExportError(f"There is no gradebook in {root}: grade the lab first, or give the course's folder.")
    # nbgrader takes seconds to be imported
    from nbgrader.api import Gradebook

    from labdiff.grading.classroom.export.write import WRITE

    with Gradebook(url) as gradebook:
        return WRITE[format](gradebook, lab, Path(to), roster, column, root)
