# %% [markdown]
# # Lab 4: Sampling

# %%
import time

import torch

from labdiff import check, hint, when_done
from labdiff import metrics
from labdiff.checkpoints import model
from labdiff.data import digits
from labdiff.plotting import curves, explore, rows, show
from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas, extract, posterior_mean
from labdiff.reference.lab3_training import eps_from_x0, x0_from_v

# %%
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


# %%
def p_mean_variance(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    ### BEGIN SOLUTION
    small = beta_t * (1 - abar_prev) / (1 - abar_t)  # (B, 1, 1, 1)
    return posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev), small if fixed == "small" else beta_t
    ### END SOLUTION


# %%
def p_sample(mean, variance, noise, t):
    ### BEGIN SOLUTION
    return mean + variance.sqrt() * noise if t > 0 else mean  # (B, C, H, W)
    ### END SOLUTION


# %%
def ancestral_sample(p_step, x_T, T, keep=()):
    ### BEGIN SOLUTION
    x, kept = x_T.clone(), {}
    for t in reversed(range(T)):
        if t in keep:
            kept[t] = x.detach().clone()
        x = p_step(x, t)  # (B, C, H, W)
    return x, kept
    ### END SOLUTION


# %%
def ddim_timesteps(T, n):
    ### BEGIN SOLUTION
    return torch.linspace(T - 1, 0, n).round().long().tolist()
    ### END SOLUTION


# %%
def ddim_sigma(abar_t, abar_prev, eta):
    ### BEGIN SOLUTION
    return eta * ((1 - abar_prev) / (1 - abar_t)).sqrt() * (1 - abar_t / abar_prev).sqrt()  # (B, 1, 1, 1)
    ### END SOLUTION


# %%
def ddim_step(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    ### BEGIN SOLUTION
    eps = eps_from_x0(x_t, x_0, abar_t)  # (B, C, H, W)
    towards_x_t = (1 - abar_prev - sigma_t**2).clamp(min=0).sqrt()  # (B, 1, 1, 1)
    return abar_prev.sqrt() * x_0 + towards_x_t * eps + sigma_t * noise  # (B, C, H, W)
    ### END SOLUTION


# %%
def ddim_loop(step, denoise, x_T, timesteps, alphas_cumprod):
    ### BEGIN SOLUTION
    x = x_T
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        x = step(x, denoise(x, t), abar_t, abar_prev)  # (B, C, H, W)
    return x
    ### END SOLUTION


# %%
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


# %%
def predict_same_noise():
    ### BEGIN SOLUTION
    return "alike"
    ### END SOLUTION


# %%
def slerp(a, b, w):
    ### BEGIN SOLUTION
    axes = tuple(range(1, a.dim()))
    lengths = a.square().sum(axes, keepdim=True).sqrt() * b.square().sum(axes, keepdim=True).sqrt()  # (B, 1, 1, 1)
    cosine = ((a * b).sum(axes, keepdim=True) / lengths).clamp(-1, 1)  # (B, 1, 1, 1)
    theta = cosine.arccos()
    arc = (((1 - w) * theta).sin() * a + (w * theta).sin() * b) / theta.sin()  # (B, C, H, W)
    return torch.where(cosine > 0.9995, (1 - w) * a + w * b, arc)  # (B, C, H, W)
    ### END SOLUTION


# %%
def confident_share(logits, threshold=0.9):
    ### BEGIN SOLUTION
    return (logits.softmax(dim=1).amax(dim=1) > threshold).float().mean().item()
    ### END SOLUTION


# %%
def frechet_distance(features_a, features_b):
    ### BEGIN SOLUTION
    a, b = features_a.double(), features_b.double()
    S_a, S_b = a.T.cov(), b.T.cov()  # (D, D)
    roots = torch.linalg.eigvals(S_a @ S_b).sqrt().real.sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + S_a.trace() + S_b.trace() - 2 * roots).item()
    ### END SOLUTION


# %% [markdown] question="why_ddim_needs_fewer_steps"
# ### BEGIN SOLUTION
# Todo.
# ### END SOLUTION
