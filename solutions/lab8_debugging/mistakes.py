"""Wrong mends that people give in lab8_debugging; the docstring of each is the hint."""

import copy

import torch

from labdiff.authoring import mistake
from labdiff.reference import lab8_debugging as right
from labdiff.reference.lab1_forward import cosine_betas, extract, posterior_mean, q_sample
from labdiff.reference.lab3_training import ema_update, random_timesteps


@mistake("predict_early_error")
def grain_everywhere():
    """Noise that is added early is noise in x_t like any other: the steps that follow remove it."""
    return "grainy"


@mistake("predict_early_error")
def error_is_fatal():
    """Two thirds of the walk are still to come, with a denoiser that works: the digits find their way back."""
    return "lost"


@mistake("predict_early_error")
def nothing_said():
    """Return your guess as a text, one of the three."""
    return None


def _with(betas):
    return betas, torch.cumprod(1 - betas, dim=0)


@mistake("schedule_for")
def schedule_as_given(T):
    """This is still the program as given: at T = 100 the strokes are a tangle. Print alphas_cumprod[-1] for several T
    and look at the line that makes betas."""
    return _with(torch.linspace(1e-4, 0.02, T))


@mistake("schedule_for")
def scaled_the_wrong_way(T):
    """You made the betas smaller for fewer steps: with fewer steps each has to do more, so they must grow."""
    return _with(torch.linspace(1e-4 * T / 1000, 0.02 * T / 1000, T))


@mistake("schedule_for")
def scaled_by_a_whole_number(T):
    """You scale by 1000 // T, a whole number: at T = 600 it is 1, and nothing changes. Divide without rounding."""
    scale = 1000 // T
    return _with(torch.linspace(1e-4 * scale, 0.02 * scale, T))


@mistake("schedule_for")
def scaled_by_the_root(T):
    """You scaled by the square root of 1000 / T: variances add up step by step, so no root belongs there."""
    scale = (1000 / T) ** 0.5
    return _with(torch.linspace(1e-4 * scale, 0.02 * scale, T))


@mistake("schedule_for")
def last_beta_forced(T):
    """You only raised the last beta: the end is noise now, but it gets there in one jump, and all levels before it are
    as wrong as they were. The symptom moved, the fault stayed."""
    betas = torch.linspace(1e-4, 0.02, T)
    if T < 1000:
        betas[-1] = 1 - 4.0358e-5 / torch.cumprod(1 - betas, dim=0)[-2]
    return _with(betas)


@mistake("schedule_for")
def only_the_product_mended(T):
    """Your alphas_cumprod is right, but your betas are still the old ones: a sampler uses both, and they must agree."""
    scale = 1000 / T
    return torch.linspace(1e-4, 0.02, T), torch.cumprod(1 - torch.linspace(1e-4 * scale, 0.02 * scale, T), dim=0)


@mistake("schedule_for")
def only_the_betas_mended(T):
    """Your betas are right, but your alphas_cumprod still comes from the old ones: compute it after the change."""
    scale = 1000 / T
    return torch.linspace(1e-4 * scale, 0.02 * scale, T), torch.cumprod(1 - torch.linspace(1e-4, 0.02, T), dim=0)


@mistake("schedule_for")
def cosine_instead(T):
    """You took the cosine schedule: it ends in noise for every T, but the contract asks for DDPM's linear schedule."""
    return _with(cosine_betas(T))


@mistake("schedule_for")
def always_a_thousand(T):
    """You return all 1000 steps whatever T is: the schedule has T of them."""
    return _with(torch.linspace(1e-4, 0.02, 1000))


@mistake("schedule_for")
def pulled_to_zero(T):
    """You pull the end of the schedule down to 0 (the cure of Lin and others 2024). It makes the end noise, but the
    levels on the way are still far from DDPM's, and the last beta is 1. Look for the cause: what are the constants
    made for?"""
    root = torch.cumprod(1 - torch.linspace(1e-4, 0.02, T), dim=0).sqrt()
    abar = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return 1 - abar / torch.cat([torch.ones(1), abar[:-1]]), abar


