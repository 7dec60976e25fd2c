"""Wrong answers that people give in lab7_editing; the docstring of each is the hint."""

import itertools
import math

import torch

from labdiff.authoring import mistake

# --- image to image ---------------------------------------------------------------------------


def _left(timesteps, strength):
    return int(len(timesteps) * strength)


@mistake("strength_timesteps")
def first_ones_kept(timesteps, strength):
    """You keep the first entries, the noisiest: an edit leaves the beginning of the walk out, so keep the last ones."""
    return timesteps[: _left(timesteps, strength)]


@mistake("strength_timesteps")
def minus_zero(timesteps, strength):
    """At strength 0 you keep the whole list: timesteps[-0:] is timesteps[0:]. Count from the front instead."""
    return timesteps[-_left(timesteps, strength) :]


@mistake("strength_timesteps")
def to_the_nearest(timesteps, strength):
    """You round to the nearest number of steps: round down, as int() does."""
    return timesteps[len(timesteps) - round(len(timesteps) * strength) :]


@mistake("strength_timesteps")
def rounded_up(timesteps, strength):
    """You round the number of steps that are left up: int(n (1 - strength)) rounds the other number down."""
    return timesteps[int(len(timesteps) * (1 - strength)) :]


@mistake("strength_timesteps")
def share_of_the_values(timesteps, strength):
    """You keep the timesteps up to strength times the first: strength is a share of the list's entries, count them."""
    return [t for t in timesteps if t <= strength * timesteps[0]]


@mistake("strength_timesteps")
def the_other_way_round(timesteps, strength):
    """Your strength works the other way round: 1 must leave all steps, and 0 none."""
    return timesteps[_left(timesteps, strength) :]


@mistake("strength_timesteps")
def one_always_left(timesteps, strength):
    """You keep at least one step: where int(n strength) is 0 the list is empty, and the image stays as it is."""
    return timesteps[len(timesteps) - max(1, _left(timesteps, strength)) :]


@mistake("strength_timesteps")
def rising(timesteps, strength):
    """Your list rises: sampling begins at the noisiest of the steps that are left, so it must fall."""
    return sorted(timesteps)[: _left(timesteps, strength)]


@mistake("sdedit_start")
def last_step(x_0, left, alphas_cumprod, noise):
    """You took abar at the last entry of `left`: the walk begins at the first, the noisiest."""
    abar = alphas_cumprod[left[-1]] if left else torch.ones(())
    return abar.sqrt() * x_0 + (1 - abar).sqrt() * noise


@mistake("sdedit_start")
def image_not_scaled(x_0, left, alphas_cumprod, noise):
    """You add noise to the whole image: at this step it is also scaled, by the root of abar. q_sample does both."""
    return x_0 + (1 - alphas_cumprod[left[0]]).sqrt() * noise if left else x_0


@mistake("sdedit_start")
def empty_not_thought_of(x_0, left, alphas_cumprod, noise):
    """Where `left` is empty your answer fails: return x_0 itself there."""
    abar = alphas_cumprod[left[0]]
    return abar.sqrt() * x_0 + (1 - abar).sqrt() * noise


@mistake("sdedit_start")
def only_noise(x_0, left, alphas_cumprod, noise):
    """You return the noise alone: that forgets the image. Only at strength 1 is nothing of it left."""
    return noise * 1 if left else x_0


@mistake("sdedit_start")
def always_from_the_top(x_0, left, alphas_cumprod, noise):
    """You took the last entry of alphas_cumprod, the noisiest of all: the walk begins at left[0]."""
    abar = alphas_cumprod[-1]
    return abar.sqrt() * x_0 + (1 - abar).sqrt() * noise if left else x_0


@mistake("sdedit_start")
def abar_without_root(x_0, left, alphas_cumprod, noise):
    """You scaled by abar and 1 - abar where their square roots belong: q_sample does it right."""
    abar = alphas_cumprod[left[0]] if left else torch.ones(())
    return abar * x_0 + (1 - abar) * noise


