"""How nbgrader is set up for these labs; nbgrader_config.py at the top of a course's folder calls `apply`."""

from __future__ import annotations

from typing import Any


def apply(c: Any) -> Any:
    """Set nbgrader's configuration up and return it: solutions/ is what authors write, notebooks/ what students get.

    Submissions are graded in a sandbox by labdiff; nbgrader keeps the gradebook, the formgrader and the feedback.
    """
    c.CourseDirectory.course_id = "labdiff"
    c.CourseDirectory.source_directory = "solutions"
    c.CourseDirectory.release_directory = "notebooks"
    c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "*.py", "recorded.json"]
    c.ClearSolutions.code_stub = {"python": "raise NotImplementedError  # your code here"}
    c.ClearSolutions.text_stub = "*Your answer here.*"
    c.Autograde.exporter_class = "labdiff.grading.doors.nbgrader.MendedExporter"
    c.Autograde.pre_convert_hook = "labdiff.grading.doors.nbgrader.find_renamed"
    c.Autograde.autograde_preprocessors = [
        "labdiff.grading.doors.nbgrader.GradeInSandbox",  # in place of nbgrader.preprocessors.Execute
        "nbgrader.preprocessors.IgnorePattern",
        "nbconvert.preprocessors.ClearMetadataPreprocessor",
        "nbgrader.preprocessors.LimitOutput",
        "nbgrader.preprocessors.SaveAutoGrades",
        "nbgrader.preprocessors.AssignLatePenalties",
        "labdiff.grading.doors.nbgrader.CheckOtherCells",
    ]
    c.Autograde.sanitize_preprocessors = [
        "nbgrader.preprocessors.ClearOutput",
        "nbgrader.preprocessors.DeduplicateIds",
        "nbgrader.preprocessors.OverwriteKernelspec",
        "nbgrader.preprocessors.OverwriteCells",
        "labdiff.grading.doors.nbgrader.CheckOtherCells",
    ]
    return c