def _laid_out(pixels, columns):
    B, _, H, W = pixels.shape
    lines = -(-B // columns)
    sheet = torch.zeros(lines * columns, H, W, dtype=torch.uint8, device=pixels.device)
    sheet[:B] = pixels[:, 0].int().to(torch.uint8)
    return sheet.reshape(lines, columns, H, W).transpose(1, 2).reshape(lines * H, columns * W)


@mistake("picture_of")
def picture_as_given(images, columns):
    """This is still the program as given: specks of white on black remain. Follow a pixel that is a little below -1
    through each line, and look at the cast. (A clamp behind the cast comes too late: they have wrapped.)"""
    return _laid_out(((images + 1) * 127.5).round(), columns)


@mistake("picture_of")
def only_white_cut(images, columns):
    """You cut at the bright end only: pixels darker than black still come out white."""
    return _laid_out(((images + 1) * 127.5).round().clamp(max=255), columns)


@mistake("picture_of")
def only_black_cut(images, columns):
    """You cut at the dark end only: pixels brighter than white still come out black."""
    return _laid_out(((images + 1) * 127.5).round().clamp(min=0), columns)


@mistake("picture_of")
def stretched_to_fit(images, columns):
    """You rescale by the smallest and largest value of the batch: nothing wraps now, but every grey changes, and one
    odd pixel makes the whole picture dull. Cut what lies outside and leave the rest alone."""
    low, high = images.min(), images.max()
    return _laid_out(((images - low) / (high - low) * 255).round(), columns)


@mistake("picture_of")
def cut_to_the_upper_half(images, columns):
    """You clamp to [0, 1]: images are in [-1, 1] here, so all that is darker than middle grey becomes middle grey."""
    return _laid_out(((images.clamp(0, 1) + 1) * 127.5).round(), columns)


@mistake("picture_of")
def folded_back(images, columns):
    """You take the absolute value: a pixel darker than black comes out grey. It should be black."""
    return _laid_out(((images + 1) * 127.5).round().abs().clamp(max=255), columns)


@mistake("picture_of")
def rounding_lost(images, columns):
    """The specks are gone, but so is the rounding: a cast cuts the decimals off, so most greys are one too dark."""
    return _laid_out((images.clamp(-1, 1) + 1) * 127.5, columns)


@mistake("picture_of")
def squashed(images, columns):
    """You squash with tanh: it changes every grey. Cut what lies outside and leave the rest alone."""
    return _laid_out(((images.tanh() + 1) * 127.5).round(), columns)


def _ancestral(denoise, x_T, noise, betas, add):
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)
    before = torch.cat([torch.ones_like(betas[:1]), alphas_cumprod[:-1]])
    x = x_T
    for t in reversed(range(len(betas))):
        mean = posterior_mean(denoise(x, t), x, betas[t], alphas_cumprod[t], before[t])
        x = mean + add(t, betas[t], alphas_cumprod[t], before[t]) * noise[t]
    return x


@mistake("sample_ancestral")
def ancestral_as_given(denoise, x_T, noise, betas):
    """This is still the program as given: grain remains on the finished digits. Let denoise always return one image,
    and look at what the loop does at its last step."""
    return _ancestral(denoise, x_T, noise, betas, lambda t, beta, abar, before: beta.sqrt())


@mistake("sample_ancestral")
def result_clamped(denoise, x_T, noise, betas):
    """You clamp the finished image: that hides the grain on black paper only, and it is still there on the strokes.
    Find the step that puts it there."""
    return _ancestral(denoise, x_T, noise, betas, lambda t, beta, abar, before: beta.sqrt()).clamp(-1, 1)


