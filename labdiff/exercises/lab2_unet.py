"""What lab2_unet asks: the time embedding, the blocks and the wiring of the U-Net."""

import torch
import torch.nn.functional as F

from labdiff.exercises import Lab
from labdiff.exercises.draw import given_weights, parameter_shapes
from labdiff.exercises.parts import (
    attend,
    attend_doubled,
    batch_of_one,
    float64,
    mix,
    names_of_parameters,
    with_layers,
)

LAB = Lab("lab2_unet", "The U-Net")


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=lambda draw: {"t": draw.timesteps(3, 1000)},
    hints=(
        "Every frequency meets every timestep: a column of timesteps times a row of frequencies gives all angles.",
        "frequencies = torch.exp(-math.log(10_000) * torch.arange(half) / half), and t[:, None] * frequencies has the "
        "shape (B, half). Make the frequencies on t.device.",
        "angles = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half); "
        "return torch.cat([angles.sin(), angles.cos()], dim=1)",
    ),
    rtol=1e-3,  # an angle of 1000 in float32 is known to 6e-5
)
def timestep_embedding(answer, t):
    """timestep_embedding(t, dim) -> (B, dim)"""

    def device():
        try:
            return answer(t.to("meta"), 8).device.type
        except (RuntimeError, TypeError) as error:
            if any(text in str(error) for text in ("no data", "item()", "to numpy")):
                return "meta"  # an answer that reads the timesteps one by one: this device holds no values
            raise

    return {
        "whole timesteps": lambda: answer(t, 8),
        "a batch of one": batch_of_one(answer, t, 8),
        "t = 0": lambda: answer(t * 0, 8),
        "timesteps that are not whole": lambda: answer(t.float() + 0.3, 8),
        "another dim": lambda: answer(t, 12),
        "the device of t": device,
    }


def _run(module, seed, *inputs):
    """Give a module known weights, put it where the inputs are, and call it."""
    return given_weights(module, seed).to(inputs[0].device)(*inputs)


def _fresh(module, last, seed, *inputs):
    """What a new module returns, with known weights everywhere but in its last layer.

    Whatever in the last layer does not start at zero is made 1, so that the outcome hangs on no random number.
    """
    start = [(p != 0).to(p) for p in getattr(with_layers(module, last), last).parameters()]
    given_weights(module, seed)
    with torch.no_grad():
        for parameter, value in zip(getattr(module, last).parameters(), start, strict=True):
            parameter.copy_(value)
    return module.to(inputs[0].device)(*inputs)


@LAB.exercise(
    points=1,
    minutes=3,
    difficulty=1,
    inputs=lambda draw: {"embedding": draw.normal(3, 6), "seed": draw.seed()},
    hints=(
        "Three things in a row: a linear layer, a nonlinearity, a linear layer.",
        "The nonlinearity is F.silu, and it stands between the two layers only.",
        "return self.linear2(F.silu(self.linear1(embedding)))",
    ),
)
def TimeMLP(answer, embedding, seed):
    """TimeMLP(dim, out_channels)(embedding) -> (B, out_channels)"""

    def run(embedding):
        return _run(with_layers(answer(6, 10), "linear1", "linear2"), seed, embedding)

    return {
        "a batch": lambda: run(embedding),
        "a batch of one": batch_of_one(run, embedding),
        "the names of the parameters": lambda: names_of_parameters(answer(6, 10), seed, embedding),
    }


