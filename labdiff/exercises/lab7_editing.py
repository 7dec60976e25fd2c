"""What lab7_editing asks: image-to-image by SDEdit, DDIM inversion, inpainting by RePaint."""

import torch

from labdiff.exercises import Lab
from labdiff.exercises.parts import batch_of_one, float64, must_be_tensors, noted, returned, whole

LAB = Lab("lab7_editing", "Editing")


def _strength_inputs(draw):
    n = draw.integer(9, 14)
    kept = draw.integer(3, n - 3)
    return {
        "timesteps": draw.timesteps(n, 1000).sort(descending=True).values.tolist(),
        # never near a whole number of steps, where rounding would decide; the one rounds up, the other down
        "mostly": (kept + draw.number(0.6, 0.9)) / n,
        "hardly": (kept - 1 + draw.number(0.1, 0.4)) / n,
    }


@LAB.exercise(
    points=2,
    minutes=6,
    difficulty=1,
    inputs=_strength_inputs,
    hints=(
        "First the number of steps that are left, rounded down. Then that many entries of the list: from which end?",
        "int(len(timesteps) * strength) entries from the end. Beware of timesteps[-0:], which is the whole list.",
        "left = int(len(timesteps) * strength); return timesteps[len(timesteps) - left :]",
    ),
)
def strength_timesteps(answer, timesteps, mostly, hardly):
    """strength_timesteps(timesteps, strength) -> a list of ints, falling"""

    def left(timesteps, strength):
        return whole(answer(timesteps, strength), "a timestep")

    return {
        "some steps are left": lambda: left(timesteps, mostly),
        "another strength": lambda: left(timesteps, hardly),
        "strength 1, all of them": lambda: left(timesteps, 1.0),
        "strength 0, none": lambda: left(timesteps, 0.0),
        "too weak for a single step": lambda: left(timesteps[:5], 0.19),
        "strength as an int": lambda: left(timesteps, 1),
    }


def _schedule(draw, n=12):
    """A falling alphas_cumprod that no formula gives: (n,), in (0.05, 0.95)."""
    steps = draw.uniform(n, low=0.4, high=1.0).cumsum(0)
    return 0.95 - 0.9 * steps / (steps[-1] + 0.5)


@LAB.exercise(
    points=2,
    minutes=6,
    difficulty=1,
    inputs=lambda draw: {
        "x_0": draw.images(3),
        "noise": draw.normal(3, 1, 8, 8),
        "alphas_cumprod": _schedule(draw),
        "wide": draw.images(2, 4, 12),
    },
    hints=(
        "Where does the walk begin? The image must look as if the forward process had brought it there.",
        "The first entry of `left` is the noisiest. q_sample makes the image that belongs there, with the abar of that "
        "entry. With no entry there is nothing to do.",
        "return q_sample(x_0, alphas_cumprod[left[0]], noise) if left else x_0",
    ),
)
def sdedit_start(answer, x_0, noise, alphas_cumprod, wide):
    """sdedit_start(x_0, left, alphas_cumprod, noise) -> the shape of x_0"""
    return {
        "four steps are left": lambda: answer(x_0, [9, 6, 2, 0], alphas_cumprod, noise),
        "one step is left": lambda: answer(x_0, [3], alphas_cumprod, noise),
        "no step is left": lambda: answer(x_0, [], alphas_cumprod, noise),
        "a batch of one": lambda: answer(x_0[:1], [11, 5], alphas_cumprod, noise[:1]),
        "images that are not square": lambda: answer(wide, [7, 1], alphas_cumprod, wide.flip(-1)),
        "float64 images": lambda: answer(x_0.double(), [8, 4, 0], alphas_cumprod, noise.double()),
    }


@LAB.exercise(
    points=1,
    minutes=4,
    difficulty=1,
    inputs=lambda draw: {
        "edited": draw.images(4, 5, 7, channels=3),
        "original": draw.images(4, 5, 7, channels=3),
    },
    hints=(
        "Difference, square, mean, root, in this order. Over which axes is the mean, so that one number per image is "
        "left?",
        "The mean runs over channels, rows and columns: dim=(1, 2, 3). The root comes last.",
        "return (edited - original).square().mean(dim=(1, 2, 3)).sqrt()",
    ),
)
def edit_distance(answer, edited, original):
    """edit_distance(edited, original) -> (B,)"""
    return {
        "four images": lambda: answer(edited, original),
        "nothing was edited": lambda: answer(edited, edited.clone()),
        "a batch of one": batch_of_one(answer, edited, original),
        "grey images": lambda: answer(edited[:, :1], original[:, :1]),
        "further apart than 1": lambda: answer(edited.sign(), -edited),
        "float64 images": float64(answer, edited, original),
    }


