"""The figures of the checkpoints, as the model card states them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from labdiff import data, pictures
from labdiff.models import classifier as metrics

Figures = dict[str, Any]
Denoiser = Callable[[torch.Tensor, int], torch.Tensor]


@torch.inference_mode()
def _sample(
    denoiser_of: Callable[[slice], Denoiser],
    x_T: torch.Tensor,
    device: torch.device,
    timesteps: Sequence[int],
    eta: float,
    seed: int,
    batch: int = 250,
) -> torch.Tensor:
    """DDIM in batches, with a bar. denoiser_of(slice): the denoiser of these rows. Returns x_0 on the CPU, float32."""
    from labdiff.reference.lab3_training import bfloat16_is_faster
    from labdiff.reference.lab4_sampling import ddim_sample

    alphas_cumprod = _schedule().to(device)
    generator = torch.Generator().manual_seed(seed)
    drawn, n = [], len(x_T)
    few, denoise = x_T[:16].to(device), denoiser_of(slice(0, 16))
    faster = bfloat16_is_faster(lambda x, _: denoise(x, 500), few, few)
    with torch.autocast(device.type, torch.bfloat16, enabled=faster):
        for i in tqdm(range(0, n, batch), desc=f"drawing, {len(timesteps)} steps", leave=False, disable=n <= batch):
            rows = slice(i, i + batch)
            x = x_T[rows].to(device, memory_format=torch.channels_last)
            x_0 = ddim_sample(denoiser_of(rows), x, timesteps, alphas_cumprod, eta, generator)
            drawn.append(x_0.float().cpu())
    return torch.cat(drawn)


def _schedule() -> torch.Tensor:
    from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas

    return compute_alphas_cumprod(cosine_betas(1000))


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def spaced_timesteps(steps: int, power: float = 1.0) -> list[int]:
    """Timesteps from 999 to 0, evenly spaced in t ** (1 / power), see lab 4: below 1, more of them lie near 999.

    Where two fall together, the list is shorter than `steps`. With power 1 it is what lab 4's ddim_timesteps returns,
    but that a value halfway between two timesteps may be rounded the other way.
    """
    exact = 999 * torch.linspace(1, 0, steps) ** power  # (steps,)
    return list(dict.fromkeys(exact.round().long().tolist()))


def sample(network: nn.Module, n: int, steps: int, seed: int = 0, eta: float = 1.0, power: float = 1.0) -> torch.Tensor:
    """Draw n digits by DDIM with a network that predicts v, at spaced_timesteps(steps, power).

    Returns (n, 1, 28, 28) in [-1, 1], on the CPU.
    """
    from labdiff.reference.lab4_sampling import make_denoiser

    x_T = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    denoise = make_denoiser(network, _schedule())
    return _sample(lambda rows: denoise, x_T, _device(network), spaced_timesteps(steps, power), eta, seed + 1)


def sample_labels(
    network: nn.Module,
    labels: torch.Tensor,
    steps: int,
    scale: float | Callable[[int], float] = 1.0,
    seed: int = 0,
    eta: float = 1.0,
    power: float = 1.0,
) -> torch.Tensor:
    """Draw a digit for each label with lab 5's network and guidance scale.

    labels: (n,), int64. steps, power: see spaced_timesteps; a step is one call where the scale is 1, else two.
    scale: a number, or a function that takes the timestep and returns one.
    Returns (n, 1, 28, 28) in [-1, 1], on the CPU.
    """
    from labdiff.reference.lab5_guidance import make_guided_denoiser

    x_T = torch.randn(len(labels), 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    where, schedule = _device(network), _schedule()

    def denoiser_of(rows: slice) -> Denoiser:
        return make_guided_denoiser(network, schedule, labels[rows].to(where), scale)

    return _sample(denoiser_of, x_T, where, spaced_timesteps(steps, power), eta, seed + 1)


def floor(n: int = 10_000) -> tuple[Figures, torch.Tensor]:
    """What n training images score against the 10,000 test images, and the features of those, (10000, 128)."""
    test, _ = data.load("mnist", train=False)
    real = metrics.look(test)[1]
    return metrics.measure(_of_training(n)[0], real), real


def _of_training(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The n training images of the floor, and their labels."""
    images, labels = data.load("mnist", train=True)
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]
    return images[chosen], labels[chosen]


def measure_model(
    network: nn.Module, calls: tuple[int, ...] = (10, 20, 50, 200), n: int = 10_000, power: float = 0.5
) -> Figures:
    """FID and confident share of drawn digits for several numbers of calls, beside the floor."""
    lowest, real = floor(n)
    figures: Figures = {"n": n, "eta": 1.0, "power": power, "floor": lowest}
    for steps in calls:
        found = metrics.measure(sample(network, n, steps, seed=1, power=power), real)
        figures[str(steps)] = found | {"times_floor": found["fid"] / lowest["fid"]}
    return figures


