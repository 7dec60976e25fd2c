# %% [markdown]
# # Lab 2: The U-Net
#
# **You build** the network that looks at a noisy digit and says what noise is in it: the time embedding, the residual
# block, self-attention, the ways down and up, and the wiring that makes them a U-Net.
#
# **You can then** follow the shape of a tensor through every floor of a U-Net, say why it takes some image sizes and
# not others, and load trained weights into a network that you wrote yourself.
#
# **It takes** about 100 minutes and no training. **It needs** convolutions and modules (`nn.Module`) in PyTorch, and
# from lab 1 only the idea of $q(x_t \mid x_0)$. You need not have done the exercises of lab 1.
#
# In most exercises here the constructor `__init__` is given and you write `forward`. Keep the names of the layers: at
# the end your network loads weights that were trained under these names. Exercises do not depend on each other, so one
# that you leave out costs you no points elsewhere. `check` says what is right, `hint(name)` helps.

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from labdiff import check, hint, models, schedules, when_done
from labdiff.data import digits
from labdiff.plotting import curves, explore, rows, show
from labdiff.reference.lab1_forward import q_sample

# %% [markdown]
# ## What the network must do
#
# In: a batch of noisy images $x_t$, $(B, 1, 28, 28)$, and for each the step $t$, $(B,)$. Out: one value per pixel,
# $(B, 1, 28, 28)$ again, from which the clean image can be computed. Lab 3 is about which value that should be. For the
# network it makes no difference.
#
# Two demands pull in opposite directions. To know *what* the digit is, the network must see the whole picture at once.
# To know *where* the ink is, it must stay exact to the pixel. A U-Net serves both. On the way down it makes the map
# smaller and wider (more channels), until one place of the map knows much of the picture. On the way up it makes the
# map large again. And at each floor the map from the way down is handed across to the way up, so that what was exact
# stays exact. These bridges are the skip connections, and drawn on paper the whole thing has the shape of a U.
#
# The next cell draws the network of this lab. Follow it once from left to right.


# %%
def draw_unet(channels=64, multipliers=(1, 2), blocks=1, size=28, patch=2):
    """Draw the U-Net of a configuration: one box per block, one row per floor, one arc per skip."""
    widths, last = [channels * m for m in multipliers], len(multipliers) - 1
    walk = [("stem", 0, channels, "stem")]  # (name, floor, width, kind)
    for floor, width in enumerate(widths):
        walk += [("stage", floor, width, "attention" if floor == last else "stage")] * blocks
        walk += [("down", floor + 1, width, "resize")] * (floor < last)
    pile = list(range(len(walk)))
    walk.append(("middle", last, widths[-1], "attention"))
    arcs = []
    for floor in reversed(range(len(widths))):
        for _ in range(blocks + 1):
            arcs.append((pile.pop(), len(walk)))
            walk.append(("stage", floor, widths[floor], "attention" if floor == last else "stage"))
        walk += [("up", floor - 1, widths[floor], "resize")] * (floor > 0)
    walk.append(("head", 0, 1, "stem"))

    colours = {"stem": "#d9d9d9", "stage": "#a6cee3", "attention": "#fdbf6f", "resize": "#b2df8a"}
    _, axis = plt.subplots(figsize=(11, 1.2 + 1.7 * len(widths)), layout="constrained")
    style = {"arrowstyle": "->", "color": "#444444"}
    for i, (name, floor, width, kind) in enumerate(walk):
        text = f"{name}\n{width}"
        box = {"boxstyle": "round,pad=0.5", "facecolor": colours[kind], "edgecolor": "#444444"}
        axis.text(i, -floor, text, ha="center", va="center", fontsize=9, bbox=box, zorder=3)
        if i:
            axis.annotate("", (i, -floor), (i - 1, -walk[i - 1][1]), arrowprops=style | {"shrinkA": 20, "shrinkB": 20})
    for start, end in arcs:
        floor = -walk[start][1]
        bow = style | {"connectionstyle": f"arc3,rad={-0.6 / (end - start) ** 0.5}", "linestyle": "--"}
        axis.annotate("", (end, floor + 0.18), (start, floor + 0.18), arrowprops=bow)
    for floor in range(len(widths)):
        side = size // (patch * 2**floor)
        axis.text(-1.2, -floor, f"{side} x {side}", ha="center", va="center", fontsize=10, weight="bold")
    axis.set(xlim=(-1.8, len(walk) - 0.4), ylim=(-last - 0.5, 0.9))
    axis.set_title("blue: residual block, orange: with attention, dashed: skips", fontsize=10)
    axis.axis("off")
    plt.show()


draw_unet()