@LAB.exercise(
    points=3,
    minutes=10,
    difficulty=2,
    inputs=lambda draw: {"x": draw.normal(2, 4, 4, 4), "emb": draw.normal(2, 10), "seed": draw.seed()},
    hints=(
        "The main path is norm, SiLU, conv, twice. Between the two halves comes the time. What must be added at the "
        "very end, so that this is a residual block?",
        "self.time(F.silu(emb)) is (B, out): give it two axes with [:, :, None, None] and add it after conv1. At the "
        "end return self.skip(x) + h.",
        "h = self.conv1(F.silu(self.norm1(x))); h = h + self.time(F.silu(emb))[:, :, None, None]; "
        "h = self.conv2(F.silu(self.norm2(h))); return self.skip(x) + h",
    ),
)
def ResBlock(answer, x, emb, seed):
    """ResBlock(in_channels, out_channels, time_channels, groups)(x, emb) -> (B, out_channels, H, W)"""
    wide = torch.cat([x, x.flip(-1) * 0.5], dim=-1)[..., :3, :]
    layers = ("norm1", "conv1", "time", "norm2", "conv2", "skip")

    def run(images, emb, out, layers=()):
        return _run(with_layers(answer(4, out, 10, groups=2), *layers), seed, images, emb)

    return {
        "more channels out than in": lambda: run(x, emb, 6, layers),
        "as many channels out as in": lambda: run(x, emb, 4),
        "a batch of one": batch_of_one(run, x, emb, 6),
        "images that are not square": lambda: run(wide, emb, 4),
        "the names of the parameters": lambda: names_of_parameters(answer(4, 6, 10, groups=2), seed, x, emb),
        "a fresh block passes on skip(x)": lambda: _fresh(answer(4, 4, 10, groups=2), "conv2", seed, x, emb),
    }


def _attention_inputs(draw):
    return {
        "q": draw.normal(2, 2, 4, 5),
        "k": draw.normal(2, 2, 4, 5),
        "v": draw.normal(2, 2, 4, 5),
        "more_k": draw.normal(2, 2, 4, 7),
        "more_v": draw.normal(2, 2, 4, 7),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=_attention_inputs,
    hints=(
        "First the scores: every query's dot product with every key, so (B, heads, N, M). Then each query's scores "
        "become weights that sum to 1.",
        "scores = q.transpose(-1, -2) @ k / math.sqrt(d). The softmax runs over the keys, the last axis. The output "
        "needs v times the weights, summed over the keys.",
        "weights = (q.transpose(-1, -2) @ k / math.sqrt(q.shape[-2])).softmax(dim=-1); "
        "return v @ weights.transpose(-1, -2), weights",
    ),
    rtol=1e-3,
)
def attention(answer, q, k, v, more_k, more_v):
    """attention(q, k, v) -> output (B, heads, d, N), weights (B, heads, N, M)"""
    return {
        "two heads": lambda: answer(q, k, v),
        "a batch of one": batch_of_one(answer, q, k, v),
        "more keys than queries": lambda: answer(q, more_k, more_v),
        "large scores": lambda: answer(10 * q, 10 * k, v),
        "float64": float64(answer, q, k, v),
    }


@LAB.exercise(
    points=3,
    minutes=12,
    difficulty=3,
    inputs=lambda draw: {"x": draw.normal(2, 8, 3, 4), "seed": draw.seed()},
    hints=(
        "qkv(norm(x)) holds q, k and v one after the other, and each of them holds its heads one after the other. One "
        "reshape can show that: which axes does 3 * C split into?",
        "self.qkv(self.norm(x)).reshape(B, 3, self.heads, C // self.heads, H * W).unbind(1) gives q, k and v, each "
        "(B, heads, d, N). self.attend returns two things: you need the first here.",
        "h, _ = self.attend(q, k, v); return x + self.out(h.reshape(B, C, H, W))",
    ),
)
def SelfAttention(answer, x, seed):
    """SelfAttention(channels, heads, groups)(x) -> the shape of x"""

    def fresh():
        module = answer(8, heads=2, groups=2)
        module.attend = attend
        return _fresh(module, "out", seed, x)

    def run(images, heads, names=False, attend=attend):
        module = with_layers(answer(8, heads=heads, groups=2), "norm", "qkv", "out")
        module = given_weights(module, seed).to(images.device)
        module.attend = attend
        output = module(images)
        return parameter_shapes(module) if names else output

    return {
        "two heads": lambda: run(x, 2),
        "a batch of one": batch_of_one(run, x, 2),
        "a single head": lambda: run(x, 1),
        "four heads, a single pixel": lambda: run(x[..., :1, :1], 4),
        "another function as self.attend": lambda: run(x, 2, attend=attend_doubled),
        "a fresh layer passes on x": fresh,
        "the names of the parameters": lambda: run(x, 2, names=True),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=lambda draw: {"x": draw.normal(2, 1, 4, 6), "colour": draw.normal(2, 3, 6, 6)},
    hints=(
        "Write the rows as H / p times p and the columns as W / p times p. Then the two axes of length p move to the "
        "channels.",
        "x.reshape(B, C, H // p, p, W // p, p) has the axes batch, channel, patch row, row inside, patch column, "
        "column inside. Bring them with permute into the order batch, channel, row inside, column inside, patch row, "
        "patch column.",
        "x = x.reshape(B, C, H // p, p, W // p, p).permute(0, 1, 3, 5, 2, 4); "
        "return x.reshape(B, C * p * p, H // p, W // p)",
    ),
)
def patchify(answer, x, colour):
    """patchify(x, patch) -> (B, C patch^2, H / patch, W / patch)"""
    return {
        "patches of 2 by 2": lambda: answer(x, 2),
        "a batch of one": batch_of_one(answer, x, 2),
        "colour images, patches of 3 by 3": lambda: answer(colour, 3),
        "patches of one pixel": lambda: answer(x, 1),
    }


