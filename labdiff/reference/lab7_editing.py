"""Built by `labdiff build` from solutions/lab7_editing/lab7_editing.py; edit that, not this."""

from itertools import pairwise

import torch

from labdiff.reference.lab1_forward import q_sample
from labdiff.reference.lab3_training import eps_from_x0
from labdiff.reference.lab4_sampling import (
    ddim_sample,
    ddim_sigma,
    ddim_step,
    fresh_noise,
)


def strength_timesteps(timesteps, strength):
    """The timesteps that an edit of some strength walks through.

    timesteps: a list of n ints, falling. strength: from 0 to 1. Returns a list of the last n * strength of them, this
    number rounded down: the whole list at strength 1, the empty one at strength 0. The given list stays as it is.
    """
    left = int(len(timesteps) * strength)
    return timesteps[len(timesteps) - left :]


def sdedit_start(x_0, left, alphas_cumprod, noise):
    """The image that an edit begins with (SDEdit, in its variance-preserving form).

    x_0: (B, C, H, W), the image to edit. left: the timesteps that are left, ints, falling; there may be none.
    alphas_cumprod: (T,). noise: (B, C, H, W), standard normal. Returns (B, C, H, W); x_0 itself where none is left.
    """
    return q_sample(x_0, alphas_cumprod[left[0]], noise) if left else x_0  # (B, C, H, W)


def sdedit(denoise, x_0, timesteps, strength, alphas_cumprod, eta=1.0, generator=None):
    """Edit images by noising them part of the way and walking back (Meng and others 2022).

    denoise: denoise(x_t, t) -> x_0. x_0: (B, C, H, W). timesteps: ints, falling. strength: from 0 to 1.
    Returns (B, C, H, W).
    """
    left = strength_timesteps(timesteps, strength)
    x = sdedit_start(x_0, left, alphas_cumprod.to(x_0), fresh_noise(x_0, generator))
    return ddim_sample(denoise, x, left, alphas_cumprod, eta, generator) if left else x


def edit_distance(edited, original):
    """How far each image was moved: the root of the mean squared difference over its channels and pixels.

    edited, original: (B, C, H, W). Returns (B,), at least 0.
    """
    return (edited - original).square().mean(dim=(1, 2, 3)).sqrt()  # (B,)


def predict_class_lost():
    """Return "0.25", "0.5" or "0.75"."""
    return "0.75"


def ddim_inverse_step(x_t, x_0, abar_t, abar_next):
    """One step of DDIM with eta = 0 towards more noise (Dhariwal and Nichol 2021, appendix F).

    x_t: (B, C, H, W), the image at abar_t. x_0: (B, C, H, W), the denoiser's guess at x_t. abar_t, abar_next: tensors
    that broadcast against x_t, 0 <= abar_next <= abar_t < 1. Returns the image at abar_next: (B, C, H, W).
    """
    eps = eps_from_x0(x_t, x_0, abar_t)  # (B, C, H, W)
    return abar_next.sqrt() * x_0 + (1 - abar_next).sqrt() * eps  # (B, C, H, W)


def ddim_invert(step, denoise, x, timesteps, alphas_cumprod):
    """Walk from an image to the noise from which DDIM draws it.

    step: step(x_t, x_0, abar_t, abar_next) -> x_next. It takes abar_t and abar_next as tensors, 0-dimensional or
    broadcasting against x_t. denoise: denoise(x_t, t) -> x_0, with t an int. x: (B, C, H, W), taken for the image at
    timesteps[-1]. timesteps: ints, falling, the sampler's; the list stays as it is. alphas_cumprod: (T,).
    Returns the image at timesteps[0]: (B, C, H, W).
    """
    for t, after in pairwise(timesteps[::-1]):
        x = step(x, denoise(x, t), alphas_cumprod[t], alphas_cumprod[after])  # (B, C, H, W)
    return x


def change_label(climb, walk, x_0, timesteps, strength, alphas_cumprod):
    """Edit images by inversion: climb as far as the strength says with one denoiser, walk back with another.

    climb, walk: denoise(x_t, t) -> x_0. x_0: (B, C, H, W). timesteps: ints, falling. strength: from 0 to 1.
    Returns (B, C, H, W).
    """
    left = strength_timesteps(timesteps, strength)
    if not left:
        return x_0
    x = ddim_invert(ddim_inverse_step, climb, x_0, left, alphas_cumprod.to(x_0))
    return ddim_sample(walk, x, left, alphas_cumprod)