# %% [markdown]
# The numbers in the boxes are channels. There are only two floors, $14 \times 14$ and $7 \times 7$. The picture has
# $28 \times 28$ pixels, but the stem takes it in patches of $2 \times 2$, as you will see. The dashed arcs are the
# skips. We now build the boxes one after the other, and then the wiring.
#
# ## Telling the network the time
#
# The same grey patch means ink at $t = 50$ and nothing at all at $t = 900$. So the network must know $t$. One number
# between 0 and 999 is a poor input: as it stands it is far too large, and divided by 1000 it makes neighbouring steps
# look the same. The way out is the one of a clock, which shows one number by several hands. The fast hand tells
# neighbours apart, the slow one tells morning from evening.
#
# With $h = \text{dim} / 2$ hands and the frequencies
#
# $$\omega_i = \exp\!\Big(\!-\ln(10000)\,\frac{i}{h}\Big), \qquad i = 0, \dots, h - 1,$$
#
# the embedding of $t$ is
#
# $$e(t) = \big(\sin\omega_0 t, \dots, \sin\omega_{h-1} t,\ \cos\omega_0 t, \dots, \cos\omega_{h-1} t\big)$$
#
# The first frequency is 1, the last nearly $1/10000$. Sine and cosine together give the position of a hand without
# doubt, one of them alone would not. And there is a bonus. By $\cos a\cos b + \sin a \sin b = \cos(a - b)$,
#
# $$e(s)\cdot e(t) = \sum_i \cos\big(\omega_i (s - t)\big)$$
#
# so how alike two embeddings are depends only on how far apart the steps are.
#
# Shapes: `t` is $(B,)$, the angles are $(B, h)$, the result is $(B, \text{dim})$. The values of `t` may be integers or
# not. Make the frequencies on the device of `t`, or nothing will run on a GPU.


# %%
def timestep_embedding(t, dim):
    """Sinusoids of the timestep: first all sines, then all cosines (after DDPM, appendix B).

    t: (B,), int64 or float, from 0 to T - 1. dim: even. Frequency i is exp(-ln(10000) i / (dim / 2)).
    Returns (B, dim), float32, in [-1, 1].
    """
    ### BEGIN SOLUTION
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)  # (half,)
    angles = t[:, None].float() * frequencies[None, :]  # (B, half)
    return torch.cat([angles.sin(), angles.cos()], dim=1)  # (B, dim)
    ### END SOLUTION


# %%
with when_done():
    table = timestep_embedding(torch.arange(1000), 64)  # (1000, 64)
    plt.figure(figsize=(8, 2.6), layout="constrained")
    plt.imshow(table.T, aspect="auto", cmap="RdBu", interpolation="nearest")
    plt.gca().set(xlabel="t", ylabel="entry", title="Every column is the embedding of one timestep")
    plt.colorbar()
    plt.show()
    curves({f"s = {s}": table @ table[s] for s in (200, 500)}, xlabel="t", ylabel=r"$e(s) \cdot e(t)$")

# %% [markdown]
# In the picture, sines are above and cosines below, and in each half the frequencies fall from top to bottom. The
# lowest rows of each half hardly move: those hands need tens of thousands of steps for one turn. In the curves, every
# step is most like itself, and the peak has the same shape at both places.
#
# The sinusoids are fixed. A small network of two layers turns them into what the blocks find useful. The nonlinearity
# throughout this lab is SiLU, $x \cdot \sigma(x)$, a smooth relative of ReLU.
#
# Shapes: $(B, \text{dim})$ in, $(B, \text{out})$ out.


# %%
class TimeMLP(nn.Module):
    """Two linear layers with a SiLU between them, from sinusoids to the time vector."""

    def __init__(self, dim, out_channels):
        super().__init__()
        self.linear1 = nn.Linear(dim, out_channels)
        self.linear2 = nn.Linear(out_channels, out_channels)

    def forward(self, embedding):
        """embedding: (B, dim), from timestep_embedding. Returns (B, out_channels)."""
        ### BEGIN SOLUTION
        return self.linear2(F.silu(self.linear1(embedding)))  # (B, out_channels)
        ### END SOLUTION


# %% [markdown]
# ## The residual block
#
# The workhorse. Twice in a row it does norm, SiLU, convolution. Between the two halves it learns the time. At the end
# it adds what came in:
#
# $$h = \mathrm{conv}_1\big(\mathrm{silu}(\mathrm{norm}_1(x))\big) + \mathrm{time}\big(\mathrm{silu}(\mathrm{emb})\big),
#   \qquad \text{out} = \mathrm{skip}(x) + \mathrm{conv}_2\big(\mathrm{silu}(\mathrm{norm}_2(h))\big)$$
#
# **Why add $x$?** The block then only has to learn a correction. The gradient always finds the straight way back
# through the sum, however many blocks there are. If the number of channels changes, $x$ does not fit the sum, and a
# $1 \times 1$ convolution, `skip`, makes it fit.
#
# **Why zeros in the constructor?** `conv2` starts with weights 0. A fresh block therefore passes on `skip(x)`
# unchanged, and a deep network of such blocks starts out tame.
#
# **Where does the time go?** `self.time(...)` gives one number per channel. It is added at every pixel, so it needs two
# more axes: $(B, C) \to (B, C, 1, 1)$. It comes before the second norm and SiLU, and so it can decide which
# features pass.
#
# **Why group norm?** It brings activations to mean 0 and variance 1, then scales and shifts them by learned numbers.
# Batch norm would take mean and variance over the batch. But our batch mixes images at all levels of noise, and a
# sampler may work on a single image. Group norm looks at one image alone: it splits the $C$ channels into 8 groups and
# takes mean and variance over each group's $C/8$ channels and all pixels. So the widths must be multiples of 8.
# Some well-known code takes 32 groups and then cannot be built with, say, 48 channels.


