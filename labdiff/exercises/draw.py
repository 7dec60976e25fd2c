"""Inputs and weights drawn from a seed."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch


class Draw:
    """Inputs drawn from a seed.

    The stream is NumPy's RandomState, which NumPy promises never to change (NEP 19), so a
    seed means the same inputs on every machine and in every version. Tensors are made on
    the CPU.
    """

    def __init__(self, seed: int):
        self.stream = np.random.RandomState(seed)

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal values, float32."""
        return torch.from_numpy(self.stream.standard_normal(shape).astype(np.float32))

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Values uniform in [low, high), float32."""
        return torch.from_numpy(self.stream.uniform(low, high, shape).astype(np.float32))

    def images(self, n: int, *size: int, channels: int = 1) -> torch.Tensor:
        """n images in [-1, 1], (n, channels, H, W), float32. 8 by 8 unless told."""
        height, width = size or (8, 8)
        return self.uniform(n, channels, height, width, low=-1, high=1)

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """Integers in [low, high), int64."""
        return torch.from_numpy(self.stream.randint(low, high, shape).astype(np.int64))

    def integer(self, low: int, high: int) -> int:
        """One integer in [low, high)."""
        return int(self.stream.randint(low, high))

    def number(self, low: float, high: float) -> float:
        """One number uniform in [low, high)."""
        return float(self.stream.uniform(low, high))

    def timesteps(self, n: int, T: int) -> torch.Tensor:
        """n timesteps in [0, T), (n,), int64; all different where n <= T."""
        return torch.from_numpy(self.stream.choice(T, n, replace=n > T).astype(np.int64))

    def betas(self, T: int) -> torch.Tensor:
        """A schedule that no formula gives: T increasing variances in (0.01, 0.3), float32, (T,)."""
        return self.uniform(T, low=0.01, high=0.3).sort().values

    def seed(self) -> int:
        """A seed to draw weights from, see `given_weights`."""
        return int(self.stream.randint(2**31 - 1))


def given_weights(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Fill every parameter of a module with values that depend on its name, its shape and the seed.

    The order in which the module made its parameters does not matter, their names do.
    Weights are scaled by one over the square root of the fan-in, so that outputs keep
    their size. Returns the module, in evaluation mode.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            draw = Draw((zlib.crc32(name.encode()) ^ seed) % (2**32))
            fan_in = max(1, math.prod(parameter.shape[1:]))
            values = draw.normal(*parameter.shape) / math.sqrt(fan_in)
            if parameter.dim() == 1:
                values = values * 0.3 + (1.0 if name.endswith("weight") else 0.0)
            parameter.copy_(values)
    return module.eval()


def parameter_shapes(module: torch.nn.Module) -> dict[str, str]:
    """Each parameter's name and shape, as text, so that a judge can name the one that differs."""
    return {name: str(tuple(p.shape)) for name, p in sorted(module.named_parameters())}
