"""`grade`: from a notebook to marks, without believing anything that the notebook says of itself."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import secrets
import time
from pathlib import Path
from typing import Any

import numpy as np

from labdiff import exercises
from labdiff.checking import golden
from labdiff.checking.judge import judge
from labdiff.checking.run import Output, run_probe
from labdiff.checking.verdict import NOT_DONE, RIGHT, WRONG, Verdict
from labdiff.errors import FileError, Malformed, Unreadable
from labdiff.exercises import Exercise, Lab
from labdiff.files import PACKAGE
from labdiff.grading.report import CARRIED, Report, Result
from labdiff.grading.sandbox import host as sandbox
from labdiff.grading.sandbox.limits import Isolation, Limits
from labdiff.grading.sandbox.packing import unpack
from labdiff.grading.submission.mend import mend
from labdiff.grading.submission.program import Program, program
from labdiff.grading.submission.read import read_cells
from labdiff.grading.submission.release import lab_of, released
from labdiff.grading.submission.syntax import needed

Outputs = dict[str, Output]
Event = dict[str, Any]  # what the sandbox says of a cell or an exercise; see `inside.Submission`
Said = tuple[Event, bytes]  # of an exercise, with what its probe returned
MOST_VALUES = 1 << 20  # of one array; what the right answers return is a hundred times smaller


def new_seed() -> int:
    """A seed that nobody knows, for one grading run; a class shares one, so that all are asked the same."""
    return secrets.randbelow(2**31)


def grade(
    notebook: str | Path | bytes | dict[str, Any],
    lab: str | None = None,
    *,
    seed: int | None = None,
    isolation: Isolation | str = Isolation.BUBBLEWRAP,
    carry: bool = True,
    limits: Limits | None = None,
) -> Report:
    """Grade one submission.

    notebook: a path, a file's bytes or a parsed notebook. lab: its name; found out unless given.
    seed: of the hidden inputs; drawn unless given, and in the report. isolation: where the submission
    runs. carry: grade an answer that relies on a wrong one as if that were right, too.

    What cannot be graded is a report with a `problem` and no marks. Raises FileError where there
    is no such file or no reference, UnknownName where there is no such lab, and SandboxError where there is no sandbox.
    """
    started = time.monotonic()
    seed = new_seed() if seed is None else seed
    limits, isolation = limits or Limits(), Isolation(isolation)
    if lab:
        exercises.lab(lab)  # a name that is none is said before anything is read
    try:
        cells = read_cells(notebook)
        asked = exercises.lab(lab or lab_of(cells))
        runs = program(mend(cells, asked), asked)
    except Unreadable as error:
        return ungraded(lab or "", seed, isolation, str(error))
    except (RecursionError, MemoryError) as error:
        problem = f"The cells could not be read ({type(error).__name__}): a person should look at this one."
        return ungraded(lab or "", seed, isolation, problem)
    submission = _Grading(asked, runs, seed, isolation, limits)
    results = submission.results()
    if carry:
        submission.carry_forward(results)
    submission.explain(results)
    questions = [{"name": q.name, "max_score": q.points} for q in asked.questions.values()]
    seconds = round(time.monotonic() - started, 3)
    return Report(asked.name, seed, isolation, results, questions, submission.problem, seconds)


def ungraded(lab: str, seed: int, isolation: Isolation, problem: str) -> Report:
    """The report of a submission that cannot be graded: no marks, and why."""
    asked = [exercises.lab(lab).exercises[name] for name in released(lab).order] if lab else []
    none = [Result(e.name, NOT_DONE, 0.0, e.points, 0.0, hint=problem) for e in asked]
    return Report(lab, seed, isolation, none, problem=problem)


def reference_file(lab: str) -> Path:
    """The file of a lab's right answers. Raises FileError where there is none."""
    file = PACKAGE / "reference" / f"{lab}.py"
    if not file.exists():
        raise FileError(f"The right answers of {lab} are not here: {file} is missing. Run `labdiff build {lab}`.")
    return file


