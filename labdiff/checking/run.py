"""Run a probe on an answer and bring back plain arrays, whatever the answer does."""

from __future__ import annotations

import linecache
import os
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from labdiff.exercises import Exercise

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOT_DONE = "NotImplementedError"
STOPPED = "KeyboardInterrupt: you stopped it"


@dataclass
class Output:
    """What one part of a probe returned: arrays and texts by their place in it, or an error.

    arrays: place -> array. place is "" for a single tensor, "[1]" or ".mean" inside a
    tuple or a dictionary. dtypes: place -> the name of the tensor's dtype, "number" for a
    Python number. error: "TypeError: ..." with the line of the answer that raised it.
    changed: the names of the inputs that the answer changed in place.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    error: str = ""
    changed: tuple[str, ...] = ()

    @property
    def not_done(self) -> bool:
        return self.error.startswith(NOT_DONE)


def run_probe(exercise: Exercise, answer: Any, inputs: dict[str, Any], device: str = "cpu") -> dict[str, Output]:
    """Try an answer on inputs that `exercise.drawn(seed)` made; each part gets copies of its own.

    Returns the output of each part, in the probe's order. Nothing that the answer raises
    comes out as an exception; it is in `Output.error`.
    """
    outputs: dict[str, Output] = {}
    for name in _parts(exercise, answer, _copy(inputs, device)):
        stopped = any(output.error.startswith(STOPPED) for output in outputs.values())
        # one press of the stop button ends the whole check, not one part of it
        outputs[name] = Output(error=STOPPED) if stopped else _run_part(exercise, answer, inputs, name, device)
    return outputs


def _parts(exercise: Exercise, answer: Any, inputs: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    return exercise.probe(answer, **inputs)


def _run_part(exercise: Exercise, answer: Any, inputs: dict[str, Any], name: str, device: str) -> Output:
    given = _copy(inputs, device)
    output = Output()
    # An answer may set the seed, turn gradients off or make a million warnings: none of it may leak.
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.manual_seed(0)
            _collect(_parts(exercise, answer, given)[name](), "", output, _device_of(given))
        except KeyboardInterrupt:
            output.error = STOPPED
        except RecursionError:
            output.error = "RecursionError: the answer calls itself without end"
        except BaseException as error:  # SystemExit too: an answer must not end the kernel
            output.error = explain(error)
    if output.error:
        output.arrays, output.dtypes, output.texts = {}, {}, {}
    output.changed = tuple(key for key, before in _copy(inputs, device).items() if not _same(before, given[key]))
    return output


def _copy(value: Any, device: str) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone().to(device)
    if isinstance(value, dict):
        return {key: _copy(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copy(item, device) for item in value)
    return value


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, torch.Tensor):
        return before.shape == after.shape and before.dtype == after.dtype and bool(torch.equal(before, after))
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(_same(before[k], after[k]) for k in before)
    if isinstance(before, (list, tuple)):
        return len(before) == len(after) and all(map(_same, before, after))
    return True


def _device_of(given: dict[str, Any]) -> torch.device | None:
    """The device that the inputs are on; None where no input is a tensor, so that no answer can know it."""
    return next((value.device for value in given.values() if isinstance(value, torch.Tensor)), None)


def _collect(value: Any, place: str, output: Output, device: torch.device | None) -> None:
    if isinstance(value, torch.Tensor):
        if device is not None and value.device.type != device.type and value.dim():
            raise RuntimeError(f"the result is on {value.device}, its inputs were on {device}")
        tensor = value.detach().to("cpu")
        output.dtypes[place] = str(value.dtype).removeprefix("torch.")
        output.arrays[place] = (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
    elif isinstance(value, (bool, int, float, np.number)):
        output.dtypes[place] = "number"
        output.arrays[place] = np.asarray(value)
    elif isinstance(value, str):
        output.texts[place] = value
    elif isinstance(value, dict):
        for key, item in value.items():
            _collect(item, f"{place}.{key}", output, device)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _collect(item, f"{place}[{i}]", output, device)
    elif value is None:
        raise TypeError("the answer returned None: does it end in a return?")
    else:
        raise TypeError(f"the answer returned {_an(type(value).__name__)}, a torch.Tensor belongs there")


def _an(word: str) -> str:
    return ("an " if word[:1].lower() in "aeiou" else "a ") + word


def explain(error: BaseException) -> str:
    """One line that says what was raised and, where it can be known, on which line of the answer."""
    if 'missing the required "forward"' in str(error):
        return "AttributeError: your class has no method called forward"
    message = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}".rstrip(": ")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        theirs = not frame.filename.startswith(PACKAGE) and f"{os.sep}site-packages{os.sep}" not in frame.filename
        if theirs and linecache.getline(frame.filename, frame.lineno or 0):
            return f"{message} (line {frame.lineno} of your cell: {frame.line})"
    return message
