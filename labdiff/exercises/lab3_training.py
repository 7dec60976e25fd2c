"""What lab3_training asks: the targets and their conversions, the loss, one training step, EMA, the loop."""

import numbers

import torch
from torch import nn

from labdiff.exercises import Lab
from labdiff.exercises.draw import given_weights
from labdiff.exercises.parts import batch_of_one, float64, returned

LAB = Lab("lab3_training", "Training")


def _pair(draw):
    """Two images' worth of values and one abar per image; `wide` and `wide_other` are not square."""
    return {
        "x_t": draw.normal(3, 1, 8, 8),
        "other": draw.normal(3, 1, 8, 8),
        "abar_t": draw.uniform(3, 1, 1, 1, low=0.1, high=0.9),
        "wide": draw.normal(2, 1, 6, 32),
        "wide_other": draw.normal(2, 1, 6, 32),
    }


def _common(answer, x_t, other, abar_t, wide, wide_other):
    """The parts that every conversion between the targets has."""
    return {
        "a batch of images": lambda: answer(x_t, other, abar_t),
        "a batch of one": batch_of_one(answer, x_t, other, abar_t),
        "images that are not square": lambda: answer(wide, wide_other, abar_t[:2]),
        "float64 images": float64(answer, x_t[:1], other[:1], abar_t[:1]),
    }


@LAB.exercise(
    points=2,
    minutes=5,
    difficulty=1,
    inputs=_pair,
    hints=(
        "Start from x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps and solve for x_0. What do you do first?",
        "First subtract sqrt(1 - abar) eps from x_t, then divide the whole difference by sqrt(abar).",
        "return (x_t - (1 - abar_t).sqrt() * eps) / abar_t.sqrt()",
    ),
)
def x0_from_eps(answer, x_t, other, abar_t, wide, wide_other):
    """x0_from_eps(x_t, eps, abar_t) -> x_0, the shape of x_t"""
    return {
        **_common(answer, x_t, other, abar_t, wide, wide_other),
        "nearly pure noise (abar_t = 0.0064)": lambda: answer(x_t, other, abar_t * 0 + 0.0064),
    }


@LAB.exercise(
    points=1,
    minutes=3,
    difficulty=1,
    inputs=_pair,
    hints=(
        "The same equation as before, now solved for eps.",
        "Subtract sqrt(abar) x_0 from x_t. What is left is the noise times its standard deviation.",
        "return (x_t - abar_t.sqrt() * x_0) / (1 - abar_t).sqrt()",
    ),
)
def eps_from_x0(answer, x_t, other, abar_t, wide, wide_other):
    """eps_from_x0(x_t, x_0, abar_t) -> eps, the shape of x_t"""
    return {
        **_common(answer, x_t, other, abar_t, wide, wide_other),
        "little noise (abar_t = 0.95)": lambda: answer(x_t, other, abar_t * 0 + 0.95),
    }


@LAB.exercise(
    points=2,
    minutes=4,
    difficulty=1,
    inputs=_pair,
    hints=(
        "v is a difference: a share of the noise minus a share of the image. Which share is large when the image is "
        "nearly clean?",
        "The noise gets sqrt(abar), the image gets sqrt(1 - abar): the two factors of x_t, swapped.",
        "return abar_t.sqrt() * eps - (1 - abar_t).sqrt() * x_0",
    ),
)
def v_target(answer, x_t, other, abar_t, wide, wide_other):
    """v_target(x_0, eps, abar_t) -> v, the shape of x_0"""
    return {
        **_common(answer, x_t, other, abar_t, wide, wide_other),
        "a clean image (abar_t = 1): v is eps": lambda: answer(x_t, other, abar_t * 0 + 1),
        "pure noise (abar_t = 0): v is -x_0": lambda: answer(x_t, other, abar_t * 0),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=_pair,
    hints=(
        "Write c = sqrt(abar) and s = sqrt(1 - abar), so that c^2 + s^2 = 1. You have x_t = c x_0 + s eps and "
        "v = c eps - s x_0. Combine them so that eps drops out.",
        "Multiply x_t by c and v by s, then subtract: c x_t - s v = (c^2 + s^2) x_0.",
        "return abar_t.sqrt() * x_t - (1 - abar_t).sqrt() * v",
    ),
)
def x0_from_v(answer, x_t, other, abar_t, wide, wide_other):
    """x0_from_v(x_t, v, abar_t) -> x_0, the shape of x_t"""
    return {
        **_common(answer, x_t, other, abar_t, wide, wide_other),
        "much noise (abar_t = 0.05)": lambda: answer(x_t, other, abar_t * 0 + 0.05),
    }


