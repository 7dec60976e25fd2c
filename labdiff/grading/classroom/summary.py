"""What an instructor wants to know of a graded class: on the terminal, as a page, as a table.

Sums up report by report, so that a class of any size needs little memory.
"""

from __future__ import annotations

import base64
import functools
import io
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import jinja2

from labdiff import exercises
from labdiff.checking import golden
from labdiff.checking.verdict import NOT_DONE, RIGHT
from labdiff.grading.classroom.export.table import as_cell
from labdiff.grading.report import CARRIED, Report, Result
from labdiff.grading.sandbox.limits import Isolation

MOST_MISTAKES = 10
MOST_SHOWN = 200  # of those who need a person's look, on the page; the table has them all
FITS_THE_CHECK = "right on the inputs of the notebook's check and wrong on others"


@dataclass
class Success:
    """How a class did in one exercise; of the marks, the sum over all students."""

    max_score: float
    right: int = 0
    wrong: int = 0
    not_done: int = 0
    carried: int = 0
    marks: float = 0.0


@dataclass
class Summary:
    """A class in numbers. `look`: (student, why a person should look). `mistakes`: (exercise, hint) -> students."""

    lab: str
    scores: list[float] = field(default_factory=list)
    max_score: float = 0.0
    exercises: dict[str, Success] = field(default_factory=dict)
    mistakes: Counter[tuple[str, str]] = field(default_factory=Counter)
    look: list[tuple[str, str]] = field(default_factory=list)  # the first of them; the table has them all
    looks: int = 0
    waiting: int = 0  # answers in words that wait for a person, over all students
    isolation: Counter[Isolation] = field(default_factory=Counter)
    seconds: float = 0.0  # of grading, summed over all submissions

    def add(self, student: str, report: Report, note: str = "") -> list[str]:
        """Take one student's report in; returns the student's row of the table."""
        reasons = [note] if note else []
        if report.problem:
            reasons.append(report.problem)
        else:
            reasons += [reason for result in report.exercises if (reason := _reason(result))]
        self.scores.append(report.score)
        self.max_score = max(self.max_score, report.max_score)
        self.isolation[report.isolation] += 1
        self.seconds += report.seconds
        for result in report.exercises:
            self._count(result, bool(report.problem))
        self._look(student, reasons)
        marks = {result.name: f"{result.score:g}" for result in report.exercises}
        every = [marks.get(name, "") for name in exercises.lab(self.lab).exercises]
        return [
            as_cell(student),
            f"{report.score:g}",
            f"{report.max_score:g}",
            *every,
            as_cell("; ".join(reasons)),
        ]

    def problem(self, student: str, problem: str) -> list[str]:
        """Take in a student of whom there is no report; returns the student's row of the table."""
        self._look(student, [problem])
        return [
            as_cell(student),
            "",
            "",
            *("" for _ in exercises.lab(self.lab).exercises),
            as_cell(problem),
        ]

    def header(self) -> list[str]:
        """The first row of the table."""
        return ["student", "score", "max_score", *exercises.lab(self.lab).exercises, "for a person to look at"]

    def _look(self, student: str, reasons: list[str]) -> None:
        self.looks += len(reasons)
        self.look += [(student, reason) for reason in reasons][: max(0, MOST_SHOWN - len(self.look))]

    def _count(self, result: Result, problem: bool) -> None:
        success = self.exercises.setdefault(result.name, Success(result.max_score))
        success.marks += result.score
        success.right += result.status == RIGHT
        success.not_done += result.status == NOT_DONE
        success.wrong += result.status not in (RIGHT, NOT_DONE)
        success.carried += result.basis == CARRIED
        if not problem and result.hint in _known_hints(self.lab).get(result.name, ()):
            self.mistakes[result.name, result.hint] += 1

    @property
    def mean(self) -> float:
        """The mean of all marks, in points."""
        return sum(self.scores) / len(self.scores) if self.scores else 0.0

    def as_text(self) -> str:
        """The summary for a terminal."""
        lines = [f"{len(self.scores)} submissions of {self.lab}, {self.mean:.1f} of {self.max_score:g} on average", ""]
        lines += [f"  {low:>4.0%} to {low + 0.1:>4.0%} {'#' * bar:<40} {n}" for low, n, bar in self._histogram()]
        lines += ["", f"{'exercise':<28} {'right':>6} {'wrong':>6} {'not done':>9} {'mean marks':>12}"]
        for name, each in self.exercises.items():
            mean = f"{each.marks / max(1, len(self.scores)):.1f} / {each.max_score:g}"
            lines.append(f"{name:<28} {each.right:>6} {each.wrong:>6} {each.not_done:>9} {mean:>12}")
        if self.mistakes:
            lines += ["", "The most frequent mistakes:"]
            lines += [f"  {n:>4} x {name}: {hint}" for (name, hint), n in self.mistakes.most_common(MOST_MISTAKES)]
        if self.look:
            lines += ["", "For a person to look at:"]
            lines += [f"  {student:<20} {why}" for student, why in self.look[:MOST_MISTAKES]]
            if self.looks > MOST_MISTAKES:
                lines.append(f"  and {self.looks - MOST_MISTAKES} more, in the summary's page and table")
        if self.waiting:
            lines += ["", f"{self.waiting} answers in words wait for marks: nbgrader formgrader"]
        if self.isolation[Isolation.NONE]:
            lines += ["", f"{self.isolation[Isolation.NONE]} were graded without a sandbox."]
        return "\n".join(lines)

    def as_page(self) -> str:
        """The summary as an HTML page that holds its pictures."""
        environment = jinja2.Environment(loader=jinja2.PackageLoader("labdiff.grading.classroom", "."), autoescape=True)
        template = environment.get_template("summary.html.jinja")
        return template.render(summary=self, mistakes=self.mistakes.most_common(MOST_MISTAKES), **self._pictures())

    def _histogram(self) -> list[tuple[float, int, int]]:
        """Ten classes of marks: (from, how many, length of a bar)."""
        worth = self.max_score or 1.0
        counts = Counter(min(9, int(10 * score / worth)) for score in self.scores)
        most = max(counts.values(), default=1)
        return [(i / 10, counts[i], round(40 * counts[i] / most)) for i in range(10)]

    def _pictures(self) -> dict[str, str]:
        from matplotlib.figure import Figure

        marks = Figure(figsize=(6, 2.4), layout="constrained")
        axes = marks.add_subplot()
        axes.bar([low + 0.05 for low, _, _ in self._histogram()], [n for _, n, _ in self._histogram()], 0.09)
        axes.set(xlabel="share of the marks", ylabel="students", xlim=(0, 1))
        axes.locator_params(axis="y", integer=True)
        success = Figure(figsize=(6, 0.8 + 0.3 * len(self.exercises)), layout="constrained")
        axes = success.add_subplot()
        names, every = list(self.exercises), list(self.exercises.values())
        left = [0] * len(every)
        for kind, color in (("right", "#3a7d44"), ("wrong", "#c8553d"), ("not_done", "#c9c9c9")):
            counts = [getattr(each, kind) for each in every]
            axes.barh(names, counts, left=left, color=color, label=kind.replace("_", " "))
            left = [a + b for a, b in zip(left, counts, strict=True)]
        axes.invert_yaxis()
        axes.set(xlabel="students")
        axes.locator_params(axis="x", integer=True)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.25 if len(every) < 8 else 1.12), ncols=3, frameon=False)
        for figure in (marks, success):
            for axes in figure.axes:
                axes.spines[["top", "right"]].set_visible(False)
        return {"marks": _png(marks), "success": _png(success)}


def _reason(result: Result) -> str:
    """Why a person should look at an answer, or ""."""
    if result.stopped:
        return f"{result.name}: {result.stopped}"
    if FITS_THE_CHECK in result.hint:
        return f"{result.name} is {FITS_THE_CHECK}"
    return ""


@functools.cache
def _known_hints(lab: str) -> dict[str, frozenset[str]]:
    """The hints of known mistakes: what an unknown one says may quote the student and fits nobody else."""
    _, mistakes = golden.of(lab)
    return {name: frozenset(known) for name, known in mistakes.items()}


def _png(figure: Any) -> str:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    return base64.b64encode(picture.getvalue()).decode()
