"""nbgrader on this folder, graded by labdiff."""

from labdiff.grading.doors import settings as nbgrader_settings

c = nbgrader_settings.apply(get_config())  # noqa: F821

# c.CourseDirectory.db_url = "postgresql+psycopg://user:password@host/gradebook"  # for several instructors at once
# c.GradeInSandbox.carry = False  # no marks for right work that relies on a wrong answer above it
# c.GradeInSandbox.seed = 1  # repeats a run exactly; each result holds the seed it was made with
# c.LateSubmissionPlugin.penalty_method = "zero"  # or AssignLatePenalties.plugin_class = "yours.Plugin"
