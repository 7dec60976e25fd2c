"""Feedback pages of a whole class, and the zip that hands them back."""

from __future__ import annotations

import functools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tqdm import tqdm

from labdiff import files
from labdiff.errors import CourseError
from labdiff.grading.classroom.course import Course
from labdiff.grading.classroom.store import recorded


def write_feedback(course: Course, lab: str, zipped: Path | None = None) -> list[str]:
    """Write feedback/<student>/<lab>/<lab>.html for everybody who was graded, by nbgrader, on all cores.

    zipped: a zip to write them to as well, as Moodle takes feedback back; for submissions that
    did not come from Moodle, a folder for each student. Returns the students whom Moodle will
    not find. Raises CourseError where nobody was graded, or nbgrader fails.
    """
    students = course.graded(lab)
    if not students:
        raise CourseError(f"Nobody was graded in {lab} yet: run `labdiff grade {lab} --submitted DIR` first.")
    pages = {}
    processes = min(len(students), os.cpu_count() or 1)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = pool.map(functools.partial(_page, course.root, lab), students)
        for student, page in tqdm(done, total=len(students), unit="page", dynamic_ncols=True):
            if isinstance(page, str):
                tqdm.write(f"  {student:<20} no page: {page}")
            else:
                pages[student] = page
    if zipped is None:
        return []
    from labdiff.grading.classroom.export.moodle import moodle_feedback_zip  # here, since it needs nbgrader

    found = ((recorded(course.root, lab, student).origin, student, page) for student, page in pages.items())
    with files.writing(zipped) as file:
        return moodle_feedback_zip(found, file)


@functools.cache
def _course(root: Path) -> Course:
    return Course(root)


def _page(root: Path, lab: str, student: str) -> tuple[str, Path | str]:
    try:
        return student, _course(root).feedback(lab, student)
    except CourseError as error:  # one page stops no other
        return student, error.cause
