"""Built by `labdiff build` from solutions/lab8_debugging/lab8_debugging.py; edit that, not this."""

import copy

import matplotlib.pyplot as plt
import torch
from labdiff.reference.lab1_forward import (
    extract,
    posterior_mean,
    q_sample,
)
from labdiff.reference.lab3_training import eps_from_x0, v_target, x0_from_v
from labdiff.reference.lab4_sampling import (
    ddim_sample,
    ddim_sigma,
    ddim_step,
    ddim_timesteps,
)
from torch import nn


def predict_loss_warns():
    """Return "none", "one" or "all three"."""
    return "none"


def broken_contact_sheet(images, columns, gap=2):
    """Lay images out on a sheet of bytes, row by row, to be saved as a picture.

    images: (N, 1, H, W), float, as a sampler returns them: black is -1, white is 1, give or take a little.
    columns: images per row of the sheet. gap: the width of the grey lines (128) around and between the images.
    Returns (height, width), uint8, from 0 for black to 255 for white, rounded to the nearest.
    """
    N, _, H, W = images.shape
    lines = -(-N // columns)  # rounded up
    size = gap + lines * (H + gap), gap + columns * (W + gap)
    sheet = torch.full(
        size, 128, dtype=torch.uint8, device=images.device
    )  # (height, width)
    pixels = ((images[:, 0] + 1) * 127.5).round().int()  # (N, H, W)
    for i, picture in enumerate(pixels):
        top, left = gap + i // columns * (H + gap), gap + i % columns * (W + gap)
        sheet[top : top + H, left : left + W] = picture
    return sheet


def show_sheets(named):
    """Show sheets of bytes side by side, each under its name: name -> (height, width), uint8."""
    _, axes = plt.subplots(
        1,
        len(named),
        figsize=(4.5 * len(named), 2.5),
        squeeze=False,
        layout="constrained",
    )
    for axis, (name, sheet) in zip(axes[0], named.items(), strict=True):
        axis.imshow(sheet, cmap="gray", vmin=0, vmax=255)
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    plt.show()


def contact_sheet(images, columns, gap=2):
    """Lay images out on a sheet of bytes, row by row, to be saved as a picture.

    images: (N, 1, H, W), float, as a sampler returns them: black is -1, white is 1, give or take a little.
    columns: images per row of the sheet. gap: the width of the grey lines (128) around and between the images.
    Returns (height, width), uint8, from 0 for black to 255 for white, rounded to the nearest.
    """
    N, _, H, W = images.shape
    lines = -(-N // columns)  # rounded up
    size = gap + lines * (H + gap), gap + columns * (W + gap)
    sheet = torch.full(
        size, 128, dtype=torch.uint8, device=images.device
    )  # (height, width)
    pixels = ((images[:, 0].clamp(-1, 1) + 1) * 127.5).round().int()  # (N, H, W)
    for i, picture in enumerate(pixels):
        top, left = gap + i // columns * (H + gap), gap + i % columns * (W + gap)
        sheet[top : top + H, left : left + W] = picture
    return sheet


def broken_make_schedule(T):
    """The noise schedule of a diffusion in T steps, as tables.

    T: the number of steps, from 50 to 4000. Whatever it is, the schedule leads from a faint first step to pure noise:
    alphas_cumprod begins above 0.97, is above 0.01 half way, at T // 2, and ends below 0.001. While more than 0.01 of
    it is left, no single step takes 3/4 of that.
    Returns a dictionary of float32 tables, each (T,): "betas", all in (0, 1]; "alphas_cumprod", the running product
    of 1 - betas; "posterior_variance" (DDPM, equation 7), which is 0 at t = 0.
    """
    betas = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)  # (T,)
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)  # (T,)
    previous = torch.cat(
        [torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]]
    )  # (T,)
    variance = betas * (1 - previous) / (1 - alphas_cumprod)  # (T,)
    tables = {
        "betas": betas,
        "alphas_cumprod": alphas_cumprod,
        "posterior_variance": variance,
    }
    return {name: table.float() for name, table in tables.items()}