# %%
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
        ### BEGIN SOLUTION
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out, H, W)
        h = h + self.time(F.silu(emb))[:, :, None, None]  # (B, out, H, W)
        h = self.conv2(F.silu(self.norm2(h)))  # (B, out, H, W)
        return self.skip(x) + h  # (B, out, H, W)
        ### END SOLUTION


# %% [markdown]
# ## Attention
#
# A $3 \times 3$ convolution sees its neighbours. To carry news across the map takes many of them. Attention lets each
# place ask all others at once, and choose by what they hold and not by where they are.
#
# Every place $i$ has three vectors of length $d$: a query $q_i$ (what am I looking for), a key $k_i$ (what have I got)
# and a value $v_i$ (what I hand over). How well the query of $i$ fits the key of $j$ is their dot product. A softmax
# makes weights of these scores, and the output is the weighted sum of the values:
#
# $$A_{ij} = \operatorname{softmax}_j\!\Big(\frac{q_i \cdot k_j}{\sqrt d}\Big), \qquad
#   \text{out}_i = \sum_j A_{ij}\, v_j$$
#
# **Why $\sqrt d$?** Say the entries of $q$ and $k$ are independent with variance 1. Then each product has variance 1,
# and a sum of $d$ of them has variance $d$. Dividing by $\sqrt d$ brings the scores back to variance 1 whatever $d$ is.
# Without it the softmax nearly picks a single place, and its gradient vanishes.
#
# **Over which axis?** Row $i$ belongs to query $i$, and its weights sum to 1. So the softmax runs over the keys, $j$.
#
# Shapes: `q` is $(B, \text{heads}, d, N)$, with one column per place. Keys and values may have another number of
# places, $M$ (lab 6 will need that). The weights are $(B, \text{heads}, N, M)$. The heads are independent of each
# other, and `@` takes care of the leading axes by itself.


# %%
def attention(q, k, v):
    """Scaled dot-product attention (Vaswani and others 2017, equation 1), with one column per place.

    q: (B, heads, d, N). k, v: (B, heads, d, M).
    Returns the output (B, heads, d, N) and the weights (B, heads, N, M), which sum to 1 over the last axis.
    """
    ### BEGIN SOLUTION
    scores = q.transpose(-1, -2) @ k / math.sqrt(q.shape[-2])  # (B, heads, N, M)
    weights = scores.softmax(dim=-1)  # (B, heads, N, M)
    return v @ weights.transpose(-1, -2), weights  # (B, heads, d, N)
    ### END SOLUTION


# %% [markdown]
# Now the layer around it. One $1 \times 1$ convolution makes queries, keys and values together, $3C$ channels: first
# all of $q$, then all of $k$, then all of $v$. Each of them is split into heads of $d = C / \text{heads}$ channels in a
# row, so that one head can look for strokes and another for empty ground. The places are the $N = HW$ pixels of the
# map. At the end the heads are put together again, another $1 \times 1$ convolution mixes them, and what came in is
# added.
#
# Shapes: $(B, 3C, H, W) \to (B, 3, \text{heads}, d, HW)$, which is one `reshape`, since it only splits and merges axes
# that are neighbours. Back: $(B, \text{heads}, d, HW) \to (B, C, H, W)$.
#
# Call attention as `self.attend(q, k, v)`. It is the function above, kept as an attribute, so that we can later look
# over its shoulder. Your answer is checked with an `attend` of ours, so it does not matter here whether yours is done.


# %%
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
        ### BEGIN SOLUTION
        B, C, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, self.heads, C // self.heads, H * W).unbind(1)
        h, _ = self.attend(q, k, v)  # (B, heads, d, HW)
        return x + self.out(h.reshape(B, C, H, W))  # (B, C, H, W)
        ### END SOLUTION


