"""Built by `labdiff build` from solutions/lab8_debugging/lab8_debugging.py; edit that, not this."""

import copy

import torch
from torch import nn

from labdiff.reference.lab1_forward import (
    extract,
    posterior_mean,
    q_sample,
)
from labdiff.reference.lab2_unet import timestep_embedding
from labdiff.reference.lab3_training import (
    eps_from_v,
    random_timesteps,
    x0_from_v,
)
from labdiff.reference.lab4_sampling import ddim_sample, ddim_timesteps


def denoiser_for(model, own, alphas_cumprod, cut=True):
    """Make a denoiser for any schedule of a network that predicts v on a schedule of its own.

    model: model(x_t, t) -> v, with t (B,), int64. own: (1000,), the alphas_cumprod that the model was trained with.
    alphas_cumprod: (T,), of the schedule to sample with. cut: whether guesses are cut to [-1, 1].
    Returns denoise(x_t, t) -> x_0, with t an int in [0, T).
    """

    def denoise(x_t, t):
        nearest = (own - alphas_cumprod[t]).abs().argmin()  # scalar
        guess = x0_from_v(x_t, model(x_t, nearest.expand(len(x_t))), own[nearest])  # (B, C, H, W)
        return guess.clamp(-1, 1) if cut else guess

    return denoise


def predict_early_error():
    """Return "grainy", "clean" or "lost"."""
    return "clean"


def broken_schedule_for(T):
    """DDPM's linear schedule in T steps."""
    beta_start, beta_end = 1e-4, 0.02  # Ho, Jain and Abbeel 2020, section 4
    betas = torch.linspace(beta_start, beta_end, T)  # (T,)
    alphas = 1 - betas  # (T,)
    alphas_cumprod = torch.cumprod(alphas, dim=0)  # (T,)
    return betas, alphas_cumprod


def drawn_with(model, own, schedule, n=8, seed=1):
    """Draw n digits in 25 steps on a schedule, given as (betas, alphas_cumprod), each (T,). Returns (n, 1, 28, 28)."""
    generator = torch.Generator().manual_seed(seed)
    x_T = torch.randn(n, 1, 28, 28, generator=generator)  # (n, 1, 28, 28)
    abar = schedule[1]  # (T,)
    return ddim_sample(denoiser_for(model, own, abar), x_T, ddim_timesteps(len(abar), 25), abar, 1.0, generator)


def schedule_for(T):
    """DDPM's linear schedule, walked in T steps.

    From a quarter of the way on, an image is about as noisy as after the same share of DDPM's 1000 steps: log(abar)
    agrees within 12 percent. (Before that it is near 0, and a few steps can't match many.) At T = 1000 it is DDPM's
    schedule (Ho, Jain and Abbeel 2020, section 4).
    T: int, from 100 to 1000. Returns betas (T,), in (0, 1), and their alphas_cumprod (T,), both float32.
    """
    scale = 1000 / T
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, T)  # (T,)
    return betas, torch.cumprod(1 - betas, dim=0)


