"""Mistakes and variants: wrong and right answers that prove the checks.

`solutions/<lab>/mistakes.py` holds functions and classes under `@mistake("exercise")`; the
docstring of each is the hint a student reads when their outputs match it.
`solutions/<lab>/variants.py` holds right answers written in other ways, under
`@variant("exercise")`.
"""

from __future__ import annotations

import inspect
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Answer = TypeVar("Answer", bound=Callable[..., Any])


def mistake(exercise: str) -> Callable[[Answer], Answer]:
    """Mark a wrong answer to an exercise; its docstring is the hint."""
    return _mark("mistake", exercise)


def variant(exercise: str) -> Callable[[Answer], Answer]:
    """Mark a right answer to an exercise, written in another way than the reference."""
    return _mark("variant", exercise)


def _mark(kind: str, exercise: str) -> Callable[[Answer], Answer]:
    def mark(answer: Answer) -> Answer:
        answer._labdiff = (kind, exercise)
        return answer

    return mark


def load(file: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The answers marked in a file: exercise -> name of the answer -> answer, in the file's order."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in runpy.run_path(str(file)).items():
        # vars, not getattr: a subclass of a marked class is not itself marked
        marked = vars(value).get("_labdiff") if hasattr(value, "__dict__") and callable(value) else None
        if marked and marked[0] == kind:
            found.setdefault(marked[1], {})[name] = value
    return found


def hint_of(answer: Any) -> str:
    """The hint of a mistake: its docstring, on one line. Raises ValueError where it has none."""
    text = " ".join((inspect.cleandoc(answer.__doc__) if answer.__doc__ else "").split())
    if not text:
        raise ValueError(f"The mistake {answer.__name__} has no docstring: its docstring is the hint.")
    return text
