"""Built by `labdiff build` from solutions/lab4_sampling/lab4_sampling.py; edit that, not this."""

import torch

from labdiff.reference.lab1_forward import extract, posterior_mean
from labdiff.reference.lab3_training import eps_from_x0, x0_from_v


def make_denoiser(model, alphas_cumprod):
    """Make a denoiser of a network that predicts v.

    model: model(x_t, t) -> v, with t (B,), int64. alphas_cumprod: (T,).
    Returns denoise(x_t, t) -> x_0: x_t (B, C, H, W), t an int for the whole batch, x_0 (B, C, H, W) in [-1, 1].
    """

    def denoise(x_t, t):
        steps = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)  # (B,)
        abar_t = extract(alphas_cumprod.to(x_t), steps, x_t)  # (B, 1, 1, 1)
        return x0_from_v(x_t, model(x_t, steps), abar_t).clamp(-1, 1)  # (B, C, H, W)

    return denoise


def p_mean_variance(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    """The mean and the variance of p(x_{t-1} given x_t) (DDPM, equations 6 and 7).

    x_t: (B, C, H, W). x_0: (B, C, H, W), the denoiser's guess. beta_t, abar_t, abar_prev: (B, 1, 1, 1).
    fixed: "small" for the posterior's variance, "large" for beta_t.
    Returns mean (B, C, H, W) and variance (B, 1, 1, 1).
    """
    small = beta_t * (1 - abar_prev) / (1 - abar_t)  # (B, 1, 1, 1)
    return posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev), small if fixed == "small" else beta_t


def p_sample(mean, variance, noise, t):
    """Draw x_{t-1} from p(x_{t-1} given x_t), or return its mean at the last step (DDPM, algorithm 2, line 4).

    mean: (B, C, H, W). variance: (B, 1, 1, 1). noise: (B, C, H, W), standard normal.
    t: an int, the step of the whole batch; 0 is the last one. Returns (B, C, H, W).
    """
    return mean + variance.sqrt() * noise if t > 0 else mean  # (B, C, H, W)


def ancestral_sample(p_step, x_T, T, keep=()):
    """Walk back from noise to an image (DDPM, algorithm 2).

    p_step: p_step(x_t, t) -> x_{t-1}, with t an int from T - 1 down to 0; it may work in place.
    x_T: (B, C, H, W), standard normal; it must stay as it is. keep: the timesteps to keep, ints.
    Returns x_0 (B, C, H, W), and a dictionary {t: x_t} of detached copies for each t in keep and no other, t an int.
    """
    x, kept = x_T.clone(), {}
    for t in reversed(range(T)):
        if t in keep:
            kept[t] = x.detach().clone()
        x = p_step(x, t)  # (B, C, H, W)
    return x, kept


def fresh_noise(x, generator=None):
    """Standard normal noise in the shape of x. generator: on any device, or None. Returns it on the device of x."""
    device = generator.device if generator else x.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


def make_p_step(denoise, betas, alphas_cumprod, fixed="small", generator=None):
    """Make one step of ancestral sampling of a denoiser, with the answers above.

    denoise: denoise(x_t, t) -> x_0. betas, alphas_cumprod: (T,). Returns p_step(x_t, t) -> x_{t-1}.
    """

    def p_step(x_t, t):
        one = x_t.new_ones(len(x_t), 1, 1, 1)
        beta_t, abar_t = betas[t].item() * one, alphas_cumprod[t].item() * one  # (B, 1, 1, 1)
        abar_prev = alphas_cumprod[t - 1].item() * one if t > 0 else one  # (B, 1, 1, 1)
        mean, variance = p_mean_variance(x_t, denoise(x_t, t), beta_t, abar_t, abar_prev, fixed)
        return p_sample(mean, variance, fresh_noise(x_t, generator), t)  # (B, C, H, W)

    return p_step


def one_point(c):
    """The exact denoiser where all data is the image c: (1, C, H, W)."""
    return lambda x_t, t: c.expand_as(x_t)


def gaussian(m, s, alphas_cumprod):
    """The exact denoiser where each pixel is drawn from N(m, s^2): the mean of x_0 given x_t."""

    def denoise(x_t, t):
        abar_t = alphas_cumprod[t]
        gain = abar_t.sqrt() * s**2 / (abar_t * s**2 + 1 - abar_t)
        return m + gain * (x_t - abar_t.sqrt() * m)

    return denoise


def ddim_timesteps(T, n):
    """n timesteps out of T, equally spaced, falling from T - 1 to 0.

    T: the number of steps of the schedule. n: from 1 to T; with n = 1 the list is [T - 1].
    The exact values T - 1 - i (T - 1) / (n - 1), i = 0, ..., n - 1, are rounded to the nearest integer (one that lies
    halfway may go either way). Returns a list of n Python ints, all different.
    """
    return torch.linspace(T - 1, 0, n).round().long().tolist()


