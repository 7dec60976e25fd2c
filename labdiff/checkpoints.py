"""The checkpoints that ship with the labs: reading, writing, and drawing digits from them.

A checkpoint is one file, read with weights_only=True, that holds `weights` (a state
dictionary), `config` (what the network is built with), `recipe` (how it was trained) and
`figures` (what was measured).
"""

from __future__ import annotations

import copy
import functools
import os
import pickle
from pathlib import Path
from typing import Any

import torch

PLACES = (Path(__file__).parent / "shipped", Path(__file__).parents[1] / "checkpoints")
PARTS = ("weights", "config", "recipe", "figures")


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message says why and what to do."""


def path(name: str) -> Path:
    """Where a shipped checkpoint lies, by its name ("model", "judge"), or the path itself.

    Raises CheckpointError where there is none.
    """
    if os.sep in str(name) or str(name).endswith(".ckpt"):
        file = Path(name)
        if not file.exists():
            raise CheckpointError(f"There is no checkpoint {file}: check the path, or make one with `labdiff train`.")
        return file
    for place in PLACES:
        if (place / f"{name}.ckpt").exists():
            return place / f"{name}.ckpt"
    shipped = sorted({file.stem for place in PLACES for file in place.glob("*.ckpt")})
    raise CheckpointError(
        f"No checkpoint called {name!r} ships with labdiff; there are {', '.join(shipped) or 'none'}."
    )


def load(name: str | Path = "model") -> dict[str, Any]:
    """Read a checkpoint by name or path, on the CPU, without running any code in it.

    Returns the dictionary of `weights`, `config`, `recipe` and `figures`.
    Raises CheckpointError where the file is missing, cut off, or not a checkpoint of labdiff.
    """
    file = path(str(name))
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{file} cannot be read as a checkpoint: it is cut off, damaged, or made by another program. "
            f"Fetch it again, or train one with `labdiff train`."
        ) from error
    if not isinstance(found, dict) or any(part not in found for part in PARTS):
        raise CheckpointError(f"{file} is no checkpoint of labdiff: it lacks {_lacking(found)}.")
    return found


def _lacking(found: Any) -> str:
    return ", ".join(part for part in PARTS if not isinstance(found, dict) or part not in found)


def refuse_to_overwrite(file: Path, overwrite: bool) -> None:
    """Raise CheckpointError where the file exists and `overwrite` is false."""
    if file.exists() and not overwrite:
        raise CheckpointError(f"{file} exists already: choose another name, or say --overwrite.")


def save(file: Path, checkpoint: dict[str, Any], overwrite: bool = False) -> None:
    """Write a checkpoint whole or not at all.

    Raises CheckpointError where the file exists and `overwrite` is false.
    """
    refuse_to_overwrite(file, overwrite)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".partial")
    torch.save(checkpoint, temporary)
    os.replace(temporary, file)


def fit(network: torch.nn.Module, name: str | Path = "model") -> torch.nn.Module:
    """Load a checkpoint's weights into a network, such as your own U-Net.

    Returns the network, in evaluation mode. Raises CheckpointError and names the first
    parameter that is missing, unknown or of another shape.
    """
    weights = load(name)["weights"]
    own = network.state_dict()
    for key, value in weights.items():
        if key not in own:
            raise CheckpointError(f"Your network has no parameter {key}, which the checkpoint holds. {_near(key, own)}")
        if own[key].shape != value.shape:
            raise CheckpointError(
                f"The parameter {key} has the shape {tuple(own[key].shape)} in your network "
                f"and {tuple(value.shape)} in the checkpoint."
            )
    extra = [key for key in own if key not in weights]
    if extra:
        raise CheckpointError(f"Your network has a parameter {extra[0]} that the checkpoint does not hold.")
    network.load_state_dict(weights)
    return network.eval()


def _near(key: str, own: dict[str, Any]) -> str:
    from labdiff.exercises.names import nearest

    return nearest(key, own)


@functools.cache
def model() -> torch.nn.Module:
    """Lab 2's U-Net with the weights of checkpoints/model.ckpt, on the CPU, in evaluation mode."""
    from labdiff.reference.lab2_unet import UNet

    return fit(UNet(**load("model")["config"]), "model")


@functools.cache
def _model_for_drawing() -> torch.nn.Module:
    """The same network in channels_last, and in bfloat16 where this machine is faster with it."""
    from labdiff.reference.lab3_training import MixedPrecision, bfloat16_is_faster

    network = copy.deepcopy(model()).to(memory_format=torch.channels_last)
    few = torch.zeros(16, 1, 28, 28).to(memory_format=torch.channels_last)
    return MixedPrecision(network, bfloat16_is_faster(network, few, torch.zeros(16, dtype=torch.int64)))


def draw(n: int, steps: int = 20, eta: float = 1.0, seed: int = 0, size: int = 28) -> torch.Tensor:
    """Draw digits from checkpoints/model.ckpt by DDIM (Song, Meng and Ermon 2021).

    n: how many. steps: calls of the network. eta: how much fresh noise each step adds, from 0 to 1; with this
    checkpoint 1 draws the better digits. Returns (n, 1, size, size), float32 in [-1, 1].
    """
    from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas
    from labdiff.reference.lab4_sampling import ddim_sample, ddim_timesteps, make_denoiser

    T = load("model")["recipe"]["T"]
    alphas_cumprod = compute_alphas_cumprod(cosine_betas(T))
    generator = torch.Generator().manual_seed(seed)
    x_T = torch.randn(n, 1, size, size, generator=generator)
    denoise = make_denoiser(_model_for_drawing(), alphas_cumprod)
    with torch.inference_mode():
        return ddim_sample(denoise, x_T, ddim_timesteps(T, steps), alphas_cumprod, eta, generator)
