"""The figures of the checkpoints, as the model card states them.

How good are drawn digits? The classifier reads them, and two figures are made of what it sees: how sure it is of a
digit, and how far the cloud of its features for drawn digits lies from the cloud for real ones (the FID of Heusel and
others 2017, smaller where the two are more alike).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from labdiff import data, pictures
from labdiff.models.reading import attributes_of, classify
from labdiff.models.sampling import device_of, sample, sample_labels, sample_prompts
from labdiff.reference.lab4_sampling import confident_share, frechet_distance
from labdiff.reference.lab5_guidance import scale_at
from labdiff.reference.lab6_text_to_image import Autoencoder, TextToImage
from labdiff.schedules import spaced_timesteps

Figures = dict[str, Any]


def quality_of(images: torch.Tensor, real_features: torch.Tensor) -> Figures:
    """The figures of drawn digits: FID against real ones, and the share read with confidence over 0.9.

    images: (N, 1, 28, 28) in [-1, 1]. real_features: (M, 128), the classifier's features of real digits.
    The formulas are lab 4's answers `frechet_distance` and `confident_share`.
    """
    probabilities, features = classify(images)
    return {
        "fid": float(frechet_distance(features, real_features)),
        "confident": float(confident_share(probabilities.log())),
    }


def floor(n: int = 10_000) -> tuple[Figures, torch.Tensor]:
    """What n training images score against the 10,000 test images, and the features of those, (10000, 128).

    Raises DataError where MNIST cannot be had, as all below do.
    """
    test, _ = data.load("mnist", train=False)
    real = classify(test)[1]
    return quality_of(_of_training(n)[0], real), real


def _of_training(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The n training images of the floor, and their labels."""
    images, labels = data.load("mnist", train=True)
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]
    return images[chosen], labels[chosen]


def evaluate_model(
    network: nn.Module, calls: tuple[int, ...] = (10, 20, 50, 200), n: int = 10_000, power: float = 0.5
) -> Figures:
    """FID and confident share of drawn digits for several numbers of calls, beside the floor.

    power: see spaced_timesteps.
    """
    lowest, real = floor(n)
    figures: Figures = {"n": n, "eta": 1.0, "power": power, "floor": lowest}
    for steps in calls:
        found = quality_of(sample(network, n, steps, seed=1, power=power), real)
        figures[str(steps)] = found | {"times_floor": found["fid"] / lowest["fid"]}
    return figures


def evaluate_guided(
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
    lowest, real = floor(n)
    labels = _of_training(n)[1]  # (n,)
    figures: Figures = {"n": n, "floor": lowest}
    for steps, scale, low, high, power in settings:
        now = functools.partial(scale_at, scale=scale, low=low, high=high)
        drawn = sample_labels(network, labels, steps, now, seed=1, power=power)
        found = quality_of(drawn, real)
        found["times_floor"] = found["fid"] / lowest["fid"]
        found["as_asked"] = (classify(drawn)[0].argmax(1) == labels).float().mean().item()
        found["calls"] = sum(1 if now(t) == 1 else 2 for t in spaced_timesteps(steps, power))
        found["power"] = power
        figures[f"{steps} steps, scale {scale:g} from t = {low} to {high}"] = found
    return figures


def evaluate_text_to_image(
    network: TextToImage, coder: Autoencoder, n: int = 2_000, steps: int = 20, scale: float = 3.0
) -> Figures:
    """The share of pictures in which each attribute is as asked, for n prompts of seen and of held-out combinations.

    "all": digit, ink, ground, thickness and slant together.
    """
    figures: Figures = {"n": n, "steps": steps, "scale": scale}
    for name, held_out in (("seen", False), ("held out", True)):
        generator = torch.Generator().manual_seed(1)
        asked = pictures.random_attributes(torch.arange(n) % 10, generator, held_out)  # (n, 6)
        drawn = sample_prompts(network, coder, pictures.captions(asked, seed=1), steps, scale, seed=1)
        right = attributes_of(drawn) == asked  # (n, 6)
        shares = right.float().mean(0).tolist()
        figures[name] = dict(zip(pictures.ATTRIBUTES, shares, strict=True))
        figures[name]["all"] = right[:, : pictures.SIZE].all(1).float().mean().item()
    return figures


@torch.inference_mode()
def evaluate_autoencoder(coder: Autoencoder, n: int = 2_000) -> Figures:
    """How well pictures made from MNIST's test images come back: root mean square error over pixels in [-1, 1].

    "read": the share of pictures whose attributes are read from the reconstruction as from the picture.
    """
    images, digits = data.load("mnist", train=False)
    x, _, _ = pictures.pictures(images[:n], digits[:n], held_out=None)
    where = device_of(coder)
    again = torch.cat([coder.decode(coder.encode(part.to(where))).cpu() for part in x.split(250)])
    same = (attributes_of(again) == attributes_of(x)).all(1).float().mean().item()
    return {
        "n": n,
        "rmse": (again - x).square().mean().sqrt().item(),
        "read": same,
        "scale": coder.get_buffer("scale").item(),
    }


@torch.inference_mode()
def evaluate_classifier(network: nn.Module) -> Figures:
    """The share of MNIST's 10,000 test images that a classifier reads rightly."""
    images, labels = data.load("mnist", train=False)
    where = device_of(network)
    network.eval()
    said = torch.cat([network(x.to(where)).argmax(1).cpu() for x in images.split(500)])  # (N,)
    return {"test_accuracy": (said == labels).float().mean().item()}
