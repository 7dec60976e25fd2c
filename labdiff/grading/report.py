"""What the grader says of one submission, to and from JSON."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any

from labdiff.checking.verdict import Part, Status
from labdiff.grading.sandbox.limits import Isolation

OWN, CARRIED = "own", "error carried forward"


@dataclass
class Result:
    """What one exercise earned.

    status: of the student's own answer. score: the marks; own_score: the marks without error
    carried forward. basis: which of the two `score` is. replaced: the upstream answers that were put
    in place for it. stopped: what the sandbox had to stop, or "". seconds: wall clock, of the answer alone.
    """

    name: str
    status: Status
    score: float
    max_score: float
    own_score: float
    hint: str = ""
    parts: list[Part] = field(default_factory=list)
    basis: str = OWN
    replaced: list[str] = field(default_factory=list)
    stopped: str = ""
    seconds: float = 0.0


@dataclass
class Report:
    """What one submission earned. `problem` says why it could not be graded, or is ""."""

    lab: str
    seed: int
    isolation: Isolation
    exercises: list[Result]
    questions: list[dict[str, Any]] = field(default_factory=list)  # name and max_score; a person marks them
    problem: str = ""
    seconds: float = 0.0

    @property
    def score(self) -> float:
        """The marks of all exercises; questions that a person marks are not in it."""
        return round(sum(result.score for result in self.exercises), 2)

    @property
    def max_score(self) -> float:
        """The most that the exercises can earn."""
        return sum(result.max_score for result in self.exercises)

    def to_json(self, indent: int | None = 2) -> str:
        """The report as JSON."""
        about = {"lab": self.lab, "score": self.score, "max_score": self.max_score}
        return json.dumps(about | asdict(self), indent=indent)

    def as_text(self) -> str:
        """The report for a terminal: exercise, marks, status, and the hint below where there is one."""
        lines = []
        for result in self.exercises:
            carried = f", {result.own_score:g} by itself" if result.basis == CARRIED else ""
            lines.append(f"{result.name:<28} {result.score:>5g} / {result.max_score:<4g} {result.status}{carried}")
            lines += textwrap.wrap(result.hint, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
        lines.append(f"{'total':<28} {self.score:>5g} / {self.max_score:<4g}")
        lines.append(f"{self.lab}, seed {self.seed}, isolation {self.isolation}, {self.seconds:.1f} s")
        return "\n".join(lines)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `to_json` wrote. Raises ValueError, KeyError or TypeError where it did not."""
        about = json.loads(text)
        del about["score"], about["max_score"]
        results = [
            Result(**result | {"status": Status(result["status"]), "parts": [Part(**part) for part in result["parts"]]})
            for result in about.pop("exercises")
        ]
        about["isolation"] = Isolation(about["isolation"])
        return cls(exercises=results, **about)
