"""The golden answers: what the reference returns on the inputs of seed 0, one file per lab.

They let `check` judge an answer without any reference code in the student's environment.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from labdiff.checking.run import Output

FOLDER = Path(__file__).parent / "golden"
SEED = 0

Expected = dict[str, dict[str, Output]]  # exercise -> part -> output
Mistakes = dict[str, dict[str, dict[str, Any]]]  # exercise -> hint -> part -> fingerprint


def path(lab: str) -> Path:
    """Where a lab's golden answers lie."""
    return FOLDER / f"{lab}.npz"


def save(file: Path, expected: Expected, mistakes: Mistakes) -> None:
    """Write golden answers as one .npz: an array per part and place, the rest as JSON."""
    arrays: dict[str, Any] = {}  # not ndarray: savez_compressed has an option among its keywords
    records = []
    for exercise, parts in expected.items():
        for part, output in parts.items():
            records.append([exercise, part, output.dtypes, output.texts, output.error, list(output.changed)])
            for place, array in output.arrays.items():
                arrays[f"{len(records) - 1}{place}"] = array
    about = json.dumps({"outputs": records, "mistakes": mistakes}, ensure_ascii=True)
    np.savez_compressed(file, about=np.array(about), **arrays)


def load(file: Path) -> tuple[Expected, Mistakes]:
    """Read golden answers. Raises FileNotFoundError where the file is missing."""
    expected: Expected = {}
    with np.load(file, allow_pickle=False) as stored:
        about = json.loads(str(stored["about"]))
        for i, (exercise, part, dtypes, texts, error, changed) in enumerate(about["outputs"]):
            arrays = {place: stored[f"{i}{place}"] for place in dtypes}
            expected.setdefault(exercise, {})[part] = Output(arrays, dtypes, texts, error, tuple(changed))
    return expected, about["mistakes"]


@functools.cache
def of(lab: str) -> tuple[Expected, Mistakes]:
    """A lab's golden answers as they ship, read once. Raises FileNotFoundError where the file is missing."""
    return load(path(lab))
