"""How long lab 3's own training takes until 90 % of its digits are read with confidence over 0.9.

    LABDIFF_DATA=... python tests/benchmarks/time_to_quality.py [--threads 2] [--steps 1500]

Trains as the lab does, with `train_unet`, and every 100 steps draws 256 digits from the EMA
with 20 calls and asks the classifier. Drawing and reading do not count as training time. In the first steps the
classifier is sure of blobs that are no digits; the time counts from when the share stays above 90 %.
"""

from __future__ import annotations

import argparse
import time

import torch

from labdiff import data, models
from labdiff.models.sampling import sample
from labdiff.models.train.processes import device_named
from labdiff.reference.lab3_training import train_unet
from labdiff.reference.lab4_sampling import confident_share
from labdiff.schedules import alphas_cumprod


def main() -> None:
    """Print the curve and the time at which it first reaches 90 %."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--peak", type=float, default=1e-3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = device_named(options.device)
    images, _ = data.load("mnist")
    start, looking, reached = time.perf_counter(), 0.0, None

    def look(step: int, ema: torch.nn.Module, network: torch.nn.Module) -> None:
        nonlocal looking, reached
        paused = time.perf_counter()
        probabilities, _ = models.classify(sample(ema, 256, steps=20))
        share, trained = confident_share(probabilities.log()), paused - start - looking
        print(f"step {step:5d}   {trained:6.1f} s of training   {float(share):.1%} confident", flush=True)
        # a classifier that never saw blobs may be sure of them, so only a share that stays counts
        reached = (reached or trained) if share >= 0.9 else None
        looking += time.perf_counter() - paused

    train_unet(
        images,
        options.steps,
        batch=options.batch,
        peak=options.peak,
        device=device,
        alphas_cumprod=alphas_cumprod(),
        every=100,
        callback=look,
    )
    print(f"90 % reached after {reached:.0f} s of training" if reached else "90 % was not reached")


if __name__ == "__main__":
    main()
