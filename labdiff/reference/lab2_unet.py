"""The reference answers of lab2_unet."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def timestep_embedding(t, dim):
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)  # (half,)
    angles = t[:, None].float() * frequencies[None, :]  # (B, half)
    return torch.cat([angles.sin(), angles.cos()], dim=1)  # (B, dim)


class TimeMLP(nn.Module):
    def __init__(self, dim, out_channels):
        super().__init__()
        self.linear1 = nn.Linear(dim, out_channels)
        self.linear2 = nn.Linear(out_channels, out_channels)

    def forward(self, embedding):
        return self.linear2(F.silu(self.linear1(embedding)))  # (B, out_channels)


class ResBlock(nn.Module):
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
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out, H, W)
        h = h + self.time(F.silu(emb))[:, :, None, None]  # (B, out, H, W)
        h = self.conv2(F.silu(self.norm2(h)))  # (B, out, H, W)
        return self.skip(x) + h


class SelfAttention(nn.Module):
    def __init__(self, channels, heads=4, groups=8):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        B, C, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, self.heads, C // self.heads, H * W).unbind(1)
        weights = (q.transpose(-1, -2) @ k / math.sqrt(C // self.heads)).softmax(dim=-1)  # (B, heads, HW, HW)
        h = (v @ weights.transpose(-1, -2)).reshape(B, C, H, W)
        return x + self.out(h)


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x)


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class UNet(nn.Module):
    def __init__(self, in_channels=1, channels=64, multipliers=(1, 2), blocks=2, heads=4, patch=2):
        super().__init__()
        self.config = dict(
            in_channels=in_channels,
            channels=channels,
            multipliers=list(multipliers),
            blocks=blocks,
            heads=heads,
            patch=patch,
        )
        time_channels = 4 * channels
        self.channels = channels
        self.time_mlp = TimeMLP(channels, time_channels)
        self.stem = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(in_channels * patch**2, channels, 3, padding=1))
        widths = [channels * m for m in multipliers]
        last = len(widths) - 1
        skips, width = [channels], channels
        self.down = nn.ModuleList()
        for level, out in enumerate(widths):
            for _ in range(blocks):
                self.down.append(Stage(width, out, time_channels, heads if level == last else 0))
                width = out
                skips.append(width)
            if level != last:
                self.down.append(Downsample(width))
                skips.append(width)
        self.middle = Stage(width, width, time_channels, heads)
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for i in range(blocks + 1):
                self.up.append(Stage(width + skips.pop(), widths[level], time_channels, heads if level == last else 0))
                width = widths[level]
            if level != 0:
                self.up.append(Upsample(width))
        self.head = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, in_channels * patch**2, 3, padding=1),
            nn.PixelShuffle(patch),
        )
        nn.init.zeros_(self.head[2].weight)
        nn.init.zeros_(self.head[2].bias)

    def forward(self, x, t):
        emb = self.time_mlp(timestep_embedding(t, self.channels))
        h = self.stem(x)
        skips = [h]
        for m in self.down:
            h = m(h, emb) if isinstance(m, Stage) else m(h)
            skips.append(h)
        h = self.middle(h, emb)
        for m in self.up:
            if isinstance(m, Stage):
                h = m(torch.cat([h, skips.pop()], dim=1), emb)
            else:
                h = m(h)
        return self.head(h)


class Stage(nn.Module):
    def __init__(self, i, o, tc, heads):
        super().__init__()
        self.res = ResBlock(i, o, tc)
        self.attn = SelfAttention(o, heads) if heads else nn.Identity()

    def forward(self, x, emb):
        return self.attn(self.res(x, emb))