LAB.prediction(
    "predict_class_lost",
    ("0.25", "0.5", "0.75"),
    (
        "Whether the old digit survives depends on what can still be read of it where the walk begins. Look at the "
        "noised scribbles above.",
        "At the step of strength 0.5, abar_t is about 0.5: the digit is as strong as the noise, and there are hundreds "
        "of pixels to read it from.",
        "The network keeps what it can read, so most of the walk must be left before the asked class wins: 0.75.",
    ),
)


def _inverse_inputs(draw):
    abar_t = draw.uniform(3, 1, 1, 1, low=0.3, high=0.95)
    return {
        "x_t": draw.normal(3, 1, 8, 8),
        "x_0": draw.images(3),
        "abar_t": abar_t,
        "abar_next": abar_t * draw.uniform(3, 1, 1, 1, low=0.2, high=0.9),
        "wide": draw.normal(2, 1, 4, 12),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=_inverse_inputs,
    hints=(
        "Two things make x_t: the guess and a noise. Find the noise, then mix the two anew, for the level where you "
        "land.",
        "eps_from_x0(x_t, x_0, abar_t) is the noise, with the abar of where you are. The mixture is that of q_sample, "
        "with the abar of where you land.",
        "eps = eps_from_x0(x_t, x_0, abar_t); return abar_next.sqrt() * x_0 + (1 - abar_next).sqrt() * eps",
    ),
)
def ddim_inverse_step(answer, x_t, x_0, abar_t, abar_next, wide):
    """ddim_inverse_step(x_t, x_0, abar_t, abar_next) -> x_next, the shape of x_t"""
    return {
        "three levels": lambda: answer(x_t, x_0, abar_t, abar_next),
        "one abar for the whole batch": lambda: answer(x_t, x_0, abar_t[0, 0, 0, 0], abar_next[0, 0, 0, 0]),
        "a batch of one": batch_of_one(answer, x_t, x_0, abar_t, abar_next),
        "images that are not square": lambda: answer(wide, wide.tanh(), abar_t[:2], abar_next[:2]),
        "the level where it is already": lambda: answer(x_t, x_0, abar_t, abar_t.clone()),
        "up to pure noise (abar_next = 0)": lambda: answer(x_t, x_0, abar_t, abar_t * 0),
        "float64 images": float64(answer, x_t, x_0, abar_t, abar_next),
    }


def _walk_inputs(draw):
    return {
        "x": draw.normal(2, 1, 4, 4),
        "alphas_cumprod": _schedule(draw),
        "table": draw.uniform(12, low=-1, high=1),
        "timesteps": [11, 8, 6, 3, 0],
        "unequal": [10, 9, 4, 1],
    }


@LAB.exercise(
    points=3,
    minutes=10,
    difficulty=2,
    inputs=_walk_inputs,
    hints=(
        "It is the sampler's loop turned round: begin at the last entry of the list and walk to the first. How many "
        "steps lie between n entries?",
        "Pair each entry with the one after it in the rising list. Ask denoise at the entry where you are; abar_next "
        "is that of the entry where you land.",
        "rising = timesteps[::-1]; for t, after in zip(rising, rising[1:]): "
        "x = step(x, denoise(x, t), alphas_cumprod[t], alphas_cumprod[after]); return x",
    ),
)
def ddim_invert(answer, x, alphas_cumprod, table, timesteps, unequal):
    """ddim_invert(step, denoise, x, timesteps, alphas_cumprod) -> x at timesteps[0], the shape of x"""

    def denoise(x, t):
        return 0.3 * x + table[t]

    def step(x_t, x_0, abar_t, abar_next):
        must_be_tensors("step was given {}", abar_t=abar_t, abar_next=abar_next)
        return abar_next.sqrt() * x_0 + (1 - abar_next).sqrt() * 0.8 * x_t - 0.1 * abar_t.sqrt()

    def calls():
        seen: list[int] = []
        returned(answer(step, noted(denoise, seen, lambda x, t: int(t)), x, timesteps, alphas_cumprod))
        return seen

    def callers_list():
        given = [*timesteps]
        returned(answer(step, denoise, x, given, alphas_cumprod))
        return "as it was" if given == timesteps else "changed"

    return {
        "five timesteps": lambda: answer(step, denoise, x, timesteps, alphas_cumprod),
        "unequal gaps, not down to 0": lambda: answer(step, denoise, x, unequal, alphas_cumprod),
        "where the denoiser is asked": calls,
        "two timesteps": lambda: answer(step, denoise, x, timesteps[1:3], alphas_cumprod),
        "a single timestep, no step": lambda: answer(step, denoise, x, timesteps[:1], alphas_cumprod),
        "the caller's list": callers_list,
        "a batch of one": lambda: answer(step, denoise, x[:1], timesteps, alphas_cumprod),
    }


