"""Right answers to lab1_forward, written in other ways than the reference."""

import math

import numpy as np
import torch

from labdiff.authoring import variant


@variant("linear_betas")
def from_arange(T, beta_start=1e-4, beta_end=0.02):
    return beta_start + (beta_end - beta_start) * torch.arange(T) / max(T - 1, 1)


@variant("linear_betas")
def from_numpy(T, beta_start=1e-4, beta_end=0.02):
    return torch.tensor(np.linspace(beta_start, beta_end, T), dtype=torch.float32)


@variant("cosine_betas")
def loop_over_steps(T, s=0.008, max_beta=0.999):
    def f(u):
        return math.cos((u + s) / (1 + s) * math.pi / 2) ** 2

    return torch.tensor([min(1 - f((i + 1) / T) / f(i / T), max_beta) for i in range(T)])


@variant("cosine_betas")
def through_alphas_cumprod(T, s=0.008, max_beta=0.999):
    f = torch.cos((torch.arange(T + 1) / T + s) / (1 + s) * math.pi / 2).square()
    abar = f / f[0]
    return torch.minimum(1 - abar[1:] / abar[:-1], torch.tensor(max_beta))


@variant("compute_alphas_cumprod")
def running_loop(betas):
    kept, product = [], 1.0
    for beta in betas:
        product = product * (1 - beta)
        kept.append(product)
    return torch.stack(kept)


@variant("compute_alphas_cumprod")
def sum_of_logarithms(betas):
    return torch.log1p(-betas).cumsum(0).exp()


@variant("extract")
def gathered(values, t, x):
    return values.gather(0, t).view(len(t), *(1,) * (x.ndim - 1))


@variant("extract")
def axes_one_by_one(values, t, x):
    picked = values[t]
    while picked.dim() < x.dim():
        picked = picked.unsqueeze(-1)
    return picked


@variant("q_step")
def powers(x_prev, beta_t, noise):
    return (1 - beta_t) ** 0.5 * x_prev + beta_t**0.5 * noise


@variant("q_step")
def image_by_image(x_prev, beta_t, noise):
    rows = zip(x_prev, beta_t, noise, strict=True)
    return torch.stack([torch.sqrt(1 - b) * x + torch.sqrt(b) * n for x, b, n in rows])


@variant("q_mean_variance")
def product_of_root(x_0, abar_t):
    return x_0 * torch.sqrt(abar_t), torch.ones_like(abar_t) - abar_t


@variant("q_mean_variance")
def as_list(x_0, abar_t):
    return [torch.einsum("bchw,bxyz->bchw", x_0, abar_t**0.5), -(abar_t - 1)]


@variant("q_sample")
def interpolated(x_0, abar_t, noise):
    return torch.einsum("bchw,bxyz->bchw", x_0, abar_t.sqrt()) + torch.sqrt(1 - abar_t) * noise


@variant("q_sample")
def in_its_own_copy(x_0, abar_t, noise):
    x_t = x_0.clone()
    x_t *= abar_t**0.5
    x_t += noise * (1 - abar_t) ** 0.5
    return x_t


@variant("snr")
def from_its_inverse(alphas_cumprod):
    return 1 / (1 / alphas_cumprod - 1)


@variant("snr")
def through_logit(alphas_cumprod):
    return torch.logit(alphas_cumprod).exp()


@variant("predict_first_to_noise")
def by_name():
    return ["linear", "cosine"][0]


@variant("predict_first_to_noise")
def by_measurement():
    linear = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)[250]
    cosine = math.cos(0.25 * math.pi / 2) ** 2
    return "linear" if linear < cosine else "cosine"


@variant("posterior_variance")
def padded(betas, alphas_cumprod):
    prev = torch.nn.functional.pad(alphas_cumprod[:-1], (1, 0), value=1.0)
    return (1 - prev) / (1 - alphas_cumprod) * betas


@variant("posterior_variance")
def divided_out(betas, alphas_cumprod):
    prev = alphas_cumprod / (1 - betas)
    variance = betas * (1 - prev) / (1 - alphas_cumprod)
    variance[0] = 0
    return variance


@variant("posterior_mean")
def from_precisions(x_0, x_t, beta_t, abar_t, abar_prev):
    alpha_t = 1 - beta_t
    variance = beta_t * (1 - abar_prev) / (1 - abar_t)
    return abar_prev.sqrt() * beta_t / (1 - abar_t) * x_0 + variance * alpha_t.sqrt() / beta_t * x_t


@variant("posterior_mean")
def with_alpha(x_0, x_t, beta_t, abar_t, abar_prev):
    alpha_t = abar_t / abar_prev
    weight_0 = torch.sqrt(abar_prev) * (1 - alpha_t) / (1 - abar_t)
    weight_t = torch.sqrt(alpha_t) * (1 - abar_prev) / (1 - abar_t)
    return weight_0 * x_0 + weight_t * x_t
