# %% [markdown]
# # Lab 8: Debugging
#
# **You mend** eight broken programs. Each is short, runs without an error, and holds one fault of a kind that published
# code has had. You are told what the program should do, and shown what it does instead.
#
# **You can then** tell from a picture or a curve where in a diffusion model to look, and find the line with an
# experiment instead of with luck.
#
# **It takes** about 90 minutes and only seconds of training. **It needs** labs 1 to 4: $q(x_t \mid x_0)$, what a
# network may predict, training, sampling. One program uses the labels of lab 5. The answers of earlier labs are
# imported.
#
# Each program stands in a cell of its own and is called `broken_...`. Copy its body into the stub below it and mend it
# there. The docstring of the stub is the contract: any mend that keeps it passes, however you write it. Under each
# exercise a cell calls `check`, and `hint(name)` helps in three steps. The programs do not depend on each other, so
# leave one that resists and come back.
#
# ## How to work
#
# Broken diffusion code rarely stops with an error. It draws slightly worse digits, and there are a hundred reasons for
# slightly worse digits. What helps is a fixed order:
#
# 1. **Look at the symptom**, and say precisely what is wrong: grain or wrong shapes? everywhere or at the edges?
#    at all timesteps or at some? always or for some inputs?
# 2. **Form a guess** that explains all of it. A fault that spoils large $t$ only can't sit in code that never sees $t$.
# 3. **Test the guess with the smallest experiment that could refute it.** One image, one timestep, a denoiser whose
#    answer you know, a printed number. Seconds, not a training run.
# 4. Change **one** thing, then look again.
#
# The last rule is the hardest. A clamp or a smaller learning rate may make a symptom weaker and leave the fault where
# it was. Several wrong mends in this lab do just that, and `check` knows them.

# %%
import copy
import importlib.util

import torch
from torch import nn

from labdiff import check, hint, models, schedules, when_done
from labdiff.data import digits
from labdiff.plotting import curves, rows, show
from labdiff.reference.lab1_forward import (
    compute_alphas_cumprod,
    cosine_betas,
    extract,
    linear_betas,
    posterior_mean,
    q_sample,
)
from labdiff.reference.lab2_unet import UNet, timestep_embedding
from labdiff.reference.lab3_training import (
    diffusion_loss,
    ema_update,
    eps_from_v,
    random_timesteps,
    v_target,
    x0_from_eps,
    x0_from_v,
)
from labdiff.reference.lab4_sampling import ddim_sample, ddim_timesteps, make_denoiser
from labdiff.reference.lab5_guidance import guided_loss

# %% [markdown]
# The trained network knows the cosine schedule with 1000 steps. Some programs below use another schedule. That is no
# obstacle. What a network really needs to know is the noise level, $\bar\alpha_t$. So `denoiser_for` looks up which of
# the network's own timesteps comes nearest to that level, and asks there.


# %%
def denoiser_for(model, own, alphas_cumprod, cut=True):
    """Make a denoiser for any schedule of a network that predicts v on a schedule of its own.

    model: model(x_t, t) -> v, with t (B,), int64. own: (1000,), the alphas_cumprod that the model was trained with.
    alphas_cumprod: (T,), of the schedule to sample with. cut: whether guesses are cut to [-1, 1].
    Returns denoise(x_t, t) -> x_0, with t an int in [0, T).
    """

    def denoise(x_t, t):
        nearest = (own - alphas_cumprod[t]).abs().argmin()  # scalar
        guess = x0_from_v(x_t, model(x_t, nearest.expand(len(x_t))), own[nearest])  # (B, C, H, W)
        return guess.clamp(-1, 1) if cut else guess

    return denoise


# %%
model = models.unet()
T = 1000
alphas_cumprod = schedules.alphas_cumprod(T)  # (T,)
denoise = denoiser_for(model, alphas_cumprod, alphas_cumprod)
real, labels = digits(4000, train=False)

# %% [markdown]
# ## What a symptom says
#
# Before the first program, a guess about symptoms in general. Sampling walks from $t = 999$ to $t = 0$. Suppose that
# the denoiser is faulty in one third of this walk: to each of its guesses there, fresh noise of deviation 0.5 is added.
# That is a lot; a digit's pixels lie between $-1$ and $1$. In the other two thirds it works.
#
# Let the faulty third be the **first** one that the sampler meets, $t \ge 667$. What will the finished digits look
# like? `"grainy"`: digits covered with noise. `"clean"`: digits without noise, though perhaps not the same ones.
# `"lost"`: nothing that looks like a digit.


# %%
def predict_early_error():
    """Return "grainy", "clean" or "lost"."""
    ### BEGIN SOLUTION
    return "clean"
    ### END SOLUTION


# %%
with when_done(), torch.inference_mode():
    predict_early_error()
    pattern = torch.randn(T, 1, 1, 28, 28, generator=torch.Generator().manual_seed(9))
    x_T = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    drawn = {}
    for name, faulty in {
        "no fault": range(0),
        "t from 667": range(667, T),
        "t from 333 to 666": range(333, 667),
        "t below 333": range(333),
    }.items():

        def disturbed(x_t, t, faulty=faulty):
            return denoise(x_t, t) + (0.5 * pattern[t] if t in faulty else 0)

        drawn[name] = ddim_sample(disturbed, x_T, ddim_timesteps(T, 25), alphas_cumprod)
        print(f"{name}: deviation of the background, top three lines: {drawn[name][:, :, :3].std():.2f}")
    rows(drawn)

# %% [markdown]
# An early error is repaired: whatever noise it leaves in $x_t$, later steps take for noise and remove. What remains is
# a different path, so here and there a different digit. A late error has no later steps. It stays as grain.
#
# That is the first thing to read off a picture. **Grain on good digits: look at small $t$, and at whatever happens
# after the loop. Clean strokes in wrong shapes: look at large $t$, and at the noise that the sampler starts from.**
#
# ## Program 1: too few steps
#
# DDPM's linear schedule has 1000 steps. This program makes it for any number of steps, so that one can train and
# sample with fewer.


# %%
def broken_schedule_for(T):
    """DDPM's linear schedule in T steps."""
    beta_start, beta_end = 1e-4, 0.02  # Ho, Jain and Abbeel 2020, section 4
    betas = torch.linspace(beta_start, beta_end, T)  # (T,)
    alphas = 1 - betas  # (T,)
    alphas_cumprod = torch.cumprod(alphas, dim=0)  # (T,)
    return betas, alphas_cumprod


# %% [markdown]
# Sample with it. All three rows take 25 steps of DDIM with the same network and from the same noise. Only the schedule
# that they walk on differs.


# %%
def drawn_with(model, own, schedule, n=8, seed=1):
    """Draw n digits in 25 steps on a schedule, given as (betas, alphas_cumprod), each (T,). Returns (n, 1, 28, 28)."""
    generator = torch.Generator().manual_seed(seed)
    x_T = torch.randn(n, 1, 28, 28, generator=generator)  # (n, 1, 28, 28)
    abar = schedule[1]  # (T,)
    return ddim_sample(denoiser_for(model, own, abar), x_T, ddim_timesteps(len(abar), 25), abar, 1.0, generator)


# %%
with torch.inference_mode():
    rows({f"T = {n}": drawn_with(model, alphas_cumprod, broken_schedule_for(n)) for n in (1000, 250, 100)})

