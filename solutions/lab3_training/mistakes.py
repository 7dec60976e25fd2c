"""Wrong answers that people give in lab3_training; the docstring of each is the hint."""

import copy

import torch

from labdiff.authoring import mistake
from labdiff.reference.lab1_forward import extract, q_sample

# --- conversions ------------------------------------------------------------------------------


@mistake("x0_from_eps")
def divided_twice(x_t, eps, abar_t):
    """Your noise term is too large by 1 / sqrt(abar_t): sqrt(1 / abar_t - 1) already holds the division by
    sqrt(abar_t), and the whole difference is divided once more.
    """
    return (x_t - (1 / abar_t - 1).sqrt() * eps) / abar_t.sqrt()


@mistake("x0_from_eps")
def not_divided(x_t, eps, abar_t):
    """You removed the noise but left the image shrunk: divide the whole difference by sqrt(abar_t)."""
    return x_t - (1 - abar_t).sqrt() * eps


@mistake("x0_from_eps")
def only_x_t_divided(x_t, eps, abar_t):
    """You divided only x_t by sqrt(abar_t): the noise term belongs inside the bracket too."""
    return x_t / abar_t.sqrt() - (1 - abar_t).sqrt() * eps


@mistake("x0_from_eps")
def variance_as_factor(x_t, eps, abar_t):
    """You took away 1 - abar_t times the noise where sqrt(1 - abar_t) belongs: a standard deviation, not a variance."""
    return (x_t - (1 - abar_t) * eps) / abar_t.sqrt()


@mistake("x0_from_eps")
def divided_by_abar(x_t, eps, abar_t):
    """You divided by abar_t where its square root belongs."""
    return (x_t - (1 - abar_t).sqrt() * eps) / abar_t


@mistake("x0_from_eps")
def noise_added(x_t, eps, abar_t):
    """You added the noise once more: to get x_0 back, subtract it."""
    return (x_t + (1 - abar_t).sqrt() * eps) / abar_t.sqrt()


@mistake("x0_from_eps")
def clamped_guess(x_t, eps, abar_t):
    """You clamped the result to [-1, 1]: the sampler may do that, but here it would hide a wrong formula."""
    return ((x_t - (1 - abar_t).sqrt() * eps) / abar_t.sqrt()).clamp(-1, 1)


@mistake("x0_from_eps")
def bracket_missing(x_t, eps, abar_t):
    """You divided only the noise by sqrt(abar_t): put the difference into brackets, the whole of it is divided."""
    return x_t - (1 - abar_t).sqrt() * eps / abar_t.sqrt()


@mistake("x0_from_eps")
def both_roots_missing(x_t, eps, abar_t):
    """Your two factors lack their square roots."""
    return (x_t - (1 - abar_t) * eps) / abar_t


@mistake("eps_from_x0")
def noise_left_scaled(x_t, x_0, abar_t):
    """You return the noise as it stands in x_t: divide by its standard deviation, sqrt(1 - abar_t)."""
    return x_t - abar_t.sqrt() * x_0


@mistake("eps_from_x0")
def divided_by_variance(x_t, x_0, abar_t):
    """You divided by 1 - abar_t where sqrt(1 - abar_t) belongs."""
    return (x_t - abar_t.sqrt() * x_0) / (1 - abar_t)


@mistake("eps_from_x0")
def plain_difference(x_t, x_0, abar_t):
    """You subtracted x_0 at full size: in x_t it stands with the factor sqrt(abar_t)."""
    return (x_t - x_0) / (1 - abar_t).sqrt()


@mistake("eps_from_x0")
def sign_turned(x_t, x_0, abar_t):
    """Your noise has the wrong sign: it is x_t minus the image, not the image minus x_t."""
    return (abar_t.sqrt() * x_0 - x_t) / (1 - abar_t).sqrt()


