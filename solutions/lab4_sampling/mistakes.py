"""Wrong answers that people give in lab4_sampling; the docstring of each is the hint."""

import itertools

import torch

from labdiff.authoring import mistake


def _mean(x_0, x_t, beta_t, abar_t, abar_prev):
    weight_0 = abar_prev.sqrt() * beta_t / (1 - abar_t)
    weight_t = (1 - beta_t).sqrt() * (1 - abar_prev) / (1 - abar_t)
    return weight_0 * x_0 + weight_t * x_t


def _variance(beta_t, abar_t, abar_prev, fixed):
    return beta_t * (1 - abar_prev) / (1 - abar_t) if fixed == "small" else beta_t


@mistake("p_mean_variance")
def images_swapped(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    """You handed x_t and x_0 over in the wrong order: posterior_mean takes x_0 first."""
    return _mean(x_t, x_0, beta_t, abar_t, abar_prev), _variance(beta_t, abar_t, abar_prev, fixed)


@mistake("p_mean_variance")
def fixed_ignored(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    """Your variance is always the small one: fixed="large" asks for beta_t."""
    return _mean(x_0, x_t, beta_t, abar_t, abar_prev), _variance(beta_t, abar_t, abar_prev, "small")


@mistake("p_mean_variance")
def always_large(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    """Your variance is always beta_t: fixed="small", the default, asks for the posterior's variance."""
    return _mean(x_0, x_t, beta_t, abar_t, abar_prev), beta_t


@mistake("p_mean_variance")
def names_swapped(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    """You swapped the two variances: the posterior's is smaller than beta_t, so it belongs to "small"."""
    other = "large" if fixed == "small" else "small"
    return _mean(x_0, x_t, beta_t, abar_t, abar_prev), _variance(beta_t, abar_t, abar_prev, other)


@mistake("p_mean_variance")
def deviation_for_variance(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    """You return the standard deviation: return the variance, p_sample takes the root."""
    return _mean(x_0, x_t, beta_t, abar_t, abar_prev), _variance(beta_t, abar_t, abar_prev, fixed).sqrt()


@mistake("p_mean_variance")
def the_guess_itself(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    """Your mean is the guess x_0 itself: that jumps to the end at once. One step back is the posterior mean."""
    return x_0 * 1, _variance(beta_t, abar_t, abar_prev, fixed)


@mistake("p_mean_variance")
def fraction_upside_down(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    """The fraction in your small variance is upside down: 1 - abar_prev, the smaller one, belongs on top."""
    variance = beta_t * (1 - abar_t) / (1 - abar_prev) if fixed == "small" else beta_t
    return _mean(x_0, x_t, beta_t, abar_t, abar_prev), variance


@mistake("p_sample")
def noise_at_the_end(mean, variance, noise, t):
    """You add noise at t = 0 too: that is the last step, and what it returns is the finished image."""
    return mean + variance.sqrt() * noise


@mistake("p_sample")
def variance_for_root(mean, variance, noise, t):
    """You scaled the noise by the variance where its square root belongs."""
    return mean + variance * noise if t > 0 else mean


@mistake("p_sample")
def counted_from_one(mean, variance, noise, t):
    """You leave the noise out at t = 1 too: papers count from 1, here the last step is t = 0."""
    return mean + variance.sqrt() * noise if t > 1 else mean


@mistake("p_sample")
def noise_only_at_the_end(mean, variance, noise, t):
    """Your condition is the wrong way round: noise at every step but t = 0."""
    return mean + variance.sqrt() * noise if t == 0 else mean


@mistake("p_sample")
def own_noise(mean, variance, noise, t):
    """You drew noise of your own: use the noise that is given, so that the result can be repeated."""
    return mean + variance.sqrt() * torch.randn_like(mean) if t > 0 else mean


@mistake("p_sample")
def written_into_mean(mean, variance, noise, t):
    """You wrote into mean (+= or add_): it belongs to the caller. Make a new tensor."""
    return mean.add_(variance.sqrt() * noise) if t > 0 else mean


def _walk(p_step, x_T, steps, keep):
    x, kept = x_T.clone(), {}
    for t in steps:
        if t in keep:
            kept[t] = x.detach().clone()
        x = p_step(x, t)
    return x, kept


@mistake("ancestral_sample")
def starts_at_T(p_step, x_T, T, keep=()):
    """Your loop begins at t = T: the steps are numbered from T - 1 down to 0, there is no step T."""
    return _walk(p_step, x_T, range(T, -1, -1), keep)


@mistake("ancestral_sample")
def stops_at_one(p_step, x_T, T, keep=()):
    """Your loop ends at t = 1: the end of a range is left out, so range(T - 1, -1, -1) reaches 0."""
    return _walk(p_step, x_T, range(T - 1, 0, -1), keep)


@mistake("ancestral_sample")
def upwards(p_step, x_T, T, keep=()):
    """Your loop counts up: sampling begins with the noisiest step, T - 1, and counts down."""
    return _walk(p_step, x_T, range(T), keep)


@mistake("ancestral_sample")
def everything_kept(p_step, x_T, T, keep=()):
    """You keep every step: 1000 steps of a large batch fill the memory. Keep only what `keep` asks for."""
    return _walk(p_step, x_T, range(T - 1, -1, -1), range(T))


@mistake("ancestral_sample")
def kept_after_the_step(p_step, x_T, T, keep=()):
    """You keep the image after the step: kept[t] is x_t, the one that p_step is given at t."""
    x, kept = x_T.clone(), {}
    for t in reversed(range(T)):
        x = p_step(x, t)
        if t in keep:
            kept[t] = x.detach().clone()
    return x, kept


@mistake("ancestral_sample")
def kept_by_reference(p_step, x_T, T, keep=()):
    """You keep x itself and not a copy: a p_step that works in place changes it afterwards. Use x.detach().clone()."""
    x, kept = x_T.clone(), {}
    for t in reversed(range(T)):
        if t in keep:
            kept[t] = x.detach()
        x = p_step(x, t)
    return x, kept


@mistake("ancestral_sample")
def gradient_history_kept(p_step, x_T, T, keep=()):
    """You keep copies with their gradient history: each holds every step before it in memory. Detach them."""
    x, kept = x_T.clone(), {}
    for t in reversed(range(T)):
        if t in keep:
            kept[t] = x.clone()
        x = p_step(x, t)
    return x, kept


@mistake("ancestral_sample")
def all_held_until_the_end(p_step, x_T, T, keep=()):
    """You hold all steps and pick from them at the end: by then the memory is full. Keep only what `keep` asks for."""
    x, kept = _walk(p_step, x_T, range(T - 1, -1, -1), range(T))
    return x, {t: kept[t] for t in keep}


@mistake("ancestral_sample")
def steps_as_tensors(p_step, x_T, T, keep=()):
    """Your keys are tensors: kept[3] does not find a key tensor(3). Count with range, which gives Python ints."""
    return _walk(p_step, x_T, torch.arange(T).flip(0), keep)


@mistake("ancestral_sample")
def from_x_T_each_time(p_step, x_T, T, keep=()):
    """You give x_T to every step: each step continues from what the one before it returned."""
    x, kept = x_T.clone(), {}
    for t in reversed(range(T)):
        if t in keep:
            kept[t] = x.detach().clone()
        x = p_step(x_T.clone(), t)
    return x, kept


@mistake("ancestral_sample")
def start_written_over(p_step, x_T, T, keep=()):
    """A p_step that works in place changed the caller's x_T: begin with x = x_T.clone()."""
    x, kept = x_T, {}
    for t in reversed(range(T)):
        if t in keep:
            kept[t] = x.detach().clone()
        x = p_step(x, t)
    return x, kept


def _spaced(T, n):
    return [round(v) for v in torch.linspace(T - 1, 0, n, dtype=torch.float64).tolist()]


@mistake("ddim_timesteps")
def ascending(T, n):
    """Your timesteps rise: sampling begins at T - 1, the noisiest, so they must fall."""
    return _spaced(T, n)[::-1]


@mistake("ddim_timesteps")
def cut_not_rounded(T, n):
    """You cut the decimals off (int, long, //): round to the nearest integer first."""
    return torch.linspace(T - 1, 0, n).long().tolist()


@mistake("ddim_timesteps")
def strided(T, n):
    """You count in whole strides of T // n: then T - 1, where the noise begins, is not among the steps."""
    return list(range(0, T, T // n))[:n][::-1]


@mistake("ddim_timesteps")
def zero_left_out(T, n):
    """Your list ends before 0: n values have n - 1 gaps, and both T - 1 and 0 belong to them."""
    return [round(T - 1 - i * (T - 1) / n) for i in range(n)]


@mistake("ddim_timesteps")
def one_more(T, n):
    """You return n + 1 timesteps: n is the number of values, each costs one call of the network."""
    return _spaced(T, n + 1)


@mistake("ddim_timesteps")
def begins_at_T(T, n):
    """Your first timestep is T: the last entry of the schedule is T - 1."""
    return [round(v) for v in torch.linspace(T, 0, n, dtype=torch.float64).tolist()]


@mistake("ddim_timesteps")
def not_whole(T, n):
    """Your timesteps are not integers: they are indices into the schedule, so round them and make ints."""
    return torch.linspace(T - 1, 0, n, dtype=torch.float64).tolist()


@mistake("ddim_timesteps")
def tensor_returned(T, n):
    """You return a tensor: the samplers walk over a list of Python ints, so end with .tolist()."""
    return torch.linspace(T - 1, 0, n).round().long()


@mistake("ddim_sigma")
def eta_inside_the_root(abar_t, abar_prev, eta):
    """Your eta is inside the root: it scales the deviation, so it stands outside."""
    return (eta * (1 - abar_prev) / (1 - abar_t) * (1 - abar_t / abar_prev)).sqrt()


@mistake("ddim_sigma")
def variance_returned(abar_t, abar_prev, eta):
    """You return sigma squared: sigma itself is a standard deviation, so take the root."""
    return eta**2 * (1 - abar_prev) / (1 - abar_t) * (1 - abar_t / abar_prev)


@mistake("ddim_sigma")
def first_fraction_upside_down(abar_t, abar_prev, eta):
    """Your first fraction is upside down: 1 - abar_prev, the smaller one, belongs on top."""
    return eta * ((1 - abar_t) / (1 - abar_prev)).sqrt() * (1 - abar_t / abar_prev).sqrt()


@mistake("ddim_sigma")
def second_fraction_upside_down(abar_t, abar_prev, eta):
    """Your second root is of a negative number, hence NaN: inside it stands 1 - abar_t / abar_prev."""
    return eta * ((1 - abar_prev) / (1 - abar_t)).sqrt() * (1 - abar_prev / abar_t).sqrt()


@mistake("ddim_sigma")
def second_root_missing(abar_t, abar_prev, eta):
    """Your sigma lacks the second factor, the root of 1 - abar_t / abar_prev."""
    return eta * ((1 - abar_prev) / (1 - abar_t)).sqrt()


@mistake("ddim_sigma")
def large_variance(abar_t, abar_prev, eta):
    """Your sigma is that of the large variance: the factor (1 - abar_prev) / (1 - abar_t) is missing."""
    return eta * (1 - abar_t / abar_prev).sqrt()


@mistake("ddim_sigma")
def both_roots_missing(abar_t, abar_prev, eta):
    """You forgot the roots: both factors stand under a square root, and eta outside."""
    return eta * (1 - abar_prev) / (1 - abar_t) * (1 - abar_t / abar_prev)


@mistake("ddim_sigma")
def eta_forgotten(abar_t, abar_prev, eta):
    """You do not use eta: it scales the whole deviation, and eta = 0 must give 0."""
    return ((1 - abar_prev) / (1 - abar_t)).sqrt() * (1 - abar_t / abar_prev).sqrt()


def _room(abar_prev, sigma_t):
    # clamped, so that the hints below also reach those who forgot the clamp: the part about rounding passes here
    return (1 - abar_prev - sigma_t**2).clamp(min=0).sqrt()


def _eps(x_t, x_0, abar_t):
    return (x_t - abar_t.sqrt() * x_0) / (1 - abar_t).sqrt()


@mistake("ddim_step")
def room_not_made(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """Your old noise keeps the full factor sqrt(1 - abar_prev): fresh noise comes on top, take sigma_t^2 off first."""
    eps = _eps(x_t, x_0, abar_t)
    return abar_prev.sqrt() * x_0 + (1 - abar_prev).sqrt() * eps + sigma_t * noise


@mistake("ddim_step")
def sigma_not_squared(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """You took sigma_t off 1 - abar_prev where its square belongs: variances are subtracted, not deviations."""
    eps = _eps(x_t, x_0, abar_t)
    return abar_prev.sqrt() * x_0 + (1 - abar_prev - sigma_t).clamp(min=0).sqrt() * eps + sigma_t * noise


@mistake("ddim_step")
def roots_subtracted(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """You wrote sqrt(1 - abar_prev) - sigma_t: the difference is taken of the variances, under the root."""
    eps = _eps(x_t, x_0, abar_t)
    return abar_prev.sqrt() * x_0 + ((1 - abar_prev).sqrt() - sigma_t) * eps + sigma_t * noise


@mistake("ddim_step")
def x_t_for_eps(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """You used x_t where the noise in it belongs: take sqrt(abar_t) x_0 away and divide by sqrt(1 - abar_t)."""
    return abar_prev.sqrt() * x_0 + _room(abar_prev, sigma_t) * x_t + sigma_t * noise


@mistake("ddim_step")
def noise_for_eps(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """You used fresh noise where the noise in x_t belongs: the second term goes on in the direction of x_t."""
    return abar_prev.sqrt() * x_0 + _room(abar_prev, sigma_t) * noise + sigma_t * noise


@mistake("ddim_step")
def old_level_kept(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """You scaled the guess by sqrt(abar_t): the result has the next noise level, so abar_prev belongs there."""
    return abar_t.sqrt() * x_0 + _room(abar_prev, sigma_t) * _eps(x_t, x_0, abar_t) + sigma_t * noise


@mistake("ddim_step")
def noise_by_variance(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """You scaled the fresh noise by sigma_t squared: sigma_t is a deviation already."""
    eps = _eps(x_t, x_0, abar_t)
    return abar_prev.sqrt() * x_0 + _room(abar_prev, sigma_t) * eps + sigma_t**2 * noise


@mistake("ddim_step")
def eps_from_previous(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """You took the noise out of x_t with abar_prev: x_t has the level abar_t."""
    eps = (x_t - abar_prev.sqrt() * x_0) / (1 - abar_prev).sqrt()
    return abar_prev.sqrt() * x_0 + _room(abar_prev, sigma_t) * eps + sigma_t * noise


@mistake("ddim_step")
def root_not_clamped(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """Rounding can push 1 - abar_prev - sigma_t^2 a hair below 0, and its root is NaN then: clamp(min=0) before it."""
    eps = _eps(x_t, x_0, abar_t)
    return abar_prev.sqrt() * x_0 + (1 - abar_prev - sigma_t**2).sqrt() * eps + sigma_t * noise


@mistake("ddim_step")
def sigma_unsquared_and_nan(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """You took sigma_t itself off 1 - abar_prev, and where sigma_t is the larger one the root is NaN: square it."""
    eps = _eps(x_t, x_0, abar_t)
    return abar_prev.sqrt() * x_0 + (1 - abar_prev - sigma_t).sqrt() * eps + sigma_t * noise


@mistake("ddim_step")
def noises_swapped(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """You swapped the two noises: sigma_t belongs to the fresh one, the root to the one that is in x_t."""
    eps = _eps(x_t, x_0, abar_t)
    return abar_prev.sqrt() * x_0 + _room(abar_prev, sigma_t) * noise + sigma_t * eps


@mistake("ddim_step")
def eps_of_swapped_images(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """You handed x_0 and x_t over in the wrong order: eps_from_x0 takes x_t first."""
    return abar_prev.sqrt() * x_0 + _room(abar_prev, sigma_t) * _eps(x_0, x_t, abar_t) + sigma_t * noise


@mistake("ddim_step")
def room_at_the_old_level(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """Under your root stands abar_t: the new image has the noise level of abar_prev."""
    eps = _eps(x_t, x_0, abar_t)
    return abar_prev.sqrt() * x_0 + _room(abar_t, sigma_t) * eps + sigma_t * noise


@mistake("ddim_step")
def old_level_throughout(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """You used abar_t throughout: only eps belongs to it, the new image has the noise level of abar_prev."""
    eps = _eps(x_t, x_0, abar_t)
    return abar_t.sqrt() * x_0 + _room(abar_t, sigma_t) * eps + sigma_t * noise


@mistake("ddim_step")
def fresh_noise_missing(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """Your step lacks its third term, the fresh noise times sigma_t."""
    return abar_prev.sqrt() * x_0 + _room(abar_prev, sigma_t) * _eps(x_t, x_0, abar_t)


def _ddim(step, denoise, x, timesteps, alphas_cumprod, previous):
    for i, t in enumerate(timesteps):
        after = timesteps[i + 1] if i + 1 < len(timesteps) else None
        x = step(x, denoise(x, t), alphas_cumprod[t], previous(t, after))
    return x


@mistake("ddim_loop")
def abar_at_t_minus_1(step, denoise, x_T, timesteps, alphas_cumprod):
    """Your abar_prev is always that of t - 1: a step of DDIM lands at the next timestep of the list."""
    one = torch.ones_like(alphas_cumprod[0])
    return _ddim(
        step, denoise, x_T, timesteps, alphas_cumprod, lambda t, after: alphas_cumprod[t - 1] if t > 0 else one
    )


@mistake("ddim_loop")
def ends_at_abar_0(step, denoise, x_T, timesteps, alphas_cumprod):
    """After the last step you use alphas_cumprod[0], which still has noise in it: the clean image has abar = 1."""
    return _ddim(
        step, denoise, x_T, timesteps, alphas_cumprod, lambda t, after: alphas_cumprod[0 if after is None else after]
    )


@mistake("ddim_loop")
def wraps_around(step, denoise, x_T, timesteps, alphas_cumprod):
    """After the last step your index is -1, the noisiest entry of the table: use 1 there."""
    return _ddim(
        step, denoise, x_T, timesteps, alphas_cumprod, lambda t, after: alphas_cumprod[-1 if after is None else after]
    )


@mistake("ddim_loop")
def ends_at_zero(step, denoise, x_T, timesteps, alphas_cumprod):
    """After the last step you use abar = 0, which is pure noise: the clean image has abar = 1."""
    zero = torch.zeros_like(alphas_cumprod[0])
    return _ddim(
        step, denoise, x_T, timesteps, alphas_cumprod, lambda t, after: zero if after is None else alphas_cumprod[after]
    )


@mistake("ddim_loop")
def last_one_left_out(step, denoise, x_T, timesteps, alphas_cumprod):
    """You walk over pairs of neighbours and leave out the last timestep: from there one more step leads to abar = 1."""
    x = x_T
    for t, after in itertools.pairwise(timesteps):
        x = step(x, denoise(x, t), alphas_cumprod[t], alphas_cumprod[after])
    return x


@mistake("ddim_loop")
def number_of_the_step(step, denoise, x_T, timesteps, alphas_cumprod):
    """You give denoise the position in the list: it must know the timestep t itself."""
    x = x_T
    for i, t in enumerate(timesteps):
        last = i + 1 == len(timesteps)
        abar_prev = torch.ones_like(alphas_cumprod[0]) if last else alphas_cumprod[timesteps[i + 1]]
        x = step(x, denoise(x, i), alphas_cumprod[t], abar_prev)
    return x


@mistake("ddim_loop")
def one_as_a_number(step, denoise, x_T, timesteps, alphas_cumprod):
    """After the last step you hand over the Python number 1.0: step takes tensors, use torch.ones_like(abar_t)."""
    return _ddim(
        step, denoise, x_T, timesteps, alphas_cumprod, lambda t, after: 1.0 if after is None else alphas_cumprod[after]
    )


@mistake("ddim_loop")
def both_as_numbers(step, denoise, x_T, timesteps, alphas_cumprod):
    """You hand Python numbers to step (.item() or float): it takes tensors, alphas_cumprod[t] as it is."""
    return _ddim(
        step,
        denoise,
        x_T,
        timesteps,
        alphas_cumprod.tolist(),
        lambda t, after: 1.0 if after is None else alphas_cumprod[after].item(),
    )


def _next(timesteps, alphas_cumprod):
    """Pairs of t and the abar after it."""
    after = [alphas_cumprod[t] for t in timesteps[1:]] + [torch.ones_like(alphas_cumprod[0])]
    return zip(timesteps, after, strict=True)


@mistake("ddim_loop")
def abars_swapped(step, denoise, x_T, timesteps, alphas_cumprod):
    """You swapped the last two arguments of step: abar_t comes first, then abar_prev."""
    x = x_T
    for t, abar_prev in _next(timesteps, alphas_cumprod):
        x = step(x, denoise(x, t), abar_prev, alphas_cumprod[t])
    return x


@mistake("ddim_loop")
def images_swapped_in_step(step, denoise, x_T, timesteps, alphas_cumprod):
    """You swapped the first two arguments of step: x_t comes first, then the guess for x_0."""
    x = x_T
    for t, abar_prev in _next(timesteps, alphas_cumprod):
        x = step(denoise(x, t), x, alphas_cumprod[t], abar_prev)
    return x


@mistake("ddim_loop")
def return_inside(step, denoise, x_T, timesteps, alphas_cumprod):
    """You stop after one step: does the return stand inside the loop? Move it out by one level."""
    for t, abar_prev in _next(timesteps, alphas_cumprod):
        return step(x_T, denoise(x_T, t), alphas_cumprod[t], abar_prev)


@mistake("ddim_loop")
def guesses_from_x_T(step, denoise, x_T, timesteps, alphas_cumprod):
    """You ask denoise about x_T every time: ask about the image where you are now."""
    one = torch.ones_like(alphas_cumprod[0])
    return _ddim(
        step,
        lambda x, t: denoise(x_T, t),
        x_T,
        timesteps,
        alphas_cumprod,
        lambda t, after: one if after is None else alphas_cumprod[after],
    )


@mistake("ddim_loop")
def returns_last_guess(step, denoise, x_T, timesteps, alphas_cumprod):
    """You return the denoiser's last guess: return what the last step made of it."""
    one = torch.ones_like(alphas_cumprod[0])
    guess = x = x_T
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        guess = denoise(x, t)
        x = step(x, guess, alphas_cumprod[t], one if after is None else alphas_cumprod[after])
    return guess


@mistake("predict_same_noise")
def says_identical():
    """Not quite: ten long strides cut corners that fifty short ones follow. Look closely at the rows below."""
    return "identical"


@mistake("predict_same_noise")
def says_unrelated():
    """No noise is drawn on the way, so x_T decides alone. Compare the columns of the rows below."""
    return "unrelated"


@mistake("predict_same_noise")
def says_none_of_them():
    """Return one of the three texts that the question names."""
    return "the same"


def _cosine(a, b):
    dims = (1, 2, 3)
    return (a * b).sum(dims, keepdim=True) / (
        a.square().sum(dims, keepdim=True).sqrt() * b.square().sum(dims, keepdim=True).sqrt()
    )


def _arc(a, b, w, cosine):
    theta = cosine.clamp(-1, 1).arccos()
    arc = (((1 - w) * theta).sin() * a + (w * theta).sin() * b) / theta.sin()
    return torch.where(cosine > 0.9995, (1 - w) * a + w * b, arc)


@mistake("slerp")
def straight_line(a, b, w):
    """You mixed along the straight line: between two noises it passes too close to 0, so follow the arc."""
    return (1 - w) * a + w * b


@mistake("slerp")
def ends_swapped(a, b, w):
    """You swapped the ends: w = 0 must give a, and w = 1 must give b."""
    return _arc(b, a, w, _cosine(a, b))


@mistake("slerp")
def lengths_forgotten(a, b, w):
    """Your cosine lacks the lengths: divide the scalar product by both norms."""
    return _arc(a, b, w, (a * b).sum((1, 2, 3), keepdim=True))


@mistake("slerp")
def one_angle_for_all(a, b, w):
    """You computed one angle for the whole batch: every pair of images has its own."""
    cosine = (a * b).sum() / (a.norm() * b.norm())
    return _arc(a, b, w, cosine)


@mistake("slerp")
def angle_per_row(a, b, w):
    """You computed an angle for every row of pixels: an image is one vector of C H W numbers."""
    cosine = (a * b).sum(-1, keepdim=True) / (a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True))
    return _arc(a, b, w, cosine)


@mistake("slerp")
def parallel_divides_by_zero(a, b, w):
    """Parallel noises give NaN: their angle is 0 and so is its sine. Mix them along the straight line instead."""
    theta = _cosine(a, b).clamp(-1, 1).arccos()
    return (((1 - w) * theta).sin() * a + (w * theta).sin() * b) / theta.sin()


@mistake("slerp")
def cosine_above_one(a, b, w):
    """Rounding can push the cosine of parallel noises above 1, where arccos is NaN: clamp it to [-1, 1] first."""
    theta = _cosine(a, b).arccos()
    arc = (((1 - w) * theta).sin() * a + (w * theta).sin() * b) / theta.sin()
    return torch.where(theta < 0.03, (1 - w) * a + w * b, arc)


@mistake("slerp")
def weights_swapped(a, b, w):
    """You swapped the two weights on the arc: sin((1 - w) theta) belongs to a, and sin(w theta) to b."""
    cosine = _cosine(a, b)
    return torch.where(cosine > 0.9995, (1 - w) * a + w * b, _arc(b, a, w, cosine))


@mistake("slerp")
def lengths_lost(a, b, w):
    """Your result has length 1: the weights apply to a and b themselves, only the angle comes from unit vectors."""
    u = a / a.square().sum((1, 2, 3), keepdim=True).sqrt()
    v = b / b.square().sum((1, 2, 3), keepdim=True).sqrt()
    return _arc(u, v, w, _cosine(a, b))


@mistake("confident_share")
def of_raw_logits(logits, threshold=0.9):
    """You compared the logits themselves: the softmax makes probabilities of them."""
    return (logits.amax(1) > threshold).float().mean().item()


@mistake("confident_share")
def mean_confidence(logits, threshold=0.9):
    """You return the mean of the largest probabilities: count how many exceed the threshold."""
    return logits.softmax(1).amax(1).mean().item()


@mistake("confident_share")
def number_not_share(logits, threshold=0.9):
    """You return how many there are: divide by the number of samples."""
    return (logits.softmax(1).amax(1) > threshold).sum().item()


@mistake("confident_share")
def softmax_over_batch(logits, threshold=0.9):
    """Your softmax runs over the batch: the classes are axis 1."""
    return (logits.softmax(0).amax(1) > threshold).float().mean().item()


@mistake("confident_share")
def the_unsure_ones(logits, threshold=0.9):
    """You count those that stay below the threshold: the others are meant."""
    return (logits.softmax(1).amax(1) <= threshold).float().mean().item()


@mistake("confident_share")
def all_probabilities(logits, threshold=0.9):
    """You average over all classes: per sample only its largest probability counts."""
    return (logits.softmax(1) > threshold).float().mean().item()


@mistake("confident_share")
def threshold_ignored(logits, threshold=0.9):
    """Your threshold is always 0.9: compare with the argument."""
    return (logits.softmax(1).amax(1) > 0.9).float().mean().item()


def _sets(features_a, features_b):
    a, b = features_a.double(), features_b.double()
    return (a.mean(0) - b.mean(0)), a.T.cov(), b.T.cov()


def _roots(product):
    return torch.linalg.eigvals(product).sqrt().real.sum()


@mistake("frechet_distance")
def root_term_missing(features_a, features_b):
    """You left out the trace of the square root: a set compared with itself must give 0."""
    gap, S_a, S_b = _sets(features_a, features_b)
    return (gap.square().sum() + S_a.trace() + S_b.trace()).item()


@mistake("frechet_distance")
def biased_covariance(features_a, features_b):
    """Your covariances divide by N: use N - 1, as torch.cov does unless told otherwise."""
    gap, _, _ = _sets(features_a, features_b)
    S_a, S_b = features_a.double().T.cov(correction=0), features_b.double().T.cov(correction=0)
    return (gap.square().sum() + S_a.trace() + S_b.trace() - 2 * _roots(S_a @ S_b)).item()


@mistake("frechet_distance")
def root_of_entries(features_a, features_b):
    """You took the root of every entry: the square root of a matrix is another thing. Use the eigenvalues."""
    gap, S_a, S_b = _sets(features_a, features_b)
    return (gap.square().sum() + S_a.trace() + S_b.trace() - 2 * (S_a @ S_b).abs().sqrt().trace()).item()


@mistake("frechet_distance")
def product_of_entries(features_a, features_b):
    """You multiplied the covariances entry by entry: use the matrix product, @."""
    gap, S_a, S_b = _sets(features_a, features_b)
    return (gap.square().sum() + S_a.trace() + S_b.trace() - 2 * _roots(S_a * S_b)).item()


@mistake("frechet_distance")
def means_not_squared(features_a, features_b):
    """Your distance of the means is not squared."""
    gap, S_a, S_b = _sets(features_a, features_b)
    return (gap.norm() + S_a.trace() + S_b.trace() - 2 * _roots(S_a @ S_b)).item()


@mistake("frechet_distance")
def factor_two_missing(features_a, features_b):
    """Your square root term lacks its factor 2."""
    gap, S_a, S_b = _sets(features_a, features_b)
    return (gap.square().sum() + S_a.trace() + S_b.trace() - _roots(S_a @ S_b)).item()


@mistake("frechet_distance")
def eigenvalues_without_root(features_a, features_b):
    """You summed the eigenvalues themselves: their square roots belong there."""
    gap, S_a, S_b = _sets(features_a, features_b)
    return (gap.square().sum() + S_a.trace() + S_b.trace() - 2 * (S_a @ S_b).trace()).item()


@mistake("frechet_distance")
def samples_as_variables(features_a, features_b):
    """Your covariance is (N, N), one row per sample: torch.cov wants the variables in rows, so give it features.T."""
    a, b = features_a.double(), features_b.double()
    S_a, S_b = a.cov(), b.cov()
    return ((a.mean(0) - b.mean(0)).square().sum() + S_a.trace() + S_b.trace() - 2 * _roots(S_a @ S_b)).item()


@mistake("frechet_distance")
def in_float32(features_a, features_b):
    """You computed in float32: the terms nearly cancel, and what is left is rounding. Begin with .double()."""
    a, b = features_a.float(), features_b.float()
    S_a, S_b = a.T.cov(), b.T.cov()
    return ((a.mean(0) - b.mean(0)).square().sum() + S_a.trace() + S_b.trace() - 2 * _roots(S_a @ S_b)).item()