def draw_by_schedule(schedule, network, own, x_T, calls=25):
    """Draw with a network and a schedule that it was not trained on, matching the noise levels.

    schedule: a dictionary with "alphas_cumprod" (T,). own: the schedule of the network, (T',). x_T: (B, C, H, W).
    """
    abar = schedule["alphas_cumprod"]

    def denoise(x_t, t):
        same = (
            (own - abar[t]).abs().argmin()
        )  # the step of the network's own schedule with this much noise
        return x0_from_v(x_t, network(x_t, same.expand(len(x_t))), abar[t]).clamp(-1, 1)

    with torch.inference_mode():
        few = ddim_timesteps(len(abar), min(calls, len(abar)))
        return ddim_sample(
            denoise, x_T, few, abar, 1.0, torch.Generator().manual_seed(0)
        )


def make_schedule(T):
    """The noise schedule of a diffusion in T steps, as tables.

    T: the number of steps, from 50 to 4000. Whatever it is, the schedule leads from a faint first step to pure noise:
    alphas_cumprod begins above 0.97, is above 0.01 half way, at T // 2, and ends below 0.001. While more than 0.01 of
    it is left, no single step takes 3/4 of that.
    Returns a dictionary of float32 tables, each (T,): "betas", all in (0, 1]; "alphas_cumprod", the running product
    of 1 - betas; "posterior_variance" (DDPM, equation 7), which is 0 at t = 0.
    """
    scale = 1000 / T
    betas = torch.linspace(scale * 1e-4, scale * 0.02, T, dtype=torch.float64)  # (T,)
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)  # (T,)
    previous = torch.cat(
        [torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]]
    )  # (T,)
    variance = betas * (1 - previous) / (1 - alphas_cumprod)  # (T,)
    tables = {
        "betas": betas,
        "alphas_cumprod": alphas_cumprod,
        "posterior_variance": variance,
    }
    return {name: table.float() for name, table in tables.items()}


def show_schedules(named, numbers=(1000, 250, 100, 50)):
    """Plot alphas_cumprod over the share of the steps that are done, for several T: name -> make_schedule."""
    _, axes = plt.subplots(
        1, len(named), figsize=(4.5 * len(named), 3), sharey=True, squeeze=False
    )
    for axis, (name, make) in zip(axes[0], named.items(), strict=True):
        for n in numbers:
            axis.plot(
                torch.arange(1, n + 1) / n, make(n)["alphas_cumprod"], label=f"T = {n}"
            )
        axis.set(
            title=name,
            xlabel="share of the steps",
            ylabel=r"$\bar\alpha_t$" if axis is axes[0, 0] else "",
        )
        axis.grid(alpha=0.3)
        axis.legend()
    plt.show()


def broken_sample_in_strides(denoise, x_T, timesteps, alphas_cumprod, noise):
    """Draw images by ancestral sampling over a few timesteps, with the large variance, beta.

    denoise: denoise(x_t, t) -> x_0, with t an int. x_T: (B, C, H, W), standard normal. timesteps: ints, falling; they
    need not end at 0. alphas_cumprod: (T,). noise: (len(timesteps), B, C, H, W), standard normal.
    Returns finished images, (B, C, H, W).
    """
    x = x_T
    for i, t in enumerate(timesteps):
        abar_t, abar_prev = alphas_cumprod[t], torch.ones_like(alphas_cumprod[t])
        if i + 1 < len(timesteps):
            abar_prev = alphas_cumprod[timesteps[i + 1]]
        beta_t = (
            1 - abar_t / abar_prev
        )  # the variance of the forward stride that is undone
        mean = posterior_mean(
            denoise(x, t), x, beta_t, abar_t, abar_prev
        )  # (B, C, H, W)
        x = mean + beta_t.sqrt() * noise[i]  # (B, C, H, W)
    return x


