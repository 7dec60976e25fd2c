"""What lab4_sampling asks: p(x_{t-1} given x_t), ancestral sampling, DDIM, interpolation, FID."""

import numbers
import weakref

import torch

from labdiff.exercises import Lab
from labdiff.exercises.parts import batch_of_one, float64, must_be_tensors, noise_levels, noted, returned, whole

LAB = Lab("lab4_sampling", "Sampling")


def _p_inputs(draw):
    levels = noise_levels(draw)  # before the images, as when the golden answers were made
    return {
        "x_t": draw.normal(3, 1, 8, 8),
        "x_0": draw.images(3),
        **levels,
        "wide": draw.images(2, 4, 16),
        "wide_0": draw.images(2, 4, 16),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=_p_inputs,
    hints=(
        "The mean is lab 1's posterior mean, with the guess in place of the x_0 that nobody knows. For the variance, "
        "`fixed` decides between two numbers per image.",
        "posterior_mean takes x_0 first, then x_t. The small variance is beta_t (1 - abar_prev) / (1 - abar_t), the "
        "large one is beta_t.",
        'variance = beta_t * (1 - abar_prev) / (1 - abar_t) if fixed == "small" else beta_t; '
        "return posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev), variance",
    ),
)
def p_mean_variance(answer, x_t, x_0, beta_t, abar_t, abar_prev, wide, wide_0):
    """p_mean_variance(x_t, x_0, beta_t, abar_t, abar_prev, fixed) -> mean (B, C, H, W), variance (B, 1, 1, 1)"""
    one = abar_prev * 0 + 1
    return {
        "the small variance": lambda: answer(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"),
        "the large variance": lambda: answer(x_t, x_0, beta_t, abar_t, abar_prev, fixed="large"),
        "the default is small": lambda: answer(x_t, x_0, beta_t, abar_t, abar_prev),
        "a batch of one": batch_of_one(answer, x_t, x_0, beta_t, abar_t, abar_prev, "large"),
        "images that are not square": lambda: answer(wide, wide_0, beta_t[:2], abar_t[:2], abar_prev[:2]),
        "the step t = 0 (abar_prev = 1)": lambda: answer(x_t, x_0, beta_t, 1 - beta_t, one),
    }


@LAB.exercise(
    points=1,
    minutes=4,
    difficulty=1,
    inputs=lambda draw: {
        "mean": draw.images(3),
        "variance": draw.uniform(3, 1, 1, 1, low=0.05, high=0.6),
        "noise": draw.normal(3, 1, 8, 8),
    },
    hints=(
        "It is a draw from a Gaussian, as in lab 1: mean plus deviation times noise. One step is different.",
        "The deviation is the square root of the variance. At t = 0 the image is finished, so return the mean alone.",
        "return mean + variance.sqrt() * noise if t > 0 else mean",
    ),
)
def p_sample(answer, mean, variance, noise):
    """p_sample(mean, variance, noise, t) -> the shape of mean"""
    return {
        "t = 5": lambda: answer(mean, variance, noise, 5),
        "t = 0, no noise": lambda: answer(mean, variance, noise, 0),
        "t = 1, noise still": lambda: answer(mean, variance, noise, 1),
        "a batch of one": batch_of_one(answer, mean, variance, noise, 3),
        "float64 images": float64(answer, mean, variance, noise, 7),
    }


class _Watched(torch.Tensor):
    """A tensor that passes its kind on to all that is computed from it, and notes what is made."""

    made: list = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs)
        if type(result) is cls:
            cls.made.append(weakref.ref(result))
        return result

    @classmethod
    def alive(cls):
        """How many different tensors are held at the moment; two that share their memory count once."""
        with torch._C.DisableTorchFunctionSubclass():
            return len({one.data_ptr() for one in (ref() for ref in cls.made) if one is not None})


