"""Checkpoints: finding, reading and writing them.

A checkpoint is one file, read with weights_only=True, that holds `weights` (a state
dictionary), `config` (what the network is built with), `recipe` (how it was trained) and
`figures` (what was measured).
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from labdiff import files
from labdiff.errors import CheckpointError, UnknownName
from labdiff.exercises.names import nearest

PARTS = ("weights", "config", "recipe", "figures")

Network = TypeVar("Network", bound=nn.Module)


def find(name: str | Path) -> Path:
    """Where a shipped checkpoint lies, by its name ("model", "classifier"), or the path itself.

    Raises UnknownName where none of that name ships, and CheckpointError where there is none at that path.
    """
    if os.sep in str(name) or str(name).endswith(".ckpt"):
        file = Path(name)
        if not file.exists():
            raise CheckpointError(f"There is no checkpoint {file}: check the path, or make one with `labdiff train`.")
        return file
    file = files.CHECKPOINTS / f"{name}.ckpt"
    if file.exists():
        return file
    shipped = sorted(each.stem for each in files.CHECKPOINTS.glob("*.ckpt"))
    raise UnknownName(f"No checkpoint called {name!r} ships with labdiff; there are {', '.join(shipped) or 'none'}.")


def load(name: str | Path) -> dict[str, Any]:
    """Read a checkpoint by name or path, on the CPU, without running any code in it.

    Returns the dictionary of `weights`, `config`, `recipe` and `figures`.
    Raises CheckpointError where the file is missing, cut off, or not a checkpoint of labdiff, else as `find`.
    """
    cure = "Fetch it again, or train one with `labdiff train`."
    return read_parts(find(name), "checkpoint", PARTS, cure)


def read_parts(file: Path, kind: str, parts: Collection[str], cure: str) -> dict[str, Any]:
    """A dictionary that torch.save wrote, on the CPU, without running any code in it.

    kind: what the file should be. parts: what it must hold. cure: what to do where it does not, a sentence.
    Raises CheckpointError where the file cannot be read, or lacks a part.
    """
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{file} cannot be read as a {kind}: it is cut off, damaged, or made by another program. {cure}"
        ) from error
    lacking = [part for part in parts if not isinstance(found, dict) or part not in found]
    if lacking:
        raise CheckpointError(f"{file} is no {kind} of labdiff: it lacks {', '.join(lacking)}. {cure}")
    whole: dict[str, Any] = found
    return whole


def refuse_to_overwrite(file: Path, overwrite: bool) -> None:
    """Raise CheckpointError where the file exists and `overwrite` is false."""
    if file.exists() and not overwrite:
        raise CheckpointError(f"{file} exists already: choose another name, or say --overwrite.")


def save(
    file: Path, network: nn.Module, recipe: dict[str, Any], figures: dict[str, Any], overwrite: bool = False
) -> None:
    """Write a network, whose arguments are its `config`, as a checkpoint; whole or not at all.

    Raises CheckpointError where the file exists and `overwrite` is false, and FileError where it cannot be written.
    """
    refuse_to_overwrite(file, overwrite)
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    with files.writing(file) as temporary:
        torch.save({"weights": weights, "config": network.config, "recipe": recipe, "figures": figures}, temporary)


def load_weights(network: Network, name: str | Path) -> Network:
    """Load a checkpoint's weights into a network, such as your own U-Net.

    Returns the network, in evaluation mode. Raises CheckpointError and names the first
    parameter that is missing, unknown or of another shape.
    """
    weights = load(name)["weights"]
    check_weights(network, weights)
    network.load_state_dict(weights)
    return network.eval()


def check_weights(network: nn.Module, weights: Any) -> None:
    """Raise CheckpointError where weights of a file are not those of a network; it names the first that differs."""
    own = network.state_dict()
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError("The checkpoint's weights are no tensors with names.")
    for key, value in weights.items():
        if key not in own:
            raise CheckpointError(
                f"Your network has no parameter {key}, which the checkpoint holds. {nearest(key, own)}"
            )
        if own[key].shape != value.shape:
            raise CheckpointError(
                f"The parameter {key} has the shape {tuple(own[key].shape)} in your network "
                f"and {tuple(value.shape)} in the checkpoint."
            )
    extra = [key for key in own if key not in weights]
    if extra:
        raise CheckpointError(f"Your network has a parameter {extra[0]} that the checkpoint does not hold.")


def from_checkpoint(kind: Callable[..., Network], name: str | Path) -> Network:
    """The network of a checkpoint: built with its config, filled with its weights, in evaluation mode.

    kind: the network's class, such as your own U-Net. Raises CheckpointError as `load` and `load_weights` do.
    """
    return load_weights(kind(**load(name)["config"]), name)