def strides(n, T=1000):
    """n timesteps out of T, each at the end of its stride: T - 1, T - 1 - T / n, ..., T / n - 1."""
    return [T - 1 - i * T // n for i in range(n)]


def grain(images):
    """The deviation in the corners of images (N, 1, H, W), 3 by 3 pixels each."""
    corners = [
        images[..., :3, :3],
        images[..., :3, -3:],
        images[..., -3:, :3],
        images[..., -3:, -3:],
    ]
    return torch.stack(corners).std().item()


def sample_in_strides(denoise, x_T, timesteps, alphas_cumprod, noise):
    """Draw images by ancestral sampling over a few timesteps, with the large variance, beta.

    denoise: denoise(x_t, t) -> x_0, with t an int. x_T: (B, C, H, W), standard normal. timesteps: ints, falling; they
    need not end at 0. alphas_cumprod: (T,). noise: (len(timesteps), B, C, H, W), standard normal.
    Returns finished images, (B, C, H, W).
    """
    x = x_T
    for i, t in enumerate(timesteps):
        abar_t, abar_prev = alphas_cumprod[t], torch.ones_like(alphas_cumprod[t])
        last = i + 1 == len(timesteps)
        if not last:
            abar_prev = alphas_cumprod[timesteps[i + 1]]
        beta_t = (
            1 - abar_t / abar_prev
        )  # the variance of the forward stride that is undone
        mean = posterior_mean(
            denoise(x, t), x, beta_t, abar_t, abar_prev
        )  # (B, C, H, W)
        x = mean if last else mean + beta_t.sqrt() * noise[i]  # (B, C, H, W)
    return x


def principal_autoencoder(images, K):
    """An autoencoder made of the K principal components of some images (N, 1, H, W).

    Returns encode: images (B, 1, H, W) -> latents (B, K), and decode: latents -> images.
    """
    flat = images.flatten(1)  # (N, HW)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # pca_lowrank is randomised
        basis = torch.pca_lowrank(flat, q=K, niter=4)[2]  # (HW, K)
    rest = (
        flat.mean(0) - flat.mean(0) @ basis @ basis.T
    )  # (HW,), what no latent can hold

    def encode(x):
        return x.flatten(1) @ basis  # (B, K)

    def decode(z):
        return (z @ basis.T + rest).reshape(-1, *images.shape[1:])  # (B, 1, H, W)

    return encode, decode


def exact_denoiser(data, alphas_cumprod):
    """The exact denoiser where the data are the rows of a table (N, K) and nothing else."""

    def denoise(z_t, t):
        abar_t = alphas_cumprod[t]
        distance = torch.cdist(z_t, abar_t.sqrt() * data).square()  # (B, N)
        return (-distance / (2 * (1 - abar_t))).softmax(dim=1) @ data  # (B, K)

    return denoise


def broken_latent_variation(
    images, noise, encode, decode, denoise, timesteps, alphas_cumprod, shift, scale
):
    """Redraw images by way of their latents: encode, add noise, take it away again by DDIM, decode.

    images: (B, 1, H, W). noise: (B, K), standard normal. encode: images -> latents (B, K). decode: the way back.
    denoise: denoise(z_t, t) -> z_0, made for latents of deviation 1, which are (encode(images) - shift) * scale.
    timesteps: ints, falling; noise is added up to the first. Without any, the result is decode(encode(images)).
    alphas_cumprod: (T,). shift: (K,), the mean of the latents. scale: a number, one over their deviation.
    Returns images: (B, 1, H, W).
    """
    z = (encode(images) - shift) * scale  # (B, K)
    if timesteps:
        z = q_sample(z, alphas_cumprod[timesteps[0]], noise)  # (B, K)
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=False):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        z_0 = denoise(z, t)  # (B, K)
        z = abar_prev.sqrt() * z_0 + (1 - abar_prev).sqrt() * eps_from_x0(
            z, z_0, abar_t
        )  # (B, K)
    return decode(z + shift)