@mistake("sdedit_start")
def noise_of_my_own(x_0, left, alphas_cumprod, noise):
    """You drew noise of your own: use the noise that is given, so that the edit can be repeated."""
    if not left:
        return x_0
    abar = alphas_cumprod[left[0]]
    return abar.sqrt() * x_0 + (1 - abar).sqrt() * torch.randn_like(x_0)


@mistake("sdedit_start")
def counted_not_looked_up(x_0, left, alphas_cumprod, noise):
    """You looked up abar at the number of steps that are left: the timestep itself, left[0], is the index."""
    if not left:
        return x_0
    abar = alphas_cumprod[len(left)]
    return abar.sqrt() * x_0 + (1 - abar).sqrt() * noise


# --- two measures -----------------------------------------------------------------------------


@mistake("edit_distance")
def mean_over_the_batch(edited, original):
    """Your mean runs over the batch too: each image has a distance of its own, so leave axis 0 out."""
    return (edited - original).square().mean().sqrt()


@mistake("edit_distance")
def root_forgotten(edited, original):
    """You return the mean of the squares: the root makes it a distance, in the unit of a pixel."""
    return (edited - original).square().mean(dim=(1, 2, 3))


@mistake("edit_distance")
def sum_for_mean(edited, original):
    """You summed the squares: the mean does not depend on how large the images are."""
    return (edited - original).square().sum(dim=(1, 2, 3)).sqrt()


@mistake("edit_distance")
def mean_of_absolutes(edited, original):
    """You took the mean of the absolute differences (a root before the mean does that too): square, mean, then root."""
    return (edited - original).abs().mean(dim=(1, 2, 3))


@mistake("edit_distance")
def each_channel_alone(edited, original):
    """Your result is (B, C): the mean runs over the channels too."""
    return (edited - original).square().mean(dim=(2, 3)).sqrt()


@mistake("edit_distance")
def spread_not_distance(edited, original):
    """You took the deviation of the difference, which forgets its mean: an image made brighter all over has moved."""
    return (edited - original).flatten(1).std(dim=1, correction=0)


@mistake("predict_class_lost")
def says_early():
    """Look again at the noised scribbles: at strength 0.25 the eye reads them easily, and so does the network."""
    return "0.25"


@mistake("predict_class_lost")
def says_half():
    """With this schedule half of the steps leave a digit well readable, and the network keeps what it can read."""
    return "0.5"


@mistake("predict_class_lost")
def says_a_number():
    """Return one of the three texts, with quotation marks."""
    return 0.75


# --- inversion --------------------------------------------------------------------------------


def _eps(x_t, x_0, abar_t):
    return (x_t - abar_t.sqrt() * x_0) / (1 - abar_t).sqrt()


@mistake("ddim_inverse_step")
def stays_where_it_is(x_t, x_0, abar_t, abar_next):
    """Your result is x_t again: take its noise out with abar_t, where it is, and mix with abar_next, where you land."""
    return abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * _eps(x_t, x_0, abar_t)


@mistake("ddim_inverse_step")
def forward_step_with_eps(x_t, x_0, abar_t, abar_next):
    """You took a forward step of lab 1 with eps for the noise: x_t holds that noise already, so the two are not
    independent. Mix the guess and eps anew."""
    alpha = abar_next / abar_t
    return alpha.sqrt() * x_t + (1 - alpha).sqrt() * _eps(x_t, x_0, abar_t)


@mistake("ddim_inverse_step")
def image_for_noise(x_t, x_0, abar_t, abar_next):
    """You mixed the guess with x_t itself: x_t holds the guess already. Mix it with the noise in x_t, eps."""
    return abar_next.sqrt() * x_0 + (1 - abar_next).sqrt() * x_t


@mistake("ddim_inverse_step")
def random_noise(x_t, x_0, abar_t, abar_next):
    """You drew fresh noise: then nothing leads back. The noise that is in x_t already is the one to keep."""
    return abar_next.sqrt() * x_0 + (1 - abar_next).sqrt() * torch.randn_like(x_t)


@mistake("ddim_inverse_step")
def no_roots(x_t, x_0, abar_t, abar_next):
    """You mixed with abar_next and 1 - abar_next where their square roots belong."""
    return abar_next * x_0 + (1 - abar_next) * _eps(x_t, x_0, abar_t)