def _mask(draw, n, height=8, width=8):
    """A mask that no rule gives, each row of it with pixels of both kinds: (n, 1, height, width), 1.0 or 0.0."""
    mask = (draw.uniform(n, 1, height, width) < 0.5).float()
    mask[..., 0], mask[..., 1] = 1, 0
    return mask


def _combine_inputs(draw):
    return {
        "x_prev": draw.normal(3, 1, 8, 8),
        "x_0": draw.images(3),
        "mask": _mask(draw, 3),
        "abar_prev": draw.uniform(3, 1, 1, 1, low=0.2, high=0.9),
        "noise": draw.normal(3, 1, 8, 8),
        "coloured": draw.normal(2, 3, 4, 12),
        "coloured_mask": _mask(draw, 1, 4, 12),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=_combine_inputs,
    hints=(
        "Two images are mixed pixel by pixel: the sampler's, and the original as it would look at the level of x_prev. "
        "Which one counts where the mask is 1?",
        "The known part is q_sample(x_0, abar_prev, noise). It is multiplied by mask, the sampler's by 1 - mask.",
        "return mask * q_sample(x_0, abar_prev, noise) + (1 - mask) * x_prev",
    ),
)
def combine_known(answer, x_prev, x_0, mask, abar_prev, noise, coloured, coloured_mask):
    """combine_known(x_prev, x_0, mask, abar_prev, noise) -> the shape of x_prev"""

    def kept():
        found = returned(answer(x_prev, x_0, mask, abar_prev * 0 + 1, noise))
        apart = (mask * (found - x_0)).abs().max()
        return "kept exactly" if apart == 0 else "nearly kept" if apart < 1e-3 else "changed"

    return {
        "a mask for each image": lambda: answer(x_prev, x_0, mask, abar_prev, noise),
        "the end (abar_prev = 1)": lambda: answer(x_prev, x_0, mask, abar_prev * 0 + 1, noise),
        "the known pixels at the end": kept,
        "everything is hidden": lambda: answer(x_prev, x_0, mask * 0, abar_prev, noise),
        "nothing is hidden": lambda: answer(x_prev, x_0, mask * 0 + 1, abar_prev, noise),
        "one mask and one abar for all": lambda: answer(x_prev, x_0, mask[:1], abar_prev[0, 0, 0, 0], noise),
        "a batch of one": batch_of_one(answer, x_prev, x_0, mask, abar_prev, noise),
        "three channels, not square": lambda: answer(
            coloured, coloured.tanh(), coloured_mask, abar_prev[:2], coloured.flip(-1)
        ),
    }


def _renoise_inputs(draw):
    abar_prev = draw.uniform(3, 1, 1, 1, low=0.4, high=0.95)
    return {
        "x_prev": draw.normal(3, 1, 8, 8),
        "noise": draw.normal(3, 1, 8, 8),
        "abar_prev": abar_prev,
        "abar_t": abar_prev * draw.uniform(3, 1, 1, 1, low=0.3, high=0.9),
        "wide": draw.normal(2, 1, 4, 12),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=_renoise_inputs,
    hints=(
        "It is a forward step of lab 1, but a long one. What is the alpha of a step from abar_prev to abar_t?",
        "abar_t is abar_prev times alpha. The image is scaled by the root of alpha, the noise by that of 1 - alpha.",
        "alpha = abar_t / abar_prev; return alpha.sqrt() * x_prev + (1 - alpha).sqrt() * noise",
    ),
)
def renoise_jump(answer, x_prev, noise, abar_prev, abar_t, wide):
    """renoise_jump(x_prev, abar_prev, abar_t, noise) -> x_t, the shape of x_prev"""
    return {
        "three levels": lambda: answer(x_prev, abar_prev, abar_t, noise),
        "from a clean image (abar_prev = 1)": lambda: answer(x_prev, abar_prev * 0 + 1, abar_t, noise),
        "a jump of no length": lambda: answer(x_prev, abar_t, abar_t.clone(), noise),
        "one level for the whole batch": lambda: answer(x_prev, abar_prev[0, 0, 0, 0], abar_t[0, 0, 0, 0], noise),
        "a batch of one": batch_of_one(answer, x_prev, abar_prev, abar_t, noise),
        "images that are not square": lambda: answer(wide, abar_prev[:2], abar_t[:2], wide.flip(-1)),
    }


