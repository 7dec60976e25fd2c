"""Right mends of lab8_debugging, written in other ways than the reference."""

import copy

import torch

from labdiff.authoring import variant
from labdiff.images import to_pixels as clamped_pixels
from labdiff.reference.lab1_forward import compute_alphas_cumprod, extract, linear_betas, posterior_mean, q_sample
from labdiff.reference.lab3_training import ema_update, random_timesteps, x0_from_eps


@variant("predict_early_error")
def named_first():
    said = "clean"
    return said


@variant("predict_early_error")
def from_a_list():
    return ("grainy", "clean", "lost")[1]


@variant("schedule_for")
def scaled_after_linspace(T):
    betas = torch.linspace(1e-4, 0.02, T) * (1000 / T)
    return betas, compute_alphas_cumprod(betas)


@variant("schedule_for")
def every_so_many_of_the_thousand(T):
    abar = torch.cumprod(1 - linear_betas(1000).double(), dim=0)
    stops = (torch.arange(1, T + 1) * 1000 / T).round().long() - 1
    picked = abar[stops]
    before = torch.cat([torch.ones(1, dtype=torch.float64), picked[:-1]])
    return (1 - picked / before).float(), picked.float()


@variant("schedule_for")
def by_powers(T):
    betas = 1 - (1 - torch.linspace(1e-4, 0.02, T, dtype=torch.float64)) ** (1000 / T)
    return betas.float(), torch.cumprod(1 - betas, dim=0).float()


@variant("schedule_for")
def only_the_large_end_scaled(T):
    betas = torch.linspace(1e-4, 0.02 * 1000 / T, T)
    return [betas, (1 - betas).cumprod(0)]


def _laid_out(pixels, columns):
    B, H, W = pixels.shape
    lines = (B + columns - 1) // columns
    picture = pixels.new_zeros(lines * H, columns * W)
    for i, one in enumerate(pixels):
        line, column = divmod(i, columns)
        picture[line * H : (line + 1) * H, column * W : (column + 1) * W] = one
    return picture


@variant("picture_of")
def pixels_cut(images, columns):
    return _laid_out(((images[:, 0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8), columns)


@variant("picture_of")
def with_the_helper(images, columns):
    return _laid_out(clamped_pixels(images[:, 0]), columns)


@variant("picture_of")
def half_added(images, columns):
    pixels = (images[:, 0] * 127.5 + 128).floor()
    return _laid_out(torch.minimum(torch.maximum(pixels, pixels * 0), pixels * 0 + 255).byte(), columns)


@variant("sample_ancestral")
def masked(denoise, x_T, noise, betas):
    abar = compute_alphas_cumprod(betas)
    x = x_T.clone()
    for t in range(len(betas) - 1, -1, -1):
        before = abar[t - 1] if t > 0 else torch.ones_like(abar[t])
        x = posterior_mean(denoise(x, t), x, betas[t], abar[t], before) + (t != 0) * betas[t] ** 0.5 * noise[t]
    return x


@variant("sample_ancestral")
def guess_at_the_end(denoise, x_T, noise, betas):
    abar = compute_alphas_cumprod(betas)
    x = x_T
    for t in range(len(betas) - 1, 0, -1):
        x = posterior_mean(denoise(x, t), x, betas[t], abar[t], abar[t - 1]) + betas[t].sqrt() * noise[t]
    return denoise(x, 0) * 1


@variant("sample_ancestral")
def deviations_in_a_table(denoise, x_T, noise, betas):
    abar = compute_alphas_cumprod(betas)
    before = torch.cat([torch.ones_like(betas[:1]), abar[:-1]])
    deviations = torch.cat([torch.zeros_like(betas[:1]), betas[1:].sqrt()])
    x = x_T
    for t in reversed(range(len(betas))):
        x = posterior_mean(denoise(x, t), x, betas[t], abar[t], before[t]) + deviations[t] * noise[t]
    return x


@variant("clean_guess")
def with_lab_three(eps_model, x_t, t, betas):
    abar_t = extract(compute_alphas_cumprod(betas.double()), t, x_t)
    return x0_from_eps(x_t, eps_model(x_t, t), abar_t).clamp(-1, 1).to(x_t.dtype)


@variant("clean_guess")
def two_halves(eps_model, x_t, t, betas):
    log_abar = torch.log1p(-betas.double()).cumsum(dim=0)
    noise_weight = torch.exp(0.5 * torch.log(-torch.expm1(log_abar)) - 0.5 * log_abar).to(x_t)
    image_weight = torch.exp(-0.5 * log_abar).to(x_t)
    x_0 = extract(image_weight, t, x_t) * x_t - extract(noise_weight, t, x_t) * eps_model(x_t, t)
    return x_0.clamp(min=-1, max=1)


@variant("clean_guess")
def ratio_in_single_precision(eps_model, x_t, t, betas):
    abar = torch.cumprod(1 - betas, dim=0).to(x_t)[t].reshape(-1, 1, 1, 1)
    return ((x_t / abar.sqrt()) - (1 / abar - 1).sqrt() * eps_model(x_t, t)).clamp(-1, 1)


@variant("averaged_training")
def a_second_network(network, step, batches, decay, evaluate, every=1):
    average, seen = copy.deepcopy(network), []
    for i, batch in enumerate(batches, start=1):
        step(network, batch)
        ema_update(average, network, decay)
        if i % every == 0:
            seen.append(evaluate(average))
    return average, seen


@variant("averaged_training")
def swapped_in_and_back(network, step, batches, decay, evaluate, every=1):
    parameters = list(network.parameters())
    average, seen = [p.detach().clone() for p in parameters], []

    def swap():
        with torch.no_grad():
            for i, p in enumerate(parameters):
                average[i], own = p.detach().clone(), average[i]
                p.copy_(own)

    for done, batch in enumerate(batches):
        step(network, batch)
        average = [decay * a + (1 - decay) * p.detach() for a, p in zip(average, parameters, strict=True)]
        if (done + 1) % every == 0:
            swap()
            seen.append(evaluate(network))
            swap()
    swap()
    return network, seen


@variant("label_dropout_batch")
def with_where(images, labels, order, u, p, null):
    y = labels[order]
    return images[order], torch.where(u < p, torch.full_like(y, null), y)


@variant("label_dropout_batch")
def on_a_copy(images, labels, order, u, p, null):
    y = labels[order].clone()
    y[u < p] = null
    return images[order].clone(), y


@variant("latent_round_trip")
def with_a_deviation(x, encode, decode, shift, scale, process):
    deviation = 1 / scale
    z = process((encode(x) - shift) / deviation)
    return decode(shift + z * deviation).clamp(min=-1, max=1)


@variant("latent_round_trip")
def shift_in_scaled_units(x, encode, decode, shift, scale, process):
    z = process(encode(x) * scale - shift * scale) + shift * scale
    return decode(z / scale).clamp(-1, 1)


@variant("training_pairs")
def the_told_step_mirrored(x_0, u, eps, alphas_cumprod):
    levels = alphas_cumprod.flip(0)
    place = random_timesteps(u, len(levels))
    abar_t = extract(levels, place, x_0)
    return q_sample(x_0, abar_t, eps), len(levels) - 1 - place, eps


@variant("training_pairs")
def written_out(x_0, u, eps, alphas_cumprod):
    t = (u * len(alphas_cumprod)).long()
    a = alphas_cumprod[t].sqrt().reshape(-1, *[1] * (x_0.dim() - 1))
    b = (1 - a**2).sqrt()
    return a * x_0 + b * eps, t, eps.clone()