@mistake("ddim_inverse_step")
def noise_taken_out_without_roots(x_t, x_0, abar_t, abar_next):
    """You took the noise out with abar_t and 1 - abar_t where their square roots belong."""
    eps = (x_t - abar_t * x_0) / (1 - abar_t)
    return abar_next.sqrt() * x_0 + (1 - abar_next).sqrt() * eps


@mistake("ddim_inverse_step")
def noisy_image_scaled(x_t, x_0, abar_t, abar_next):
    """You scaled x_t where the guess x_0 belongs: x_t holds noise already."""
    return abar_next.sqrt() * x_t + (1 - abar_next).sqrt() * _eps(x_t, x_0, abar_t)


@mistake("ddim_inverse_step")
def levels_swapped(x_t, x_0, abar_t, abar_next):
    """You swapped the two levels: you are at abar_t and land at abar_next."""
    return abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * _eps(x_t, x_0, abar_next)


@mistake("ddim_inverse_step")
def guess_not_scaled(x_t, x_0, abar_t, abar_next):
    """You did not scale the guess: at the level abar_next it counts with the root of abar_next."""
    return x_0 + (1 - abar_next).sqrt() * _eps(x_t, x_0, abar_t)


def _climb(step, denoise, x, rising, alphas_cumprod):
    for t, after in itertools.pairwise(rising):
        x = step(x, denoise(x, t), alphas_cumprod[t], alphas_cumprod[after])
    return x


@mistake("ddim_invert")
def list_as_it_is(step, denoise, x, timesteps, alphas_cumprod):
    """You walk over the list as it is, from noise to image: inversion goes the other way, so turn the list round."""
    return _climb(step, denoise, x, timesteps, alphas_cumprod)


@mistake("ddim_invert")
def list_turned_in_place(step, denoise, x, timesteps, alphas_cumprod):
    """You turned the caller's list round (reverse, sort): timesteps[::-1] makes a new one."""
    timesteps.reverse()
    return _climb(step, denoise, x, timesteps, alphas_cumprod)


@mistake("ddim_invert")
def neighbours_for_entries(step, denoise, x, timesteps, alphas_cumprod):
    """You land at t + 1: the landing place is the next entry of the list, however far away."""
    for t in timesteps[:0:-1]:
        x = step(x, denoise(x, t), alphas_cumprod[t], alphas_cumprod[t + 1])
    return x


@mistake("ddim_invert")
def asked_where_it_lands(step, denoise, x, timesteps, alphas_cumprod):
    """You ask denoise at the timestep where you land: the image is not that noisy yet, ask where you are."""
    rising = timesteps[::-1]
    for t, after in itertools.pairwise(rising):
        x = step(x, denoise(x, after), alphas_cumprod[t], alphas_cumprod[after])
    return x


@mistake("ddim_invert")
def begins_at_one(step, denoise, x, timesteps, alphas_cumprod):
    """You take a step from abar = 1 to the last timestep first: x is taken for an image at that timestep already."""
    rising = timesteps[::-1]
    x = step(x, denoise(x, rising[0]), torch.ones(()), alphas_cumprod[rising[0]])
    return _climb(step, denoise, x, rising, alphas_cumprod)


@mistake("ddim_invert")
def one_step_too_many(step, denoise, x, timesteps, alphas_cumprod):
    """You take a step more than there are: the image counts as x_t at timesteps[-1], so n entries make n - 1 steps."""
    abar_t = torch.ones(())
    for t in timesteps[::-1]:
        x = step(x, denoise(x, t), abar_t, alphas_cumprod[t])
        abar_t = alphas_cumprod[t]
    return x


@mistake("ddim_invert")
def one_step_short(step, denoise, x, timesteps, alphas_cumprod):
    """You stop one step early: the walk ends at timesteps[0], the noisiest."""
    return _climb(step, denoise, x, timesteps[:0:-1], alphas_cumprod)


