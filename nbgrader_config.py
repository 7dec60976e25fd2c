"""nbgrader on this repository: solutions/ is what authors write, notebooks/ is what students get."""

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "labdiff"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "notebooks"
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "*.py"]
c.Execute.timeout = 600  # seconds per cell; nbgrader gives 30, and lab 4 draws digits by the hundred
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError  # your code here"}
c.ClearSolutions.text_stub = "*Your answer here.*"