@mistake("eps_from_x0")
def root_of_abar_missing(x_t, x_0, abar_t):
    """You scaled x_0 by abar_t where sqrt(abar_t) belongs."""
    return (x_t - abar_t * x_0) / (1 - abar_t).sqrt()


@mistake("v_target")
def noisy_image(x_0, eps, abar_t):
    """You return x_t: in v the two factors are swapped, the noise gets sqrt(abar_t), and the image is subtracted."""
    return abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * eps


@mistake("v_target")
def added(x_0, eps, abar_t):
    """You added the image: v is the noise's share minus the image's share."""
    return abar_t.sqrt() * eps + (1 - abar_t).sqrt() * x_0


@mistake("v_target")
def factors_kept(x_0, eps, abar_t):
    """Your factors are those of x_t: in v, sqrt(abar_t) belongs to the noise and sqrt(1 - abar_t) to the image."""
    return (1 - abar_t).sqrt() * eps - abar_t.sqrt() * x_0


@mistake("v_target")
def shares_swapped(x_0, eps, abar_t):
    """You swapped image and noise: the noise comes first, with sqrt(abar_t), and the image is subtracted."""
    return abar_t.sqrt() * x_0 - (1 - abar_t).sqrt() * eps


@mistake("v_target")
def negative(x_0, eps, abar_t):
    """Your v has the wrong sign: it points from the image to the noise, so at abar_t = 1 it is eps."""
    return (1 - abar_t).sqrt() * x_0 - abar_t.sqrt() * eps


@mistake("v_target")
def without_roots(x_0, eps, abar_t):
    """Your factors lack their square roots."""
    return abar_t * eps - (1 - abar_t) * x_0


@mistake("v_target")
def straight_line(x_0, eps, abar_t):
    """You return eps - x_0, the velocity of flow matching, which mixes along a straight line. Ours moves on an arc."""
    return eps - x_0 + 0 * abar_t


@mistake("x0_from_v")
def v_added(x_t, v, abar_t):
    """You added v: in v the image has a minus, so x_0 is sqrt(abar_t) x_t minus sqrt(1 - abar_t) v."""
    return abar_t.sqrt() * x_t + (1 - abar_t).sqrt() * v


@mistake("x0_from_v")
def returned_eps(x_t, v, abar_t):
    """You return the noise: x_0 is the other row of the inverse rotation."""
    return (1 - abar_t).sqrt() * x_t + abar_t.sqrt() * v


@mistake("x0_from_v")
def rows_swapped(x_t, v, abar_t):
    """You swapped the factors: sqrt(abar_t) belongs to x_t and sqrt(1 - abar_t) to v."""
    return (1 - abar_t).sqrt() * x_t - abar_t.sqrt() * v


@mistake("x0_from_v")
def v_taken_for_eps(x_t, v, abar_t):
    """You treated v as if it were eps and used that formula: v needs its own."""
    return (x_t - (1 - abar_t).sqrt() * v) / abar_t.sqrt()


@mistake("x0_from_v")
def roots_left_out(x_t, v, abar_t):
    """Your factors lack their square roots."""
    return abar_t * x_t - (1 - abar_t) * v


@mistake("x0_from_v")
def x0_clamped(x_t, v, abar_t):
    """You clamped the result to [-1, 1]: leave that to the sampler."""
    return (abar_t.sqrt() * x_t - (1 - abar_t).sqrt() * v).clamp(-1, 1)


@mistake("eps_from_v")
def v_subtracted(x_t, v, abar_t):
    """You subtracted v: for eps both terms are added, the minus belongs to x_0."""
    return (1 - abar_t).sqrt() * x_t - abar_t.sqrt() * v


@mistake("eps_from_v")
def returned_x0(x_t, v, abar_t):
    """You return x_0: the noise is the other row of the inverse rotation."""
    return abar_t.sqrt() * x_t - (1 - abar_t).sqrt() * v


@mistake("eps_from_v")
def factors_of_x0(x_t, v, abar_t):
    """You swapped the factors: for eps, sqrt(1 - abar_t) belongs to x_t and sqrt(abar_t) to v."""
    return abar_t.sqrt() * x_t + (1 - abar_t).sqrt() * v


