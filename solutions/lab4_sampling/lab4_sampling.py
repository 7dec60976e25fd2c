# %% [markdown]
# # Lab 4: Sampling
#
# **You build** two samplers: ancestral sampling, which walks back through all 1000 steps, and DDIM, which gets there in
# 20. Then you build the figures that say how good their digits are, and a path from one digit to another.
#
# **You can then** turn any network that guesses $x_0$ into a generator, trade quality for speed knowingly, and read an
# FID without being fooled by it.
#
# **It takes** about 100 minutes and no training. **It needs** lab 1 ($q(x_t \mid x_0)$ and the posterior) and what
# $x_0$, $\varepsilon$ and $v$ mean from lab 3. The answers of earlier labs are imported, so nothing that you left out
# there stands in your way.
#
# Under each exercise a cell calls `check`. `hint(name)` gives a first hint, called again a stronger one. Exercises do
# not depend on each other. Cells that show pictures wait until the exercises that they use are done.

# %%
import time

import torch

from labdiff import being_graded, check, hint, models, when_done
from labdiff.data import digits
from labdiff.plotting import curves, explore, rows, show
from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas, extract, posterior_mean, q_sample
from labdiff.reference.lab3_training import eps_from_x0, x0_from_v

# %% [markdown]
# ## The one thing the network can do
#
# A trained network takes a noisy image $x_t$ and its step $t$, and guesses. Ours guesses $v$; lab 3 showed how to turn
# $v$ into $x_0$. For this lab we wrap both in one function, a **denoiser**: `denoise(x_t, t)` returns the guess for the
# clean image $x_0$, cut to $[-1, 1]$, because no clean pixel lies outside. All samplers below only ever see such a
# function. That keeps them short. It also lets us test them with denoisers whose right answer we know.


# %%
def make_denoiser(model, alphas_cumprod):
    """Make a denoiser of a network that predicts v.

    model: model(x_t, t) -> v, with t (B,), int64. alphas_cumprod: (T,).
    Returns denoise(x_t, t) -> x_0: x_t (B, C, H, W), t an int for the whole batch, x_0 (B, C, H, W) in [-1, 1].
    """

    def denoise(x_t, t):
        steps = torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)  # (B,)
        abar_t = extract(alphas_cumprod.to(x_t), steps, x_t)  # (B, 1, 1, 1)
        return x0_from_v(x_t, model(x_t, steps), abar_t).clamp(-1, 1)  # (B, C, H, W)

    return denoise


# %% [markdown]
# Here it is at work. The first row shows one digit with more and more noise, the second row what the network makes of
# each picture in a single call.

# %%
T = 1000
betas = cosine_betas(T)  # (T,)
alphas_cumprod = compute_alphas_cumprod(betas)  # (T,)
denoise = make_denoiser(models.unet(), alphas_cumprod)

real, labels = digits(4000, train=False)
stops = [50, 200, 400, 600, 750, 900, 999]
noise = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
noisy = {t: q_sample(real[:1], alphas_cumprod[t], noise) for t in stops}
with torch.inference_mode():
    guesses = [denoise(x_t, t) for t, x_t in noisy.items()]
rows({"x_t": torch.cat([*noisy.values()]), "guess for x_0": torch.cat(guesses)}, titles=[f"t = {t}" for t in stops])

# %% [markdown]
# With little noise the guess is the digit. With much noise it is a blur. That is no weakness of this network. A network
# trained with squared error answers with the **mean** of all clean images that could have led to $x_t$, and from pure
# noise any digit could have. So one call does not draw a digit. The way out: take one small step towards the guess,
# then ask again. Each step settles something, the next guess is sharper, and in the end one digit is left.
#
# ## One step back
#
# Lab 1 ended with the exact step back for the case that somebody tells us $x_0$:
# $q(x_{t-1} \mid x_t, x_0) = \mathcal N(\tilde\mu_t(x_t, x_0), \tilde\beta_t I)$. Nobody tells us. So put the
# denoiser's guess $\hat x_0(x_t, t)$ in its place. That is the whole idea of DDPM (Ho, Jain and Abbeel 2020):
#
# $$p(x_{t-1} \mid x_t) = \mathcal N\big(\tilde\mu_t(x_t, \hat x_0),\ \sigma_t^2 I\big)$$
#
# The mean is `posterior_mean` from lab 1. What about the variance? If the guess were certain,
# $\tilde\beta_t = \beta_t\,(1-\bar\alpha_{t-1})/(1-\bar\alpha_t)$ would be right. But the guess is a mean over many
# possible digits, so the true $p(x_{t-1} \mid x_t)$ is wider. How much wider depends on the data. Two extreme cases can
# be solved:
#
# - All data is one single point. Then the guess is certain, and $\sigma_t^2 = \tilde\beta_t$. This is the smallest
#   that can be right.
# - The data is pure noise already, $x_0 \sim \mathcal N(0, I)$. Then $x_{t-1}$ and $x_t$ are both standard normal
#   with correlation $\sqrt{\alpha_t}$, and given one of them the other has the variance $1 - \alpha_t = \beta_t$.
#   This is the largest for data of variance at most 1, such as pixels in $[-1, 1]$.
#
# Digits lie between. With 1000 steps the two nearly agree at all but the last twenty or so, and both work. Papers call
# them `fixed="small"` and `fixed="large"`.
#
# Shapes: `x_t` and `x_0` are $(B, C, H, W)$; `beta_t`, `abar_t` and `abar_prev` are $(B, 1, 1, 1)$. At $t = 0$
# `abar_prev` is 1.


