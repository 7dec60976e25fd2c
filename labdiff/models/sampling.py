"""Drawing by DDIM (Song, Meng and Ermon 2021) with networks that predict v, with the answers of labs 3 to 6."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence

import torch
from torch import nn
from tqdm import tqdm

from labdiff.models.shipped import unet
from labdiff.reference.lab3_training import MixedPrecision, bfloat16_is_faster
from labdiff.reference.lab4_sampling import ddim_sample, make_denoiser
from labdiff.reference.lab5_guidance import make_guided_denoiser
from labdiff.reference.lab6_text_to_image import Autoencoder, TextToImage, make_text_denoiser, tokenise
from labdiff.schedules import alphas_cumprod, spaced_timesteps

Denoiser = Callable[[torch.Tensor, int], torch.Tensor]


@functools.cache
def _fast_unet() -> nn.Module:
    """The U-Net of model.ckpt in channels_last, and in bfloat16 where this machine is faster with it."""
    network = copy.deepcopy(unet()).to(memory_format=torch.channels_last)
    few = torch.zeros(16, 1, 28, 28).to(memory_format=torch.channels_last)
    fast: nn.Module = MixedPrecision(network, bfloat16_is_faster(network, few, torch.zeros(16, dtype=torch.int64)))
    return fast


@torch.inference_mode()
def sample_digits(n: int, steps: int, eta: float, seed: int, size: int) -> torch.Tensor:
    """What `labdiff.models.draw` draws: (n, 1, size, size), float32 in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    x_T = torch.randn(n, 1, size, size, generator=generator)
    abar = alphas_cumprod()
    drawn: torch.Tensor = ddim_sample(
        make_denoiser(_fast_unet(), abar), x_T, spaced_timesteps(steps), abar, eta, generator
    )
    return drawn


def device_of(network: nn.Module) -> torch.device:
    """Where a network's parameters lie."""
    return next(network.parameters()).device


def sample(network: nn.Module, n: int, steps: int, seed: int = 0, power: float = 1.0) -> torch.Tensor:
    """Draw n digits with a network that predicts v, at spaced_timesteps(steps, power), with eta = 1.

    Returns (n, 1, 28, 28) in [-1, 1], on the CPU.
    """
    x_T = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    denoise = make_denoiser(network, alphas_cumprod())
    return _in_batches(lambda rows: denoise, x_T, device_of(network), spaced_timesteps(steps, power), seed + 1)


def sample_labels(
    network: nn.Module,
    labels: torch.Tensor,
    steps: int,
    scale: float | Callable[[int], float] = 1.0,
    seed: int = 0,
    power: float = 1.0,
) -> torch.Tensor:
    """Draw a digit for each label with lab 5's network and guidance scale, with eta = 1.

    labels: (n,), int64. steps, power: see spaced_timesteps; a step is one call where the scale is 1, else two.
    scale: a number, or a function that takes the timestep and returns one.
    Returns (n, 1, 28, 28) in [-1, 1], on the CPU.
    """
    x_T = torch.randn(len(labels), 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    where, abar = device_of(network), alphas_cumprod()

    def denoiser_of(rows: slice) -> Denoiser:
        denoise: Denoiser = make_guided_denoiser(network, abar, labels[rows].to(where), scale)
        return denoise

    return _in_batches(denoiser_of, x_T, where, spaced_timesteps(steps, power), seed + 1)


def sample_prompts(
    network: TextToImage, coder: Autoencoder, prompts: Sequence[str], steps: int = 20, scale: float = 3.0, seed: int = 0
) -> torch.Tensor:
    """Draw a picture for each prompt with lab 6's networks, with eta = 1.

    Returns (n, 3, 32, 32) in [-1, 1], on the CPU.
    Raises ValueError where a prompt holds a word that lab 6's vocabulary lacks.
    """
    where, abar = device_of(network), alphas_cumprod()
    tokens, null = torch.tensor([*map(tokenise, prompts)]).to(where), torch.tensor(tokenise("")).to(where)
    z_T = torch.randn(len(prompts), 4, 8, 8, generator=torch.Generator().manual_seed(seed))

    def denoiser_of(rows: slice) -> Denoiser:
        denoise: Denoiser = make_text_denoiser(network, abar, tokens[rows], null, scale)
        return denoise

    z = _in_batches(denoiser_of, z_T, where, spaced_timesteps(steps), seed + 1)
    with torch.inference_mode():
        return torch.cat([coder.decode(part.to(where)).cpu() for part in z.split(250)])


@torch.inference_mode()
def _in_batches(
    denoiser_of: Callable[[slice], Denoiser],
    x_T: torch.Tensor,
    device: torch.device,
    timesteps: Sequence[int],
    seed: int,
    batch: int = 250,
) -> torch.Tensor:
    """DDIM in batches, with a bar. denoiser_of(slice): the denoiser of these rows. Returns x_0 on the CPU, float32."""
    abar = alphas_cumprod().to(device)
    generator = torch.Generator().manual_seed(seed)
    drawn, n = [], len(x_T)
    few, denoise = x_T[:16].to(device), denoiser_of(slice(0, 16))
    faster = bfloat16_is_faster(lambda x, _: denoise(x, 500), few, few)
    with torch.autocast(device.type, torch.bfloat16, enabled=faster):
        for i in tqdm(range(0, n, batch), desc=f"drawing, {len(timesteps)} steps", leave=False, disable=n <= batch):
            rows = slice(i, i + batch)
            x = x_T[rows].to(device, memory_format=torch.channels_last)
            x_0 = ddim_sample(denoiser_of(rows), x, timesteps, abar, 1.0, generator)
            drawn.append(x_0.float().cpu())
    return torch.cat(drawn)