@mistake("eps_from_v")
def no_roots(x_t, v, abar_t):
    """Your factors lack their square roots."""
    return (1 - abar_t) * x_t + abar_t * v


@mistake("eps_from_v")
def v_taken_for_x0(x_t, v, abar_t):
    """You treated v as if it were x_0 and used that formula: v needs its own."""
    return (x_t - abar_t.sqrt() * v) / (1 - abar_t).sqrt()


# --- one step earlier -------------------------------------------------------------------------


@mistake("x_prev_from_eps")
def abar_outside(x_t, eps, beta_t, abar_t):
    """You divided by sqrt(abar_t) where sqrt(alpha_t) belongs: only one step is undone, and alpha_t = 1 - beta_t."""
    return (x_t - beta_t / (1 - abar_t).sqrt() * eps) / abar_t.sqrt()


@mistake("x_prev_from_eps")
def all_the_noise(x_t, eps, beta_t, abar_t):
    """You took all the noise away: one step back removes only the share beta_t / sqrt(1 - abar_t)."""
    return (x_t - (1 - abar_t).sqrt() * eps) / (1 - beta_t).sqrt()


@mistake("x_prev_from_eps")
def inverse_of_q_step(x_t, eps, beta_t, abar_t):
    """You undid one forward step as if eps were the noise of that step alone: it is the noise of all steps so far,
    hence the factor beta_t / sqrt(1 - abar_t).
    """
    return (x_t - beta_t.sqrt() * eps) / (1 - beta_t).sqrt()


@mistake("x_prev_from_eps")
def share_without_root(x_t, eps, beta_t, abar_t):
    """You divided beta_t by 1 - abar_t where its square root belongs."""
    return (x_t - beta_t / (1 - abar_t) * eps) / (1 - beta_t).sqrt()


@mistake("x_prev_from_eps")
def alpha_without_root(x_t, eps, beta_t, abar_t):
    """You divided by alpha_t where its square root belongs."""
    return (x_t - beta_t / (1 - abar_t).sqrt() * eps) / (1 - beta_t)


@mistake("x_prev_from_eps")
def not_unshrunk(x_t, eps, beta_t, abar_t):
    """You left the image shrunk by this step: divide by sqrt(alpha_t)."""
    return x_t - beta_t / (1 - abar_t).sqrt() * eps


@mistake("x_prev_weight")
def factor_not_squared(beta_t, abar_t):
    """You return the factor of the error itself: the norm is squared, so square it."""
    return beta_t / ((1 - beta_t) * (1 - abar_t)).sqrt()


@mistake("x_prev_weight")
def beta_not_squared(beta_t, abar_t):
    """Your numerator is beta_t: it stands in the difference of the means, so its square belongs here."""
    return beta_t / ((1 - beta_t) * (1 - abar_t))


@mistake("x_prev_weight")
def alpha_forgotten(beta_t, abar_t):
    """You forgot the division by sqrt(alpha_t) in the mean: squared, it puts alpha_t into the denominator."""
    return beta_t**2 / (1 - abar_t)


@mistake("x_prev_weight")
def abar_for_alpha(beta_t, abar_t):
    """You have abar_t where alpha_t = 1 - beta_t belongs."""
    return beta_t**2 / (abar_t * (1 - abar_t))


@mistake("x_prev_weight")
def weight_of_x0(beta_t, abar_t):
    """You return the weight of an error in x_0: it has another factor SNR. Here the error is in eps."""
    return beta_t**2 / ((1 - beta_t) * (1 - abar_t)) * abar_t / (1 - abar_t)


@mistake("x_prev_weight")
def one_half(beta_t, abar_t):
    """Your weight has a factor 1/2: that belongs to the paper's 1 / (2 sigma^2), which is left out here."""
    return beta_t**2 / ((1 - beta_t) * (1 - abar_t)) / 2