# %%
def p_mean_variance(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small"):
    """The mean and the variance of p(x_{t-1} given x_t) (DDPM, equations 6 and 7).

    x_t: (B, C, H, W). x_0: (B, C, H, W), the denoiser's guess. beta_t, abar_t, abar_prev: (B, 1, 1, 1).
    fixed: "small" for the posterior's variance, "large" for beta_t.
    Returns mean (B, C, H, W) and variance (B, 1, 1, 1).
    """
    ### BEGIN SOLUTION
    small = beta_t * (1 - abar_prev) / (1 - abar_t)  # (B, 1, 1, 1)
    return posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev), small if fixed == "small" else beta_t
    ### END SOLUTION


# %% [markdown]
# Now draw from it. There is one exception. At $t = 0$ the result is the finished image, and noise on a finished image
# is only dirt. So the last step returns the mean. (With the small variance this happens by itself, with the large one
# it does not.) Papers count from 1 and make the exception at $t = 1$; we count from 0.


# %%
def p_sample(mean, variance, noise, t):
    """Draw x_{t-1} from p(x_{t-1} given x_t), or return its mean at the last step (DDPM, algorithm 2, line 4).

    mean: (B, C, H, W). variance: (B, 1, 1, 1). noise: (B, C, H, W), standard normal.
    t: an int, the step of the whole batch; 0 is the last one. Returns (B, C, H, W).
    """
    ### BEGIN SOLUTION
    return mean + variance.sqrt() * noise if t > 0 else mean  # (B, C, H, W)
    ### END SOLUTION


# %% [markdown]
# ## All steps back
#
# Ancestral sampling starts from noise and takes the steps $T-1, T-2, \dots, 1, 0$. What comes out of the step 0 is the
# clean image. `p_step(x_t, t)` does one step; here it is an argument, so your loop works with any.
#
# The way there is worth looking at, so the loop keeps some of the images. Only those that are asked for: 1000 steps
# of a batch of 64 digits take 200 MB, and of larger pictures a whole graphics card. To keep all and pick at the end
# is no help, by then they have all been there. And keep **copies**. If `p_step` writes into the tensor that it is
# given, everything that shares its memory changes too, what you kept and even the caller's `x_T`.
#
# `kept[t]` is $x_t$, the image that `p_step` is given at $t$. So `kept[T - 1]` is the noise that you started from. The
# keys are Python ints: a tensor as a key is never found again.


# %%
def ancestral_sample(p_step, x_T, T, keep=()):
    """Walk back from noise to an image (DDPM, algorithm 2).

    p_step: p_step(x_t, t) -> x_{t-1}, with t an int from T - 1 down to 0; it may work in place.
    x_T: (B, C, H, W), standard normal; it must stay as it is. keep: the timesteps to keep, ints.
    Returns x_0 (B, C, H, W), and a dictionary {t: x_t} of detached copies for each t in keep and no other, t an int.
    """
    ### BEGIN SOLUTION
    x, kept = x_T.clone(), {}
    for t in reversed(range(T)):
        if t in keep:
            kept[t] = x.detach().clone()
        x = p_step(x, t)  # (B, C, H, W)
    return x, kept
    ### END SOLUTION


# %% [markdown]
# The next cell is given. It joins your answers to one `p_step`. Noise is drawn on the device of the generator, so
# that a seed means the same digits on a graphics card as on the CPU.


# %%
def fresh_noise(x, generator=None):
    """Standard normal noise in the shape of x. generator: on any device, or None. Returns it on the device of x."""
    device = generator.device if generator else x.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


def make_p_step(denoise, betas, alphas_cumprod, fixed="small", generator=None):
    """Make one step of ancestral sampling of a denoiser, with the answers above.

    denoise: denoise(x_t, t) -> x_0. betas, alphas_cumprod: (T,). Returns p_step(x_t, t) -> x_{t-1}.
    """

    def p_step(x_t, t):
        one = x_t.new_ones(len(x_t), 1, 1, 1)
        beta_t, abar_t = betas[t].item() * one, alphas_cumprod[t].item() * one  # (B, 1, 1, 1)
        abar_prev = alphas_cumprod[t - 1].item() * one if t > 0 else one  # (B, 1, 1, 1)
        mean, variance = p_mean_variance(x_t, denoise(x_t, t), beta_t, abar_t, abar_prev, fixed)
        return p_sample(mean, variance, fresh_noise(x_t, generator), t)  # (B, C, H, W)

    return p_step


# %% [markdown]
# Four digits in 1000 steps. That is 1000 calls of the network, so four is all we ask for on a CPU. The first row is
# what the sampler holds, the second what the network guesses from it. Follow the second row: a blur decides for a
# digit long before the first row shows anything.

# %%
with when_done(), torch.inference_mode():
    generator = torch.Generator().manual_seed(4)
    x_T = torch.randn(4, 1, 28, 28, generator=generator)
    start = time.perf_counter()
    keep = range(49, T, 50)
    drawn, kept = ancestral_sample(make_p_step(denoise, betas, alphas_cumprod, generator=generator), x_T, T, keep)
    print(f"{T} calls of the network, {time.perf_counter() - start:.0f} seconds for {len(drawn)} digits")
    guessed = {t: denoise(x_t, t) for t, x_t in kept.items()}
    stops = [999, 849, 699, 549, 399, 249, 99]
    rows(
        {
            "x_t": torch.cat([*(kept[t][:1] for t in stops), drawn[:1]]),
            "guess for x_0": torch.cat([*(guessed[t][:1] for t in stops), drawn[:1]]),
        },
        titles=[*(f"t = {t}" for t in stops), "result"],
    )

    def moment(t):
        rows({"x_t": kept[t], "guess for x_0": guessed[t]}, titles=[f"t = {t}", "", "", ""])

    explore(moment, t=list(reversed(keep)), still=(799, 499, 199))