# %% [markdown]
# Attention compares every place with every other: $N^2$ weights per head. At $7 \times 7$ that is $49^2 = 2401$, at
# $14 \times 14$ it would be $196^2 = 38\,416$. This is why it is used on the lowest floor only, where it also makes
# most sense: a place there stands for a part of a stroke and not for a single pixel.
#
# A residual block, with attention behind it or without, is one box of the drawing. We call it a stage. This is given.


# %%
class Stage(nn.Module):
    """A residual block, followed by self-attention where heads is not 0."""

    def __init__(self, in_channels, out_channels, time_channels, heads):
        super().__init__()
        self.res = ResBlock(in_channels, out_channels, time_channels)
        self.attn = SelfAttention(out_channels, heads) if heads else nn.Identity()

    def forward(self, x, emb):
        """x: (B, in_channels, H, W). emb: (B, time_channels). Returns (B, out_channels, H, W)."""
        return self.attn(self.res(x, emb))


# %% [markdown]
# ## Patches
#
# A floor of $28 \times 28$ at the same width would cost four times what $14 \times 14$ does. Digits are simple, so we
# save that floor. Each square of $2 \times 2$ pixels becomes one place with 4 channels. Nothing is lost, the numbers
# are only arranged in another way, and the network has a quarter of the places to visit. At the very end the squares
# are laid out as pixels again. Larger models do the same with larger patches, or learn a smaller picture first (that is
# lab 6).
#
# The order of the new channels: channel first, then the row inside the patch, then the column inside it. With $p$ the
# side of a patch, pixel $(rp + i,\ sp + j)$ of channel $c$ goes to channel $cp^2 + ip + j$ of place $(r, s)$.
#
# `reshape` alone cannot do it: it never changes the order of the numbers. Split $H$ into $H/p$ times $p$ and $W$ into
# $W/p$ times $p$, move the two axes of length $p$ with `permute`, then merge. PyTorch has this as `nn.PixelUnshuffle`,
# and the network below uses that one. Write it once yourself.


