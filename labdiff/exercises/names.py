"""The names of the labs; needs no torch, so that whoever mistypes one is told at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from labdiff.errors import UnknownName

ORDER = (
    "lab1_forward",
    "lab2_unet",
    "lab3_training",
    "lab4_sampling",
    "lab5_guidance",
    "lab6_text_to_image",
    "lab7_editing",
    "lab8_debugging",
)
# a release holds the first of them
LABS = tuple(lab for lab in ORDER if Path(__file__).with_name(f"{lab}.py").exists())


def check_lab(name: str) -> None:
    """Raises UnknownName, with the nearest names, where no lab is called that."""
    if name not in LABS:
        raise UnknownName(f"There is no lab called {name!r}. {nearest(name, LABS)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence that offers the names most like the one that was not found."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    if close:
        return "Did you mean " + " or ".join(close) + "?"
    return "There are " + ", ".join(known) + "."