@LAB.exercise(
    points=2,
    minutes=4,
    difficulty=2,
    inputs=_pair,
    hints=(
        "As in the exercise before, but now x_0 must drop out of x_t = c x_0 + s eps and v = c eps - s x_0.",
        "Multiply x_t by s and v by c, then add: s x_t + c v = (s^2 + c^2) eps.",
        "return (1 - abar_t).sqrt() * x_t + abar_t.sqrt() * v",
    ),
)
def eps_from_v(answer, x_t, other, abar_t, wide, wide_other):
    """eps_from_v(x_t, v, abar_t) -> eps, the shape of x_t"""
    return {
        **_common(answer, x_t, other, abar_t, wide, wide_other),
        "little noise (abar_t = 0.95)": lambda: answer(x_t, other, abar_t * 0 + 0.95),
    }


def _step_back(draw):
    beta_t = draw.uniform(3, 1, 1, 1, low=0.1, high=0.6)
    return {
        "x_t": draw.normal(3, 1, 8, 8),
        "eps": draw.normal(3, 1, 8, 8),
        "beta_t": beta_t,
        "abar_t": (1 - beta_t) * draw.uniform(3, 1, 1, 1, low=0.2, high=0.9),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=_step_back,
    hints=(
        "The step takes a share of the noise away from x_t and then undoes the shrinking of this one step.",
        "The share is beta_t / sqrt(1 - abar_t). One step shrinks by sqrt(alpha_t), with alpha_t = 1 - beta_t.",
        "return (x_t - beta_t / (1 - abar_t).sqrt() * eps) / (1 - beta_t).sqrt()",
    ),
)
def x_prev_from_eps(answer, x_t, eps, beta_t, abar_t):
    """x_prev_from_eps(x_t, eps, beta_t, abar_t) -> the posterior mean, the shape of x_t"""
    return {
        "a batch of images": lambda: answer(x_t, eps, beta_t, abar_t),
        "a batch of one": batch_of_one(answer, x_t, eps, beta_t, abar_t),
        "the first step (abar_t = 1 - beta_t)": lambda: answer(x_t, eps, beta_t, 1 - beta_t),
        "images that are not square": lambda: answer(x_t[:, :, :5], eps[:, :, :5], beta_t, abar_t),
    }


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=_step_back,
    hints=(
        "Subtract the two means, once with eps and once with the guess. x_t is in both. What is left?",
        "What is left is beta_t / (sqrt(alpha_t) sqrt(1 - abar_t)) times the error in eps. The norm is squared, so "
        "square that factor.",
        "return beta_t**2 / ((1 - beta_t) * (1 - abar_t))",
    ),
)
def x_prev_weight(answer, x_t, eps, beta_t, abar_t):
    """x_prev_weight(beta_t, abar_t) -> the shape of beta_t"""
    return {
        "one weight per image": lambda: answer(beta_t, abar_t),
        "a table of all steps": lambda: answer(beta_t.flatten(), abar_t.flatten()),
        "the first step (abar_t = 1 - beta_t)": lambda: answer(beta_t, 1 - beta_t),
    }


def _edges(u):
    return torch.cat([u[:2], u.new_tensor([0.0, 0.9999])])


@LAB.exercise(
    points=1,
    minutes=3,
    difficulty=1,
    inputs=lambda draw: {"u": draw.uniform(12)},
    hints=(
        "Stretch the interval from 0 to 1 so that it covers T units of length 1. Each unit stands for one timestep.",
        "Multiply by T, then cut off what stands behind the point. No value reaches T, because u is below 1.",
        "return (u * T).long()",
    ),
)
def random_timesteps(answer, u):
    """random_timesteps(u, T) -> (B,), int64"""
    return {
        "T = 1000": lambda: answer(u, 1000),
        "both ends": lambda: answer(_edges(u), 1000),
        "T = 5": lambda: answer(u, 5),
        "a batch of one": batch_of_one(answer, u, 1000),
    }


