"""Compare what an answer's probe returned with what the reference's returned, and say why."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from labdiff.checking.fingerprint import known_hint, seal
from labdiff.checking.run import Output
from labdiff.checking.verdict import NOT_DONE, RIGHT, WRONG, Part, Verdict
from labdiff.exercises import Exercise


def judge(
    exercise: Exercise,
    got: dict[str, Output],
    expected: dict[str, Output],
    mistakes: dict[str, dict[str, Any]] | None = None,
) -> Verdict:
    """Compare an answer's outputs with the reference's, part by part.

    mistakes: hint -> `fingerprint` of the parts that this mistake gets wrong, on the same
    inputs; where the answer's outputs match one, its hint is the verdict's hint.
    """
    if got and all(output.not_done for output in got.values()):
        return Verdict(exercise.name, NOT_DONE, 0.0, exercise.points)
    parts = [compare(name, got.get(name, Output(error="missing")), want, exercise) for name, want in expected.items()]
    passed = sum(part.passed for part in parts)
    # The first part is the exercise itself: robustness earns nothing without it.
    score = exercise.points * passed / len(parts) if parts[0].passed else 0.0
    status = RIGHT if passed == len(parts) else WRONG
    hint = "" if status == RIGHT else known_hint(exercise, got, mistakes or {})
    return Verdict(exercise.name, status, round(score, 2), exercise.points, parts, hint)


def compare(name: str, got: Output, want: Output, exercise: Exercise) -> Part:
    """Compare one part, and say in a sentence what differs."""
    message = _difference(got, want, exercise)
    if not message and got.changed and not want.changed:
        message = "the answer changes what it is given: make a new tensor (x = x + 1, not x += 1)"
    return Part(name, not message, message)


def _difference(got: Output, want: Output, exercise: Exercise) -> str:
    if got.error:
        return "not done yet" if got.not_done else got.error
    for place, text in want.texts.items():
        said = got.texts.get(place)
        if said is None:
            return f"{_where(place)}is missing" if place else "a text was expected"
        if seal(exercise, said) != text and said != text:
            return f"{_where(place)}got {said!r}"
    extra = sorted(set(got.texts) - set(want.texts))
    if extra:
        return f"{_where(extra[0])}does not belong here"
    if set(got.arrays) != set(want.arrays):
        return f"returned {_count(got.arrays)}, expected {_count(want.arrays)}"
    for place, wanted in want.arrays.items():
        message = _array_difference(place, got.arrays[place], wanted, exercise.rtol)
        if message:
            return message
    for place, dtype in want.dtypes.items():
        if got.dtypes[place] != dtype and "number" not in (dtype, got.dtypes[place]):
            return f"{_where(place)}the values are right, but the dtype is {got.dtypes[place]}, expected {dtype}"
    return ""


def _array_difference(place: str, got: np.ndarray, want: np.ndarray, rtol: float) -> str:
    where = _where(place)
    if got.shape != want.shape:
        return f"{where}shape {got.shape}, expected {want.shape}"
    if got.dtype.kind == "c":
        return f"{where}complex numbers, real ones belong here"
    got, want = got.astype(np.float64), want.astype(np.float64)
    strange = ~np.isfinite(got) & np.isfinite(want)
    if strange.any():
        kind = "NaN" if np.isnan(got[strange]).any() else "infinity"
        return f"{where}{strange.sum()} of {got.size} values are {kind}, the first at {_index(strange)}"
    with np.errstate(invalid="ignore"):
        gap = np.where(got == want, 0.0, np.abs(got - want))
    finite = np.abs(want[np.isfinite(want)])
    allowed = rtol * np.abs(want) + 0.1 * rtol * (finite.max() if finite.size else 0.0) + 1e-12
    if (gap <= allowed).all():
        return ""
    worst = np.unravel_index(np.argmax(gap - np.where(np.isfinite(allowed), allowed, 0)), gap.shape)
    at = f" at {list(map(int, worst))}" if worst else ""
    wrong = int((~(gap <= allowed)).sum())
    many = f"{wrong} of {gap.size} values differ; " if gap.size > 1 else ""
    return f"{where}{many}largest difference {gap[worst]:.3g}{at}: got {got[worst]:.6g}, expected {want[worst]:.6g}"


def _where(place: str) -> str:
    return f"{place.lstrip('.')}: " if place else ""


def _index(mask: np.ndarray) -> str:
    return str([int(i[0]) for i in np.nonzero(mask)]) if mask.ndim else "the only place"


def _count(arrays: dict[str, np.ndarray]) -> str:
    if set(arrays) == {""}:
        return "one tensor"
    if all(re.fullmatch(r"\[\d+\]", place) for place in arrays):
        return f"{len(arrays)} value{'s' * (len(arrays) > 1)} in a row" if arrays else "no tensor"
    names = [place.lstrip(".") for place in arrays]
    return f"{len(names)} values ({', '.join(names[:6])}{', ...' if len(names) > 6 else ''})" if names else "no tensor"
