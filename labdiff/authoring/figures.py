"""What is drawn from the checkpoints: the pictures of the README and the offline digits."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from tqdm import tqdm

from labdiff import data, files, models
from labdiff.images import tiled, to_pixels
from labdiff.schedules import alphas_cumprod, spaced_timesteps

KEY = "drawn-from"
SHOWN = (999, 800, 650, 500, 350, 200, 100, 0)


def digits() -> torch.Tensor:
    """64 digits, 16 to a line."""
    return _twice(models.draw(64, steps=20, seed=0), 16)


def process() -> torch.Tensor:
    """Eight digits on their way from noise, a line each: x_t at falling t, then the digit."""
    from labdiff.reference.lab4_sampling import ddim_sigma, ddim_step, make_denoiser

    abar = torch.cat([alphas_cumprod(), torch.ones(1)])  # the last is for t = -1, no noise
    denoise = make_denoiser(models.unet(), abar[:-1])
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(8, 1, 28, 28, generator=generator)  # (B, 1, 28, 28)
    timesteps = [*spaced_timesteps(50), -1]
    kept, wanted = [], list(SHOWN)
    with torch.inference_mode():
        for t, previous in itertools.pairwise(timesteps):
            while wanted and t <= wanted[0]:
                kept.append(x)
                wanted.pop(0)
            shape = (len(x), 1, 1, 1)
            abar_t, abar_prev = abar[t].expand(shape), abar[previous].expand(shape)
            noise = torch.randn(x.shape, generator=generator)  # (B, 1, 28, 28)
            x = ddim_step(x, denoise(x, t), abar_t, abar_prev, ddim_sigma(abar_t, abar_prev, 1.0), noise)
    return _twice(torch.stack([*kept, x], 1).flatten(0, 1), len(kept) + 1)


def prompts() -> torch.Tensor:
    """A picture for each of twelve prompts, with the prompt below it."""
    from labdiff.models.sampling import sample_prompts

    texts = (
        "a bold red seven leaning left on blue",
        "thin 3, green on black",
        "a big white zero on red",
        "a thick black 5 on yellow",
        "the four in yellow on green, tilted left",
        "a little blue eight on white",
        "a large fine white 2 leaning right on black",
        "blue 9 on a red ground, bold",
        "on green a thin big black 6 leaning right",
        "a small bold white one tilted left on blue",
        "the three in red on white, thick leaning right",
        "a large green 0 on yellow",
    )
    drawn = sample_prompts(models.text_to_image(), models.autoencoder(), texts, seed=1)
    return _with_texts(drawn, texts)


def edit() -> torch.Tensor:
    """A scribble as it becomes a three, by strength; and digits whose lower half was hidden, before and after."""
    from labdiff.canvas import DEFAULT, from_strokes
    from labdiff.reference.lab5_guidance import make_guided_denoiser
    from labdiff.reference.lab7_editing import repaint, sdedit

    network, abar, timesteps = models.guided_unet(), alphas_cumprod(), spaced_timesteps(50)
    scribble = from_strokes(DEFAULT)  # (1, 1, 28, 28)
    three = make_guided_denoiser(network, abar, torch.tensor([3]), 3.0)
    whole, labels = (part[:11] for part in data.offline_digits())  # (B, 1, 28, 28) and (B,)
    upper = torch.zeros(1, 1, 28, 28)
    upper[:, :, :14] = 1
    told = make_guided_denoiser(network, abar, labels)
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(1)
        strengths = [0.1 * i for i in range(1, 11)]
        edits = [sdedit(three, scribble, timesteps, s, abar, 1.0, generator) for s in strengths]
        filled = repaint(told, whole, upper, timesteps, abar, 2, 1.0, generator)
    return _twice(torch.cat([scribble, *edits, upper * (whole + 1) - 1, filled]), len(whole))


# what is drawn, and from which checkpoints
FIGURES: dict[str, tuple[Callable[[], torch.Tensor], tuple[str, ...]]] = {
    "digits.png": (digits, ("model",)),
    "process.png": (process, ("model",)),
    "prompts.png": (prompts, ("autoencoder", "text_to_image")),
    "edit.png": (edit, ("guided",)),
}


def source_hash(draw: Callable[..., Any], names: tuple[str, ...] = ("model",)) -> str:
    """A hash of what something is drawn from: the code that draws it and the weights of the checkpoints."""
    made_from = hashlib.sha256(inspect.getsource(draw).encode())
    for checkpoint in names:
        for name, value in sorted(models.load(checkpoint)["weights"].items()):
            made_from.update(name.encode() + value.numpy().tobytes())
    return made_from.hexdigest()


def is_fresh(file: Path) -> bool:
    """Whether a picture of FIGURES was drawn by its code from its checkpoints."""
    if not file.exists():
        return False
    with Image.open(file) as picture:
        return picture.info.get(KEY) == source_hash(*FIGURES[file.name])


def save(file: Path) -> None:
    """Draw a picture of FIGURES, and note in it what it was made from. Raises FileError."""
    about = PngImagePlugin.PngInfo()
    about.add_text(KEY, source_hash(*FIGURES[file.name]))
    picture = Image.fromarray(FIGURES[file.name][0]().numpy())
    with files.writing(file) as temporary:
        picture.save(temporary, format="PNG", pnginfo=about)


def offline_digits_are_fresh(file: Path) -> bool:
    """Whether the offline digits were drawn by this code from this checkpoint."""
    if not file.exists():
        return False
    with np.load(file, allow_pickle=False) as stored:
        return str(stored["drawn_from"]) == source_hash(save_offline_digits)


def save_offline_digits(file: Path, n: int = 10_000, batch: int = 500) -> None:
    """Draw n digits that the classifier reads with confidence over 0.9, and write them with its labels."""
    images, labels, seed = [], [], 0
    with tqdm(total=n, desc="drawing offline digits") as bar:
        while bar.n < n:
            drawn = models.draw(batch, steps=20, seed=1000 + seed)  # (batch, 1, 28, 28)
            seed += 1
            confidence, label = models.classify(drawn)[0].max(1)
            sure = (confidence > 0.9).nonzero().flatten()[: n - bar.n]
            images.append(to_pixels(drawn[sure, 0]))
            labels.append(label[sure].to(torch.uint8))
            bar.update(len(sure))
    drawn_from = np.array(source_hash(save_offline_digits))
    with files.writing(file) as temporary, open(temporary, "wb") as stored:
        np.savez_compressed(
            stored, images=torch.cat(images).numpy(), labels=torch.cat(labels).numpy(), drawn_from=drawn_from
        )


def _twice(images: torch.Tensor, columns: int) -> torch.Tensor:
    """Grey images (N, 1, H, W) in [-1, 1] side by side, twice enlarged, as pixels (H', W')."""
    return tiled(images, columns)[..., 0].repeat_interleave(2, 0).repeat_interleave(2, 1)


def _with_texts(images: torch.Tensor, texts: Sequence[str], columns: int = 6) -> torch.Tensor:
    """Images (N, 3, H, W) in [-1, 1], each with its text below, as pixels (H', W', 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = -(-len(images) // columns)
    figure = Figure(figsize=(columns * 1.15, lines * 1.55), dpi=144, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for i, (image, text) in enumerate(zip(images, texts, strict=True)):
        axis = figure.add_subplot(lines, columns, i + 1)
        axis.imshow(to_pixels(image).permute(1, 2, 0))
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel(textwrap.fill(text, 18), fontsize=6.5)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy())
