"""What is to be seen in images: the digit by the classifier, the other attributes of a picture by measuring."""

from __future__ import annotations

import torch

from labdiff import pictures
from labdiff.images import from_pixels
from labdiff.models.shipped import digit_classifier


@torch.inference_mode()
def classify(images: torch.Tensor, batch: int = 500) -> tuple[torch.Tensor, torch.Tensor]:
    """What the digit classifier sees in images, batch by batch.

    images: (N, 1, 28, 28) in [-1, 1]. Returns the probabilities of the ten digits, (N, 10), and the features that
    they are made from, (N, 128), float32.
    """
    network = digit_classifier()
    features = torch.cat([network.features(x) for x in images.split(batch)])  # (N, 128)
    probabilities: torch.Tensor = network.head(features).softmax(dim=1)  # (N, 10)
    return probabilities, features


def attributes_of(painted: torch.Tensor, progress: bool = True) -> torch.Tensor:
    """The six attributes of any pictures, such as a network drew: the digit by the classifier, the others measured.

    painted: (N, 3, 32, 32) in [-1, 1]. Returns (N, 6), int64, the columns of labdiff.pictures.
    """
    attributes, upright = pictures.measured(painted, progress)  # (N, 6) and (N, 1, 28, 28)
    attributes[:, pictures.DIGIT] = classify(upright)[0].argmax(1)
    return attributes


def legible_shapes(images: torch.Tensor, digits: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Shapes with attributes drawn at random, and only those that can be read back; small loops may have closed.

    images: (N, 1, 28, 28) in [-1, 1]. digits: (N,). Returns shapes (M, 32, 32), uint8, and attributes (M, 6).
    """
    attributes = pictures.random_attributes(digits, torch.Generator().manual_seed(seed))
    inked = pictures.shapes(images, attributes, seed)  # (N, 32, 32)
    white_on_black = from_pixels(inked)[:, None].expand(-1, 3, -1, -1)  # (N, 3, 32, 32)
    same = attributes_of(white_on_black) == attributes  # (N, 6)
    of_shape = [pictures.DIGIT, pictures.THICKNESS, pictures.SLANT, pictures.SIZE]
    legible = same[:, of_shape].all(1)  # (N,)
    return inked[legible], attributes[legible]