@LAB.exercise(
    points=3,
    minutes=10,
    difficulty=2,
    inputs=lambda draw: {
        "x_T": draw.normal(2, 1, 4, 4),
        "shrink": draw.uniform(9, low=0.5, high=0.95),
        "shift": draw.uniform(9, low=-1, high=1),
    },
    hints=(
        "Count down from T - 1 to 0, both included, and call p_step once for each t. Where must a picture be kept, "
        "before p_step or after it?",
        "kept[t] is what p_step is given at t, so keep it before the call. Make a copy, x.detach().clone(): "
        "p_step may write into x.",
        "x = x_T.clone(); kept = {}; for t in reversed(range(T)): first kept[t] = x.detach().clone() if t in keep, "
        "then x = p_step(x, t); at the end return x, kept",
    ),
)
def ancestral_sample(answer, x_T, shrink, shift):
    """ancestral_sample(p_step, x_T, T, keep) -> x_0, {t: x_t}"""

    def p_step(x, t):
        return x * shrink[t] + shift[t]

    def in_place(x, t):
        return x.mul_(shrink[t]).add_(shift[t])

    def forgets():
        most = []
        _Watched.made = []

        def watched(x, t):
            most.append(_Watched.alive())
            return x * 0.9

        held = answer(watched, x_T.as_subclass(_Watched), 16, keep=(6,))
        most.append(_Watched.alive())
        returned(held)
        return "a few images at a time" if max(most) <= 7 else "all steps at the same time"

    def history():
        weight = shrink[0].clone().requires_grad_()
        kept = returned(answer(lambda x, t: x * weight, x_T, 6, keep=(0, 3)))[1]
        traced = any(x.requires_grad for x in kept.values())
        return "copies with their gradient history" if traced else "detached copies"

    def keys():
        kept = returned(answer(p_step, x_T, 5, keep=(3, 1)))[1]
        return ", ".join(sorted({"int" if isinstance(t, numbers.Integral) else type(t).__name__ for t in kept}))

    return {
        "nine steps, two kept": lambda: answer(p_step, x_T, 9, keep=(6, 2)),
        "nothing kept": lambda: answer(p_step, x_T, 9),
        "both ends kept": lambda: answer(p_step, x_T, 5, keep=[0, 4]),
        "one step": lambda: answer(p_step, x_T, 1, keep=(0,)),
        "a p_step that works in place": lambda: answer(in_place, x_T, 7, keep=(5, 1)),
        "what is held in memory": forgets,
        "what is kept where p_step has gradients": history,
        "the type of the dictionary's keys": keys,
    }


@LAB.exercise(
    points=2,
    minutes=6,
    difficulty=1,
    # n - 1 is odd in every part with a fraction, so that no value lies halfway between two integers
    inputs=lambda draw: {"T": draw.integer(200, 900), "n": 2 * draw.integer(4, 12)},
    hints=(
        "n points make n - 1 equal gaps. Which torch function spaces values equally, both ends included, and can it "
        "count down?",
        "torch.linspace(T - 1, 0, n) does both, and with n = 1 it gives its start. Then round, make integers, make a "
        "list.",
        "return torch.linspace(T - 1, 0, n).round().long().tolist()",
    ),
)
def ddim_timesteps(answer, T, n):
    """ddim_timesteps(T, n) -> n ints, falling"""

    def timesteps(T, n):
        return whole(answer(T, n), "a timestep")

    return {
        "some of many": lambda: timesteps(T, n),
        "6 of 1000": lambda: timesteps(1000, 6),
        "every step": lambda: timesteps(30, 30),
        "two steps": lambda: timesteps(T, 2),
        "a single step": lambda: timesteps(T, 1),
    }


def _ddim_inputs(draw):
    abar_prev, share = draw.uniform(3, 1, 1, 1, low=0.3, high=0.95), draw.uniform(3, 1, 1, 1, low=0.3, high=0.9)
    # so that sigma_t exceeds 1 - abar_prev for the first image: the root of the difference is NaN there
    abar_prev[0], share[0] = 0.9 + abar_prev[0] / 20, 0.5 + share[0] / 3
    return {
        "abar_t": abar_prev * draw.uniform(3, 1, 1, 1, low=0.3, high=0.9),
        "abar_prev": abar_prev,
        "x_t": draw.normal(3, 1, 8, 8),
        "x_0": draw.images(3),
        "share": share,
        "noise": draw.normal(3, 1, 8, 8),
        "wide": draw.normal(2, 1, 4, 16),
    }