@functools.lru_cache(maxsize=16)
def expected_outputs(lab: str, seed: int) -> dict[str, Outputs]:
    """What the right answers give on the inputs of a seed; computed once for a whole class. Raises FileError."""
    reference_file(lab)
    answers = importlib.import_module(f"labdiff.reference.{lab}")
    return {
        name: run_probe(exercise, getattr(answers, name), exercise.drawn(seed))
        for name, exercise in exercises.lab(lab).exercises.items()
    }


class _Grading:
    """One submission on its way to marks."""

    def __init__(self, lab: Lab, runs: Program, seed: int, isolation: Isolation, limits: Limits):
        self.lab, self.seed = lab, seed
        self.isolation, self.limits = isolation, limits
        self.program = runs
        self.expected = expected_outputs(lab.name, seed)
        self.problem = ""
        self.deadline = time.monotonic() + limits.submission_seconds

    def results(self) -> list[Result]:
        """Each exercise on the student's own answers."""
        order = released(self.lab.name).order
        cells, said = self._run(list(order), [])
        if not said:
            self.problem = "The sandbox ended before any answer could be tried: a person should look at this one."
        return [self._result(self.lab.exercises[name], said.get(name), cells) for name in order]

    def carry_forward(self, results: list[Result]) -> None:
        """Try each wrong answer that relies on wrong ones above it again, with the right ones in their place."""
        for result in results:
            upstream = self.upstream(result, results)
            if not upstream or time.monotonic() > self.deadline:
                continue
            _, said = self._run([result.name], upstream)
            verdict = self._verdict(self.lab.exercises[result.name], said.get(result.name))
            if verdict and verdict.score > result.score:
                # of this run only the marks come out: its outputs were made beside right answers
                result.score, result.basis, result.replaced = verdict.score, CARRIED, upstream

    def upstream(self, result: Result, results: list[Result]) -> list[str]:
        """The wrong answers above a wrong one that it relies on, as far as the student wrote it at all."""
        if result.status == RIGHT or result.name not in self.program.defined:
            return []
        above = results[: [each.name for each in results].index(result.name)]
        uses = self.program.uses[result.name]
        return [each.name for each in above if each.name in uses and each.status != RIGHT]

    def explain(self, results: list[Result]) -> None:
        """Say which wrong answer another one relies on."""
        for result in results:
            upstream = self.upstream(result, results)
            if not upstream:
                continue
            if result.status == NOT_DONE:  # it was written, and ended where it called what was not
                result.status = WRONG
            names = " and ".join(upstream)
            right = result.score == result.max_score
            if result.basis == CARRIED:
                result.hint = f"{'Right' if right else 'Better'} once {names} is: the mistake is up there."
            elif not result.hint:
                result.hint = f"Your answer calls {names}, which is not right yet: mend that first."

    def _run(self, names: list[str], replaced: list[str]) -> tuple[dict[int, Event], dict[str, Said]]:
        """Run the cells and try the named exercises: what was said of each cell, and of each exercise."""
        tried = {
            name: [self.lab.exercises[name].drawn(self.seed), self.lab.exercises[name].drawn(golden.SEED)]
            for name in names
        }
        job = {
            "cells": self.program.cells,
            "exercises": tried,
            "replaced": replaced,
            "reference": answers_of(self.lab.name, replaced) if replaced else "",
        }
        cells: dict[int, Event] = {}
        said: dict[str, Said] = {}
        left = max(1.0, self.deadline - time.monotonic())  # one time limit for all runs of a submission
        limits = dataclasses.replace(self.limits, submission_seconds=left)
        for event, data in sandbox.run(self.lab.name, job, limits, self.isolation):
            if event.get("cell") in range(len(self.program.cells)):
                cells[event["cell"]] = event
            elif event.get("exercise") in tried:
                said[event["exercise"]] = (event, data)
        return cells, said

    def _verdict(self, exercise: Exercise, said: Said | None, golden_too: bool = False) -> Verdict | None:
        """The verdict on what came out of the sandbox, on hidden inputs or on the notebook's; None without any."""
        if not said or _text(said[0].get("stopped")):
            return None
        try:
            hidden, known = (_outputs(tree) for tree in _pair(unpack(said[1])))
        except Malformed:
            return None
        if not golden_too:
            return judge(exercise, hidden, self.expected[exercise.name])
        expected, mistakes = golden.of(self.lab.name)
        return judge(exercise, known, expected[exercise.name], mistakes.get(exercise.name))

    def _result(self, exercise: Exercise, said: Said | None, cells: dict[int, Event]) -> Result:
        name = exercise.name
        stopped = _text(said[0].get("stopped")) if said else ""
        seconds = said[0].get("seconds") if said else 0.0
        seconds = round(seconds, 3) if isinstance(seconds, float) and 0 <= seconds < 1e6 else 0.0
        defined = self.program.defined.get(name)
        of_cell = cells.get(defined, {}) if defined is not None else {}
        trouble = _text(of_cell.get("stopped")) or _text(of_cell.get("error"))
        verdict = self._verdict(exercise, said)
        if verdict is None:
            hint = f"Your answer had to be stopped: {stopped}." if stopped else "No result of your answer came back."
            return Result(name, WRONG, 0.0, exercise.points, 0.0, hint, stopped=stopped, seconds=seconds)
        hint = ""
        if verdict.status == NOT_DONE and defined is not None and trouble:
            verdict.status, hint = WRONG, f"The cell that defines your answer did not run to its end: {trouble}"
        elif verdict.status == WRONG:
            known = self._verdict(exercise, said, golden_too=True)
            hint = known.hint if known else ""
            if known and known.status == RIGHT:
                hint = (
                    "Your answer is right on the inputs of the notebook's check and wrong on others: "
                    "it fits those numbers, not the formula."
                )
        for part in verdict.parts:  # a message quotes what came out of the sandbox
            part.message = _text(part.message)
        return Result(
            name,
            verdict.status,
            verdict.score,
            exercise.points,
            verdict.score,
            hint,
            verdict.parts,
            stopped=_text(of_cell.get("stopped")),
            seconds=seconds,
        )