@LAB.exercise(
    points=3,
    minutes=15,
    difficulty=3,
    inputs=_walk_inputs,
    hints=(
        "Two loops, one inside the other: over the timesteps as in ddim_loop, and over the passes at each of them. "
        "What happens between two passes, and what after the last one?",
        "A pass is denoise, step, combine. Between two passes renoise brings the image from abar_prev back to abar_t; "
        "after the last pass it stays. The last timestep has one pass.",
        "abar_t and abar_prev as in ddim_loop; passes = 1 if after is None else resamplings; for i in range(passes): "
        "if i > 0: x = renoise(x, abar_prev, abar_t); "
        "x = combine(step(x, denoise(x, t), abar_t, abar_prev), abar_prev)",
    ),
)
def repaint_loop(answer, x, alphas_cumprod, table, timesteps, unequal):
    """repaint_loop(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings) -> x_0"""

    def denoise(x, t):  # what combine writes into the first column reaches the others
        return 0.3 * x + 0.2 * x.roll(1, -1) + table[t]

    def step(x_t, x_0, abar_t, abar_prev):
        must_be_tensors("{} is", abar_t=abar_t, abar_prev=abar_prev)
        return abar_prev.sqrt() * x_0 + (1 - abar_prev).sqrt() * 0.8 * x_t - 0.1 * abar_t.sqrt()

    def combine(x_prev, abar_prev):
        must_be_tensors("{} is", abar_prev=abar_prev)
        known = abar_prev.sqrt() * 0.5 + (1 - abar_prev) * x_prev[..., :1]
        # the other pixels change with it, else only what the last pass puts in would show in the end
        return torch.cat([known, x_prev[..., 1:] + 0.4 * known], -1)

    def renoise(x_prev, abar_prev, abar_t):
        must_be_tensors("{} is", abar_prev=abar_prev, abar_t=abar_t)
        return (abar_t / abar_prev).sqrt() * x_prev + 0.2 * (abar_prev - abar_t) + 0.05

    def paint(start=x, steps=timesteps, resamplings=3):
        return answer(step, combine, renoise, denoise, start, steps, alphas_cumprod, resamplings)

    def calls():
        seen: list[str] = []
        watched = (
            noted(step, seen, lambda *_, **__: "step"),
            noted(combine, seen, lambda *_, **__: "combine"),
            noted(renoise, seen, lambda *_, **__: "renoise"),
            noted(denoise, seen, lambda x, t: f"denoise {int(t)}"),
        )
        returned(answer(*watched, x, unequal[:2], alphas_cumprod, 2))
        return ", ".join(seen)

    return {
        "three passes at each of five timesteps": paint,
        "one pass": lambda: paint(resamplings=1),
        "unequal gaps, not down to 0": lambda: paint(steps=unequal, resamplings=2),
        "what is called, in which order": calls,
        "a single timestep": lambda: paint(steps=timesteps[1:2]),
        "a batch of one": lambda: paint(start=x[:1], resamplings=2),
    }


def _changed_inputs(draw):
    original, edited, mask, most = draw.images(3), draw.images(3), _mask(draw, 3), draw.number(2.2, 2.9)
    # the largest difference is made a negative one, and a hidden pixel differs more
    edited[:, :, 3, 0] = original[:, :, 3, 0] - most
    edited[:, :, 5, 1] = original[:, :, 5, 1] + 1.5 * most
    return {"original": original, "edited": edited, "mask": mask}


@LAB.exercise(
    points=1,
    minutes=3,
    difficulty=1,
    inputs=_changed_inputs,
    hints=(
        "Only known pixels count. Of their differences, whichever way they go, the largest is asked for.",
        "Multiply the difference by the mask, so that hidden pixels give 0. Then the absolute value, then the maximum.",
        "return (mask * (edited - original)).abs().max().item()",
    ),
)
def known_change(answer, original, edited, mask):
    """known_change(edited, original, mask) -> a number, 0 where every known pixel was kept"""
    painted = torch.where(mask == 1, original, edited)
    return {
        "a changed known pixel": lambda: answer(edited, original, mask),
        "only hidden pixels changed": lambda: answer(painted, original, mask),
        "one mask for all images": lambda: answer(edited, original, mask[:1]),
        "everything is hidden": lambda: answer(edited, original, mask * 0),
        "nothing is hidden": lambda: answer(edited, original, mask * 0 + 1),
        "a batch of one": lambda: answer(edited[1:2], original[1:2], mask[1:2]),
    }


LAB.prediction(
    "predict_better_spent",
    ("steps", "passes", "equal"),
    (
        "What does a further pass change that a finer walk does not?",
        "With more steps every change is smaller, but each is still decided without a look at the known pixels of its "
        "own level. A further pass looks at both and decides again.",
        "A second chance to fit beats a finer walk: passes.",
    ),
)

LAB.written("why_inversion_drifts", points=2, minutes=8)