@LAB.exercise(
    points=2,
    minutes=5,
    difficulty=1,
    inputs=_ddim_inputs,
    hints=(
        "It is eta times a deviation, and the deviation is a product of two square roots. Which abar belongs to the "
        "less noisy image?",
        "The first root is of (1 - abar_prev) / (1 - abar_t), the second of 1 - abar_t / abar_prev. eta is "
        "outside both.",
        "return eta * ((1 - abar_prev) / (1 - abar_t)).sqrt() * (1 - abar_t / abar_prev).sqrt()",
    ),
)
def ddim_sigma(answer, abar_t, abar_prev, x_t, x_0, share, noise, wide):
    """ddim_sigma(abar_t, abar_prev, eta) -> the shape of abar_t"""
    return {
        "eta = 0.5": lambda: answer(abar_t, abar_prev, 0.5),
        "eta = 1": lambda: answer(abar_t, abar_prev, 1.0),
        "eta = 0": lambda: answer(abar_t, abar_prev, 0.0),
        "the last step (abar_prev = 1)": lambda: answer(abar_t, abar_prev * 0 + 1, 0.7),
        "one number instead of a batch": lambda: answer(abar_t[0, 0, 0, 0], abar_prev[0, 0, 0, 0], 0.3),
    }


@LAB.exercise(
    points=3,
    minutes=10,
    difficulty=3,
    inputs=_ddim_inputs,
    hints=(
        "Three terms: the guess, scaled for the new noise level; the noise that is already in x_t; fresh noise. The "
        "variances of the last two must add up to 1 - abar_prev.",
        "eps_from_x0(x_t, x_0, abar_t) is the noise in x_t. It gets the factor sqrt(1 - abar_prev - sigma_t^2), the "
        "fresh noise gets sigma_t.",
        "eps = eps_from_x0(x_t, x_0, abar_t); "
        "return abar_prev.sqrt() * x_0 + (1 - abar_prev - sigma_t**2).clamp(min=0).sqrt() * eps + sigma_t * noise",
    ),
)
def ddim_step(answer, abar_t, abar_prev, x_t, x_0, share, noise, wide):
    """ddim_step(x_t, x_0, abar_t, abar_prev, sigma_t, noise) -> x_prev, the shape of x_t"""
    sigma_t = share * (1 - abar_prev).sqrt()
    none, one = abar_t * 0, abar_t * 0 + 1
    given = (x_t, x_0, abar_t, abar_prev, sigma_t, noise)

    def rounded():
        x_prev = returned(answer(x_t, x_0, abar_t, abar_prev, (1 - abar_prev).sqrt() * 1.0001, noise))
        return "a clean step" if x_prev.isfinite().all() else "NaN"

    flat = (x_t, x_0, abar_t[0, 0, 0, 0], abar_prev[0, 0, 0, 0], sigma_t[0, 0, 0, 0], noise)
    return {
        "some fresh noise": lambda: answer(*given),
        "no fresh noise (sigma_t = 0)": lambda: answer(x_t, x_0, abar_t, abar_prev, none, noise),
        "the last step (abar_prev = 1)": lambda: answer(x_t, x_0, abar_t, one, none, noise),
        "a batch of one": batch_of_one(answer, *given),
        "images that are not square": lambda: answer(
            wide, wide.tanh(), abar_t[:2], abar_prev[:2], sigma_t[:2], wide.flip(-1)
        ),
        "one abar for the whole batch": lambda: answer(*flat),
        "sigma_t a hair above sqrt(1 - abar_prev), by rounding": rounded,
    }