def broken_picture_of(images, columns):
    """One picture of a batch of grey images, uint8."""
    B, _, H, W = images.shape
    lines = -(-B // columns)  # rounded up
    pixels = ((images + 1) * 127.5).round().int()  # (B, 1, H, W), -1 becomes 0 and 1 becomes 255
    sheet = torch.zeros(lines * columns, H, W, dtype=torch.uint8, device=images.device)
    sheet[:B] = pixels[:, 0].to(torch.uint8)  # (lines * columns, H, W)
    return sheet.reshape(lines, columns, H, W).transpose(1, 2).reshape(lines * H, columns * W)


def screen(**pictures):
    """Show pictures (H, W), uint8, below each other, one byte per pixel as a screen does."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(len(pictures), 1, figsize=(6, 1.8 * len(pictures)), layout="constrained")
    for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    plt.show()


def picture_of(images, columns):
    """One picture of a batch of grey images.

    images: (B, 1, H, W), float. -1 is black, 1 is white, values between are rounded to the nearest grey. What is
    darker than black is black, what is brighter than white is white. columns: how many images lie side by side.
    Returns (lines * H, columns * W), uint8, line by line; places without an image are black.
    """
    B, _, H, W = images.shape
    lines = -(-B // columns)  # rounded up
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round()  # (B, 1, H, W), in [0, 255]
    sheet = torch.zeros(lines * columns, H, W, dtype=torch.uint8, device=images.device)
    sheet[:B] = pixels[:, 0].to(torch.uint8)  # (lines * columns, H, W)
    return sheet.reshape(lines, columns, H, W).transpose(1, 2).reshape(lines * H, columns * W)


def broken_sample_ancestral(denoise, x_T, noise, betas):
    """Ancestral sampling with the variance beta_t."""
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)  # (T,)
    before = torch.cat([torch.ones_like(betas[:1]), alphas_cumprod[:-1]])  # (T,)
    x = x_T
    for t in reversed(range(len(betas))):
        x_0 = denoise(x, t)  # (B, C, H, W)
        mean = posterior_mean(x_0, x, betas[t], alphas_cumprod[t], before[t])  # (B, C, H, W)
        x = mean + betas[t].sqrt() * noise[t]  # (B, C, H, W)
    return x


def sample_ancestral(denoise, x_T, noise, betas):
    """Ancestral sampling with the variance beta_t, from noise to a finished image (DDPM, algorithm 2).

    denoise: denoise(x_t, t) -> x_0, with t an int from T - 1 down to 0, called once for each. x_T: (B, C, H, W).
    noise: (T, B, C, H, W), standard normal; noise[t] is what step t may use. betas: (T,).
    If the denoiser always returns one image, the result is that image. Changes no argument. Returns (B, C, H, W).
    """
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)  # (T,)
    before = torch.cat([torch.ones_like(betas[:1]), alphas_cumprod[:-1]])  # (T,)
    x = x_T
    for t in reversed(range(len(betas))):
        x_0 = denoise(x, t)  # (B, C, H, W)
        x = posterior_mean(x_0, x, betas[t], alphas_cumprod[t], before[t])  # (B, C, H, W)
        if t > 0:
            x = x + betas[t].sqrt() * noise[t]  # (B, C, H, W)
    return x


def broken_clean_guess(eps_model, x_t, t, betas):
    """The guess for x_0 that belongs to a network's guess for the noise."""
    log_abar = torch.log1p(-betas.double()).cumsum(dim=0)  # (T,), log of abar_t
    log_rest = torch.log(-torch.expm1(log_abar))  # (T,), log of 1 - abar_t
    image_weight = torch.exp(-0.5 * log_abar).to(x_t)  # (T,)
    noise_weight = torch.exp(0.5 * log_rest - log_abar).to(x_t)  # (T,)
    eps = eps_model(x_t, t)  # (B, C, H, W)
    x_0 = extract(image_weight, t, x_t) * x_t - extract(noise_weight, t, x_t) * eps  # (B, C, H, W)
    return x_0.clamp(-1, 1)


def make_eps_model(model, alphas_cumprod):
    """A network that predicts v, as one that predicts the noise: eps_model(x_t, t) -> eps, with t (B,), int64."""

    def eps_model(x_t, t):
        return eps_from_v(x_t, model(x_t, t), extract(alphas_cumprod, t, x_t))  # (B, C, H, W)

    return eps_model


def clean_guess(eps_model, x_t, t, betas):
    """The guess for x_0 that belongs to a network's guess for the noise, cut to [-1, 1].

    Where the network's guess is exactly the noise in x_t, the result is exactly x_0, at every t.
    eps_model: eps_model(x_t, t) -> eps, the shape of x_t. x_t: (B, C, H, W). t: (B,), int64. betas: (T,).
    Returns (B, C, H, W), the dtype of x_t.
    """
    log_abar = torch.log1p(-betas.double()).cumsum(dim=0)  # (T,), log of abar_t
    log_rest = torch.log(-torch.expm1(log_abar))  # (T,), log of 1 - abar_t
    image_weight = torch.exp(-0.5 * log_abar).to(x_t)  # (T,)
    noise_weight = torch.exp(0.5 * (log_rest - log_abar)).to(x_t)  # (T,)
    eps = eps_model(x_t, t)  # (B, C, H, W)
    x_0 = extract(image_weight, t, x_t) * x_t - extract(noise_weight, t, x_t) * eps  # (B, C, H, W)
    return x_0.clamp(-1, 1)


class PointNet(nn.Module):
    """A small network for points in the plane: model(x_t, t, y) -> v, or the noise, as it is trained."""

    def __init__(self, classes=4, width=96):
        super().__init__()
        waves = [[1, 0], [0, 1], [2, 0], [0, 2], [2, 2], [2, -2], [4, 0], [0, 4]]
        self.register_buffer("waves", 1.5 * torch.tensor(waves, dtype=torch.float32).T)  # (2, 8)
        self.point, self.time = nn.Linear(2 + 16, width), nn.Linear(32, width)
        self.label = nn.Embedding(classes + 1, width)  # the last one is the null label
        self.body = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
        )

    def forward(self, x, t, y):
        """x: (B, 2). t: (B,), int64. y: (B,), int64, from 0 to classes. Returns (B, 2)."""
        w = x @ self.waves  # (B, 8)
        place = self.point(torch.cat([x, w.sin(), w.cos()], dim=1))  # (B, width)
        return self.body(place + self.time(timestep_embedding(t, 32)) + self.label(y))  # (B, 2)


