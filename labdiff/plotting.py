"""Pictures for the notebooks: grids of images, rows over time, curves, sliders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from labdiff.images import to_pixels


def show(
    images: torch.Tensor, columns: int = 8, title: str = "", titles: Sequence[str] | None = None, scale: float = 0.9
) -> None:
    """Show images in a grid.

    images: (N, C, H, W) with C = 1 (grey) or 3 (colour), in [-1, 1]; what lies outside is clamped.
    titles: one per image. scale: inches per image.
    """
    import matplotlib.pyplot as plt

    columns = min(columns, len(images))
    lines = -(-len(images) // columns)
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(columns * scale, lines * (scale + (0.25 if titles else 0)) + (0.3 if title else 0)),
        squeeze=False,
        layout="constrained",
    )
    for i, axis in enumerate(axes.flat):
        axis.axis("off")
        if i < len(images):
            _draw(axis, images[i])
            if titles:
                axis.set_title(titles[i], fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    plt.show()


def rows(named: dict[str, torch.Tensor], titles: Sequence[str] | None = None, scale: float = 0.9) -> None:
    """Show one named row of images per entry, all of the same length, below common column titles.

    named: name -> (N, C, H, W) in [-1, 1]. titles: N texts.
    """
    import matplotlib.pyplot as plt

    n = max(len(images) for images in named.values())
    _, axes = plt.subplots(
        len(named), n, figsize=(n * scale + 1.2, len(named) * scale + 0.3), squeeze=False, layout="constrained"
    )
    for line, (name, images) in zip(axes, named.items(), strict=True):
        for i, axis in enumerate(line):
            axis.set_xticks([])
            axis.set_yticks([])
            if i < len(images):
                _draw(axis, images[i])
            else:
                axis.axis("off")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for i, text in enumerate(titles or ()):
        axes[0, i].set_title(text, fontsize=8)
    plt.show()


def curves(
    named: dict[str, Any],
    x: Any = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    log: bool = False,
    level: float | None = None,
) -> None:
    """Plot named curves over a common axis.

    named: name -> (N,) values. x: (N,) positions, 0 to N - 1 unless given. log: a logarithmic
    value axis. level: a dashed line at this value.
    """
    import matplotlib.pyplot as plt

    _, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for name, values in named.items():
        values = torch.as_tensor(values).detach().cpu()
        axis.plot(range(len(values)) if x is None else x, values, label=name, marker="o" if len(values) < 20 else "")
    if level is not None:
        axis.axhline(level, linestyle="--", linewidth=1, color="grey")
    if log:
        axis.set_yscale("log")
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.grid(alpha=0.3)
    if len(named) > 1:
        axis.legend()
    plt.show()


def explore(picture: Callable[..., None], still: Iterable[Any] = (), **values: Sequence[Any]) -> None:
    """Show `picture(name=value)` under a slider, and beside it plain pictures for a few values.

    The plain pictures stay when the notebook is exported; a slider does not. Without
    ipywidgets only the plain ones are shown.

    picture: draws something for one value. still: the values drawn plainly, the first, middle
    and last unless told. values: the one argument's name and what it may be.
    """
    ((name, choices),) = values.items()
    choices = list(choices)
    for value in tuple(still) or (choices[0], choices[len(choices) // 2], choices[-1]):
        picture(**{name: value})
    try:
        import ipywidgets
        from IPython import get_ipython
    except ImportError:
        return
    if not hasattr(get_ipython(), "kernel"):
        return
    slider = ipywidgets.SelectionSlider(
        options=choices, value=choices[len(choices) // 2], description=name, continuous_update=False
    )
    ipywidgets.interact(picture, **{name: slider})


def _draw(axis: Any, image: torch.Tensor) -> None:
    pixels = to_pixels(image.detach().cpu())  # (C, H, W)
    if len(pixels) == 1:
        axis.imshow(pixels[0], cmap="gray", vmin=0, vmax=255)
    else:
        axis.imshow(pixels.permute(1, 2, 0))