@LAB.exercise(
    points=3,
    minutes=10,
    difficulty=2,
    inputs=lambda draw: {
        "x_T": draw.normal(2, 1, 4, 4),
        "alphas_cumprod": draw.uniform(20, low=0.05, high=0.95).sort(descending=True).values,
        "table": draw.uniform(20, low=-1, high=1),
    },
    hints=(
        "Walk over the list. At each t, ask denoise for its guess and step for the next image. Where do you land: at "
        "t - 1, or at the next entry of the list?",
        "abar_prev is alphas_cumprod at the next entry of timesteps. After the last entry there is none: use a tensor "
        "that is 1, torch.ones_like(abar_t).",
        "x = x_T; for t, after in zip(timesteps, [*timesteps[1:], None]): abar_t = alphas_cumprod[t]; abar_prev = "
        "torch.ones_like(abar_t) if after is None else alphas_cumprod[after]; "
        "x = step(x, denoise(x, t), abar_t, abar_prev)",
    ),
)
def ddim_loop(answer, x_T, alphas_cumprod, table):
    """ddim_loop(step, denoise, x_T, timesteps, alphas_cumprod) -> x_0, the shape of x_T"""

    def denoise(x, t):
        return 0.3 * x + table[t]

    def step(x_t, x_0, abar_t, abar_prev):
        must_be_tensors("step was given {}", abar_t=abar_t, abar_prev=abar_prev)
        return abar_prev.sqrt() * x_0 + (1 - abar_prev).sqrt() * 0.8 * x_t - 0.1 * abar_t.sqrt()

    def calls():
        seen: list[int] = []
        counted = noted(denoise, seen, lambda x, t: int(t))
        returned(answer(step, counted, x_T, [19, 11, 4, 0], alphas_cumprod))
        return seen

    def exact(x_t, x_0, abar_t, abar_prev):
        must_be_tensors("step was given {}", abar_t=abar_t, abar_prev=abar_prev)
        return abar_prev.sqrt() * x_0 + (1 - abar_prev).sqrt() * x_t

    one_point = x_T.tanh()
    return {
        "five steps": lambda: answer(step, denoise, x_T, [19, 14, 9, 5, 0], alphas_cumprod),
        "a single step": lambda: answer(step, denoise, x_T, [19], alphas_cumprod),
        "every step": lambda: answer(step, denoise, x_T, list(range(19, -1, -1)), alphas_cumprod),
        "unequal gaps, not down to 0": lambda: answer(step, denoise, x_T, [18, 17, 10, 3], alphas_cumprod),
        "the denoiser is asked once per step": calls,
        "a batch of one": lambda: answer(step, denoise, x_T[:1], [15, 8, 0], alphas_cumprod),
        "data of one point": lambda: answer(exact, lambda x, t: one_point, x_T, [19, 10, 0], alphas_cumprod),
    }


LAB.prediction(
    "predict_same_noise",
    ("identical", "alike", "unrelated"),
    (
        "With eta = 0 no noise is drawn on the way. What still differs between 10 steps and 50?",
        "Both follow the same smooth path from x_T, one with long strides and one with short ones. Long strides cut "
        "corners.",
        "The path leads to about the same place, but not exactly: neither every pixel the same nor a new digit.",
    ),
)


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=lambda draw: {
        "a": draw.normal(3, 1, 8, 8),
        "b": draw.normal(3, 1, 8, 8) + 0.3,
        "many": draw.normal(200, 1, 8, 8),
    },
    hints=(
        "Flatten each image to a vector. The angle between two vectors comes from their scalar product and their "
        "lengths. Each image has its own angle.",
        "cos = (a b).sum over C, H, W, divided by the product of the norms; theta = arccos(cos). The weights are "
        "sin((1 - w) theta) / sin(theta) and sin(w theta) / sin(theta). Where sin(theta) is 0, use 1 - w and w.",
        "dims = (1, 2, 3); cos = (a * b).sum(dims, keepdim=True) / (a.norm(dim=dims, keepdim=True) * "
        "b.norm(dim=dims, keepdim=True)); theta = cos.clamp(-1, 1).arccos(); mixed = (((1 - w) * theta).sin() * a "
        "+ (w * theta).sin() * b) / theta.sin(); return torch.where(cos > 0.9995, (1 - w) * a + w * b, mixed)",
    ),
    rtol=1e-3,
)
def slerp(answer, a, b, many):
    """slerp(a, b, w) -> the shape of a"""

    def rounded():
        mixed = returned(answer(many, 1.5 * many, 0.25))  # rounding lifts the cosine of some of these pairs above 1
        return "no NaN" if mixed.isfinite().all() else "NaN"

    mixed = a, torch.cat([b[:2], 2 * a[2:]])
    return {
        "w = 0.3": lambda: answer(a, b, 0.3),
        "w = 0": lambda: answer(a, b, 0.0),
        "w = 1": lambda: answer(a, b, 1.0),
        "a batch of one": batch_of_one(answer, a, b, 0.5),
        "parallel noises": lambda: answer(a, 2 * a, 0.25),
        "one pair of three is parallel": lambda: answer(*mixed, 0.75),
        "images that are not square": lambda: answer(a[:, :, :4], b[:, :, 4:], 0.6),
        "noises of three channels": lambda: answer(a.transpose(0, 1), b.transpose(0, 1), 0.4),
        "a small angle": lambda: answer(a, a + 0.3 * b, 0.5),
        "an angle of more than 90 degrees": lambda: answer(a, 0.5 * b - a, 0.3),
        "many parallel noises, where rounding lifts some cosines above 1": rounded,
    }


