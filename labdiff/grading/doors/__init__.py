"""The front doors of `grade` that belong to other programs: nbgrader and pytest."""
