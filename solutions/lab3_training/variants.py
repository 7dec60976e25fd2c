"""Right answers to lab3_training, written in other ways than the reference."""

import copy
import math

import torch
import torch.nn.functional as F

from labdiff.authoring import variant
from labdiff.reference.lab1_forward import extract, q_sample


@variant("x0_from_eps")
def two_terms(x_t, eps, abar_t):
    return x_t / torch.sqrt(abar_t) - torch.sqrt(1 / abar_t - 1) * eps


@variant("x0_from_eps")
def with_powers(x_t, eps, abar_t):
    return torch.einsum("bchw,bxyz->bchw", x_t - (1 - abar_t) ** 0.5 * eps, abar_t**-0.5)


@variant("eps_from_x0")
def reciprocal_root(x_t, x_0, abar_t):
    return (1 - abar_t).rsqrt() * (x_t - x_0 * abar_t**0.5)


@variant("eps_from_x0")
def through_the_ratio(x_t, x_0, abar_t):
    return (x_t / abar_t.sqrt() - x_0) / torch.sqrt(1 / abar_t - 1)


@variant("v_target")
def by_angle(x_0, eps, abar_t):
    angle = torch.acos(abar_t.sqrt())
    return torch.cos(angle) * eps - torch.sin(angle) * x_0


@variant("v_target")
def image_by_image_v(x_0, eps, abar_t):
    return torch.stack([a**0.5 * e - (1 - a) ** 0.5 * x for x, e, a in zip(x_0, eps, abar_t, strict=True)])


@variant("x0_from_v")
def first_row_of_the_rotation(x_t, v, abar_t):
    factors = torch.cat([abar_t.sqrt(), -(1 - abar_t).sqrt()], dim=1).flatten(1)  # (B, 2)
    return torch.einsum("bk,bkchw->bchw", factors, torch.stack([x_t, v], dim=1))


@variant("x0_from_v")
def x0_in_its_own_copy(x_t, v, abar_t):
    x_0 = x_t.clone()
    x_0 *= abar_t**0.5
    x_0 -= v * (1 - abar_t) ** 0.5
    return x_0


@variant("eps_from_v")
def through_x0(x_t, v, abar_t):
    x_0 = abar_t.sqrt() * x_t - (1 - abar_t).sqrt() * v
    return (v + (1 - abar_t).sqrt() * x_0) / abar_t.sqrt()


@variant("eps_from_v")
def eps_by_angle(x_t, v, abar_t):
    angle = torch.atan2((1 - abar_t).sqrt(), abar_t.sqrt())
    return angle.sin() * x_t + angle.cos() * v


@variant("x_prev_from_eps")
def through_the_posterior(x_t, eps, beta_t, abar_t):
    abar_prev = abar_t / (1 - beta_t)
    x_0 = (x_t - (1 - abar_t).sqrt() * eps) / abar_t.sqrt()
    mean = abar_prev.sqrt() * beta_t * x_0 + (1 - beta_t).sqrt() * (1 - abar_prev) * x_t
    return mean / (1 - abar_t)


@variant("x_prev_from_eps")
def both_terms(x_t, eps, beta_t, abar_t):
    alpha_t = 1 - beta_t
    return alpha_t.rsqrt() * x_t - (1 - alpha_t) * ((1 - abar_t) * alpha_t).rsqrt() * eps


@variant("x_prev_weight")
def square_of_the_factor(beta_t, abar_t):
    factor = beta_t / torch.sqrt(1 - abar_t) / torch.sqrt(1 - beta_t)
    return factor * factor


@variant("x_prev_weight")
def multiplied_out(beta_t, abar_t):
    return beta_t.pow(2) / (1 - abar_t - beta_t + beta_t * abar_t)


@variant("random_timesteps")
def floored(u, T):
    return torch.floor(u * T).to(torch.int64)


@variant("random_timesteps")
def one_by_one(u, T):
    return torch.tensor([min(int(value * T), T - 1) for value in u.tolist()], device=u.device)


