"""What lab5_guidance asks: labels and their dropout, guidance, precision and recall, rescaling, intervals."""

import math
import numbers
import zlib

import torch

from labdiff.exercises import Lab
from labdiff.exercises.draw import parameter_shapes
from labdiff.exercises.parts import batch_of_one, float64, noted, returned

LAB = Lab("lab5_guidance", "Guidance")


def _number(value):
    """A number as it is; None for the judge to explain. Raises TypeError for a tensor with more than one value."""
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        raise TypeError(f"a tensor of shape {tuple(value.shape)} came back, one number belongs there")
    return value.item() if isinstance(value, torch.Tensor) else value


def _filled(net, pool):
    """Fill every parameter from a pool of random values, at a place that depends on its name.

    What `given_weights` does, ten times as fast: it makes a random stream for each parameter.
    """
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            start = zlib.crc32(name.encode()) % 10_000
            values = pool[start : start + parameter.numel()].view(parameter.shape)
            fan_in = max(1, math.prod(parameter.shape[1:]))
            parameter.copy_(0.3 * values + name.endswith("weight") if parameter.dim() == 1 else values / fan_in**0.5)
    return net.eval()


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=lambda draw: {
        "x": draw.images(3),
        "t": draw.timesteps(3, 1000),
        "y": torch.cat([draw.integers(0, 2, 1), draw.integers(2, 4, 1), draw.integers(4, 6, 1)]),
        "wide": draw.images(3, 4, 12),
        "pool": draw.normal(20_000),
    },
    hints=(
        "Lab 2's UNet makes a vector of the time, emb, and hands it to every stage. What a stage should know besides "
        "must be in that vector.",
        "self.time_mlp(self.embed(t)) and self.label(y) have the same shape, (B, 4 channels). walk(self, x, emb) does "
        "the rest.",
        "return walk(self, x, self.time_mlp(self.embed(t)) + self.label(y))",
    ),
    rtol=1e-3,
)
def GuidedUNet(answer, x, t, y, wide, pool):
    """GuidedUNet(classes, channels, multipliers, ...)(x, t, y) -> the shape of x"""
    # with 8 channels each would be a group of its own, and GroupNorm would take the label away again
    small = {"channels": 16, "heads": 2, "multipliers": (1,)}

    def run(images, t, y, classes=6, **unet):
        net = answer(classes=classes, **{**small, **unet})
        if not hasattr(net, "label"):
            raise AttributeError("your class has no layer label; keep the given constructor")
        _filled(net.to(images.device), pool)
        with torch.no_grad():
            net.label.weight.mul_(4)  # so that a label weighs as much as the time
        return net(images, t, y)

    def fresh():
        net = answer(classes=6, **small)
        vectors = net.label.weight.detach().clone()
        _filled(net, pool)
        with torch.no_grad():
            net.label.weight.copy_(vectors)
        net.to(x.device)
        return net(x, t, y) - net(x, t, torch.full_like(y, 6))

    def names():
        net = _filled(answer(classes=6, **small).to(x.device), pool)
        net(x, t, y)
        return parameter_shapes(net)

    return {
        "three images, three labels": lambda: run(x, t, y, channels=8, multipliers=(1, 2)),
        "the null label": lambda: run(x, t, torch.full_like(y, 6)),
        "a batch of one": lambda: run(x[:1], t[:1], y[2:]),
        "images that are not square": lambda: run(wide, t, y),
        "three classes": lambda: run(x, t, y % 3, classes=3),
        "a new network makes no difference between labels": fresh,
        "the names of the parameters": names,
    }


@LAB.exercise(
    points=1,
    minutes=4,
    difficulty=1,
    # each half of u has values on both sides of each p
    inputs=lambda draw: {
        "y": draw.integers(0, 10, 12),
        "u": torch.cat([draw.uniform(4, low=0.02, high=0.28), draw.uniform(8, low=0.32, high=0.98)]).flip(0),
        "null": draw.integer(11, 20),
    },
    hints=(
        "Each label has its own u. With which probability is a uniform number below p?",
        "The mask u < p says which labels are dropped. torch.where(mask, a, b) takes a where it is true.",
        "return torch.where(u < p, null, y)",
    ),
)
def drop_labels(answer, y, u, null):
    """drop_labels(y, u, p, null) -> (B,), int64"""
    return {
        "p = 0.3": lambda: answer(y, u, 0.3, 10),
        "p = 0.6": lambda: answer(y, u, 0.6, 10),
        "another null label": lambda: answer(y, u, 0.3, null),
        "p = 0 drops none, not even where u = 0": lambda: answer(y, u * 0, 0.0, 10),
        "p = 1 drops all": lambda: answer(y, u, 1.0, 10),
        "a batch of one": lambda: answer(y[:1], u[-1:], 0.3, 10),
    }