def latent_variation(
    images, noise, encode, decode, denoise, timesteps, alphas_cumprod, shift, scale
):
    """Redraw images by way of their latents: encode, add noise, take it away again by DDIM, decode.

    images: (B, 1, H, W). noise: (B, K), standard normal. encode: images -> latents (B, K). decode: the way back.
    denoise: denoise(z_t, t) -> z_0, made for latents of deviation 1, which are (encode(images) - shift) * scale.
    timesteps: ints, falling; noise is added up to the first. Without any, the result is decode(encode(images)).
    alphas_cumprod: (T,). shift: (K,), the mean of the latents. scale: a number, one over their deviation.
    Returns images: (B, 1, H, W).
    """
    z = (encode(images) - shift) * scale  # (B, K)
    if timesteps:
        z = q_sample(z, alphas_cumprod[timesteps[0]], noise)  # (B, K)
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=False):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        z_0 = denoise(z, t)  # (B, K)
        z = abar_prev.sqrt() * z_0 + (1 - abar_prev).sqrt() * eps_from_x0(
            z, z_0, abar_t
        )  # (B, K)
    return decode(z / scale + shift)


def broken_eps_denoiser(model, betas):
    """Make a denoiser of a network that predicts the noise.

    model: model(x_t, t) -> eps, with t (B,), int64. betas: (T,), in (0, 1).
    Returns denoise(x_t, t) -> x_0, with t an int for the whole batch: the clean image that belongs to x_t and the
    network's noise, cut to [-1, 1]. x_t and x_0 are (B, C, H, W).
    """
    log_abar = torch.log1p(-betas.double()).cumsum(
        dim=0
    )  # (T,), the logarithm of alphas_cumprod
    log_one_minus_abar = torch.log(-torch.expm1(log_abar))  # (T,)
    image_table = torch.exp(-0.5 * log_abar).to(betas)  # (T,)
    noise_table = torch.exp(0.5 * log_one_minus_abar - log_abar).to(betas)  # (T,)

    def denoise(x_t, t):
        steps = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)  # (B,)
        of_image, of_noise = (
            extract(image_table, steps, x_t),
            extract(noise_table, steps, x_t),
        )  # (B, 1, 1, 1)
        return (of_image * x_t - of_noise * model(x_t, steps)).clamp(
            -1, 1
        )  # (B, C, H, W)

    return denoise


def eps_denoiser(model, betas):
    """Make a denoiser of a network that predicts the noise.

    model: model(x_t, t) -> eps, with t (B,), int64. betas: (T,), in (0, 1).
    Returns denoise(x_t, t) -> x_0, with t an int for the whole batch: the clean image that belongs to x_t and the
    network's noise, cut to [-1, 1]. x_t and x_0 are (B, C, H, W).
    """
    log_abar = torch.log1p(-betas.double()).cumsum(
        dim=0
    )  # (T,), the logarithm of alphas_cumprod
    log_one_minus_abar = torch.log(-torch.expm1(log_abar))  # (T,)
    image_table = torch.exp(-0.5 * log_abar).to(betas)  # (T,)
    noise_table = torch.exp(0.5 * (log_one_minus_abar - log_abar)).to(betas)  # (T,)

    def denoise(x_t, t):
        steps = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)  # (B,)
        of_image, of_noise = (
            extract(image_table, steps, x_t),
            extract(noise_table, steps, x_t),
        )  # (B, 1, 1, 1)
        return (of_image * x_t - of_noise * model(x_t, steps)).clamp(
            -1, 1
        )  # (B, C, H, W)

    return denoise


NULL = 10  # the label that stands for "no label"


