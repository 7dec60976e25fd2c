"""The formats as exporters of nbgrader's own command.

`nbgrader export --exporter=labdiff.grading.classroom.export.plugins.MoodleExport --to FILE`.
"""

from __future__ import annotations

from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.plugins import ExportPlugin
from traitlets import Unicode

from labdiff.errors import ExportError
from labdiff.grading.classroom.export import Format
from labdiff.grading.classroom.export.write import WRITE


class _Export(ExportPlugin):
    """What the exporters share: one lab, a file, and everything that was left out on the log."""

    roster = Unicode("", help="The file that the platform gave, to be filled in.").tag(config=True)
    column = Unicode("", help="The title of the assignment in Canvas's file.").tag(config=True)
    format: Format

    def export(self, gradebook: Gradebook) -> None:
        """Write the marks of one assignment. Raises ExportError."""
        if self.student:
            raise ExportError("This exporter writes the whole class: leave --student out.")
        labs = [str(lab) for lab in self.assignment] or [assignment.name for assignment in gradebook.assignments]
        if len(labs) != 1:
            raise ExportError(f"One assignment fits in a file, and there are {len(labs)}: name it with --assignment.")
        to = Path(self.to or self.format.file_of(labs[0]))
        coursedir = getattr(self.parent, "coursedir", None)
        root = Path(coursedir.root) if coursedir else None
        roster = Path(self.roster) if self.roster else None
        done = WRITE[self.format](gradebook, labs[0], to, roster, self.column or None, root)
        self.log.warning(done.as_text())


class MoodleExport(_Export):
    """Moodle's grading worksheet."""

    format = Format.MOODLE


class CanvasExport(_Export):
    """The CSV file of Canvas's gradebook."""

    format = Format.CANVAS


class JUnitExport(_Export):
    """JUnit XML, for CI services."""

    format = Format.JUNIT