@mistake("sample_ancestral")
def one_step_too_many(denoise, x_T, noise, betas):
    """You leave the noise out at t = 1 too: papers count from 1, here the last step is t = 0."""
    return _ancestral(denoise, x_T, noise, betas, lambda t, beta, abar, before: beta.sqrt() if t > 1 else 0)


@mistake("sample_ancestral")
def exception_at_the_start(denoise, x_T, noise, betas):
    """You leave the noise out at t = T - 1: that is the first step. The finished image comes out of t = 0."""
    return _ancestral(
        denoise, x_T, noise, betas, lambda t, beta, abar, before: beta.sqrt() if t < len(betas) - 1 else 0
    )


@mistake("sample_ancestral")
def no_noise_at_all(denoise, x_T, noise, betas):
    """You took the noise out of every step: the grain is gone, but this is no longer ancestral sampling, and its
    digits turn blurred and alike. Only one step is wrong."""
    return _ancestral(denoise, x_T, noise, betas, lambda t, beta, abar, before: 0)


@mistake("sample_ancestral")
def other_variance(denoise, x_T, noise, betas):
    """You changed to the posterior's variance: it is 0 at the last step, so the grain is gone, but every other step
    changed with it. The contract asks for beta_t."""
    return _ancestral(
        denoise, x_T, noise, betas, lambda t, beta, abar, before: (beta * (1 - before) / (1 - abar)).sqrt()
    )


@mistake("sample_ancestral")
def variance_for_deviation(denoise, x_T, noise, betas):
    """You scale the noise by beta_t without the root: the grain gets weaker, because all noise does."""
    return _ancestral(denoise, x_T, noise, betas, lambda t, beta, abar, before: beta)


@mistake("sample_ancestral")
def stopped_early(denoise, x_T, noise, betas):
    """You left out the step t = 0: the loop must reach it, because its mean is the finished image."""
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)
    x = x_T
    for t in range(len(betas) - 1, 0, -1):
        mean = posterior_mean(denoise(x, t), x, betas[t], alphas_cumprod[t], alphas_cumprod[t - 1])
        x = mean + betas[t].sqrt() * noise[t]
    return x


@mistake("sample_ancestral")
def denoised_once_more(denoise, x_T, noise, betas):
    """You denoise the result once more: that wipes the grain off afterwards, costs a call of the network and changes
    the image. Find the step that puts the grain there."""
    x = _ancestral(denoise, x_T, noise, betas, lambda t, beta, abar, before: beta.sqrt())
    return denoise(x, 0)


@mistake("sample_ancestral")
def callers_noise_erased(denoise, x_T, noise, betas):
    """You set noise[0] to 0 in place: the result is right, but the noise is the caller's. Leave it out in the loop."""
    noise[0] = 0
    return _ancestral(denoise, x_T, noise, betas, lambda t, beta, abar, before: beta.sqrt())


def _guess(eps_model, x_t, t, betas, image_weight, noise_weight, cut=True):
    log_abar = torch.log1p(-betas.double()).cumsum(dim=0)
    log_rest = torch.log(-torch.expm1(log_abar))
    a, b = image_weight(log_abar, log_rest).to(x_t), noise_weight(log_abar, log_rest).to(x_t)
    x_0 = extract(a, t, x_t) * x_t - extract(b, t, x_t) * eps_model(x_t, t)
    return x_0.clamp(-1, 1) if cut else x_0


def _right_image(log_abar, log_rest):
    return torch.exp(-0.5 * log_abar)


def _right_noise(log_abar, log_rest):
    return torch.exp(0.5 * (log_rest - log_abar))


def _wrong_noise(log_abar, log_rest):
    return torch.exp(0.5 * log_rest - log_abar)


@mistake("clean_guess")
def guess_as_given(eps_model, x_t, t, betas):
    """This is still the program as given: at large t the guess is black and white noise. Give it the exact noise,
    leave the clamp out, and look at the two weights."""
    return _guess(eps_model, x_t, t, betas, _right_image, _wrong_noise)


