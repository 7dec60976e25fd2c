"""Reports as JUnit XML: a testsuite for each student, a testcase for each exercise."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from nbgrader.api import Gradebook

from labdiff.checking.verdict import MIME, RIGHT, WRONG, Part, Status
from labdiff.grading.classroom.export.marks import Exported, exported_to, marks
from labdiff.grading.report import CARRIED, Result

Graded = tuple[str, list[Result], list[str]]  # a student, the results, and the questions that wait for a person


def junit(lab: str, graded: Iterable[Graded], to: Path) -> int:
    """Write one JUnit XML file for a class: a testsuite for each student, a testcase for each exercise.

    An exercise that is not right fails, with its marks and its hint as the message; a question in words is
    skipped. Students are taken one by one, so a large class needs no more memory. Returns their number.
    """
    count = 0
    to.parent.mkdir(parents=True, exist_ok=True)
    with open(to, "wb") as file:
        file.write(b"<?xml version='1.0' encoding='utf-8'?>\n<testsuites name=\"labdiff\">\n")
        for each in graded:
            file.write(ElementTree.tostring(_suite(lab, *each), encoding="utf-8", xml_declaration=False) + b"\n")
            count += 1
        file.write(b"</testsuites>\n")
    return count


def _suite(lab: str, student: str, results: list[Result], questions: list[str]) -> ElementTree.Element:
    suite = _element(
        None,
        "testsuite",
        name=student,
        tests=len(results) + len(questions),
        failures=sum(result.status != RIGHT for result in results),
        errors=0,
        skipped=len(questions),
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        about = {"classname": f"{lab}.{student}", "name": result.name, "time": f"{result.seconds:.3f}"}
        case = _element(suite, "testcase", **about)
        if result.status != RIGHT:
            carried = f", {CARRIED}" if result.basis == CARRIED else ""
            earned = f"{result.score:g} of {result.max_score:g} marks{carried}"
            _element(case, "failure", message=f"{earned}: {_why(result)}", type=result.status)
    for question in questions:
        case = _element(suite, "testcase", classname=f"{lab}.{student}", name=question, time="0")
        _element(case, "skipped", message="waits for a person")
    return suite


def _why(result: Result) -> str:
    if result.hint:
        return result.hint
    failed = [part for part in result.parts if not part.passed]
    return f"{failed[0].name}: {failed[0].message}" if failed else result.status


def _element(parent: ElementTree.Element | None, tag: str, **attributes: Any) -> ElementTree.Element:
    """An element whose texts hold only what XML 1.0 allows; the rest becomes the replacement character."""
    said = {
        key: re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(value))
        for key, value in attributes.items()
    }
    return ElementTree.Element(tag, said) if parent is None else ElementTree.SubElement(parent, tag, said)


def to_junit(gradebook: Gradebook, lab: str, to: Path, roster: Any, column: Any, root: Path | None) -> Exported:
    """JUnit XML of a class, with the hints where `root`, the course's folder, is known."""
    known = marks(gradebook, lab)
    done = exported_to(to, known)
    done.without_marks = [mark.student for mark in known if mark.score is None]
    graded = (mark.student for mark in known if mark.score is not None)
    done.filled = junit(lab, ((student, *_results(gradebook, lab, student, root)) for student in graded), to)
    return done


def _results(gradebook: Gradebook, lab: str, student: str, root: Path | None) -> tuple[list[Result], list[str]]:
    """What a student earned and what waits, from the gradebook and, for the hints, from what the grader left behind."""
    said = _left_behind(root / "autograded" / student / lab / f"{lab}.ipynb") if root else {}
    results, questions = [], []
    for grade in gradebook.find_submission_notebook(lab, lab, student).grades:
        name = grade.name.removeprefix("check-")
        if grade.needs_manual_grade:
            questions.append(name)
            continue
        about = said.get(name, {})
        status = Status(about.get("status", RIGHT if grade.score >= grade.max_score else WRONG))
        result = Result(name, status, grade.score, grade.max_score, grade.score)
        result.hint, result.basis = about.get("hint", ""), about.get("basis", result.basis)
        result.seconds = about.get("seconds", 0.0)
        result.parts = [Part(**part) for part in about.get("parts", [])]
        results.append(result)
    return results, questions


def _left_behind(notebook: Path) -> dict[str, dict[str, Any]]:
    """The results in a graded notebook's cells: exercise -> result."""
    try:
        cells = json.loads(notebook.read_bytes())["cells"]
        outputs = [output["data"] for cell in cells for output in cell.get("outputs", []) if "data" in output]
        return {data[MIME]["name"]: data[MIME] for data in outputs if MIME in data}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
