"""Wrong answers that people give in lab1_forward; the docstring of each is the hint."""

import math

import torch

from labdiff.authoring import mistake


@mistake("linear_betas")
def end_left_out(T, beta_start=1e-4, beta_end=0.02):
    """Your last beta is one spacing short of beta_end: there are T values and T - 1 gaps between them."""
    return beta_start + (beta_end - beta_start) * torch.arange(T) / T


@mistake("linear_betas")
def one_too_many(T, beta_start=1e-4, beta_end=0.02):
    """You return T + 1 betas: one per step is enough, the clean image has none."""
    return torch.linspace(beta_start, beta_end, T + 1)


@mistake("linear_betas")
def scaled_linear(T, beta_start=1e-4, beta_end=0.02):
    """Your square roots are equally spaced: that is Stable Diffusion's scaled-linear schedule, here beta itself is."""
    return torch.linspace(beta_start**0.5, beta_end**0.5, T) ** 2


@mistake("linear_betas")
def decreasing(T, beta_start=1e-4, beta_end=0.02):
    """Your betas fall: the first step must be the gentlest, so beta_start comes first."""
    return torch.linspace(beta_end, beta_start, T)


@mistake("linear_betas")
def double_precision(T, beta_start=1e-4, beta_end=0.02):
    """Your betas are float64, which would turn every image they touch into float64: return float32."""
    return torch.linspace(beta_start, beta_end, T, dtype=torch.float64)


def _f(T, s):
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    return torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2


@mistake("cosine_betas")
def returned_alphas_cumprod(T, s=0.008, max_beta=0.999):
    """You return abar itself: a beta is 1 minus the ratio of two neighbours of f."""
    f = _f(T, s)
    return (f[1:] / f[0]).float().clamp(max=max_beta)


@mistake("cosine_betas")
def not_squared(T, s=0.008, max_beta=0.999):
    """Your f lacks its square: abar is the squared cosine."""
    f = _f(T, s).sqrt()
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()


@mistake("cosine_betas")
def not_clamped(T, s=0.008, max_beta=0.999):
    """Your betas are not limited: the last one comes out as 1, which would make x_T forget everything at once."""
    f = _f(T, s)
    return (1 - f[1:] / f[:-1]).float()


@mistake("cosine_betas")
def clamped_below(T, s=0.008, max_beta=0.999):
    """You used max_beta as a lower limit: clamp(max=...) keeps values from exceeding it, clamp(min=...) lifts them."""
    f = _f(T, s)
    return (1 - f[1:] / f[:-1]).clamp(min=max_beta).float()


@mistake("cosine_betas")
def offset_ignored(T, s=0.008, max_beta=0.999):
    """Your betas do not depend on s: the offset keeps the first betas from being too small."""
    f = _f(T, 0.0)
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()


