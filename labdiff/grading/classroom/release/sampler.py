"""In place of the answers of lab 4, which this package does not hold: enough to draw digits with a network.

It is packed under the name of these answers, with a file beside it that `package` makes. A whole step of DDIM with
eta = 0 is linear in the image and in the network's output, as long as nothing is clamped. The file holds the two
numbers of each step, so that no formula that a lab asks for goes out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@functools.cache
def _steps() -> dict[str, Any]:
    """T: how many timesteps there are. steps: a timestep, and how much of the image and of the output comes next."""
    found: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return found


def make_denoiser(network: Network, alphas_cumprod: torch.Tensor) -> Network:
    """The network as it is; `ddim_sample` takes it so."""
    return network


def ddim_timesteps(T: int, n: int) -> list[int]:
    """The timesteps of the steps. Raises ValueError where others are asked for."""
    timesteps = [t for t, _, _ in _steps()["steps"]]
    if (T, n) != (_steps()["T"], len(timesteps)):
        raise ValueError(
            f"This package draws in {len(timesteps)} steps of {_steps()['T']}; lab 4 builds what draws in others."
        )
    return timesteps


def ddim_sample(
    network: Network, x_T: torch.Tensor, timesteps: Sequence[int], alphas_cumprod: torch.Tensor
) -> torch.Tensor:
    """Walk from noise x_T (B, C, H, W) to images in [-1, 1], by the numbers of the steps."""
    x = x_T
    for t, image, output in _steps()["steps"]:
        x = image * x + output * network(x, torch.full((len(x),), t, device=x.device))  # (B, C, H, W)
    return x.clamp(-1, 1)