@mistake("x_prev_weight")
def upside_down(beta_t, abar_t):
    """Your weight is upside down: it goes from the error in eps to the error in x_{t-1}."""
    return (1 - beta_t) * (1 - abar_t) / beta_t**2


# --- timesteps and loss -----------------------------------------------------------------------


@mistake("random_timesteps")
def rounded(u, T):
    """You rounded: then T itself can come out, which is no index, and 0 is half as likely as the others. Cut off
    instead.
    """
    return (u * T).round().long()


@mistake("random_timesteps")
def last_never_drawn(u, T):
    """Your largest timestep is T - 2: u never reaches 1, so multiply by T, not by T - 1."""
    return (u * (T - 1)).long()


@mistake("random_timesteps")
def counted_from_one(u, T):
    """Your timesteps run from 1 to T, as in papers: here they are indices, from 0 to T - 1."""
    return (u * T).long() + 1


@mistake("random_timesteps")
def left_as_float(u, T):
    """Your timesteps are floats: an index must be int64."""
    return (u * T).floor()


@mistake("random_timesteps")
def short_integers(u, T):
    """Your timesteps are int32: PyTorch's indices are int64, .long()."""
    return (u * T).int()


@mistake("random_timesteps")
def one_for_all(u, T):
    """Your whole batch has the same timestep: each image gets its own."""
    return (u[:1] * T).long().expand(len(u)).clone()


@mistake("random_timesteps")
def drew_its_own(u, T):
    """You drew timesteps yourself: use the numbers u that are given."""
    return torch.randint(0, T, u.shape, device=u.device)


def _per_image(prediction, target):
    return (prediction.float() - target.float()).square().flatten(1).mean(dim=1)


@mistake("diffusion_loss")
def weight_ignored(prediction, target, weight=None):
    """You do not use the weight: each image's error is multiplied by its own."""
    return _per_image(prediction, target).mean()


@mistake("diffusion_loss")
def sum_over_pixels(prediction, target, weight=None):
    """You summed over the pixels: take their mean, so that the loss does not grow with the image."""
    loss = (prediction.float() - target.float()).square().flatten(1).sum(dim=1)
    return (loss if weight is None else weight * loss).mean()


@mistake("diffusion_loss")
def not_averaged(prediction, target, weight=None):
    """You return one loss per image: average them over the batch."""
    loss = _per_image(prediction, target)
    return loss if weight is None else weight * loss


@mistake("diffusion_loss")
def sum_over_batch(prediction, target, weight=None):
    """You summed over the batch: take the mean, so that the loss does not grow with the batch."""
    loss = _per_image(prediction, target)
    return (loss if weight is None else weight * loss).sum()


@mistake("diffusion_loss")
def weights_normalised(prediction, target, weight=None):
    """You divided by the sum of the weights: divide by the size of the batch, so that a small weight makes the loss
    small.
    """
    loss = _per_image(prediction, target)
    return loss.mean() if weight is None else (weight * loss).sum() / weight.sum()


@mistake("diffusion_loss")
def weight_squared(prediction, target, weight=None):
    """You weighted the error before squaring it, so the weight counts squared."""
    error = prediction.float() - target.float()
    error = error if weight is None else weight.reshape(-1, 1, 1, 1) * error
    return error.square().mean()


@mistake("diffusion_loss")
def absolute_error(prediction, target, weight=None):
    """You took the absolute error: the loss squares it."""
    loss = (prediction.float() - target.float()).abs().flatten(1).mean(dim=1)
    return (loss if weight is None else weight * loss).mean()


@mistake("diffusion_loss")
def root_taken(prediction, target, weight=None):
    """You took the square root: the loss is the mean of the squares itself."""
    loss = _per_image(prediction, target)
    return (loss if weight is None else weight * loss).mean().sqrt()