# %% [markdown]
# With 1000 steps these are digits. With 250 they grow fat, with 100 they are a tangle of strokes. The strokes are
# clean: there is no grain. The sampler starts each row from standard normal noise. Which number of a schedule says
# whether that is the right place to start? Print it for the three values of $T$.


# %%
def schedule_for(T):
    """DDPM's linear schedule, walked in T steps.

    From a quarter of the way on, an image is about as noisy as after the same share of DDPM's 1000 steps: log(abar)
    agrees within 12 percent. (Before that it is near 0, and a few steps can't match many.) At T = 1000 it is DDPM's
    schedule (Ho, Jain and Abbeel 2020, section 4).
    T: int, from 100 to 1000. Returns betas (T,), in (0, 1), and their alphas_cumprod (T,), both float32.
    """
    ### BEGIN SOLUTION
    scale = 1000 / T
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, T)  # (T,)
    return betas, torch.cumprod(1 - betas, dim=0)
    ### END SOLUTION


# %%
with when_done(), torch.inference_mode():
    rows(
        {
            f"T = {n}, {state}": drawn_with(model, alphas_cumprod, program(n))
            for n in (250, 100)
            for state, program in (("broken", broken_schedule_for), ("mended", schedule_for))
        }
    )
    stops = torch.arange(1, 21) * 5  # percent of the way
    curves(
        {
            "DDPM, T = 1000": broken_schedule_for(1000)[1][stops * 10 - 1],
            "T = 100, broken": broken_schedule_for(100)[1][stops - 1],
            "T = 100, mended": schedule_for(100)[1][stops - 1],
        },
        x=stops,
        xlabel="percent of the way to noise",
        ylabel="alphas_cumprod",
    )
    for name, program in {"broken": broken_schedule_for, "mended": schedule_for}.items():
        print(f"{name}: " + ", ".join(f"T = {n}: abar at the end {program(n)[1][-1]:.1e}" for n in (1000, 250, 100)))

# %% [markdown]
# *Read on when the check is green.* The mended schedule follows DDPM's so closely that one curve hides the other, and
# with $T = 100$ it draws nearly the digits of $T = 1000$. The constants of a schedule belong to one number of steps.
# With fewer steps they leave the forward process unfinished: at the end a good deal of image is still in $x_T$, while
# the sampler starts from noise without any. The network takes part of that noise for strokes. A loss curve shows
# nothing of this, because training never starts from pure noise.
#
# The authors of RFdiffusion were asked why their schedule depends on $T$, and explained it (RosettaCommons/RFdiffusion,
# issue 141). A pull request to diffusers calls the fixed constants a potential usability trap and scales the larger one
# alone, which does nearly as well (huggingface/diffusers, pull request 12341; what it says goes wrong with few steps is
# the reverse of what you saw). Stable Diffusion has a milder form of the same fault, with all the steps that it was
# made for: its last $\bar\alpha$ is not 0, so it can hardly draw a picture that is very dark or very bright (Lin and
# others, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, WACV 2024, arXiv:2305.08891).
#
# ## Program 2: specks
#
# The network's images are floats from about $-1$ to $1$. Picture files hold whole numbers from 0 to 255. This program
# lays a batch of grey images out as one picture, `columns` side by side.