@variant("diffusion_loss")
def from_functional(prediction, target, weight=None):
    error = F.mse_loss(prediction.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
    return error.mean() if weight is None else (error * weight).mean()


@variant("diffusion_loss")
def one_big_sum(prediction, target, weight=None):
    weight = torch.ones(len(target), device=target.device) if weight is None else weight
    difference = prediction.to(torch.float32) - target.to(torch.float32)
    return (weight.reshape(-1, 1, 1, 1) * difference**2).sum() / difference.numel()


@variant("diffusion_loss")
def image_after_image(prediction, target, weight=None):
    total = 0.0
    for i in range(len(prediction)):
        total = total + (1 if weight is None else weight[i]) * F.mse_loss(prediction[i].float(), target[i].float())
    return total / len(prediction)


@variant("train_step")
def cleared_at_the_end(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    model.train()
    abar_t = alphas_cumprod[t].view(-1, 1, 1, 1)
    prediction = model(abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * eps, t)
    loss = loss_fn(prediction, target_fn(x_0, eps, abar_t))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return float(loss.detach())


@variant("train_step")
def gradients_by_hand(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    with torch.no_grad():
        abar_t = extract(alphas_cumprod, t, x_0)
        x_t, target = q_sample(x_0, abar_t, eps), target_fn(x_0, eps, abar_t)
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss = loss_fn(model(x_t, t), target)
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return loss.detach().cpu().numpy()[()]


@variant("train_step")
def with_a_closure(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    abar_t = extract(alphas_cumprod, t, x_0)

    def closure():
        model.zero_grad()
        loss = loss_fn(model(q_sample(x_0, abar_t, eps), t), target_fn(x_0, eps, abar_t))
        loss.backward()
        return loss

    return optimizer.step(closure).item()


@variant("ema_update")
@torch.no_grad()
def lerped(ema, model, decay):
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        average.lerp_(current, 1 - decay)


@variant("ema_update")
def through_data(ema, model, decay):
    current = dict(model.named_parameters())
    for name, average in ema.named_parameters():
        average.data = decay * average.data + (1 - decay) * current[name].data


@variant("ema_update")
@torch.no_grad()
def through_load_state_dict(ema, model, decay):
    weights = copy.deepcopy(ema.state_dict())
    for name, current in model.named_parameters():
        weights[name] = decay * weights[name] + (1 - decay) * current.detach()
    ema.load_state_dict(weights)


@variant("learning_rate")
def case_by_case(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 - (step - warmup) / (steps - warmup))


@variant("learning_rate")
def as_a_tensor(step, steps, peak, warmup):
    rise = torch.tensor((step + 1) / warmup)
    fall = torch.tensor((steps - step) / (steps - warmup))
    return peak * torch.minimum(rise, fall)


@variant("train_epoch")
def from_split(images, order, batch_size, step_fn):
    return [step_fn(images[batch]) for batch in order.split(batch_size) if len(batch) == batch_size]


@variant("train_epoch")
def reshaped(images, order, batch_size, step_fn):
    whole = len(order) // batch_size * batch_size
    losses = torch.zeros(whole // batch_size)
    for i, batch in enumerate(order[:whole].reshape(-1, batch_size)):
        losses[i] = step_fn(images.index_select(0, batch))
    return losses


@variant("predict_hardest_timesteps")
def by_hand():
    return "early"


@variant("predict_hardest_timesteps")
def by_the_clean_and_the_noisy_end():
    # a network that always says v = 0 says eps = sqrt(1 - abar) x_t: its error is about abar where x_t has variance 1
    error = [math.cos(u * math.pi / 2) ** 2 for u in (0.1, 0.5, 0.9)]
    return ("early", "middle", "late")[error.index(max(error))]


@variant("loss_by_timestep")
def bin_by_bin(losses, t, T, bins):
    means = torch.zeros(bins, device=losses.device)
    for k in range(bins):
        inside = losses[t * bins // T == k]
        if len(inside):
            means[k] = inside.mean()
    return means


@variant("loss_by_timestep")
def by_matrix(losses, t, T, bins):
    member = F.one_hot(torch.div(t * bins, T, rounding_mode="floor"), bins).float()  # (N, bins)
    return (losses @ member) / member.sum(0).clamp(min=1)


@variant("loss_by_timestep")
def nan_replaced(losses, t, T, bins):
    index = t * bins // T
    total = torch.bincount(index, weights=losses.double(), minlength=bins)
    return (total / torch.bincount(index, minlength=bins)).nan_to_num(0.0).float()
