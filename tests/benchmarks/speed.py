"""How long things take on this machine: checks, one training step, drawing digits and prompts.

    python tests/benchmarks/speed.py [--threads 2]

Prints the tables of the README. A peer, the U-Net of the Hugging Face diffusion course as
diffusers builds it, is timed in the same run, since seconds mean little across machines.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from labdiff import exercises, models
from labdiff.checking.notebook import verdict_of
from labdiff.models.sampling import sample_prompts
from labdiff.reference.lab2_unet import UNet
from labdiff.reference.lab3_training import MixedPrecision


def seconds(work: Callable[[], object], repeats: int = 7) -> float:
    """The median time of a call, after two that warm up."""
    for _ in range(2):
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def checks() -> None:
    """The time of each exercise's check: the median and the slowest."""
    taken = {}
    for lab in exercises.LABS:
        module = importlib.import_module(f"labdiff.reference.{lab}")
        for name, exercise in exercises.lab(lab).exercises.items():
            answer = getattr(module, name)
            verdict_of(exercise, answer)
            taken[name] = seconds(lambda exercise=exercise, answer=answer: verdict_of(exercise, answer), 3)
    slowest = max(taken, key=taken.get)
    print(f"checks: {len(taken)} exercises, median {statistics.median(taken.values()) * 1000:.1f} ms, ", end="")
    print(f"slowest {slowest} {taken[slowest] * 1000:.0f} ms, all together {sum(taken.values()):.2f} s")


class Peer(nn.Module):
    """The U-Net of the Hugging Face diffusion course, unit 1."""

    def __init__(self) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        self.network = UNet2DModel(
            sample_size=28,
            in_channels=1,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.network(x, t).sample


def network(title: str, made: nn.Module, fast: bool) -> None:
    """One training step and one forward pass of a batch of 64 images of 28 by 28."""
    layout = torch.channels_last if fast else torch.contiguous_format
    made = made.to(memory_format=layout)
    x = torch.randn(64, 1, 28, 28).to(memory_format=layout)  # (B, 1, H, W)
    t = torch.randint(0, 1000, (64,))  # (B,)
    optimizer = torch.optim.AdamW(made.parameters())
    mixed = MixedPrecision(made, fast)

    def forward() -> torch.Tensor:
        return mixed(x, t)

    def step() -> None:
        optimizer.zero_grad()
        forward().float().square().mean().backward()
        optimizer.step()

    trained = seconds(step)
    with torch.inference_mode():
        passed = seconds(forward)
    size = sum(p.numel() for p in made.parameters()) / 1e6
    print(f"{title:<40} {size:5.2f} M parameters   step {trained:.3f} s   forward {passed:.3f} s")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    checks()
    config = models.load("model")["config"]
    network("labdiff, bfloat16", UNet(**config), fast=True)
    network("labdiff, float32", UNet(**config), fast=False)
    network("Hugging Face course, float32", Peer(), fast=False)
    for calls in (10, 20, 50):
        print(f"drawing 64 digits, {calls} calls: {seconds(lambda calls=calls: models.draw(64, calls), 3):.2f} s")
    print(f"a picture from one prompt, 20 steps with guidance: {seconds(one_prompt, 5):.2f} s")


def one_prompt() -> None:
    """A picture from a prompt by lab 6's networks."""
    sample_prompts(models.text_to_image(), models.autoencoder(), ["a bold red seven leaning left on blue"])


if __name__ == "__main__":
    main()
