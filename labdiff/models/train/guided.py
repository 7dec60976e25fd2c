"""guided.ckpt: labels, taught to the U-Net of model.ckpt; lab 5's GuidedUNet, which begins with those weights."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from labdiff import data
from labdiff.models import checkpoint
from labdiff.models.evaluation import evaluate_guided
from labdiff.models.sampling import sample_labels
from labdiff.models.train import model
from labdiff.models.train.diffusion import diffusion
from labdiff.models.train.recipe import Recipe
from labdiff.models.train.training import Task
from labdiff.reference.lab5_guidance import GuidedUNet

RECIPE = dataclasses.replace(model.RECIPE, begins_with="model", steps=8_000, peak=1e-3, drop=0.1)


def prepare(recipe: Recipe) -> Task:
    """What is trained. Raises DataError where MNIST cannot be had."""
    images, labels = data.load("mnist", train=True)
    known = checkpoint.load(recipe.begins_with or "")
    torch.manual_seed(recipe.seed)
    network = GuidedUNet(**known["config"])
    network.load_state_dict(known["weights"], strict=False)  # the label vectors are new, and 0

    def picture(ema: nn.Module) -> torch.Tensor:
        return sample_labels(ema, torch.arange(40) % 10, steps=20, scale=2.0)

    return Task(network, len(images), *diffusion(recipe, images, labels, network.null), evaluate_guided, picture)
