"""What is asked: exercises, the inputs they are tried on, and the probes that try them.

An exercise is a name, its points, `inputs(draw)` and a probe. The probe gets the answer
and the inputs and returns a dictionary: the name of a part -> a function of no arguments
that calls the answer. Parts are run one by one, each on fresh copies of the inputs, so
one that fails hides no other. The first part is the exercise itself: without it nothing
is earned, and the later parts share the points equally with it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labdiff.errors import UnknownName
from labdiff.exercises.names import LABS, check_lab, nearest

if TYPE_CHECKING:
    from labdiff.exercises.draw import Draw

Probe = Callable[..., dict[str, Callable[[], Any]]]


@dataclass(frozen=True)
class Exercise:
    """One hole of a lab: what it is worth, how it is tried, and its three hints."""

    name: str
    lab: str
    points: float
    minutes: int
    difficulty: int  # 1, 2 or 3
    hints: tuple[str, str, str]
    inputs: Callable[[Draw], dict[str, Any]]
    probe: Probe
    rtol: float = 1e-4

    def drawn(self, seed: int) -> dict[str, Any]:
        """The inputs of a seed: name -> tensor, number, text, or a list or tuple of these."""
        from labdiff.exercises.draw import Draw  # here, since it needs torch

        return self.inputs(Draw(seed))


@dataclass(frozen=True)
class Written:
    """A short question answered in words and marked by a person."""

    name: str
    points: float
    minutes: int


@dataclass
class Lab:
    """A lab's exercises and written questions, in the order in which they are asked."""

    name: str
    title: str
    exercises: dict[str, Exercise] = field(default_factory=dict)
    questions: dict[str, Written] = field(default_factory=dict)

    def exercise(
        self,
        *,
        points: float,
        minutes: int,
        difficulty: int,
        hints: tuple[str, str, str],
        inputs: Callable[[Draw], dict[str, Any]],
        rtol: float = 1e-4,
    ) -> Callable[[Probe], Probe]:
        """Make an exercise of the probe below; the probe's name is the exercise's name."""

        def register(probe: Probe) -> Probe:
            name = probe.__name__
            if name in self.exercises:
                raise ValueError(f"{self.name} has two exercises called {name}: rename one.")
            self.exercises[name] = Exercise(name, self.name, points, minutes, difficulty, hints, inputs, probe, rtol)
            return probe

        return register

    def prediction(
        self, name: str, choices: tuple[str, ...], hints: tuple[str, str, str], *, points: float = 1, minutes: int = 2
    ) -> None:
        """A predict-before-you-run question: the answer is a function that returns one of `choices`."""

        def probe(answer):
            def choice():
                said = answer()
                if said is not None and said not in choices:
                    raise ValueError(f"return one of {', '.join(map(repr, choices))}, not {said!r}")
                return said

            return {"your prediction": choice}

        self.exercises[name] = Exercise(name, self.name, points, minutes, 1, hints, lambda draw: {}, probe)

    def written(self, name: str, *, points: float, minutes: int = 5) -> None:
        """A question answered in words."""
        self.questions[name] = Written(name, points, minutes)


def lab(name: str) -> Lab:
    """The lab of that name. Raises UnknownName, with the nearest names."""
    check_lab(name)
    return importlib.import_module(f"labdiff.exercises.{name}").LAB


def find(name: str) -> Exercise:
    """The exercise of that name, in whichever lab. Raises UnknownName, with the nearest names."""
    everything = {n: e for each in LABS for n, e in lab(each).exercises.items()}
    if name not in everything:
        raise UnknownName(f"There is no exercise called {name!r}. {nearest(name, everything)}")
    return everything[name]
