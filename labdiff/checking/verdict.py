"""What is said of an answer: right, wrong or not done, part by part."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

MIME = "application/vnd.labdiff.verdict+json"  # of a verdict among the outputs of a notebook's cell


class Status(str, Enum):
    """How an answer stands."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_DONE = "not done"

    __str__ = str.__str__  # in texts and tables it is its value


RIGHT, WRONG, NOT_DONE = Status


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
    status: Status
    score: float
    max_score: float
    parts: list[Part] = field(default_factory=list)
    hint: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain values, for JSON."""
        return asdict(self)
