"""Built by `labdiff build` from solutions/lab2_unet/lab2_unet.py; edit that, not this."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def timestep_embedding(t, dim):
    """Sinusoids of the timestep: first all sines, then all cosines (after DDPM, appendix B).

    t: (B,), int64 or float, from 0 to T - 1. dim: even. Frequency i is exp(-ln(10000) i / (dim / 2)).
    Returns (B, dim), float32, in [-1, 1].
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)  # (half,)
    angles = t[:, None].float() * frequencies[None, :]  # (B, half)
    return torch.cat([angles.sin(), angles.cos()], dim=1)  # (B, dim)


class TimeMLP(nn.Module):
    """Two linear layers with a SiLU between them, from sinusoids to the time vector."""

    def __init__(self, dim, out_channels):
        super().__init__()
        self.linear1 = nn.Linear(dim, out_channels)
        self.linear2 = nn.Linear(out_channels, out_channels)

    def forward(self, embedding):
        """embedding: (B, dim), from timestep_embedding. Returns (B, out_channels)."""
        return self.linear2(F.silu(self.linear1(embedding)))  # (B, out_channels)


class ResBlock(nn.Module):
    """A residual block that is told the time."""

    def __init__(self, in_channels, out_channels, time_channels, groups=8):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_channels, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, emb):
        """x: (B, in_channels, H, W). emb: (B, time_channels), from TimeMLP. Returns (B, out_channels, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out, H, W)
        h = h + self.time(F.silu(emb))[:, :, None, None]  # (B, out, H, W)
        h = self.conv2(F.silu(self.norm2(h)))  # (B, out, H, W)
        return self.skip(x) + h  # (B, out, H, W)


def attention(q, k, v):
    """Scaled dot-product attention (Vaswani and others 2017, equation 1), with one column per place.

    q: (B, heads, d, N). k, v: (B, heads, d, M).
    Returns the output (B, heads, d, N) and the weights (B, heads, N, M), which sum to 1 over the last axis.
    """
    scores = q.transpose(-1, -2) @ k / math.sqrt(q.shape[-2])  # (B, heads, N, M)
    weights = scores.softmax(dim=-1)  # (B, heads, N, M)
    return v @ weights.transpose(-1, -2), weights  # (B, heads, d, N)


class SelfAttention(nn.Module):
    """Self-attention over the places of a map, with a residual."""

    def __init__(self, channels, heads=4, groups=8):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.attend = attention
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        """x: (B, C, H, W). Returns the same shape. self.attend(q, k, v) returns the output and the weights."""
        B, C, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, self.heads, C // self.heads, H * W).unbind(1)
        h, _ = self.attend(q, k, v)  # (B, heads, d, HW)
        return x + self.out(h.reshape(B, C, H, W))  # (B, C, H, W)


class Stage(nn.Module):
    """A residual block, followed by self-attention where heads is not 0."""

    def __init__(self, in_channels, out_channels, time_channels, heads):
        super().__init__()
        self.res = ResBlock(in_channels, out_channels, time_channels)
        self.attn = SelfAttention(out_channels, heads) if heads else nn.Identity()

    def forward(self, x, emb):
        """x: (B, in_channels, H, W). emb: (B, time_channels). Returns (B, out_channels, H, W)."""
        return self.attn(self.res(x, emb))


def patchify(x, patch):
    """Turn each square of patch by patch pixels into the channels of one place; what nn.PixelUnshuffle does.

    x: (B, C, H, W), H and W multiples of patch. patch: p. Returns (B, C p^2, H / p, W / p).
    """
    B, C, H, W = x.shape
    x = x.reshape(B, C, H // patch, patch, W // patch, patch)
    x = x.permute(0, 1, 3, 5, 2, 4)  # (B, C, patch, patch, H / patch, W / patch)
    return x.reshape(B, C * patch * patch, H // patch, W // patch)


class Downsample(nn.Module):
    """Half the height and half the width, by a convolution with stride 2."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        """x: (B, C, H, W). Returns (B, C, H / 2, W / 2), rounded up where the size is odd."""
        return self.conv(x)  # (B, C, H / 2, W / 2)


class Upsample(nn.Module):
    """Twice the height and twice the width: repeat every value, then convolve."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        """x: (B, C, H, W). Returns (B, C, 2 H, 2 W)."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))  # (B, C, 2 H, 2 W)


