"""What lab1_forward asks: the schedules, q(x_t given x_0) and the posterior."""

from labdiff.exercises import Lab
from labdiff.exercises.parts import batch_of_one, float64, noise_levels

LAB = Lab("lab1_forward", "The forward process")


@LAB.exercise(
    points=1,
    minutes=3,
    difficulty=1,
    inputs=lambda draw: {
        "T": draw.integer(300, 1200),
        "start": draw.number(1e-4, 1e-3),
        "end": draw.number(0.02, 0.06),
        "few": draw.integer(5, 9),
        "some": draw.integer(30, 70),
    },
    hints=(
        "The values are equally spaced, and both ends belong to them. Which torch function does that?",
        "torch.linspace(start, end, n) returns n values, the first of them start and the last of them end.",
        "return torch.linspace(beta_start, beta_end, T)",
    ),
)
def linear_betas(answer, T, start, end, few, some):
    """linear_betas(T, beta_start, beta_end) -> (T,)"""
    return {
        "hundreds of steps": lambda: answer(T, start, end),
        "a few steps, other ends": lambda: answer(few, 10 * start, 10 * end),
        "the defaults": lambda: answer(some),
        "a single step": lambda: answer(1, start, end),
    }


@LAB.exercise(
    points=2,
    minutes=10,
    difficulty=2,
    inputs=lambda draw: {
        "T": draw.integer(80, 140),
        "few": draw.integer(5, 9),
        "some": draw.integer(16, 28),
        "s": draw.number(0.06, 0.2),
        "limit": draw.number(0.4, 0.7),
    },
    hints=(
        "Begin with f on T + 1 points, u = 0, 1/T, ..., 1. A beta compares two neighbours of f.",
        "f(u) = cos(((u + s) / (1 + s)) * pi / 2) squared, and beta_t = 1 - f[t + 1] / f[t], at most max_beta.",
        "u = torch.linspace(0, 1, T + 1); f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2; "
        "return (1 - f[1:] / f[:-1]).clamp(max=max_beta)",
    ),
    rtol=2e-4,
)
def cosine_betas(answer, T, few, some, s, limit):
    """cosine_betas(T, s, max_beta) -> (T,)"""
    return {
        "about a hundred steps": lambda: answer(T),
        "a few steps": lambda: answer(few),
        "another offset s": lambda: answer(some, s=s),
        "another max_beta": lambda: answer(some, max_beta=limit),
        "a single step": lambda: answer(1),
        # 0.003 more, since 1 minus a ratio in float32 knows a beta of 4e-5 to 1e-7 only
        "the first of 1000 steps": lambda: answer(1000)[:12] + 0.003,
    }


@LAB.exercise(
    points=1,
    minutes=3,
    difficulty=1,
    inputs=lambda draw: {"betas": draw.betas(12)},
    hints=(
        "First turn each beta into an alpha, then multiply all alphas up to and including t.",
        "torch.cumprod(values, dim=0) is the running product.",
        "return torch.cumprod(1 - betas, dim=0)",
    ),
)
def compute_alphas_cumprod(answer, betas):
    """compute_alphas_cumprod(betas) -> (T,)"""
    return {
        "12 betas": lambda: answer(betas),
        "a single beta": lambda: answer(betas[:1]),
        "float64 betas": float64(answer, betas),
    }


@LAB.exercise(
    points=2,
    minutes=5,
    difficulty=1,
    inputs=lambda draw: {"values": 3 * draw.normal(10), "t": draw.timesteps(4, 10), "x": draw.images(4)},
    hints=(
        "Indexing picks the entries. What remains is their shape: how many axes does x have after the first?",
        "values[t] has the shape (B,). Give it one axis of length 1 for every further axis of x.",
        "return values[t].reshape(-1, *[1] * (x.dim() - 1))",
    ),
)
def extract(answer, values, t, x):
    """extract(values, t, x) -> (B, 1, ..., 1)"""
    return {
        "a batch of images": lambda: answer(values, t, x),
        "a batch of one": lambda: answer(values, t[:1], x[:1]),
        "vectors instead of images": lambda: answer(values, t, x[:, 0, 0]),
        "the same timestep twice": lambda: answer(values, t[[0, 0, 1]], x[:3]),
        "float64 values": lambda: answer(values.double(), t, x),
    }


@LAB.exercise(
    points=2,
    minutes=5,
    difficulty=1,
    inputs=lambda draw: {
        "x_prev": draw.images(3),
        "beta_t": draw.uniform(3, 1, 1, 1, low=0.1, high=0.6),
        "noise": draw.normal(3, 1, 8, 8),
    },
    hints=(
        "The step adds noise of variance beta_t and shrinks what was there. A Gaussian N(m, v) is m plus "
        "something times noise.",
        "The something is a standard deviation: the square root of the variance.",
        "return (1 - beta_t).sqrt() * x_prev + beta_t.sqrt() * noise",
    ),
)
def q_step(answer, x_prev, beta_t, noise):
    """q_step(x_prev, beta_t, noise) -> x_t, the shape of x_prev"""
    return {
        "a batch of images": lambda: answer(x_prev, beta_t, noise),
        "a batch of one": batch_of_one(answer, x_prev, beta_t, noise),
        "noise all zero": lambda: answer(x_prev, beta_t, noise * 0),
    }