def slant_and_ink(images):
    """The style of a digit in two numbers: how far its strokes lean per pixel of height, and how much ink they hold.

    images: (B, 1, H, W), in [-1, 1]. Returns slant (B,) and ink (B,).
    """
    ink = (images[:, 0] + 1) / 2 + 1e-6  # (B, H, W)
    amount = ink.sum((1, 2))  # (B,)
    down, across = torch.meshgrid(*(torch.arange(n, dtype=ink.dtype) for n in ink.shape[1:]), indexing="ij")
    y = down - ((ink * down).sum((1, 2)) / amount)[:, None, None]  # (B, H, W)
    x = across - ((ink * across).sum((1, 2)) / amount)[:, None, None]  # (B, H, W)
    return (ink * x * y).sum((1, 2)) / (ink * y * y).sum((1, 2)), amount


def style_kept(edited, original):
    """How well the originals' style can be told from the edits: the correlations of slant and of ink, averaged."""
    pairs = zip(slant_and_ink(edited), slant_and_ink(original), strict=True)
    return sum(torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in pairs) / 2


def combine_known(x_prev, x_0, mask, abar_prev, noise):
    """Put the known pixels, noised to the level of x_prev, into the sampler's image (RePaint, equation 8).

    x_prev: (B, C, H, W), from the sampler. x_0: (B, C, H, W), the original; only its known pixels count.
    mask: (B, 1, H, W) or (1, 1, H, W), 1.0 where known and 0.0 where hidden. abar_prev: broadcasts against x_prev;
    at 1 the known pixels are those of x_0. noise: (B, C, H, W), standard normal. Returns (B, C, H, W).
    """
    return mask * q_sample(x_0, abar_prev, noise) + (1 - mask) * x_prev  # (B, C, H, W)


def renoise_jump(x_prev, abar_prev, abar_t, noise):
    """Go back up from one level of noise to a noisier one, by the forward process (RePaint, algorithm 1, line 10).

    x_prev: (B, C, H, W), at the level abar_prev. abar_prev, abar_t: tensors that broadcast against x_prev,
    0 < abar_t <= abar_prev <= 1. noise: (B, C, H, W), standard normal. Returns x_t: (B, C, H, W).
    """
    alpha = abar_t / abar_prev  # (B, 1, 1, 1)
    return alpha.sqrt() * x_prev + (1 - alpha).sqrt() * noise  # (B, C, H, W)


def repaint_loop(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """Walk from noise to an image around known pixels, with several passes at each timestep (RePaint, algorithm 1).

    step: step(x_t, x_0, abar_t, abar_prev) -> x_prev, of the sampler. combine: combine(x_prev, abar_prev) -> x_prev
    with the known pixels. renoise: renoise(x_prev, abar_prev, abar_t) -> x_t. All take abar as tensors, 0-dimensional
    or broadcasting. denoise: denoise(x_t, t) -> x_0, with t an int. x_T: (B, C, H, W), standard normal.
    timesteps: ints, falling. alphas_cumprod: (T,). resamplings: passes at each timestep but the last, at least 1.
    Returns what the last combine made, (B, C, H, W).
    """
    x = x_T
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        for i in range(1 if after is None else resamplings):
            if i > 0:
                x = renoise(x, abar_prev, abar_t)  # (B, C, H, W)
            x = combine(step(x, denoise(x, t), abar_t, abar_prev), abar_prev)  # (B, C, H, W)
    return x


def repaint(denoise, x_0, mask, timesteps, alphas_cumprod, resamplings=1, eta=1.0, generator=None):
    """Fill in the hidden pixels of images (Lugmayr and others 2022).

    denoise: denoise(x_t, t) -> x_0. x_0: (B, C, H, W); what is hidden may hold anything finite. mask: (B, 1, H, W) or
    (1, 1, H, W), 1.0 where known. timesteps: ints, falling. Returns (B, C, H, W), known pixels exactly as in x_0.
    """

    def step(x_t, guess, abar_t, abar_prev):
        return ddim_step(x_t, guess, abar_t, abar_prev, ddim_sigma(abar_t, abar_prev, eta), fresh_noise(x_t, generator))

    def combine(x_prev, abar_prev):
        return combine_known(x_prev, x_0, mask, abar_prev, fresh_noise(x_prev, generator))

    def renoise(x_prev, abar_prev, abar_t):
        return renoise_jump(x_prev, abar_prev, abar_t, fresh_noise(x_prev, generator))

    x_T = fresh_noise(x_0, generator)
    return repaint_loop(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod.to(x_0), resamplings)


def predict_better_spent():
    """Return "steps", "passes" or "equal"."""
    return "passes"


def known_change(edited, original, mask):
    """The largest change of a known pixel.

    edited, original: (B, C, H, W). mask: (B, 1, H, W) or (1, 1, H, W), 1.0 where known and 0.0 where hidden.
    Returns a number: the largest absolute difference over all known pixels of all images, 0.0 where none is known.
    """
    return (mask * (edited - original)).abs().max().item()