def measure_guided(
    network: nn.Module,
    settings: tuple[tuple[int, float, int, int, float], ...] = (
        (10, 1.0, 0, 999, 0.8),
        (20, 1.0, 0, 999, 0.8),
        (50, 1.0, 0, 999, 0.8),
        (36, 2.0, 300, 680, 1.0),
    ),
    n: int = 10_000,
) -> Figures:
    """FID, confident share and share classified as asked, beside the floor.

    Asked are the labels of the floor's n training images: an FID compares the shares of the digits as well.
    settings: several (steps, scale, low, high, power); guidance from t = low to t = high, see lab 5's `scale_at`.
    """
    from labdiff.reference.lab5_guidance import scale_at

    lowest, real = floor(n)
    labels = _of_training(n)[1]  # (n,)
    figures: Figures = {"n": n, "floor": lowest}
    for steps, scale, low, high, power in settings:
        now = functools.partial(scale_at, scale=scale, low=low, high=high)
        drawn = sample_labels(network, labels, steps, now, seed=1, power=power)
        found = metrics.measure(drawn, real)
        found["times_floor"] = found["fid"] / lowest["fid"]
        found["as_asked"] = (metrics.look(drawn)[0].argmax(1) == labels).float().mean().item()
        found["calls"] = sum(1 if now(t) == 1 else 2 for t in spaced_timesteps(steps, power))
        found["power"] = power
        figures[f"{steps} steps, scale {scale:g} from t = {low} to {high}"] = found
    return figures


PROMPTS = (
    "a bold red seven leaning left on blue",
    "thin 3, green on black",
    "a big white zero on red",
    "on yellow a bold small blue 8 leaning right",
    "black 5 on a white ground",
    "the four in yellow on green, thin tilted left",
    "a large thick white two on black",
    "blue 9 leaning right on a red ground",
)


def sample_prompts(
    network: nn.Module,
    coder: nn.Module,
    prompts: Sequence[str],
    steps: int = 20,
    scale: float = 3.0,
    seed: int = 0,
    eta: float = 1.0,
) -> torch.Tensor:
    """Draw a picture for each prompt with lab 6's networks.

    network: a TextToImage. coder: an Autoencoder. Returns (n, 3, 32, 32) in [-1, 1], on the CPU.
    """
    from labdiff.reference.lab6_text_to_image import make_text_denoiser, tokenise

    where, schedule = _device(network), _schedule()
    tokens, null = torch.tensor([*map(tokenise, prompts)]).to(where), torch.tensor(tokenise("")).to(where)
    z_T = torch.randn(len(prompts), 4, 8, 8, generator=torch.Generator().manual_seed(seed))

    def denoiser_of(rows: slice) -> Denoiser:
        return make_text_denoiser(network, schedule, tokens[rows], null, scale)

    z = _sample(denoiser_of, z_T, where, spaced_timesteps(steps), eta, seed + 1)
    with torch.inference_mode():
        return torch.cat([coder.decode(part.to(where)).cpu() for part in z.split(250)])


def measure_text_to_image(
    network: nn.Module, coder: nn.Module, n: int = 2_000, steps: int = 20, scale: float = 3.0
) -> Figures:
    """The share of pictures in which each attribute is as asked, for n prompts of seen and of held-out combinations.

    "all": digit, ink, ground, thickness and slant together.
    """
    figures: Figures = {"n": n, "steps": steps, "scale": scale}
    for name, held_out in (("seen", False), ("held out", True)):
        generator = torch.Generator().manual_seed(1)
        asked = pictures.random_attributes(torch.arange(n) % 10, generator, held_out)  # (n, 6)
        drawn = sample_prompts(network, coder, pictures.captions(asked, seed=1), steps, scale, seed=1)
        right = pictures.read(drawn) == asked  # (n, 6)
        shares = right.float().mean(0).tolist()
        figures[name] = dict(zip(pictures.ATTRIBUTES, shares, strict=True))
        figures[name]["all"] = right[:, : pictures.SIZE].all(1).float().mean().item()
    return figures


@torch.inference_mode()
def measure_autoencoder(coder: nn.Module, n: int = 2_000) -> Figures:
    """How well pictures made from MNIST's test images come back: root mean square error over pixels in [-1, 1].

    "read": the share of pictures whose attributes are read from the reconstruction as from the picture.
    """
    x, _, _ = pictures.pictures(*(part[:n] for part in data.load("mnist", train=False)), held_out=None)
    where = _device(coder)
    again = torch.cat([coder.decode(coder.encode(part.to(where))).cpu() for part in x.split(250)])
    same = (pictures.read(again) == pictures.read(x)).all(1).float().mean().item()
    return {"n": n, "rmse": (again - x).square().mean().sqrt().item(), "read": same, "scale": coder.scale.item()}


@torch.inference_mode()
def measure_judge(network: nn.Module) -> Figures:
    """The share of MNIST's 10,000 test images that a classifier reads rightly."""
    images, labels = data.load("mnist", train=False)
    where = _device(network)
    network.eval()
    said = torch.cat([network(x.to(where)).argmax(1).cpu() for x in images.split(500)])  # (N,)
    return {"test_accuracy": (said == labels).float().mean().item()}
