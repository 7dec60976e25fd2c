"""model.ckpt: lab 2's U-Net on MNIST with lab 3's objective."""

from __future__ import annotations

import torch
from torch import nn

from labdiff import data
from labdiff.models.evaluation import evaluate_model
from labdiff.models.sampling import sample
from labdiff.models.train.diffusion import diffusion
from labdiff.models.train.recipe import Recipe
from labdiff.models.train.training import Task
from labdiff.reference.lab2_unet import UNet

RECIPE = Recipe(data="mnist", steps=10_500, batch=128, peak=1.5e-3, T=1000, schedule="cosine", target="v")


def prepare(recipe: Recipe) -> Task:
    """What is trained. Raises DataError where MNIST cannot be had."""
    images, _ = data.load("mnist", train=True)
    torch.manual_seed(recipe.seed)
    network = UNet(**recipe.config)

    def picture(ema: nn.Module) -> torch.Tensor:
        return sample(ema, 16, steps=20)

    return Task(network, len(images), *diffusion(recipe, images), evaluate_model, picture)