# %% [markdown]
# ## A test without a network
#
# Digits that look right prove little: a sampler can be slightly wrong and still draw digits. So try it on data whose
# denoiser can be written down.
#
# - **One point.** All data is the same image $c$. Then the guess is always $c$, and every sampler must end exactly
#   there.
# - **A Gaussian.** Each pixel is drawn from $\mathcal N(m, s^2)$. Then $x_0$ and $x_t$ are jointly Gaussian, and the
#   mean of $x_0$ given $x_t$ is linear:
#
# $$\mathbb E[x_0 \mid x_t] = m + \frac{\sqrt{\bar\alpha_t}\,s^2}{\bar\alpha_t s^2 + 1 - \bar\alpha_t}
#   \,\big(x_t - \sqrt{\bar\alpha_t}\,m\big)$$
#
# A right sampler turns noise into pixels of mean $m$ and deviation $s$. Expect rounding of about $10^{-3}$: near $t =
# 0$ the difference $1-\bar\alpha_t$ has few digits left in float32.


# %%
def one_point(c):
    """The exact denoiser where all data is the image c: (1, C, H, W)."""
    return lambda x_t, t: c.expand_as(x_t)


def gaussian(m, s, alphas_cumprod):
    """The exact denoiser where each pixel is drawn from N(m, s^2): the mean of x_0 given x_t."""

    def denoise(x_t, t):
        abar_t = alphas_cumprod[t]
        gain = abar_t.sqrt() * s**2 / (abar_t * s**2 + 1 - abar_t)
        return m + gain * (x_t - abar_t.sqrt() * m)

    return denoise


# %%
with when_done():
    torch.manual_seed(0)
    pixels = torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    ends, _ = ancestral_sample(make_p_step(one_point(real[:1]), betas, alphas_cumprod), pixels, T)
    print(f"one point: farthest pixel from it {(ends - real[:1]).abs().max():.1e}")
    for fixed in ("small", "large"):
        p_step = make_p_step(gaussian(0.4, 0.25, alphas_cumprod), betas, alphas_cumprod, fixed)
        ends, _ = ancestral_sample(p_step, pixels, T)
        print(f"Gaussian of mean 0.4, deviation 0.25; {fixed}: mean {ends.mean():.3f}, deviation {ends.std():.3f}")

# %% [markdown]
# ## Fewer steps
#
# 1000 calls for a handful of digits is a lot. Which of them could be left out?
#
# Look again at what training used. The loss draws $t$, makes $x_t$ from $q(x_t \mid x_0)$, and asks for a guess. It
# never looks at two neighbouring steps. So the network does not know how the steps hang together, and nothing binds us
# to the chain of lab 1. Any process with the same $q(x_t \mid x_0)$ at the steps that we visit will do (Song, Meng and
# Ermon 2021).
#
# So visit only a few. From now on, let `timesteps` be a falling list such as $[999, 749, 500, 250, 0]$. It begins at
# $T - 1$, because that is where pure noise lives, and ends at 0.


# %%
def ddim_timesteps(T, n):
    """n timesteps out of T, equally spaced, falling from T - 1 to 0.

    T: the number of steps of the schedule. n: from 1 to T; with n = 1 the list is [T - 1].
    The exact values T - 1 - i (T - 1) / (n - 1), i = 0, ..., n - 1, are rounded to the nearest integer (one that lies
    halfway may go either way). Returns a list of n Python ints, all different.
    """
    ### BEGIN SOLUTION
    return torch.linspace(T - 1, 0, n).round().long().tolist()
    ### END SOLUTION


# %% [markdown]
# ## A step of any length
#
# We are at $x_t$, with $\bar\alpha_t$, and want to land at the next timestep of the list, with
# $\bar\alpha_{\text{prev}}$. Lab 1 says what the landing place must look like if $x_0$ is known:
# $\sqrt{\bar\alpha_{\text{prev}}}\,x_0$ plus noise of variance $1-\bar\alpha_{\text{prev}}$. Where does the noise
# come from? Two sources are at hand: the noise $\varepsilon$ that is in $x_t$ already, and fresh noise $z$. Take some
# of each:
#
# $$x_{\text{prev}} = \sqrt{\bar\alpha_{\text{prev}}}\;x_0
#   + \sqrt{1-\bar\alpha_{\text{prev}}-\sigma_t^2}\;\varepsilon + \sigma_t\,z,
#   \qquad \varepsilon = \frac{x_t - \sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}}$$
#
# Given $x_0$, both are independent standard normals, so their variances add up:
# $(1-\bar\alpha_{\text{prev}}-\sigma_t^2) + \sigma_t^2 = 1-\bar\alpha_{\text{prev}}$, as it must be. That holds for
# **every** $\sigma_t$ from 0 to $\sqrt{1-\bar\alpha_{\text{prev}}}$, and for a jump of any length. One network, a whole
# family of samplers.
#
# How much fresh noise? Ancestral sampling is one member of the family. A jump from $\bar\alpha_{\text{prev}}$ to
# $\bar\alpha_t$ is a single forward step with $\alpha = \bar\alpha_t / \bar\alpha_{\text{prev}}$ and $\beta = 1 -
# \alpha$. Its posterior variance is $\tilde\beta = \frac{1-\bar\alpha_{\text{prev}}}{1-\bar\alpha_t}\beta$. Use that
# as the unit, and scale its root with a knob $\eta$:
#
# $$\sigma_t = \eta\,\sqrt{\frac{1-\bar\alpha_{\text{prev}}}{1-\bar\alpha_t}}\,
#   \sqrt{1-\frac{\bar\alpha_t}{\bar\alpha_{\text{prev}}}}$$
#
# At $\eta = 0$ there is no fresh noise at all: that is DDIM. At $\eta = 1$ it is ancestral sampling, with jumps.