@mistake("cosine_betas")
def offset_not_normalised(T, s=0.008, max_beta=0.999):
    """You add s without dividing by 1 + s, so the angle runs past a right angle."""
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    f = torch.cos((u + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()


@mistake("cosine_betas")
def clamped_on_both_sides(T, s=0.008, max_beta=0.999):
    """You set a lower limit too: the first betas are meant to be small, only max_beta limits them."""
    f = _f(T, s)
    return (1 - f[1:] / f[:-1]).clamp(1e-4, max_beta).float()


@mistake("cosine_betas")
def own_limit(T, s=0.008, max_beta=0.999):
    """You limit at 0.999 whatever max_beta says."""
    f = _f(T, s)
    return (1 - f[1:] / f[:-1]).clamp(max=0.999).float()


@mistake("cosine_betas")
def one_point_too_few(T, s=0.008, max_beta=0.999):
    """You took f at T points, so there are only T - 1 betas: f is needed at T + 1 points."""
    f = _f(T - 1, s)
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()


@mistake("cosine_betas")
def betas_in_double(T, s=0.008, max_beta=0.999):
    """Your betas are float64, which would turn every image they touch into float64: end with .float()."""
    f = _f(T, s)
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)


@mistake("compute_alphas_cumprod")
def product_of_betas(betas):
    """You multiplied the betas: abar is the running product of alpha = 1 - beta."""
    return betas.cumprod(0)


@mistake("compute_alphas_cumprod")
def sum_of_alphas(betas):
    """You summed the alphas: what survives several steps is a product."""
    return (1 - betas).cumsum(0)


@mistake("compute_alphas_cumprod")
def shifted(betas):
    """Your first value is 1: entry t already includes alpha_t, so the first one is alpha itself."""
    return torch.cat([torch.ones_like(betas[:1]), (1 - betas).cumprod(0)[:-1]])


@mistake("compute_alphas_cumprod")
def whole_product(betas):
    """You return one number: the product of all alphas is only the last entry, keep the running product."""
    return (1 - betas).prod()


@mistake("compute_alphas_cumprod")
def complement(betas):
    """You return 1 - abar, the variance of the noise, where abar belongs."""
    return 1 - (1 - betas).cumprod(0)


@mistake("compute_alphas_cumprod")
def one_minus_product(betas):
    """You multiplied the betas and subtracted that from 1: subtract first, alpha = 1 - beta, then multiply."""
    return 1 - betas.cumprod(0)


@mistake("compute_alphas_cumprod")
def one_minus_sum(betas):
    """You subtracted the sum of the betas: that is close while all are tiny, but what survives is a product."""
    return 1 - betas.cumsum(0)


@mistake("extract")
def flat(values, t, x):
    """Your result has the shape (B,): against images of (B, C, H, W) it would meet the columns, not the batch."""
    return values[t]


@mistake("extract")
def leading_axes(values, t, x):
    """Your new axes stand in front of the batch axis: B must come first, the ones behind it."""
    return values[t].reshape(*[1] * (x.dim() - 1), -1)


@mistake("extract")
def full_image(values, t, x):
    """You filled whole images: (B, 1, 1, 1) is enough, broadcasting does the rest and costs no memory."""
    return values[t].reshape(-1, *[1] * (x.dim() - 1)).expand_as(x)


@mistake("extract")
def four_axes_always(values, t, x):
    """Your result always has four axes: take their number from x, so that vectors work too."""
    return values[t][:, None, None, None]


@mistake("extract")
def first_timestep(values, t, x):
    """You used the first timestep for the whole batch: every image has its own."""
    return values[t[:1]].expand(len(t)).reshape(-1, *[1] * (x.dim() - 1))


@mistake("extract")
def one_step_early(values, t, x):
    """You picked the value at t - 1: t counts from 0, as arrays do, so values[t] is the one."""
    return values[t - 1].reshape(-1, *[1] * (x.dim() - 1))


@mistake("q_step")
def variance_for_deviation(x_prev, beta_t, noise):
    """You scaled the noise by beta_t where its square root belongs: beta_t is a variance."""
    return (1 - beta_t).sqrt() * x_prev + beta_t * noise


@mistake("q_step")
def image_not_shrunk(x_prev, beta_t, noise):
    """You left x_prev at full size: without the factor sqrt(1 - beta_t) the variance grows with every step."""
    return x_prev + beta_t.sqrt() * noise


@mistake("q_step")
def root_missing(x_prev, beta_t, noise):
    """You shrank the image by 1 - beta_t where its square root belongs."""
    return (1 - beta_t) * x_prev + beta_t.sqrt() * noise


@mistake("q_step")
def factors_swapped(x_prev, beta_t, noise):
    """You swapped the factors: the image keeps sqrt(1 - beta_t), the noise gets sqrt(beta_t)."""
    return beta_t.sqrt() * x_prev + (1 - beta_t).sqrt() * noise


@mistake("q_step")
def in_place(x_prev, beta_t, noise):
    """You changed x_prev itself: mul_ and *= write into the caller's tensor. Make a new one."""
    return x_prev.mul_((1 - beta_t).sqrt()).add_(beta_t.sqrt() * noise)


@mistake("q_step")
def noise_of_its_own(x_prev, beta_t, noise):
    """You drew noise of your own: use the noise that is given, or the result cannot be checked."""
    return (1 - beta_t).sqrt() * x_prev + beta_t.sqrt() * torch.randn_like(x_prev)


@mistake("q_mean_variance")
def mean_without_root(x_0, abar_t):
    """Your mean has abar_t where its square root belongs."""
    return abar_t * x_0, 1 - abar_t


@mistake("q_mean_variance")
def deviation_for_variance(x_0, abar_t):
    """You return the standard deviation: the variance is 1 - abar_t, without the root."""
    return abar_t.sqrt() * x_0, (1 - abar_t).sqrt()


@mistake("q_mean_variance")
def log_variance(x_0, abar_t):
    """You return the logarithm of the variance, as some code bases do; here it is the variance itself."""
    return abar_t.sqrt() * x_0, (1 - abar_t).log()


@mistake("q_mean_variance")
def variance_first(x_0, abar_t):
    """You return the two in the wrong order: mean first, then variance."""
    return 1 - abar_t, abar_t.sqrt() * x_0


@mistake("q_sample")
def noise_by_variance(x_0, abar_t, noise):
    """You scaled the noise by 1 - abar_t where sqrt(1 - abar_t) belongs: a standard deviation, not a variance."""
    return abar_t.sqrt() * x_0 + (1 - abar_t) * noise


@mistake("q_sample")
def image_at_full_size(x_0, abar_t, noise):
    """You left x_0 at full size: the image has the factor sqrt(abar_t)."""
    return x_0 + (1 - abar_t).sqrt() * noise


@mistake("q_sample")
def image_without_root(x_0, abar_t, noise):
    """You scaled the image by abar_t where sqrt(abar_t) belongs."""
    return abar_t * x_0 + (1 - abar_t).sqrt() * noise


@mistake("q_sample")
def swapped(x_0, abar_t, noise):
    """You swapped the factors: sqrt(abar_t) belongs to the image, sqrt(1 - abar_t) to the noise."""
    return (1 - abar_t).sqrt() * x_0 + abar_t.sqrt() * noise


@mistake("q_sample")
def root_of_difference(x_0, abar_t, noise):
    """You wrote 1 - sqrt(abar_t) where sqrt(1 - abar_t) belongs: the root is outside the difference."""
    return abar_t.sqrt() * x_0 + (1 - abar_t.sqrt()) * noise


@mistake("q_sample")
def own_noise(x_0, abar_t, noise):
    """You drew noise of your own: use the noise that is given, so that the network can later be asked for it."""
    return abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * torch.randn_like(x_0)


@mistake("q_sample")
def clamped(x_0, abar_t, noise):
    """You clamped x_t to [-1, 1]: a noisy image leaves that range, and cutting it changes the distribution."""
    return (abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * noise).clamp(-1, 1)


@mistake("q_sample")
def noise_in_place(x_0, abar_t, noise):
    """You changed the noise in place (mul_ or *=): the caller still needs it as the target."""
    return noise.mul_((1 - abar_t).sqrt()).add_(abar_t.sqrt() * x_0)


@mistake("snr")
def upside_down(alphas_cumprod):
    """You divided noise by signal: the ratio is abar / (1 - abar)."""
    return (1 - alphas_cumprod) / alphas_cumprod


@mistake("snr")
def of_amplitudes(alphas_cumprod):
    """You compared amplitudes: the ratio is between variances, so the factors are squared."""
    return (alphas_cumprod / (1 - alphas_cumprod)).sqrt()


@mistake("snr")
def logarithm(alphas_cumprod):
    """You return the logarithm of the ratio: the plot below takes it, the function does not."""
    return (alphas_cumprod / (1 - alphas_cumprod)).log()


@mistake("predict_first_to_noise")
def says_cosine():
    """It is the other way round: compare the two rows of digits below at t = T / 4."""
    return "cosine"


@mistake("predict_first_to_noise")
def says_together():
    """Both end in noise together, but they do not get there together: compare the rows below at t = T / 4."""
    return "together"


@mistake("predict_first_to_noise")
def says_neither():
    """Return one of the three texts that the question names."""
    return "neither"


def _previous(alphas_cumprod):
    return torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])


