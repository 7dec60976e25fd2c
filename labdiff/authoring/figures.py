"""What is drawn from checkpoints/model.ckpt: the pictures of the README and the offline digits."""

from __future__ import annotations

import hashlib
import inspect
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from tqdm import tqdm

from labdiff import checkpoints, data, metrics

KEY = "drawn-from"
SHOWN = (999, 800, 650, 500, 350, 200, 100, 0)


def digits() -> torch.Tensor:
    """64 digits, 16 to a line."""
    return _tile(checkpoints.draw(64, steps=20, seed=0), 16)


def process() -> torch.Tensor:
    """Eight digits on their way from noise, a line each: x_t at falling t, then the digit."""
    from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas
    from labdiff.reference.lab4_sampling import ddim_sigma, ddim_step, ddim_timesteps, make_denoiser

    T = checkpoints.load("model")["recipe"]["T"]
    abar = torch.cat([compute_alphas_cumprod(cosine_betas(T)), torch.ones(1)])  # the last is for t = -1, no noise
    denoise = make_denoiser(checkpoints.model(), abar[:-1])
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(8, 1, 28, 28, generator=generator)  # (B, 1, 28, 28)
    timesteps = [*ddim_timesteps(T, 50), -1]
    kept, wanted = [], list(SHOWN)
    with torch.inference_mode():
        for t, previous in itertools.pairwise(timesteps):
            while wanted and t <= wanted[0]:
                kept.append(x)
                wanted.pop(0)
            shape = (len(x), 1, 1, 1)
            pair = [abar[i].expand(shape) for i in (t, previous)]
            noise = torch.randn(x.shape, generator=generator)  # (B, 1, 28, 28)
            x = ddim_step(x, denoise(x, t), *pair, ddim_sigma(*pair, 1.0), noise)
    return _tile(torch.stack([*kept, x], 1).flatten(0, 1), len(kept) + 1)


FIGURES: dict[str, Callable[[], torch.Tensor]] = {"digits.png": digits, "process.png": process}


def source_hash(draw: Callable[..., Any]) -> str:
    """A hash of what something is drawn from: the code that draws it and the weights of the checkpoint."""
    made_from = hashlib.sha256(inspect.getsource(draw).encode())
    for name, value in sorted(checkpoints.load("model")["weights"].items()):
        made_from.update(name.encode() + value.numpy().tobytes())
    return made_from.hexdigest()


def is_fresh(file: Path, draw: Callable[[], torch.Tensor]) -> bool:
    """Whether a picture was drawn by this code from this checkpoint."""
    if not file.exists():
        return False
    with Image.open(file) as picture:
        return picture.info.get(KEY) == source_hash(draw)


def save(file: Path, draw: Callable[[], torch.Tensor]) -> None:
    """Draw a picture, twice enlarged, and note in it what it was made from."""
    about = PngImagePlugin.PngInfo()
    about.add_text(KEY, source_hash(draw))
    picture = Image.fromarray(draw().numpy())
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST).save(file, pnginfo=about)


def offline_digits_are_fresh(file: Path) -> bool:
    """Whether the offline digits were drawn by this code from this checkpoint."""
    if not file.exists():
        return False
    with np.load(file, allow_pickle=False) as stored:
        return str(stored["drawn_from"]) == source_hash(save_offline_digits)


def save_offline_digits(file: Path, n: int = 10_000, batch: int = 500) -> None:
    """Draw n digits that the judge reads with confidence over 0.9, and write them with its labels."""
    images, labels, seed = [], [], 0
    with tqdm(total=n, desc="drawing offline digits") as bar:
        while bar.n < n:
            drawn = checkpoints.draw(batch, steps=20, seed=1000 + seed)  # (batch, 1, 28, 28)
            seed += 1
            confidence, label = metrics.look(drawn)[0].max(1)
            sure = (confidence > 0.9).nonzero().flatten()[: n - bar.n]
            images.append(data.to_pixels(drawn[sure, 0]))
            labels.append(label[sure].to(torch.uint8))
            bar.update(len(sure))
    drawn_from = np.array(source_hash(save_offline_digits))
    np.savez_compressed(file, images=torch.cat(images).numpy(), labels=torch.cat(labels).numpy(), drawn_from=drawn_from)


def _tile(images: torch.Tensor, columns: int) -> torch.Tensor:
    """Images (N, 1, H, W) in [-1, 1] side by side, two pixels apart, as pixels (H', W')."""
    from torchvision.utils import make_grid

    return data.to_pixels(make_grid(images, nrow=columns, padding=2, pad_value=-1)[0])
