"""The networks that ship, each on the CPU, in evaluation mode, and the same at each call: change none of them.

All but the classifier are answers of labs, and need a package that holds those.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from labdiff.models.checkpoint import from_checkpoint
from labdiff.models.classifier import DigitClassifier

if TYPE_CHECKING:
    from labdiff.reference.lab2_unet import UNet
    from labdiff.reference.lab5_guidance import GuidedUNet
    from labdiff.reference.lab6_text_to_image import Autoencoder, TextToImage


@functools.cache
def unet() -> UNet:
    """Lab 2's U-Net of checkpoints/model.ckpt: x_t (B, 1, H, W) and t (B,) to v (B, 1, H, W)."""
    from labdiff.reference.lab2_unet import UNet

    return from_checkpoint(UNet, "model")


@functools.cache
def guided_unet() -> GuidedUNet:
    """Lab 5's U-Net of checkpoints/guided.ckpt: x_t (B, 1, H, W), t (B,) and labels (B,) to v (B, 1, H, W)."""
    from labdiff.reference.lab5_guidance import GuidedUNet

    return from_checkpoint(GuidedUNet, "guided")


@functools.cache
def autoencoder() -> Autoencoder:
    """Lab 6's autoencoder of checkpoints/autoencoder.ckpt: pictures (B, 3, 32, 32) and latents (B, 4, 8, 8)."""
    from labdiff.reference.lab6_text_to_image import Autoencoder

    return from_checkpoint(Autoencoder, "autoencoder")


@functools.cache
def text_to_image() -> TextToImage:
    """Lab 6's U-Net with its text encoder, of checkpoints/text_to_image.ckpt.

    z_t (B, 4, 8, 8), t (B,) and tokens (B, L) to v (B, 4, 8, 8).
    """
    from labdiff.reference.lab6_text_to_image import TextToImage

    return from_checkpoint(TextToImage, "text_to_image")


@functools.cache
def digit_classifier() -> DigitClassifier:
    """The classifier of checkpoints/classifier.ckpt: images (B, 1, 28, 28) to logits (B, 10)."""
    return from_checkpoint(DigitClassifier, "classifier")
