"""Built by `labdiff build` from solutions/lab4_sampling/lab4_sampling.py; edit that, not this."""

import torch

from labdiff.reference.lab1_forward import extract, posterior_mean
from labdiff.reference.lab3_training import eps_from_x0, x0_from_v


def make_denoiser(model, alphas_cumprod):
    """Make a denoiser of a network that predicts v.

    model: model(x_t, t) -> v, with t (B,), int64. alphas_cumprod: (T,).
    Returns denoise(x_t, t) -> x_0: x_t (B, C, H, W), t an int, x_0 (B, C, H, W) in [-1, 1].
    """

    def denoise(x_t, t):
        steps = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)  # (B,)
        abar_t = extract(alphas_cumprod.to(x_t), steps, x_t)  # (B, 1, 1, 1)
        return x0_from_v(x_t, model(x_t, steps), abar_t).clamp(-1, 1)  # (B, C, H, W)

    return denoise


def p_mean_variance(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    small = beta_t * (1 - abar_prev) / (1 - abar_t)  # (B, 1, 1, 1)
    return posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev), small if fixed == "small" else beta_t


def p_sample(mean, variance, noise, t):
    return mean + variance.sqrt() * noise if t > 0 else mean  # (B, C, H, W)


def ancestral_sample(p_step, x_T, T, keep=()):
    x, kept = x_T.clone(), {}
    for t in reversed(range(T)):
        if t in keep:
            kept[t] = x.detach().clone()
        x = p_step(x, t)  # (B, C, H, W)
    return x, kept


def ddim_timesteps(T, n):
    return torch.linspace(T - 1, 0, n).round().long().tolist()


def ddim_sigma(abar_t, abar_prev, eta):
    return eta * ((1 - abar_prev) / (1 - abar_t)).sqrt() * (1 - abar_t / abar_prev).sqrt()  # (B, 1, 1, 1)


def ddim_step(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    eps = eps_from_x0(x_t, x_0, abar_t)  # (B, C, H, W)
    towards_x_t = (1 - abar_prev - sigma_t**2).clamp(min=0).sqrt()  # (B, 1, 1, 1)
    return abar_prev.sqrt() * x_0 + towards_x_t * eps + sigma_t * noise  # (B, C, H, W)


def ddim_loop(step, denoise, x_T, timesteps, alphas_cumprod):
    x = x_T
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        x = step(x, denoise(x, t), abar_t, abar_prev)  # (B, C, H, W)
    return x


def ddim_sample(denoise, x_T, timesteps, alphas_cumprod, eta=0.0, generator=None):
    """Draw images by DDIM, with the answers above.

    denoise: denoise(x_t, t) -> x_0. x_T: (B, C, H, W), standard normal. timesteps: falling ints.
    alphas_cumprod: (T,). eta: 0 for no fresh noise, 1 for as much as ancestral sampling.
    generator: where fresh noise is drawn from, on any device. Returns x_0: (B, C, H, W).
    """

    def step(x_t, x_0, abar_t, abar_prev):
        noise = torch.zeros_like(x_t)
        if eta > 0:
            device = generator.device if generator else x_t.device
            noise = torch.randn(x_t.shape, generator=generator, device=device, dtype=x_t.dtype).to(x_t.device)
        return ddim_step(x_t, x_0, abar_t, abar_prev, ddim_sigma(abar_t, abar_prev, eta), noise)

    return ddim_loop(step, denoise, x_T, timesteps, alphas_cumprod.to(x_T))


def predict_same_noise():
    return "alike"


def slerp(a, b, w):
    axes = tuple(range(1, a.dim()))
    lengths = a.square().sum(axes, keepdim=True).sqrt() * b.square().sum(axes, keepdim=True).sqrt()  # (B, 1, 1, 1)
    cosine = ((a * b).sum(axes, keepdim=True) / lengths).clamp(-1, 1)  # (B, 1, 1, 1)
    theta = cosine.arccos()
    arc = (((1 - w) * theta).sin() * a + (w * theta).sin() * b) / theta.sin()  # (B, C, H, W)
    return torch.where(cosine > 0.9995, (1 - w) * a + w * b, arc)  # (B, C, H, W)


def confident_share(logits, threshold=0.9):
    return (logits.softmax(dim=1).amax(dim=1) > threshold).float().mean().item()


def frechet_distance(features_a, features_b):
    a, b = features_a.double(), features_b.double()
    S_a, S_b = a.T.cov(), b.T.cov()  # (D, D)
    roots = torch.linalg.eigvals(S_a @ S_b).sqrt().real.sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + S_a.trace() + S_b.trace() - 2 * roots).item()
