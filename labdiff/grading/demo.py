"""`labdiff demo`: grade an example submission of lab 1, write its feedback, draw 64 digits."""

from __future__ import annotations

import os
import shutil
import textwrap
from pathlib import Path

from labdiff.grading.course import ROOT, Course, Row

LAB, STUDENT = "lab1_forward", "ada"
EXAMPLE = Path(__file__).parent / "example_submission.ipynb"


def demo(out: Path) -> None:
    """Do the whole job once in a folder of its own and say where the results lie.

    Needs no network and no MNIST: the offline digits serve. Raises CourseError where nbgrader fails.
    """
    os.environ["LABDIFF_DATA"] = "offline"
    out.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "solutions" / LAB, out / "solutions" / LAB, dirs_exist_ok=True)
    course = Course(out)
    print(f"Releasing {LAB} and grading {STUDENT}'s submission through nbgrader ...", flush=True)
    course.release(LAB)
    course.submit(LAB, STUDENT, EXAMPLE)
    rows = course.autograde(LAB, STUDENT)
    print(table(rows))
    page = course.feedback(LAB, STUDENT)
    print("\nDrawing 64 digits from checkpoints/model.ckpt ...", flush=True)
    picture = draw_digits(out / "digits.png")
    print(f"\nFeedback page   {page}\nGradebook       {out.resolve() / 'gradebook.db'}\nDigits          {picture}")
    print(f"\nTo open the labs: jupyter lab {Path('notebooks') / LAB / (LAB + '.ipynb')}")


def draw_digits(file: Path, n: int = 64) -> Path:
    """Draw n digits from checkpoints/model.ckpt to a picture, and return its path."""
    from labdiff.checkpoints import draw
    from labdiff.train import save_grid

    save_grid(draw(n), file, columns=16)
    return file.resolve()


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
