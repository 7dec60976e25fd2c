"""Reports on disk, each stored under a hash of all that decides it, so that nothing is graded twice or half written."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from labdiff import exercises
from labdiff.files import PACKAGE
from labdiff.grading.report import Report
from labdiff.grading.submission.release import release_file


@dataclass(frozen=True)
class Conditions:
    """What marks depend on besides the submission. checks: see `checks_of`."""

    lab: str
    checks: str
    seed: int
    carry: bool = True
    isolation: str = "bubblewrap"

    def key(self, submission: str) -> str:
        """The name of the report of a submission, given by its hash."""
        return hash_of(json.dumps([submission, asdict(self)], sort_keys=True).encode())


def hash_of(data: bytes) -> str:
    """The hash of a submission, or of other bytes."""
    return hashlib.sha256(data).hexdigest()


@functools.cache
def checks_of(lab: str) -> str:
    """A hash of all that decides marks in a lab: its exercises, its right answers, its release, the grader."""
    earlier = exercises.LABS[: exercises.LABS.index(lab) + 1]
    files = [PACKAGE / "exercises" / f"{name}.py" for name in ("__init__", lab)]
    files += [PACKAGE / "reference" / f"{name}.py" for name in earlier]
    files += [PACKAGE / "checking" / f"{name}.py" for name in ("run", "judge", "verdict", "fingerprint", "golden")]
    files += [PACKAGE / "checking" / "golden" / f"{lab}.npz", release_file(lab)]
    files += [PACKAGE / "grading" / f"{name}.py" for name in ("grade", "sandbox/inside", "sandbox/packing")]
    files += sorted((PACKAGE / "grading" / "submission").glob("*.py"))
    return hash_of(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files))


@contextlib.contextmanager
def writing(file: Path) -> Iterator[TextIO]:
    """A file to write whole or not at all, so that not even a power cut leaves half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.partial")
    with open(temporary, "w", encoding="utf-8", newline="") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)


def write(file: Path, text: str) -> None:
    """Write a text to a file, whole or not at all."""
    with writing(file) as stream:
        stream.write(text)


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
        write(self.folder / f"{key}.json", report.to_json())
