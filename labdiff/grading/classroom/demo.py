"""`labdiff demo`: grade a class of twelve example submissions of lab 1, write a feedback page, draw 64 digits."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from labdiff import exercises
from labdiff.files import EXAMPLES, NOTEBOOKS
from labdiff.grading.classroom.course import Course, Row
from labdiff.grading.sandbox.limits import Isolation

LAB = "lab1_forward"
SHOWN = "chen"  # whose results are printed in full


def demo(out: Path) -> None:
    """Do the whole job once in a folder of its own and say where the results lie.

    Needs no network and no MNIST: the offline digits serve. Raises CourseError where nbgrader fails.
    """
    from labdiff.errors import SandboxError
    from labdiff.grading.sandbox.host import check_isolation

    os.environ["LABDIFF_DATA"] = "offline"
    isolation = Isolation.BUBBLEWRAP
    try:
        check_isolation(isolation)
    except SandboxError as error:
        isolation = Isolation.NONE
        print(f"{error}\nThese examples are our own, so the demo goes on without a sandbox.\n")
    out.mkdir(parents=True, exist_ok=True)
    course = Course(out, isolation=isolation)
    course.prepare(LAB)
    students = sorted(file.stem for file in EXAMPLES.glob("*.ipynb"))
    for student in students:
        course.submit(LAB, student, EXAMPLES / f"{student}.ipynb")
    print(f"Grading {len(students)} submissions of {LAB} through nbgrader, isolation: {isolation} ...", flush=True)
    graded = {}
    for student in students:
        graded[student] = course.autograde(LAB, student)
        print(summary(student, graded[student]), flush=True)
    print(f"\n{SHOWN}'s results in full:\n\n{table(graded[SHOWN])}")
    page = course.feedback(LAB, SHOWN)
    print("\nDrawing 64 digits from checkpoints/model.ckpt ...", flush=True)
    picture = draw_digits(out / "digits.png")
    print(f"\nFeedback page   {page}\nGradebook       {out.resolve() / 'gradebook.db'}\nDigits          {picture}")
    if NOTEBOOKS.is_relative_to(Path.cwd()):
        print(f"\nTo open the labs: jupyter lab {NOTEBOOKS.relative_to(Path.cwd()) / LAB / f'{LAB}.ipynb'}")
    else:
        print(f"\nTo get a lab: labdiff release {LAB}")


def draw_digits(file: Path, n: int = 64) -> Path:
    """Draw n digits from checkpoints/model.ckpt to a picture, and return its path."""
    from labdiff.images import save_grid
    from labdiff.models import draw

    save_grid(draw(n), file, columns=16)
    return file.resolve()


def summary(student: str, rows: list[Row]) -> str:
    """One line about a submission: its marks, and what a person should know."""
    marked = [row for row in rows if row.name in exercises.lab(LAB).exercises]
    total, worth = sum(row.score or 0 for row in marked), sum(row.max_score for row in marked)
    counts = [
        (sum(row.status == "right" for row in marked), "right"),
        (sum(row.status == "wrong" for row in marked), "wrong"),
        (sum(row.status == "not done" for row in marked), "not done"),
        (sum(row.carried for row in marked), "carried forward"),
        (sum(row.status == "waits for a person" for row in rows), "for a person"),
    ]
    said = {row.hint for row in marked}
    what = ", ".join(f"{n} {kind}" for n, kind in counts if n) if len(said) > 1 or said == {""} else said.pop()
    return f"  {student:<8} {total:>5g} / {worth:<4g} {what}"


def table(rows: list[Row]) -> str:
    """The results as text: exercise, marks, status, and the hint below where there is one."""
    lines = []
    for row in rows:
        score = "-" if row.score is None or row.status == "waits for a person" else f"{row.score:g}"
        lines.append(f"{row.name:<24} {score:>5} / {row.max_score:<4g} {row.status}")
        lines += textwrap.wrap(row.hint, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
    total, worth = sum(row.score or 0 for row in rows), sum(row.max_score for row in rows)
    lines.append(f"{'total':<24} {total:>5g} / {worth:<4g}")
    return "\n".join(lines)