@mistake("ddim_invert")
def one_guess_for_all(step, denoise, x, timesteps, alphas_cumprod):
    """You ask denoise only once: ask it again at every step, about the image where you are."""
    rising = timesteps[::-1]
    guess = denoise(x, rising[0])
    for t, after in itertools.pairwise(rising):
        x = step(x, guess, alphas_cumprod[t], alphas_cumprod[after])
    return x


@mistake("ddim_invert")
def always_from_the_image(step, denoise, x, timesteps, alphas_cumprod):
    """Each of your steps begins at the image again: begin where the step before it ended."""
    rising, landed = timesteps[::-1], x
    for t, after in itertools.pairwise(rising):
        landed = step(x, denoise(x, t), alphas_cumprod[t], alphas_cumprod[after])
    return landed


# --- inpainting -------------------------------------------------------------------------------


def _noised(x_0, abar, noise):
    return abar.sqrt() * x_0 + (1 - abar).sqrt() * noise


@mistake("combine_known")
def mask_turned_round(x_prev, x_0, mask, abar_prev, noise):
    """You turned the mask round: where it is 1 the pixel is known, and the original belongs there."""
    return (1 - mask) * _noised(x_0, abar_prev, noise) + mask * x_prev


@mistake("combine_known")
def clean_pixels_pasted(x_prev, x_0, mask, abar_prev, noise):
    """You pasted the clean original: x_prev is noisy, so the known pixels need noise of the same level (q_sample)."""
    return mask * x_0 + (1 - mask) * x_prev


@mistake("combine_known")
def mixture_noised(x_prev, x_0, mask, abar_prev, noise):
    """You noised x_prev again, together with the original: only the known pixels need noise."""
    return _noised(mask * x_0 + (1 - mask) * x_prev, abar_prev, noise)


@mistake("combine_known")
def known_not_scaled(x_prev, x_0, mask, abar_prev, noise):
    """You added noise to the known pixels and did not scale them: q_sample does both."""
    return mask * (x_0 + (1 - abar_prev).sqrt() * noise) + (1 - mask) * x_prev


@mistake("combine_known")
def known_only_scaled(x_prev, x_0, mask, abar_prev, noise):
    """You scaled the known pixels but gave them no noise: the network would see where you pasted."""
    return mask * abar_prev.sqrt() * x_0 + (1 - mask) * x_prev


@mistake("combine_known")
def sampler_not_masked(x_prev, x_0, mask, abar_prev, noise):
    """You added the sampler's image everywhere: it counts only where the mask is 0."""
    return mask * _noised(x_0, abar_prev, noise) + x_prev


@mistake("combine_known")
def original_not_masked(x_prev, x_0, mask, abar_prev, noise):
    """You added the noised original everywhere: it counts only where the mask is 1."""
    return _noised(x_0, abar_prev, noise) + (1 - mask) * x_prev


@mistake("combine_known")
def masked_too_early(x_prev, x_0, mask, abar_prev, noise):
    """You masked x_0 before it was noised, so the noise lands on hidden pixels too: mask what q_sample returns."""
    return _noised(mask * x_0, abar_prev, noise) + (1 - mask) * x_prev


@mistake("combine_known")
def own_noise_for_known(x_prev, x_0, mask, abar_prev, noise):
    """You drew noise of your own: use the noise that is given."""
    return mask * _noised(x_0, abar_prev, torch.randn_like(x_0)) + (1 - mask) * x_prev


@mistake("combine_known")
def written_into_x_prev(x_prev, x_0, mask, abar_prev, noise):
    """You wrote into x_prev: it belongs to the caller. Make a new tensor."""
    return x_prev.mul_(1 - mask).add_(mask * _noised(x_0, abar_prev, noise))


@mistake("combine_known")
def roots_missing_in_known(x_prev, x_0, mask, abar_prev, noise):
    """You noised the known pixels with abar_prev and 1 - abar_prev where their square roots belong."""
    return mask * (abar_prev * x_0 + (1 - abar_prev) * noise) + (1 - mask) * x_prev


@mistake("renoise_jump")
def as_if_it_were_clean(x_prev, abar_prev, abar_t, noise):
    """You used q_sample with abar_t, as if x_prev were clean: it is at abar_prev, so only the ratio is missing."""
    return _noised(x_prev, abar_t, noise)