@LAB.exercise(
    points=1,
    minutes=4,
    difficulty=1,
    inputs=lambda draw: {
        "noise": draw.uniform(40, 10, low=0, high=2),
        "read": draw.integers(0, 10, 40),
        "hit": draw.integers(14, 27, 1),
    },
    hints=(
        "Which digit does the judge read in an image? The one that it gives the largest probability.",
        "argmax over the classes gives what it reads, (N,). Compare with y, then take the mean of the comparison.",
        "return (probabilities.argmax(dim=1) == y).float().mean().item()",
    ),
)
def share_as_asked(answer, noise, read, hit):
    """share_as_asked(probabilities, y) -> a number from 0 to 1"""
    order = torch.arange(40, device=read.device)
    seen = torch.nn.functional.one_hot(read, 10) * 2.2  # more than any noise: the judge reads `read`
    sure, unsure = ((strength * (noise + seen)).softmax(dim=1) for strength in (1.0, 0.1))
    wrong = (read + 1 + order % 9) % 10
    some = torch.where((order * 7) % 40 < hit, read, wrong)

    def share(probabilities, y):
        return _number(answer(probabilities, y))

    def three():
        few = 1.5 * noise[:, :3] + torch.nn.functional.one_hot(read % 3, 3) * 3.2
        return share(few.softmax(dim=1), torch.where(order % 3 < 2, read % 3, (read + 1) % 3))

    return {
        "some of forty": lambda: share(sure, some),
        "all of them": lambda: share(sure, read),
        "none of them": lambda: share(sure, wrong),
        "a judge that is never sure": lambda: share(unsure, some),
        "three classes": three,
        "a batch of one": batch_of_one(share, sure, read),
    }


class _Told(torch.nn.Module):
    """A network of one weight per label that listens to the image, the time and the label."""

    def __init__(self, labels, like, precision=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(0.4, 1.3, labels).to(like))
        self.precision = precision

    def forward(self, x, t, y):
        time = (t.to(x.dtype) / 7).sin()[:, None, None, None]
        said = self.weight.to(x.dtype)[y][:, None, None, None] * (x + 0.3 * x.roll(1, -1) + 0.5 * time)
        return said.to(self.precision or x.dtype)


def _loss_inputs(draw):
    return {
        "x_0": draw.images(4),
        "y": torch.tensor([2, 5, 0, 3]).roll(draw.integer(0, 4)),
        "t": draw.timesteps(4, 12),
        "eps": draw.normal(4, 1, 8, 8),
        "alphas_cumprod": draw.uniform(12, low=0.15, high=0.9).sort(descending=True).values,
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=_loss_inputs,
    hints=(
        "It is lab 3's objective. Four things are needed: abar at each image's own t, the noisy image, what the "
        "network says, and what it should have said.",
        "abar_t = extract(alphas_cumprod, t, x_0), the noisy image from q_sample, the target from v_target. The only "
        "news is the third argument of model.",
        "abar_t = extract(alphas_cumprod, t, x_0); v = model(q_sample(x_0, abar_t, eps), t, y); "
        "return (v.float() - v_target(x_0, eps, abar_t)).square().mean()",
    ),
)
def guided_loss(answer, x_0, y, t, eps, alphas_cumprod):
    """guided_loss(model, x_0, y, t, eps, alphas_cumprod) -> scalar tensor, float32"""

    def run(rows=slice(None), columns=8, precision=None, louder=1.0):
        model = _Told(12, x_0, precision)
        with torch.no_grad():
            model.weight.mul_(louder)
        return answer(model, x_0[rows, :, :columns], y[rows], t[rows], eps[rows, :, :columns], alphas_cumprod)

    def gradient():
        model = _Told(12, x_0)
        loss = returned(answer(model, x_0, y, t, eps, alphas_cumprod))
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            raise TypeError("no gradient flows from the loss to the network: return the tensor, not a number")
        return torch.autograd.grad(loss, model.weight)[0]

    return {
        "four images": lambda: run(),
        "its gradient": gradient,
        "a batch of one": lambda: run(slice(1, 2)),
        "images that are not square": lambda: run(columns=5),
        "the first timestep": lambda: answer(_Told(12, x_0), x_0, y, t * 0, eps, alphas_cumprod),
        # a loss far above 1, of numbers that float16 does not have
        "a network that has blown up": lambda: run(louder=1e5),
        "a network that answers in bfloat16": lambda: [run(slice(i, i + 1), 1, torch.bfloat16) for i in range(4)],
    }


