"""Coloured pictures with captions, made from MNIST: "a bold red seven leaning left on blue".

A picture has six attributes: its digit, ink, ground, thickness, slant and size. `shapes` measures the strokes of a
digit and draws them anew with the thickness, slant and size that are asked for, `paint` colours them, `caption` says in
words what is to be seen, and `measured` finds the attributes of any picture, such as one that a network drew; all but
the digit, which labdiff.models.attributes_of reads.

Attributes are the columns of an int64 tensor (N, 6), in the order of ATTRIBUTES; each is a place in its list of values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

COLOURS = {
    "black": (0.0, 0.0, 0.0),
    "white": (1.0, 1.0, 1.0),
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.7, 0.2),
    "blue": (0.15, 0.25, 0.95),
    "yellow": (1.0, 0.85, 0.1),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "digit": NUMBERS,
    "ink": tuple(COLOURS),
    "ground": tuple(COLOURS),
    "thickness": ("thin", "medium", "bold"),
    "slant": ("left", "upright", "right"),
    "size": ("small", "medium", "big"),
}
DIGIT, INK, GROUND, THICKNESS, SLANT, SIZE = range(6)
MIDDLE = 1  # of thickness, slant and size: what a caption leaves unsaid

SIDE = 32  # of a picture, pixels
FINE = 4  # strokes are measured and drawn at so many times that size
WIDTHS = (1.2, 2.4, 3.5)  # of strokes, in pixels, by thickness
SHEARS = (0.4, 0.0, -0.4)  # pixels to the right per pixel down, by slant; to lean left is to go right on the way down
HEIGHTS = (17.0, 21.0, 25.5)  # of digits, in pixels, by size
JITTER = {"width": 0.1, "shear": 0.07, "height": 0.8, "place": 1.5, "colour": 0.06}


def random_attributes(digits: torch.Tensor, generator: torch.Generator, held_out: bool | None = None) -> torch.Tensor:
    """Attributes drawn at random, ink and ground always different.

    digits: (N,), int64. held_out: only combinations that training leaves out, or only others; any unless given.
    Returns (N, 6), int64.
    """
    rest = torch.randint(3, (len(digits), 3), generator=generator)  # thickness, slant, size
    return recoloured(torch.cat([digits[:, None], torch.zeros(len(digits), 2), rest], 1).long(), generator, held_out)


def recoloured(attributes: torch.Tensor, generator: torch.Generator, held_out: bool | None = None) -> torch.Tensor:
    """The same attributes with ink and ground drawn at random, as `random_attributes` does. (N, 6) to (N, 6)."""
    digits, n, colours = attributes[:, DIGIT], len(attributes), len(COLOURS)
    left_out = _held_out_ink(digits)
    if held_out is None:
        ink = torch.randint(colours, (n,), generator=generator)
    elif held_out:
        ink = left_out
    else:
        ink = (left_out + torch.randint(1, colours, (n,), generator=generator)) % colours
    ground = (ink + torch.randint(1, colours, (n,), generator=generator)) % colours
    return torch.cat([torch.stack([digits, ink, ground], 1), attributes[:, GROUND + 1 :]], 1)  # (N, 6)


def _held_out_ink(digits: torch.Tensor) -> torch.Tensor:
    """The one of the six inks that each digit is never seen in while training. (N,) to (N,)."""
    return (5 * digits + 2) % len(COLOURS)


# --- shapes -----------------------------------------------------------------------------------


def shapes(images: torch.Tensor, attributes: torch.Tensor, seed: int = 0, progress: bool = True) -> torch.Tensor:
    """Digits drawn anew with their attributes' thickness, slant and size.

    images: (N, 1, 28, 28) in [-1, 1]. attributes: (N, 6). seed: of small differences from picture to picture.
    Returns how much of each pixel is ink, (N, 32, 32), uint8, 0 to 255.
    """
    rng = np.random.RandomState(seed)
    bar = tqdm(range(len(images)), desc="drawing shapes", disable=not progress or len(images) < 2000, mininterval=1)
    drawn = np.stack([_shape(images[i, 0].numpy(), attributes[i].tolist(), rng) for i in bar])
    return torch.from_numpy((drawn * 255).round().astype(np.uint8))  # (N, 32, 32)


def _shape(image: np.ndarray, attributes: Sequence[int], rng: np.random.RandomState) -> np.ndarray:
    """One digit, (28, 28) in [-1, 1], as ink, (32, 32) in [0, 1]."""
    draw = {name: rng.uniform(-amount, amount) for name, amount in JITTER.items() if name != "colour"}
    place = (draw["place"], rng.uniform(-JITTER["place"], JITTER["place"]))
    shear = SHEARS[attributes[SLANT]] + draw["shear"]
    height = HEIGHTS[attributes[SIZE]] + draw["height"]
    width = WIDTHS[attributes[THICKNESS]] * (1 + draw["width"])
    skeleton = _moved_skeleton((image + 1) / 2, shear, height - width, SIDE, place)
    return _stroke(skeleton, width)


def _moved_skeleton(
    ink: np.ndarray, shear: float, height: float, side: int, place: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """The middle lines of a digit, sheared and scaled, in the middle of a square.

    ink: (H, W) in [0, 1]. shear: of the result, in pixels to the right per pixel down. height: of the lines, in pixels.
    Returns (4 side, 4 side), bool.
    """
    from skimage.morphology import skeletonize
    from skimage.transform import AffineTransform, warp

    rows, columns = np.nonzero(ink > 0.4)
    if len(rows) < 3:
        return np.zeros((FINE * side, FINE * side), bool)
    leaning = _shear(ink)
    top, bottom = rows.min(), rows.max()
    upright = columns - leaning * rows  # where each pixel's column meets row 0, along the slant
    long, wide = max(bottom - top, 1), max(upright.max() - upright.min(), 1)
    down = height / long
    across = min(down, (side - 4 - abs(shear) * height) / wide)  # a wide digit is made narrower, to fit
    middle_row, middle_upright = (top + bottom) / 2, (upright.max() + upright.min()) / 2
    # new row = down * (row - middle), new column = across * (column - leaning * row - middle) + shear * new row
    half = FINE * side / 2
    columns_of = FINE * np.array([across, shear * down - across * leaning])
    rows_of = FINE * np.array([0.0, down])
    at_middle = -across * middle_upright - shear * down * middle_row, -down * middle_row
    matrix = np.array(
        [
            [*columns_of, half + FINE * (place[0] + at_middle[0])],
            [*rows_of, half + FINE * (place[1] + at_middle[1])],
            [0.0, 0.0, 1.0],
        ]
    )
    moved = warp(ink, AffineTransform(matrix).inverse, output_shape=(FINE * side, FINE * side), order=1)
    lines: np.ndarray = skeletonize(moved > 0.4)
    return lines


def _shear(ink: np.ndarray) -> float:
    """How far a digit's strokes go to the right per pixel down, from its second moments."""
    from skimage.measure import moments_central

    moments = moments_central(ink, order=2)
    return float(moments[1, 1] / max(moments[2, 0], 1e-6))