# %%
def ddim_sigma(abar_t, abar_prev, eta):
    """The deviation of the fresh noise in one step (DDIM, equation 16).

    abar_t, abar_prev: tensors of one shape, such as (B, 1, 1, 1), with 0 < abar_t < abar_prev <= 1.
    eta: a number, 0 for DDIM, 1 for ancestral sampling. Returns the shape of abar_t; 0 where abar_prev = 1.
    """
    ### BEGIN SOLUTION
    return eta * ((1 - abar_prev) / (1 - abar_t)).sqrt() * (1 - abar_t / abar_prev).sqrt()  # (B, 1, 1, 1)
    ### END SOLUTION


# %% [markdown]
# Now the step itself. `eps_from_x0(x_t, x_0, abar_t)` from lab 3 is imported; it is the second formula above. Note that
# $\varepsilon$ comes from the guess for $x_0$ **after** it was cut to $[-1, 1]$. Then the guess and the noise still add
# up to $x_t$. An $\varepsilon$ taken from the network before the cut would no longer belong to this $x_0$.
#
# The number under the second root, $1-\bar\alpha_{\text{prev}}-\sigma_t^2$, is never negative for $\eta \le 1$. But
# near $t = T - 1$ nearly all noise is fresh, and the difference is almost 0. Rounding can push it a hair below 0 at
# $\eta = 1$; clamp it at 0 before the root. Otherwise the root is NaN, which no later step repairs.


# %%
def ddim_step(x_t, x_0, abar_t, abar_prev, sigma_t, noise):
    """One step from x_t to the next timestep of the list (DDIM, equation 12).

    x_t: (B, C, H, W). x_0: (B, C, H, W), the denoiser's guess. abar_t, abar_prev, sigma_t: tensors that broadcast
    against x_t, such as (B, 1, 1, 1). noise: (B, C, H, W), standard normal.
    What stands under the root is clamped at 0, since rounding can make it slightly negative.
    Returns x_prev: (B, C, H, W); at abar_prev = 1, where sigma_t = 0, that is x_0.
    """
    ### BEGIN SOLUTION
    eps = eps_from_x0(x_t, x_0, abar_t)  # (B, C, H, W)
    kept = (1 - abar_prev - sigma_t**2).clamp(min=0).sqrt()  # (B, 1, 1, 1)
    return abar_prev.sqrt() * x_0 + kept * eps + sigma_t * noise  # (B, C, H, W)
    ### END SOLUTION


# %% [markdown]
# ### Is it really ancestral sampling at $\eta = 1$?
#
# Take a single step, $\text{prev} = t - 1$, so that $\sigma_t^2 = \tilde\beta_t$. The variances agree. For the means,
# first simplify what is left for the old noise:
#
# $$1-\bar\alpha_{t-1}-\tilde\beta_t = (1-\bar\alpha_{t-1})\,\frac{1-\bar\alpha_t-\beta_t}{1-\bar\alpha_t}
#   = \frac{\alpha_t\,(1-\bar\alpha_{t-1})^2}{1-\bar\alpha_t}$$
#
# because $1 - \beta_t = \alpha_t$ and $\bar\alpha_t = \alpha_t\bar\alpha_{t-1}$. Its root, divided by the
# $\sqrt{1-\bar\alpha_t}$ inside $\varepsilon$, is the weight of $x_t$:
#
# $$\frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}$$
#
# That is the weight in lab 1's posterior mean. The rest belongs to $x_0$, and with
# $\sqrt{\bar\alpha_t\alpha_t} = \alpha_t\sqrt{\bar\alpha_{t-1}}$ it comes out as
#
# $$\sqrt{\bar\alpha_{t-1}} - \sqrt{\bar\alpha_t}\,\frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}
#   = \sqrt{\bar\alpha_{t-1}}\;\frac{(1-\bar\alpha_t) - \alpha_t(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}
#   = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}$$
#
# Also the same. The next cell says it in numbers, in double precision.

# %%
with when_done():
    torch.manual_seed(0)
    t = torch.tensor([3, 400, 990])
    beta_t, abar = betas.double()[t].reshape(3, 1, 1, 1), compute_alphas_cumprod(betas.double())
    abar_t, abar_prev = abar[t].reshape(3, 1, 1, 1), abar[t - 1].reshape(3, 1, 1, 1)
    x_t, x_0, z = torch.randn(3, 3, 1, 8, 8, dtype=torch.float64)
    mean, variance = p_mean_variance(x_t, x_0, beta_t, abar_t, abar_prev, fixed="small")
    ancestral = p_sample(mean, variance, z, t=3)
    for eta in (1.0, 0.5, 0.0):
        other = ddim_step(x_t, x_0, abar_t, abar_prev, ddim_sigma(abar_t, abar_prev, eta), z)
        print(f"eta = {eta}: largest difference from the ancestral step {(ancestral - other).abs().max():.0e}")

# %% [markdown]
# ## The loop
#
# What is left is bookkeeping, and it is where published samplers most often go wrong. Three things to get right:
#
# - `abar_prev` belongs to the **next timestep of the list**, not to $t - 1$.
# - After the last timestep there is none. The landing place is the clean image, so `abar_prev` is 1 there. Some code
#   takes `alphas_cumprod[0]` instead, which leaves a little noise in every picture; some takes index $-1$, which in
#   Python is the noisiest entry of all.
# - The denoiser is asked at $t$, about the image where you are now.


