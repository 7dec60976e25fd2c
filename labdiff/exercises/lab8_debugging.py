"""What lab8_debugging asks: eight broken programs to mend."""

import math

import torch
from torch import nn

from labdiff.exercises import Lab
from labdiff.exercises.draw import given_weights
from labdiff.exercises.parts import batch_of_one, float64, noted, returned

LAB = Lab("lab8_debugging", "Debugging")


LAB.prediction(
    "predict_early_error",
    ("grainy", "clean", "lost"),
    (
        "After the faulty third, two thirds of the walk are still to come, with a denoiser that works. What does a "
        "denoiser do with noise that it finds in x_t?",
        "To the later steps the error looks like any other noise in x_t, so they remove it. It has changed where the "
        "walk leads to, though.",
        "Errors at large t are repaired by the steps that follow: no grain remains, and most digits survive.",
    ),
)


def _ddpm_log_abar():
    """The log of abar for DDPM's own schedule, in double precision: (1000,)."""
    return torch.log1p(-torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumsum(0)


def _schedule(answer, T):
    """The betas and the alphas_cumprod that the answer makes, in double precision."""
    betas, abar = returned(answer(T))
    return torch.as_tensor(betas).detach().cpu().double(), torch.as_tensor(abar).detach().cpu().double()


def _level(abar, T, percent, tolerance=0.12):
    """Whether the image is as noisy as with DDPM after so many percent of the way, as a text."""
    if abar.shape != (T,):
        return f"alphas_cumprod of the shape {tuple(abar.shape)} for T = {T}"
    got, want = abar[round(T * percent / 100) - 1].item(), _ddpm_log_abar()[10 * percent - 1].item()
    if got > 0 and abs(math.log(got) / want - 1) <= tolerance:
        return "about as noisy as DDPM"
    return f"abar = {got:.2g} after {percent} percent of the way, where DDPM has {math.exp(want):.2g}"


@LAB.exercise(
    points=2,
    minutes=9,
    difficulty=1,
    inputs=lambda draw: {"T": 4 * draw.integer(30, 100)},
    hints=(
        "Print alphas_cumprod[-1] for T = 1000, 250 and 100. It says what share of the image's variance is left where "
        "the sampler starts. How much should be left?",
        "beta_start and beta_end were chosen for 1000 steps. With T steps there are fewer, so each must do more. How "
        "much more?",
        "Each step has to do the work of 1000 / T steps: multiply both beta_start and beta_end by 1000 / T.",
    ),
)
def schedule_for(answer, T):
    """schedule_for(T) -> betas (T,), alphas_cumprod (T,)"""

    def end(T, tolerance=0.12):
        betas, abar = _schedule(answer, T)
        return {"betas": len(betas), "at the end": _level(abar, T, 100, tolerance)}

    def along(T, tolerance=0.12):
        _, abar = _schedule(answer, T)
        return {f"{percent} percent": _level(abar, T, percent, tolerance) for percent in (25, 50, 75)}

    def fit():
        betas, abar = _schedule(answer, T)
        if betas.shape != abar.shape:
            return "betas and alphas_cumprod of different lengths"
        gap = (torch.log1p(-betas).cumsum(0) - abar.log()).abs().max()
        return "alphas_cumprod belongs to betas" if gap < 0.02 else "alphas_cumprod belongs to other betas"

    def between():
        betas, _ = _schedule(answer, 100)
        return "all between 0 and 1" if ((betas > 0) & (betas < 1)).all() else "some not between 0 and 1"

    return {
        "the end of the schedule": lambda: end(T),
        "the levels on the way": lambda: along(T),
        "alphas_cumprod and betas": fit,
        "every beta, T = 100": between,
        "the end, T = 100": lambda: end(100),
        "the end, T = 600": lambda: end(600),
        "T = 1000 is DDPM's own, on the way": lambda: along(1000, 0.0005),
        "T = 1000 is DDPM's own, at the end": lambda: end(1000, 0.0005),
    }


def _picture_inputs(draw):
    def greys(low, high, *shape):
        # never halfway between two greys, where rounding may go either way
        whole, rest = draw.integers(low, high, *shape), draw.uniform(*shape, low=-0.3, high=0.3)
        return (whole + rest) / 127.5 - 1

    return {
        "images": greys(-60, 316, 5, 1, 6, 4),
        "inside": greys(1, 255, 4, 1, 5, 5),
        "dark": greys(-90, 120, 2, 1, 4, 6),
        "bright": greys(140, 350, 2, 1, 4, 6),
        "far": greys(-700, 900, 3, 1, 4, 4),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=1,
    inputs=_picture_inputs,
    hints=(
        "Take one pixel at -1.01 and one at 1.01, and print what each line makes of them.",
        "After the rounding the darkest pixels are below 0 and the brightest above 255. uint8 holds neither, and "
        "counts round in a circle. What should become of them, and before which line?",
        "Cut before the cast: images.clamp(-1, 1) at the beginning, or .clamp(0, 255) on the pixels before "
        ".to(torch.uint8).",
    ),
)
def picture_of(answer, images, inside, dark, bright, far):
    """picture_of(images, columns) -> (lines * H, columns * W), uint8"""
    return {
        "some pixels outside the range": lambda: answer(images, 3),
        "all pixels inside the range": lambda: answer(inside, 2),
        "some pixels darker than black": lambda: answer(dark, 2),
        "some pixels brighter than white": lambda: answer(bright, 1),
        "pixels far outside": lambda: answer(far, 4),
        "a batch of one": batch_of_one(answer, images, 1),
        "images one pixel high": lambda: answer(images[:, :, :1], 5),
        "float64 images": float64(answer, images, 2),
    }


@LAB.exercise(
    points=2,
    minutes=9,
    difficulty=2,
    inputs=lambda draw: {
        "x_T": draw.normal(3, 1, 4, 4),
        "noise": draw.normal(6, 3, 1, 4, 4),
        "betas": draw.betas(6),
        "table": draw.uniform(6, low=-0.6, high=0.6),
        "point": draw.images(1, 4, 4),
        "wide": draw.normal(2, 2, 3, 7),
        "wide_noise": draw.normal(6, 2, 2, 3, 7),
    },
    hints=(
        "Let denoise return one image c at every step. How far is the result from c, in deviation? Of which beta is "
        "that the root?",
        "The result of the step t = 0 is the finished image. Which step of the loop should not add noise to it?",
        "Add betas[t].sqrt() * noise[t] only if t > 0; at t = 0 x is the mean alone.",
    ),
)
def sample_ancestral(answer, x_T, noise, betas, table, point, wide, wide_noise):
    """sample_ancestral(denoise, x_T, noise, betas) -> the shape of x_T"""

    def denoise(x_t, t):
        return 0.4 * x_t + table[t].to(x_t)

    def calls():
        seen: list[int] = []
        returned(answer(noted(denoise, seen, lambda x_t, t: int(t)), x_T, noise, betas))
        return seen

    return {
        "six steps": lambda: answer(denoise, x_T, noise, betas),
        "a denoiser that always returns one image": lambda: answer(
            lambda x_t, t: point.expand_as(x_t), x_T, noise, betas
        ),
        "two steps": lambda: answer(denoise, x_T, noise[:2], betas[:2]),
        "a single step": lambda: answer(denoise, x_T, noise[:1], betas[:1]),
        "a batch of one": lambda: answer(denoise, x_T[:1], noise[:, :1], betas),
        "two channels, not square": lambda: answer(denoise, wide, wide_noise, betas),
        "float64": float64(answer, denoise, x_T, noise, betas),
        "where the denoiser is asked": calls,
    }


@LAB.exercise(
    points=3,
    minutes=11,
    difficulty=3,
    inputs=lambda draw: {
        "betas": draw.betas(30),
        "x_0": draw.images(4),
        "eps": draw.normal(4, 1, 8, 8),
        "tilt": draw.uniform(30, low=-0.4, high=0.4),
        "t": torch.cat(
            [draw.integers(3, 8, 1), draw.integers(10, 18, 1), draw.integers(19, 26, 1), draw.integers(27, 30, 1)]
        ),
        "wide": draw.images(2, 3, 9),
        "wide_eps": draw.normal(2, 1, 3, 9),
    },
    hints=(
        "Let eps_model return the very noise that you made x_t with, leave the clamp out, and divide what the program "
        "subtracts by what it should subtract, for several t.",
        "x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps, solved for x_0, has sqrt(abar) under both terms. A root is a half "
        "in the logarithm. Which weight lacks a half?",
        "noise_weight is sqrt((1 - abar) / abar): torch.exp(0.5 * (log_rest - log_abar)).to(x_t).",
    ),
)
def clean_guess(answer, betas, x_0, eps, tilt, t, wide, wide_eps):
    """clean_guess(eps_model, x_t, t, betas) -> the shape of x_t"""
    abar = torch.cumprod(1 - betas.double(), dim=0)

    def noisy(x, eps, t):
        level = abar[t].reshape(-1, 1, 1, 1)
        return (level.sqrt() * x + (1 - level).sqrt() * eps).to(x.dtype)

    def exact(x, eps, t, betas=betas):
        return answer(lambda x_t, t: eps, noisy(x, eps, t), t, betas)

    def inexact():
        def eps_model(x_t, t):
            return eps + tilt[t].reshape(-1, 1, 1, 1)

        return answer(eps_model, noisy(x_0, eps, t), t, betas)

    def asked():
        seen: dict[str, torch.Tensor] = {}

        def eps_model(x_t, t):
            seen.update(x_t=x_t, t=t)
            return eps

        returned(answer(eps_model, noisy(x_0, eps, t), t, betas))
        return seen

    early, late = torch.zeros_like(t), torch.full_like(t, 29)
    return {
        "the exact noise, four noise levels": lambda: exact(x_0, eps, t),
        "a guess of the noise that is off, so that values are cut": inexact,
        "the exact noise, t = 0": lambda: exact(x_0, eps, early),
        "the exact noise, the last timestep": lambda: exact(x_0, eps, late),
        "a batch of one": lambda: exact(x_0[2:3], eps[2:3], t[2:3]),
        "images that are not square": lambda: exact(wide, wide_eps, t[1:3]),
        "float64 images": lambda: exact(x_0.double(), eps.double(), t),
        "float64 betas": lambda: exact(x_0, eps, t, betas.double()),
        "what the network is asked": asked,
    }


def _all_weights(network):
    """All parameters of a network as one vector. Raises TypeError for what is no network."""
    if not isinstance(returned(network), nn.Module):
        raise TypeError(f"{type(network).__name__} came back where the averaged network belongs")
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@LAB.exercise(
    points=3,
    minutes=12,
    difficulty=3,
    inputs=lambda draw: {
        "batches": [draw.uniform(1, low=-1, high=1) for _ in range(6)],
        "x": draw.normal(3, 3),
        "decay": draw.number(0.55, 0.8),
        "seed": draw.seed(),
    },
    hints=(
        "Set decay to 1: nothing of the network may enter the average, so it must stay where it began. Does it? Print "
        "one weight of the average before and after a single call of step.",
        "The average changes in step, before the program averages anything. Which memory do its tensors live in? "
        "Compare average[name].data_ptr() with that of the parameter.",
        "detach() leaves the gradient history behind and shares the memory. The average needs memory of its own: "
        "p.detach().clone() in the first line.",
    ),
)
def averaged_training(answer, batches, x, decay, seed):
    """averaged_training(network, step, batches, decay, evaluate, every) -> network, list of figures"""

    def fresh(dtype=torch.float32, buffer=False):
        network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        if buffer:
            network.register_buffer("still", torch.ones(2))
        return given_weights(network, seed).to(x.device, dtype)

    def step(network, batch):
        with torch.no_grad():
            for p in network.parameters():
                p.copy_(0.8 * p + batch.to(p) * torch.cos(3 * p))

    def evaluate(network):
        with torch.no_grad():
            return network(x.to(next(network.parameters()).dtype)).square().sum().item()

    def run(decay, *every, some=batches, dtype=torch.float32, step=step, buffer=False):
        return returned(answer(fresh(dtype, buffer), step, some, decay, evaluate, *every))

    def walked():
        seen = []

        def watched(network, batch):
            seen.append(_all_weights(network).clone())
            step(network, batch)

        network, _ = run(decay, step=watched)
        returned(network)
        return torch.stack(seen)

    def nothing():
        network, figures = run(decay, some=[])
        return {"weights": _all_weights(network), "how many figures": len(figures)}

    return {
        "the network that comes back": lambda: _all_weights(run(decay)[0]),
        "the figures": lambda: run(decay)[1],
        "the figures of every second step": lambda: run(decay, 2)[1],
        "fewer figures, and none": lambda: [run(decay, 5)[1], run(decay, 7)[1]],
        "decay = 0: no memory of earlier weights": lambda: _all_weights(run(0.0)[0]),
        "decay = 1: nothing is ever taken in": lambda: _all_weights(run(1.0)[0]),
        "the weights that each training step starts from": walked,
        "no batch at all": nothing,
        "float64 weights": lambda: _all_weights(run(decay, dtype=torch.float64)[0]),
        "a network with a buffer": lambda: _all_weights(run(decay, 3, buffer=True)[0]),
    }


def _dropout_inputs(draw):
    u = draw.uniform(12)
    u[0], u[1] = u[0] * 0.3, 0.7 + u[1] * 0.3  # one is always dropped and one always kept
    return {
        "images": draw.images(20, 4, 4),
        "labels": draw.integers(1, 9, 20),
        "order": draw.timesteps(12, 20),
        "u": u,
        "p": draw.number(0.35, 0.6),
    }


@LAB.exercise(
    points=2,
    minutes=10,
    difficulty=2,
    inputs=_dropout_inputs,
    hints=(
        "Set p to 1. Every label must be the null label then. Which labels come back?",
        "A torch method whose name has no underscore at its end leaves its tensor alone and returns a new one. What "
        "becomes of it here?",
        "y = y.masked_fill(dropped, null). Not masked_fill_: where order is a slice, y shares its memory with all "
        "labels, and the data set would lose them.",
    ),
)
def label_dropout_batch(answer, images, labels, order, u, p):
    """label_dropout_batch(images, labels, order, u, p, null) -> x_0, y"""

    def epochs():
        given = (u, u.flip(0), u.roll(5))
        batches = [returned(answer(images, labels, slice(4, 10), each[:6], p, 9)) for each in given]
        return torch.stack([y for _, y in batches])

    return {
        "a batch": lambda: answer(images, labels, order, u, p, 9),
        "p = 0 drops none, not even where u = 0": lambda: answer(images, labels, order, u * (u > 0.4), 0.0, 9),
        "p = 1, all dropped": lambda: answer(images, labels, order, u, 1.0, 9),
        "a batch of one": lambda: answer(images, labels, order[:1], u[:1], p, 9),
        "another null label": lambda: answer(images, labels, order, u, p, 25),
        "the batch is a slice of the data": lambda: answer(images, labels, slice(3, 15), u, p, 9),
        "three epochs over the same labels": epochs,
    }


def _latent_inputs(draw):
    return {
        "x": draw.images(3, 4, 4),
        "gain": draw.uniform(1, 4, 1, 1, low=1.5, high=3.5),
        "offset": draw.uniform(1, 4, 1, 1, low=-1, high=1),
        "shift": draw.uniform(1, 4, 1, 1, low=0.3, high=1.2),
        "scale": draw.uniform(1, 4, 1, 1, low=0.3, high=0.6),
        "push": draw.normal(3, 4, 2, 2) * 0.3,
        "wide": draw.images(2, 2, 6),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=1,
    inputs=_latent_inputs,
    hints=(
        "Let process do nothing, lambda z: z. Then the picture must come back as it went in. Follow one number from "
        "encode to decode.",
        "Two things are done to a latent on the way in, one after the other. On the way back both must be undone, the "
        "last one first.",
        "return decode(z / scale + shift).clamp(-1, 1)",
    ),
)
def latent_round_trip(answer, x, gain, offset, shift, scale, push, wide):
    """latent_round_trip(x, encode, decode, shift, scale, process) -> the shape of x"""

    def encode(x):
        return nn.functional.pixel_unshuffle(x, 2) * gain.to(x.dtype) + offset.to(x.dtype)

    def decode(z):
        return nn.functional.pixel_shuffle((z - offset.to(z.dtype)) / gain.to(z.dtype), 2)

    def nudge(z):
        return 0.7 * z + push.to(z.dtype)[: len(z)]

    def seen(what):
        told = {}

        def note(name, function):
            def noted(z):
                told[name] = z.clone()
                return function(z)

            return noted

        returned(answer(x, encode, note("decode", decode), shift, scale, note("process", nudge)))
        return told[what]

    one = (shift[0, 0, 0, 0], scale[0, 0, 0, 0])
    return {
        "latents that are changed": lambda: answer(x, encode, decode, shift, scale, nudge),
        "a process that does nothing": lambda: answer(x, encode, decode, shift, scale, lambda z: z),
        "what process is given": lambda: seen("process"),
        "what decode is given": lambda: seen("decode"),
        "a process that leaves [-1, 1] far behind": lambda: answer(x, encode, decode, shift, scale, lambda z: 4 * z),
        "the average latent": lambda: answer(x, encode, decode, shift, scale, lambda z: 0 * z),
        "a process that keeps what it returns": lambda: answer(x, encode, decode, shift, scale, lambda z: push),
        "one shift and one scale": lambda: answer(x, encode, decode, *one, nudge),
        "images that are not square": lambda: answer(wide, encode, decode, shift, scale, lambda z: z * 1.2),
        "a batch of one, float64": lambda: answer(
            x[:1].double(), encode, decode, shift.double(), scale.double(), nudge
        ),
    }


def _pair_inputs(draw):
    return {
        "x_0": draw.normal(6, 2),
        "eps": draw.normal(6, 2),
        "u": draw.uniform(6),
        "alphas_cumprod": (1 - draw.betas(23)).cumprod(0),
        "images": draw.images(3, 2, 5),
        "grid": draw.normal(46, 2),
    }


@LAB.exercise(
    points=3,
    minutes=10,
    difficulty=2,
    inputs=_pair_inputs,
    hints=(
        "Take one pair apart. With the t that is told, compute x0_from_eps(x_t, eps, alphas_cumprod[t]). The clean "
        "point must come out. Does it, and at which t is it worst?",
        "Print the abar_t that the program uses at t = 0, and alphas_cumprod[0]. Which of them does a sampler use?",
        "Leave the flip out, so that t means the same as everywhere else: abar_t = extract(alphas_cumprod, t, x_0).",
    ),
)
def training_pairs(answer, x_0, eps, u, alphas_cumprod, images, grid):
    """training_pairs(x_0, u, eps, alphas_cumprod) -> x_t, t, target"""

    # u may be turned into t in more ways than one, so what is compared is what x_t, t and target say together
    def pairs(x_0, u, eps, table=alphas_cumprod):
        x_t, t, target = returned(answer(x_0, u, eps, table))
        if t.dtype != torch.int64:
            raise TypeError(f"t is {str(t.dtype).removeprefix('torch.')}, int64 belongs there")
        if len(t) and (t.min() < 0 or t.max() >= len(table)):
            raise IndexError("a timestep lies outside 0, ..., T - 1")
        abar_t = table[t].reshape(-1, *[1] * (x_0.dim() - 1))
        return {"x_0": (x_t - (1 - abar_t).sqrt() * target) / abar_t.sqrt(), "eps": target}

    def often():
        n = len(grid)  # two for each timestep
        evenly = (torch.arange(n, device=grid.device) + 0.5) / n
        return returned(answer(grid, evenly, grid.flip(0), alphas_cumprod))[1].sort().values

    ends = torch.tensor([0, 0.999], device=u.device)
    return {
        "what x_t, t and the target say of x_0": lambda: pairs(x_0, u, eps),
        "each timestep as often as any other": often,
        "the first and the last timestep": lambda: pairs(x_0[:2], ends, eps[:2]),
        "pictures": lambda: pairs(images, u[:3], images.flip(-1)),
        "a batch of one": lambda: pairs(x_0[2:3], u[2:3], eps[2:3]),
        "a shorter schedule": lambda: pairs(x_0, u, eps, alphas_cumprod[:9]),
        "float64": lambda: pairs(x_0.double(), u, eps.double(), alphas_cumprod.double()),
    }


LAB.written("loss_falls_samples_are_noise", points=3, minutes=12)
