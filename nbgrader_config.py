"""nbgrader on this repository: solutions/ is what authors write, notebooks/ is what students get.

Submissions are graded in a sandbox by labdiff; nbgrader keeps the gradebook, the formgrader and the feedback.
"""

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "labdiff"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "notebooks"
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "*.py"]
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError  # your code here"}
c.ClearSolutions.text_stub = "*Your answer here.*"

c.Autograde.exporter_class = "labdiff.grading.preprocessors.MendedExporter"
c.Autograde.pre_convert_hook = "labdiff.grading.preprocessors.find_renamed"
c.Autograde.autograde_preprocessors = [
    "labdiff.grading.preprocessors.GradeInSandbox",  # in place of nbgrader.preprocessors.Execute
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
# c.GradeInSandbox.carry = False  # no marks for right work that relies on a wrong answer above it
# c.GradeInSandbox.seed = 1  # repeats a run exactly; each result holds the seed it was made with