# %%
def ddim_loop(step, denoise, x_T, timesteps, alphas_cumprod):
    """Walk from noise to an image over a few timesteps.

    step: step(x_t, x_0, abar_t, abar_prev) -> x_prev. It takes abar_t and abar_prev as tensors, 0-dimensional or
    broadcasting against x_t. denoise: denoise(x_t, t) -> x_0, with t an int. x_T: (B, C, H, W), standard normal.
    timesteps: ints, falling. alphas_cumprod: (T,). After the last timestep abar_prev is 1.
    Returns what the last step made, (B, C, H, W).
    """
    ### BEGIN SOLUTION
    x = x_T
    for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t = alphas_cumprod[t]
        abar_prev = torch.ones_like(abar_t) if after is None else alphas_cumprod[after]
        x = step(x, denoise(x, t), abar_t, abar_prev)  # (B, C, H, W)
    return x
    ### END SOLUTION


# %% [markdown]
# Given: the sampler that joins the last three. All later labs draw with it.


# %%
def ddim_sample(denoise, x_T, timesteps, alphas_cumprod, eta=0.0, generator=None):
    """Draw images over a few timesteps, with the answers above.

    denoise: denoise(x_t, t) -> x_0. x_T: (B, C, H, W), standard normal. timesteps: falling ints, see ddim_timesteps.
    alphas_cumprod: (T,). eta: 0 for no fresh noise, 1 for as much as ancestral sampling.
    generator: what fresh noise is drawn from, on any device. Returns x_0: (B, C, H, W).
    """

    def step(x_t, x_0, abar_t, abar_prev):
        noise = fresh_noise(x_t, generator) if eta > 0 else torch.zeros_like(x_t)
        return ddim_step(x_t, x_0, abar_t, abar_prev, ddim_sigma(abar_t, abar_prev, eta), noise)

    return ddim_loop(step, denoise, x_T, timesteps, alphas_cumprod.to(x_T))


# %% [markdown]
# First the test without a network. One point must be hit exactly, however few the steps. For the Gaussian the guess
# changes along the way, and a long step pretends that it does not.

# %%
with when_done():
    torch.manual_seed(0)
    pixels = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    point = ddim_sample(one_point(real[:1]), pixels, ddim_timesteps(T, 3), alphas_cumprod)
    print(f"one point, 3 steps: farthest pixel from it {(point - real[:1]).abs().max():.1e}")
    exact = gaussian(0.4, 0.25, alphas_cumprod)
    print("Gaussian of mean 0.4 and deviation 0.25")
    for n in (2, 5, 10, 20, 50, 1000):
        ends = {eta: ddim_sample(exact, pixels, ddim_timesteps(T, n), alphas_cumprod, eta) for eta in (0.0, 1.0)}
        found = "; ".join(f"eta = {eta:g}: mean {x.mean():.3f}, deviation {x.std():.3f}" for eta, x in ends.items())
        print(f"  {n:4d} steps, {found}")

# %% [markdown]
# The mean is right from the start. The deviation is too small with few steps and gets there as steps are added, sooner
# without fresh noise. Keep this in mind for what comes: too few steps cost **variety and detail**, since each long step
# leans on a guess that is an average.
#
# **Predict before you run.** Draw with the network, $\eta = 0$, from the same eight noises $x_T$, once in 10 steps and
# once in 50. Compare the two pictures of each noise. Are they
#
# - `"identical"`: every pixel the same, up to rounding;
# - `"alike"`: mostly the same digit in the same shape, with details that differ;
# - `"unrelated"`: different digits?


# %%
def predict_same_noise():
    """Return "identical", "alike" or "unrelated"."""
    ### BEGIN SOLUTION
    return "alike"
    ### END SOLUTION


# %%
with when_done(), torch.inference_mode():
    x_T = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    for eta in (0.0, 1.0):
        lines = {}
        for n in (5, 10, 20, 50):
            generator = torch.Generator().manual_seed(n)
            lines[f"eta = {eta:g}, {n} steps"] = ddim_sample(
                denoise, x_T, ddim_timesteps(T, n), alphas_cumprod, eta, generator
            )
        rows(lines)

# %% [markdown]
# In the upper block, $\eta = 0$, a column mostly stays one digit. No noise is drawn on the way, so $x_T$ decides
# alone: the sampler follows a smooth path, and more steps follow it more closely. Here and there a column changes its
# mind, where $x_T$ lies near the border between two digits. In the lower block, $\eta = 1$, the columns have nothing
# in common, because every step draws fresh noise. There $x_T$ is only the first of many throws of the dice.

# %% [markdown]
# ## How good are they?
#
# Looking at eight digits will not tell 20 steps from 50. We need figures, and somebody who looks. The **judge** is a
# small classifier of MNIST that was trained on real digits, `models.digit_classifier()`. `models.classify(images)`
# returns what it sees: the probabilities of the ten classes, and for each image the 128 features of its last layer.
#
# **The first figure** asks: is it a digit at all? The judge is sure of nearly every real one. So count the share of
# images whose largest probability exceeds 0.9.


# %%
def confident_share(logits, threshold=0.9):
    """The share of images whose most probable class has a probability above the threshold.

    logits: (N, K), the classifier's outputs before the softmax. threshold: from 0 to 1.
    Returns a number from 0 to 1.
    """
    ### BEGIN SOLUTION
    return (logits.softmax(dim=1).amax(dim=1) > threshold).float().mean().item()
    ### END SOLUTION


