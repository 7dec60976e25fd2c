"""pytest's front door: `pytest path/to/submission.ipynb` makes a test of each exercise of a lab.

Only files that are named on the command line are taken, and of these only labs. The whole
notebook is graded at the first of its tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from labdiff.grading.report import Report, Result


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the grader."""
    group = parser.getgroup("labdiff", "grading of labdiff notebooks")
    group.addoption("--labdiff-seed", type=int, help="the seed of the hidden inputs; drawn unless given")
    group.addoption(
        "--labdiff-isolation",
        default="bubblewrap",
        choices=["bubblewrap", "none"],
        help='"none" runs submissions with your own rights',
    )
    group.addoption("--labdiff-no-carry", action="store_true", help="no marks for right work on a wrong answer")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take a notebook that was named on the command line, where it is a lab."""
    if file_path.suffix != ".ipynb":
        return None
    named = {(parent.config.invocation_params.dir / str(word).split("::")[0]).resolve() for word in parent.config.args}
    if file_path.resolve() not in named:
        return None
    try:
        from labdiff.errors import Unreadable
        from labdiff.grading.submission.read import read_cells
        from labdiff.grading.submission.release import lab_of
    except ImportError:  # labdiff[grading] is not installed here
        return None
    try:
        lab = lab_of(read_cells(file_path))
    except Unreadable:
        return None
    return Notebook.from_parent(parent, path=file_path, lab=lab)


class Notebook(pytest.File):
    """A submission."""

    def __init__(self, *, lab: str, **options: Any):
        super().__init__(**options)
        self.lab = lab
        self._report: Report | None = None

    def collect(self) -> Iterator[pytest.Item]:
        """One test for each exercise of the lab, in its order."""
        from labdiff.grading.submission.release import released

        for name in released(self.lab).order:
            yield Exercise.from_parent(self, name=name)

    @property
    def report(self) -> Report:
        """The report on the whole notebook, made once."""
        from labdiff.grading.grade import grade

        if self._report is None:
            option = self.config.getoption
            self._report = grade(
                self.path,
                self.lab,
                seed=option("--labdiff-seed"),
                isolation=option("--labdiff-isolation"),
                carry=not option("--labdiff-no-carry"),
            )
        return self._report


class NotRight(Exception):
    """An exercise that did not earn all its marks; the message is what the student reads."""


class Exercise(pytest.Item):
    """One exercise of a submission; it passes with full marks."""

    parent: Notebook

    def runtest(self) -> None:
        """Look the result up. Raises NotRight with the marks and the hint."""
        report = self.parent.report
        result = next(result for result in report.exercises if result.name == self.name)
        for name in ("score", "max_score", "own_score", "status"):
            self.user_properties.append((name, getattr(result, name)))
        self.user_properties.append(("seed", report.seed))
        if result.score < result.max_score:
            raise NotRight(as_text(result))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """What the student reads."""
        return str(excinfo.value) if isinstance(excinfo.value, NotRight) else str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where the test comes from."""
        return self.path, None, f"{self.parent.lab}: {self.name}"


def as_text(result: Result) -> str:
    """A result for a terminal."""
    lines = [f"{result.name}: {result.status}, {result.score:g} of {result.max_score:g} points"]
    lines += [f"  {part.name}: {part.message}" for part in result.parts if not part.passed]
    return "\n".join([*lines, f"  {result.hint}"] if result.hint else lines)
