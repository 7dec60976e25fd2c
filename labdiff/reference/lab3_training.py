"""Built by `labdiff build` from solutions/lab3_training/lab3_training.py; edit that, not this."""

import copy
import itertools
import math
import time

import torch
from torch import nn
from tqdm import tqdm

from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas, extract, q_sample
from labdiff.reference.lab2_unet import UNet


def x0_from_eps(x_t, eps, abar_t):
    """The clean image that belongs to a noisy one and its noise (DDPM, equation 4, solved for x_0).

    x_t, eps: (B, C, H, W). abar_t: (B, 1, 1, 1), in (0, 1]. Returns (B, C, H, W), not clamped.
    """
    return (x_t - (1 - abar_t).sqrt() * eps) / abar_t.sqrt()  # (B, C, H, W)


def eps_from_x0(x_t, x_0, abar_t):
    """The noise that belongs to a noisy image and the clean one (DDPM, equation 4, solved for eps).

    x_t, x_0: (B, C, H, W). abar_t: (B, 1, 1, 1), in (0, 1). Returns (B, C, H, W).
    """
    return (x_t - abar_t.sqrt() * x_0) / (1 - abar_t).sqrt()  # (B, C, H, W)


def v_target(x_0, eps, abar_t):
    """What a v-predicting network is trained on (Salimans and Ho 2022, section 4).

    x_0, eps: (B, C, H, W). abar_t: (B, 1, 1, 1), in [0, 1]. Returns v: (B, C, H, W).
    """
    return abar_t.sqrt() * eps - (1 - abar_t).sqrt() * x_0  # (B, C, H, W)


def x0_from_v(x_t, v, abar_t):
    """The clean image that belongs to a noisy one and its velocity (Salimans and Ho 2022, section 4).

    x_t, v: (B, C, H, W). abar_t: (B, 1, 1, 1), in [0, 1]. Returns (B, C, H, W), not clamped.
    """
    return abar_t.sqrt() * x_t - (1 - abar_t).sqrt() * v  # (B, C, H, W)


def eps_from_v(x_t, v, abar_t):
    """The noise that belongs to a noisy image and its velocity.

    x_t, v: (B, C, H, W). abar_t: (B, 1, 1, 1), in [0, 1]. Returns (B, C, H, W).
    """
    return (1 - abar_t).sqrt() * x_t + abar_t.sqrt() * v  # (B, C, H, W)


def x_prev_from_eps(x_t, eps, beta_t, abar_t):
    """The mean of x_{t-1} given x_t and its noise (DDPM, equation 11).

    x_t, eps: (B, C, H, W). beta_t, abar_t: (B, 1, 1, 1), in (0, 1). Returns (B, C, H, W).
    """
    alpha_t = 1 - beta_t  # (B, 1, 1, 1)
    return (x_t - beta_t / (1 - abar_t).sqrt() * eps) / alpha_t.sqrt()  # (B, C, H, W)


def x_prev_weight(beta_t, abar_t):
    """How much an error in eps counts when x_{t-1} is compared (DDPM, equation 12, without 1 / (2 sigma^2)).

    beta_t, abar_t: the same shape, in (0, 1). Returns w_t, that shape, positive.
    """
    return beta_t**2 / ((1 - beta_t) * (1 - abar_t))


def random_timesteps(u, T):
    """Turn uniform numbers into timesteps, each of 0, ..., T - 1 equally likely.

    u: (B,), float32, uniform in [0, 1). T: number of steps. Returns (B,), int64.
    """
    return (u * T).long()  # (B,)


def diffusion_loss(prediction, target, weight=None):
    """The mean squared error, weighted per image, in float32 whatever comes in.

    prediction, target: (B, C, H, W), float32 or bfloat16. weight: (B,) or None for no weights.
    Returns a scalar tensor, float32, through which gradients flow.
    """
    error = (prediction.float() - target.float()).square()  # (B, C, H, W)
    per_image = error.flatten(1).mean(dim=1)  # (B,)
    if weight is not None:
        per_image = weight * per_image  # (B,)
    return per_image.mean()  # scalar


def train_step(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """One step of training (DDPM, algorithm 1).

    model: model(x_t, t) -> prediction, the shape of x_t. optimizer: holds the model's parameters.
    x_0, eps: (B, C, H, W). t: (B,), int64, in [0, T). alphas_cumprod: (T,).
    loss_fn(prediction, target) -> scalar tensor. target_fn(x_0, eps, abar_t) -> (B, C, H, W).
    Changes the model's weights once. Returns the loss before that change, a float.
    """
    abar_t = extract(alphas_cumprod, t, x_0)  # (B, 1, 1, 1)
    x_t = q_sample(x_0, abar_t, eps)  # (B, C, H, W)
    loss = loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t))  # scalar
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def ema_update(ema, model, decay):
    """Move the average's parameters towards the model's, in place. Returns nothing.

    ema, model: two networks of the same architecture. decay: in [0, 1], the share of the average that stays.
    """
    with torch.no_grad():
        for average, current in zip(ema.parameters(), model.parameters(), strict=True):
            average.mul_(decay).add_(current, alpha=1 - decay)