@mistake("clean_guess")
def root_of_the_rest_lost(eps_model, x_t, t, betas):
    """You moved the half to the other logarithm: now 1 - abar_t lacks its root, so grain remains at small t."""
    return _guess(eps_model, x_t, t, betas, _right_image, lambda abar, rest: torch.exp(rest - 0.5 * abar))


@mistake("clean_guess")
def no_root_at_all(eps_model, x_t, t, betas):
    """Both halves are gone from the noise's weight: both 1 - abar_t and abar_t belong under the root."""
    return _guess(eps_model, x_t, t, betas, _right_image, lambda abar, rest: torch.exp(rest - abar))


@mistake("clean_guess")
def both_alike(eps_model, x_t, t, betas):
    """Your two weights agree now, but in the wrong one: both divide by abar_t where its root belongs, so the guess is
    too strong at large t. Mend the noise's weight, not the image's."""
    return _guess(eps_model, x_t, t, betas, lambda abar, rest: torch.exp(-abar), _wrong_noise)


@mistake("clean_guess")
def division_lost(eps_model, x_t, t, betas):
    """Your noise's weight is sqrt(1 - abar_t) alone: the division by sqrt(abar_t) belongs to both terms."""
    return _guess(eps_model, x_t, t, betas, _right_image, lambda abar, rest: torch.exp(0.5 * rest))


@mistake("clean_guess")
def sign_turned(eps_model, x_t, t, betas):
    """The sign before log_abar in your noise's weight is turned: dividing by sqrt(abar_t) is a minus."""
    return _guess(eps_model, x_t, t, betas, _right_image, lambda abar, rest: torch.exp(0.5 * (rest + abar)))


@mistake("clean_guess")
def clamp_removed(eps_model, x_t, t, betas):
    """The weights are right, but you took the clamp away: a network's noise is never exact, so the guess must still be
    cut to [-1, 1]."""
    return _guess(eps_model, x_t, t, betas, _right_image, _right_noise, cut=False)


@mistake("clean_guess")
def weight_capped(eps_model, x_t, t, betas):
    """You capped the noise's weight at that of the image: a cap hides the fault at the largest t and leaves it
    everywhere else. Find out what the weight should be."""
    return _guess(
        eps_model,
        x_t,
        t,
        betas,
        _right_image,
        lambda abar, rest: torch.minimum(_wrong_noise(abar, rest), torch.exp(-0.5 * abar)),
    )


@mistake("clean_guess")
def noise_cut(eps_model, x_t, t, betas):
    """You clamp the noise to [-1, 1]: noise is standard normal, a third of it lies outside. Only images are cut."""
    return _guess(lambda x, t: eps_model(x, t).clamp(-1, 1), x_t, t, betas, _right_image, _right_noise)


@mistake("clean_guess")
def returned_in_double(eps_model, x_t, t, betas):
    """The values are right, but they come back as float64: the tables are in double precision, so bring the weights to
    the dtype of x_t."""
    return right.clean_guess(eps_model, x_t, t, betas).double()


@mistake("averaged_training")
def average_as_given(network, step, batches, decay, evaluate, every=1):
    """This is still the program as given: its average follows the network at once, whatever the decay. Look at where
    the average's tensors come from, not at the update."""
    average = {name: p.detach() for name, p in network.named_parameters()}
    seen = []
    for i, batch in enumerate(batches, start=1):
        step(network, batch)
        for name, p in network.named_parameters():
            average[name].lerp_(p.detach(), 1 - decay)
        if i % every == 0:
            judged = copy.deepcopy(network)
            judged.load_state_dict(average, strict=False)
            seen.append(evaluate(judged))
    network.load_state_dict(average, strict=False)
    return network, seen


def _train(network, step, batches, decay, evaluate, every, own_return=False, own_judged=False):
    average, seen = copy.deepcopy(network), []
    for i, batch in enumerate(batches, start=1):
        step(network, batch)
        ema_update(average, network, decay)
        if i % every == 0:
            seen.append(evaluate(network if own_judged else average))
    return network if own_return else average, seen