def up_channels(skips, widths, blocks):
    """The input and output widths of every stage on the way up.

    skips: list of int, the widths on the pile, the oldest first; the list must stay as it is.
    widths: list of int, one per floor, the highest floor first. blocks: stages per floor on the way down.
    Returns a list of len(widths) * (blocks + 1) pairs (in, out), in the order in which the stages run.
    """
    pile, width, pairs = list(skips), widths[-1], []
    for out in reversed(widths):
        for _ in range(blocks + 1):
            pairs.append((width + pile.pop(), out))
            width = out
    return pairs


class Sinusoid(nn.Module):
    """timestep_embedding as a module, so that a network can hold it."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        """t: (B,). Returns (B, dim)."""
        return timestep_embedding(t, self.dim)


def floors(channels, widths, blocks, heads):
    """The stages and resizings of a U-Net, in the order in which they run: down, middle, up.

    channels: what the stem returns. widths: one per floor, the highest first. blocks: stages per floor on the way
    down. heads: of the attention on the lowest floor. Returns a ModuleList, a Stage and a ModuleList.
    """
    time_channels, last = 4 * channels, len(widths) - 1
    down, up, skips, width = nn.ModuleList(), nn.ModuleList(), [channels], channels
    for floor, out in enumerate(widths):
        for _ in range(blocks):
            down.append(Stage(width, out, time_channels, heads if floor == last else 0))
            width = out
            skips.append(width)
        if floor != last:
            down.append(Downsample(width))
            skips.append(width)
    middle = Stage(width, width, time_channels, heads)
    for floor in reversed(range(len(widths))):
        for _ in range(blocks + 1):
            up.append(Stage(width + skips.pop(), widths[floor], time_channels, heads if floor == last else 0))
            width = widths[floor]
        if floor != 0:
            up.append(Upsample(width))
    return down, middle, up


class UNet(nn.Module):
    """A U-Net that is told the time (after Ronneberger and others 2015 and DDPM).

    channels: the width that the stem makes, a multiple of 8. multipliers: the width of each floor over channels, the
    highest floor first. blocks: stages per floor on the way down. heads: of the attention. patch: the side of a patch.
    """

    def __init__(self, in_channels=1, channels=64, multipliers=(1, 2), blocks=1, heads=4, patch=2):
        super().__init__()
        widths = [channels * m for m in multipliers]
        if channels % 8:
            raise ValueError(f"channels must be a multiple of 8, the number of groups in GroupNorm, not {channels}.")
        if widths[-1] % heads:
            raise ValueError(f"The lowest floor has {widths[-1]} channels, which {heads} heads cannot share evenly.")
        self.config = {
            "in_channels": in_channels,
            "channels": channels,
            "multipliers": list(multipliers),
            "blocks": blocks,
            "heads": heads,
            "patch": patch,
        }
        self.multiple = patch * 2 ** (len(widths) - 1)
        pixels = in_channels * patch**2
        self.embed = Sinusoid(channels)
        self.time_mlp = TimeMLP(channels, 4 * channels)
        self.stem = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(pixels, channels, 3, padding=1))
        self.down, self.middle, self.up = floors(channels, widths, blocks, heads)
        self.head = nn.Sequential(
            nn.GroupNorm(8, widths[0]),
            nn.SiLU(),
            nn.Conv2d(widths[0], pixels, 3, padding=1),
            nn.PixelShuffle(patch),
        )
        nn.init.zeros_(self.head[2].weight)
        nn.init.zeros_(self.head[2].bias)

    def forward(self, x, t):
        """x: (B, in_channels, H, W), H and W multiples of self.multiple. t: (B,). Returns the shape of x."""
        if x.shape[-2] % self.multiple or x.shape[-1] % self.multiple:
            raise ValueError(
                f"This U-Net needs images whose height and width are multiples of {self.multiple} "
                f"(patch times 2 for each further floor), not {x.shape[-2]} by {x.shape[-1]}."
            )
        emb = self.time_mlp(self.embed(t))  # (B, 4 channels)
        h = self.stem(x)  # (B, channels, H / patch, W / patch)
        skips = [h]
        for block in self.down:
            h = block(h, emb) if isinstance(block, Stage) else block(h)
            skips.append(h)
        h = self.middle(h, emb)  # (B, widths[-1], H / multiple, W / multiple)
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], dim=1), emb) if isinstance(block, Stage) else block(h)
        return self.head(h)  # (B, in_channels, H, W)


def predict_most_parameters():
    """Return "14 x 14", "7 x 7" or "equal"."""
    return "7 x 7"


def predict_fresh_output():
    """Return "noise", "input" or "zero"."""
    return "zero"