def ddim_sigma(abar_t, abar_prev, eta):
    """The deviation of the fresh noise in one step (DDIM, equation 16).

    abar_t, abar_prev: tensors of one shape, such as (B, 1, 1, 1), with 0 < abar_t < abar_prev <= 1.
    eta: a number, 0 for DDIM, 1 for ancestral sampling. Returns the shape of abar_t; 0 where abar_prev = 1.
    """
    return eta * ((1 - abar_prev) / (1 - abar_t)).sqrt() * (1 - abar_t / abar_prev).sqrt()  # (B, 1, 1, 1)


def ddim_step(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """One step from x_t to the next timestep of the list (DDIM, equation 12).

    x_t: (B, C, H, W). x_0: (B, C, H, W), the denoiser's guess. abar_t, abar_prev, sigma_t: tensors that broadcast
    against x_t, such as (B, 1, 1, 1). noise: (B, C, H, W), standard normal.
    What stands under the root is clamped at 0, since rounding can make it slightly negative.
    Returns x_prev: (B, C, H, W); at abar_prev = 1, where sigma_t = 0, that is x_0.
    """
    eps = eps_from_x0(x_t, x_0, abar_t)  # (B, C, H, W)
    kept = (1 - abar_prev - sigma_t**2).clamp(min=0).sqrt()  # (B, 1, 1, 1)
    return abar_prev.sqrt() * x_0 + kept * eps + sigma_t * noise  # (B, C, H, W)


def ddim_loop(step, denoise, x_T, timesteps, alphas_cumprod):
    """Walk from noise to an image over a few timesteps.

    step: step(x_t, x_0, abar_t, abar_prev) -> x_prev. It takes abar_t and abar_prev as tensors, 0-dimensional or
    broadcasting against x_t. denoise: denoise(x_t, t) -> x_0, with t an int. x_T: (B, C, H, W), standard normal.
    timesteps: ints, falling. alphas_cumprod: (T,). After the last timestep abar_prev is 1.
    Returns what the last step made, (B, C, H, W).
    """
    x = x_T
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        x = step(x, denoise(x, t), abar_t, abar_prev)  # (B, C, H, W)
    return x


def ddim_sample(denoise, x_T, timesteps, alphas_cumprod, eta=0.0, generator=None):
    """Draw images over a few timesteps, with the answers above.

    denoise: denoise(x_t, t) -> x_0. x_T: (B, C, H, W), standard normal. timesteps: falling ints, see ddim_timesteps.
    alphas_cumprod: (T,). eta: 0 for no fresh noise, 1 for as much as ancestral sampling.
    generator: what fresh noise is drawn from, on any device. Returns x_0: (B, C, H, W).
    """

    def step(x_t, x_0, abar_t, abar_prev):
        noise = fresh_noise(x_t, generator) if eta > 0 else torch.zeros_like(x_t)
        return ddim_step(x_t, x_0, abar_t, abar_prev, ddim_sigma(abar_t, abar_prev, eta), noise)

    return ddim_loop(step, denoise, x_T, timesteps, alphas_cumprod.to(x_T))


def predict_same_noise():
    """Return "identical", "alike" or "unrelated"."""
    return "alike"


def confident_share(logits, threshold=0.9):
    """The share of images whose most probable class has a probability above the threshold.

    logits: (N, K), the classifier's outputs before the softmax. threshold: from 0 to 1.
    Returns a number from 0 to 1.
    """
    return (logits.softmax(dim=1).amax(dim=1) > threshold).float().mean().item()


def frechet_distance(features_a, features_b):
    """The Fréchet distance between two sets of features, each taken for a Gaussian (Heusel and others 2017).

    features_a: (N, D). features_b: (M, D). Covariances divide by N - 1 and M - 1. Computed in float64.
    Returns a number, 0 or more up to rounding.
    """
    a, b = features_a.double(), features_b.double()
    S_a, S_b = a.T.cov(), b.T.cov()  # (D, D)
    roots = torch.linalg.eigvals(S_a @ S_b).sqrt().real.sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + S_a.trace() + S_b.trace() - 2 * roots).item()


def slerp(a, b, w):
    """Interpolate between noises along the sphere, image by image (Shoemake 1985; White 2016).

    a, b: (B, C, H, W). w: a number from 0, which gives a, to 1, which gives b. The weights apply to a and b
    themselves; only the angle comes from unit vectors. Where the cosine exceeds 0.9995: (1 - w) a + w b.
    Returns (B, C, H, W).
    """
    axes = tuple(range(1, a.dim()))
    lengths = a.square().sum(axes, keepdim=True).sqrt() * b.square().sum(axes, keepdim=True).sqrt()  # (B, 1, 1, 1)
    cosine = ((a * b).sum(axes, keepdim=True) / lengths).clamp(-1, 1)  # (B, 1, 1, 1)
    theta = cosine.arccos()  # (B, 1, 1, 1)
    arc = (((1 - w) * theta).sin() * a + (w * theta).sin() * b) / theta.sin()  # (B, C, H, W)
    return torch.where(cosine > 0.9995, (1 - w) * a + w * b, arc)  # (B, C, H, W)
