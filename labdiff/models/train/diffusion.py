"""What every diffusion network here learns: v, with lab 3's loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from labdiff.models.train.recipe import Recipe
from labdiff.models.train.training import Batch
from labdiff.reference.lab1_forward import extract, q_sample
from labdiff.reference.lab3_training import v_target
from labdiff.schedules import alphas_cumprod


def diffusion(
    recipe: Recipe, images: torch.Tensor, told: torch.Tensor | None = None, null: int | Sequence[int] = 0
) -> tuple[Callable[[torch.Tensor, torch.Generator], Batch], Callable[..., torch.Tensor]]:
    """A Task's `draw` and `loss_of` for a network that predicts v, with the cosine schedule.

    images: (N, C, H, W) in [-1, 1], or latents of deviation about 1. told: what the network is told beside the time,
    (N, ...), int64; with the probability recipe.drop it is replaced by `null`, so that the network can be guided
    (Ho and Salimans 2022, algorithm 1).
    """
    T, drop = recipe.T or 0, recipe.drop or 0.0
    abar = alphas_cumprod(T)  # (T,)

    def draw(chosen: torch.Tensor, generator: torch.Generator) -> Batch:
        x_0 = images[chosen]  # (B, C, H, W)
        t = torch.randint(0, T, (len(x_0),), generator=generator)  # (B,)
        eps = torch.randn(x_0.shape, generator=generator)  # (B, C, H, W)
        if told is None:
            return x_0, t, eps
        dropped = torch.rand(len(x_0), generator=generator) < drop  # (B,)
        dropped = dropped.view(-1, *(1,) * (told.dim() - 1))  # (B, ...)
        return x_0, t, eps, torch.where(dropped, torch.as_tensor(null, dtype=told.dtype), told[chosen])

    def loss_of(
        network: nn.Module, x_0: torch.Tensor, t: torch.Tensor, eps: torch.Tensor, *told: torch.Tensor
    ) -> torch.Tensor:
        abar_t = extract(abar.to(x_0.device), t, x_0)  # (B, 1, 1, 1)
        v = network(q_sample(x_0, abar_t, eps), t, *told)  # (B, C, H, W)
        return nn.functional.mse_loss(v.float(), v_target(x_0, eps, abar_t))

    return draw, loss_of
