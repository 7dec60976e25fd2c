"""What probes of more than one lab are made of: parts that recur, what to ask of an answer, known layers."""

from __future__ import annotations

import math
import numbers
import zlib
from collections.abc import Callable
from typing import Any

import torch

from labdiff.exercises.draw import Draw, given_weights, parameter_shapes

# --- parts ------------------------------------------------------------------------------------
# Not functools.partial: it refuses what cannot be called, and then no part of the probe would run.


def batch_of_one(function: Callable[..., Any], *given: Any, **named: Any) -> Callable[[], Any]:
    """The part that calls a function with the first entry of each tensor; what is no tensor stays as it is."""

    def first(value):
        return value[:1] if isinstance(value, torch.Tensor) else value

    return lambda: function(*map(first, given), **{name: first(value) for name, value in named.items()})


def float64(function: Callable[..., Any], *given: Any) -> Callable[[], Any]:
    """The part that calls a function with each floating tensor in float64; everything else stays as it is."""

    def double(value):
        return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    return lambda: function(*map(double, given))


# --- what an answer returns, and what it is asked to call ---------------------------------------


def returned(value: Any) -> Any:
    """What an answer returned. Raises TypeError for None, in the words that `check` has for it."""
    if value is None:
        raise TypeError("the answer returned None: does it end in a return?")
    return value


def whole(values: Any, one: str) -> torch.Tensor:
    """A list of ints as one tensor, int64. Raises TypeError for anything else; `one` says what each of them is."""
    if isinstance(returned(values), torch.Tensor):
        raise TypeError("a tensor came back, a list of Python ints belongs there")
    for value in values:
        if not isinstance(value, numbers.Integral):
            raise TypeError(f"{one} is of type {type(value).__name__}, an int belongs there")
    return torch.tensor([int(value) for value in values], dtype=torch.int64)


def noted(function: Callable[..., Any], notes: list, what: Callable[..., Any]) -> Callable[..., Any]:
    """The function for an answer to call; each call adds to `notes` what `what` makes of the same arguments."""

    def call(*given, **named):
        result = function(*given, **named)  # first, since a wrong call is to be told in the function's own name
        notes.append(what(*given, **named))
        return result

    return call


def must_be_tensors(intro: str, **given: Any) -> None:
    """Raises TypeError for the first that is no tensor; the error begins with intro, where {} is its name."""
    for name, value in given.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{intro.format(name)} of type {type(value).__name__}, a tensor belongs there")


# --- inputs -------------------------------------------------------------------------------------


def noise_levels(draw: Draw) -> dict[str, torch.Tensor]:
    """One step of each of three images: its beta_t, and abar after it and before it, each (3, 1, 1, 1)."""
    beta_t = draw.uniform(3, 1, 1, 1, low=0.1, high=0.6)
    abar_prev = draw.uniform(3, 1, 1, 1, low=0.2, high=0.9)
    return {"beta_t": beta_t, "abar_t": (1 - beta_t) * abar_prev, "abar_prev": abar_prev}


# --- modules ------------------------------------------------------------------------------------


def with_layers(module: Any, *layers: str) -> Any:
    """The module itself. Raises AttributeError where a layer is not there under its name: its weights depend on it."""
    for layer in layers:
        if not hasattr(module, layer):
            raise AttributeError(f"your class has no layer {layer}; keep the given names")
    return module


def names_of_parameters(module: torch.nn.Module, seed: int, *inputs: torch.Tensor) -> dict[str, str]:
    """The parameters' names and shapes, of a module that runs (an empty stub must say that it is not done)."""
    given_weights(module, seed).to(inputs[0].device)(*inputs)
    return parameter_shapes(module)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Something that mixes places as attention does, so that a layer is tried apart from `attention`.

    It is not attention itself: what tries one answer must not be another answer.
    """
    weights = (q.transpose(-1, -2) @ k + 0.5).tanh()  # (B, heads, N, M)
    return v @ weights.transpose(-1, -2), weights


def attend_doubled(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Twice what `attend` returns, so that a layer that does not call self.attend is found out."""
    output, weights = attend(q, k, v)
    return 2 * output, weights


def mix(place: str, x: torch.Tensor, out: int) -> torch.Tensor:
    """A fixed 1 by 1 convolution that depends on where it stands: (B, C, H, W) -> (B, out, H, W)."""
    width = x.shape[1]
    weight = Draw(zlib.crc32(f"{place}/{width}".encode())).normal(out, width).to(x) / math.sqrt(width)
    return torch.einsum("oc,bchw->bohw", weight, x)