@mistake("renoise_jump")
def ratio_upside_down(x_prev, abar_prev, abar_t, noise):
    """Your alpha is upside down, hence NaN: it is abar_t / abar_prev, at most 1."""
    return _noised(x_prev, abar_prev / abar_t, noise)


@mistake("renoise_jump")
def alpha_without_root(x_prev, abar_prev, abar_t, noise):
    """You scaled by alpha and 1 - alpha where their square roots belong."""
    alpha = abar_t / abar_prev
    return alpha * x_prev + (1 - alpha) * noise


@mistake("renoise_jump")
def image_not_shrunk(x_prev, abar_prev, abar_t, noise):
    """You only added noise: a forward step also scales the image, by the root of alpha."""
    return x_prev + (1 - abar_t / abar_prev).sqrt() * noise


@mistake("renoise_jump")
def difference_for_ratio(x_prev, abar_prev, abar_t, noise):
    """Your noise has the variance abar_prev - abar_t: variances of steps do not add up so, it is 1 - alpha."""
    return (abar_t / abar_prev).sqrt() * x_prev + (abar_prev - abar_t).sqrt() * noise


@mistake("renoise_jump")
def noise_of_the_whole_level(x_prev, abar_prev, abar_t, noise):
    """Your noise has the variance 1 - abar_t, that of the whole way from a clean image: x_prev holds a part already."""
    return (abar_t / abar_prev).sqrt() * x_prev + (1 - abar_t).sqrt() * noise


@mistake("renoise_jump")
def jump_noise_of_my_own(x_prev, abar_prev, abar_t, noise):
    """You drew noise of your own: use the noise that is given."""
    return _noised(x_prev, abar_t / abar_prev, torch.randn_like(x_prev))


def _paint(step, combine, renoise, denoise, x, timesteps, alphas_cumprod, passes, *, last=1, over=None):
    """RePaint with `last` passes at the last timestep; `over` maps the pairs of the list to other levels."""
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        if over:
            abar_prev = over(t, after, abar_prev)
        for i in range(last if after is None else passes):
            if i:
                x = renoise(x, abar_prev, abar_t)
            x = combine(step(x, denoise(x, t), abar_t, abar_prev), abar_prev)
    return x