@LAB.exercise(
    points=1,
    minutes=4,
    difficulty=1,
    inputs=lambda draw: {"logits": 3 * draw.normal(40, 10)},
    hints=(
        "Turn the logits into probabilities. For each image only the largest of them matters.",
        "softmax over the classes, then the maximum over the classes, then compare with the threshold and take the "
        "mean of the comparison.",
        "return (logits.softmax(dim=1).amax(dim=1) > threshold).float().mean().item()",
    ),
)
def confident_share(answer, logits):
    """confident_share(logits, threshold) -> a number from 0 to 1"""
    return {
        "the default threshold": lambda: answer(logits),
        "a lower threshold": lambda: answer(logits, threshold=0.5),
        "large logits": lambda: answer(logits * 100, threshold=0.7),
        "a batch of one": batch_of_one(answer, logits, threshold=0.05),
        "three classes": lambda: answer(logits[:, :3], threshold=0.6),
        "exactly the threshold is not over it": lambda: answer(logits[:, :1], threshold=1.0),
    }


def _features(draw):
    mix_a, mix_b = draw.normal(6, 6) / 2, draw.normal(6, 6) / 2
    return {
        "features_a": draw.normal(30, 6) @ mix_a,
        "features_b": draw.normal(20, 6) @ mix_b + draw.uniform(6, low=0.3, high=1.2),
        "many": 10 * draw.normal(20, 48),
    }


@LAB.exercise(
    points=3,
    minutes=12,
    difficulty=3,
    inputs=_features,
    hints=(
        "You need a mean (D,) and a covariance (D, D) of each set, then three terms: the means' distance, the two "
        "traces, and the trace of a square root.",
        "torch.cov wants the variables in rows, so give it features.T; it divides by N - 1 already. The trace of the "
        "square root is the sum of the square roots of the eigenvalues of S_a @ S_b.",
        "a, b = features_a.double(), features_b.double(), and from them mu and S; "
        "roots = torch.linalg.eigvals(S_a @ S_b).sqrt().real.sum(); "
        "return ((mu_a - mu_b).square().sum() + S_a.trace() + S_b.trace() - 2 * roots).item()",
    ),
    rtol=1e-3,
)
def frechet_distance(answer, features_a, features_b, many):
    """frechet_distance(features_a, features_b) -> a number, at least 0"""

    def itself():
        distance = returned(answer(features_a, features_a))
        return "0" if abs(distance) < 1e-3 else f"{float(distance):.2g}"

    def precise():
        distance = returned(answer(many, many))
        # the traces are nearly 5000 here: measured, float32 is off by 2 to 3 and float64 by 0.0001
        off = abs(float(distance))
        return "0, up to rounding" if off < 0.01 else "as far from 0 as float32 gets" if off < 50 else "far from 0"

    return {
        "30 and 20 samples": lambda: answer(features_a, features_b),
        "the other way round": lambda: answer(features_b, features_a),
        "the same set, moved": lambda: answer(features_a, features_a + 0.5),
        "the same set, scaled": lambda: answer(features_a, 2 * features_a),
        "a set and itself, which is 0": itself,
        "fewer samples than features": lambda: answer(features_a[:5], features_b[:5]),
        "48 features of 20 samples and themselves, which is 0": precise,
    }


LAB.written("why_steps_can_be_skipped", points=2)
