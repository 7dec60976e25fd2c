"""A canvas to draw a digit in, and one way from any drawing to an image like those of MNIST.

`scribble` shows a canvas in Colab, JupyterLab and Jupyter Notebook. Strokes reach Python as
they are drawn: in Colab through a callback, elsewhere through a hidden text field of
ipywidgets that the canvas types into. Where there is no canvas it says so, and
`from_drawing` takes an array or a file.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from labdiff.errors import DrawingError

SIDE, BOX, MIDDLE = 28, 20, 14  # MNIST: 28 pixels, ink within 20 of them, its centre of mass on pixel 14
PEN = 1.2  # half the width of a stroke, in pixels of the result
LEAST_INK = 40  # pixels: a straight line over the whole box, two pixels wide

Strokes = Sequence[Sequence[Sequence[float]]]

DEFAULT: Strokes = (((60, 70), (200, 60), (120, 140), (210, 170), (180, 230), (70, 225)),)


class Scribble:
    """What was drawn in a canvas so far, or the strokes that serve until something is.

    strokes: the strokes, each a list of points (x, y), y downwards. drawn: whether they come from the canvas.
    """

    def __init__(self, default: Strokes):
        self.default = default
        self.strokes = default
        self.drawn = False

    def receive(self, text: str) -> str:
        """Take the strokes that the canvas sends, as JSON, and return a sentence for whoever draws."""
        strokes = _checked(json.loads(text))
        self.drawn = bool(strokes)
        self.strokes = strokes or self.default
        if not self.drawn:
            return "Nothing is drawn, so the strokes that were handed in serve."
        return f"Python has {len(strokes)} stroke{'s' * (len(strokes) > 1)}. Now run the cells below."

    def image(self) -> torch.Tensor:
        """The drawing as an image like those of MNIST: (1, 1, 28, 28), float32 in [-1, 1]."""
        return from_strokes(self.strokes)


def scribble(default: Strokes = DEFAULT) -> Scribble:
    """Show a canvas, and return what collects its strokes.

    default: the strokes that serve until something is drawn. The image is `scribble(...).image()`, asked for in
    another cell, after drawing. Where there is no canvas, one sentence says so and the default serves.
    """
    drawing = Scribble(_checked(default))
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if not hasattr(shell, "kernel"):
        print(f"No notebook, no canvas. {_OTHERWISE}")
    elif "google.colab" in sys.modules:
        _show_in_colab(drawing)
    else:
        _show_in_jupyter(drawing)
    return drawing


_OTHERWISE = "The strokes that were handed in serve; from_drawing(...) takes an array or a file instead."


def _show_in_colab(drawing: Scribble) -> None:
    from IPython.display import HTML, display

    name = f"labdiff-scribble-{secrets.token_hex(4)}"
    importlib.import_module("google.colab.output").register_callback(name, drawing.receive)
    display(HTML(_page(name)))


def _show_in_jupyter(drawing: Scribble) -> None:
    try:
        import ipywidgets
    except ImportError:
        print(f"The canvas needs ipywidgets (pip install ipywidgets). {_OTHERWISE}")
        return
    from IPython.display import HTML, display

    name = f"labdiff-scribble-{secrets.token_hex(4)}"
    field = ipywidgets.Textarea(layout=ipywidgets.Layout(display="none"))
    field.add_class(name)
    said = ipywidgets.Label()

    def receive(change: dict[str, Any]) -> None:
        said.value = drawing.receive(change["new"])

    field.observe(receive, names="value")
    display(HTML(_page(name)))
    display(ipywidgets.VBox([field, said]))


def _page(name: str) -> str:
    """The canvas as HTML. name: what it is called in the page, where there may be several."""
    return Path(__file__).with_name("canvas.html").read_text(encoding="utf-8").replace("NAME", name)


def from_strokes(strokes: Strokes) -> torch.Tensor:
    """Draw strokes as MNIST's digits are drawn: as large as its box allows, its centre of mass in the middle.

    strokes: each a list of points (x, y), y downwards, in any unit; one point alone is a dot.
    Returns (1, 1, 28, 28), float32 in [-1, 1], bright ink on dark ground. Raises DrawingError where there is no stroke.
    """
    strokes = _checked(strokes)
    if not strokes:
        raise DrawingError("The drawing is empty: give at least one stroke, a list of points (x, y).")
    lines = [torch.tensor(stroke, dtype=torch.float64) for stroke in strokes]  # (N, 2) each
    every = torch.cat(lines)
    low, high = every.amin(0), every.amax(0)  # (2,)
    extent = (high - low).max()
    scale = (BOX - 2 * PEN) / extent if extent > 0 else 1.0
    # between two pixels, so that the ink is as many pixels long as the box
    lines = [(line - (low + high) / 2) * scale + MIDDLE - 0.5 for line in lines]
    ink = _ink(lines)  # (28, 28)
    shift = _shift_to_middle(ink)
    if any(shift):
        ink = _ink([line + torch.tensor(shift[::-1]) for line in lines])
    return (2 * ink - 1).float()[None, None]


def from_drawing(drawing: Any) -> torch.Tensor:
    """Make an image like those of MNIST of any drawing: an array, a tensor, a nested list, or a picture's file.

    drawing: (H, W), (H, W, C) or (C, H, W), in any range such as 0 to 255, 0 to 1 or -1 to 1; or the path of a PNG
    or JPEG. The paper is the median along the border; what differs from it is ink, and what differs most is full ink.
    So bright on dark and dark on bright both serve. Then, as MNIST was made: the ink is scaled to fit 20 pixels, its
    proportions kept, thickened where the pen was thin, and placed with its centre of mass in the middle of 28. What
    is 28 by 28 already, with ink that fits 20 by 20, stays where it is.
    Returns (1, 1, 28, 28), float32 in [-1, 1], bright ink on dark ground. Raises DrawingError and says what is wrong.
    """
    pixels = _read(drawing) if isinstance(drawing, (str, os.PathLike)) else _numbers(drawing)
    ink = _ink_of(_grey(pixels))  # (H, W)
    if ink.shape != (SIDE, SIDE) or max(_within_box(ink, 0).shape) > BOX:
        crop = _thick_enough(_within_box(ink, 0.2))  # fainter pixels are the edge of a stroke or dirt
        size = [max(1, round(n * BOX / max(crop.shape))) for n in crop.shape]
        crop = F.interpolate(crop[None, None], size=size, mode="bilinear", antialias=True, align_corners=False)[0, 0]
        top, left = (MIDDLE - n // 2 for n in size)
        ink = F.pad(crop, (left, SIDE - left - size[1], top, SIDE - top - size[0]))  # (28, 28)
        ink = ink.roll(_shift_to_middle(ink), (0, 1)) / ink.amax()
    return (2 * ink - 1).float()[None, None]


# --- from strokes -----------------------------------------------------------------------------


def _checked(strokes: Any) -> Strokes:
    """The strokes as lists of pairs of numbers. Raises DrawingError for anything else."""
    try:
        found = [[(float(x), float(y)) for x, y in stroke] for stroke in strokes]
    except (TypeError, ValueError):
        found = None
    if found is None or not all(math.isfinite(v) for stroke in found for point in stroke for v in point):
        raise DrawingError("Strokes are a list of strokes, each a list of points (x, y) of finite numbers.")
    return [stroke for stroke in found if stroke]


def _ink(lines: list[torch.Tensor]) -> torch.Tensor:
    """Ink from 0 to 1 by the distance of each pixel from the nearest line. lines: (N, 2) each. Returns (28, 28)."""
    axis = torch.arange(SIDE, dtype=torch.float64)
    pixel = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)[:, :, None]  # (28, 28, 1, 2), x before y
    starts = torch.cat([line[:-1] if len(line) > 1 else line for line in lines])  # (M, 2)
    ends = torch.cat([line[1:] if len(line) > 1 else line for line in lines])  # (M, 2)
    along = ends - starts  # (M, 2)
    share = ((pixel - starts) * along).sum(-1) / along.square().sum(-1).clamp(min=1e-12)  # (28, 28, M)
    nearest = starts + share.clamp(0, 1)[..., None] * along  # (28, 28, M, 2)
    distance = (pixel - nearest).square().sum(-1).amin(-1).sqrt()  # (28, 28)
    return (PEN + 0.5 - distance).clamp(0, 1)


# --- from pictures ----------------------------------------------------------------------------


def _read(path: str | os.PathLike[str]) -> np.ndarray:
    if not Path(path).is_file():
        raise DrawingError(f"There is no file {path}: check the path (in Colab, upload the picture first).")
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)  # a telephone stores which way up it was held
            deep = upright.mode.startswith(("I", "F"))
            return np.asarray(upright if deep else upright.convert("RGBA"), dtype=np.float64)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DrawingError(f"{path} cannot be read as a picture: save it as PNG or JPEG.") from error


def _numbers(drawing: Any) -> np.ndarray:
    """An array of finite float64, without leading axes of length 1. Raises DrawingError."""
    if isinstance(drawing, torch.Tensor):
        drawing = drawing.detach().cpu().float().numpy()
    try:
        if drawing is None:
            raise TypeError("None is no drawing")
        pixels = np.asarray(drawing, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DrawingError(
            f"A drawing is an array of numbers or the path of a picture; no array can be made of {drawing!r:.60}."
        ) from error
    while pixels.ndim > 2 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.size and not np.isfinite(pixels).all():
        raise DrawingError("The drawing holds NaN or infinity: every pixel must be a finite number.")
    return pixels


def _grey(pixels: np.ndarray) -> torch.Tensor:
    """Brightness (H, W) of grey, coloured or partly transparent pixels. Raises DrawingError for other shapes."""
    if pixels.ndim == 3 and pixels.shape[-1] not in (1, 2, 3, 4) and pixels.shape[0] in (2, 3, 4):
        pixels = pixels.transpose(1, 2, 0)  # (H, W, C)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 2, 3, 4) or min(pixels.shape[:2]) < 3:
        raise DrawingError(
            f"One drawing has the shape (H, W), (H, W, C) or (C, H, W), at least 3 by 3; this one has {pixels.shape}."
        )
    channels = pixels.shape[-1]
    grey = pixels[..., : channels - (channels in (2, 4))].mean(-1)  # (H, W)
    if channels in (2, 4):
        opaque = pixels[..., -1] / (255 if pixels.max() > 1 else 1)  # (H, W)
        seen = (grey * opaque).sum() / max(opaque.sum(), 1e-9)
        # what is transparent is paper, dark under bright ink and bright under dark ink
        paper = 0.0 if seen > pixels.max() / 2 else pixels.max()
        grey = grey * opaque + paper * (1 - opaque)
    return torch.from_numpy(grey)


def _within_box(ink: torch.Tensor, least: float) -> torch.Tensor:
    """The smallest part of an image outside of which no ink exceeds `least`."""
    ys, xs = ((ink > least).any(axis).nonzero().flatten() for axis in (1, 0))
    return ink[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]


def _thick_enough(ink: torch.Tensor) -> torch.Tensor:
    """Ink, its strokes thickened until they stay visible within the box. Grows by a pixel on each side at a time."""
    while ink.sum() * BOX**2 / max(ink.shape) ** 2 < LEAST_INK:
        ink = F.max_pool2d(F.pad(ink, (2, 2, 2, 2))[None], 3, stride=1)[0]
    return ink


def _ink_of(grey: torch.Tensor) -> torch.Tensor:
    """Ink from 0 to 1: how far each pixel is from the paper, towards the side where the farthest one is."""
    border = torch.cat([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    apart = grey - border.median()
    if apart.amax() < -apart.amin():
        apart = -apart
    if apart.amax() <= 1e-6 * grey.abs().amax().clamp(min=1e-6):
        raise DrawingError("The drawing is empty: no pixel differs from the paper along its border.")
    return (apart / apart.amax()).clamp(min=0)


def _shift_to_middle(ink: torch.Tensor) -> tuple[int, int]:
    """How far down and right to move, in whole pixels, so that the centre of mass lies on pixel 14 and no ink is lost.

    ink: (28, 28), at least 0, not all 0.
    """
    axis = torch.arange(SIDE, dtype=ink.dtype)
    shift = []
    for along in (ink.sum(1), ink.sum(0)):
        used = along.nonzero().flatten()
        wanted = round(MIDDLE - ((along * axis).sum() / along.sum()).item())
        shift.append(min(max(wanted, -int(used[0])), SIDE - 1 - int(used[-1])))
    return shift[0], shift[1]