def _predictions(draw):
    return {
        "unconditional": draw.normal(3, 1, 8, 8),
        "conditional": draw.normal(3, 1, 8, 8) + 0.4,
        "abar_t": draw.uniform(3, 1, 1, 1, low=0.1, high=0.8),
        "scale": draw.number(2.2, 6.0),
        "flat": draw.normal(5, 2),
    }


@LAB.exercise(
    points=2,
    minutes=6,
    difficulty=2,
    inputs=_predictions,
    hints=(
        "Write Bayes' rule with logarithms and take the gradient. One of the three terms does not depend on x_t.",
        "The gradient of log p(x_t) is -eps / sqrt(1 - abar_t), with the unconditional eps; that of log p(x_t given y) "
        "has the conditional one. Subtract.",
        "return -(eps_conditional - eps_unconditional) / (1 - abar_t).sqrt()",
    ),
)
def label_gradient(answer, unconditional, conditional, abar_t, scale, flat):
    """label_gradient(eps_unconditional, eps_conditional, abar_t) -> the shape of eps_conditional"""
    wide = conditional[:, :, :3], unconditional[:, :, :3] * 0.7
    return {
        "a batch of images": lambda: answer(unconditional, conditional, abar_t),
        "a batch of one": batch_of_one(answer, unconditional, conditional, abar_t),
        "a label that says nothing": lambda: answer(conditional, conditional, abar_t),
        "images that are not square": lambda: answer(*wide, abar_t),
        "almost no noise": lambda: answer(unconditional, conditional, 1 - abar_t / 100),
        "float64": float64(answer, unconditional, conditional, abar_t),
    }


@LAB.exercise(
    points=1,
    minutes=4,
    difficulty=1,
    inputs=_predictions,
    hints=(
        "Begin at the unconditional prediction. Which arrow leads from there to the conditional one?",
        "The arrow is conditional - unconditional. At scale 0 stay where you are, at 1 go to its tip, at 2 twice as "
        "far.",
        "return unconditional + scale * (conditional - unconditional)",
    ),
)
def guide(answer, unconditional, conditional, abar_t, scale, flat):
    """guide(unconditional, conditional, scale) -> the shape of unconditional"""
    return {
        "a scale above 1": lambda: answer(unconditional, conditional, scale),
        "scale 1": lambda: answer(unconditional, conditional, 1.0),
        "scale 0": lambda: answer(unconditional, conditional, 0.0),
        "scale 0.5": lambda: answer(unconditional, conditional, 0.5),
        "a negative scale": lambda: answer(unconditional, conditional, -1.0),
        "scale 8, outside [-1, 1]": lambda: answer(unconditional, conditional, 8),
        "points instead of images": lambda: answer(flat, flat.flip(1), scale),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=lambda draw: {
        "x_t": draw.normal(3, 1, 8, 8),
        "t": draw.timesteps(3, 40) + 1,
        "y": torch.tensor([4, 1, 2]).roll(draw.integer(0, 3)),
    },
    hints=(
        "A batch may hold each image twice, once with the null label and once with its own. What comes out is cut in "
        "two again.",
        "torch.cat([x_t, x_t]) and torch.cat([t, t]); the labels are torch.cat([torch.full_like(y, null), y]). "
        ".chunk(2) cuts the answer into halves.",
        "labels = torch.cat([torch.full_like(y, null), y]); "
        "return model(torch.cat([x_t, x_t]), torch.cat([t, t]), labels).chunk(2)",
    ),
)
def both_predictions(answer, x_t, t, y):
    """both_predictions(model, x_t, t, y, null) -> unconditional (B, C, H, W), conditional (B, C, H, W)"""
    model = _Told(8, x_t)

    def pair(*given):
        said = returned(answer(*given))
        if isinstance(said, torch.Tensor) or len(said) != 2:
            raise TypeError("return two tensors: unconditional, conditional")
        return {"unconditional": said[0], "conditional": said[1]}

    def calls():
        batches: list[int] = []
        returned(answer(noted(model, batches, lambda x, t, y: len(x)), x_t, t, y, 5))
        return f"{len(batches)} call{'s' * (len(batches) != 1)}, of a batch of {', '.join(map(str, batches))}"

    colour = x_t.reshape(1, 3, 8, 8)
    return {
        "three images": lambda: pair(model, x_t, t, y, 5),
        "another null label": lambda: pair(model, x_t, t, y, 7),
        "how often the network is called": calls,
        "a batch of one": batch_of_one(pair, model, x_t, t, y, 5),
        "one image of three channels": lambda: pair(model, colour, t[:1], y[1:2], 6),
        "images that are not square": lambda: pair(model, x_t[:, :, :5], t, y, 5),
    }


