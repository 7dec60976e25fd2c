"""autoencoder.ckpt: lab 6's autoencoder on coloured pictures made from MNIST."""

from __future__ import annotations

import torch
from torch import nn

from labdiff import data, pictures
from labdiff.models.evaluation import evaluate_autoencoder
from labdiff.models.sampling import device_of
from labdiff.models.train.recipe import Recipe
from labdiff.models.train.training import Batch, Task
from labdiff.reference.lab6_text_to_image import Autoencoder, kl_divergence

RECIPE = Recipe(
    data="pictures made from mnist",
    config={"channels": 32},
    steps=5_000,
    batch=32,
    peak=2e-3,
    ema_decay=0.995,
    kl_weight=1e-4,
)


def prepare(recipe: Recipe) -> Task:
    """What is trained: the loss is the pixels' mean squared error and kl_weight times the KL divergence.

    Raises DataError where MNIST cannot be had.
    """
    images, digits = data.load("mnist", train=True)
    torch.manual_seed(recipe.seed)
    network = Autoencoder(**recipe.config)
    shown = pictures.random_attributes(digits, torch.Generator().manual_seed(recipe.seed))  # (N, 6)
    inked = pictures.shapes(images, shown, recipe.seed)  # (N, 32, 32)

    def draw(chosen: torch.Tensor, generator: torch.Generator) -> Batch:
        attributes = pictures.random_attributes(digits[chosen], generator)  # (B, 6), new colours
        x = pictures.paint(inked[chosen], attributes, generator)  # (B, 3, 32, 32)
        return x, torch.randn(len(x), network.config["latent_channels"], 8, 8, generator=generator)

    def loss_of(network: nn.Module, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        again, mean, log_variance = network(x, noise)
        kl: torch.Tensor = kl_divergence(mean.float(), log_variance.float())
        return nn.functional.mse_loss(again.float(), x) + (recipe.kl_weight or 0.0) * kl

    def first(n: int) -> torch.Tensor:
        return draw(torch.arange(n), torch.Generator().manual_seed(recipe.seed))[0]  # (n, 3, 32, 32)

    @torch.inference_mode()
    def picture(ema: Autoencoder) -> torch.Tensor:
        x = first(32)
        again = ema.decoder(ema.encoder(x.to(device_of(ema)))[0]).float().cpu()
        return torch.stack([x, again], 1).flatten(0, 1)

    @torch.inference_mode()
    def settle(ema: Autoencoder) -> None:
        """Scale latents to a deviation of about 1."""
        x = first(min(2000, len(images)))
        latents = torch.cat([ema.encoder(part.to(device_of(ema)))[0] for part in x.split(250)])
        ema.get_buffer("scale").fill_(1 / latents.float().std().item())

    return Task(network, len(images), draw, loss_of, evaluate_autoencoder, picture, settle)