@mistake("diffusion_loss")
def low_precision(prediction, target, weight=None):
    """You computed in bfloat16, which keeps 2 to 3 digits: convert both to float32 before you subtract."""
    loss = (prediction - target).square().flatten(1).mean(dim=1)
    return (loss if weight is None else weight * loss).mean()


@mistake("diffusion_loss")
def float_after_subtracting(prediction, target, weight=None):
    """You subtracted in bfloat16 and converted the difference: its digits are gone by then, so convert both first."""
    loss = (prediction - target).float().square().flatten(1).mean(dim=1)
    return (loss if weight is None else weight * loss).mean()


@mistake("diffusion_loss")
def weighted_sum(prediction, target, weight=None):
    """With weights you sum over the batch: take the mean there too."""
    loss = _per_image(prediction, target)
    return loss.mean() if weight is None else (weight * loss).sum()


@mistake("diffusion_loss")
def weight_meets_pixels(prediction, target, weight=None):
    """You multiplied weight, (B,), with the error of every pixel, (B, C, H, W): take the mean of each image first."""
    error = (prediction.float() - target.float()) ** 2
    return (error if weight is None else error * weight).mean()


@mistake("diffusion_loss")
def weight_as_condition(prediction, target, weight=None):
    """You wrote `if weight`, but a tensor of several values is neither true nor false: `if weight is not None`."""
    loss = _per_image(prediction, target)
    return (weight * loss if weight else loss).mean()


@mistake("diffusion_loss")
def item_returned(prediction, target, weight=None):
    """You return a Python number (.item() or float): then nothing can be learned, so return the tensor itself."""
    loss = _per_image(prediction, target)
    return (loss if weight is None else weight * loss).mean().item()


@mistake("diffusion_loss")
def no_gradient(prediction, target, weight=None):
    """Your loss is cut off from the prediction (detach, no_grad, .data): nothing can be learned through it."""
    loss = _per_image(prediction, target)
    return (loss if weight is None else weight * loss).mean().detach()


# --- one step ---------------------------------------------------------------------------------


def _noised(x_0, t, eps, alphas_cumprod):
    abar_t = extract(alphas_cumprod, t, x_0)
    return q_sample(x_0, abar_t, eps), abar_t


def _descend(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@mistake("train_step")
def never_cleared(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You never clear the gradients: backward adds to those of all earlier steps. Call optimizer.zero_grad() before
    it.
    """
    x_t, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    loss = loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t))
    loss.backward()
    optimizer.step()
    return loss.item()


@mistake("train_step")
def cleared_too_late(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You clear the gradients between backward and step, so the optimizer has nothing to go by: clear them before
    backward.
    """
    x_t, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    loss = loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t))
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


@mistake("train_step")
def no_optimizer_step(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """The weights never change: after backward, optimizer.step() has to be called."""
    x_t, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    loss = loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t))
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


@mistake("train_step")
def returned_tensor(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You return the loss as a tensor, which keeps the whole graph in memory: return loss.item()."""
    x_t, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    loss = loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t))
    _descend(optimizer, loss)
    return loss


@mistake("train_step")
def returned_nothing(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You train, but return nothing: end with return loss.item()."""
    x_t, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    _descend(optimizer, loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t)))


@mistake("train_step")
def timestep_not_passed(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You call the model without t: it has to know how noisy its input is."""
    x_t, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    return _descend(optimizer, loss_fn(model(x_t), target_fn(x_0, eps, abar_t)))


@mistake("train_step")
def abar_as_timestep(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You give the model abar_t: its second argument is the timestep t, (B,)."""
    x_t, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    return _descend(optimizer, loss_fn(model(x_t, abar_t), target_fn(x_0, eps, abar_t)))


@mistake("train_step")
def not_extracted(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """alphas_cumprod[t] has the shape (B,), which does not broadcast against images: extract makes it (B, 1, 1, 1)."""
    abar_t = alphas_cumprod[t]
    x_t = q_sample(x_0, abar_t, eps)
    return _descend(optimizer, loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t)))