@mistake("posterior_variance")
def just_beta(betas, alphas_cumprod):
    """You return beta_t: that is the forward step's variance. Knowing x_0 makes the posterior narrower."""
    return betas * 1


@mistake("posterior_variance")
def zero_in_front(betas, alphas_cumprod):
    """You put a 0 in front of the shifted abar: before the first step nothing was lost, so abar is 1 there."""
    prev = torch.cat([torch.zeros_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])
    return betas * (1 - prev) / (1 - alphas_cumprod)


@mistake("posterior_variance")
def rolled_around(betas, alphas_cumprod):
    """Your shift wraps around (torch.roll): the first entry got the last abar, where 1 belongs."""
    return betas * (1 - alphas_cumprod.roll(1)) / (1 - alphas_cumprod)


@mistake("posterior_variance")
def fraction_upside_down(betas, alphas_cumprod):
    """Your fraction is upside down: 1 - abar at t - 1 is the smaller one and belongs on top."""
    return betas * (1 - alphas_cumprod) / (1 - _previous(alphas_cumprod)).clamp(min=1e-6)


@mistake("posterior_variance")
def root_taken(betas, alphas_cumprod):
    """You return the standard deviation: take the root where you sample, not here."""
    return (betas * (1 - _previous(alphas_cumprod)) / (1 - alphas_cumprod)).sqrt()


