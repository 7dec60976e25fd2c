"""The instructor's side: grading submissions."""
