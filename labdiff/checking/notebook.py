"""`check` and `hint`, as a student calls them under an exercise."""

from __future__ import annotations

import contextlib
import functools
import html
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import torch

from labdiff import exercises
from labdiff.checking import golden
from labdiff.checking.judge import judge
from labdiff.checking.run import explain, run_probe
from labdiff.checking.verdict import MIME, NOT_DONE, RIGHT, WRONG, Part, Verdict
from labdiff.errors import UnknownName
from labdiff.exercises import Exercise
from labdiff.exercises.names import LABS

MARKS = {True: "\N{CHECK MARK}", False: "\N{BALLOT X}"}
COLOURS = {RIGHT: "#1a7f37", WRONG: "#b3261e", NOT_DONE: "#6e7781"}


def check(answer: Any) -> float | None:
    """Say whether an answer is right and, if not, which part fails and why.

    answer: the function or class you wrote (or its name). It is run on fixed inputs and
    compared with what the reference gives. Nothing is raised: the result is shown, as HTML
    in a notebook and as text elsewhere. Returns None, or the marks where nbgrader runs the
    notebook, since nbgrader reads them there.
    """
    found = _find(answer)
    if isinstance(found, str):
        print(found)
        return _marks(0.0)
    exercise, answer = found
    verdict = verdict_of(exercise, answer)
    notes = _notes(exercise, answer, verdict)
    _show(as_text(verdict, notes), as_html(verdict, notes), verdict)
    return _marks(verdict.score)


def verdict_of(exercise: Exercise, answer: Any) -> Verdict:
    """Judge an answer against the golden answers, on the CPU and, where there is one, on the GPU."""
    expected, mistakes = golden.of(exercise.lab)
    got = run_probe(exercise, answer, exercise.drawn(golden.SEED))
    verdict = judge(exercise, got, expected[exercise.name], mistakes.get(exercise.name))
    if verdict.status == RIGHT and torch.cuda.is_available():
        precise = torch.backends.cudnn.flags(allow_tf32=False)
        with precise:
            got = run_probe(exercise, answer, exercise.drawn(golden.SEED), device="cuda")
        loose = functools.partial(Exercise, **{**vars(exercise), "rtol": 20 * exercise.rtol})()
        failed = [p for p in judge(loose, got, expected[exercise.name]).parts if not p.passed]
        if failed:
            verdict.status = WRONG
            verdict.parts.append(Part("on the GPU", False, f"{failed[0].name}: {failed[0].message}"))
    return verdict


_asked: dict[str, int] = {}


def hint(answer: Any) -> None:
    """Show the next hint of an exercise: a nudge, then a stronger one, then nearly the line itself."""
    found = _find(answer)
    if isinstance(found, str):
        print(found)
        return
    exercise, _ = found
    n = _asked[exercise.name] = _asked.get(exercise.name, 0) + 1
    last = len(exercise.hints)
    text = f"Hint {min(n, last)} of {last} for {exercise.name}: {exercise.hints[min(n, last) - 1]}"
    if n > last:
        text += " (This is the last hint; the correction notebook shows the answer.)"
    box = f'<div style="border-left:4px solid #9a6700;padding:.3em .8em">{html.escape(text)}</div>'
    _show(text, box)


@contextlib.contextmanager
def when_done() -> Iterator[None]:
    """Around a cell that uses answers: where one of them is not done or fails, say so in one line and go on."""
    try:
        yield
    except Exception as error:
        culprit = _culprit(error)
        if isinstance(error, NameError) and not culprit:
            print(f"This cell waits for a cell above that makes {error.name}.")
        elif isinstance(error, NotImplementedError):
            print(f"This cell waits: {culprit or 'an exercise above'} is not done yet.")
        elif culprit:
            print(f"This cell stopped in {culprit}, so check that exercise first. {explain(error)}")
        else:
            raise


def _culprit(error: Exception) -> str | None:
    """The innermost exercise, function or class, in whose code an error was raised."""
    known = {name for lab in LABS for name in exercises.lab(lab).exercises}
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))[1:]):
        for name in (frame.f_code.co_name, type(frame.f_locals.get("self")).__name__):
            if name in known:
                return name
    return None


def _find(answer: Any) -> tuple[Exercise, Any] | str:
    """The exercise that an answer belongs to and the answer, or a sentence that says why there is none."""
    name = answer if isinstance(answer, str) else getattr(answer, "__name__", None)
    if not isinstance(name, str):
        return (
            f"check and hint take the function or class you wrote, such as check(q_sample), "
            f"not what it returns ({type(answer).__name__})."
        )
    if name == "<lambda>":
        return "Write your answer with def: a lambda has no name by which to find its exercise."
    try:
        exercise = exercises.find(name)
    except UnknownName as error:
        return str(error)
    if isinstance(answer, str):
        answer = getattr(sys.modules["__main__"], name, _missing)
    return exercise, answer


