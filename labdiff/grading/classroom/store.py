"""Reports on disk, each stored under a hash of all that decides it, so that nothing is graded twice or half written."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from labdiff import files, manifest
from labdiff.grading.report import Report
from labdiff.grading.sandbox.limits import Isolation, Limits

STAMP = "recorded.json"  # beside the graded notebook: which report nbgrader has recorded


@dataclass(frozen=True)
class Conditions:
    """What marks depend on besides the submission. checks: see `checks_of`."""

    lab: str
    checks: str
    seed: int
    carry: bool = True
    isolation: Isolation = Isolation.BUBBLEWRAP

    def key(self, submission: str) -> str:
        """The name of the report of a submission, given by its hash."""
        return hash_of(json.dumps([submission, asdict(self)], sort_keys=True).encode())


def hash_of(data: bytes) -> str:
    """The hash of a submission, or of other bytes."""
    return hashlib.sha256(data).hexdigest()


@functools.cache
def checks_of(lab: str) -> str:
    """A hash of all that decides marks in a lab: its exercises, answers and release, the grader, and the limits.

    Raises UnknownName where there is no such lab.
    """
    # here, since they need torch and nbformat
    from labdiff.checking import golden
    from labdiff.grading.submission.release import release_file

    decisive = manifest.of_sandbox(lab).files | manifest.of_grader(lab).files
    decisive |= {"golden": golden.path(lab), "release": release_file(lab)}
    made_of = {place: hash_of(file.read_bytes()) for place, file in decisive.items()}
    return hash_of(json.dumps([made_of, asdict(Limits())], sort_keys=True).encode())


class Reports:
    """The reports in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def get(self, key: str) -> Report | None:
        """The report of that name; None where there is none that can be read."""
        try:
            return Report.from_json((self.folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, report: Report) -> None:
        """Keep a report."""
        files.write(self.folder / f"{key}.json", report.to_json())


@dataclass
class Recorded:
    """What the gradebook holds of a student: the submission's hash, its report's name, where it came from."""

    submission: str = ""
    key: str = ""
    origin: str = ""


def recorded(root: Path, lab: str, student: str) -> Recorded:
    """What a course's folder says has been recorded of a student by `grade_class`."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        stamp = root / "autograded" / student / lab / STAMP
        return Recorded(**json.loads(stamp.read_text(encoding="utf-8")))
    return Recorded()