# %%
def broken_picture_of(images, columns):
    """One picture of a batch of grey images, uint8."""
    B, _, H, W = images.shape
    lines = -(-B // columns)  # rounded up
    pixels = ((images + 1) * 127.5).round().int()  # (B, 1, H, W), -1 becomes 0 and 1 becomes 255
    sheet = torch.zeros(lines * columns, H, W, dtype=torch.uint8, device=images.device)
    sheet[:B] = pixels[:, 0].to(torch.uint8)  # (lines * columns, H, W)
    return sheet.reshape(lines, columns, H, W).transpose(1, 2).reshape(lines * H, columns * W)


# %% [markdown]
# It does well on real digits and badly on drawn ones. The drawn ones come straight from the network here, without the
# cut to $[-1, 1]$ that lab 4 put behind it.


# %%
def screen(**pictures):
    """Show pictures (H, W), uint8, below each other, one byte per pixel as a screen does."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(len(pictures), 1, figsize=(6, 1.8 * len(pictures)), layout="constrained")
    for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    plt.show()


# %%
with torch.inference_mode():
    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn(16, 1, 28, 28, generator=generator)
    uncut = denoiser_for(model, alphas_cumprod, alphas_cumprod, cut=False)
    samples = ddim_sample(uncut, x_T, ddim_timesteps(T, 20), alphas_cumprod, 1.0, generator)
    screen(real_digits=broken_picture_of(real[:16], 8), drawn_digits=broken_picture_of(samples, 8))

# %% [markdown]
# White specks on black, in some images whole fields of them, while the digits themselves are intact. A network that is
# unsure puts grey where black belongs; it does not jump to the opposite. And the specks lie in the black, not in the
# grey edges of the strokes. Compare `samples.min()` and `samples.max()` with those of `real`. Then follow a single
# speck by hand through each line.


# %%
def picture_of(images, columns):
    """One picture of a batch of grey images.

    images: (B, 1, H, W), float. -1 is black, 1 is white, values between are rounded to the nearest grey. What is
    darker than black is black, what is brighter than white is white. columns: how many images lie side by side.
    Returns (lines * H, columns * W), uint8, line by line; places without an image are black.
    """
    ### BEGIN SOLUTION
    B, _, H, W = images.shape
    lines = -(-B // columns)  # rounded up
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round()  # (B, 1, H, W), in [0, 255]
    sheet = torch.zeros(lines * columns, H, W, dtype=torch.uint8, device=images.device)
    sheet[:B] = pixels[:, 0].to(torch.uint8)  # (lines * columns, H, W)
    return sheet.reshape(lines, columns, H, W).transpose(1, 2).reshape(lines * H, columns * W)
    ### END SOLUTION


# %%
with when_done():
    screen(broken=broken_picture_of(samples, 8), mended=picture_of(samples, 8))
    outside = (samples.abs() > 1).float().mean()
    print(f"pixels of the samples: {samples.min():.2f} to {samples.max():.2f}, {outside:.0%} outside [-1, 1]")

# %% [markdown]
# *Read on when the check is green.* Eight bits count in a circle: 256 is 0, and $-1$ is 255. So the darkest pixels of
# all come out white. A value a little outside the range is enough, and a network makes some in nearly every image.
# The specks look like a fault of the model, so one searches in the wrong place. Note that the program casts to int
# first. A float below 0 that is cast to uint8 directly may become anything, on another processor something else.
#
# The fault was reported for a published model that draws chest X-rays (Project-MONAI/GenerativeModels, issue 323).
#
# ## Program 3: a veil of grain
#
# Ancestral sampling, all in one function. The noise is handed in, one image-sized piece per step, so that a run can be
# repeated. Each step adds noise of variance $\beta_t$, the large one of the two in lab 4.


# %%
def broken_sample_ancestral(denoise, x_T, noise, betas):
    """Ancestral sampling with the variance beta_t."""
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)  # (T,)
    before = torch.cat([torch.ones_like(betas[:1]), alphas_cumprod[:-1]])  # (T,)
    x = x_T
    for t in reversed(range(len(betas))):
        x_0 = denoise(x, t)  # (B, C, H, W)
        mean = posterior_mean(x_0, x, betas[t], alphas_cumprod[t], before[t])  # (B, C, H, W)
        x = mean + betas[t].sqrt() * noise[t]  # (B, C, H, W)
    return x


# %% [markdown]
# Fifty steps on a cosine schedule. The digits look fine at first, only a little dirty. To see the dirt, the second row
# shows the same digits with the darkest tenth of the range spread over all greys.

# %%
with torch.inference_mode():
    fifty = cosine_betas(50)  # (50,)
    generator = torch.Generator().manual_seed(2)
    x_T = torch.randn(8, 1, 28, 28, generator=generator)
    step_noise = torch.randn(50, 8, 1, 28, 28, generator=generator)
    denoise_fifty = denoiser_for(model, alphas_cumprod, compute_alphas_cumprod(fifty))
    dirty = broken_sample_ancestral(denoise_fifty, x_T, step_noise, fifty)
    rows({"drawn": dirty, "its dark tenth": (dirty + 1) * 10 - 1, "real, dark tenth": (real[:8] + 1) * 10 - 1})
    print(f"deviation of the background, top three lines: {dirty[:, :, :3].std():.3f}")

# %% [markdown]
# Grain on good digits, all over, of the same strength everywhere. You know where that points to. Now be exact: a
# number is printed above. Does a number of the schedule come near it? An experiment without a network: let `denoise`
# return the same image `c` whatever it is given. What should come out, to the last digit?


# %%
def sample_ancestral(denoise, x_T, noise, betas):
    """Ancestral sampling with the variance beta_t, from noise to a finished image (DDPM, algorithm 2).

    denoise: denoise(x_t, t) -> x_0, with t an int from T - 1 down to 0, called once for each. x_T: (B, C, H, W).
    noise: (T, B, C, H, W), standard normal; noise[t] is what step t may use. betas: (T,).
    If the denoiser always returns one image, the result is that image. Changes no argument. Returns (B, C, H, W).
    """
    ### BEGIN SOLUTION
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)  # (T,)
    before = torch.cat([torch.ones_like(betas[:1]), alphas_cumprod[:-1]])  # (T,)
    x = x_T
    for t in reversed(range(len(betas))):
        x_0 = denoise(x, t)  # (B, C, H, W)
        x = posterior_mean(x_0, x, betas[t], alphas_cumprod[t], before[t])  # (B, C, H, W)
        if t > 0:
            x = x + betas[t].sqrt() * noise[t]  # (B, C, H, W)
    return x
    ### END SOLUTION


# %%
with when_done(), torch.inference_mode():
    neat = sample_ancestral(denoise_fifty, x_T, step_noise, fifty)
    rows({"broken, dark tenth": (dirty + 1) * 10 - 1, "mended, dark tenth": (neat + 1) * 10 - 1})
    print(f"deviation of the background: broken {dirty[:, :, :3].std():.3f}, mended {neat[:, :, :3].std():.3f}")
    print(f"root of the first beta: {fifty[0].sqrt():.3f}")

# %% [markdown]
# *Read on when the check is green.* The last step is an exception, and exceptions are what gets lost when code is
# rewritten. Its price depends on the schedule. The grain has the deviation $\sqrt{\beta_0}$: with 1000 steps nobody
# sees it, with 50 it is a veil, and a measure such as the FID notices it before the eye does.
#
# That this line puzzles people shows in the question of a reader of an MNIST implementation, who asks what its noise is
# for; the special case is the answer he got (TeaPearce/Conditional_Diffusion_MNIST, issue 10). A close relative, a
# sampler that ends at a noise level above 0, left residual noise in the pictures of Stable Diffusion XL
# (huggingface/diffusers, issues 6068 and 5689).
#
# ## Program 4: a guess that goes bad
#
# The last program about pictures, for now, turns a prediction of the noise into a guess for the clean image, as
# samplers of $\varepsilon$-networks do. It keeps the weights as logarithms, which is careful: with long schedules
# $\bar\alpha_t$ becomes very small, its logarithm doesn't.


# %%
def broken_clean_guess(eps_model, x_t, t, betas):
    """The guess for x_0 that belongs to a network's guess for the noise."""
    log_abar = torch.log1p(-betas.double()).cumsum(dim=0)  # (T,), log of abar_t
    log_rest = torch.log(-torch.expm1(log_abar))  # (T,), log of 1 - abar_t
    image_weight = torch.exp(-0.5 * log_abar).to(x_t)  # (T,)
    noise_weight = torch.exp(0.5 * log_rest - log_abar).to(x_t)  # (T,)
    eps = eps_model(x_t, t)  # (B, C, H, W)
    x_0 = extract(image_weight, t, x_t) * x_t - extract(noise_weight, t, x_t) * eps  # (B, C, H, W)
    return x_0.clamp(-1, 1)


# %% [markdown]
# One digit at seven noise levels. The third row is what lab 4's denoiser makes of the same network.


# %%
def make_eps_model(model, alphas_cumprod):
    """A network that predicts v, as one that predicts the noise: eps_model(x_t, t) -> eps, with t (B,), int64."""

    def eps_model(x_t, t):
        return eps_from_v(x_t, model(x_t, t), extract(alphas_cumprod, t, x_t))  # (B, C, H, W)

    return eps_model


# %%
with torch.inference_mode():
    eps_model = make_eps_model(model, alphas_cumprod)
    levels = torch.tensor([50, 200, 350, 500, 650, 800, 950])  # (7,)
    noise = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x_t = q_sample(real[:1], extract(alphas_cumprod, levels, real), noise)  # (7, 1, 28, 28)
    spoilt = broken_clean_guess(eps_model, x_t, levels, cosine_betas(T))  # (7, 1, 28, 28)
    usual = torch.cat([denoise(x_t[i : i + 1], int(t)) for i, t in enumerate(levels)])  # (7, 1, 28, 28)
    rows({"x_t": x_t, "this program": spoilt, "lab 4": usual}, titles=[f"t = {t}" for t in levels.tolist()])

# %% [markdown]
# At small $t$ nothing is wrong, at large $t$ everything is: the guess consists of pixels that are fully black or fully
# white. That comes from the last line, which cuts everything to $[-1, 1]$. What may it hide?
#
# Take the network out of it. Draw an $x_0$ and an $\varepsilon$ yourself, make $x_t$ of them, and let `eps_model`
# return that very $\varepsilon$. A right program then gives $x_0$ back at every $t$. Look at the result before the
# clamp, and at how far it is off for each $t$. Can you name the error: what power of $\bar\alpha_t$ is it?


# %%
def clean_guess(eps_model, x_t, t, betas):
    """The guess for x_0 that belongs to a network's guess for the noise, cut to [-1, 1].

    Where the network's guess is exactly the noise in x_t, the result is exactly x_0, at every t.
    eps_model: eps_model(x_t, t) -> eps, the shape of x_t. x_t: (B, C, H, W). t: (B,), int64. betas: (T,).
    Returns (B, C, H, W), the dtype of x_t.
    """
    ### BEGIN SOLUTION
    log_abar = torch.log1p(-betas.double()).cumsum(dim=0)  # (T,), log of abar_t
    log_rest = torch.log(-torch.expm1(log_abar))  # (T,), log of 1 - abar_t
    image_weight = torch.exp(-0.5 * log_abar).to(x_t)  # (T,)
    noise_weight = torch.exp(0.5 * (log_rest - log_abar)).to(x_t)  # (T,)
    eps = eps_model(x_t, t)  # (B, C, H, W)
    x_0 = extract(image_weight, t, x_t) * x_t - extract(noise_weight, t, x_t) * eps  # (B, C, H, W)
    return x_0.clamp(-1, 1)
    ### END SOLUTION


# %%
with when_done(), torch.inference_mode():
    mended = clean_guess(eps_model, x_t, levels, cosine_betas(T))  # (7, 1, 28, 28)
    rows({"x_t": x_t, "broken": spoilt, "mended": mended}, titles=[f"t = {t}" for t in levels.tolist()])

    x_T = torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    drawn, cut_off = {}, {}
    for name, program in {"broken": broken_clean_guess, "mended": clean_guess}.items():
        cut_off[name] = []

        def guess(x_t, t, program=program, shares=cut_off[name]):
            x_0 = program(eps_model, x_t, torch.full((len(x_t),), t), cosine_betas(T))  # (B, 1, 28, 28)
            shares.append((x_0.abs() == 1).float().mean().item())
            return x_0

        generator = torch.Generator().manual_seed(0)
        drawn[name] = ddim_sample(guess, x_T, ddim_timesteps(T, 25), alphas_cumprod, 1.0, generator)
    rows({name: images[:8] for name, images in drawn.items()})
    curves(cut_off, x=ddim_timesteps(T, 25), xlabel="t", ylabel="share of pixels at -1 or 1")
    ink = {name: (images.mean().item() + 1) / 2 for name, images in {"real": real, **drawn}.items()}
    print("mean brightness, from 0 to 1: " + ", ".join(f"{name} {value:.2f}" for name, value in ink.items()))

# %% [markdown]
# *Read on when the check is green.* The factor is $\bar\alpha_t^{-1/2}$: near 1 while there is little noise, and
# growing without bound at the other end. Without the clamp the program would have failed at once, with enormous values.
# With the clamp the sampler is fed pictures of noise in its first steps, forgives them as you saw at the top of this
# lab, and ends at something that at best passes for a digit, and is too fat: compare the brightness. Nothing crashed,
# and the pictures alone might have sent you to the network. A clamp that works hard is a symptom. The curve above shows
# how to watch it. Most paper is black, so a share of a third is normal; the sign is the climb towards 100 % where there
# is much noise.
#
# A factor in a logarithm that reaches one term and not the other is easy to write and hard to see. The
# mirror image of this fault, with the root missing from $1-\bar\alpha_t$, was reported in an implementation of
# classifier-free guidance (jcwang-gh/classifier-free-diffusion-guidance-Pytorch, issue 12).

# %% [markdown]
# ## A world that trains in seconds
#
# The next faults sit in training, and to see them we must train, again and again. So we leave pictures for a while and
# take data of two numbers. One data point $x_0$ is a **grain of ink**: a place on the paper, drawn from the black
# parts of one handwritten digit. A thousand grains together show the digit. There are four digits, so each grain has a
# label from 0 to 3, and the null label is 4. The network below has three layers, and trains in seconds.
#
# Nothing else changes. Schedules, `q_sample`, the target $v$, DDIM and guidance do not care whether $x_0$ is a picture
# or a point, so all of it is imported from the earlier labs. Here `x_0` is $(B, 2)$ and `abar_t` is $(B, 1)$.


# %%
class PointNet(nn.Module):
    """A small network for points in the plane: model(x_t, t, y) -> v, or the noise, as it is trained."""

    def __init__(self, classes=4, width=96):
        super().__init__()
        waves = [[1, 0], [0, 1], [2, 0], [0, 2], [2, 2], [2, -2], [4, 0], [0, 4]]
        self.register_buffer("waves", 1.5 * torch.tensor(waves, dtype=torch.float32).T)  # (2, 8)
        self.point, self.time = nn.Linear(2 + 16, width), nn.Linear(32, width)
        self.label = nn.Embedding(classes + 1, width)  # the last one is the null label
        self.body = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
        )

    def forward(self, x, t, y):
        """x: (B, 2). t: (B,), int64. y: (B,), int64, from 0 to classes. Returns (B, 2)."""
        w = x @ self.waves  # (B, 8)
        place = self.point(torch.cat([x, w.sin(), w.cos()], dim=1))  # (B, width)
        return self.body(place + self.time(timestep_embedding(t, 32)) + self.label(y))  # (B, 2)


