"""Images in [-1, 1] as pixels, and as pictures on disk."""

from __future__ import annotations

from pathlib import Path

import torch

from labdiff import files


def to_pixels(x: torch.Tensor) -> torch.Tensor:
    """Turn images in [-1, 1] into pixels in [0, 255], clamped so that nothing wraps around.

    x: any shape, float. Returns the same shape, uint8.
    """
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Turn pixels in [0, 255] into images in [-1, 1]. Any shape, uint8 to float32."""
    return pixels.float() / 127.5 - 1


def tiled(images: torch.Tensor, columns: int) -> torch.Tensor:
    """Images side by side, `columns` to a line, two dark pixels between them.

    images: (N, C, H, W) in [-1, 1], C 1 or 3. Returns pixels (H', W', 3), uint8.
    """
    from torchvision.utils import make_grid

    grid = make_grid(images, nrow=columns, padding=2, pad_value=-1)  # (3, H', W')
    return to_pixels(grid).permute(1, 2, 0).contiguous()


def save_grid(images: torch.Tensor, file: Path, columns: int = 8) -> None:
    """Write images (N, C, H, W) in [-1, 1] as one PNG, `columns` to a line. Raises FileError."""
    from PIL import Image

    with files.writing(file) as temporary:
        Image.fromarray(tiled(images, columns).numpy()).save(temporary, format="PNG")
