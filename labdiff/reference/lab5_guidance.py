"""Built by `labdiff build` from solutions/lab5_guidance/lab5_guidance.py; edit that, not this."""

import torch
from torch import nn

from labdiff.reference.lab1_forward import extract, q_sample
from labdiff.reference.lab2_unet import Stage, UNet
from labdiff.reference.lab3_training import (
    v_target,
    x0_from_v,
)


def walk(unet, x, emb):
    """The walk of lab 2's U-Net down and up again, with the vector that its stages are told made elsewhere.

    unet: a UNet. x: (B, in_channels, H, W). emb: (B, 4 channels). Returns the shape of x.
    """
    h = unet.stem(x)  # (B, channels, H / patch, W / patch)
    skips = [h]
    for block in unet.down:
        h = block(h, emb) if isinstance(block, Stage) else block(h)
        skips.append(h)
    h = unet.middle(h, emb)
    for block in unet.up:
        h = block(torch.cat([h, skips.pop()], dim=1), emb) if isinstance(block, Stage) else block(h)
    return unet.head(h)  # (B, in_channels, H, W)


class GuidedUNet(UNet):
    """Lab 2's U-Net, told a label as well as the time.

    classes: how many labels there are; the label `classes` is the null label. unet: arguments of UNet.
    """

    def __init__(self, classes=10, **unet):
        super().__init__(**unet)
        self.config["classes"] = classes
        self.null = classes
        self.label = nn.Embedding(classes + 1, self.time_mlp.linear2.out_features)
        nn.init.zeros_(self.label.weight)

    def forward(self, x, t, y):
        """x: (B, in_channels, H, W). t: (B,). y: (B,), int64, from 0 to classes. Returns the shape of x.

        self.embed and self.time_mlp make the time vector, as in lab 2; walk(self, x, emb) does what comes after.
        """
        emb = self.time_mlp(self.embed(t)) + self.label(y)  # (B, 4 channels)
        return walk(self, x, emb)  # (B, in_channels, H, W)


def drop_labels(y, u, p, null):
    """Replace labels by the null label with probability p (Ho and Salimans 2022, algorithm 1, line 3).

    y: (B,), int64; it must stay as it is. u: (B,), float32, uniform in [0, 1). p: a number in [0, 1], where 0 drops
    none and 1 drops all. null: the null label, an int. Returns (B,), int64.
    """
    return torch.where(u < p, null, y)  # (B,)


def guided_loss(model, x_0, y, t, eps, alphas_cumprod):
    """The mean squared error in v of a network that is told labels (Ho and Salimans 2022, algorithm 1).

    model: model(x_t, t, y) -> v, float32 or bfloat16. x_0, eps: (B, C, H, W). y: (B,), int64, some of them null.
    t: (B,), int64, in [0, T). alphas_cumprod: (T,). Returns a scalar tensor, float32, through which gradients flow.
    """
    abar_t = extract(alphas_cumprod, t, x_0)  # (B, 1, 1, 1)
    v = model(q_sample(x_0, abar_t, eps), t, y)  # (B, C, H, W)
    return (v.float() - v_target(x_0, eps, abar_t)).square().mean()  # scalar


def share_as_asked(probabilities, y):
    """The share of images in which the judge reads what was asked for.

    probabilities: (N, K), of the K classes, as models.classify returns them. y: (N,), int64, what was asked for.
    Returns a number from 0 to 1.
    """
    return (probabilities.argmax(dim=1) == y).float().mean().item()


def label_gradient(eps_unconditional, eps_conditional, abar_t):
    """The gradient of log p(y given x_t) with respect to x_t: a classifier that nobody trained.

    eps_unconditional, eps_conditional: (B, C, H, W), the noise guessed with the null label and with y.
    abar_t: (B, 1, 1, 1), in (0, 1). Returns (B, C, H, W).
    """
    return (eps_unconditional - eps_conditional) / (1 - abar_t).sqrt()  # (B, C, H, W)


class Mixture:
    """The exact network for points in a plane that lie in equally large, round, labelled clouds.

    centres: (K, 2), within [-1, 1]. labels: (K,), int64, from 0. s: the deviation of each cloud.
    """

    def __init__(self, centres, labels, s, alphas_cumprod):
        self.centres, self.labels, self.s = centres, labels, s
        self.alphas_cumprod = alphas_cumprod
        self.null = int(labels.max()) + 1

    def log_fit(self, x_t, abar_t, y):
        """How well each cloud explains each point, up to a constant: (B, K); -inf where y forbids the cloud."""
        variance = abar_t * self.s**2 + 1 - abar_t  # (B, 1)
        distance = (x_t[:, None] - abar_t.sqrt()[:, None] * self.centres).square().sum(-1)  # (B, K)
        allowed = (self.labels == y[:, None]) | (y[:, None] == self.null)  # (B, K)
        return torch.where(allowed, -distance / (2 * variance), -torch.inf)

    def log_label(self, x_t, t, y):
        """log p(y given x_t), exactly: x_t (B, 2, 1, 1), t and y (B,). Returns (B,)."""
        points, abar_t = x_t.flatten(1), self.alphas_cumprod[t][:, None]
        of_label, of_all = (self.log_fit(points, abar_t, each) for each in (y, torch.full_like(y, self.null)))
        return of_label.logsumexp(1) - of_all.logsumexp(1)

    def __call__(self, x_t, t, y):
        """x_t: (B, 2, 1, 1). t, y: (B,), int64. Returns v, the shape of x_t."""
        points, abar_t = x_t.flatten(1), self.alphas_cumprod[t][:, None]
        share = self.log_fit(points, abar_t, y).softmax(dim=1)  # (B, K)
        gain = abar_t.sqrt() * self.s**2 / (abar_t * self.s**2 + 1 - abar_t)  # (B, 1)
        centre = share @ self.centres  # (B, 2)
        x_0 = centre + gain * (points - abar_t.sqrt() * centre)  # (B, 2)
        return ((abar_t.sqrt() * points - x_0) / (1 - abar_t).sqrt()).view_as(x_t)