def ink(picture, n, generator):
    """n grains of the ink of one picture (1, H, W) in [-1, 1], as points in about [-2, 2]: (n, 2)."""
    height, width = picture.shape[-2:]
    k = torch.multinomial((picture + 1).flatten(), n, replacement=True, generator=generator)  # (n,)
    down, right = torch.rand(2, n, generator=generator) + torch.stack([k // width, k % width])  # (n,) each
    return torch.stack([4 * right / width - 2, 2 - 4 * down / height], dim=1)  # (n, 2)


def fit_points(loss_of, steps=1500, peak=1e-2, seed=0):
    """Train a PointNet with Adam and a falling rate. loss_of(network, generator) -> a scalar tensor.

    Returns the network, in evaluation mode, and the losses, one float per step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PointNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=peak)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = peak * (1 - step / steps)
        loss = loss_of(network, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network.eval(), losses


@torch.inference_mode()
def draw_points(network, alphas_cumprod, y, scale=1.0, null=4, steps=50, seed=0):
    """Draw one point per label by DDIM, with classifier-free guidance. y: (N,), int64. Returns (N, 2)."""

    def denoise(x_t, t):
        told = torch.full((len(x_t),), t)
        v = network(x_t, told, y)
        if scale != 1:
            without = network(x_t, told, torch.full_like(y, null))
            v = without + scale * (v - without)
        return x0_from_v(x_t, v, alphas_cumprod[t])  # (N, 2)

    x_T = torch.randn(len(y), 2, generator=torch.Generator().manual_seed(seed))
    return ddim_sample(denoise, x_T, ddim_timesteps(len(alphas_cumprod), steps), alphas_cumprod)


def clouds(named, titles=()):
    """Show rows of point clouds: name -> a list of (N, 2)."""
    import matplotlib.pyplot as plt

    columns = max(map(len, named.values()))
    size = (1.5 * columns + 1.2, 1.5 * len(named) + 0.2)
    _, axes = plt.subplots(len(named), columns, figsize=size, squeeze=False, layout="constrained")
    for line, (name, points) in zip(axes, named.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[], xlim=(-3, 3), ylim=(-3, 3))
        for axis, some in zip(line, points, strict=False):
            axis.scatter(*some.T, s=0.6, color="black")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for axis, text in zip(axes[0], titles, strict=False):
        axis.set_title(text, fontsize=8)
    plt.show()


def running_mean(values, n=50):
    """The means of n losses in a row, so that a curve can be read: a list one n-th as long."""
    return [sum(values[i : i + n]) / n for i in range(0, len(values) - n + 1, n)]


# %%
T_POINTS = 1000
point_abar = schedules.alphas_cumprod(T_POINTS)  # (T,)
generator = torch.Generator().manual_seed(0)
pictures, classes = digits(200, train=False)
models_of_ink = [pictures[(classes == digit).nonzero()[0, 0]] for digit in (2, 3, 5, 8)]
inked = [ink(picture, 4000, generator) for picture in models_of_ink]
points = torch.cat(inked)  # (16000, 2)
point_labels = torch.arange(4).repeat_interleave(4000)  # (16000,)
each_label = torch.arange(4).repeat_interleave(800)  # (3200,)
names = ["label 0", "label 1", "label 2", "label 3"]


def drawn_clouds(network, scale=1.0):
    """Four clouds of 800 drawn points, one per label."""
    return list(draw_points(network, point_abar, each_label, scale).split(800))


clouds({"data": [some[:800] for some in inked]}, names)

# %% [markdown]
# ## Program 5: the average that does not calm down
#
# Lab 3 averaged the weights over the last steps of training, because single weights jump about. This program does it
# with a dictionary of its own. It is handed everything that it needs: `step` does one step of the optimizer and
# changes the network's weights, `evaluate` looks at a network and returns a figure.


# %%
def broken_averaged_training(network, step, batches, decay, evaluate, every=1):
    average = {name: p.detach() for name, p in network.named_parameters()}
    figures = []
    for i, batch in enumerate(batches, start=1):
        step(network, batch)
        for name, p in network.named_parameters():
            average[name].lerp_(p.detach(), 1 - decay)  # decay * average + (1 - decay) * p
        if i % every == 0:
            judged = copy.deepcopy(network)
            judged.load_state_dict(average, strict=False)
            figures.append(evaluate(judged))
    network.load_state_dict(average, strict=False)
    return network, figures


# %% [markdown]
# It runs. The loss on points that were not trained on falls, and the network draws. But look at the curves for three
# decays. With a decay of 0 the average is the network itself, which jumps from one evaluation to the next. With 0.98 it
# is taken over the last 50 steps or so and should be smooth. With 1 nothing is ever taken in, so the average should
# stay as bad as the untrained network.


# %%
def train_and_average(program, decay, steps=600, every=20):
    """Train a PointNet by a program for averaged training, at a rate that stays high; its network and its figures."""
    generator = torch.Generator().manual_seed(1)

    def batch_of(n):
        k = torch.randint(len(points), (n,), generator=generator)
        t = random_timesteps(torch.rand(n, generator=generator), T_POINTS)
        return points[k], point_labels[k], t, torch.randn(n, 2, generator=generator)

    unseen = batch_of(2000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PointNet()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)

    def step(network, batch):
        loss = guided_loss(network, *batch, point_abar)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def evaluate(network):
        return guided_loss(network, *unseen, point_abar).item()

    return program(network, step, (batch_of(64) for _ in range(steps)), decay, evaluate, every)


evaluated = range(20, 601, 20)
given = {f"decay {decay:g}": train_and_average(broken_averaged_training, decay)[1] for decay in (0, 0.98, 1)}
curves(given, x=evaluated, xlabel="step", ylabel="loss", title="As given: the decay makes no difference")

# %% [markdown]
# All three curves lie on each other, so only the last can be seen. Find out why, and mend the program.


# %%
def averaged_training(network, step, batches, decay, evaluate, every=1):
    """Train a network, keep an exponential moving average of its weights, and judge the average on the way.

    network: a module without buffers that change. step(network, batch): changes the network's weights, one step.
    decay: in [0, 1], the share of the average that stays at each step. The average begins as the weights that the
    network has before the first step, and takes the new weights in after each step. The training itself never starts
    from averaged weights. evaluate(network) -> a number; it is asked about the average after every `every` steps.
    Returns a network with the averaged weights, and the list of numbers.
    """
    ### BEGIN SOLUTION
    average = {name: p.detach().clone() for name, p in network.named_parameters()}
    figures = []
    for i, batch in enumerate(batches, start=1):
        step(network, batch)
        for name, p in network.named_parameters():
            average[name].lerp_(p.detach(), 1 - decay)
        if i % every == 0:
            judged = copy.deepcopy(network)
            judged.load_state_dict(average, strict=False)
            figures.append(evaluate(judged))
    network.load_state_dict(average, strict=False)
    return network, figures
    ### END SOLUTION


# %%
with when_done():
    mended = {f"mended, decay {decay:g}": train_and_average(averaged_training, decay)[1] for decay in (0, 0.98)}
    curves(
        {**mended, "as given, decay 0.98": given["decay 0.98"]},
        x=evaluated,
        xlabel="step",
        ylabel="loss",
        title="Mended; as given lies on mended, decay 0",
    )

# %% [markdown]
# *Read on when the check is green.* The kind of mistake: **the average that is kept is not the one that is used**.
# Nothing crashes, and the pictures are only somewhat worse than they could be, so it can go unnoticed for years. It
# comes in several forms. Here two names stood for one memory. In the toolbox `zea` the average was used for drawing but
# never updated in training (tue-bmd/zea, pull request 172). A reader of `mdgen` asked whether the averaged weights are
# loaded and then not put into the network (bjing2016/mdgen, issue 4). An example of `diffusers` once copied the average
# over the weights under training (huggingface/diffusers, issue 2321), which your half mends may have done as well.
#
# The test that finds all of them needs no picture: **set a parameter to an extreme and see whether anything changes.**
# How long an average should be is a question of its own; Karras and others (2024) answer it after the training.
#
# ## Program 6: guidance tears the digits apart
#
# Classifier-free guidance needs a network that knows two things: what points with this label look like, and what points
# look like at all. The second is trained under the null label, by dropping one label in ten. This program picks the
# batch and drops the labels.


# %%
def broken_label_dropout_batch(images, labels, order, u, p, null):
    x_0 = images[order]
    y = labels[order]
    dropped = u < p
    if dropped.any():
        y.masked_fill(dropped, null)
    return x_0, y


# %% [markdown]
# Without guidance, at scale 1, all is well, and the loss is as it should be. Then the scale goes up.


# %%
def loss_with_dropout(program, p=0.1, batch=256):
    """The loss of a batch that a program for label dropout picks, for fit_points."""

    def loss_of(network, generator):
        order = torch.randint(len(points), (batch,), generator=generator)
        x_0, y = program(points, point_labels, order, torch.rand(batch, generator=generator), p, null=4)
        t = random_timesteps(torch.rand(batch, generator=generator), T_POINTS)
        return guided_loss(network, x_0, y, t, torch.randn(batch, 2, generator=generator), point_abar)

    return loss_of


never_dropped, losses = fit_points(loss_with_dropout(broken_label_dropout_batch))
print(f"mean loss of the last 200 steps: {sum(losses[-200:]) / 200:.3f}")
clouds({f"scale {scale}": drawn_clouds(never_dropped, scale) for scale in (1, 2, 4)}, names)

# %% [markdown]
# At scale 4 the points fly off. Lab 5 saw that a large scale narrows what is drawn and, much later, overdoes it; but
# not like this. And which of the two predictions is to blame can be asked directly: draw with the null label alone.

# %%
nobody = torch.full((800,), 4)
clouds({"null label": [draw_points(never_dropped, point_abar, nobody)], "all data": [points[::20]]})

# %% [markdown]
# Points without a label should lie wherever any of the four digits has ink. Find out why they do not, and mend the
# program. It is used in two ways: `order` is sometimes a list of indices, as above, and sometimes a slice.


# %%
def label_dropout_batch(images, labels, order, u, p, null):
    """Pick a batch, and drop each of its labels with probability p.

    images: (N, ...). labels: (N,), int64. Both must stay as they are, epoch after epoch. order: which of them, (B,),
    int64, or a slice of length B. u: (B,), uniform in [0, 1); the label i of the batch is dropped where u[i] < p.
    null: an int, the label that stands for no label. Returns x_0: (B, ...), and y: (B,), int64.
    """
    ### BEGIN SOLUTION
    return images[order], labels[order].masked_fill(u < p, null)
    ### END SOLUTION


# %%
with when_done():
    with_dropout, losses = fit_points(loss_with_dropout(label_dropout_batch))
    print(f"mean loss of the last 200 steps: {sum(losses[-200:]) / 200:.3f}")
    scales = {
        f"{scale}, {name}": (network, scale)
        for scale in (1, 4)
        for name, network in (("broken", never_dropped), ("mended", with_dropout))
    }
    clouds({f"scale {name}": drawn_clouds(*given) for name, given in scales.items()}, names)
    clouds(
        {
            "broken": [draw_points(never_dropped, point_abar, nobody)],
            "mended": [draw_points(with_dropout, point_abar, nobody)],
            "all data": [points[::20]],
        },
        ["null label"],
    )

# %% [markdown]
# *Read on when the check is green.* The kind of mistake: **the null condition is never trained**. The network still has
# a vector for it, the one that it was born with, so it answers something. Guidance multiplies the difference to that
# answer by the scale. Compare the two losses: the broken training has the **lower** one, because a network that is
# always told the label has an easier task. A lower loss was no good sign. (At scale 4 the mended strokes are thin and
# their ends drawn out as well. That is guidance, not a fault.)
#
# That a published training leaves the captions undropped while its sampler uses guidance was noted at mlfoundations
# (open-diffusion, issue 6, where guidance seemed to work all the same, perhaps because what a text encoder makes of the
# empty text is less random than our untrained vector) and at NVlabs (Sana, issue 188, in one of two training scripts).
# Ho and Salimans (2022) say in algorithm 1 what must be done. And there was a second trap beside the first. In torch, a
# list of indices copies and a slice does not. Whoever writes into `y` mends the symptom above and spoils the data set
# where a slice is used, some more with each epoch.
#
# ## Program 7: the pale round trip
#
# Latent diffusion encodes a picture, works on the latent, and decodes the result. Between the two the latent is brought
# to mean 0 and deviation 1, because the noise levels of the schedule count on that (lab 6; Rombach and others 2022).
#
# Our autoencoder for this program is linear, and given. It keeps of each digit the 32 directions in which digits
# differ most (a principal component analysis). Such a code has deviations far from 1.


# %%
class LinearAutoencoder:
    """32 principal components of digits, in the place of an autoencoder: encode (B, 1, 28, 28) -> (B, 32, 1, 1)."""

    def __init__(self, images, channels=32):
        flat = images.flatten(1)  # (N, 784)
        self.mean = flat.mean(dim=0)  # (784,)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.axes = torch.pca_lowrank(flat, q=channels)[2]  # (784, 32)

    def encode(self, x):
        """x: (B, 1, 28, 28) in [-1, 1]. Returns (B, 32, 1, 1), whose mean is not 0 and whose deviation is not 1."""
        return ((x.flatten(1) - self.mean) @ self.axes + 1.5)[..., None, None]

    def decode(self, z):
        """z: (B, 32, 1, 1). Returns (B, 1, 28, 28), about in [-1, 1]."""
        return ((z[..., 0, 0] - 1.5) @ self.axes.T + self.mean).reshape(-1, 1, 28, 28)


# %% [markdown]
# The program takes the encoder and the decoder as arguments, with the two numbers that bring latents to mean 0 and
# deviation 1. The picture goes in, a process may work on the latent, a picture comes out.


# %%
def broken_latent_round_trip(x, encode, decode, shift, scale, process):
    z = (encode(x) - shift) * scale  # mean 0, deviation 1
    z = process(z)
    z = z + shift
    return decode(z).clamp(-1, 1)


# %% [markdown]
# The process below is the simplest that cares for noise levels: noise of $t = 200$ is added, and nothing taken away.

# %%
training, _ = digits(4000)
coder = LinearAutoencoder(training)
latents = coder.encode(training)  # (4000, 32, 1, 1)
shift, scale = latents.mean(), 1 / latents.std()
print(f"latents as encoded: mean {latents.mean():.2f}, deviation {latents.std():.2f}")
looked_at = pictures[:8]
jitter = torch.randn(8, 32, 1, 1, generator=torch.Generator().manual_seed(2))


def a_little_noise(z):
    """The latents z as they are at t = 200 of the schedule."""
    return q_sample(z, point_abar[200], jitter)


coding = (coder.encode, coder.decode, shift, scale)
trips = {
    "picture": looked_at,
    "decode(encode(x))": coder.decode(coder.encode(looked_at)).clamp(-1, 1),
    "broken, nothing done": broken_latent_round_trip(looked_at, *coding, lambda z: z),
    "broken, noise added": broken_latent_round_trip(looked_at, *coding, a_little_noise),
}
rows(trips)

# %% [markdown]
# The second row shows that the autoencoder itself is in order. The third does nothing to the latent, and still all
# digits come back pale, and blurred towards the average digit. The noise of the fourth hardly shows. Mend the program.


# %%
def latent_round_trip(x, encode, decode, shift, scale, process):
    """Encode pictures, let a process work on their latents, and decode them again.

    x: (B, C, H, W), in [-1, 1]. encode, decode: pictures to latents as the autoencoder has them, and back.
    shift, scale: numbers or (1, C, 1, 1); taking off the shift and then multiplying by the scale gives latents of mean
    0 and deviation 1. process: process(z) -> z, made for such latents; what it returns is of that kind too.
    Returns pictures, (B, C, H, W), in [-1, 1]. A process that does nothing gives back decode(encode(x)), clamped.
    """
    ### BEGIN SOLUTION
    z = process((encode(x) - shift) * scale)
    return decode(z / scale + shift).clamp(-1, 1)
    ### END SOLUTION


# %%
with when_done():
    mended_trips = {
        "mended, nothing done": latent_round_trip(looked_at, *coding, lambda z: z),
        "mended, noise added": latent_round_trip(looked_at, *coding, a_little_noise),
    }
    rows(trips | mended_trips)
    wanted = trips["decode(encode(x))"]
    for name, images in (trips | mended_trips).items():
        print(
            f"{name:22s} {(images - wanted).square().mean().sqrt():.3f} away from decode(encode(x)), root mean square"
        )

# %% [markdown]
# *Read on when the check is green.* The kind of mistake: **two halves of a convention live in two places**, one beside
# the encoder and one beside the decoder, and only one of them was written. The unconditional latent pipeline of
# `diffusers` was reported to decode without undoing the scale (huggingface/diffusers, issue 5166). For an autoencoder
# that has a shift as well, a training script there handled the two wrongly when encoding (issue 8887). In a third
# program the scale came after decoding instead of before, and its author had not noticed because his scale was close to
# 1 (priyammaz/PyTorch-Adventures, issue 4). So test such pairs with values that are far from 0 and 1, and test the
# round trip with a process that does nothing, **before** any network is in it. There is one trap left. Taking the scale
# out on both sides makes the round trip right and the process wrong, so a second test is needed: measure the deviation
# of what the process gets.
#
# ## Program 8: the loss falls, the samples are noise
#
# The last one has the symptom that costs the most time. The network predicts the noise, as in the first diffusion
# models, with their linear schedule. The program makes the training pairs: from clean points, uniform numbers and noise
# it makes $x_t$, the timestep that the network is told, and the target, $\varepsilon$.


# %%
def broken_training_pairs(x_0, u, eps, alphas_cumprod):
    levels = alphas_cumprod.flip(0)  # (T,)
    t = random_timesteps(u, len(levels))  # (B,)
    abar_t = extract(levels, t, x_0)  # (B, 1)
    x_t = q_sample(x_0, abar_t, eps)  # (B, 2)
    return x_t, t, eps


# %%
linear_abar = compute_alphas_cumprod(linear_betas(T_POINTS))  # (T,)


def loss_on_pairs(program, batch=256):
    """The loss on the pairs that a program makes, for fit_points."""

    def loss_of(network, generator):
        order = torch.randint(len(points), (batch,), generator=generator)
        u, eps = torch.rand(batch, generator=generator), torch.randn(batch, 2, generator=generator)
        x_t, t, target = program(points[order], u, eps, linear_abar)
        return diffusion_loss(network(x_t, t, point_labels[order]), target)

    return loss_of


@torch.inference_mode()
def draw_from_noise_guesses(network):
    """Four clouds of 800 points, drawn in 50 steps with fresh noise, by a network that predicts the noise."""

    def denoise(x_t, t):
        eps = network(x_t, torch.full((len(x_t),), t), each_label)
        return x0_from_eps(x_t, eps, linear_abar[t]).clamp(-2, 2)  # (N, 2), no ink lies outside

    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn(len(each_label), 2, generator=generator)
    few = ddim_timesteps(T_POINTS, 50)
    return list(ddim_sample(denoise, x_T, few, linear_abar, eta=1.0, generator=generator).split(800))


trained_on_broken, broken_losses = fit_points(loss_on_pairs(broken_training_pairs))
curves(
    {"as given": running_mean(broken_losses)}, xlabel="step / 50", ylabel="loss", title="The loss falls as it should"
)
clouds({"data": [some[:800] for some in inked], "drawn": draw_from_noise_guesses(trained_on_broken)}, names)

# %% [markdown]
# Four round heaps and no digit. Training longer or with a larger network does not help. The sampler is lab 4's, which
# drew digits a moment ago. So the network learned its task well, and the task was another one than the sampler sets.
# Mend the program.


# %%
def training_pairs(x_0, u, eps, alphas_cumprod):
    """Make training pairs for a network that predicts the noise and will be used with the samplers of lab 4.

    x_0, eps: (B, ...), data and standard normal noise. u: (B,), uniform in [0, 1); each timestep must be as likely as
    any other, and each image has its own. alphas_cumprod: (T,), as in lab 1, falling.
    Returns x_t: (B, ...), the timestep t that the network is told: (B,), int64, in [0, T), and the target: (B, ...).
    The three belong together: the target is the noise in x_t, and t is the timestep at which a sampler that walks over
    alphas_cumprod meets such an x_t.
    """
    ### BEGIN SOLUTION
    t = random_timesteps(u, len(alphas_cumprod))  # (B,)
    return q_sample(x_0, extract(alphas_cumprod, t, x_0), eps), t, eps
    ### END SOLUTION


# %%
with when_done():
    trained_on_mended, mended_losses = fit_points(loss_on_pairs(training_pairs))
    both = {"broken": running_mean(broken_losses), "mended": running_mean(mended_losses)}
    curves(both, xlabel="step / 50", ylabel="loss", title="Which of them draws digits?")
    drawn = {"broken": draw_from_noise_guesses(trained_on_broken), "mended": draw_from_noise_guesses(trained_on_mended)}
    clouds(drawn, names)

# %% [markdown]
# *Read on when the check is green.* The two losses hardly differ, and the reason is worth remembering: **a loss
# measures how well a network does the task that it is given, not whether it is the right task.** The kind of mistake:
# training and sampling disagree about what $t$ means. There are two conventions for its direction (flow matching often
# calls the noise $t = 0$), and code is copied from one to the other. In a small text diffusion program sampling walked
# from clean to noisy (nathan-barry/tiny-diffusion, issue 2). In a trainer the settings for the range of noise levels
# worked mirrored for some of its models (Nerogar/OneTrainer, issue 561). Smaller disagreements are harder to see, such
# as a timestep that is off by one between adding the noise and removing it (reported in pull request 96 of
# Stability-AI/stablediffusion).
#
# Some choices hide the fault. With the target $v$ and the cosine schedule, the same program draws digits nearly as well
# as the mended one (see "More to try"). And from a noisy picture, other than from a point, one can see how noisy it is:
# a network that is told nonsense about $t$ learns to ignore it, and the samples are passable (Sun and others 2025 train
# without any $t$). The test that finds the fault in all these cases needs no training. Take $x_t$, $t$ and the target
# of one pair, and compute $x_0$ from them **with the sampler's own code and tables**. It must come out exactly.
#
# ## A question
#
# Your training loss falls nicely. The samples are noise. What do you look at, in which order, and why in this order?

# %% [markdown] question="loss_falls_samples_are_noise"
# Cheap before expensive, and always cut the problem into halves. No new training before the last point.
#
# 1. **The picture itself.** Print minimum, maximum and mean of a sample and of a batch of data before and after
#    they are turned into pixels. A wrong range or a wrap-around looks like noise and has nothing to do with diffusion.
# 2. **The sampler without the network.** Put an exact denoiser in its place: data of one point, or a Gaussian. If the
#    sampler does not arrive there, the fault is in it (timesteps, $\bar\alpha$ of the next step, noise at the end).
# 3. **The network without the sampler.** Make $x_t$ from real images with the **sampler's** table at $t = 50, 300,
#    700, 950$, call the network once, and look at the guesses for $x_0$. If they are good, the fault is in the
#    loop; if not, training and sampling disagree.
# 4. **One training pair.** From its $x_t$, $t$ and target compute $x_0$ with the sampler's conversions. It must come
#    out exactly. This finds a wrong $t$, a wrong schedule, and $\varepsilon$ taken for $v$.
# 5. **Which weights are used?** Compare a sum over the weights that are sampled from with the one of the trained
#    network, and with the average; check `eval()`, and the scale of the latents (deviation 1 before the network,
#    undone before decoding).
# 6. **One image.** Train on a single image or a single batch until the loss is almost 0, and sample. This takes minutes
#    and must give that image. Only when it does are more training, a larger network or another rate worth a thought.
#
# The order puts checks first that take seconds and rule out much. The loss comes nowhere in it: it only says that the
# task given to the network was learned.

# %% [markdown]
# ## Summary
#
# | what you see | likely cause | look first at |
# | --- | --- | --- |
# | noise, the loss is fine | training and sampling disagree about $t$ or the target | $x_0$ from one pair |
# | clean but fat or tangled strokes | betas of another $T$, $\bar\alpha_T$ far from 0 | `alphas_cumprod[-1]` |
# | white specks in black areas | pixels out of range wrap around in uint8 | minimum and maximum before it |
# | fine grain on good pictures | noise is added at the last step | the step at $t = 0$, an exact denoiser |
# | good at small $t$, wrong at large $t$ | a factor in $x_0$ from $\varepsilon$, hidden by a clamp | no clamp |
# | each evaluation differs | the average is not updated, not used, or shares memory | decay 0 and 1 |
# | guidance tears pictures apart | the null condition is not trained | samples with it alone |
# | pale after a latent round trip | scale or shift not undone, or in the wrong order | a process that does nothing |
#
# Four habits find most of them.
#
# - **Take one part out and put in something whose answer you know**: an exact denoiser, a process that does nothing.
# - **Set a parameter to an extreme** and say beforehand what must happen.
# - **Go there and back.** What was scaled, shifted or mixed with noise must come out again exactly.
# - **Do not trust a clamp, a default or a falling loss.** Each of them hides faults.
#
# ## From here to Stable Diffusion
#
# You have built the parts of Stable Diffusion. In the library `diffusers` they have these names.
#
# | yours | in `diffusers` |
# | --- | --- |
# | `cosine_betas` | `DDPMScheduler` or `DDIMScheduler(beta_schedule="squaredcos_cap_v2")` |
# | `q_sample`, `v_target` | `scheduler.add_noise`, `scheduler.get_velocity` |
# | `UNet` | `UNet2DModel` |
# | `TextUNet` with `CrossAttention` | `UNet2DConditionModel`, `attn2` of `BasicTransformerBlock` |
# | `ema_update` | `EMAModel` |
# | `p_mean_variance`, `p_sample` | `DDPMScheduler.step` |
# | `ddim_step` | `DDIMScheduler.step` |
# | `guide`, `rescale_guidance` | `guidance_scale`, `guidance_rescale` of the pipeline |
# | `drop_labels`, `drop_captions` | the caption dropout of a training script |
# | `Autoencoder` and its scale | `AutoencoderKL`, `vae.config.scaling_factor` |
# | `tokenise`, `TextEncoder` | `CLIPTokenizer`, `CLIPTextModel` (from `transformers`) |
# | the text denoiser and the loop around it | `StableDiffusionPipeline` |
# | `strength_timesteps` of SDEdit | `StableDiffusionImg2ImgPipeline`, called with `strength=...` |
# | `ddim_inverse_step` | `DDIMInverseScheduler` |
# | `repaint_loop` | `RePaintScheduler` (and the older `RePaintPipeline`) |
# | `combine_known` | `StableDiffusionInpaintPipeline` |
#
# What is different there:
#
# - **Schedules.** The cosine numbers are the same. Stable Diffusion itself uses `"scaled_linear"`, whose
#   $\bar\alpha_T$ is about 0.005 and not 0. Version 1 predicts $\varepsilon$, some networks of version 2 predict $v$;
#   the scheduler is told by `prediction_type`.
# - **Schedulers** hold the table and the formulas, and look up $\bar\alpha_t$ by themselves: you hand in $t$. A step
#   takes what the network said, makes the guess for $x_0$ of it, and walks one timestep. There is no loop in them.
# - **DDIM.** After clipping $x_0$, `DDIMScheduler.step` goes on with the predicted $\varepsilon$ by default. Ours
#   computes it anew from the clipped $x_0$, which there is `use_clipped_model_output=True`.
# - **U-Nets.** More floors and channels, and no patches. In the conditional one each transformer block has
#   self-attention (`attn1`), cross-attention to the text (`attn2`) and a small network, on several floors.
# - **EMA.** The decay warms up, as in our `train_unet`. `store`, `copy_to` and `restore` swap the average into the
#   network and out again, which is where the mistakes of program 5 live.
# - **Guidance** stands in the pipeline, not in the scheduler. The formula is the same, and a scale of 1 means none.
#   Both predictions come from one call on a batch of twice the size. Rescaling is off unless you ask for it.
# - **Caption dropout** is no part of the library, since it happens in training. Stable Diffusion had the caption
#   replaced by the empty text in one case out of ten for a part of its training.
# - **The autoencoder** has four channels at an eighth of the width and height, and is trained with a perceptual and an
#   adversarial loss too. Its factor 0.18215 is about one over the deviation of its latents, as `latent_scale` finds it.
# - **The text encoder** reads pieces of words, 77 of them. It was trained beforehand, on pairs of pictures and texts,
#   and is kept as it is.
# - **Image to image** is SDEdit on latents; `strength` is the share of the steps that are walked. **Inpainting** with
#   an ordinary U-Net puts the known latents back after each step. Special U-Nets are told the mask and the masked
#   picture as five more channels. **RePaint** works on pixels there too, with its jumps back.
#
# The next cell is optional. Where `diffusers` is installed, it runs **your** network, the checkpoint of lab 2, under
# `diffusers`' own scheduler, and then under lab 4's `ddim_sample` from the same noise.

# %%
if importlib.util.find_spec("diffusers") is None:
    print("To see the checkpoint of lab 2 under diffusers' own scheduler: pip install diffusers")
else:
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(
        1000,
        trained_betas=cosine_betas(1000).tolist(),
        prediction_type="v_prediction",
        clip_sample=True,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    theirs.set_timesteps(20)
    network, abar = models.unet(), schedules.alphas_cumprod()
    x_T = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(8))
    with torch.inference_mode():
        x = x_T
        for t in theirs.timesteps:
            x = theirs.step(network(x, t.expand(4)), t, x, use_clipped_model_output=True).prev_sample
        ours = ddim_sample(make_denoiser(network, abar), x_T, theirs.timesteps.tolist(), abar)
    print(f"largest difference between two pixels: {(x - ours).abs().max():.1e}, of a range from -1 to 1")
    rows({"diffusers": x, "labdiff": ours})

# %% [markdown]
# ## More to try
#
# - Break a program of an earlier lab by one sign, one index or one root, give it to a neighbour, and show only the
#   pictures.
# - Give the broken program 8 the cosine schedule and the target $v$, and draw with `draw_points`. The digits are there.
#   Why? (With the cosine schedule, $\bar\alpha_{T-1-t}$ is about $1-\bar\alpha_t$. Put that into $x_t$ and $v$, and ask
#   what the sampler's $\hat x_0$ is at the beginning, in the middle and at the end.)
# - Train program 8 with a $t$ that is drawn anew, independent of the one of $x_t$. What becomes of the loss, and of
#   the samples?
# - In program 6 take $p = 0.01$, $0.1$ and $0.5$. From where on is the null label good enough for a scale of 4?
# - Look for the eight kinds of mistake in a program of your own, or in one that you use.
#
# ## Further reading
#
# - S. Lin, B. Liu, J. Li, X. Yang. *Common Diffusion Noise Schedules and Sample Steps are Flawed*. WACV 2024.
#   arXiv:2305.08891. (Published faults, found and mended.)
# - T. Karras, M. Aittala, J. Lehtinen, J. Hellsten, T. Aila, S. Laine. *Analyzing and Improving the Training Dynamics
#   of Diffusion Models*. CVPR 2024. arXiv:2312.02696. (Averages of every length, after the training.)
# - J. Ho, T. Salimans. *Classifier-Free Diffusion Guidance*. 2022. arXiv:2207.12598.
# - R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer. *High-Resolution Image Synthesis with Latent Diffusion
#   Models*. CVPR 2022. arXiv:2112.10752. (Stable Diffusion; the scale of the latents.)
# - Q. Sun, Z. Jiang, H. Zhao, K. He. *Is Noise Conditioning Necessary for Denoising Generative Models?* 2025.
#   arXiv:2502.13129.
# - T. Salimans, J. Ho. *Progressive Distillation for Fast Sampling of Diffusion Models*. ICLR 2022. arXiv:2202.00512.
#   (The target $v$.)