def _gradient(answer, prediction, target, weight):
    prediction = prediction.clone().requires_grad_()
    loss = returned(answer(prediction, target, weight))
    if not isinstance(loss, torch.Tensor):
        raise TypeError(f"the loss is of type {type(loss).__name__}, gradients flow only through a tensor")
    return torch.autograd.grad(loss, prediction)[0]


@LAB.exercise(
    points=2,
    minutes=6,
    difficulty=2,
    inputs=lambda draw: {
        "prediction": draw.normal(3, 1, 8, 8),
        "target": draw.normal(3, 1, 8, 8),
        "weight": draw.uniform(3, low=0.2, high=3),
    },
    hints=(
        "Go in three stages: an error per pixel, a mean per image, a mean over the batch. The weight comes in between "
        "the last two.",
        "Turn both inputs into float32 first. ((p - q) ** 2).flatten(1).mean(1) has the shape (B,), and so has weight.",
        "loss = (prediction.float() - target.float()).square().flatten(1).mean(dim=1); "
        "return (loss if weight is None else weight * loss).mean()",
    ),
)
def diffusion_loss(answer, prediction, target, weight):
    """diffusion_loss(prediction, target, weight=None) -> scalar tensor, float32"""
    # images of two pixels: in larger ones much of the rounding averages out
    low, low_target = (x.reshape(-1, 1, 1, 2)[:8].bfloat16() for x in (prediction, target))
    return {
        "without weights": lambda: answer(prediction, target),
        "a weight per image": lambda: answer(prediction, target, weight=weight),
        "a batch of one": batch_of_one(answer, prediction, target, weight=weight),
        "three channels, not square": lambda: answer(prediction.reshape(2, 3, 4, 8), target.reshape(2, 3, 4, 8)),
        "bfloat16 in, float32 out": lambda: [answer(low[i : i + 1], low_target[i : i + 1]) for i in range(8)],
        "its gradient": lambda: _gradient(answer, prediction, target, weight),
    }