LAB.prediction(
    "predict_scale_zero",
    ("sevens", "any digit", "anything but sevens"),
    (
        "Put scale = 0 into the formula of guidance. What is left?",
        "What is left is the unconditional prediction, the one with the null label. Which digits does it lead to?",
        "The label drops out altogether: the network draws as if nobody had asked for anything.",
    ),
)


def _cloud(draw):
    near, far = draw.normal(12, 5), 3 * draw.normal(6, 5) + 2
    return {
        "centres": torch.cat([near, far]),
        "points": torch.cat([draw.normal(10, 5) * 1.3, 2 * draw.normal(12, 5) + 1]),
        "radii": torch.cat([draw.uniform(12, low=0.9, high=1.9), draw.uniform(6, low=3.5, high=6.5)]),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=_cloud,
    hints=(
        "All distances first, an N by N table. In each row, one entry is the distance of a point to itself.",
        "torch.cdist(features, features) is the table. In a sorted row the 0 of the point itself comes first, so the "
        "k-th neighbour stands at index k.",
        "return torch.cdist(features, features).sort(dim=1).values[:, k]",
    ),
    rtol=1e-3,
)
def manifold_radii(answer, centres, points, radii):
    """manifold_radii(features, k) -> (N,)"""
    twins = torch.cat([centres[:5], centres[:1], points[:3]])
    return {
        "the third neighbour": lambda: answer(centres, 3),
        "the nearest neighbour": lambda: answer(centres, 1),
        "the farthest of all": lambda: answer(centres, len(centres) - 1),
        "two points in the same place": lambda: answer(twins, 1),
        "four points on a line": lambda: answer(centres[:4, :1], 2),
        "float64": float64(answer, points, 3),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=_cloud,
    hints=(
        "Think of a ball around each centre, with the radius of that centre. A point counts if at least one ball "
        "holds it.",
        "torch.cdist(points, centres) is (N, M). Compare with radii, which is one number per column, then ask any() "
        "along the centres.",
        "return (torch.cdist(points, centres) <= radii).any(dim=1).float().mean().item()",
    ),
)
def share_inside(answer, centres, points, radii):
    """share_inside(points, centres, radii) -> a number from 0 to 1"""
    # the edge of exactly one ball each: three of the points lie on it, to the last bit
    axis = torch.arange(8, device=points.device, dtype=points.dtype)[:, None] * 8
    edge = axis.expand(8, 5).clone()
    edge[:, 1:] = 0
    moved = edge.clone()
    moved[:3, 0] += 0.5
    moved[3:6, 0] += 0.75
    halves = torch.full_like(axis[:, 0], 0.5)
    # a point whose nearest centre has a small ball and whose second nearest a large one
    lonely = torch.stack([points[0], points[0] + 0.3, points[0] + 1])

    def share(points, centres, radii):
        return _number(answer(points, centres, radii))

    return {
        "a cloud among balls of many sizes": lambda: share(points, centres, radii),
        "fewer points than centres": lambda: share(points[:7], centres, radii),
        "more points than centres": lambda: share(points, centres[:9], radii[:9] * 1.4),
        "all inside": lambda: share(points, centres, radii * 0 + 100),
        "none inside": lambda: share(points, centres + 1000, radii),
        "a point on the edge is inside": lambda: share(moved, edge, halves),
        "inside a ball that is not the nearest": lambda: _number(
            answer(lonely[:1], lonely[1:], radii.new_tensor([0.1, 9.0]))
        ),
    }