class SpotNet(nn.Module):
    """A network that predicts v for points in the plane, told the time and a label from 0 to 10."""

    def __init__(self, width=96, waves=8):
        super().__init__()
        self.waves = waves
        self.point, self.time, self.label = (
            nn.Linear(2, width),
            nn.Linear(2 * waves, width),
            nn.Embedding(11, width),
        )
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.out = nn.Linear(width, 2)

    def forward(self, x, t, labels):
        """x: (B, 2). t: (B,), from 0 to 999. labels: (B,), int64. Returns v: (B, 2)."""
        angles = (
            t[:, None]
            * torch.arange(1, self.waves + 1, device=t.device)
            * torch.pi
            / 2000
        )  # (B, waves)
        told = self.time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.label(
            labels
        )  # (B, width)
        h = self.point(x)  # (B, width)
        for layer in self.layers:
            h = h + layer(nn.functional.silu(h + told))  # (B, width)
        return self.out(h)  # (B, 2)


def spots(n, generator):
    """n points of the data and their labels: (n, 2), float32, and (n,), int64."""
    labels = torch.randint(10, (n,), generator=generator)
    angles = labels * torch.pi / 5
    centres = 1.4 * torch.stack([angles.sin(), angles.cos()], dim=1)  # (n, 2)
    return centres + 0.12 * torch.randn(n, 2, generator=generator), labels


def training_batch(n, generator, T=1000):
    """What one step of training needs: points (n, 2), labels (n,), timesteps (n,) and noise (n, 2)."""
    x_0, labels = spots(n, generator)
    return (
        x_0,
        labels,
        torch.randint(T, (n,), generator=generator),
        torch.randn(n, 2, generator=generator),
    )


def draw_spots(network, labels, alphas_cumprod, guidance=1.0):
    """Draw a point for each label (N,) in 50 steps of DDIM, with classifier-free guidance where guidance is not 1."""

    def denoise(x_t, t):
        steps = torch.full((len(x_t),), t)
        v = network(x_t, steps, labels)
        if guidance != 1:
            plain = network(x_t, steps, torch.full_like(labels, NULL))
            v = plain + guidance * (v - plain)
        return x0_from_v(x_t, v, alphas_cumprod[t])

    x_T = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return ddim_sample(
            denoise, x_T, ddim_timesteps(len(alphas_cumprod), 50), alphas_cumprod
        )


def scatter(named, limit=3.2):
    """Show points in the plane: title -> (points (N, 2), labels (N,)). The colour is the label."""
    _, axes = plt.subplots(
        1,
        len(named),
        figsize=(2.3 * len(named), 2.5),
        squeeze=False,
        layout="constrained",
    )
    for axis, (title, (points, labels)) in zip(axes[0], named.items(), strict=True):
        axis.scatter(*points.T, c=labels, s=3, cmap="tab10", vmin=0, vmax=9)
        axis.set(
            xlim=(-limit, limit),
            ylim=(-limit, limit),
            xticks=[],
            yticks=[],
            aspect="equal",
        )
        outside = (points.abs() > limit).any(dim=1).float().mean()
        axis.set_title(
            title + (f"\n({outside:.0%} lie outside)" if outside > 0.01 else ""),
            fontsize=8,
        )
    plt.show()


