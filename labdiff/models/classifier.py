"""The network that reads digits."""

from __future__ import annotations

import torch
from torch import nn

FEATURES = 128


class DigitClassifier(nn.Module):
    """A convolutional classifier of digits: (B, 1, 28, 28) in [-1, 1] -> logits (B, 10)."""

    def __init__(self, width: int = 32) -> None:
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
        found: torch.Tensor = self.body(x)
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the ten digits: (B, 1, 28, 28) -> (B, 10)."""
        logits: torch.Tensor = self.head(self.dropout(self.features(x)))
        return logits


def _conv(channels: int, out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
