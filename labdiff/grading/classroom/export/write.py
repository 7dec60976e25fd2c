"""Each format, by the function that writes the marks of a gradebook in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook
from nbgrader.plugins import CsvExportPlugin

from labdiff.grading.classroom.export import Format
from labdiff.grading.classroom.export.canvas import to_canvas
from labdiff.grading.classroom.export.junit import to_junit
from labdiff.grading.classroom.export.marks import Exported, exported_to, marks
from labdiff.grading.classroom.export.moodle import to_moodle


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


WRITE: dict[Format, Callable[..., Exported]] = {
    Format.NBGRADER: to_nbgrader,
    Format.MOODLE: to_moodle,
    Format.CANVAS: to_canvas,
    Format.JUNIT: to_junit,
}