def _pair(tree: Any) -> list[Any]:
    if not isinstance(tree, list) or len(tree) != 2:
        raise Malformed("not the outputs of two runs")
    return tree


def _outputs(tree: Any) -> Outputs:
    """What a probe returned, rebuilt from bytes that a student's process made. Raises Malformed."""
    if not isinstance(tree, dict):
        raise Malformed("not the parts of a probe")
    outputs = {}
    for part, about in tree.items():
        if not isinstance(about, dict) or about.keys() != {"arrays", "dtypes", "texts", "error", "changed"}:
            raise Malformed("not an output")
        arrays, dtypes, texts = about["arrays"], about["dtypes"], about["texts"]
        if not (
            all(isinstance(each, dict) for each in (arrays, dtypes, texts))
            and arrays.keys() == dtypes.keys()
            and all(isinstance(array, np.ndarray) for array in arrays.values())
            and all(isinstance(text, str) for text in (*dtypes.values(), *texts.values()))
            and isinstance(about["error"], str)
            and isinstance(about["changed"], tuple)
            and all(isinstance(name, str) for name in about["changed"])
        ):
            raise Malformed("not an output")
        error = _text(about["error"])
        most = max((array.size for array in arrays.values()), default=0)
        if most > MOST_VALUES:
            error = f"the answer returned {most} values"
        short = {place: _text(text) for place, text in texts.items()}
        dtypes = {place: _dtype(dtypes[place], array) for place, array in arrays.items()}
        outputs[part] = Output({} if error else arrays, dtypes, short, error, about["changed"])
    return outputs


def _dtype(said: str, array: np.ndarray) -> str:
    """The dtype that is believed: half precision, which comes as float32, and a Python number; else the array's own."""
    if said in ("bfloat16", "float16") or (said == "number" and array.ndim == 0):
        return said
    return str(array.dtype)


def _text(value: Any, most: int = 300) -> str:
    """A text that a student's process may have chosen: printable, on one line, and short."""
    text = "".join(c if c.isprintable() else " " for c in value[: 4 * most]) if isinstance(value, str) else ""
    return text if len(text) <= most else text[: most - 3] + "..."


def answers_of(lab: str, names: list[str]) -> str:
    """The source of some right answers and of what they need, without the other answers of the lab."""
    return ast.unparse(ast.Module(needed(ast.parse(reference_file(lab).read_text(encoding="utf-8")).body, names), []))