# %% [markdown]
# **The second figure** asks: do they look like the real ones *as a crowd*? Send many real and many drawn images through
# the judge. Each becomes a point in 128 dimensions. Now compare the two clouds of points. Describe each by its mean
# $\mu$ and its covariance $S$, as if it were a Gaussian. Between two Gaussians there is a well known distance, named
# after Fréchet (its square, strictly; FID keeps it squared):
#
# $$d = \lVert\mu_a-\mu_b\rVert^2 + \operatorname{tr}(S_a) + \operatorname{tr}(S_b)
#   - 2\operatorname{tr}\big((S_a S_b)^{1/2}\big)$$
#
# In one dimension it is $(\mu_a-\mu_b)^2 + (s_a-s_b)^2$, with the deviations $s$: write out the square and compare. So
# it is 0 when the clouds agree, and it grows when the drawn ones sit elsewhere **or** are less varied. Used with the
# features of a classifier it is called FID (Heusel and others 2017). The name belongs to one particular classifier,
# trained on photographs; with ours the numbers can only be compared among themselves.
#
# The square root is that of a matrix, not of its entries. We only need its trace, and that is easy: the trace is the
# sum of the eigenvalues, and the eigenvalues of the root are the roots of the eigenvalues of $S_aS_b$. That product
# is not symmetric, but it has the same eigenvalues as $S_a^{1/2}S_bS_a^{1/2}$, which is. So they are real and not
# negative. Rounding can push one a little below 0, which would make its root NaN. `torch.linalg.eigvals` returns
# complex numbers, whose roots always exist; take the real part afterwards. Compute in float64, since the terms nearly
# cancel.
#
# The covariance is the one with $N - 1$ below. `torch.cov` gives it, and wants one **row per variable**, so hand it the
# features transposed.


# %%
def frechet_distance(features_a, features_b):
    """The Fréchet distance between two sets of features, each taken for a Gaussian (Heusel and others 2017).

    features_a: (N, D). features_b: (M, D). Covariances divide by N - 1 and M - 1. Computed in float64.
    Returns a number, 0 or more up to rounding.
    """
    ### BEGIN SOLUTION
    a, b = features_a.double(), features_b.double()
    S_a, S_b = a.T.cov(), b.T.cov()  # (D, D)
    roots = torch.linalg.eigvals(S_a @ S_b).sqrt().real.sum()
    return ((a.mean(0) - b.mean(0)).square().sum() + S_a.trace() + S_b.trace() - 2 * roots).item()
    ### END SOLUTION


# %% [markdown]
# Before you trust a figure, try it on cases where you know what it should say. The real digits here come in two halves,
# neither seen by the judge in training. One half is the yardstick, `real_features`.

# %%
half = len(real) // 2
_, real_features = models.classify(real[:half])  # (M, 128)


def measure(images):
    """The FID against the real digits and the confident share of some images."""
    probabilities, features = models.classify(images)
    # the logarithm of probabilities is a set of logits for them
    return frechet_distance(features, real_features), confident_share(probabilities.log())


with when_done():
    torch.manual_seed(0)
    others = real[half:][:256]
    cases = {
        "256 other real digits": others,
        "one of them, 256 times": others[:1].expand(256, -1, -1, -1),
        "only the zeros and ones": real[half:][labels[half:] < 2][:256],
        "real digits under a little noise": q_sample(others, alphas_cumprod[150], torch.randn_like(others)),
        "pure noise": torch.randn_like(others).clamp(-1, 1),
    }
    for name, images in cases.items():
        fid, share = measure(images)
        print(f"{name:34s} FID {fid:8.2f}, confident {share:4.0%}")

# %% [markdown]
# The judge is confident of the same digit 256 times over. It cannot see that variety is missing; the FID can. It may
# even be confident of pure noise: it learned to choose among ten digits, not to say that there is none. A share is
# worth something only beside an FID.
#
# There is something odd in the first line. Those are real digits, so why is the FID not 0? Because 256 points in 128
# dimensions describe a covariance poorly. The estimate is noisy, and on average the noise pushes the distance **up**.
# The next cell measures real digits against real digits with more and more of them.

# %%
with when_done():
    _, other_features = models.classify(real[half:])
    sizes = [n for n in (64, 128, 256, 512, 1024, 2048) if n < half] + [half]
    found = {"real against real": [frechet_distance(other_features[:n], real_features) for n in sizes]}
    curves(found, x=sizes, xlabel="number of images", ylabel="FID", title="The FID of perfect digits is not 0")

# %% [markdown]
# So an FID means nothing without its number of samples. Papers use 50,000. We use 256 to finish in minutes, compare
# only figures made with 256, and read the line "256 other real digits" as the best that can be reached.
#
# ## Quality against number of steps
#
# Now the experiment that this lab is about. It draws 256 digits for each number of steps, with and without fresh noise.

# %%
N = 8 if being_graded() else 256  # a grader looks at the answers, not at how well a network draws

with when_done(), torch.inference_mode():
    numbers = [5, 10, 20, 50]
    fids, shares = {}, {}
    best, _ = measure(real[half:][:256])
    x_T = torch.randn(N, 1, 28, 28, generator=torch.Generator().manual_seed(6))
    for eta in (0.0, 1.0):
        name = f"eta = {eta:g}"
        fids[name], shares[name] = [], []
        for n in numbers:
            generator = torch.Generator().manual_seed(7)
            start = time.perf_counter()
            few = ddim_timesteps(T, n)
            drawn = torch.cat([ddim_sample(denoise, x, few, alphas_cumprod, eta, generator) for x in x_T.split(64)])
            fid, share = measure(drawn)
            fids[name].append(fid)
            shares[name].append(share)
            seconds = time.perf_counter() - start
            print(f"{name}, {n:3d} steps: FID {fid:6.2f}, confident {share:4.0%}, {seconds:4.1f} s")
    curves(fids, x=numbers, xlabel="steps", ylabel="FID", level=best, title="FID of 256 digits (dashed: real ones)")
    curves(shares, x=numbers, xlabel="steps", ylabel="confident share", title="Share that the judge is sure of")

