"""Right answers to lab4_sampling, written in other ways than the reference."""

import math

import numpy as np
import torch

from labdiff.authoring import variant


@variant("p_mean_variance")
def formula_written_out(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    weight_0 = abar_prev.sqrt() * beta_t / (1 - abar_t)
    weight_t = (1 - beta_t).sqrt() * (1 - abar_prev) / (1 - abar_t)
    variance = {"small": beta_t * (1 - abar_prev) / (1 - abar_t), "large": beta_t}[fixed]
    return weight_0 * x_0 + weight_t * x_t, variance


@variant("p_mean_variance")
def through_the_noise(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    eps = (x_t - abar_t.sqrt() * x_0) / (1 - abar_t).sqrt()
    mean = (x_t - beta_t / (1 - abar_t).sqrt() * eps) / (1 - beta_t).sqrt()
    if fixed == "large":
        return [mean, beta_t.clone()]
    return [mean, (1 - abar_prev) / (1 - abar_t) * beta_t]


@variant("p_sample")
def masked(mean, variance, noise, t):
    return mean + (t != 0) * variance**0.5 * noise


@variant("p_sample")
def in_two_branches(mean, variance, noise, t):
    if t == 0:
        return mean.clone()
    return torch.addcmul(mean, torch.sqrt(variance).expand_as(noise), noise)


@variant("ancestral_sample")
def with_while(p_step, x_T, T, keep=()):
    wanted, kept, t = set(keep), {}, T - 1
    x = x_T.detach().clone()
    while t >= 0:
        if t in wanted:
            kept[t] = x.clone().detach()
        x = p_step(x, t)
        t -= 1
    return x, kept


@variant("ancestral_sample")
def without_gradients(p_step, x_T, T, keep=()):
    kept = {}
    with torch.no_grad():
        x = 1 * x_T
        for t in range(T - 1, -1, -1):
            if t in keep:
                kept[t] = torch.empty_like(x).copy_(x)
            x = p_step(x, t)
    return x, {t: kept[t] for t in sorted(kept)}


@variant("ddim_timesteps")
def counted_by_hand(T, n):
    if n == 1:
        return [T - 1]
    return [round((T - 1) * (n - 1 - i) / (n - 1)) for i in range(n)]


@variant("ddim_timesteps")
def numpy_turned_round(T, n):
    if n == 1:
        return [T - 1]
    return np.linspace(0, T - 1, n).round().astype(int)[::-1].tolist()


@variant("ddim_timesteps")
def half_added(T, n):
    gap = (T - 1) / max(n - 1, 1)
    return [int(T - 1 - i * gap + 0.5) for i in range(n)]


@variant("ddim_sigma")
def one_root(abar_t, abar_prev, eta):
    return eta * torch.sqrt((1 - abar_prev) * (abar_prev - abar_t) / ((1 - abar_t) * abar_prev))


@variant("ddim_sigma")
def through_beta_tilde(abar_t, abar_prev, eta):
    beta_t = 1 - abar_t / abar_prev
    return (eta**2 * beta_t * (1 - abar_prev) / (1 - abar_t)) ** 0.5


@variant("ddim_step")
def noise_recomputed_here(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    eps = (x_t - abar_t**0.5 * x_0) / (1 - abar_t) ** 0.5
    return abar_prev**0.5 * x_0 + (1 - abar_prev - sigma_t.square()).clamp(min=0) ** 0.5 * eps + sigma_t * noise


@variant("ddim_step")
def weights_of_the_images(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    ratio = torch.sqrt(torch.relu(1 - abar_prev - sigma_t * sigma_t) / (1 - abar_t))
    return ratio * x_t + (torch.sqrt(abar_prev) - ratio * torch.sqrt(abar_t)) * x_0 + sigma_t * noise


@variant("ddim_loop")
def by_index(step, denoise, x_T, timesteps, alphas_cumprod):
    x = x_T.clone()
    for i in range(len(timesteps)):
        last = i + 1 == len(timesteps)
        abar_prev = torch.tensor(1.0) if last else alphas_cumprod[timesteps[i + 1]]
        guess = denoise(x, timesteps[i])
        x = step(x, guess, alphas_cumprod[timesteps[i]], abar_prev)
    return x


@variant("ddim_loop")
def one_in_front(step, denoise, x_T, timesteps, alphas_cumprod):
    extended = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod])  # entry t + 1 is abar at t
    x = x_T
    for t, after in zip(timesteps, [*timesteps[1:], -1], strict=True):
        shape = (len(x), 1, 1, 1)
        x = step(x, denoise(x, t), extended[t + 1].expand(shape), extended[after + 1].expand(shape))
    return x


@variant("predict_same_noise")
def by_name():
    return "alike"


@variant("predict_same_noise")
def by_exclusion():
    return next(choice for choice in ("identical", "alike", "unrelated") if choice not in ("identical", "unrelated"))


@variant("slerp")
def image_by_image(a, b, w):
    mixed = []
    for one, other in zip(a, b, strict=True):
        cos = torch.dot(one.flatten(), other.flatten()) / (one.norm() * other.norm())
        if cos.abs() > 0.9999:
            mixed.append(one + w * (other - one))
        else:
            theta = torch.acos(cos)
            mixed.append(
                torch.sin((1 - w) * theta) / torch.sin(theta) * one + torch.sin(w * theta) / theta.sin() * other
            )
    return torch.stack(mixed)


@variant("slerp")
def flattened(a, b, w):
    u, v = torch.nn.functional.normalize(a.flatten(1)), torch.nn.functional.normalize(b.flatten(1))
    theta = torch.einsum("bd,bd->b", u, v).clamp(-1, 1).acos()[:, None]  # (B, 1)
    small = theta < 1e-3
    safe = torch.where(small, torch.ones_like(theta), theta)
    first = torch.where(small, torch.full_like(theta, 1 - w), ((1 - w) * safe).sin() / safe.sin())
    second = torch.where(small, torch.full_like(theta, w), (w * safe).sin() / safe.sin())
    return (first * a.flatten(1) + second * b.flatten(1)).view_as(a)


@variant("confident_share")
def counted(logits, threshold=0.9):
    largest = torch.softmax(logits, -1).max(-1).values
    return sum(bool(p > threshold) for p in largest) / len(logits)


@variant("confident_share")
def from_logarithms(logits, threshold=0.9):
    return (logits.log_softmax(1).max(1).values > math.log(threshold)).double().mean()


def _moments(features):
    mean = features.mean(0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


@variant("frechet_distance")
def symmetric_root(features_a, features_b):
    (mean_a, cov_a), (mean_b, cov_b) = _moments(features_a.double()), _moments(features_b.double())
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    inner = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return (mean_a - mean_b).pow(2).sum() + torch.trace(cov_a + cov_b) - 2 * inner


@variant("frechet_distance")
def in_numpy(features_a, features_b):
    a, b = (features.double().cpu().numpy() for features in (features_a, features_b))
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).astype(complex)).real.sum()
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * roots)


@variant("frechet_distance")
def singular_values(features_a, features_b):
    # the nuclear norm of A B^T is the trace of the square root of S_a S_b
    a, b = features_a.double(), features_b.double()
    A, B = ((x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (a, b))
    return float(
        (a.mean(0) - b.mean(0)).square().sum()
        + A.square().sum()
        + B.square().sum()
        - 2 * torch.linalg.svdvals(A @ B.T).sum()
    )
