"""Recognise a known mistake by a few numbers of its outputs, from which no answer can be read."""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import Any

import numpy as np

from labdiff.checking.run import Output
from labdiff.exercises import Exercise


def seal(exercise: Exercise, text: str) -> str:
    """What ships in place of a text answer, so that the golden answers do not give it away."""
    return "sealed:" + hashlib.sha256(f"{exercise.name}/{text}".encode()).hexdigest()[:16]


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


def known_hint(exercise: Exercise, got: dict[str, Output], mistakes: dict[str, dict[str, Any]]) -> str:
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