@mistake("posterior_mean")
def abar_for_alpha(x_0, x_t, beta_t, abar_t, abar_prev):
    """Your weight of x_t has sqrt(abar_t) where sqrt(alpha_t) belongs; alpha_t = 1 - beta_t is that one step alone."""
    return (abar_prev.sqrt() * beta_t * x_0 + abar_t.sqrt() * (1 - abar_prev) * x_t) / (1 - abar_t)


@mistake("posterior_mean")
def weights_swapped(x_0, x_t, beta_t, abar_t, abar_prev):
    """You swapped the two weights: at abar_prev = 1 your mean is x_t, and it must be x_0."""
    return (abar_prev.sqrt() * beta_t * x_t + (1 - beta_t).sqrt() * (1 - abar_prev) * x_0) / (1 - abar_t)


@mistake("posterior_mean")
def denominator_missing(x_0, x_t, beta_t, abar_t, abar_prev):
    """Your weights lack the denominator 1 - abar_t."""
    return abar_prev.sqrt() * beta_t * x_0 + (1 - beta_t).sqrt() * (1 - abar_prev) * x_t


@mistake("posterior_mean")
def current_for_previous(x_0, x_t, beta_t, abar_t, abar_prev):
    """Your weight of x_0 has sqrt(abar_t) where abar at t - 1 belongs."""
    return (abar_t.sqrt() * beta_t * x_0 + (1 - beta_t).sqrt() * (1 - abar_prev) * x_t) / (1 - abar_t)


@mistake("posterior_mean")
def roots_forgotten(x_0, x_t, beta_t, abar_t, abar_prev):
    """Your weights lack their square roots: sqrt(abar_prev) for x_0 and sqrt(alpha_t) for x_t."""
    return (abar_prev * beta_t * x_0 + (1 - beta_t) * (1 - abar_prev) * x_t) / (1 - abar_t)


@mistake("posterior_mean")
def bracket_times_variance(x_0, x_t, beta_t, abar_t, abar_prev):
    """Right but at t = 0: there the bracket divides by 1 - abar_prev = 0. Multiply the variance into it by hand, as the
    formula above does, so that 1 - abar_prev cancels."""
    variance = beta_t * (1 - abar_prev) / (1 - abar_t)
    return variance * ((1 - beta_t).sqrt() / beta_t * x_t + abar_prev.sqrt() / (1 - abar_prev) * x_0)
