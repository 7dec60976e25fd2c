"""Compare what an answer's probe returned with what the reference's returned, and say why."""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from labdiff.checking.run import Output
from labdiff.exercises import Exercise

RIGHT, WRONG, NOT_DONE = "right", "wrong", "not done"


@dataclass
class Part:
    """One part of an exercise: whether it passed, and if not, why."""

    name: str
    passed: bool
    message: str = ""


@dataclass
class Verdict:
    """What the judge says of one answer."""

    exercise: str
    status: str
    score: float
    max_score: float
    parts: list[Part] = field(default_factory=list)
    hint: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


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
    hint = "" if status == RIGHT else recognise(exercise, got, mistakes or {})
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


def seal(exercise: Exercise, text: str) -> str:
    """What ships in place of a text answer, so that the golden answers do not give it away."""
    return "sealed:" + hashlib.sha256(f"{exercise.name}/{text}".encode()).hexdigest()[:16]


# --- mistakes ---------------------------------------------------------------------------------

PROJECTIONS = 8


def fingerprint(outputs: dict[str, Output], exercise: Exercise) -> dict[str, Any]:
    """A few numbers that tell one set of outputs from another, and from which no answer can be read.

    Each array becomes its shape, its dtype, its count of strange values and eight random
    projections; each text is sealed; an error is its first line. The result is JSON.
    """
    return {name: _fingerprint_part(name, output, exercise) for name, output in outputs.items()}


def _fingerprint_part(name: str, output: Output, exercise: Exercise) -> dict[str, Any]:
    if output.error:
        return {"error": output.error.split(" (line ")[0][:120], "changed": list(output.changed)}
    return {
        "changed": list(output.changed),
        "texts": {place: seal(exercise, text) for place, text in output.texts.items()},
        "arrays": {
            place: [list(array.shape), output.dtypes[place], *_project(name + place, array)]
            for place, array in output.arrays.items()
        },
    }


def _project(key: str, array: np.ndarray) -> list[Any]:
    flat = (np.abs(array) if array.dtype.kind == "c" else array).astype(np.float64).ravel()
    strange = int((~np.isfinite(flat)).sum())
    flat = np.nan_to_num(flat, nan=0.0, posinf=0.0, neginf=0.0)
    stream = np.random.RandomState(zlib.crc32(key.encode()))
    size = float(np.sqrt(np.mean(flat**2))) if flat.size else 0.0
    directions = stream.standard_normal((PROJECTIONS, flat.size)) / max(1.0, np.sqrt(flat.size))
    return [strange, size, *(directions @ flat).tolist()]


def same_fingerprint(a: Any, b: Any, rtol: float) -> bool:
    """Whether two fingerprints of one part are of the same outputs, up to rounding."""
    if a.keys() != b.keys() or a["changed"] != b["changed"]:
        return False
    if "error" in a:
        return _said(a["error"]) == _said(b["error"])
    if a["texts"] != b["texts"] or a["arrays"].keys() != b["arrays"].keys():
        return False
    for place, left in a["arrays"].items():
        right = b["arrays"][place]
        if (left[0], left[2]) != (right[0], right[2]):
            return False
        if left[1] != right[1] and "number" not in (left[1], right[1]):
            return False
        x, y = np.array(left[3:]), np.array(right[3:])
        if not np.allclose(x, y, rtol=0, atol=5 * rtol * max(left[3], right[3]) + 1e-12):
            return False
    return True


def _said(error: str) -> str:
    """An error without the name of torch's operation ("RuntimeError: mm: ..."), which some versions put before it."""
    return re.sub(r"^(\w+: )\w+: ", r"\1", error)


def recognise(exercise: Exercise, got: dict[str, Output], mistakes: dict[str, dict[str, Any]]) -> str:
    """The hint of the mistake whose outputs these are, or "".

    A mistake matches where, on each part that it gets wrong, the answer's outputs are the
    mistake's. Of several, the one that accounts for the most parts speaks.
    """
    best, most = "", 0
    for hint, prints in mistakes.items():
        if len(prints) > most and all(
            name in got and same_fingerprint(_fingerprint_part(name, got[name], exercise), print_, exercise.rtol)
            for name, print_ in prints.items()
        ):
            best, most = hint, len(prints)
    return best