def _q_inputs(draw):
    return {
        "x_0": draw.images(3),
        "abar_t": draw.uniform(3, 1, 1, 1, low=0.1, high=0.9),
        "noise": draw.normal(3, 1, 8, 8),
        "wide": draw.images(2, 6, 32),
        "wide_noise": draw.normal(2, 1, 6, 32),
    }


@LAB.exercise(
    points=2,
    minutes=5,
    difficulty=1,
    inputs=_q_inputs,
    hints=(
        "Read both off the formula of q(x_t given x_0): the mean has the shape of x_0, the variance has one "
        "number per image.",
        "The mean is sqrt(abar_t) x_0. The variance is 1 - abar_t, with no square root.",
        "return abar_t.sqrt() * x_0, 1 - abar_t",
    ),
)
def q_mean_variance(answer, x_0, abar_t, noise, wide, wide_noise):
    """q_mean_variance(x_0, abar_t) -> mean (B, C, H, W), variance (B, 1, 1, 1)"""
    return {
        "a batch of images": lambda: answer(x_0, abar_t),
        "a batch of one": batch_of_one(answer, x_0, abar_t),
        "images that are not square": lambda: answer(wide, abar_t[:2]),
    }


@LAB.exercise(
    points=3,
    minutes=5,
    difficulty=1,
    inputs=_q_inputs,
    hints=(
        "You have the mean and the variance of x_t. How do you draw from a Gaussian when the standard normal "
        "noise is given?",
        "Mean plus standard deviation times noise. The standard deviation is the root of 1 - abar_t.",
        "return abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * noise",
    ),
)
def q_sample(answer, x_0, abar_t, noise, wide, wide_noise):
    """q_sample(x_0, abar_t, noise) -> x_t, the shape of x_0"""
    return {
        "a batch of images": lambda: answer(x_0, abar_t, noise),
        "a batch of one": batch_of_one(answer, x_0, abar_t, noise),
        "images that are not square": lambda: answer(wide, abar_t[:2], wide_noise),
        "float64 images": float64(answer, x_0, abar_t, noise),
        "no noise left (abar_t = 1)": lambda: answer(x_0, abar_t * 0 + 1, noise),
    }


@LAB.exercise(
    points=1,
    minutes=4,
    difficulty=1,
    inputs=lambda draw: {"alphas_cumprod": draw.uniform(9, low=0.05, high=0.95).sort(descending=True).values},
    hints=(
        "Compare the squared factor of x_0 with the variance of the noise.",
        "In x_t, x_0 has the factor sqrt(abar) and the noise has the factor sqrt(1 - abar). Square both and divide.",
        "return alphas_cumprod / (1 - alphas_cumprod)",
    ),
)
def snr(answer, alphas_cumprod):
    """snr(alphas_cumprod) -> (T,)"""
    return {
        "nine timesteps": lambda: answer(alphas_cumprod),
        "a single timestep": lambda: answer(alphas_cumprod[:1]),
        "float64": float64(answer, alphas_cumprod),
    }


LAB.prediction(
    "predict_first_to_noise",
    ("linear", "cosine", "together"),
    (
        "Look at how large the betas of each schedule are in the first third of the steps.",
        "The cosine schedule was made because the older one destroys the picture too early.",
        'Return "linear".',
    ),
)


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=lambda draw: {"betas": draw.betas(12)},
    hints=(
        "The formula needs abar at t - 1. What should abar be before the first step, when no noise was added?",
        "Shift alphas_cumprod by one place and put a 1 in front: torch.cat([ones of length 1, alphas_cumprod[:-1]]).",
        "prev = torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]]); "
        "return betas * (1 - prev) / (1 - alphas_cumprod)",
    ),
)
def posterior_variance(answer, betas):
    """posterior_variance(betas, alphas_cumprod) -> (T,)"""
    abar = (1 - betas).cumprod(0)
    return {
        "12 steps": lambda: answer(betas, abar),
        "a single step": lambda: answer(betas[:1], abar[:1]),
        "float64": float64(answer, betas, abar),
    }


def _posterior_inputs(draw):
    levels = noise_levels(draw)  # before the images, as when the golden answers were made
    return {"x_0": draw.images(3), "x_t": draw.normal(3, 1, 8, 8), **levels}


@LAB.exercise(
    points=3,
    minutes=10,
    difficulty=3,
    inputs=_posterior_inputs,
    hints=(
        "The mean is a weighted sum of x_0 and x_t. Test your weights: at abar_prev = 1 there was no noise before "
        "this step, so the mean must be x_0 itself.",
        "The weight of x_0 is sqrt(abar_prev) beta_t / (1 - abar_t). The weight of x_t has sqrt(alpha_t), where "
        "alpha_t = 1 - beta_t, and 1 - abar_prev.",
        "return (abar_prev.sqrt() * beta_t * x_0 + (1 - beta_t).sqrt() * (1 - abar_prev) * x_t) / (1 - abar_t)",
    ),
)
def posterior_mean(answer, x_0, x_t, beta_t, abar_t, abar_prev):
    """posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev) -> the shape of x_0"""
    one = abar_prev * 0 + 1
    return {
        "a batch of images": lambda: answer(x_0, x_t, beta_t, abar_t, abar_prev),
        "a batch of one": batch_of_one(answer, x_0, x_t, beta_t, abar_t, abar_prev),
        "the first step (abar_prev = 1)": lambda: answer(x_0, x_t, beta_t, 1 - beta_t, one),
    }


LAB.written("why_abar_must_vanish", points=2)