@mistake("repaint_loop")
def resamplings_ignored(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You make one pass at each timestep: make as many as `resamplings` says, with renoise between them."""
    return _paint(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, 1)


@mistake("repaint_loop")
def one_pass_too_many(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You make one pass more than `resamplings` says: the first pass counts too, and with 1 there is no renoise."""
    return _paint(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings + 1)


@mistake("repaint_loop")
def last_one_repeated(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You repeat the last timestep too: its image is finished, and noising it again only costs calls."""
    return _paint(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings, last=resamplings)


@mistake("repaint_loop")
def noised_after_every_pass(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You renoise after the last pass as well: then you never get on to the next timestep's level."""
    x = x_T
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        for _ in range(1 if after is None else resamplings):
            x = combine(step(x, denoise(x, t), abar_t, abar_prev), abar_prev)
            if after is not None:
                x = renoise(x, abar_prev, abar_t)
    return x


@mistake("repaint_loop")
def noised_after_every_pass_to_the_end(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You renoise after the last pass as well, even after the last timestep: renoise only between two passes."""
    x = x_T
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        for _ in range(resamplings):
            x = combine(step(x, denoise(x, t), abar_t, abar_prev), abar_prev)
            x = renoise(x, abar_prev, abar_t)
    return x


@mistake("repaint_loop")
def one_guess_for_all_passes(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You ask denoise once for all passes: ask it in each of them, since after renoise the image is another one."""
    guesses = {}

    def asked_once(x, t):
        if t not in guesses:
            guesses[t] = denoise(x, t)
        return guesses[t]

    return _paint(step, combine, renoise, asked_once, x_T, timesteps, alphas_cumprod, resamplings)


@mistake("repaint_loop")
def walk_repeated(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You repeat the whole walk: repeat the passes at each timestep, with renoise between them."""
    x = x_T
    for _ in range(resamplings):
        x = _paint(step, combine, renoise, denoise, x, timesteps, alphas_cumprod, 1)
    return x


@mistake("repaint_loop")
def renoise_forgotten(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You repeat the step without renoise: the image is at abar_prev already, bring it back to abar_t first."""
    return _paint(step, combine, lambda x, abar_prev, abar_t: x, denoise, x_T, timesteps, alphas_cumprod, resamplings)


@mistake("repaint_loop")
def renoise_turned_round(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You handed renoise the levels in the wrong order: first abar_prev, where the image is, then abar_t."""

    def turned(x, abar_prev, abar_t):
        return renoise(x, abar_t, abar_prev)

    return _paint(step, combine, turned, denoise, x_T, timesteps, alphas_cumprod, resamplings)


@mistake("repaint_loop")
def combined_only_at_the_end(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You combine only at the end: the network must see the known pixels at every step to fit the rest to them."""
    x = _paint(step, lambda x, abar: x, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings)
    return combine(x, torch.ones_like(alphas_cumprod[0]))


@mistake("repaint_loop")
def combined_only_after_the_last_pass(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You combine only after the last pass at a timestep: combine in every pass."""
    x = x_T
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        for i in range(1 if after is None else resamplings):
            if i:
                x = renoise(x, abar_prev, abar_t)
            x = step(x, denoise(x, t), abar_t, abar_prev)
        x = combine(x, abar_prev)
    return x


@mistake("repaint_loop")
def combined_before_the_step(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You combine before the step, at abar_t: combine what the step returns, at abar_prev. Else the end is not kept."""
    x = x_T
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        for i in range(1 if after is None else resamplings):
            if i:
                x = renoise(x, abar_prev, abar_t)
            x = combine(x, abar_t)
            x = step(x, denoise(x, t), abar_t, abar_prev)
    return x


@mistake("repaint_loop")
def lands_at_t_minus_one(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """You took abar_prev at t - 1: you land at the next entry of the list, however far away."""

    def over(t, after, abar_prev):
        return alphas_cumprod[t - 1] if t > 0 else torch.ones_like(abar_prev)

    return _paint(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings, over=over)


@mistake("repaint_loop")
def never_quite_clean(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings):
    """After the last timestep you land at alphas_cumprod[0]: the finished image is clean, so abar_prev is 1 there."""

    def over(t, after, abar_prev):
        return alphas_cumprod[0] if after is None else abar_prev

    return _paint(step, combine, renoise, denoise, x_T, timesteps, alphas_cumprod, resamplings, over=over)


@mistake("known_change")
def mean_not_largest(edited, original, mask):
    """You averaged: one changed pixel among many would hardly show. The largest difference is asked for."""
    return (mask * (edited - original)).abs().mean().item()


@mistake("known_change")
def hidden_ones_too(edited, original, mask):
    """You look at all pixels: the hidden ones are meant to change, so leave them out."""
    return (edited - original).abs().max().item()


@mistake("known_change")
def the_hidden_ones(edited, original, mask):
    """You look at the hidden pixels: where the mask is 1 the pixel is known."""
    return ((1 - mask) * (edited - original)).abs().max().item()


@mistake("known_change")
def sign_kept(edited, original, mask):
    """You took the maximum without the absolute value: a pixel that became darker has changed as well."""
    return (mask * (edited - original)).max().item()


@mistake("known_change")
def per_image(edited, original, mask):
    """You return a tensor with an entry per image: one number for the whole batch is asked for."""
    return (mask * (edited - original)).abs().amax(dim=(1, 2, 3))


@mistake("known_change")
def only_whether(edited, original, mask):
    """You return whether something changed: return by how much, 0 where nothing did."""
    return float(not math.isclose((mask * (edited - original)).abs().max().item(), 0))


@mistake("predict_better_spent")
def says_steps():
    """More steps make the walk finer, but what was decided stays: look at the two rows with the same calls."""
    return "steps"


@mistake("predict_better_spent")
def says_equal():
    """The calls are equal, their use is not: compare the two rows with the same calls."""
    return "equal"


@mistake("predict_better_spent")
def says_neither():
    """Return one of the three texts that the question names."""
    return "both"
