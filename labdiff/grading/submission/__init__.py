"""From what came in to a program that can be graded."""