class _Tiny(nn.Module):
    """A network of 27 parameters that listens to t, and whose result depends on its mode."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.time = nn.Linear(1, 2, bias=False)
        self.head = nn.Conv2d(2, 1, 1)

    def forward(self, x, t):
        h = self.norm(self.conv(x)) + self.time(t[:, None].to(x.dtype) / 10)[:, :, None, None]  # (B, 2, H, W)
        return self.head(h.tanh())  # (B, 1, H, W)


class _Counted:
    """Plain SGD that counts its steps. The first use of torch.optim costs a second of imports, which this does not."""

    def __init__(self, parameters, lr):
        self.parameters, self.lr, self.calls = list(parameters), lr, 0

    def zero_grad(self, set_to_none=True):
        for parameter in self.parameters:
            parameter.grad = None

    def step(self, closure=None):
        self.calls += 1
        loss = closure() if closure else None
        with torch.no_grad():
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter -= self.lr * parameter.grad
        return loss


def _toy_target(x_0, eps, abar_t):
    return eps - abar_t * x_0  # no target of a lab: what tries one answer must not be another answer


def _mean_square(prediction, target):
    return (prediction - target).square().mean()


def _odd_target(x_0, eps, abar_t):
    return 2 * x_0 - abar_t * eps


def _mean_absolute(prediction, target):
    return (2 * prediction - target).abs().mean()  # the two do not play the same part


def _weights(module):
    return torch.cat([parameter.detach().flatten() for _, parameter in sorted(module.named_parameters())])


@LAB.exercise(
    points=4,
    minutes=12,
    difficulty=3,
    inputs=lambda draw: {
        "x_0": draw.images(9),
        "t": draw.timesteps(9, 10),
        "eps": draw.normal(9, 1, 8, 8),
        "alphas_cumprod": draw.uniform(10, low=0.1, high=0.9),
        "seed": draw.seed(),
    },
    hints=(
        "First make what the network is given and what it is asked for. Both need abar at each image's own t, and "
        "extract and q_sample from lab 1 make short work of it.",
        "Then five lines that every PyTorch training has: the loss of model(x_t, t) against the target, zero_grad, "
        "backward, step, and the loss as a number.",
        "abar_t = extract(alphas_cumprod, t, x_0); x_t = q_sample(x_0, abar_t, eps); "
        "loss = loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t)); optimizer.zero_grad(); loss.backward(); "
        "optimizer.step(); return loss.item()",
    ),
)
def train_step(answer, x_0, t, eps, alphas_cumprod, seed):
    """train_step(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn) -> float"""

    def train(size, steps, loss_fn=_mean_square, target_fn=_toy_target, rows=8):
        model = given_weights(_Tiny(), seed).to(x_0.device).train()
        optimizer = _Counted(model.parameters(), lr=0.2)
        losses = []
        for i in range(steps):
            part = slice(i * size, (i + 1) * size)
            x, noise = x_0[part, :, :rows], eps[part, :, :rows]
            losses.append(answer(model, optimizer, x, t[part], noise, alphas_cumprod, loss_fn, target_fn))
        return model, optimizer, losses

    def weights(*args, **kwargs):
        model, optimizer, _ = train(*args, **kwargs)
        return {"weights": _weights(model), "calls of optimizer.step": optimizer.calls}

    def losses():
        _, _, found = train(3, 3)
        kinds = {"a number" if isinstance(loss, numbers.Real) else type(loss).__name__ for loss in map(returned, found)}
        return {"loss": found, "what kind of value it is": ", ".join(sorted(kinds))}

    return {
        "three steps": lambda: weights(3, 3),
        "the loss it returns": losses,
        "one step": lambda: weights(3, 1),
        "batches of one": lambda: weights(1, 2),
        "another target and another loss": lambda: weights(3, 2, _mean_absolute, _odd_target),
        "images that are not square": lambda: weights(4, 2, rows=5),
    }


@LAB.exercise(
    points=2,
    minutes=6,
    difficulty=2,
    inputs=lambda draw: {"seed": draw.seed(), "decay": draw.uniform(3, low=0.6, high=0.9)},
    hints=(
        "Walk over the parameters of both networks side by side. Each parameter of ema moves a little towards its "
        "partner.",
        "zip(ema.parameters(), model.parameters()) gives the pairs. Change the first in place (mul_, add_, lerp_), "
        "inside torch.no_grad().",
        "with torch.no_grad(): [a.lerp_(p, 1 - decay) for a, p in zip(ema.parameters(), model.parameters())]",
    ),
)
def ema_update(answer, seed, decay):
    """ema_update(ema, model, decay) -> nothing; the parameters of ema change in place"""
    device, decays = decay.device, decay.tolist()

    def pair():
        ema = given_weights(_Tiny(), seed).to(device).requires_grad_(False)
        return ema, given_weights(_Tiny(), seed + 1).to(device).train()

    def once(decay):
        ema, model = pair()
        answer(ema, model, decay)
        return _weights(ema)

    def thrice():
        ema, model = pair()
        for i, value in enumerate(decays):
            answer(ema, model, value)
            given_weights(model, seed + 2 + i)
        return _weights(ema)

    def the_model():
        ema, model = pair()
        answer(ema, model, decays[0])
        return _weights(model)

    def no_graph():
        ema, model = pair()
        answer(ema, model, decays[0])
        if any(p.grad_fn is not None for p in ema.parameters()):
            return "parameters that remember how they were computed"
        traced = any(p.requires_grad for p in ema.parameters())
        return "parameters that ask for a gradient" if traced else "parameters that ask for no gradient"

    return {
        "one update": lambda: once(decays[0]),
        "three updates, the network in training moves on": thrice,
        "the network in training is left alone": the_model,
        "what the average is made of": no_graph,
        "decay = 0": lambda: once(0.0),
    }


def _rates(answer, steps, peak, warmup):
    rates = [answer(step, steps, peak, warmup) for step in range(steps)]
    return [rate if rate is None else float(rate) for rate in rates]


@LAB.exercise(
    points=2,
    minutes=6,
    difficulty=2,
    inputs=lambda draw: {"peak": draw.uniform(1, low=1e-4, high=1e-2)},
    hints=(
        "Draw the two straight lines: one rises to 1 at the step warmup - 1, the other falls from 1 at the step "
        "warmup to 0 at the step steps. At every step the lower one counts.",
        "The rising line is (step + 1) / warmup, the falling one (steps - step) / (steps - warmup).",
        "return peak * min((step + 1) / warmup, (steps - step) / (steps - warmup))",
    ),
)
def learning_rate(answer, peak):
    """learning_rate(step, steps, peak, warmup) -> number"""
    peak = peak.item()
    return {
        "12 steps, 4 of them warm-up": lambda: _rates(answer, 12, peak, 4),
        "8 steps, 5 of them warm-up": lambda: _rates(answer, 8, peak, 5),
        "a warm-up of one step": lambda: _rates(answer, 6, peak, 1),
        "another peak": lambda: _rates(answer, 5, 3 * peak, 2),
    }


def _epoch(answer, images, order, batch_size):
    seen = []

    def step_fn(x_0):
        seen.append(x_0.clone())
        return float(x_0.square().mean())

    losses = returned(answer(images, order, batch_size, step_fn))
    if isinstance(losses, numbers.Real) or (isinstance(losses, torch.Tensor) and losses.dim() == 0):
        raise TypeError("one number came back, a list with the loss of every batch belongs there")
    return seen, losses if any(loss is None for loss in losses) else torch.tensor(
        [float(loss) for loss in losses], device=images.device
    )


@LAB.exercise(
    points=2,
    minutes=6,
    difficulty=2,
    inputs=lambda draw: {"images": draw.images(11, 4, 4), "order": draw.timesteps(11, 11)},
    hints=(
        "How many whole batches are there? Batch number i takes batch_size entries of order, beginning at "
        "i * batch_size.",
        "images[order[start : start + batch_size]] is one batch. Let start run over range(0, len(order), batch_size), "
        "but stop before a batch that would be too short.",
        "starts = range(0, len(order) - batch_size + 1, batch_size); "
        "return [step_fn(images[order[s : s + batch_size]]) for s in starts]",
    ),
)
def train_epoch(answer, images, order):
    """train_epoch(images, order, batch_size, step_fn) -> the losses, one number per batch"""
    return {
        "the losses": lambda: _epoch(answer, images, order, 3)[1],
        "the batches": lambda: _epoch(answer, images, order, 3)[0],
        "no batch is short": lambda: _epoch(answer, images, order[:8], 4)[1],
        "fewer places in the order than images": lambda: _epoch(answer, images, order[:5], 2)[1],
        "batches of one": lambda: _epoch(answer, images, order[:3], 1)[1],
    }


LAB.prediction(
    "predict_hardest_timesteps",
    ("early", "middle", "late"),
    (
        "Near t = 0 the picture is nearly clean and the noise is a hundredth of it. Near the end the input is the "
        "noise itself. Where would you rather be asked for eps?",
        "At the last step a network that returns its own input has found eps. At the first step the noise must be told "
        "from tiny details of the picture.",
        'Return "early".',
    ),
)


@LAB.exercise(
    points=2,
    minutes=8,
    difficulty=2,
    inputs=lambda draw: {"losses": 3 * draw.uniform(40), "t": draw.integers(0, 20, 40)},
    hints=(
        "Turn each timestep into the number of its bin, then add up the losses of each bin and count them.",
        "The bin is t * bins // T. torch.bincount(index, minlength=bins) counts, with weights=losses it adds up.",
        "index = t * bins // T; total = torch.zeros(bins, device=losses.device).index_add(0, index, losses); "
        "count = torch.bincount(index, minlength=bins); return total / count.clamp(min=1)",
    ),
)
def loss_by_timestep(answer, losses, t):
    """loss_by_timestep(losses, t, T, bins) -> (bins,), float32"""
    return {
        "5 bins of 4 timesteps": lambda: answer(losses, t, 20, 5),
        "bins that do not divide T": lambda: answer(losses, t, 20, 6),
        "one bin per timestep": lambda: answer(losses[:6], t[:6], 20, 20),
        "empty bins are 0": lambda: answer(losses, t, 50, 5),
        "a single bin": lambda: answer(losses, t, 20, 1),
    }


LAB.written("same_objective_or_not", points=2)