@mistake("averaged_training")
def training_goes_on_from_the_average(network, step, batches, decay, evaluate, every=1):
    """You load the average into the network that is being trained, and the next step starts from it. Evaluate a copy,
    or put the network's own weights back."""
    average, seen = copy.deepcopy(network), []
    for i, batch in enumerate(batches, start=1):
        step(network, batch)
        ema_update(average, network, decay)
        if i % every == 0:
            network.load_state_dict(average.state_dict())
            seen.append(evaluate(network))
    return average, seen


@mistake("averaged_training")
def own_weights_returned(network, step, batches, decay, evaluate, every=1):
    """Your figures are those of the average, but the network that comes back has its own weights, not the averaged
    ones."""
    return _train(network, step, batches, decay, evaluate, every, own_return=True)


@mistake("averaged_training")
def own_weights_evaluated(network, step, batches, decay, evaluate, every=1):
    """The network that comes back is the average, but your figures are those of the network's own weights."""
    return _train(network, step, batches, decay, evaluate, every, own_judged=True)


@mistake("averaged_training")
def decay_swapped(network, step, batches, decay, evaluate, every=1):
    """You swapped decay and 1 - decay: decay is the share of the average that stays."""
    return _train(network, step, batches, 1 - decay, evaluate, every)


@mistake("averaged_training")
def averaged_before_the_step(network, step, batches, decay, evaluate, every=1):
    """You take the weights in before the step: the average lags one step behind. Step first, then average."""
    average, seen = copy.deepcopy(network), []
    for i, batch in enumerate(batches, start=1):
        ema_update(average, network, decay)
        step(network, batch)
        if i % every == 0:
            seen.append(evaluate(average))
    return average, seen


@mistake("averaged_training")
def average_begins_late(network, step, batches, decay, evaluate, every=1):
    """Your average begins with the weights after the first step: copy the starting weights before `step` changes
    them."""
    average, seen = None, []
    for i, batch in enumerate(batches, start=1):
        step(network, batch)
        if average is None:
            average = copy.deepcopy(network)
        else:
            ema_update(average, network, decay)
        if i % every == 0:
            seen.append(evaluate(average))
    return average, seen


@mistake("averaged_training")
def average_begins_at_zero(network, step, batches, decay, evaluate, every=1):
    """Your average begins at zero: after few steps it is a network of far too small weights. Begin with the weights
    that the network has before the first step."""
    average, seen = copy.deepcopy(network), []
    with torch.no_grad():
        for p in average.parameters():
            p.zero_()
    for i, batch in enumerate(batches, start=1):
        step(network, batch)
        ema_update(average, network, decay)
        if i % every == 0:
            seen.append(evaluate(average))
    return average, seen


@mistake("label_dropout_batch")
def labels_as_given(images, labels, order, u, p, null):
    """This is still the program as given: no label is ever dropped, not even with p = 1. Look at what becomes of the
    result of each line."""
    x_0, y = images[order], labels[order]
    y.masked_fill(u < p, null)
    return x_0, y


@mistake("label_dropout_batch")
def written_into_the_data(images, labels, order, u, p, null):
    """You write into y. That is right for a list of indices, which makes a copy; of a slice, y is a view, and the null
    labels stand in the data set for ever. Each epoch adds more. Make a new tensor."""
    x_0, y = images[order], labels[order]
    y.masked_fill_(u < p, null)
    return x_0, y


@mistake("label_dropout_batch")
def kept_ones_dropped(images, labels, order, u, p, null):
    """You drop the labels that should stay and keep the others: with p = 0.1 nine in ten are gone. Dropped is where
    u < p."""
    return images[order], torch.where(u < p, labels[order], null)


@mistake("label_dropout_batch")
def one_label_too_many(images, labels, order, u, p, null):
    """With p = 0 and u = 0 you drop a label: u can be 0 but never 1, so compare with <, not with <=."""
    return images[order], labels[order].masked_fill(u <= p, null)


