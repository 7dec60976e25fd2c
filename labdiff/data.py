"""Digits and fashion, as tensors in [-1, 1].

`load` looks in the folder named by LABDIFF_DATA, or in a cache in the home folder, and
downloads through torchvision what is missing. Where that fails it says so and serves the
offline digits that ship with the package.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import numpy as np
import torch

from labdiff.errors import DataError, UnknownName, Unreachable
from labdiff.files import PACKAGE
from labdiff.images import from_pixels

DATASETS = {"mnist": "MNIST", "fashion": "FashionMNIST"}
OFFLINE = PACKAGE / "offline_digits.npz"
BYTES = {"train-images": 47040016, "train-labels": 60008, "t10k-images": 7840016, "t10k-labels": 10008}
# md5 of the uncompressed originals; torchvision itself verifies only the archives it downloads
ORIGINALS = {
    "mnist": {
        "train-images": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels": "a25bea736e30d166cdddb491f175f624",
        "t10k-images": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels": "27ae3e4e09519cfbb04c329615203637",
    }
}


def folder() -> Path:
    """The folder that holds the data sets: LABDIFF_DATA, or a cache in the home folder.

    LABDIFF_DATA=offline means that no data set is looked for.
    """
    return Path(os.environ.get("LABDIFF_DATA") or Path.home() / ".cache" / "labdiff")


def load(name: str = "mnist", train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """All images and labels of MNIST or FashionMNIST, downloaded if need be.

    name: "mnist" or "fashion". train: the 60,000 training images, or the 10,000 test images.
    Returns images (N, 1, 28, 28), float32 in [-1, 1], and labels (N,), int64.
    Raises DataError where a file is corrupt or incomplete, Unreachable where it is not here and cannot be downloaded,
    and UnknownName for any other name.
    """
    if name not in DATASETS:
        raise UnknownName(f"There is no data set {name!r}: labdiff has {' and '.join(map(repr, DATASETS))}.")
    if str(folder()) == "offline":
        raise Unreachable(f"LABDIFF_DATA=offline, so {DATASETS[name]} is not looked for.")
    from torchvision import datasets

    kind = getattr(datasets, DATASETS[name])
    _verify(name, train)
    try:
        found = kind(folder(), train=train, download=not _present(name, train))
    except (RuntimeError, OSError) as error:
        raise Unreachable(
            f"{DATASETS[name]} is not in {folder()} and could not be downloaded ({_first_line(error)}). "
            f"Connect to the network, or set LABDIFF_DATA to a folder that holds {DATASETS[name]}/raw."
        ) from error
    return from_pixels(found.data)[:, None], found.targets.long()  # (N, 1, 28, 28), (N,)


def digits(n: int | None = None, train: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """The first n digits and labels of MNIST, or offline digits where MNIST cannot be had.

    Says so when it falls back. n: all, unless given. Returns images (n, 1, 28, 28), float32 in
    [-1, 1], and labels (n,), int64. Raises DataError where a file of MNIST is corrupt.
    """
    try:
        images, labels = load("mnist", train)
    except Unreachable as error:
        print(f"{error} The offline digits that ship with labdiff serve instead.")
        images, labels = offline_digits()
    return images[:n], labels[:n]


@functools.cache
def offline_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Digits that ship with the package: drawn by checkpoints/model.ckpt, labelled by checkpoints/classifier.ckpt.

    No image of MNIST is among them. Returns images (N, 1, 28, 28), float32 in [-1, 1], and labels (N,), int64.
    """
    with np.load(OFFLINE, allow_pickle=False) as stored:
        pixels, labels = torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"])
    return from_pixels(pixels)[:, None], labels.long()


def _raw_files(name: str, train: bool) -> dict[str, Path]:
    part = "train" if train else "t10k"
    raw = folder() / DATASETS[name] / "raw"
    return {
        f"{part}-images": raw / f"{part}-images-idx3-ubyte",
        f"{part}-labels": raw / f"{part}-labels-idx1-ubyte",
    }


def _present(name: str, train: bool) -> bool:
    return all(file.exists() for file in _raw_files(name, train).values())


def _verify(name: str, train: bool) -> None:
    """Notice a file that was cut off or damaged. Raises DataError and names it."""
    for key, file in _raw_files(name, train).items():
        if not file.exists():
            continue
        size = file.stat().st_size
        cure = "delete it and run this again to download it anew"
        if size != BYTES[key]:
            raise DataError(f"{file} is incomplete: it has {size} bytes of {BYTES[key]}; {cure}.")
        wanted = ORIGINALS.get(name, {}).get(key)
        if wanted and _md5(file) != wanted:
            raise DataError(f"{file} is damaged: its checksum is not that of the original; {cure}.")


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