LAB.prediction(
    "predict_large_scale",
    ("precision", "recall", "both"),
    (
        "Look at the digits of scale 1 and of scale 4: which doubtful ones disappear, and which variety?",
        "At a large scale every sample is a safe example of its class. Are safe examples inside the real cloud? Do "
        "they cover it?",
        "Safe examples lie inside, but they all look alike: large parts of the real cloud have no sample near them.",
    ),
)


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=lambda draw: {
        "conditional": draw.images(3) * draw.uniform(3, 1, 1, 1, low=0.3, high=0.9),
        "guided": 2.5 * draw.normal(3, 1, 8, 8) + 0.6,
        "colour": draw.normal(2, 3, 4, 4) * draw.uniform(2, 3, 1, 1, low=0.3, high=3),
        "rescale": draw.number(0.25, 0.45),
    },
    hints=(
        "One number per image: by how much too large is the deviation of the guided prediction? Then go only part of "
        "the way.",
        "ratio = conditional.std(dim=(1, 2, 3), keepdim=True) / guided.std(dim=(1, 2, 3), keepdim=True). "
        "ratio * guided is fully rescaled; mix it with guided.",
        "return rescale * (ratio * guided) + (1 - rescale) * guided",
    ),
)
def rescale_guidance(answer, conditional, guided, colour, rescale):
    """rescale_guidance(guided, conditional, rescale) -> the shape of guided"""
    return {
        "a part of the way": lambda: answer(guided, conditional, rescale),
        "rescale = 1": lambda: answer(guided, conditional, 1.0),
        "rescale = 0 changes nothing": lambda: answer(guided, conditional, 0.0),
        "a batch of one": batch_of_one(answer, guided, conditional, 0.7),
        "images of three channels": lambda: answer(2 * colour.flip(1) + colour, colour, 0.7),
        "images that are not square": lambda: answer(guided[:, :, :3], conditional[:, :, :3], 0.7),
        "float64": float64(answer, guided, conditional, rescale),
    }


@LAB.exercise(
    points=3,
    minutes=10,
    difficulty=3,
    inputs=lambda draw: {
        "gap": draw.uniform(12, low=0.1, high=2.0),
        "snr": torch.exp(3 * draw.normal(12)).sort(descending=True).values,
        "odd": draw.integers(0, 2, 12),
    },
    hints=(
        "An area under a curve, from trapezoids. What stands on the horizontal axis, and what on the vertical one?",
        "Horizontal: ln SNR. Vertical: SNR times the gap. torch.trapezoid(height, place) adds the trapezoids, with a "
        "minus sign where the places fall. Half of the area is the answer.",
        "return -0.5 * torch.trapezoid(snr * gap, snr.log()).item()",
    ),
)
def label_information(answer, gap, snr, odd):
    """label_information(gap, snr) -> a number, in nats"""

    def information(gap, snr):
        return _number(answer(gap, snr))

    return {
        "twelve noise levels": lambda: information(gap, snr),
        "two noise levels": lambda: information(gap[:2], snr[4:6]),
        "no gap": lambda: information(gap * 0, snr),
        "the same information at each level": lambda: information(1 / snr, snr),
        "a gap that is negative in places": lambda: information(gap * (1 - 2 * odd) - 0.3, snr),
        "float64": float64(information, gap, snr),
    }


def _interval(draw):
    low = draw.integer(100, 400)
    return {"low": low, "high": low + draw.integer(50, 400), "scale": draw.number(2.0, 9.0)}


@LAB.exercise(
    points=1,
    minutes=3,
    difficulty=1,
    inputs=lambda draw: _interval(draw) | {"device": draw.normal(1)},
    hints=(
        "Inside the interval the scale is what was asked for. Which scale means conditional drawing without guidance?",
        "Without guidance is scale 1, not 0. Both ends belong to the interval.",
        "return scale if low <= t <= high else 1.0",
    ),
)
def scale_at(answer, low, high, scale, device):
    """scale_at(t, scale, low, high) -> a number"""

    def at(*times):
        said = [answer(t, scale, low, high) for t in times]
        for value in said:
            if value is not None and not isinstance(value, numbers.Real):
                raise TypeError(f"a value of type {type(value).__name__} came back, a number belongs there")
        return None if any(value is None for value in said) else [float(value) for value in said]

    return {
        "below, inside, above": lambda: at(low - 40, (low + high) // 2, high + 40),
        "the two ends": lambda: at(low, high),
        "just outside": lambda: at(low - 1, high + 1),
        "the first and the last timestep": lambda: at(0, 999),
    }


LAB.written("why_guidance_costs_variety", points=2)
