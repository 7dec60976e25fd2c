"""classifier.ckpt: the network that reads digits, on MNIST with shifted and turned digits."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from labdiff import data
from labdiff.models.classifier import DigitClassifier
from labdiff.models.evaluation import evaluate_classifier
from labdiff.models.train.recipe import Recipe
from labdiff.models.train.training import Batch, Task

RECIPE = Recipe(data="mnist", steps=2_340, batch=256, peak=4e-3, decay=0.7, ema_decay=0.99)


def prepare(recipe: Recipe) -> Task:
    """What is trained. Raises DataError where MNIST cannot be had.

    Under torchrun each process normalises its batches by itself, so there the losses depend on how many there are.
    """
    images, labels = data.load("mnist", train=True)
    torch.manual_seed(recipe.seed)

    def draw(chosen: torch.Tensor, generator: torch.Generator) -> Batch:
        return shifted_and_turned(images[chosen], generator), labels[chosen]

    def loss_of(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(network(x).float(), y)

    return Task(DigitClassifier(**recipe.config), len(images), draw, loss_of, evaluate_classifier)


def shifted_and_turned(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images shifted by up to 2 pixels, turned by up to 10 degrees and scaled by up to 10 %, each at random.

    images: (B, 1, H, W) in [-1, 1]; what comes in from outside is -1.
    """
    n = len(images)
    draw = torch.rand(4, n, generator=generator) * 2 - 1  # (4, B)
    angle, scale = draw[0] * 0.175, 1 + draw[1] * 0.1
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift = draw[2:] * 2 * 2 / images.shape[-1]  # (2, B), in units of half an image
    rows = torch.stack([torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1  # (B, 1, H, W)
