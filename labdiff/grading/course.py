"""A course folder of nbgrader: release a lab, grade what was submitted in the sandbox, write feedback."""

from __future__ import annotations

import contextlib
import logging
import os
import runpy
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from labdiff.checking.notebook import MIME
from labdiff.grading.report import CARRIED

ROOT = Path(__file__).resolve().parents[2]


class CourseError(Exception):
    """nbgrader could not do what was asked; the message holds its log."""


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
    """nbgrader on one folder, with an SQLite gradebook in it, as nbgrader_config.py sets it up.

    root: the folder; solutions/ and notebooks/, submitted/, autograded/ and feedback/ lie in it.
    isolation: see `grade`. seed: of the hidden inputs; drawn for each run unless given. stock: execute
    submissions as nbgrader itself does, with the rights of whoever grades them, to compare with it.
    """

    def __init__(self, root: Path, isolation: str = "bubblewrap", seed: int | None = None, stock: bool = False):
        from nbgrader.apps import NbGraderAPI

        logging.getLogger("traitlets").setLevel(logging.ERROR)
        self.root = root.resolve()
        config = settings()
        config.CourseDirectory.root = str(self.root)
        config.CourseDirectory.db_url = f"sqlite:///{self.root / 'gradebook.db'}"
        config.GradeInSandbox.isolation = isolation
        config.GradeInSandbox.seed = seed
        if stock:
            del config["Autograde"]
            config.Execute.timeout = 600  # seconds per cell; nbgrader gives 30, and lab 4 draws digits by the hundred
        with on_path():
            self.api = NbGraderAPI(config=config)
        self.api.log.setLevel(logging.ERROR)

    def release(self, lab: str) -> Path:
        """Make the student's notebook from solutions/<lab>/<lab>.ipynb, and return it."""
        self._do("generate_assignment", lab, force=True, create=True)
        return self.root / "notebooks" / lab / f"{lab}.ipynb"

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
        graded = nbformat.read(self.root / "autograded" / student / lab / f"{lab}.ipynb", as_version=4)
        with self.api.gradebook as gradebook:
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


def settings() -> Any:
    """The configuration that nbgrader_config.py at the top of the repository holds."""
    from traitlets.config import Config

    config = Config()
    runpy.run_path(str(ROOT / "nbgrader_config.py"), init_globals={"get_config": lambda: config})
    return config


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
            return output["data"][MIME]
    return {}


def _why(verdict: dict[str, Any]) -> str:
    if verdict.get("hint"):
        return verdict["hint"]
    failed = [part for part in verdict.get("parts", []) if not part["passed"]]
    return f"{failed[0]['name']}: {failed[0]['message']}" if failed else ""