def _missing(*args: Any, **kwargs: Any) -> None:
    raise NotImplementedError


def _notes(exercise: Exercise, answer: Any, verdict: Verdict) -> list[str]:
    """What else a student should know after a failure: a cause upstream, and where the hints are."""
    if verdict.status == RIGHT:
        return []
    notes = []
    for name, other in _called(exercise, answer).items():
        if verdict_of(exercises.find(name), other).status != RIGHT:
            notes.append(f"Your answer calls {name}, which is not right yet: mend that first, then check again.")
    asked = _asked.get(exercise.name, 0)
    if asked < len(exercise.hints):
        notes.append(f"hint({exercise.name}) gives {'a first' if not asked else 'another'} hint.")
    return notes


def _called(exercise: Exercise, answer: Any) -> dict[str, Any]:
    """The answers to other exercises of the same lab that this answer calls by name."""
    functions = [f for _, f in inspect.getmembers(answer, inspect.isfunction)] if inspect.isclass(answer) else [answer]
    found = {}
    for function in functions:
        code = getattr(function, "__code__", None)
        for name in code.co_names if code else ():
            other = function.__globals__.get(name)
            if name in exercises.lab(exercise.lab).exercises and name != exercise.name and other is not None:
                found[name] = other
    return found


def _names(verdict: Verdict) -> str:
    return ", ".join(part.name for part in verdict.parts)


def _points(value: float) -> str:
    return f"{value:g}"


def _headline(verdict: Verdict) -> str:
    said = {RIGHT: "right", WRONG: "not right yet", NOT_DONE: "not done yet"}[verdict.status]
    return f"{said}, {_points(verdict.score)} of {_points(verdict.max_score)} points"


def as_text(verdict: Verdict, notes: list[str]) -> str:
    """A verdict for a terminal."""
    lines = [f"{verdict.exercise}: {_headline(verdict)}"]
    if verdict.status == RIGHT:
        return "\n".join([*lines, f"  {MARKS[True]} {_names(verdict)}"])
    for part in verdict.parts:
        lines.append(f"  {MARKS[part.passed]} {part.name}" + (f": {part.message}" if part.message else ""))
    lines += [f"  {text}" for text in ([verdict.hint] if verdict.hint else []) + notes]
    return "\n".join(lines)


def as_html(verdict: Verdict, notes: list[str]) -> str:
    """A verdict for a notebook. Everything that an answer produced is escaped."""
    colour = COLOURS[verdict.status]
    rows = "".join(
        f'<tr><td style="color:{COLOURS[RIGHT if p.passed else WRONG]};text-align:center">{MARKS[p.passed]}</td>'
        f'<td style="text-align:left;padding:0 .6em">{html.escape(p.name)}</td>'
        f'<td style="text-align:left">{html.escape(p.message)}</td></tr>'
        for p in verdict.parts
    )
    table = f'<table style="margin:.3em 0">{rows}</table>' if rows else ""
    if verdict.status == RIGHT:
        table = f'<div style="color:#6e7781">{MARKS[True]} {html.escape(_names(verdict))}</div>'
    texts = ([f"<b>{html.escape(verdict.hint)}</b>"] if verdict.hint else []) + [html.escape(note) for note in notes]
    return (
        f'<div class="labdiff-verdict" data-status="{verdict.status}" '
        f'style="border-left:4px solid {colour};padding:.3em .8em">'
        f'<span style="color:{colour}"><b>{html.escape(verdict.exercise)}</b>: {_headline(verdict)}</span>'
        f"{table}{''.join(f'<div>{text}</div>' for text in texts)}</div>"
    )


def _show(text: str, page: str, verdict: Verdict | None = None) -> None:
    """Show HTML where a notebook listens, text where nothing but a terminal does."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if ipython is None or not hasattr(shell, "kernel"):
        print(text)
        return
    bundle: dict[str, Any] = {"text/plain": text, "text/html": page}
    if verdict:
        bundle[MIME] = verdict.to_dict()
    ipython.display.display(bundle, raw=True)


def being_graded() -> bool:
    """Whether nbgrader runs this notebook, so that a long training would be for nobody's eyes."""
    return bool(os.environ.get("NBGRADER_EXECUTION"))


def _marks(score: float) -> float | None:
    # Stock nbgrader reads partial marks off the value of a test cell; anyone else would only see a stray number.
    return score if being_graded() else None
