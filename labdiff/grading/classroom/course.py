"""A course folder of nbgrader: release a lab, grade what was submitted in the sandbox, write feedback."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import runpy
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labdiff.checking.verdict import MIME
from labdiff.errors import CourseError
from labdiff.grading.doors import settings as labdiff_settings
from labdiff.grading.report import CARRIED, Report
from labdiff.grading.sandbox.limits import Isolation


@dataclass
class Row:
    """One line of a submission's results: an exercise or a written question."""

    name: str
    score: float | None
    max_score: float
    status: str
    hint: str
    carried: bool = False


class Course:
    """nbgrader on one folder, as its nbgrader_config.py sets it up; the gradebook is SQLite unless that says else.

    root: the folder; submitted/, autograded/, feedback/ and reports/ lie in it, and solutions/ where the source is.
    isolation: see `grade`. seed: of the hidden inputs; drawn for each run unless given.
    """

    def __init__(self, root: Path, isolation: Isolation = Isolation.BUBBLEWRAP, seed: int | None = None):
        self.root = root.resolve()
        config = self.config = settings(self.root)
        config.CourseDirectory.root = str(self.root)
        config.GradeInSandbox.isolation = isolation.value
        config.GradeInSandbox.seed = seed
        used = config.Autograde.autograde_preprocessors if "autograde_preprocessors" in config.Autograde else []
        if not any("GradeInSandbox" in str(each) for each in used):
            raise CourseError(
                f"{self.root / 'nbgrader_config.py'} does not switch labdiff's grader on, so nbgrader would run "
                "submissions with your own rights: call labdiff.grading.doors.settings.apply(c) in it."
            )

    @functools.cached_property
    def api(self) -> Any:
        """nbgrader's own interface. It takes seconds to be imported, so whoever can do without does."""
        from nbgrader.apps import NbGraderAPI

        logging.getLogger("traitlets").setLevel(logging.ERROR)
        with on_path():
            api = NbGraderAPI(config=self.config)
        api.log.setLevel(logging.ERROR)
        return api

    @property
    def url(self) -> str:
        """The gradebook's address, as SQLAlchemy takes it."""
        directory = self.config.CourseDirectory
        return str(directory.db_url) if "db_url" in directory else f"sqlite:///{self.root / 'gradebook.db'}"

    @contextlib.contextmanager
    def gradebook(self) -> Iterator[Any]:
        """nbgrader's Gradebook, open. Raises CourseError where it cannot be opened."""
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with on_path(), self.api.gradebook as gradebook:
                yield gradebook
        except (SQLAlchemyError, ImportError) as error:
            what = str(error).splitlines()[0][:200]
            raise CourseError(f"The gradebook {make_url(self.url)!r} cannot be opened: {what}") from error

    def release(self, lab: str) -> Path:
        """Make the student's notebook from solutions/<lab>/<lab>.ipynb, and return it."""
        self._do("generate_assignment", lab, force=True, create=True)
        return self.root / "notebooks" / lab / f"{lab}.ipynb"

    def prepare(self, lab: str) -> None:
        """Enter a lab into the gradebook, as `nbgrader generate_assignment` does, unless it is there already."""
        from nbgrader.api import InvalidEntry

        try:
            _patiently(lambda: self._enter(lab), InvalidEntry, CourseError)
        except InvalidEntry as error:
            raise CourseError(str(error)) from error
        except RuntimeError as error:
            raise CourseError(
                f"The gradebook holds submissions of another release of {lab}, with other exercises: "
                "grade this one in a folder of its own."
            ) from error

    def _enter(self, lab: str) -> None:
        from nbgrader.api import MissingEntry
        from nbgrader.preprocessors import SaveCells

        from labdiff.grading.submission.release import released

        notebook = released(lab).notebook
        marked = {cell.metadata.nbgrader.grade_id for cell in notebook.cells if "nbgrader" in cell.metadata}
        with self.gradebook() as gradebook:
            with contextlib.suppress(MissingEntry):
                # an earlier run may have ended in the middle of this
                if {cell.name for cell in gradebook.find_notebook(lab, lab).source_cells} == marked:
                    return
            gradebook.update_or_create_assignment(lab)
        SaveCells().preprocess(notebook, {"nbgrader": {"assignment": lab, "notebook": lab, "db_url": self.url}})

    def students(self, lab: str) -> set[str]:
        """The students who have a submission of a lab in the gradebook."""
        from nbgrader.api import Assignment, Student, SubmittedAssignment

        with self.gradebook() as gradebook:
            found = gradebook.db.query(Student.id).join(SubmittedAssignment).join(Assignment)
            return {student for (student,) in found.filter(Assignment.name == lab)}

    def waiting(self, lab: str) -> int:
        """How many answers to a lab's questions wait for a person's marks."""
        from nbgrader.api import Assignment, Grade, SubmittedAssignment, SubmittedNotebook

        with self.gradebook() as gradebook:
            grades = gradebook.db.query(Grade).join(SubmittedNotebook, Grade.notebook_id == SubmittedNotebook.id)
            grades = grades.join(SubmittedAssignment, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
            grades = grades.join(Assignment, SubmittedAssignment.assignment_id == Assignment.id)
            count: int = grades.filter(Assignment.name == lab, Grade.needs_manual_grade).count()
        return count

    def record(self, lab: str, student: str, report: Report) -> None:
        """Write a submission's report into the gradebook and autograded/. Raises CourseError where nbgrader fails."""
        from labdiff.grading.doors.nbgrader import ready

        ready[lab, student] = report
        try:
            _patiently(lambda: self._do("autograde", lab, student, force=True, create=True), CourseError)
        finally:
            del ready[lab, student]

    def submit(self, lab: str, student: str, notebook: Path) -> None:
        """Put a notebook where nbgrader looks for a student's submission."""
        place = self.root / "submitted" / student / lab / f"{lab}.ipynb"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(notebook, place)

    def autograde(self, lab: str, student: str) -> list[Row]:
        """Grade a submission and return its results in the notebook's order."""
        self._do("autograde", lab, student, force=True, create=True)
        return self.results(lab, student)

    def results(self, lab: str, student: str) -> list[Row]:
        """The gradebook's marks of a graded submission, with the status and the hint of each."""
        import nbformat

        graded = nbformat.read(self.root / "autograded" / student / lab / f"{lab}.ipynb", as_version=4)
        with self.gradebook() as gradebook:
            submission = gradebook.find_submission_notebook(lab, lab, student)
            grades = {g.name: (g.score, g.max_score, g.needs_manual_grade) for g in submission.grades}
        rows = []
        for cell in graded.cells:
            name = cell.metadata.get("nbgrader", {}).get("grade_id")
            if name in grades:
                score, worth, manual = grades[name]
                said = _verdict(cell)
                status = "waits for a person" if manual else said.get("status", "marked")
                carried = said.get("basis") == CARRIED
                rows.append(Row(name.removeprefix("check-"), score, worth, status, _why(said), carried))
        return rows

    def graded(self, lab: str) -> list[str]:
        """The students who have a graded notebook of a lab here, sorted."""
        return sorted(file.parents[1].name for file in self.root.glob(f"autograded/*/{lab}/{lab}.ipynb"))

    def feedback(self, lab: str, student: str) -> Path:
        """Write the feedback page of a graded submission, and return it."""
        self._do("generate_feedback", lab, student, force=True)
        return self.root / "feedback" / student / lab / f"{lab}.html"

    def _do(self, verb: str, *arguments: str, **options: Any) -> None:
        with on_path(), warnings.catch_warnings():
            # nbgrader's own use of SQLAlchemy warns on every submission; nothing a reader could act on
            warnings.filterwarnings("ignore", message="Object of type", module="nbgrader")
            done = getattr(self.api, verb)(*arguments, **options)
        if not done["success"]:
            raise CourseError(f"nbgrader {verb} {' '.join(arguments)} failed:\n{done.get('log') or done.get('error')}")


def _patiently(do: Callable[[], None], *errors: type[Exception]) -> None:
    """Do something in the gradebook, and try again twice: another instructor may be writing to the same rows."""
    for _ in range(2):
        try:
            return do()
        except errors:
            time.sleep(random.uniform(0.2, 1))
    return do()


def settings(root: Path) -> Any:
    """The configuration of nbgrader in a folder: what its nbgrader_config.py says, or what the labs need."""
    from traitlets.config import Config

    config = Config()
    file = root / "nbgrader_config.py"
    if file.exists():
        runpy.run_path(str(file), init_globals={"get_config": lambda: config})
        return config
    return labdiff_settings.apply(config)


def on_path() -> contextlib.AbstractContextManager[None]:
    """Put this environment's programs on PATH: nbgrader calls alembic by name."""
    return _environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _verdict(cell: Any) -> dict[str, Any]:
    for output in cell.get("outputs", []):
        if MIME in output.get("data", {}):
            said: dict[str, Any] = output["data"][MIME]
            return said
    return {}


def _why(verdict: dict[str, Any]) -> str:
    hint: str = verdict.get("hint", "")
    if hint:
        return hint
    failed = [part for part in verdict.get("parts", []) if not part["passed"]]
    return f"{failed[0]['name']}: {failed[0]['message']}" if failed else ""