# %% [markdown]
# Read it like this.
#
# - The time grows with the number of steps, the quality does not. The first ten steps buy most of it, and 1000 would
#   cost 20 times as much as 50 for little.
# - Compare the two curves. Fresh noise has a good side and a bad one. Each step makes an error; without fresh noise it
#   is carried on to the end, with fresh noise later steps wash it out. On the other hand, noise that a step throws in
#   must be taken out by the steps after it, and with few steps there are hardly any. On photographs the second weighs
#   more when steps are few (Song, Meng and Ermon 2021, table 1). Digits on a black ground are easily cleaned, so here
#   the first may win. Which is it in your curves?
# - Differences of a few per cent are within the luck of 256 samples. Change a seed and see.
#
# ## Where to spend the calls
#
# Ten equal steps are one choice of ten timesteps, and nothing makes it the best. Take any falling list. A family of
# them has one number $p$: let $u$ fall evenly from 1 to 0 and put
#
# $$t = (T-1)\,u^{\,p}$$
#
# $p = 1$ is equal spacing. With $p < 1$ the steps are short at large $t$, where $x_t$ is nearly noise, and long near
# the end. With $p > 1$ it is the other way round. ($p = 2$ is the quadratic list of the DDIM paper, appendix D.2.)
#
# Before you run the cell: the picture becomes sharp in the last steps, and the first ones only turn noise into a blur.
# Where would you spend ten calls?

# %%
with when_done(), torch.inference_mode():
    u, pictures = torch.linspace(1, 0, 10), {}  # (10,)
    x_T = torch.randn(N, 1, 28, 28, generator=torch.Generator().manual_seed(6))
    for p in (2.0, 1.0, 0.5):
        generator = torch.Generator().manual_seed(7)
        few = ((T - 1) * u**p).round().long().tolist()
        drawn = torch.cat([ddim_sample(denoise, x, few, alphas_cumprod, 1.0, generator) for x in x_T.split(64)])
        fid, share = measure(drawn)
        print(f"p = {p:g}: FID {fid:6.2f}, confident {share:4.0%}, timesteps {few}")
        pictures[f"p = {p:g}"] = drawn[:8]
    rows(pictures)

# %% [markdown]
# Short steps at large $t$ win, in both figures. The last steps look as if they did the work, but they only carry out
# what has been decided. Which digit it becomes, and how its strokes run, is settled while $x_t$ still looks like noise:
# there the guess moves fastest, from the average of all digits towards one of them, and there a long step cuts the
# corner. On 64 paths of 50 steps, a pixel of this network's guess moves by 0.66 per 100 timesteps at $t = 877$ and by
# 0.16 at $t = 326$ (root mean square). So one long step from $t = 333$ to the end does little harm.
#
# This holds for a network that must find out by itself which digit to draw. One that is told, as in lab 5, has less to
# decide in the noise, and its best list is nearer to equal spacing.
#
# ## A question
#
# The network was trained with all 1000 steps. DDIM skips most of them, with no further training.
# Why is that allowed? And if it is, why do 5 steps still look worse than 50?

# %% [markdown] question="why_steps_can_be_skipped"
# The training loss only uses $q(x_t \mid x_0)$ at one $t$ at a time. It never uses how $x_t$ and $x_{t-1}$ belong
# together. So the trained network is right for every process that has the same $q(x_t \mid x_0)$ at the visited steps.
# The DDIM step has it, for any pair of timesteps and any $\sigma_t$: with a known $x_0$ it lands exactly on
# $q(x_{\text{prev}} \mid x_0)$.
#
# But $x_0$ is not known. Each step uses the guess made at its beginning, as if it stayed the same until the landing
# place. Along the true path the guess changes: it starts as an average over many digits and becomes one of them. A long
# step misses that change and cuts the corner. With 5 steps the errors are large, so strokes are blurred or do not
# fit together; with 50 steps the guess hardly changes within a step. Only when the guess never changes (data of one
# point) are few steps exact.

# %% [markdown]
# ## From one digit to another
#
# With $\eta = 0$ the noise $x_T$ is like an address: one noise, one picture, and nearby noises give similar pictures.
# So walk from one address to another and draw at each stop.
#
# Not along a straight line, though. The midpoint of two independent noises, $(a + b)/2$, has the variance
# $\tfrac14 + \tfrac14 = \tfrac12$ per pixel. The network expects variance 1 at this step. Noise in $D$ dimensions has a
# length of almost exactly $\sqrt D$, so all of it lies near the surface of a sphere, and the straight line cuts
# through the inside. Follow the surface instead. With $\theta$ the angle between $a$ and $b$ as vectors,
#
# $$\operatorname{slerp}(a, b; w) = \frac{\sin((1-w)\theta)}{\sin\theta}\,a + \frac{\sin(w\theta)}{\sin\theta}\,b,
#   \qquad \cos\theta = \frac{a\cdot b}{\lVert a\rVert\,\lVert b\rVert}$$
#
# Each pair of images in the batch has its own angle. Two independent noises are nearly at a right angle, so at $w =
# \tfrac12$ both weights are about $0.71$ and their squares add up to 1. When $a$ and $b$ point the same way, $\theta$
# and $\sin\theta$ are 0 and the formula divides by zero. For angles so small, arc and straight line are the same, so
# use the straight line where $\cos\theta > 0.9995$. Rounding can also push the cosine just above 1, where arccos is
# NaN: clamp it to $[-1, 1]$ first. (Exactly opposite noises have no single arc between them. They do not occur here,
# and your function may return anything for them.)


