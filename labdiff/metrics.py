"""How good are drawn digits? A judge that reads them, and figures made of what it sees.

The judge is a small classifier of MNIST. What it is asked: how sure it is of a digit,
and how far the cloud of its features for drawn digits lies from the cloud for real ones
(the FID, smaller where the two are more alike).
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import nn

FEATURES = 128


class Judge(nn.Module):
    """A convolutional classifier of digits: (B, 1, 28, 28) in [-1, 1] -> logits (B, 10)."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.config = {"width": width}
        self.body = nn.Sequential(
            *_conv(1, width),
            *_conv(width, width),
            nn.MaxPool2d(2),
            *_conv(width, 2 * width),
            *_conv(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_conv(2 * width, 4 * width),
            nn.Flatten(),
            nn.Linear(4 * width * 7 * 7, FEATURES),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(FEATURES, 10)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The activations before the last layer: (B, 1, 28, 28) -> (B, 128)."""
        return self.body(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the ten digits: (B, 1, 28, 28) -> (B, 10)."""
        return self.head(self.dropout(self.features(x)))


def _conv(channels: int, out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


@functools.cache
def judge() -> Judge:
    """The judge of checkpoints/judge.ckpt, on the CPU, in evaluation mode."""
    from labdiff import checkpoints

    return checkpoints.fit(Judge(**checkpoints.load("judge")["config"]), "judge")


@torch.inference_mode()
def look(images: torch.Tensor, batch: int = 500) -> tuple[torch.Tensor, torch.Tensor]:
    """What the judge sees in images, batch by batch.

    images: (N, 1, 28, 28) in [-1, 1]. Returns probabilities (N, 10) and features (N, 128), float32.
    """
    reader = judge()
    features = torch.cat([reader.features(x) for x in images.split(batch)])  # (N, 128)
    return reader.head(features).softmax(dim=1), features


def measure(images: torch.Tensor, real_features: torch.Tensor) -> dict[str, float]:
    """The figures of drawn digits: FID against real ones, and the share read with confidence over 0.9.

    images: (N, 1, 28, 28) in [-1, 1]. real_features: (M, 128), the judge's features of real digits.
    The formulas are lab 4's answers `frechet_distance` and `confident_share`.
    """
    from labdiff.reference.lab4_sampling import confident_share, frechet_distance

    probabilities, features = look(images)
    return {
        "fid": float(frechet_distance(features, real_features)),
        "confident": float(confident_share(probabilities.log())),
    }


def shifted_and_turned(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images shifted by up to 2 pixels, turned by up to 10 degrees and scaled by up to 10 %, each at random.

    images: (B, 1, H, W) in [-1, 1]; what comes in from outside is -1. Used to train the judge.
    """
    n = len(images)
    draw = torch.rand(4, n, generator=generator) * 2 - 1  # (4, B)
    angle, scale = draw[0] * 0.175, 1 + draw[1] * 0.1
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift = draw[2:] * 2 * 2 / images.shape[-1]  # (2, B), in units of half an image
    rows = torch.stack([torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1)], 1)  # (B, 2, 3)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1  # (B, 1, H, W)
