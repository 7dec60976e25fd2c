"""What labdiff raises where somebody else must do something: one family, which the command line says in a sentence.

    LabdiffError
    +-- UnknownName          no lab, exercise, data set or checkpoint is called that
    +-- FileError            a file cannot be read or written
    +-- DataError            the images cannot be had
    |   +-- Unreachable      they are not here and cannot be downloaded; the offline digits can serve
    +-- DrawingError         a drawing cannot be used
    +-- CheckpointError      a checkpoint, or what an interrupted training left, cannot be used
    +-- SourceError          the source of a lab cannot be built
    +-- Unreadable           a submission cannot be graded
    +-- Malformed            bytes from a sandbox are not what the grader's own code sends
    +-- SandboxError         there is no sandbox to run a submission in
    +-- CourseError          nbgrader could not do what was asked
    +-- CollectError         no list of submissions can be made
    +-- ClusterError         the cluster cannot grade
    +-- ClassError           a class cannot be graded
    +-- ReleaseError         a lab cannot be packed
    +-- ExportError          marks cannot be written

Each message says what is wrong and what to do. Anything else that comes out is a mistake of labdiff's own, and shows
its traceback.
"""

from __future__ import annotations

import re


class LabdiffError(Exception):
    """What labdiff cannot do, and what to do about it, in a sentence."""


class UnknownName(LabdiffError):
    """No lab, exercise, data set or checkpoint is called that; the message offers the nearest names."""


class FileError(LabdiffError):
    """A file cannot be read or written."""


class DataError(LabdiffError):
    """The images cannot be had."""


class Unreachable(DataError):
    """The images are not here and cannot be downloaded; the offline digits can serve."""


class DrawingError(LabdiffError):
    """A drawing cannot be used."""


class CheckpointError(LabdiffError):
    """A checkpoint, or what an interrupted training left, cannot be used."""


class SourceError(LabdiffError):
    """The source of a lab cannot be built."""


class Unreadable(LabdiffError):
    """A submission cannot be graded; the message is a sentence for the instructor's list."""


class Malformed(LabdiffError):
    """Bytes from a sandbox are not what the grader's own code sends."""


class SandboxError(LabdiffError):
    """There is no sandbox to run a submission in."""


class CourseError(LabdiffError):
    """nbgrader could not do what was asked; the message holds its log."""

    @property
    def cause(self) -> str:
        """What the log says was raised, in one line."""
        lines = str(self).strip().splitlines()
        raised = [line for line in lines if re.match(r"\s*[\w.]+(Error|Exception|Entry): ", line)]
        return raised[-1].partition(": ")[2] if raised else lines[-1]


class CollectError(LabdiffError):
    """No list of submissions can be made."""


class ClusterError(LabdiffError):
    """The cluster cannot grade."""


class ClassError(LabdiffError):
    """A class cannot be graded."""


class ReleaseError(LabdiffError):
    """A lab cannot be packed."""


class ExportError(LabdiffError):
    """Marks cannot be written."""
