"""Built by `labdiff build` from solutions/lab1_forward/lab1_forward.py; edit that, not this."""

import math

import torch


def q_step(x_prev, beta_t, noise):
    """Draw x_t from q(x_t given x_{t-1}).

    x_prev: (B, C, H, W). beta_t: (B, 1, 1, 1), in (0, 1). noise: (B, C, H, W), standard normal.
    Returns x_t: (B, C, H, W).
    """
    return (1 - beta_t).sqrt() * x_prev + beta_t.sqrt() * noise  # (B, C, H, W)


def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    """The linear schedule of DDPM (Ho, Jain and Abbeel 2020, section 4).

    Returns T equally spaced values, the first beta_start, the last beta_end: (T,), float32.
    """
    return torch.linspace(beta_start, beta_end, T)  # (T,)


def compute_alphas_cumprod(betas):
    """The running product of alpha = 1 - beta: entry t is alpha_0 alpha_1 ... alpha_t.

    betas: (T,), in (0, 1). Returns (T,), the dtype of betas, falling.
    """
    return torch.cumprod(1 - betas, dim=0)  # (T,)


def extract(values, t, x):
    """Pick one value per image, shaped so that it broadcasts against the images.

    values: (T,). t: (B,), int64. x: (B, ...), only its number of axes matters.
    Returns (B, 1, ..., 1) with as many axes as x, the dtype of values.
    """
    return values[t].reshape(-1, *[1] * (x.dim() - 1))  # (B, 1, ..., 1)


def q_mean_variance(x_0, abar_t):
    """The mean and the variance of q(x_t given x_0).

    x_0: (B, C, H, W), in [-1, 1]. abar_t: (B, 1, 1, 1), in (0, 1].
    Returns mean (B, C, H, W) and variance (B, 1, 1, 1).
    """
    return abar_t.sqrt() * x_0, 1 - abar_t


def q_sample(x_0, abar_t, noise):
    """Draw x_t from q(x_t given x_0) in one go (DDPM, equation 4).

    x_0: (B, C, H, W), in [-1, 1]. abar_t: (B, 1, 1, 1), in (0, 1]. noise: (B, C, H, W), standard normal.
    Returns x_t: (B, C, H, W).
    """
    return abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * noise  # (B, C, H, W)


def cosine_betas(T, s=0.008, max_beta=0.999):
    """The cosine schedule (Nichol and Dhariwal 2021, equation 17).

    T: number of steps. s: offset. max_beta: no value exceeds it. Returns (T,), float32.
    """
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)  # (T + 1,)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2  # (T + 1,)
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()  # (T,)


def snr(alphas_cumprod):
    """The signal-to-noise ratio of x_t (Kingma and others 2021, section 3.1).

    alphas_cumprod: (T,), in (0, 1). Returns (T,), positive.
    """
    return alphas_cumprod / (1 - alphas_cumprod)  # (T,)


def predict_first_to_noise():
    """Return "linear", "cosine" or "together"."""
    return "linear"


def posterior_variance(betas, alphas_cumprod):
    """The variance of q(x_{t-1} given x_t, x_0) for every t (DDPM, equation 7).

    betas, alphas_cumprod: (T,). Returns (T,), the first entry 0.
    """
    previous = torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])  # (T,)
    return betas * (1 - previous) / (1 - alphas_cumprod)  # (T,)


def posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev):
    """The mean of q(x_{t-1} given x_t, x_0) (DDPM, equation 7).

    x_0, x_t: (B, C, H, W). beta_t, abar_t, abar_prev: (B, 1, 1, 1); abar_prev is abar at t - 1, or 1 at t = 0.
    Returns (B, C, H, W).
    """
    weight_0 = abar_prev.sqrt() * beta_t / (1 - abar_t)  # (B, 1, 1, 1)
    weight_t = (1 - beta_t).sqrt() * (1 - abar_prev) / (1 - abar_t)  # (B, 1, 1, 1)
    return weight_0 * x_0 + weight_t * x_t  # (B, C, H, W)