def _stroke(skeleton: np.ndarray, width: float) -> np.ndarray:
    """Lines drawn with a round pen. skeleton: (4 S, 4 S), bool. width: in pixels. Returns (S, S) in [0, 1]."""
    from scipy.ndimage import distance_transform_edt

    side = len(skeleton) // FINE
    if not skeleton.any():
        return np.zeros((side, side))
    far = distance_transform_edt(~skeleton) / FINE
    fine = np.clip(0.5 + FINE * (width / 2 - far), 0, 1)
    drawn: np.ndarray = fine.reshape(side, FINE, side, FINE).mean((1, 3))
    return drawn


# --- colours ----------------------------------------------------------------------------------


def paint(shapes: torch.Tensor, attributes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shapes in their attributes' ink on their ground, each colour a little different from picture to picture.

    shapes: (N, 32, 32), uint8. attributes: (N, 6). Returns (N, 3, 32, 32), float32 in [-1, 1].
    """
    palette = torch.tensor(list(COLOURS.values()))  # (6, 3)
    inks = torch.stack([palette[attributes[:, INK]], palette[attributes[:, GROUND]]])  # (2, N, 3)
    jitter = (torch.rand(inks.shape, generator=generator) * 2 - 1) * JITTER["colour"]
    ink, ground = (inks + jitter).clamp(0, 1)[..., None, None]  # (N, 3, 1, 1)
    share = shapes.float()[:, None] / 255  # (N, 1, 32, 32)
    painted: torch.Tensor = (ground + share * (ink - ground)) * 2 - 1  # (N, 3, 32, 32)
    return painted


# --- captions ---------------------------------------------------------------------------------

THICK = {"thin": ("thin", "fine"), "bold": ("bold", "thick")}
SIZES = {"small": ("small", "little"), "big": ("big", "large")}
LEANING = ("leaning", "tilted")
FORMS = (
    "a {size} {thick} {ink} {digit} {lean} on {ground}",
    "{thick} {digit}, {ink} on {ground}, {size} {lean}",
    "on {ground} a {thick} {size} {ink} {digit} {lean}",
    "{ink} {digit} {lean} on a {ground} ground, {size} {thick}",
    "the {digit} in {ink} on {ground}, {thick} {lean} {size}",
)


def caption(attributes: Sequence[int] | torch.Tensor, generator: torch.Generator) -> str:
    """One of many wordings of a picture's attributes; medium thickness and size and no slant go unsaid.

    attributes: six ints. Returns for example "a bold red seven leaning left on blue".
    """
    values = {name: ATTRIBUTES[name][int(i)] for name, i in zip(ATTRIBUTES, attributes, strict=True)}

    def one_of(choices: Sequence[str]) -> str:
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    said = {
        "ink": values["ink"],
        "ground": values["ground"],
        "digit": one_of((values["digit"], str(NUMBERS.index(values["digit"])))),
        "thick": one_of(THICK.get(values["thickness"], ("",))),
        "size": one_of(SIZES.get(values["size"], ("",))),
        "lean": "" if values["slant"] == "upright" else f"{one_of(LEANING)} {values['slant']}",
    }
    text = " ".join(one_of(FORMS).format(**said).split())
    return re.sub(r"\s+,|,\s*$", lambda found: "," if found.group().strip() and found.end() < len(text) else "", text)


def captions(attributes: torch.Tensor, seed: int = 0) -> list[str]:
    """A caption for each row of attributes, (N, 6)."""
    generator = torch.Generator().manual_seed(seed)
    return [caption(row, generator) for row in attributes.tolist()]


def vocabulary() -> tuple[str, ...]:
    """Every word that a caption can hold, in alphabetical order."""
    texts = [*FORMS, *LEANING, *COLOURS, *NUMBERS, *map(str, range(10)), "left", "right"]
    texts += [word for words in (*THICK.values(), *SIZES.values()) for word in words]
    return tuple(sorted({word for text in texts for word in re.findall(r"\w+", re.sub(r"\{\w+\}", "", text))}))


def pictures(
    images: torch.Tensor, digits: torch.Tensor, seed: int = 0, held_out: bool | None = False, progress: bool = True
) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """A captioned picture of each digit, with attributes drawn at random; by default none that training leaves out.

    images: (N, 1, 28, 28) in [-1, 1]. digits: (N,), their labels.
    Returns pictures (N, 3, 32, 32) in [-1, 1], N captions, and attributes (N, 6).
    """
    generator = torch.Generator().manual_seed(seed)
    attributes = random_attributes(digits, generator, held_out)
    painted = paint(shapes(images, attributes, seed, progress), attributes, generator)
    return painted, captions(attributes, seed), attributes


# --- measuring a picture ----------------------------------------------------------------------


def measured(pictures: torch.Tensor, progress: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """The attributes of any pictures but the digit, and the digit as MNIST would have it, for a classifier to read.

    pictures: (N, 3, 32, 32) in [-1, 1]. Returns attributes (N, 6), int64, the digit 0, and digits (N, 1, 28, 28) in
    [-1, 1], upright, of middle thickness and size.
    """
    palette = torch.tensor(list(COLOURS.values()))  # (6, 3)
    x = (pictures.clamp(-1, 1) + 1) / 2  # (N, 3, 32, 32)
    edge = torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], 2)  # (N, 3, 128)
    ground = edge.median(2).values  # (N, 3)
    far = (x - ground[..., None, None]).square().sum(1).sqrt()  # (N, 32, 32)
    most = far.flatten(1).topk(12).values.mean(1)[:, None, None].clamp(min=1e-3)  # (N, 1, 1)
    inked = (far > 0.75 * most)[:, None]  # (N, 1, 32, 32)
    ink = (x * inked).sum((2, 3)) / inked.sum((2, 3)).clamp(min=1)  # (N, 3)
    shares = (far / most).clamp(0, 1)  # (N, 32, 32)
    bar = tqdm(shares.numpy(), desc="reading pictures", disable=not progress or len(shares) < 2000, mininterval=1)
    found, upright = zip(*(_measured(share) for share in bar), strict=True)
    colours = [torch.cdist(colour, palette).argmin(1) for colour in (ink, ground)]  # (N,) each
    attributes = torch.cat([torch.stack([torch.zeros_like(colours[0]), *colours], 1), torch.tensor(found)], 1)
    return attributes, torch.from_numpy(np.stack(upright))[:, None].float() * 2 - 1


def _measured(share: np.ndarray) -> tuple[tuple[int, int, int], np.ndarray]:
    """Thickness, slant and size of ink (32, 32) in [0, 1], and the digit upright, as MNIST has it, (28, 28)."""
    from scipy.ndimage import distance_transform_edt, zoom
    from skimage.morphology import skeletonize

    fine = zoom(share, FINE, order=1) > 0.5
    if not fine.any():
        return (MIDDLE, MIDDLE, MIDDLE), np.zeros((28, 28))
    lines = skeletonize(fine)
    width = 2 * np.median(distance_transform_edt(fine)[lines]) / FINE
    rows = np.nonzero(fine.any(1))[0]
    height = (rows[-1] - rows[0] + 1) / FINE
    classes = _nearest(width, WIDTHS), _nearest(_shear(fine.astype(float)), SHEARS), _nearest(height, HEIGHTS)
    return classes, _stroke(_moved_skeleton(share, 0.0, 17.0, 28), 2.6)


def _nearest(value: float, values: Sequence[float]) -> int:
    return int(np.abs(np.asarray(values) - value).argmin())