# %%
def slerp(a, b, w):
    """Interpolate between noises along the sphere, image by image (Shoemake 1985; White 2016).

    a, b: (B, C, H, W). w: a number from 0, which gives a, to 1, which gives b. The weights apply to a and b
    themselves; only the angle comes from unit vectors. Where the cosine exceeds 0.9995: (1 - w) a + w b.
    Returns (B, C, H, W).
    """
    ### BEGIN SOLUTION
    axes = tuple(range(1, a.dim()))
    lengths = a.square().sum(axes, keepdim=True).sqrt() * b.square().sum(axes, keepdim=True).sqrt()  # (B, 1, 1, 1)
    cosine = ((a * b).sum(axes, keepdim=True) / lengths).clamp(-1, 1)  # (B, 1, 1, 1)
    theta = cosine.arccos()  # (B, 1, 1, 1)
    arc = (((1 - w) * theta).sin() * a + (w * theta).sin() * b) / theta.sin()  # (B, C, H, W)
    return torch.where(cosine > 0.9995, (1 - w) * a + w * b, arc)  # (B, C, H, W)
    ### END SOLUTION


# %% [markdown]
# To have good digits at both ends, the cell draws 48 and lets the judge choose: per class the one that it is surest of.

# %%
with when_done(), torch.inference_mode():
    few = ddim_timesteps(T, 20)
    x_T = torch.randn(48, 1, 28, 28, generator=torch.Generator().manual_seed(8))
    sure, classes = models.classify(ddim_sample(denoise, x_T, few, alphas_cumprod))[0].max(dim=1)
    surest = {digit: torch.where(classes == digit, sure, 0).argmax().item() for digit in classes.unique().tolist()}
    chosen = {digit: x_T[[i]] for digit, i in surest.items()}
    ws = [i / 8 for i in range(9)]
    first, last = chosen[min(chosen)], chosen[max(chosen)]
    along = torch.cat([slerp(first, last, w) for w in ws])  # (9, 1, 28, 28)
    straight = torch.cat([(1 - w) * first + w * last for w in ws])  # (9, 1, 28, 28)
    print("deviation of the noise, slerp:   ", "  ".join(f"{x.std():.2f}" for x in along))
    print("deviation of the noise, straight:", "  ".join(f"{x.std():.2f}" for x in straight))
    rows(
        {name: ddim_sample(denoise, x, few, alphas_cumprod) for name, x in (("slerp", along), ("straight", straight))},
        titles=[f"w = {w:.2f}" for w in ws],
    )

    pairs = list(chosen.values())
    a, b = torch.cat(pairs[:-1]), torch.cat(pairs[1:])
    path = {w: ddim_sample(denoise, slerp(a, b, w), few, alphas_cumprod) for w in ws}

    def between(w):
        show(path[w], columns=len(a), title=f"from each digit towards the next one, w = {w:.2f}")

    explore(between, w=ws, still=(0.0, 0.5, 1.0))

# %% [markdown]
# Most of the way little changes, then over a short stretch one digit turns into another. On the border lie third
# digits, or shapes that are none: the network maps the whole sphere to pictures, and the digits have to border on
# something. The straight line does less harm here than its deviation of 0.71 suggests, since digits are simple. On
# photographs its middle comes out flat and blurred.
#
# ## More to try
#
# - Draw with `make_p_step(..., fixed="large")` and compare with the small variance. Plot the ratio of the two
#   variances over $t$ to see where they differ.
# - Set `eta` to 0.5. Then to 1.5: which limit does $\sigma_t$ break, what does your clamp make of it, and how large is
#   the variance of the noise after such a step?
# - Which $p$ has the lowest FID with 5 steps, and which with 50? Is it the one that has the most confident digits?
#
# ## Summary
#
# - A denoiser guesses the mean of all clean images that could be behind $x_t$. One call is a blur; sampling is asking
#   again and again, a step at a time.
# - Ancestral sampling puts the guess into lab 1's posterior. No noise at $t = 0$.
# - DDIM uses that training fixed only $q(x_t \mid x_0)$. It keeps the noise that is there, adds $\sigma_t z$ of fresh
#   noise, and may jump: $x_{\text{prev}} = \sqrt{\bar\alpha_{\text{prev}}}\,x_0
#   + \sqrt{1-\bar\alpha_{\text{prev}}-\sigma_t^2}\,\varepsilon + \sigma_t z$, with
#   $\bar\alpha_{\text{prev}} = 1$ at the end.
# - $\eta = 1$ over all steps is ancestral sampling. $\eta = 0$ makes the picture a function of $x_T$, which can then be
#   interpolated, along the sphere.
# - The confident share sees whether each image is a digit, the FID whether the crowd is right. An FID has a bias that
#   depends on the number of samples.
#
# ## Further reading
#
# - J. Ho, A. Jain, P. Abbeel. *Denoising Diffusion Probabilistic Models*. NeurIPS 2020. arXiv:2006.11239.
# - J. Song, C. Meng, S. Ermon. *Denoising Diffusion Implicit Models*. ICLR 2021. arXiv:2010.02502.
# - A. Nichol, P. Dhariwal. *Improved Denoising Diffusion Probabilistic Models*. ICML 2021. arXiv:2102.09672. (The two
#   variances, and a learned one between them.)
# - T. Karras, M. Aittala, T. Aila, S. Laine. *Elucidating the Design Space of Diffusion-Based Generative Models*.
#   NeurIPS 2022. arXiv:2206.00364. (What fresh noise repairs, and better steps.)
# - M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter. *GANs Trained by a Two Time-Scale Update Rule
#   Converge to a Local Nash Equilibrium*. NeurIPS 2017. arXiv:1706.08500. (The FID.)
# - M. Chong, D. Forsyth. *Effectively Unbiased FID and Inception Score and Where to Find Them*. CVPR 2020.
#   arXiv:1911.07023.
# - K. Shoemake. *Animating Rotation with Quaternion Curves*. SIGGRAPH 1985.
# - T. White. *Sampling Generative Networks*. 2016. arXiv:1609.04468.