@mistake("label_dropout_batch")
def whole_batch_at_once(images, labels, order, u, p, null):
    """One number decides for the whole batch. Each image has its own u."""
    y = labels[order]
    return images[order], torch.full_like(y, null) if u[0] < p else y


@mistake("label_dropout_batch")
def zero_for_null(images, labels, order, u, p, null):
    """You replace dropped labels by 0, but 0 is a digit: the null label is given as null."""
    return images[order], labels[order] * (u >= p)


@mistake("label_dropout_batch")
def images_thrown_away(images, labels, order, u, p, null):
    """You leave out the images whose label is dropped. They must stay: the network learns from them what pictures
    without a label look like."""
    kept = u >= p
    return images[order][kept], labels[order][kept]


@mistake("label_dropout_batch")
def images_blanked(images, labels, order, u, p, null):
    """You blank the images of dropped labels too. Only the label goes, the image stays as it is."""
    dropped = u < p
    x_0 = images[order]
    return x_0 * ~dropped.reshape(-1, 1, 1, 1), torch.where(dropped, null, labels[order])


@mistake("latent_round_trip")
def latents_as_given(x, encode, decode, shift, scale, process):
    """This is still the program as given: with a process that does nothing the picture comes back pale. Only part of
    what was done to the latent on the way in is undone."""
    z = process((encode(x) - shift) * scale)
    return decode(z + shift).clamp(-1, 1)


@mistake("latent_round_trip")
def scaled_again(x, encode, decode, shift, scale, process):
    """You scale a second time on the way back: undo a multiplication by scale with a division."""
    z = process((encode(x) - shift) * scale)
    return decode(z * scale + shift).clamp(-1, 1)


@mistake("latent_round_trip")
def undone_in_the_wrong_order(x, encode, decode, shift, scale, process):
    """You undo the two steps in the wrong order: what was done last must be undone first, so divide, then shift."""
    z = process((encode(x) - shift) * scale)
    return decode((z + shift) / scale).clamp(-1, 1)


@mistake("latent_round_trip")
def scale_undone_on_pixels(x, encode, decode, shift, scale, process):
    """You undo the scale after decoding, on pixels: it belongs to the latent, so divide before decode."""
    z = process((encode(x) - shift) * scale)
    return (decode(z + shift) / scale).clamp(-1, 1)


@mistake("latent_round_trip")
def never_scaled(x, encode, decode, shift, scale, process):
    """You took the scale out on both sides. The round trip is right again, but process gets latents whose deviation
    is not 1, and its noise levels mean something else."""
    return decode(process(encode(x) - shift) + shift).clamp(-1, 1)


@mistake("latent_round_trip")
def the_other_way_round(x, encode, decode, shift, scale, process):
    """You divide on the way in and multiply on the way back. The round trip is right, but process gets latents whose
    deviation is far from 1."""
    z = process((encode(x) - shift) / scale)
    return decode(z * scale + shift).clamp(-1, 1)


@mistake("latent_round_trip")
def shift_forgotten(x, encode, decode, shift, scale, process):
    """You undo the scale but no longer the shift: the picture comes back with another brightness."""
    z = process((encode(x) - shift) * scale)
    return decode(z / scale).clamp(-1, 1)


@mistake("latent_round_trip")
def not_clamped(x, encode, decode, shift, scale, process):
    """Your pictures leave [-1, 1]: the clamp of the program belonged to its contract."""
    z = process((encode(x) - shift) * scale)
    return decode(z / scale + shift)


@mistake("latent_round_trip")
def latents_clamped(x, encode, decode, shift, scale, process):
    """You clamp the latents: they are no pixels, and of deviation 1 many lie outside [-1, 1]. Clamp what decode
    returns."""
    z = process((encode(x) - shift) * scale).clamp(-1, 1)
    return decode(z / scale + shift).clamp(-1, 1)