def ink(picture, n, generator):
    """n grains of the ink of one picture (1, H, W) in [-1, 1], as points in about [-2, 2]: (n, 2)."""
    height, width = picture.shape[-2:]
    k = torch.multinomial((picture + 1).flatten(), n, replacement=True, generator=generator)  # (n,)
    down, right = torch.rand(2, n, generator=generator) + torch.stack([k // width, k % width])  # (n,) each
    return torch.stack([4 * right / width - 2, 2 - 4 * down / height], dim=1)  # (n, 2)


def fit_points(loss_of, steps=1500, peak=1e-2, seed=0):
    """Train a PointNet with Adam and a falling rate. loss_of(network, generator) -> a scalar tensor.

    Returns the network, in evaluation mode, and the losses, one float per step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PointNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=peak)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = peak * (1 - step / steps)
        loss = loss_of(network, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network.eval(), losses


@torch.inference_mode()
def draw_points(network, alphas_cumprod, y, scale=1.0, null=4, steps=50, seed=0):
    """Draw one point per label by DDIM, with classifier-free guidance. y: (N,), int64. Returns (N, 2)."""

    def denoise(x_t, t):
        told = torch.full((len(x_t),), t)
        v = network(x_t, told, y)
        if scale != 1:
            without = network(x_t, told, torch.full_like(y, null))
            v = without + scale * (v - without)
        return x0_from_v(x_t, v, alphas_cumprod[t])  # (N, 2)

    x_T = torch.randn(len(y), 2, generator=torch.Generator().manual_seed(seed))
    return ddim_sample(denoise, x_T, ddim_timesteps(len(alphas_cumprod), steps), alphas_cumprod)


def clouds(named, titles=()):
    """Show rows of point clouds: name -> a list of (N, 2)."""
    import matplotlib.pyplot as plt

    columns = max(map(len, named.values()))
    size = (1.5 * columns + 1.2, 1.5 * len(named) + 0.2)
    _, axes = plt.subplots(len(named), columns, figsize=size, squeeze=False, layout="constrained")
    for line, (name, points) in zip(axes, named.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[], xlim=(-3, 3), ylim=(-3, 3))
        for axis, some in zip(line, points, strict=False):
            axis.scatter(*some.T, s=0.6, color="black")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for axis, text in zip(axes[0], titles, strict=False):
        axis.set_title(text, fontsize=8)
    plt.show()


def running_mean(values, n=50):
    """The means of n losses in a row, so that a curve can be read: a list one n-th as long."""
    return [sum(values[i : i + n]) / n for i in range(0, len(values) - n + 1, n)]


def broken_averaged_training(network, step, batches, decay, evaluate, every=1):
    average = {name: p.detach() for name, p in network.named_parameters()}
    figures = []
    for i, batch in enumerate(batches, start=1):
        step(network, batch)
        for name, p in network.named_parameters():
            average[name].lerp_(p.detach(), 1 - decay)  # decay * average + (1 - decay) * p
        if i % every == 0:
            judged = copy.deepcopy(network)
            judged.load_state_dict(average, strict=False)
            figures.append(evaluate(judged))
    network.load_state_dict(average, strict=False)
    return network, figures


def averaged_training(network, step, batches, decay, evaluate, every=1):
    """Train a network, keep an exponential moving average of its weights, and judge the average on the way.

    network: a module without buffers that change. step(network, batch): changes the network's weights, one step.
    decay: in [0, 1], the share of the average that stays at each step. The average begins as the weights that the
    network has before the first step, and takes the new weights in after each step. The training itself never starts
    from averaged weights. evaluate(network) -> a number; it is asked about the average after every `every` steps.
    Returns a network with the averaged weights, and the list of numbers.
    """
    average = {name: p.detach().clone() for name, p in network.named_parameters()}
    figures = []
    for i, batch in enumerate(batches, start=1):
        step(network, batch)
        for name, p in network.named_parameters():
            average[name].lerp_(p.detach(), 1 - decay)
        if i % every == 0:
            judged = copy.deepcopy(network)
            judged.load_state_dict(average, strict=False)
            figures.append(evaluate(judged))
    network.load_state_dict(average, strict=False)
    return network, figures


def broken_label_dropout_batch(images, labels, order, u, p, null):
    x_0 = images[order]
    y = labels[order]
    dropped = u < p
    if dropped.any():
        y.masked_fill(dropped, null)
    return x_0, y


def label_dropout_batch(images, labels, order, u, p, null):
    """Pick a batch, and drop each of its labels with probability p.

    images: (N, ...). labels: (N,), int64. Both must stay as they are, epoch after epoch. order: which of them, (B,),
    int64, or a slice of length B. u: (B,), uniform in [0, 1); the label i of the batch is dropped where u[i] < p.
    null: an int, the label that stands for no label. Returns x_0: (B, ...), and y: (B,), int64.
    """
    return images[order], labels[order].masked_fill(u < p, null)


class LinearAutoencoder:
    """32 principal components of digits, in the place of an autoencoder: encode (B, 1, 28, 28) -> (B, 32, 1, 1)."""

    def __init__(self, images, channels=32):
        flat = images.flatten(1)  # (N, 784)
        self.mean = flat.mean(dim=0)  # (784,)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.axes = torch.pca_lowrank(flat, q=channels)[2]  # (784, 32)

    def encode(self, x):
        """x: (B, 1, 28, 28) in [-1, 1]. Returns (B, 32, 1, 1), whose mean is not 0 and whose deviation is not 1."""
        return ((x.flatten(1) - self.mean) @ self.axes + 1.5)[..., None, None]

    def decode(self, z):
        """z: (B, 32, 1, 1). Returns (B, 1, 28, 28), about in [-1, 1]."""
        return ((z[..., 0, 0] - 1.5) @ self.axes.T + self.mean).reshape(-1, 1, 28, 28)


def broken_latent_round_trip(x, encode, decode, shift, scale, process):
    z = (encode(x) - shift) * scale  # mean 0, deviation 1
    z = process(z)
    z = z + shift
    return decode(z).clamp(-1, 1)


def latent_round_trip(x, encode, decode, shift, scale, process):
    """Encode pictures, let a process work on their latents, and decode them again.

    x: (B, C, H, W), in [-1, 1]. encode, decode: pictures to latents as the autoencoder has them, and back.
    shift, scale: numbers or (1, C, 1, 1); taking off the shift and then multiplying by the scale gives latents of mean
    0 and deviation 1. process: process(z) -> z, made for such latents; what it returns is of that kind too.
    Returns pictures, (B, C, H, W), in [-1, 1]. A process that does nothing gives back decode(encode(x)), clamped.
    """
    z = process((encode(x) - shift) * scale)
    return decode(z / scale + shift).clamp(-1, 1)


def broken_training_pairs(x_0, u, eps, alphas_cumprod):
    levels = alphas_cumprod.flip(0)  # (T,)
    t = random_timesteps(u, len(levels))  # (B,)
    abar_t = extract(levels, t, x_0)  # (B, 1)
    x_t = q_sample(x_0, abar_t, eps)  # (B, 2)
    return x_t, t, eps


def training_pairs(x_0, u, eps, alphas_cumprod):
    """Make training pairs for a network that predicts the noise and will be used with the samplers of lab 4.

    x_0, eps: (B, ...), data and standard normal noise. u: (B,), uniform in [0, 1); each timestep must be as likely as
    any other, and each image has its own. alphas_cumprod: (T,), as in lab 1, falling.
    Returns x_t: (B, ...), the timestep t that the network is told: (B,), int64, in [0, T), and the target: (B, ...).
    The three belong together: the target is the noise in x_t, and t is the timestep at which a sampler that walks over
    alphas_cumprod meets such an x_t.
    """
    t = random_timesteps(u, len(alphas_cumprod))  # (B,)
    return q_sample(x_0, extract(alphas_cumprod, t, x_0), eps), t, eps
