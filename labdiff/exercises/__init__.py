"""What is asked: exercises, the inputs they are tried on, and the probes that try them.

An exercise is a name, its points, `inputs(draw)` and a probe. The probe gets the answer
and the inputs and returns a dictionary: the name of a part -> a function of no arguments
that calls the answer. Parts are run one by one, each on fresh copies of the inputs, so
one that fails hides no other. The first part is the exercise itself: without it nothing
is earned, and the later parts share the points equally with it.
"""

from __future__ import annotations

import difflib
import importlib
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

LABS = (
    "lab1_forward",
    "lab2_unet",
    "lab3_training",
    "lab4_sampling",
    "lab5_guidance",
    "lab6_text_to_image",
    "lab7_editing",
    "lab8_debugging",
)


class Draw:
    """Inputs drawn from a seed.

    The stream is NumPy's RandomState, which NumPy promises never to change (NEP 19), so a
    seed means the same inputs on every machine and in every version. Tensors are made on
    the CPU.
    """

    def __init__(self, seed: int):
        self.stream = np.random.RandomState(seed)

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal values, float32."""
        return torch.from_numpy(self.stream.standard_normal(shape).astype(np.float32))

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Values uniform in [low, high), float32."""
        return torch.from_numpy(self.stream.uniform(low, high, shape).astype(np.float32))

    def images(self, n: int, *size: int, channels: int = 1) -> torch.Tensor:
        """n images in [-1, 1], (n, channels, H, W), float32. 8 by 8 unless told."""
        height, width = size or (8, 8)
        return self.uniform(n, channels, height, width, low=-1, high=1)

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """Integers in [low, high), int64."""
        return torch.from_numpy(self.stream.randint(low, high, shape).astype(np.int64))

    def integer(self, low: int, high: int) -> int:
        """One integer in [low, high)."""
        return int(self.stream.randint(low, high))

    def number(self, low: float, high: float) -> float:
        """One number uniform in [low, high)."""
        return float(self.stream.uniform(low, high))

    def timesteps(self, n: int, T: int) -> torch.Tensor:
        """n timesteps in [0, T), (n,), int64; all different where n <= T."""
        return torch.from_numpy(self.stream.choice(T, n, replace=n > T).astype(np.int64))

    def betas(self, T: int) -> torch.Tensor:
        """A schedule that no formula gives: T increasing variances in (0.01, 0.3), float32, (T,)."""
        return self.uniform(T, low=0.01, high=0.3).sort().values

    def seed(self) -> int:
        """A seed to draw weights from, see `given_weights`."""
        return int(self.stream.randint(2**31 - 1))


def given_weights(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Fill every parameter of a module with values that depend on its name, its shape and the seed.

    The order in which the module made its parameters does not matter, their names do.
    Weights are scaled by one over the square root of the fan-in, so that outputs keep
    their size. Returns the module, in evaluation mode.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            draw = Draw((zlib.crc32(name.encode()) ^ seed) % (2**32))
            fan_in = max(1, math.prod(parameter.shape[1:]))
            values = draw.normal(*parameter.shape) / math.sqrt(fan_in)
            if parameter.dim() == 1:
                values = values * 0.3 + (1.0 if name.endswith("weight") else 0.0)
            parameter.copy_(values)
    return module.eval()


def parameter_shapes(module: torch.nn.Module) -> dict[str, str]:
    """Each parameter's name and shape, as text, so that a judge can name the one that differs."""
    return {name: str(tuple(p.shape)) for name, p in sorted(module.named_parameters())}


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
    """The lab of that name. Raises KeyError with the nearest names where there is none."""
    if name not in LABS:
        raise KeyError(f"There is no lab called {name!r}. {nearest(name, LABS)}")
    return importlib.import_module(f"labdiff.exercises.{name}").LAB


def find(name: str) -> Exercise:
    """The exercise of that name, in whichever lab. Raises KeyError with the nearest names."""
    everything = {n: e for each in LABS for n, e in lab(each).exercises.items()}
    if name not in everything:
        raise KeyError(f"There is no exercise called {name!r}. {nearest(name, everything)}")
    return everything[name]


def nearest(name: str, names: Any) -> str:
    """A sentence that offers the names most like the one that was not found."""
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.4)
    if close:
        return "Did you mean " + " or ".join(close) + "?"
    return "There are " + ", ".join(names) + "."
