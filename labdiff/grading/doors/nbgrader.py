"""nbgrader's front door: `nbgrader autograde` grades with `grade`, through nbgrader_config.py.

`MendedExporter` reads what was submitted, `GradeInSandbox` takes the place of nbgrader's
Execute. The marks and the messages end up in the check cells, where nbgrader looks for
them, so gradebook, formgrader, feedback and export work as ever.
"""

from __future__ import annotations

import copy
import os
import shutil
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.converters import NbGraderException
from nbgrader.preprocessors import CheckCellMetadata, Execute
from traitlets import Bool, Enum, Integer

from labdiff import exercises
from labdiff.checking.notebook import as_html
from labdiff.checking.verdict import MIME, Verdict
from labdiff.errors import FileError, SandboxError, Unreadable
from labdiff.exercises.names import LABS
from labdiff.grading.grade import grade, new_seed, ungraded
from labdiff.grading.report import CARRIED, Report, Result
from labdiff.grading.sandbox.limits import Isolation
from labdiff.grading.submission.mend import mend
from labdiff.grading.submission.read import read_cells
from labdiff.grading.submission.release import lab_of, released
from labdiff.grading.submission.restore import restore

PROBLEM = "labdiff_problem"  # in a mended notebook's metadata: why the submission could not be graded
run_seed = new_seed()  # one for all submissions of one run of nbgrader
ready: dict[tuple[str, str], Report] = {}  # (lab, student) -> the report, where it has been graded already


class MendedExporter(NotebookExporter):
    """Reads a submission of a lab however it is encoded and whatever was lost, in place of nbformat's reader."""

    def from_filename(
        self, filename: str, resources: dict[str, Any] | None = None, **options: Any
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """The mended notebook of a submission, or the untouched release with the reason where it cannot be graded."""
        lab = (resources or {}).get("nbgrader", {}).get("notebook")
        # nbgrader comes here twice: with what was submitted, then with what it wrote itself
        if lab not in LABS or not getattr(self.parent, "_sanitizing", False):
            return super().from_filename(filename, resources=resources, **options)
        asked = exercises.lab(lab)
        for each in Path(filename).parent.rglob("*"):
            if not stat.S_ISREG(mode := os.lstat(each).st_mode) and not stat.S_ISDIR(mode):
                # nbgrader copies what a link leads to into autograded/ and feedback/
                raise NbGraderException(f"{each.name} is a link or no file: take it away and run the command again.")
        try:
            notebook = restore(mend(read_cells(filename), asked), asked)
        except Unreadable as error:
            self.log.error("%s cannot be graded: %s", filename, error)
            notebook = copy.deepcopy(released(lab).notebook)
            notebook.metadata[PROBLEM] = str(error)
        return self.from_notebook_node(notebook, resources=resources, **options)


class CheckOtherCells(CheckCellMetadata):
    """Checks the metadata of notebooks that are no labs; those of labs `restore` has just written."""

    def preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """Raises ValidationError where another notebook's metadata is not nbgrader's."""
        if resources["nbgrader"]["notebook"] in LABS:
            return nb, resources
        return super().preprocess(nb, resources)


class GradeInSandbox(Execute):
    """Grades a lab in the sandbox and writes marks and messages into its check cells; other notebooks are executed."""

    seed = Integer(None, allow_none=True, help="The seed of the hidden inputs; drawn for each run unless given.").tag(
        config=True
    )
    carry = Bool(True, help="Whether right work on a wrong answer above it earns its marks.").tag(config=True)
    isolation = Enum(
        [each.value for each in Isolation], "bubblewrap", help='"none" runs submissions with your own rights.'
    ).tag(config=True)

    def preprocess(
        self, nb: NotebookNode, resources: dict[str, Any], **options: Any
    ) -> tuple[NotebookNode, dict[str, Any]]:
        """Grade one submission. Raises NbGraderException where there is no sandbox."""
        lab = resources["nbgrader"]["notebook"]
        if lab not in LABS:
            return super().preprocess(nb, resources, **options)
        seed = run_seed if self.seed is None else self.seed
        student, problem = resources["nbgrader"]["student"], nb.metadata.get(PROBLEM)
        isolation = Isolation(self.isolation)
        if (lab, student) in ready:
            write_verdicts(ready[lab, student], nb)
            return nb, resources
        try:
            if problem:
                report = ungraded(lab, seed, isolation, problem)
            else:
                report = grade(nb, lab, seed=seed, isolation=isolation, carry=self.carry)
        except (SandboxError, FileError) as error:
            raise NbGraderException(str(error)) from error
        if report.problem:
            self.log.error("%s of %s: %s", lab, student, report.problem)
        write_verdicts(report, nb)
        return nb, resources


def write_verdicts(report: Report, notebook: NotebookNode) -> None:
    """Write a report into the check cells of a mended notebook, as nbgrader reads marks."""
    results = {f"check-{result.name}": result for result in report.exercises}
    for cell in notebook.cells:
        result = results.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if result:
            shown = {
                "text/plain": f"{result.score:g}",  # what nbgrader takes for the marks
                "text/html": page(result),
                MIME: asdict(result) | {"seed": report.seed, "isolation": report.isolation},
            }
            cell.outputs = [new_output("execute_result", shown, execution_count=1)]
            cell.execution_count = 1


def page(result: Result) -> str:
    """A result as HTML, as the student saw verdicts in the notebook."""
    verdict = Verdict(result.name, result.status, result.score, result.max_score, result.parts, result.hint)
    notes = []
    if result.basis == CARRIED:
        replaced = " and ".join(result.replaced)
        notes.append(
            f"By itself it earns {result.own_score:g}; tried with the right {replaced} it earns {result.score:g} "
            f"({CARRIED})."
        )
    return as_html(verdict, notes)


def find_renamed(assignment: str, student: str, notebooks: list[str]) -> None:
    """Before nbgrader looks for a lab by its file name: put a renamed submission there too."""
    names = {Path(file).stem for file in notebooks}
    if assignment not in LABS or assignment in names:
        return
    for file in list(notebooks):
        try:
            if lab_of(read_cells(file)) == assignment:
                wanted = Path(file).with_name(f"{assignment}.ipynb")
                shutil.copyfile(file, wanted)
                notebooks.append(str(wanted))
                return
        except Unreadable:
            continue