def _pairs(x_0, t, eps, table, told=None):
    return q_sample(x_0, extract(table, t, x_0), eps), t if told is None else told, eps


@mistake("training_pairs")
def pairs_as_given(x_0, u, eps, alphas_cumprod):
    """This is still the program as given: the loss falls as it should and the samples are noise. Compare the share of
    x_0 in x_t at t = 0 with alphas_cumprod[0]."""
    return _pairs(x_0, random_timesteps(u, len(alphas_cumprod)), eps, alphas_cumprod.flip(0))


@mistake("training_pairs")
def factors_exchanged(x_0, u, eps, alphas_cumprod):
    """You exchanged the factors of x_0 and eps and left the table as it was. The noise grows with t now, but by another
    schedule than the sampler's: 1 - abar at T - 1 - t is not abar at t."""
    t = random_timesteps(u, len(alphas_cumprod))
    abar_t = extract(alphas_cumprod.flip(0), t, x_0)
    return (1 - abar_t).sqrt() * x_0 + abar_t.sqrt() * eps, t, eps


@mistake("training_pairs")
def flipped_along_the_batch(x_0, u, eps, alphas_cumprod):
    """You flip t along the batch: that tells each image the timestep of another one."""
    t = random_timesteps(u, len(alphas_cumprod))
    return _pairs(x_0, t, eps, alphas_cumprod, told=t.flip(0))


@mistake("training_pairs")
def told_the_mirror_image(x_0, u, eps, alphas_cumprod):
    """You tell the network T - 1 - t while x_t has the noise of t: mend one of the two, the table or the number."""
    t = random_timesteps(u, len(alphas_cumprod))
    return _pairs(x_0, t, eps, alphas_cumprod, told=len(alphas_cumprod) - 1 - t)


@mistake("training_pairs")
def v_for_the_noise(x_0, u, eps, alphas_cumprod):
    """Your target is v. This network predicts the noise, so the target is eps."""
    t = random_timesteps(u, len(alphas_cumprod))
    abar_t = extract(alphas_cumprod, t, x_0)
    return q_sample(x_0, abar_t, eps), t, abar_t.sqrt() * eps - (1 - abar_t).sqrt() * x_0


@mistake("training_pairs")
def mirrored_from_T(x_0, u, eps, alphas_cumprod):
    """You mirror t as T - t. The steps are 0 to T - 1, so the mirror image of 0 is T - 1; there is no step T."""
    t = random_timesteps(u, len(alphas_cumprod))
    return _pairs(x_0, t, eps, alphas_cumprod.flip(0), told=len(alphas_cumprod) - t)


@mistake("training_pairs")
def told_one_more(x_0, u, eps, alphas_cumprod):
    """You tell the network t + 1. Papers count from 1; here alphas_cumprod[t] belongs to t itself."""
    t = random_timesteps(u, len(alphas_cumprod))
    return _pairs(x_0, t, eps, alphas_cumprod, told=t + 1)


@mistake("training_pairs")
def told_a_share(x_0, u, eps, alphas_cumprod):
    """You tell the network t / T, a number from 0 to 1. Our networks and samplers want the step itself, an int64."""
    t = random_timesteps(u, len(alphas_cumprod))
    return _pairs(x_0, t, eps, alphas_cumprod, told=t / len(alphas_cumprod))


@mistake("training_pairs")
def one_step_for_all(x_0, u, eps, alphas_cumprod):
    """The whole batch gets one and the same t: each image needs its own, made of its own u."""
    t = random_timesteps(u[:1].expand_as(u), len(alphas_cumprod))
    return _pairs(x_0, t, eps, alphas_cumprod)


@mistake("training_pairs")
def clean_target(x_0, u, eps, alphas_cumprod):
    """Your target is x_0. This network predicts the noise, so the target is eps."""
    t = random_timesteps(u, len(alphas_cumprod))
    return q_sample(x_0, extract(alphas_cumprod, t, x_0), eps), t, x_0