def broken_labelled_step(
    model, optimizer, x_0, labels, t, eps, u, alphas_cumprod, null, p_drop=0.1
):
    """One step of training for classifier-free guidance (Ho and Salimans 2022, algorithm 1).

    model: model(x_t, t, labels) -> v, the shape of x_t. optimizer: holds the model's parameters.
    x_0, eps: (B, ...), data and noise. labels: (B,), int64, below null. t: (B,), int64. alphas_cumprod: (T,).
    u: (B,), uniform in [0, 1). Where u is below p_drop, the network is shown the label null.
    Changes the model's weights once and nothing else. Returns the loss before that change, a float.
    """
    abar_t = extract(alphas_cumprod, t, x_0)  # (B, 1, ...)
    x_t = q_sample(x_0, abar_t, eps)  # (B, ...)
    drop = u < p_drop  # (B,)
    shown = labels.clone()  # (B,)
    shown[drop].fill_(null)
    loss = (model(x_t, t, shown) - v_target(x_0, eps, abar_t)).square().mean()  # scalar
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def labelled_step(
    model, optimizer, x_0, labels, t, eps, u, alphas_cumprod, null, p_drop=0.1
):
    """One step of training for classifier-free guidance (Ho and Salimans 2022, algorithm 1).

    model: model(x_t, t, labels) -> v, the shape of x_t. optimizer: holds the model's parameters.
    x_0, eps: (B, ...), data and noise. labels: (B,), int64, below null. t: (B,), int64. alphas_cumprod: (T,).
    u: (B,), uniform in [0, 1). Where u is below p_drop, the network is shown the label null.
    Changes the model's weights once and nothing else. Returns the loss before that change, a float.
    """
    abar_t = extract(alphas_cumprod, t, x_0)  # (B, 1, ...)
    x_t = q_sample(x_0, abar_t, eps)  # (B, ...)
    shown = torch.where(u < p_drop, null, labels)  # (B,)
    loss = (model(x_t, t, shown) - v_target(x_0, eps, abar_t)).square().mean()  # scalar
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def broken_train_with_average(network, batches, loss_fn, evaluate, lr, decay, every):
    """Train a network, and judge the moving average of its weights along the way.

    network: trained in place, by SGD with momentum 0.9. batches: one for each step. loss_fn(network, batch) -> scalar.
    evaluate: called after every `every` steps with a network that holds the average; what it returns is collected.
    Whatever it does with that network, the training goes on from the raw weights as if nobody had looked.
    decay: the average begins as the first weights; after each step it is decay * average + (1 - decay) * weights.
    Returns a list of what evaluate returned. In the end network holds its raw weights.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    judged = []

    def load(weights):
        for name, value in weights.items():
            network.state_dict()[name] = value.clone()

    for step, batch in enumerate(batches, start=1):
        loss = loss_fn(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, value in network.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value
        if step % every == 0:
            raw = {name: value.clone() for name, value in network.state_dict().items()}
            load(average)
            judged.append(evaluate(network))
            load(raw)
    return judged


def spot_error(network, batch, alphas_cumprod):
    """The mean squared error in v on a batch of training_batch, as a tensor."""
    x_0, labels, t, eps = batch
    abar_t = extract(alphas_cumprod, t, x_0)  # (B, 1)
    return (
        (network(q_sample(x_0, abar_t, eps), t, labels) - v_target(x_0, eps, abar_t))
        .square()
        .mean()
    )


def train_with_average(network, batches, loss_fn, evaluate, lr, decay, every):
    """Train a network, and judge the moving average of its weights along the way.

    network: trained in place, by SGD with momentum 0.9. batches: one for each step. loss_fn(network, batch) -> scalar.
    evaluate: called after every `every` steps with a network that holds the average; what it returns is collected.
    Whatever it does with that network, the training goes on from the raw weights as if nobody had looked.
    decay: the average begins as the first weights; after each step it is decay * average + (1 - decay) * weights.
    Returns a list of what evaluate returned. In the end network holds its raw weights.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    judged = []

    def load(weights):
        network.load_state_dict(
            weights
        )  # copies the values into the network's own tensors

    for step, batch in enumerate(batches, start=1):
        loss = loss_fn(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, value in network.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value
        if step % every == 0:
            raw = {name: value.clone() for name, value in network.state_dict().items()}
            load(average)
            judged.append(evaluate(network))
            load(raw)
    return judged


def broken_train_and_draw(
    model, optimizer, images, t, eps, x_T, timesteps, alphas_cumprod, fresh
):
    """Train a network to predict v, then draw with it in strides (DDIM with eta = 1).

    model: model(x_t, t) -> v, with t (B,), int64, the timestep of x_t in [0, T). optimizer: holds what is trained.
    images, eps: (steps, B, C, H, W) and t: (steps, B), int64: a batch of images, noise and timesteps for each step.
    x_T: (N, C, H, W), standard normal. timesteps: ints, falling from T - 1. alphas_cumprod: (T,).
    fresh: (len(timesteps), N, C, H, W), standard normal, the noise of each stride.
    Returns the drawn images (N, C, H, W), without gradient history, and the losses, a list of floats.
    """
    losses = []
    for x_0, step, noise in zip(images, t, eps, strict=True):
        abar_t = extract(alphas_cumprod, step, x_0)  # (B, 1, 1, 1)
        v = model(q_sample(x_0, abar_t, noise), step)  # (B, C, H, W)
        loss = (v - v_target(x_0, noise, abar_t)).square().mean()  # scalar
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    x = x_T
    with torch.no_grad():
        for i, now in enumerate(timesteps):
            abar_t, abar_prev = (
                alphas_cumprod[now],
                torch.ones_like(alphas_cumprod[now]),
            )
            if i + 1 < len(timesteps):
                abar_prev = alphas_cumprod[timesteps[i + 1]]
            v = model(
                x, torch.full((len(x),), i, dtype=torch.int64, device=x.device)
            )  # (N, C, H, W)
            x_0 = x0_from_v(x, v, abar_t).clamp(-1, 1)  # (N, C, H, W)
            sigma_t = ddim_sigma(abar_t, abar_prev, 1.0)
            x = ddim_step(x, x_0, abar_t, abar_prev, sigma_t, fresh[i])  # (N, C, H, W)
    return x, losses


def new_last_layer(network):
    """A copy of the network whose last layer is new, and alone in being trained."""
    student = copy.deepcopy(network).requires_grad_(False)
    student.head.requires_grad_(True)
    nn.init.zeros_(student.head[2].weight)
    nn.init.zeros_(student.head[2].bias)
    return student


def train_and_draw(
    model, optimizer, images, t, eps, x_T, timesteps, alphas_cumprod, fresh
):
    """Train a network to predict v, then draw with it in strides (DDIM with eta = 1).

    model: model(x_t, t) -> v, with t (B,), int64, the timestep of x_t in [0, T). optimizer: holds what is trained.
    images, eps: (steps, B, C, H, W) and t: (steps, B), int64: a batch of images, noise and timesteps for each step.
    x_T: (N, C, H, W), standard normal. timesteps: ints, falling from T - 1. alphas_cumprod: (T,).
    fresh: (len(timesteps), N, C, H, W), standard normal, the noise of each stride.
    Returns the drawn images (N, C, H, W), without gradient history, and the losses, a list of floats.
    """
    losses = []
    for x_0, step, noise in zip(images, t, eps, strict=True):
        abar_t = extract(alphas_cumprod, step, x_0)  # (B, 1, 1, 1)
        v = model(q_sample(x_0, abar_t, noise), step)  # (B, C, H, W)
        loss = (v - v_target(x_0, noise, abar_t)).square().mean()  # scalar
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    x = x_T
    with torch.no_grad():
        for i, now in enumerate(timesteps):
            abar_t, abar_prev = (
                alphas_cumprod[now],
                torch.ones_like(alphas_cumprod[now]),
            )
            if i + 1 < len(timesteps):
                abar_prev = alphas_cumprod[timesteps[i + 1]]
            v = model(
                x, torch.full((len(x),), now, dtype=torch.int64, device=x.device)
            )  # (N, C, H, W)
            x_0 = x0_from_v(x, v, abar_t).clamp(-1, 1)  # (N, C, H, W)
            sigma_t = ddim_sigma(abar_t, abar_prev, 1.0)
            x = ddim_step(x, x_0, abar_t, abar_prev, sigma_t, fresh[i])  # (N, C, H, W)
    return x, losses