def guide(unconditional, conditional, scale):
    """Classifier-free guidance (Ho and Salimans 2022, equation 6, with scale = 1 + w).

    unconditional, conditional: one shape, such as (B, C, H, W): predictions with the null label and with the label.
    scale: a number; 1 follows the label, more exaggerates. Returns that shape, not clamped.
    """
    return unconditional + scale * (conditional - unconditional)  # (B, C, H, W)


def both_predictions(model, x_t, t, y, null):
    """The predictions with the null label and with the label, from one call of the network.

    model: model(x_t, t, y) -> a prediction in the shape of x_t. x_t: (B, C, H, W). t, y: (B,), int64.
    null: the null label, an int. Returns unconditional (B, C, H, W), conditional (B, C, H, W).
    """
    labels = torch.cat([torch.full_like(y, null), y])  # (2B,)
    said = model(torch.cat([x_t, x_t]), torch.cat([t, t]), labels)  # (2B, C, H, W)
    unconditional, conditional = said.chunk(2)  # (B, C, H, W) each
    return unconditional, conditional


def make_guided_denoiser(model, alphas_cumprod, y, scale=1.0, rescale=0.0):
    """Make a denoiser, as lab 4's samplers take it, of a network that predicts v and knows labels.

    model: model(x_t, t, y) -> v, with model.null the null label. alphas_cumprod: (T,). y: (B,), int64.
    scale: a number, or a function that takes t and returns one. rescale: from 0 to 1, see rescale_guidance.
    Where the scale is 1 the network is called with the batch as it is, else with one twice as large.
    Returns denoise(x_t, t) -> x_0: x_t (B, C, H, W), t an int for the whole batch, x_0 (B, C, H, W) in [-1, 1].
    """

    def denoise(x_t, t):
        now = scale(t) if callable(scale) else scale
        steps = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)  # (B,)
        abar_t = extract(alphas_cumprod.to(x_t), steps, x_t)  # (B, 1, 1, 1)
        if now == 1:
            return x0_from_v(x_t, model(x_t, steps, y), abar_t).clamp(-1, 1)  # (B, C, H, W)
        unconditional, conditional = (
            x0_from_v(x_t, v, abar_t) for v in both_predictions(model, x_t, steps, y, model.null)
        )
        guided = guide(unconditional, conditional, now)  # (B, C, H, W)
        if rescale:
            guided = rescale_guidance(guided + 1, conditional + 1, rescale) - 1  # (B, C, H, W)
        return guided.clamp(-1, 1)  # (B, C, H, W)

    return denoise


def predict_scale_zero():
    """Return "sevens", "any digit" or "anything but sevens"."""
    return "any digit"


def manifold_radii(features, k):
    """The distance from each point to its k-th nearest neighbour (Kynkäänniemi and others 2019, section 3).

    features: (N, D). k: from 1, the nearest other point, to N - 1, the farthest. Returns (N,).
    """
    distance = torch.cdist(features, features)  # (N, N)
    return distance.sort(dim=1).values[:, k]  # (N,)


def share_inside(points, centres, radii):
    """The share of points that lie in at least one ball (Kynkäänniemi and others 2019, equations 1 and 2).

    points: (N, D). centres: (M, D). radii: (M,), one per centre. Returns a number from 0 to 1.
    """
    inside = torch.cdist(points, centres) <= radii  # (N, M)
    return inside.any(dim=1).float().mean().item()


def predict_large_scale():
    """Return "precision", "recall" or "both"."""
    return "recall"


def rescale_guidance(guided, conditional, rescale):
    """Bring a guided prediction back towards the deviation of the conditional one (Lin and others 2024, section 3.4).

    guided, conditional: (B, C, H, W). rescale: from 0, which changes nothing, to 1. Deviations are per image, over
    channels and pixels. Returns (B, C, H, W), not clamped.
    """
    axes = tuple(range(1, guided.dim()))
    ratio = conditional.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)  # (B, 1, 1, 1)
    return (rescale * ratio + 1 - rescale) * guided  # (B, C, H, W)


def label_information(gap, snr):
    """The information that a label holds, from the gap that it makes (Guo, Shamai and Verdú 2005).

    gap: (N,), the mean squared error in x_0, summed over the pixels, without the label minus with it. snr: (N,),
    falling, N > 1. By the trapezoidal rule over ln SNR. Returns a number in nats, positive where the gap is.
    """
    return -0.5 * torch.trapezoid(snr * gap, snr.log()).item()


def scale_at(t, scale, low, high):
    """The guidance scale at timestep t, where guidance is limited to an interval (Kynkäänniemi and others 2024).

    t, low, high: ints, with low <= high; both ends belong to the interval. scale: the scale inside.
    Returns a number: outside, the scale of conditional drawing without guidance.
    """
    return scale if low <= t <= high else 1.0
