"""A whole class: find what was handed in, grade it, record it, and hand the marks out."""