@mistake("train_step")
def noise_as_target(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You compare with the noise: the target is what target_fn(x_0, eps, abar_t) returns."""
    x_t, _ = _noised(x_0, t, eps, alphas_cumprod)
    return _descend(optimizer, loss_fn(model(x_t, t), eps))


@mistake("train_step")
def clean_image_as_input(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You show the model the clean image: its input is x_t."""
    _, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    return _descend(optimizer, loss_fn(model(x_0, t), target_fn(x_0, eps, abar_t)))


@mistake("train_step")
def in_evaluation_mode(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You put the model into evaluation mode: layers such as dropout and batch normalisation then do not train."""
    model.eval()
    x_t, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    return _descend(optimizer, loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t)))


@mistake("train_step")
def without_gradients(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You call the model under torch.no_grad(): then nothing is recorded for backward. Only sampling does without."""
    x_t, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    with torch.no_grad():
        loss = loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t))
    return _descend(optimizer, loss)


@mistake("train_step")
def one_abar_for_all(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You used the first image's abar for the whole batch: every image has its own timestep, so extract them all."""
    x_t, abar_t = _noised(x_0, t[:1], eps, alphas_cumprod)
    return _descend(optimizer, loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t)))


@mistake("train_step")
def target_of_x_t(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You gave target_fn the noisy image: it takes the clean one, x_0."""
    x_t, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    return _descend(optimizer, loss_fn(model(x_t, t), target_fn(x_t, eps, abar_t)))


@mistake("train_step")
def loss_after_the_step(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """You return the loss after the step: return that of the prediction you trained on; a second call of the model
    costs time.
    """
    x_t, abar_t = _noised(x_0, t, eps, alphas_cumprod)
    target = target_fn(x_0, eps, abar_t)
    _descend(optimizer, loss_fn(model(x_t, t), target))
    with torch.no_grad():
        return loss_fn(model(x_t, t), target).item()


# --- average, rate, loop ----------------------------------------------------------------------


@mistake("ema_update")
@torch.no_grad()
def decay_swapped(ema, model, decay):
    """You swapped decay and 1 - decay: the average keeps the large share, decay, of itself."""
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        average.mul_(1 - decay).add_(current, alpha=decay)


@mistake("ema_update")
@torch.no_grad()
def name_rebound(ema, model, decay):
    """The average did not change: a = decay * a + ... makes a new tensor and only renames it. Change it in place
    (mul_, add_, lerp_, copy_).
    """
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        average = decay * average + (1 - decay) * current


@mistake("ema_update")
def linked(ema, model, decay):
    """The average now shares its tensors with the model and moves along with it: compute new values, do not pass on
    the same tensor.
    """
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        average.data = current.data


@mistake("ema_update")
def copied(ema, model, decay):
    """You copied the model's weights over the average: what was there before should stay with the share decay."""
    ema.load_state_dict(copy.deepcopy(model.state_dict()))


@mistake("ema_update")
@torch.no_grad()
def not_shrunk(ema, model, decay):
    """You added to the average without shrinking it: it keeps only the share decay of itself, or it grows
    without end.
    """
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        average.add_(current, alpha=1 - decay)


@mistake("ema_update")
@torch.no_grad()
def wrong_way_round(ema, model, decay):
    """You changed the network in training: it must stay as it is, the average moves towards it."""
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        current.lerp_(average, decay)


@mistake("ema_update")
def graph_kept(ema, model, decay):
    """Your average remembers how it was computed: without torch.no_grad() its graph grows with every step until the
    memory is full.
    """
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        average.mul_(decay).add_(current, alpha=1 - decay)


@mistake("ema_update")
@torch.no_grad()
def fresh_parameters(ema, model, decay):
    """You put fresh nn.Parameters into ema, which ask for gradients again: change the ones that are there, in place
    (mul_, add_, lerp_, copy_).
    """
    for name, current in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        module = ema.get_submodule(owner)
        setattr(module, leaf, torch.nn.Parameter(decay * getattr(module, leaf) + (1 - decay) * current))


@mistake("ema_update")
@torch.no_grad()
def first_parameter_only(ema, model, decay):
    """Only the first parameter moved: does a return or a break stand inside the loop?"""
    for average, current in zip(ema.parameters(), model.parameters(), strict=True):
        average.lerp_(current, 1 - decay)
        return


@mistake("learning_rate")
def first_step_zero(step, steps, peak, warmup):
    """Your first step has the rate 0 and is wasted: the rise begins with 1 / warmup, so step + 1 belongs on top."""
    return peak * min(step / warmup, (steps - step) / (steps - warmup))


@mistake("learning_rate")
def falls_from_the_start(step, steps, peak, warmup):
    """Your falling line starts at step 0, so it cuts the peak off: divide by steps - warmup, not by steps."""
    return peak * min((step + 1) / warmup, (steps - step) / steps)


@mistake("learning_rate")
def multiplied(step, steps, peak, warmup):
    """You multiplied the rise and the fall: at each step the lower of the two counts."""
    return peak * min((step + 1) / warmup, 1) * (steps - step) / steps


@mistake("learning_rate")
def no_fall(step, steps, peak, warmup):
    """Your rate stays at the peak: after the warm-up it falls towards 0."""
    return peak * min((step + 1) / warmup, 1.0)


@mistake("learning_rate")
def no_warm_up(step, steps, peak, warmup):
    """Your rate does not rise at the start: during the warm-up it is (step + 1) / warmup of the peak."""
    return peak * min(1.0, (steps - step) / (steps - warmup))


@mistake("learning_rate")
def larger_of_the_two(step, steps, peak, warmup):
    """You took the larger of the two lines: the lower one counts, so min, not max."""
    return peak * max((step + 1) / warmup, (steps - step) / (steps - warmup))


@mistake("learning_rate")
def only_the_factor(step, steps, peak, warmup):
    """You return the factor alone: multiply it by the peak."""
    return min((step + 1) / warmup, (steps - step) / (steps - warmup))


@mistake("learning_rate")
def last_step_zero(step, steps, peak, warmup):
    """Your last step has the rate 0 and is wasted: 0 would be reached at step = steps, which is never taken."""
    return peak * min((step + 1) / warmup, (steps - 1 - step) / (steps - 1 - warmup))


@mistake("train_epoch")
def order_ignored(images, order, batch_size, step_fn):
    """You took the images as they lie: look them up through order, images[order[...]]."""
    starts = range(0, len(order) - batch_size + 1, batch_size)
    return [step_fn(images[s : s + batch_size]) for s in starts]


@mistake("train_epoch")
def short_batch_kept(images, order, batch_size, step_fn):
    """You kept the incomplete batch at the end: drop it, so that all batches weigh the same."""
    return [step_fn(images[order[s : s + batch_size]]) for s in range(0, len(order), batch_size)]


@mistake("train_epoch")
def last_batch_lost(images, order, batch_size, step_fn):
    """You lose a whole batch where the size divides the length: the last start is len(order) - batch_size, and it
    counts.
    """
    return [step_fn(images[order[s : s + batch_size]]) for s in range(0, len(order) - batch_size, batch_size)]


@mistake("train_epoch")
def overlapping(images, order, batch_size, step_fn):
    """Your batches overlap: the next one starts batch_size further on, not one further on."""
    return [step_fn(images[order[s : s + batch_size]]) for s in range(len(order) // batch_size)]


@mistake("train_epoch")
def mean_of_losses(images, order, batch_size, step_fn):
    """Your list holds one number: keep the loss of every batch."""
    losses = [step_fn(images[batch]) for batch in order.split(batch_size) if len(batch) == batch_size]
    return [sum(losses) / len(losses)]


@mistake("train_epoch")
def mean_returned(images, order, batch_size, step_fn):
    """You return the mean of the losses: return them all, in a list."""
    losses = [step_fn(images[batch]) for batch in order.split(batch_size) if len(batch) == batch_size]
    return sum(losses) / len(losses)


@mistake("train_epoch")
def indices_passed(images, order, batch_size, step_fn):
    """You hand the indices to step_fn: it takes the images, images[indices]."""
    return [step_fn(batch.float()) for batch in order.split(batch_size) if len(batch) == batch_size]


@mistake("train_epoch")
def from_all_images(images, order, batch_size, step_fn):
    """You counted the batches by the images: count them by the order, which may be shorter."""
    starts = range(0, len(images) - batch_size + 1, batch_size)
    return [step_fn(images[order[s : s + batch_size]]) for s in starts]


# --- where it is hard -------------------------------------------------------------------------


@mistake("predict_hardest_timesteps")
def says_late():
    """At the late steps the input is almost the noise itself, so it is easy to name: it is x_0 that is hard there."""
    return "late"


@mistake("predict_hardest_timesteps")
def says_middle():
    """Look at the curve for eps: it falls all the way, so its largest value is not in the middle."""
    return "middle"


@mistake("predict_hardest_timesteps")
def says_everywhere():
    """Return one of the three texts that the question names."""
    return "everywhere"


def _gathered(losses, index, bins):
    total = torch.zeros(bins, device=losses.device).index_add(0, index, losses)
    return total, torch.bincount(index, minlength=bins)


@mistake("loss_by_timestep")
def summed(losses, t, T, bins):
    """You return sums: divide each by the number of losses in its bin."""
    return _gathered(losses, t * bins // T, bins)[0]


@mistake("loss_by_timestep")
def divided_by_all(losses, t, T, bins):
    """You divided every bin by the number of all losses: each has a count of its own."""
    return _gathered(losses, t * bins // T, bins)[0] / len(losses)


@mistake("loss_by_timestep")
def empty_is_nan(losses, t, T, bins):
    """Your empty bins are NaN, 0 divided by 0: return 0 there, for instance by dividing by at least 1."""
    total, count = _gathered(losses, t * bins // T, bins)
    return total / count


@mistake("loss_by_timestep")
def remainder(losses, t, T, bins):
    """You sorted by the remainder t % bins: neighbours must share a bin, so use t * bins // T."""
    total, count = _gathered(losses, t % bins, bins)
    return total / count.clamp(min=1)


@mistake("loss_by_timestep")
def bins_of_rounded_width(losses, t, T, bins):
    """Your bins have a rounded width, T // bins, which leaves the last timesteps outside: multiply first, t * bins //
    T.
    """
    total, count = _gathered(losses, (t // (T // bins)).clamp(max=bins - 1), bins)
    return total / count.clamp(min=1)


@mistake("loss_by_timestep")
def one_bin_too_many(losses, t, T, bins):
    """You return more than `bins` values, since t // (T // bins) rounds the width down: use t * bins // T."""
    index = t // (T // bins)
    count = torch.bincount(index, minlength=bins)
    return torch.bincount(index, weights=losses, minlength=bins).float() / count.clamp(min=1)


@mistake("loss_by_timestep")
def bin_out_of_range(losses, t, T, bins):
    """Your bin number gets too large, since t // (T // bins) rounds the width down: use t * bins // T."""
    total, count = _gathered(losses, t // (T // bins), bins)
    return total / count.clamp(min=1)


@mistake("loss_by_timestep")
def by_place_in_the_batch(losses, t, T, bins):
    """You cut the losses by their place in the list: their timesteps decide."""
    index = torch.arange(len(losses), device=losses.device) * bins // len(losses)
    total, count = _gathered(losses, index, bins)
    return total / count.clamp(min=1)


@mistake("loss_by_timestep")
def reversed_bins(losses, t, T, bins):
    """Your bins run backwards: the first one holds the timesteps near 0."""
    total, count = _gathered(losses, bins - 1 - t * bins // T, bins)
    return total / count.clamp(min=1)