def _resample_inputs(draw):
    return {"x": draw.normal(2, 3, 4, 6), "odd": draw.normal(1, 3, 7, 5), "seed": draw.seed()}


@LAB.exercise(
    points=1,
    minutes=2,
    difficulty=1,
    inputs=_resample_inputs,
    hints=(
        "The layer made in __init__ already does all of it.",
        "Its stride is 2, so its output is half as high and half as wide.",
        "return self.conv(x)",
    ),
)
def Downsample(answer, x, odd, seed):
    """Downsample(channels)(x) -> (B, C, H / 2, W / 2)"""
    return {
        "a batch of images": lambda: _run(answer(3), seed, x),
        "a batch of one": lambda: _run(answer(3), seed, x[:1]),
        "an odd size": lambda: _run(answer(3), seed, odd),
    }


@LAB.exercise(
    points=1,
    minutes=4,
    difficulty=1,
    inputs=_resample_inputs,
    hints=(
        "Two steps: first make the map twice as large by repeating every value, then smooth it with the layer.",
        'F.interpolate(x, scale_factor=2, mode="nearest") repeats every value in a square of 2 by 2.',
        'return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))',
    ),
)
def Upsample(answer, x, odd, seed):
    """Upsample(channels)(x) -> (B, C, 2 H, 2 W)"""
    return {
        "a batch of images": lambda: _run(answer(3), seed, x[..., :3, :4]),
        "a batch of one": lambda: _run(answer(3), seed, x[:1, :, :2]),
        "an odd size": lambda: _run(answer(3), seed, odd[..., :3, :]),
    }


def _widths(draw, floors, blocks):
    """Widths that no configuration gives, and as many skips as such a network has."""
    widths = [int(w) for w in draw.integers(2, 60, floors)]
    skips = [int(w) for w in draw.integers(2, 60, floors * (blocks + 1))]
    return skips, widths


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=lambda draw: {
        "two": _widths(draw, 2, 1),
        "deep": _widths(draw, 3, 1),
        "long": _widths(draw, 2, 2),
        "flat": _widths(draw, 1, 1),
    },
    hints=(
        "Walk up the floors with two things in hand: the width of what you carry, and the pile of skips. What does "
        "concatenation do to widths?",
        "Begin with the width of the lowest floor. For each floor from the lowest, blocks + 1 times: take the last "
        "skip off a copy of the pile, note (width + skip, widths[floor]), and carry widths[floor] on.",
        "outs = [width for width in reversed(widths) for _ in range(blocks + 1)]; carried = [widths[-1], *outs[:-1]]; "
        "return [(below + skip, out) for below, skip, out in zip(carried, reversed(skips), outs)]",
    ),
)
def up_channels(answer, two, deep, long, flat):
    """up_channels(skips, widths, blocks) -> list of (in, out)"""

    def run(given, blocks):
        pairs = answer(given[0], given[1], blocks)
        if hasattr(pairs, "__next__"):
            raise TypeError(f"the answer returned a {type(pairs).__name__}: a list belongs there, list(...) makes one")
        return pairs

    return {
        "two floors": lambda: run(two, 1),
        "three floors": lambda: run(deep, 1),
        "two stages per floor": lambda: run(long, 2),
        "a single floor": lambda: run(flat, 1),
    }


def _toy_block(place, out):
    def forward(x, emb):
        time = emb.reshape(len(x), -1, 1, 1).to(x)  # even where it is not what it should be
        return torch.tanh(mix(place, x, out) + mix(f"{place} time", time, out))

    return forward


