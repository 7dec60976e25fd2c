"""Wrong answers that people give in lab2_unet; the docstring of each is the hint."""

import math

import torch
import torch.nn.functional as F

from labdiff.authoring import mistake
from labdiff.reference import lab2_unet as right


def _frequencies(half, t, base=10_000, divisor=None):
    return torch.exp(-math.log(base) * torch.arange(half, device=t.device) / (divisor or half))


def _embed(t, frequencies):
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@mistake("timestep_embedding")
def cosine_first(t, dim):
    """You put the cosines first: here the sines fill the first half, and the checkpoint was trained that way."""
    return _embed(t, _frequencies(dim // 2, t)).roll(dim // 2, dims=1)


@mistake("timestep_embedding")
def interleaved(t, dim):
    """You alternate sines and cosines, as the Transformer paper does: here all sines come first, then all cosines."""
    angles = t[:, None].float() * _frequencies(dim // 2, t)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


@mistake("timestep_embedding")
def whole_division(t, dim):
    """All your frequencies are equal: arange(half) // half is 0 everywhere, divide with / instead."""
    half = dim // 2
    return _embed(t, torch.exp(-math.log(10_000) * (torch.arange(half, device=t.device) // half)))


@mistake("timestep_embedding")
def decimal_logarithm(t, dim):
    """Your logarithm has base 10 (math.log10): exp undoes the natural one, math.log."""
    half = dim // 2
    return _embed(t, torch.exp(-math.log10(10_000) * torch.arange(half, device=t.device) / half))


@mistake("timestep_embedding")
def divided_by_dim(t, dim):
    """You divided i by dim: it runs up to half = dim / 2, so half belongs below it."""
    return _embed(t, _frequencies(dim // 2, t, divisor=dim))


@mistake("timestep_embedding")
def divided_by_half_minus_one(t, dim):
    """You divided i by half - 1, as some code does so that the last frequency is 1 / 10000: here it is half."""
    return _embed(t, _frequencies(dim // 2, t, divisor=dim // 2 - 1))


@mistake("timestep_embedding")
def rising_frequencies(t, dim):
    """Your frequencies rise from 1 to nearly 10000: the exponent is negative, they fall from 1."""
    return _embed(t, 1 / _frequencies(dim // 2, t))


@mistake("timestep_embedding")
def sines_only(t, dim):
    """You return sines alone: half of the entries are sines, the other half cosines of the same angles."""
    return (t[:, None].float() * _frequencies(dim, t)).sin()


@mistake("timestep_embedding")
def timestep_rounded(t, dim):
    """You made t an integer: timesteps between two whole ones are allowed, use t.float()."""
    return _embed(t.long(), _frequencies(dim // 2, t))


@mistake("timestep_embedding")
def timestep_scaled(t, dim):
    """You divided t by 1000: the frequencies are made for t as it is."""
    return _embed(t / 1000, _frequencies(dim // 2, t))


@mistake("timestep_embedding")
def frequencies_on_the_cpu(t, dim):
    """You made the frequencies without device=t.device: on a GPU they would stay on the CPU and not meet t."""
    half = dim // 2
    return _embed(t, torch.exp(-math.log(10_000) * torch.arange(half) / half))


@mistake("TimeMLP")
class WithoutNonlinearity(right.TimeMLP):
    """You left out the SiLU: two linear layers in a row are only one linear layer."""

    def forward(self, embedding):
        return self.linear2(self.linear1(embedding))


@mistake("TimeMLP")
class SiluAtTheEnd(right.TimeMLP):
    """You applied a SiLU to the output too: the residual blocks apply their own, so leave the last layer bare."""

    def forward(self, embedding):
        return F.silu(self.linear2(F.silu(self.linear1(embedding))))


@mistake("TimeMLP")
class SiluMisplaced(right.TimeMLP):
    """Your SiLU stands after the second layer: it belongs between the two."""

    def forward(self, embedding):
        return F.silu(self.linear2(self.linear1(embedding)))


@mistake("TimeMLP")
class Relu(right.TimeMLP):
    """You used ReLU where SiLU, x sigmoid(x), belongs."""

    def forward(self, embedding):
        return self.linear2(F.relu(self.linear1(embedding)))


@mistake("TimeMLP")
class Sigmoid(right.TimeMLP):
    """You used the sigmoid alone: SiLU is x times sigmoid(x)."""

    def forward(self, embedding):
        return self.linear2(self.linear1(embedding).sigmoid())


class _Res(right.ResBlock):
    def first(self, x):
        return self.conv1(F.silu(self.norm1(x)))

    def second(self, h):
        return self.conv2(F.silu(self.norm2(h)))

    def shift(self, emb):
        return self.time(F.silu(emb))[:, :, None, None]


@mistake("ResBlock")
class WithoutSkip(_Res):
    """You forgot the residual connection: return self.skip(x) + h, so that the block only has to learn a correction."""

    def forward(self, x, emb):
        return self.second(self.first(x) + self.shift(emb))


@mistake("ResBlock")
class BareInput(_Res):
    """You added x itself where self.skip(x) belongs: when the widths differ, only self.skip makes them fit."""

    def forward(self, x, emb):
        return x + self.second(self.first(x) + self.shift(emb))


@mistake("ResBlock")
class TimeAfterSecondNorm(_Res):
    """You added the time after the second norm: it belongs right after conv1, before norm2."""

    def forward(self, x, emb):
        h = self.norm2(self.first(x)) + self.shift(emb)
        return self.skip(x) + self.conv2(F.silu(h))


@mistake("ResBlock")
class TimeAtTheEnd(_Res):
    """You added the time after conv2: there no nonlinearity follows, so it could only shift the output."""

    def forward(self, x, emb):
        return self.skip(x) + self.second(self.first(x)) + self.shift(emb)


@mistake("ResBlock")
class TimeWithoutSilu(_Res):
    """You gave emb to self.time without the SiLU: it is self.time(F.silu(emb))."""

    def forward(self, x, emb):
        return self.skip(x) + self.second(self.first(x) + self.time(emb)[:, :, None, None])


@mistake("ResBlock")
class TimeForgotten(_Res):
    """Your output does not depend on emb: the network would not know how noisy its input is."""

    def forward(self, x, emb):
        return self.skip(x) + self.second(self.first(x))


@mistake("ResBlock")
class TimeMultiplied(_Res):
    """You multiplied by the time where it is added."""

    def forward(self, x, emb):
        return self.skip(x) + self.second(self.first(x) * self.shift(emb))


@mistake("ResBlock")
class WithoutNonlinearities(_Res):
    """You left out the SiLU after the norms: each half of the block is norm, SiLU, conv."""

    def forward(self, x, emb):
        h = self.conv1(self.norm1(x)) + self.shift(emb)
        return self.skip(x) + self.conv2(self.norm2(h))


@mistake("ResBlock")
class SiluBeforeNorm(_Res):
    """You applied SiLU before the norm: the order is norm, SiLU, conv."""

    def forward(self, x, emb):
        h = self.conv1(self.norm1(F.silu(x))) + self.shift(emb)
        return self.skip(x) + self.conv2(self.norm2(F.silu(h)))


@mistake("ResBlock")
class ReluBlock(_Res):
    """You used ReLU on the main path where SiLU belongs."""

    def forward(self, x, emb):
        h = self.conv1(F.relu(self.norm1(x))) + self.shift(emb)
        return self.skip(x) + self.conv2(F.relu(self.norm2(h)))


@mistake("ResBlock")
class TimeWithoutAxes(_Res):
    """self.time(...) has the shape (B, C): give it two more axes, [:, :, None, None], so that C meets the channels."""

    def forward(self, x, emb):
        return self.skip(x) + self.second(self.first(x) + self.time(F.silu(emb)))


@mistake("ResBlock")
class TimeAxesInFront(_Res):
    """Your two new axes stand between B and C: self.time(...) needs them behind C, [:, :, None, None]."""

    def forward(self, x, emb):
        return self.skip(x) + self.second(self.first(x) + self.time(F.silu(emb))[:, None, None, :])


@mistake("ResBlock")
class TimeBeforeConv1(_Res):
    """You added the time before conv1: it belongs right after it, where there are out channels, as many as it has."""

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)) + self.shift(emb))
        return self.skip(x) + self.second(h)


@mistake("ResBlock")
class TimeAddedToX(_Res):
    """You added the time to x: it belongs to h, right after conv1, where there are out channels, as many as it has."""

    def forward(self, x, emb):
        return self.skip(x) + self.second(self.first(x + self.shift(emb)))


@mistake("ResBlock")
class WithoutNorm2(_Res):
    """You left out norm2: the second half is norm, SiLU, conv like the first."""

    def forward(self, x, emb):
        return self.skip(x) + self.conv2(F.silu(self.first(x) + self.shift(emb)))


@mistake("ResBlock")
class SecondSiluBeforeNorm(_Res):
    """In the second half you applied SiLU before norm2: there too the order is norm, SiLU, conv."""

    def forward(self, x, emb):
        return self.skip(x) + self.conv2(self.norm2(F.silu(self.first(x) + self.shift(emb))))


@mistake("ResBlock")
class SecondSiluForgotten(_Res):
    """You left out the SiLU after norm2: the second half is norm, SiLU, conv like the first."""

    def forward(self, x, emb):
        return self.skip(x) + self.conv2(self.norm2(self.first(x) + self.shift(emb)))


@mistake("ResBlock")
class ConvFirst(_Res):
    """You wrote conv, norm, SiLU: here the norm and the SiLU come before each convolution."""

    def forward(self, x, emb):
        h = F.silu(self.norm1(self.conv1(x))) + self.shift(emb)
        return self.skip(x) + F.silu(self.norm2(self.conv2(h)))


@mistake("ResBlock")
class RandomStart(_Res):
    """Your constructor lacks the two lines that set conv2 to zero: a fresh block must pass on skip(x) unchanged."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.conv2.reset_parameters()

    def forward(self, x, emb):
        return self.skip(x) + self.second(self.first(x) + self.shift(emb))


def _scores(q, k):
    return q.transpose(-1, -2) @ k


def _apply(v, weights):
    return v @ weights.transpose(-1, -2), weights


@mistake("attention")
def unscaled(q, k, v):
    """You did not divide the scores by sqrt(d): the larger d, the larger the scores and the harder the softmax."""
    return _apply(v, _scores(q, k).softmax(-1))


@mistake("attention")
def scaled_by_d(q, k, v):
    """You divided by d where sqrt(d) belongs: a sum of d products has the standard deviation sqrt(d)."""
    return _apply(v, (_scores(q, k) / q.shape[-2]).softmax(-1))


@mistake("attention")
def scaled_by_positions(q, k, v):
    """You divided by the root of the number of positions: d is the length of one query, the third axis here."""
    return _apply(v, (_scores(q, k) / math.sqrt(q.shape[-1])).softmax(-1))


@mistake("attention")
def scaled_by_all_channels(q, k, v):
    """You divided by the root of all channels: each head has its own dot products, over d = C / heads channels."""
    return _apply(v, (_scores(q, k) / math.sqrt(q.shape[-2] * q.shape[-3])).softmax(-1))


@mistake("attention")
def softmax_over_queries(q, k, v):
    """Your softmax runs over the queries: each query's weights must sum to 1, so use the last axis, the keys."""
    return _apply(v, (_scores(q, k) / math.sqrt(q.shape[-2])).softmax(-2))


@mistake("attention")
def queries_and_keys_swapped(q, k, v):
    """You swapped queries and keys: row i of the weights belongs to query i."""
    if q.shape != k.shape:
        raise ValueError("the weights and the values do not fit")
    return _apply(v, (_scores(k, q) / math.sqrt(q.shape[-2])).softmax(-1))


@mistake("attention")
def weights_not_turned(q, k, v):
    """You multiplied v @ weights: that sums over the queries. Turn the weights, v @ weights.transpose(-1, -2)."""
    weights = (_scores(q, k) / math.sqrt(q.shape[-2])).softmax(-1)
    return v @ weights, weights


@mistake("attention")
def without_softmax(q, k, v):
    """You left out the softmax: weights are positive and sum to 1 for each query."""
    return _apply(v, _scores(q, k) / math.sqrt(q.shape[-2]))


@mistake("attention")
def sums_of_exponentials(q, k, v):
    """Your own softmax overflows when scores are large: subtract each row's maximum first, or use .softmax(dim=-1)."""
    weights = (_scores(q, k) / math.sqrt(q.shape[-2])).exp()
    return _apply(v, weights / weights.sum(-1, keepdim=True))


@mistake("attention")
def weights_first(q, k, v):
    """You return the two in the wrong order: first the output, then the weights."""
    output, weights = right.attention(q, k, v)
    return weights, output


class _Attn(right.SelfAttention):
    def split(self, x):
        B, C, H, W = x.shape
        return self.qkv(self.norm(x)).reshape(B, 3, self.heads, C // self.heads, H * W).unbind(1)


@mistake("SelfAttention")
class WithoutResidual(_Attn):
    """You forgot the residual: return x + self.out(h)."""

    def forward(self, x):
        return self.out(self.attend(*self.split(x))[0].reshape(x.shape))


@mistake("SelfAttention")
class ResidualOfNorm(_Attn):
    """You added the normalised x: the residual is x as it came in."""

    def forward(self, x):
        return self.norm(x) + self.out(self.attend(*self.split(x))[0].reshape(x.shape))


@mistake("SelfAttention")
class WithoutNorm(_Attn):
    """You gave x to qkv without the norm."""

    def forward(self, x):
        B, C, H, W = x.shape
        q, k, v = self.qkv(x).reshape(B, 3, self.heads, C // self.heads, H * W).unbind(1)
        return x + self.out(self.attend(q, k, v)[0].reshape(x.shape))


@mistake("SelfAttention")
class WithoutOut(_Attn):
    """You left out the last layer, self.out, which mixes the heads."""

    def forward(self, x):
        return x + self.attend(*self.split(x))[0].reshape(x.shape)


@mistake("SelfAttention")
class OneHead(_Attn):
    """You attend with a single head: split the channels into self.heads heads of C / heads channels."""

    def forward(self, x):
        B, C, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, 1, C, H * W).unbind(1)
        return x + self.out(self.attend(q, k, v)[0].reshape(x.shape))


@mistake("SelfAttention")
class HeadsInterleaved(_Attn):
    """Your heads take every second channel or so: a head owns C / heads channels in a row, so heads comes before d."""

    def forward(self, x):
        B, C, H, W = x.shape
        qkv = self.qkv(self.norm(x)).reshape(B, 3, C // self.heads, self.heads, H * W).transpose(2, 3)
        h = self.attend(*qkv.unbind(1))[0].transpose(1, 2)
        return x + self.out(h.reshape(x.shape))


@mistake("SelfAttention")
class HeadsFirst(_Attn):
    """You split the channels into heads first and q, k, v second: here all of q comes first, then k, then v."""

    def forward(self, x):
        B, C, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, self.heads, 3, C // self.heads, H * W).unbind(2)
        return x + self.out(self.attend(q, k, v)[0].reshape(x.shape))


@mistake("SelfAttention")
class KeysFirst(_Attn):
    """You took the keys first: the order in qkv is q, k, v."""

    def forward(self, x):
        k, q, v = self.split(x)
        return x + self.out(self.attend(q, k, v)[0].reshape(x.shape))


@mistake("SelfAttention")
class MergedWithoutHeads(_Attn):
    """You moved the heads behind d before the last reshape: (B, heads, d, N) becomes (B, C, H, W) by reshape alone."""

    def forward(self, x):
        h = self.attend(*self.split(x))[0]
        return x + self.out(h.transpose(1, 2).reshape(x.shape))


@mistake("SelfAttention")
class HeadsAfterWidth(_Attn):
    """You wrote the axes as (d, heads): heads comes first, (B, 3, heads, C // heads, H * W)."""

    def forward(self, x):
        B, C, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, C // self.heads, self.heads, H * W).unbind(1)
        return x + self.out(self.attend(q, k, v)[0].reshape(x.shape))


@mistake("SelfAttention")
class FourHeads(_Attn):
    """You always split into four heads: their number is self.heads."""

    def forward(self, x):
        B, C, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, 4, C // 4, H * W).unbind(1)
        return x + self.out(self.attend(q, k, v)[0].reshape(x.shape))


@mistake("SelfAttention")
class RandomOut(_Attn):
    """Your constructor lacks the two lines that set self.out to zero: a fresh layer must pass on x unchanged."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.out.reset_parameters()

    def forward(self, x):
        return x + self.out(self.attend(*self.split(x))[0].reshape(x.shape))


@mistake("SelfAttention")
class NotThroughAttend(_Attn):
    """Your numbers are right, but you did not call self.attend: further below we look at the weights through it."""

    def forward(self, x):
        return x + self.out(right.attention(*self.split(x))[0].reshape(x.shape))


def _cut(x, patch):
    B, C, H, W = x.shape
    return x.reshape(B, C, H // patch, patch, W // patch, patch)


@mistake("patchify")
def reshape_only(x, patch):
    """You reshaped without moving axes: reshape never reorders values, so rows were torn apart. A permute is needed."""
    B, C, H, W = x.shape
    return x.reshape(B, C * patch * patch, H // patch, W // patch)


@mistake("patchify")
def large_tiles(x, patch):
    """You cut the picture into p by p large tiles: neighbours share a patch, so H splits into H / p times p."""
    B, C, H, W = x.shape
    tiles = x.reshape(B, C, patch, H // patch, patch, W // patch).permute(0, 1, 2, 4, 3, 5)
    return tiles.reshape(B, -1, H // patch, W // patch)


@mistake("patchify")
def columns_before_rows(x, patch):
    """Inside a patch you count columns before rows: row inside comes first, then column inside."""
    B, _, H, W = x.shape
    return _cut(x, patch).permute(0, 1, 5, 3, 2, 4).reshape(B, -1, H // patch, W // patch)


@mistake("patchify")
def offsets_before_channels(x, patch):
    """You put the place inside the patch before the channel: all places of the first channel come first."""
    B, _, H, W = x.shape
    return _cut(x, patch).permute(0, 3, 5, 1, 2, 4).reshape(B, -1, H // patch, W // patch)


@mistake("patchify")
def corner_only(x, patch):
    """You kept one pixel of each patch: all p * p go to the channels, or the picture cannot be put back."""
    return x[..., ::patch, ::patch]


@mistake("patchify")
def averaged(x, patch):
    """You averaged each patch: nothing may be lost, the pixels become channels."""
    return F.avg_pool2d(x, patch)


@mistake("patchify")
def always_two(x, patch):
    """You always take patches of 2 by 2: their side is the argument patch."""
    return right.patchify(x, 2)


@mistake("Downsample")
class AveragePooling(right.Downsample):
    """You averaged squares of 2 by 2: here the convolution with stride 2 does the halving, and it learns how."""

    def forward(self, x):
        return F.avg_pool2d(x, 2)


@mistake("Downsample")
class PooledAndConvolved(right.Downsample):
    """You halved twice: the convolution has stride 2 already, so nothing needs to be pooled before it."""

    def forward(self, x):
        return self.conv(F.avg_pool2d(x, 2))


@mistake("Downsample")
class EverySecondPixel(right.Downsample):
    """You took every second pixel and no convolution: call self.conv."""

    def forward(self, x):
        return x[..., ::2, ::2]


@mistake("Downsample")
class NonlinearDownsample(right.Downsample):
    """You added a SiLU: the residual blocks have the nonlinearities, down-sampling is the convolution alone."""

    def forward(self, x):
        return F.silu(self.conv(x))


@mistake("Downsample")
class MaxPooling(right.Downsample):
    """You used max pooling, as the first U-Net did: here a convolution with stride 2 does the halving."""

    def forward(self, x):
        return F.max_pool2d(x, 2)


def _twice(x, mode="nearest"):
    return F.interpolate(x, scale_factor=2, mode=mode)


@mistake("Upsample")
class Bilinear(right.Upsample):
    """You interpolated bilinearly: here every value is repeated (nearest), and the convolution does the smoothing."""

    def forward(self, x):
        return self.conv(_twice(x, "bilinear"))


@mistake("Upsample")
class Bicubic(right.Upsample):
    """You interpolated bicubically: here every value is repeated (nearest), and the convolution does the smoothing."""

    def forward(self, x):
        return self.conv(_twice(x, "bicubic"))


@mistake("Upsample")
class WithoutConvolution(right.Upsample):
    """You forgot the convolution: without it every square of 2 by 2 is of one value."""

    def forward(self, x):
        return _twice(x)


@mistake("Upsample")
class ConvolvedFirst(right.Upsample):
    """You convolved before enlarging: enlarge first, so that the convolution can smooth the squares of 2 by 2."""

    def forward(self, x):
        return _twice(self.conv(x))


@mistake("Upsample")
class Tiled(right.Upsample):
    """You laid four copies of the map side by side (repeat): every single value is repeated (repeat_interleave)."""

    def forward(self, x):
        return self.conv(x.repeat(1, 1, 2, 2))


@mistake("Upsample")
class NotEnlarged(right.Upsample):
    """Your output is not larger than your input: the convolution has stride 1, enlarge x before it."""

    def forward(self, x):
        return self.conv(x)


@mistake("up_channels")
def first_in_first_out(skips, widths, blocks):
    """You took the skips from the front: the last one put on the pile comes off first (pop, not pop(0))."""
    return right.up_channels(skips[::-1], widths, blocks)


@mistake("up_channels")
def pile_emptied(skips, widths, blocks):
    """Your pairs are right, but pop emptied the caller's list: work on a copy, list(skips)."""
    pairs = right.up_channels(skips, widths, blocks)
    skips.clear()
    return pairs


@mistake("up_channels")
def one_block_too_few(skips, widths, blocks):
    """You made as many stages per floor as on the way down: on the way up there is one more, for the skip of the
    Downsample (or of the stem)."""
    skips, width, pairs = list(skips), widths[-1], []
    for out in reversed(widths):
        for _ in range(blocks):
            pairs.append((width + skips.pop(), out))
            width = out
    return pairs


@mistake("up_channels")
def width_not_carried(skips, widths, blocks):
    """You always carry the floor's own width: the first stage of a floor still gets the width of the floor below."""
    skips = list(skips)
    return [(out + skips.pop(), out) for out in reversed(widths) for _ in range(blocks + 1)]


@mistake("up_channels")
def without_skips(skips, widths, blocks):
    """You left the skips out: concatenation adds their width to what comes in."""
    width, pairs = widths[-1], []
    for out in reversed(widths):
        for _ in range(blocks + 1):
            pairs.append((width, out))
            width = out
    return pairs


@mistake("up_channels")
def from_the_top(skips, widths, blocks):
    """You began at the top floor: the way up begins at the lowest one."""
    skips, width, pairs = list(skips), widths[0], []
    for out in widths:
        for _ in range(blocks + 1):
            pairs.append((width + skips.pop(), out))
            width = out
    return pairs


@mistake("up_channels")
def order_of_pair(skips, widths, blocks):
    """You wrote the pairs as (out, in): in comes first, as in nn.Conv2d."""
    return [(b, a) for a, b in right.up_channels(skips, widths, blocks)]


@mistake("up_channels")
def lowest_width_kept(skips, widths, blocks):
    """You always carry the lowest floor's width: after each stage carry on what that stage returned."""
    skips = list(skips)
    return [(widths[-1] + skips.pop(), out) for out in reversed(widths) for _ in range(blocks + 1)]


@mistake("up_channels")
def sum_carried(skips, widths, blocks):
    """You carry the width of the concatenation: a stage returns its out width, so carry that on."""
    skips, width, pairs = list(skips), widths[-1], []
    for out in reversed(widths):
        for _ in range(blocks + 1):
            width += skips.pop()
            pairs.append((width, out))
    return pairs


@mistake("up_channels")
def floors_from_the_top(skips, widths, blocks):
    """You start with the lowest width but go through the floors from the top: reversed(widths) begins at the lowest."""
    skips, width, pairs = list(skips), widths[-1], []
    for out in widths:
        for _ in range(blocks + 1):
            pairs.append((width + skips.pop(), out))
            width = out
    return pairs


class _Net(right.UNet):
    """The right wiring in parts, of which each mistake replaces one."""

    def time(self, t):
        return self.time_mlp(self.embed(t))

    def join(self, h, skip):
        return torch.cat([h, skip], dim=1)

    def take(self, skips):
        return skips.pop()

    def go_down(self, h, emb):
        skips = [h]
        for block in self.down:
            h = block(h, emb) if isinstance(block, right.Stage) else block(h)
            skips.append(h)
        return h, skips

    def centre(self, h, emb):
        return self.middle(h, emb)

    def go_up(self, h, emb, skips):
        for block in self.up:
            h = block(self.join(h, self.take(skips)), emb) if isinstance(block, right.Stage) else block(h)
        return h

    def forward(self, x, t):
        emb = self.time(t)
        h, skips = self.go_down(self.stem(x), emb)
        return self.head(self.go_up(self.centre(h, emb), emb, skips))


@mistake("UNet")
class SkipsAdded(_Net):
    """You added the skip to h: it is concatenated, torch.cat([h, skip], dim=1), so that nothing is mixed too early."""

    def join(self, h, skip):
        return h + skip


@mistake("UNet")
class SkipBeforeH(_Net):
    """You concatenated [skip, h]: the checkpoint's weights expect h first, then the skip."""

    def join(self, h, skip):
        return torch.cat([skip, h], dim=1)


@mistake("UNet")
class OldestSkipFirst(_Net):
    """You took the oldest skip first, pop(0): the newest one has the size of where you are, so take the last, pop()."""

    def take(self, skips):
        return skips.pop(0)


@mistake("UNet")
class SkipsNotTakenOff(_Net):
    """You used the last skip again and again: skips.pop() takes it off the list, skips[-1] leaves it there."""

    def take(self, skips):
        return skips[-1]


@mistake("UNet")
class StemNotKept(_Net):
    """There is one skip too few: the stem's output belongs on the list too, before the first block."""

    def go_down(self, h, emb):
        h, skips = super().go_down(h, emb)
        return h, skips[1:]


@mistake("UNet")
class DownsampleNotKept(_Net):
    """What you keep and what you take off do not fit: what a Downsample returns goes on the list like what a Stage
    returns, and an Upsample takes nothing off it."""

    def go_down(self, h, emb):
        skips = [h]
        for block in self.down:
            if isinstance(block, right.Stage):
                h = block(h, emb)
                skips.append(h)
            else:
                h = block(h)
        return h, skips


@mistake("UNet")
class KeptBeforeBlock(_Net):
    """You put h on the list before each block: keep what the block returns, and the stem's output once at the start."""

    def go_down(self, h, emb):
        h, skips = super().go_down(h, emb)
        return h, skips[:-1]


@mistake("UNet")
class MiddleForgotten(_Net):
    """You left out self.middle, between the way down and the way up."""

    def centre(self, h, emb):
        return h


@mistake("UNet")
class TimeNotTransformed(_Net):
    """You gave the sinusoids themselves to the stages: they pass through self.time_mlp first."""

    def time(self, t):
        return self.embed(t)


@mistake("UNet")
class TimestepItself(_Net):
    """You gave t itself to the stages: self.embed makes sinusoids of it, and self.time_mlp the time vector of those."""

    def time(self, t):
        return t


@mistake("UNet")
class InputAdded(_Net):
    """You added x to the output: the network predicts its target directly."""

    def forward(self, x, t):
        return x + super().forward(x, t)


@mistake("UNet")
class HeadForgotten(_Net):
    """You left out self.head, which turns the features back into an image."""

    def forward(self, x, t):
        emb = self.time(t)
        h, skips = self.go_down(self.stem(x), emb)
        return self.go_up(self.centre(h, emb), emb, skips)


@mistake("UNet")
class JoinedAlongBatch(_Net):
    """You concatenated along the batch, dim=0 (the default): the channels are dim=1."""

    def join(self, h, skip):
        return torch.cat([h, skip])


@mistake("UNet")
class MiddleKept(_Net):
    """You put the output of the middle on the list too: only what the stem and the way down return belongs there."""

    def go_up(self, h, emb, skips):
        return super().go_up(h, emb, [*skips, h])


@mistake("UNet")
class TimeForAll(_Net):
    """You gave the time vector to a Downsample: only a Stage takes it, isinstance(block, Stage) tells them apart."""

    def go_down(self, h, emb):
        skips = [h]
        for block in self.down:
            h = block(h, emb)
            skips.append(h)
        return h, skips


@mistake("UNet")
class TimeForUpsample(_Net):
    """You gave the time vector to an Upsample: on the way up too only a Stage takes it."""

    def go_up(self, h, emb, skips):
        for block in self.up:
            h = block(self.join(h, skips.pop()) if isinstance(block, right.Stage) else h, emb)
        return h


@mistake("UNet")
class TimeForNone(_Net):
    """You called a Stage (self.middle is one too) without the time vector: it takes the features and emb."""

    def go_down(self, h, emb):
        skips = [h]
        for block in self.down:
            h = block(h)
            skips.append(h)
        return h, skips


@mistake("predict_most_parameters")
def says_top():
    """The upper floor has more pixels, but weights do not depend on pixels: see what width does in the bars below."""
    return "14 x 14"


@mistake("predict_most_parameters")
def says_equal():
    """Not equal: the lower floor is twice as wide, and the weights grow with the square of the width."""
    return "equal"


@mistake("predict_most_parameters")
def says_no_floor():
    """Return one of the three texts that the question names."""
    return "the middle"


@mistake("predict_fresh_output")
def says_noise():
    """Random weights give random features, yes, but look at what the last convolution multiplies them by."""
    return "noise"


@mistake("predict_fresh_output")
def says_input():
    """A fresh residual block passes its input on, so features do arrive, but the last convolution is no such block."""
    return "input"


@mistake("predict_fresh_output")
def says_nothing():
    """Return one of the three texts that the question names: "noise", "input" or "zero"."""
    return "nothing"