def learning_rate(step, steps, peak, warmup):
    """The learning rate of one step: a linear rise to the peak, then a linear fall towards 0.

    step: int in [0, steps). steps: how many there are. peak: the largest rate. warmup: int in [1, steps).
    Returns a float in (0, peak].
    """
    return peak * min((step + 1) / warmup, (steps - step) / (steps - warmup))


def train_epoch(images, order, batch_size, step_fn):
    """Call step_fn on each whole batch of images, in the given order.

    images: (N, C, H, W). order: (M,), int64, which images in which order. batch_size: int.
    step_fn: takes a batch (batch_size, C, H, W), returns its loss, a float.
    Returns a list of floats, one for each of the M // batch_size whole batches.
    """
    losses = []
    for i in range(len(order) // batch_size):
        batch = order[i * batch_size : (i + 1) * batch_size]  # (batch_size,)
        losses.append(step_fn(images[batch]))
    return losses


class MixedPrecision(nn.Module):
    """A network that computes in bfloat16 inside, where `enabled`; its parameters stay float32."""

    def __init__(self, network, enabled=True):
        super().__init__()
        self.network = network
        self.enabled = enabled

    def forward(self, x, t):
        """x: (B, C, H, W). t: (B,), int64. Returns what the network returns, in bfloat16 where enabled."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.enabled):
            return self.network(x, t)


def bfloat16_is_faster(network, x, t):
    """Whether this machine calls a network clearly faster in bfloat16; tried out, on a CPU with 16 images at most.

    network: called with x, (B, C, H, W), and t, (B,). Its gradients are left alone.
    """
    if not x.is_cuda:  # where bfloat16 is slow, it is slow enough for 16 images to tell
        x, t = x[:16], t[:16]

    def seconds(enabled):
        best = math.inf
        for _ in range(3):  # the first run also sets things up
            start = time.perf_counter()
            with torch.inference_mode():
                MixedPrecision(network, enabled)(x, t)
            if x.is_cuda:
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        return best

    return seconds(True) < 0.9 * seconds(False)


def train_unet(images, steps, batch=64, peak=1e-3, seed=0, device=None, alphas_cumprod=None, every=0, callback=None):
    """Train lab 2's U-Net to predict v, with the answers above.

    images: (N, 1, H, W), float32 in [-1, 1]. steps, batch: how many batches, and how large.
    peak: the largest learning rate. seed: of the weights, the order, the timesteps and the noise.
    device: the GPU where there is one, unless told.
    alphas_cumprod: (T,), the cosine schedule with T = 1000 unless given.
    every, callback: after every `every` steps, and after the last one, callback(steps done, ema, network) is called.
    Returns the averaged network, in evaluation mode, and the losses, one float per step.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if alphas_cumprod is None:
        alphas_cumprod = compute_alphas_cumprod(cosine_betas(1000))
    alphas_cumprod = alphas_cumprod.to(device)
    batch = min(batch, len(images))
    warmup = max(1, min(100, steps // 10))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet().to(device, memory_format=torch.channels_last)
    ema = copy.deepcopy(network).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

    def clip(*_):
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)

    optimizer.register_step_pre_hook(clip)
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that every device sees the same batches
    some, first = images[:batch].to(device), torch.zeros(batch, dtype=torch.int64, device=device)
    model = MixedPrecision(network, bfloat16_is_faster(network, some, first))

    counter = itertools.count()
    losses = []
    with tqdm(total=steps, desc="training", unit="step", delay=1, mininterval=1) as bar:

        def one_step(x_0):
            step = next(counter)
            x_0 = x_0.to(device)  # (B, 1, H, W)
            t = random_timesteps(torch.rand(len(x_0), generator=generator), len(alphas_cumprod)).to(device)  # (B,)
            eps = torch.randn(x_0.shape, generator=generator).to(device)  # (B, 1, H, W)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, max(steps, warmup + 1), peak, warmup)  # one step has no fall
            loss = train_step(model, optimizer, x_0, t, eps, alphas_cumprod, diffusion_loss, v_target)
            ema_update(ema, network, min(0.999, (1 + step) / (10 + step)))
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{loss:.3f}")
            if every and ((step + 1) % every == 0 or step + 1 == steps):
                callback(step + 1, ema, network)
            return loss

        while len(losses) < steps:
            order = torch.randperm(len(images), generator=generator)[: (steps - len(losses)) * batch]
            losses += train_epoch(images, order, batch, one_step)
    return ema, losses


def loss_by_timestep(losses, t, T, bins):
    """The mean loss in each of `bins` equal parts of the timesteps.

    losses: (N,), float32. t: (N,), int64, in [0, T). T, bins: int, bins <= T.
    Returns (bins,), float32; 0 where a bin is empty.
    """
    index = t * bins // T  # (N,)
    total = torch.zeros(bins, device=losses.device).index_add(0, index, losses)  # (bins,)
    count = torch.bincount(index, minlength=bins)  # (bins,)
    return total / count.clamp(min=1)  # (bins,)


def predict_hardest_timesteps():
    """Return "early", "middle" or "late"."""
    return "early"