def _toy_resize(place, enlarge):
    def forward(x):  # the features alone: an answer that gives the time too must fail
        resized = x.repeat_interleave(2, -1).repeat_interleave(2, -2) if enlarge else x[..., ::2, ::2]
        return mix(place, resized, x.shape[1])

    forward.__qualname__ = ("Upsample" if enlarge else "Downsample") + ".forward"  # what the error will say
    return forward


def _with_toys(net, in_channels, patch, channels):
    """Put known functions in place of what the blocks compute, so that only the wiring is tried.

    The blocks themselves stay, so an answer may ask of which class they are.
    """

    def sinusoid(t):  # the real one, since an answer may well call timestep_embedding itself
        angles = t[:, None] * 10_000 ** -(torch.arange(channels // 2, device=t.device) / (channels // 2))
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (B, channels)

    net.embed.forward = sinusoid
    net.time_mlp.forward = lambda e: torch.tanh(mix("time", e[:, :, None, None], 4 * channels)).flatten(1)
    net.stem.forward = lambda x: mix("stem", F.pixel_unshuffle(x, patch), channels)
    net.head.forward = lambda h: F.pixel_shuffle(mix("head", h, in_channels * patch**2), patch)
    places = [(f"down {i}", b) for i, b in enumerate(net.down)] + [(f"up {i}", b) for i, b in enumerate(net.up)]
    for place, block in [*places, ("middle", net.middle)]:
        if hasattr(block, "res"):
            block.res.forward = _toy_block(place, block.res.conv1.out_channels)
            block.attn.forward = lambda h: h
        else:
            block.forward = _toy_resize(place, enlarge=place.startswith("up"))
    return net


@LAB.exercise(
    points=4,
    minutes=15,
    difficulty=3,
    inputs=lambda draw: {
        "x": draw.images(2),
        "t": draw.timesteps(2, 1000),
        "wide": draw.images(2, 4, 12),
        "colour": draw.images(2, 4, 4, channels=3),
    },
    hints=(
        "Time first, then the stem, then down, middle, up and head. Keep a list: everything on the way down is put on "
        "it, the stem's output too, and every Stage on the way up takes one off.",
        "Down: h = block(h, emb) if isinstance(block, Stage) else block(h), then skips.append(h). Up: a Stage gets "
        "torch.cat([h, skips.pop()], dim=1) and emb, an Upsample gets h alone.",
        "emb = self.time_mlp(self.embed(t)); h = self.stem(x); skips = [h]; then the loop over self.down; "
        "h = self.middle(h, emb); then the loop over self.up; return self.head(h)",
    ),
    rtol=1e-3,
)
def UNet(answer, x, t, wide, colour):
    """UNet(in_channels, channels, multipliers, blocks, heads, patch)(x, t) -> the shape of x"""

    def run(images, t, in_channels=1, channels=8, patch=2, multipliers=(1, 2), blocks=1):
        net = answer(
            in_channels=in_channels, channels=channels, multipliers=multipliers, blocks=blocks, heads=2, patch=patch
        )
        return _with_toys(net.eval().to(images.device), in_channels, patch, channels)(images, t)

    return {
        "two floors": lambda: run(x, t),
        "a single floor": lambda: run(x, t, multipliers=(1,)),
        "a batch of one": batch_of_one(run, x, t),
        "three floors": lambda: run(x, t, multipliers=(1, 2, 3)),
        "two stages per floor": lambda: run(x, t, blocks=2),
        "images that are not square": lambda: run(wide, t),
        "colour images without patches": lambda: run(colour, t, in_channels=3, patch=1),
    }


LAB.prediction(
    "predict_most_parameters",
    ("14 x 14", "7 x 7", "equal"),
    (
        "A 3 by 3 convolution from C to C channels has 9 C^2 weights. What happens to C on the way down?",
        "The size of the map is not in the number of weights at all. Twice the width means four times the weights.",
        'Return "7 x 7".',
    ),
)

LAB.prediction(
    "predict_fresh_output",
    ("noise", "input", "zero"),
    (
        "Look at the last lines of the constructor: what happens to the last convolution?",
        "Its weights and its bias are set to zero. What does such a layer return, whatever comes in?",
        'Return "zero".',
    ),
)

LAB.written("why_skip_connections", points=2)