# %%
def patchify(x, patch):
    """Turn each square of patch by patch pixels into the channels of one place; what nn.PixelUnshuffle does.

    x: (B, C, H, W), H and W multiples of patch. patch: p. Returns (B, C p^2, H / p, W / p).
    """
    ### BEGIN SOLUTION
    B, C, H, W = x.shape
    x = x.reshape(B, C, H // patch, patch, W // patch, patch)
    x = x.permute(0, 1, 3, 5, 2, 4)  # (B, C, patch, patch, H / patch, W / patch)
    return x.reshape(B, C * patch * patch, H // patch, W // patch)
    ### END SOLUTION


# %%
with when_done():
    x_0, _ = digits(1)
    parts = patchify(x_0, 2)  # (1, 4, 14, 14)
    show(x_0, title="28 x 28 pixels", scale=1.8)
    names = ["upper left", "upper right", "lower left", "lower right"]
    show(parts.transpose(0, 1), titles=names, scale=1.4)
    back = nn.PixelShuffle(2)(parts)
    print("put back together, the digit is", "the same" if torch.equal(back, x_0) else "another")

# %% [markdown]
# ## Down and up
#
# Going down, a convolution with stride 2 visits every second place in each direction. Its output is half as high and
# half as wide: $(B, C, H, W) \to (B, C, H/2, W/2)$. Unlike pooling it learns how to summarise.


# %%
class Downsample(nn.Module):
    """Half the height and half the width, by a convolution with stride 2."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        """x: (B, C, H, W). Returns (B, C, H / 2, W / 2), rounded up where the size is odd."""
        ### BEGIN SOLUTION
        return self.conv(x)  # (B, C, H / 2, W / 2)
        ### END SOLUTION


# %% [markdown]
# Going up, every value is first repeated in a square of $2 \times 2$ (nearest-neighbour interpolation), and a
# convolution then smooths the result: $(B, C, H, W) \to (B, C, 2H, 2W)$. A transposed convolution could do it in one
# step, but where its kernels overlap unevenly it tends to leave a pattern like a chessboard.


# %%
class Upsample(nn.Module):
    """Twice the height and twice the width: repeat every value, then convolve."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        """x: (B, C, H, W). Returns (B, C, 2 H, 2 W)."""
        ### BEGIN SOLUTION
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))  # (B, C, 2 H, 2 W)
        ### END SOLUTION


# %% [markdown]
# **How deep can it go?** With the patches, 28 becomes 14, and one `Downsample` makes it 7. A third floor would make
# 4 of 7, since half of 7 is rounded up. On the way back, 4 becomes 8, and 8 does not fit the skip of size 7. A picture
# of 32 pixels goes 32, 16, 8, 4 and takes a third floor without complaint. In general, height and width must be
# multiples of $\text{patch} \cdot 2^{\text{floors} - 1}$.
#
# **How far does it see?** With the patches, one step on the upper floor is 2 pixels and one on the lower floor is 4. A
# $3 \times 3$ convolution widens the field of view by two steps: 4 pixels above, 8 pixels below. Along the way down:
# the stem sees 6 pixels, the first stage (two convolutions) 14, the `Downsample` 18, and the first stage below 34
# across, so a place in the middle sees all of it. But seeing is one thing and seeing well is another. In a pile of
# convolutions the centre counts most and the rim very little. Attention has no rim.
#
# ## The sum of widths
#
# On the way up each stage gets two maps, concatenated along the channels: what comes from below, and a skip. So its
# input is as wide as both together. To build the network one must know these widths beforehand.
#
# Going down, the network puts on a pile: the stem's output, then what each stage and each `Downsample` returns. With
# $L$ floors and $b$ stages on each, these are $1 + Lb + (L - 1) = L(b + 1)$ maps. Going up, each floor has $b + 1$
# stages, and each takes one map off the pile, the newest first. So the pile is empty exactly at the end.
#
# Work out the (in, out) pair of every stage on the way up. The first gets the lowest floor's width from the middle, and
# all stages of a floor return that floor's width. In the drawing above, with the pile $[64, 64, 64, 128]$ and the
# widths $[64, 128]$, the first pair is $(128 + 128, 128)$ and the last is $(64 + 64, 64)$. Do it with paper first; the
# constructor of the network further below does the same sum, so try it before you scroll.


# %%
def up_channels(skips, widths, blocks):
    """The input and output widths of every stage on the way up.

    skips: list of int, the widths on the pile, the oldest first; the list must stay as it is.
    widths: list of int, one per floor, the highest floor first. blocks: stages per floor on the way down.
    Returns a list of len(widths) * (blocks + 1) pairs (in, out), in the order in which the stages run.
    """
    ### BEGIN SOLUTION
    pile, width, pairs = list(skips), widths[-1], []
    for out in reversed(widths):
        for _ in range(blocks + 1):
            pairs.append((width + pile.pop(), out))
            width = out
    return pairs
    ### END SOLUTION


# %% [markdown]
# ## The U-Net
#
# The parts are complete. Two given pieces come first: the sinusoids as a module without parameters, and the function
# that makes the boxes of the drawing, in order.


# %%
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


# %% [markdown]
# Now the wiring, the heart of this lab:
#
# 1. The time: `self.embed(t)` gives the sinusoids, `self.time_mlp` makes the time vector of them.
# 2. The stem turns $x$ into features. They are the first entry of the pile.
# 3. Down: run each block of `self.down` and put what it returns on the pile. A `Stage` takes the features and the time
#    vector, a `Downsample` the features alone. `isinstance(block, Stage)` tells them apart.
# 4. The middle is a stage.
# 5. Up: a `Stage` gets the features and the newest skip, concatenated along the channels in this order, and the time
#    vector. An `Upsample` gets the features alone and takes nothing off the pile.
# 6. The head turns the features back into an image.
#
# Shapes with the defaults: $x$ $(B, 1, 28, 28)$, after the stem $(B, 64, 14, 14)$, in the middle $(B, 128, 7, 7)$,
# before the head $(B, 64, 14, 14)$, at the end $(B, 1, 28, 28)$.


# %%
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
        ### BEGIN SOLUTION
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
        ### END SOLUTION


# %% [markdown]
# ## The shape at every floor
#
# The next cell listens to every block while an image passes through. Compare the table with the drawing at the top.

# %%
with when_done():
    net = UNet()
    seen = []

    def listen(name):
        return lambda block, inputs, output: seen.append((name, type(block).__name__, inputs[0].shape, output.shape))

    named = [("stem", net.stem), *((f"down.{i}", b) for i, b in enumerate(net.down)), ("middle", net.middle)]
    named += [*((f"up.{i}", b) for i, b in enumerate(net.up)), ("head", net.head)]
    listeners = [block.register_forward_hook(listen(name)) for name, block in named]
    net(torch.randn(1, 1, 28, 28), torch.tensor([500]))
    for listener in listeners:
        listener.remove()
    print(f"{'block':8s} {'kind':12s} {'in: C, H, W':>16s}   {'out: C, H, W':>16s}")
    for name, kind, before, after in seen:
        print(f"{name:8s} {kind:12s} {tuple(before[1:])!s:>16s}   {tuple(after[1:])!s:>16s}")

# %% [markdown]
# And what does not fit is refused in a sentence, before some `cat` deep inside stumbles over 7 and 8. Change the
# numbers and try.

# %%
for size, multipliers, channels in ((28, (1, 2, 2), 64), (28, (1, 2), 100)):
    try:
        UNet(channels=channels, multipliers=multipliers)(torch.zeros(1, 1, size, size), torch.zeros(1))
    except ValueError as error:
        print(f"size {size}, multipliers {multipliers}, channels {channels}: {error}")
draw_unet(multipliers=(1, 2, 2), size=32)

# %% [markdown]
# ## Two predictions
#
# **Predict before you run.** The upper floor has $14 \times 14$ places and 64 channels, the lower one $7 \times 7$
# places and 128 channels. There are three stages above and four below, the middle one among them. Which floor holds
# most of the parameters? Return `"14 x 14"`, `"7 x 7"` or `"equal"` (that is, within a fifth of each other).


# %%
def predict_most_parameters():
    """Return "14 x 14", "7 x 7" or "equal"."""
    ### BEGIN SOLUTION
    return "7 x 7"
    ### END SOLUTION


# %%
def size_of(*modules):
    """The number of parameters."""
    return sum(p.numel() for module in modules for p in module.parameters())


def work_of(places, *modules):
    """The multiplications of all convolutions for one image, when each runs at so many places."""
    convolutions = [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    return sum(layer.weight.numel() * places for layer in convolutions)


net = UNet()
upper = [net.stem, net.down[0], *net.up[2:], net.head]  # whatever returns 14 x 14 places, and the head
lower = [*net.down[1:], net.middle, *net.up[:2]]  # whatever returns 7 x 7 places
bars = {
    "parameters": (size_of(net.time_mlp), size_of(*upper), size_of(*lower)),
    "multiplications": (size_of(net.time_mlp), work_of(14 * 14, *upper), work_of(7 * 7, *lower)),
}
_, axes = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
for axis, (title, values) in zip(axes, bars.items(), strict=True):
    drawn = axis.bar(["time", "14 x 14", "7 x 7"], [value / 1e6 for value in values], color="#6699cc")
    axis.bar_label(drawn, fmt="%.2f")
    axis.set(title=title, ylabel="millions")
    axis.margins(y=0.15)
plt.show()
print(f"all together: {size_of(net):,} parameters")

# %% [markdown]
# A $3 \times 3$ convolution from $C$ to $C$ channels has $9C^2$ weights and uses each of them at every place. Going
# down, $C$ doubles, so there are four times as many weights, and a quarter as many places. So the weights gather at the
# bottom, while a convolution costs the same work on every floor. (In the right plot the bar of $14 \times 14$ is about
# a fifth higher, because the convolution of the `Upsample` runs above at the width of below. The products inside
# attention are not counted; at 49 places they are few.)
#
# **Predict before you run.** A fresh network, never trained, gets pure noise. What does it return: `"noise"`, the
# `"input"` itself or `"zero"`? Read the constructor first.


# %%
def predict_fresh_output():
    """Return "noise", "input" or "zero"."""
    ### BEGIN SOLUTION
    return "zero"
    ### END SOLUTION


# %%
with when_done():
    torch.manual_seed(0)
    x = torch.randn(6, 1, 28, 28)
    with torch.inference_mode():
        output = UNet()(x, torch.full((6,), 500))
    rows({"input": x, "output": output})
    print(f"the output lies between {output.min():g} and {output.max():g}")

# %% [markdown]
# The last convolution starts at zero. The first guess is 0 everywhere: exactly the mean if the target is the noise, and
# a harmless start for any other, not some arbitrary pattern that training would first have to unlearn. In the first
# step of training only this last layer gets a gradient. Once its weights have moved away from zero, the layers before
# it wake up too.
#
# ## Your network, trained
#
# `model.ckpt` holds weights for exactly this network, trained on MNIST with the cosine schedule of lab 1 and
# $T = 1000$. `fit` puts them into your layers, by name. If a name or a shape is not as it should be, it says which.
#
# This model does not predict the noise $\varepsilon$ but a mixture of noise and image, called $v$:
#
# $$v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1 - \bar\alpha_t}\,x_0 \qquad\Rightarrow\qquad
#   x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v$$
#
# Lab 3 derives it and says why. For now it is enough that the second formula turns what the network says into a clean
# image.

# %%
with when_done():
    abar = schedules.alphas_cumprod()  # (1000,)
    model = models.load_weights(UNet(), "model")

    def denoise(x_t, t, told=None):
        """The clean image that the network sees in x_t. told: the timestep that it is told, t unless given."""
        told = torch.full((len(x_t),), t if told is None else told)
        with torch.inference_mode():
            v = model(x_t, told)
        a = abar[told].reshape(-1, 1, 1, 1)
        return a.sqrt() * x_t - (1 - a).sqrt() * v

    clean = digits(5, train=False)[0][[0, 2, 3, 4]]
    torch.manual_seed(0)
    noise = torch.randn_like(clean)
    stops = [50, 200, 350, 500, 650, 800, 950]
    for i in (0, 3):
        image = clean[i : i + 1]
        noisy = [q_sample(image, abar[t].reshape(1, 1, 1, 1), noise[i : i + 1]) for t in stops]
        rows(
            {
                "clean": image.expand(len(stops), -1, -1, -1),
                "noisy": torch.cat(noisy),
                "denoised": torch.cat([denoise(x_t, t) for x_t, t in zip(noisy, stops, strict=True)]),
            },
            titles=[f"t = {t}" for t in stops],
        )

# %% [markdown]
# Every block that you wrote is at work here, in one call of the network per picture. While the noise is moderate the
# digit comes back nearly as it was. Later the network has to guess, and it may guess another digit. It was trained for
# the smallest squared error, and the best guess in that sense is the mean of all digits that could be under the noise.
# The more could be, the more the mean is a blur, and near the end it is close to the mean of all digits. This is why
# drawing a new digit takes many steps and not one. Lab 4 walks them.
#
# ## Experiments
#
# **Lying about the time.** All pictures below come from the same $x_t$ at $t = 400$. The network is told different
# timesteps. Drag the slider. What does it do when it believes there is less noise than there is? And more?

# %%
with when_done():
    x_t = q_sample(clean, abar[400].reshape(1, 1, 1, 1), noise)

    def lie(told):
        guess = denoise(x_t, 400, told)
        show(torch.cat([x_t, guess]), columns=8, title=f"noisy at t = 400, and denoised by a network told t = {told}")

    explore(lie, told=range(0, 1000, 25), still=(100, 400, 700))

# %% [markdown]
# **Who looks where.** Each place of the $7 \times 7$ map stands for a square of $4 \times 4$ pixels. The red frame is
# the place that asks, and the four pictures beside it show where each head of the middle stage looks: one row of the
# attention weights, over the clean digit. (To see them, the cell puts a function in place of `attend` that keeps the
# weights and passes everything on.) Move the red frame from a place with ink to an empty one. Which heads follow the
# stroke? Does any of them simply look at its neighbours, as a convolution would?

# %%
with when_done():
    layer, kept = model.middle.attn, []

    def attend_and_keep(q, k, v):
        output, weights = attention(q, k, v)
        kept.append(weights)
        return output, weights

    t = 300
    image = q_sample(clean[:1], abar[t].reshape(1, 1, 1, 1), noise[:1])
    layer.attend = attend_and_keep
    denoise(image, t)
    layer.attend = attention

    def look(place):
        row, column = divmod(place, 7)
        _, axes = plt.subplots(1, 5, figsize=(9, 2.1), layout="constrained")
        axes[0].imshow(image[0, 0], cmap="gray", vmin=-1, vmax=1)
        axes[0].add_patch(plt.Rectangle((4 * column - 0.5, 4 * row - 0.5), 4, 4, fill=False, edgecolor="red", lw=2))
        axes[0].set_title(f"place {place} asks", fontsize=9)
        for head, axis in enumerate(axes[1:]):
            axis.imshow(clean[0, 0], cmap="gray", vmin=-1, vmax=1)
            weights = kept[-1][0, head, place].reshape(7, 7)
            axis.imshow(weights, extent=(-0.5, 27.5, 27.5, -0.5), cmap="inferno", alpha=0.75, vmin=0)
            axis.set_title(f"head {head}, up to {weights.max():.2f}", fontsize=9)
        for axis in axes:
            axis.axis("off")
        plt.show()

    if kept:
        explore(look, place=range(49), still=(10, 24, 38))
    else:
        print("Your SelfAttention does not call self.attend, so there are no weights to look at.")

# %% [markdown]
# **Without the bridges.** What do the skips carry? The next cell cuts them, one floor at a time: where a stage expects
# its skip, it gets zeros. The curves show how far the network's $v$ is then from the true one. For comparison, a
# network that always answers 0 has an error of about 1 at small $t$. The pictures show the denoised digit.

# %%
with when_done():
    images = digits(48, train=False)[0]
    torch.manual_seed(1)
    their_noise = torch.randn_like(images)
    stops = list(range(20, 1000, 140))
    cuts = {"all skips": [], "upper floor cut": [3, 4], "lower floor cut": [0, 1]}
    errors, pictures = {}, {}

    def cut(width):
        """Set all but the first `width` channels of a stage's input to zero: what comes after them is the skip."""

        def hook(stage, inputs):
            h = inputs[0].clone()
            h[:, width:] = 0
            return h, inputs[1]

        return hook

    for name, stages in cuts.items():
        carried = {0: 128, 1: 128, 3: 128, 4: 64}  # the width that comes from below, see the table of shapes
        hooks = [model.up[i].register_forward_pre_hook(cut(carried[i])) for i in stages]
        errors[name], pictures[name] = [], []
        for t in stops:
            a = abar[t].reshape(1, 1, 1, 1)
            x_t = q_sample(images, a, their_noise)
            v = a.sqrt() * their_noise - (1 - a).sqrt() * images
            with torch.inference_mode():
                said = model(x_t, torch.full((len(x_t),), t))
            errors[name].append((said - v).square().mean().item())
            pictures[name].append((a.sqrt() * x_t - (1 - a).sqrt() * said)[:1])
        for hook in hooks:
            hook.remove()
    plt.figure(figsize=(6, 3), layout="constrained")
    for (name, values), line in zip(errors.items(), ("o-", "o-", "--"), strict=True):  # two of them nearly coincide
        plt.plot(stops, values, line, label=name)
    plt.gca().set(xlabel="t", ylabel="mean squared error of v")
    plt.grid(alpha=0.3)
    plt.legend()
    plt.show()
    rows({name: torch.cat(seven) for name, seven in pictures.items()}, titles=[f"t = {t}" for t in stops])

# %% [markdown]
# Without the skips of the upper floor, the error of $v$ is largest at small $t$ (the peak is near $t = 160$). At large
# $t$ it shrinks, though the picture there shows it more, because $v$ is multiplied by $\sqrt{1-\bar\alpha_t}$. The
# skips of the lower floor matter far less. (A warning: the network was trained with all its skips. One that was trained
# without them would do better than this one with its skips cut, so the curves exaggerate.)
#
# **The question.** Explain these results. What do the upper skips carry that the way through the lower floor cannot
# deliver? Why does losing them hurt the error of $v$ most at small $t$? (What is $v$ nearly equal to there?) And that
# error is large at $t = 20$, yet the picture in the first column looks fine. How can that be?

# %% [markdown] question="why_skip_connections"
# At small $t$, $\bar\alpha_t$ is near 1 and $v \approx \varepsilon$: another random number at every pixel. To give it
# back, the network must know each pixel's value at its exact place. The way through the lower floor has convolutions
# that learned to summarise: what digit this is, where its strokes run. Its $7 \times 7$ places cannot be trusted with
# single pixels. The upper skips carry the $14 \times 14$ features, with all pixels of each patch, past all that. At
# large $t$, $v \approx -x_0$, and of $x_0$ only the coarse shape can be guessed anyway, much of which the lower floor
# knows, so the error of $v$ shrinks. What is left of it shows in the picture, since the factor of $v$ is near 1.
# The lower skips bridge no change of size, and the residual sums carry the same features along, so little is lost with
# them. The picture at $t = 20$ looks fine because $x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v$ and the
# factor of $v$ is nearly 0 there: the answer is almost $x_t$ itself, which is almost clean.

# %% [markdown]
# ## Summary
#
# - Sinusoids of several frequencies show the time as a clock does, and a small network makes a vector of them that
#   every residual block adds to its features.
# - A residual block learns a correction to what comes in. Its norm looks at one image alone, and needs widths that are
#   multiples of the number of groups.
# - Attention compares all places with all places, with scores divided by $\sqrt d$ and a softmax over the keys. Its
#   cost grows with the square of the number of places, so it stays on the lowest floor.
# - Down: half the size, twice the width. Up: the same in reverse, and each stage gets the newest skip, concatenated.
#   Sizes must be multiples of $\text{patch} \cdot 2^{\text{floors} - 1}$.
# - The lower floor knows what is there. The skips know where exactly.
# - The last layer starts at zero, and so does the network's first guess.
#
# Lab 3 trains this network and asks what it should predict. Lab 4 uses it to draw.
#
# ## Further reading
#
# - O. Ronneberger, P. Fischer, T. Brox. *U-Net: Convolutional Networks for Biomedical Image Segmentation*. MICCAI 2015.
#   arXiv:1505.04597.
# - J. Ho, A. Jain, P. Abbeel. *Denoising Diffusion Probabilistic Models*. NeurIPS 2020. arXiv:2006.11239.
# - P. Dhariwal, A. Nichol. *Diffusion Models Beat GANs on Image Synthesis*. NeurIPS 2021. arXiv:2105.05233.
# - A. Vaswani, N. Shazeer, N. Parmar, J. Uszkoreit, L. Jones, A. Gomez, L. Kaiser, I. Polosukhin. *Attention Is All You
#   Need*. NeurIPS 2017. arXiv:1706.03762.
# - K. He, X. Zhang, S. Ren, J. Sun. *Deep Residual Learning for Image Recognition*. CVPR 2016. arXiv:1512.03385.
# - Y. Wu, K. He. *Group Normalization*. ECCV 2018. arXiv:1803.08494.
# - W. Shi and others. *Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
#   Neural Network*. CVPR 2016. arXiv:1609.05158. (The pixel shuffle.)
# - A. Odena, V. Dumoulin, C. Olah. *Deconvolution and Checkerboard Artifacts*. Distill, 2016.
# - W. Luo, Y. Li, R. Urtasun, R. Zemel. *Understanding the Effective Receptive Field in Deep Convolutional Neural
#   Networks*. NeurIPS 2016. arXiv:1701.04128.
