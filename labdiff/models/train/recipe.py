"""What decides the result of a training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides what a training makes, to rounding: who trains the same recipe gets the same network.

    What a training has no use for is None. A checkpoint holds the rest, as a dictionary.
    """

    data: str  # what is trained on
    begins_with: str | None = None  # the checkpoint whose weights the network begins with
    config: dict[str, Any] = field(default_factory=dict)  # arguments of the network, where they are not its defaults
    seed: int = 0  # of the weights, the order of the examples, and the noise
    steps: int
    batch: int  # of all processes together
    peak: float  # the largest learning rate of AdamW
    warmup: int = 200  # steps up to the peak
    decay: float = 0.35  # the share of the steps in which the rate goes down to 0
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0  # the largest norm of a gradient
    ema_decay: float = 0.999  # of the average that becomes the checkpoint
    # diffusion
    T: int | None = None
    schedule: str | None = None
    target: str | None = None
    drop: float | None = None  # the share of labels or captions that are left out, for guidance
    # the autoencoder, and what is trained in its latents
    kl_weight: float | None = None
    colourings: int | None = None  # how often each shape is painted
    autoencoder: str | None = None  # its checkpoint

    def as_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}

    def learning_rate(self, step: int) -> float:
        """Up to the peak in `warmup` steps, level, then down to 0 over the last `decay` of the steps.

        The level middle lets an interrupted run be resumed with another number of steps.
        """
        falling = (self.steps - step) / (self.decay * self.steps)
        return self.peak * min(1.0, (step + 1) / self.warmup, falling)
