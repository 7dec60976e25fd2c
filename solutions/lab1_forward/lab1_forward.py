# %% [markdown]
# # Lab 1: The forward process
#
# **You build** the noise schedules, the distribution of a noisy image given the clean one, and the posterior that
# leads one step back.
#
# **You can then** say how noisy an image is at any step, draw a noisy image in one go, and explain why the last step
# must be pure noise.
#
# **It takes** about 75 minutes and no training. **It needs** tensors and broadcasting in PyTorch, and the Gaussian
# distribution.
#
# Under each exercise a cell calls `check`. It runs your answer and says in a second which part is right and which is
# not. `hint(name)` gives a first hint, called again a stronger one, and a third that is nearly the answer. Exercises do
# not depend on each other, so one that you leave out costs you no points elsewhere; some pictures will wait for it.

# %%
import math

import torch

from labdiff import check, hint, when_done
from labdiff.data import digits
from labdiff.models import draw
from labdiff.plotting import curves, explore, rows, show

# %% [markdown]
# ## Where this is going
#
# The digits below were never written by anybody. A network drew them a moment ago, starting from pure noise. At the end
# of lab 4 you will have built every part of what that cell does.

# %%
show(draw(16, seed=1), columns=8)

# %% [markdown]
# The idea is short. Destroying a picture is easy: add a little noise, again and again, until nothing is left. Each
# single step is so small that it can nearly be undone, by a network that has learned to guess what was added. Undo all
# steps, one by one, and noise becomes a picture.
#
# This lab is about the first half, the destruction. It has no network and nothing is learned. It has formulas that must
# be exactly right, because every later lab relies on them.
#
# ## One step
#
# Let $x_0$ be a clean image with pixels in $[-1, 1]$. We number the steps $t = 0, \dots, T - 1$ and write $x_t$ for the
# image after the step number $t$. Papers count from 1; we count from 0, as arrays do. One clash remains, as in most
# code: by this rule the result of step 0 would also be $x_0$. We keep $x_0$ for the clean image; at $t = 0$ read
# $x_{t-1}$ as the clean image and $x_t$ as its first noisy version.
#
# One step shrinks the image a little and adds Gaussian noise $\varepsilon \sim \mathcal N(0, I)$:
#
# $$q(x_t \mid x_{t-1}) = \mathcal N\big(\sqrt{1-\beta_t}\, x_{t-1},\ \beta_t I\big)$$
#
# The number $\beta_t$ is the variance of the noise of this step. Why shrink? Suppose the pixels of $x_{t-1}$ have
# variance 1. After the step the variance is $(1-\beta_t)\cdot 1 + \beta_t = 1$. It stays 1 forever. Without the
# shrinking it would grow with every step.
#
# To draw from $\mathcal N(m, v)$, draw standard normal noise and compute $m + \sqrt v\,\varepsilon$. In all our
# functions the noise is an argument. Then the same noise gives the same result, and results can be checked.
#
# Shapes: `x_prev` and `noise` are $(B, C, H, W)$. `beta_t` is $(B, 1, 1, 1)$, one number per image, ready to be
# broadcast.


# %%
def q_step(x_prev, beta_t, noise):
    """Draw x_t from q(x_t given x_{t-1}).

    x_prev: (B, C, H, W). beta_t: (B, 1, 1, 1), in (0, 1). noise: (B, C, H, W), standard normal.
    Returns x_t: (B, C, H, W).
    """
    ### BEGIN SOLUTION
    return (1 - beta_t).sqrt() * x_prev + beta_t.sqrt() * noise  # (B, C, H, W)
    ### END SOLUTION


# %% [markdown]
# ## How much noise at which step
#
# The sequence $\beta_0, \dots, \beta_{T-1}$ is the schedule. The first paper on denoising diffusion (Ho, Jain and
# Abbeel 2020) used $T = 1000$ equally spaced values from $10^{-4}$ to $0.02$. Small steps come first, when there is
# still detail to lose.


# %%
def linear_betas(T, beta_start=1e-4, beta_end=0.02):
    """The linear schedule of DDPM (Ho, Jain and Abbeel 2020, section 4).

    Returns T equally spaced values, the first beta_start, the last beta_end: (T,), float32.
    """
    ### BEGIN SOLUTION
    return torch.linspace(beta_start, beta_end, T)  # (T,)
    ### END SOLUTION


# %% [markdown]
# ## All steps at once
#
# Training will need noisy images at random steps, thousands per second. Walking through every step would be slow.
# There is a short cut. Write $\alpha_t = 1 - \beta_t$ and put one step into the next:
#
# $$x_1 = \sqrt{\alpha_1}\,x_{\text{prev}} + \sqrt{1-\alpha_1}\,\varepsilon_1
#       = \sqrt{\alpha_1\alpha_0}\,x_0 + \sqrt{\alpha_1(1-\alpha_0)}\,\varepsilon_0 + \sqrt{1-\alpha_1}\,\varepsilon_1$$
#
# The two noises are independent Gaussians, so their sum is one Gaussian whose variance is the sum of the two:
#
# $$\alpha_1(1-\alpha_0) + (1-\alpha_1) = 1 - \alpha_1\alpha_0$$
#
# The same happens at every further step. With the running product $\bar\alpha_t = \alpha_0\alpha_1\cdots\alpha_t$ this
# gives
#
# $$q(x_t \mid x_0) = \mathcal N\big(\sqrt{\bar\alpha_t}\,x_0,\ (1-\bar\alpha_t) I\big)$$
#
# Everything about a step is now in one number, $\bar\alpha_t$. It falls from nearly 1, a clean image, to nearly 0,
# pure noise. Code calls it `alphas_cumprod`.


# %%
def compute_alphas_cumprod(betas):
    """The running product of alpha = 1 - beta: entry t is alpha_0 alpha_1 ... alpha_t.

    betas: (T,), in (0, 1). Returns (T,), the dtype of betas, falling.
    """
    ### BEGIN SOLUTION
    return torch.cumprod(1 - betas, dim=0)  # (T,)
    ### END SOLUTION


# %% [markdown]
# ## One number per image
#
# A batch holds images at different steps. `t` has the shape $(B,)$, and each image needs its own $\bar\alpha_t$. The
# values lie in a table of shape $(T,)$. Picking them is one line. But mind the shape. PyTorch lines shapes up from the
# right, so $(B,)$ against $(B, C, H, W)$ would meet the columns of the image. If $B$ happens to equal $W$, nothing
# even fails. So the result must be $(B, 1, 1, 1)$, or generally $(B, 1, \dots, 1)$ with as many axes as `x` has.


# %%
def extract(values, t, x):
    """Pick one value per image, shaped so that it broadcasts against the images.

    values: (T,). t: (B,), int64. x: (B, ...), only its number of axes matters.
    Returns (B, 1, ..., 1) with as many axes as x, the dtype of values.
    """
    ### BEGIN SOLUTION
    return values[t].reshape(-1, *[1] * (x.dim() - 1))  # (B, 1, ..., 1)
    ### END SOLUTION


# %% [markdown]
# ## Mean and variance, then a sample
#
# Now write down $q(x_t \mid x_0)$ itself, first its two parameters. The mean is an image. The variance is the same for
# all pixels, one number per image.


# %%
def q_mean_variance(x_0, abar_t):
    """The mean and the variance of q(x_t given x_0).

    x_0: (B, C, H, W), in [-1, 1]. abar_t: (B, 1, 1, 1), in (0, 1].
    Returns mean (B, C, H, W) and variance (B, 1, 1, 1).
    """
    ### BEGIN SOLUTION
    return abar_t.sqrt() * x_0, 1 - abar_t
    ### END SOLUTION


# %% [markdown]
# And a sample from it: mean plus standard deviation times noise. This line is the heart of training. Lab 3 calls it at
# every step, and then asks a network for the noise that went in.


# %%
def q_sample(x_0, abar_t, noise):
    """Draw x_t from q(x_t given x_0) in one go (DDPM, equation 4).

    x_0: (B, C, H, W), in [-1, 1]. abar_t: (B, 1, 1, 1), in (0, 1]. noise: (B, C, H, W), standard normal.
    Returns x_t: (B, C, H, W).
    """
    ### BEGIN SOLUTION
    return abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * noise  # (B, C, H, W)
    ### END SOLUTION


# %% [markdown]
# Time to look. The first row below takes the steps one at a time, the second row jumps. The noise differs, but the two
# rows should look alike at every step. If an exercise that it needs is not done yet, the cell says so; come back later.

# %%
x_0, labels = digits(8)
with when_done():
    T = 300
    betas = linear_betas(T, 1e-4, 0.05)
    alphas_cumprod = compute_alphas_cumprod(betas)
    torch.manual_seed(0)
    stops = [0, 20, 50, 90, 140, 200, 299]
    walked, jumped, x = [], [], x_0[:1]
    for step in range(T):
        x = q_step(x, betas[step].reshape(1, 1, 1, 1), torch.randn_like(x))
        if step in stops:
            walked.append(x)
            t = torch.tensor([step])
            jumped.append(q_sample(x_0[:1], extract(alphas_cumprod, t, x_0[:1]), torch.randn_like(x)))
    rows({"step by step": torch.cat(walked), "in one go": torch.cat(jumped)}, titles=[f"t = {s}" for s in stops])

# %% [markdown]
# ## A gentler schedule
#
# Nichol and Dhariwal (2021) noticed that on small images the linear schedule is wasteful. Long before the last step
# nothing is left to destroy. They started from the other end: choose how $\bar\alpha$ should fall, then compute the
# betas that make it so. They chose a quarter of a cosine wave, squared. With $u = t / T$ running from 0 to 1,
#
# $$f(u) = \cos^2\!\Big(\frac{u + s}{1 + s}\cdot\frac{\pi}{2}\Big), \qquad
#   \bar\alpha_t = \frac{f\big((t+1)/T\big)}{f(0)}, \qquad
#   \beta_t = 1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}} = 1 - \frac{f\big((t+1)/T\big)}{f(t/T)}$$
#
# The small offset $s = 0.008$ keeps the first betas from being tiny. At $u = 1$ the cosine is 0, so the last beta would
# be exactly 1 and $\bar\alpha$ would end at exactly 0. But recovering $x_0$ from $x_t$, as lab 3 does, divides by
# $\sqrt{\bar\alpha_t}$. Hence the limit: no beta exceeds `max_beta`.
#
# Shapes: $f$ is needed at $T + 1$ points, the betas are $T$.


# %%
def cosine_betas(T, s=0.008, max_beta=0.999):
    """The cosine schedule (Nichol and Dhariwal 2021, equation 17).

    T: number of steps. s: offset. max_beta: no value exceeds it. Returns (T,), float32.
    """
    ### BEGIN SOLUTION
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)  # (T + 1,)
    f = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2  # (T + 1,)
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float()  # (T,)
    ### END SOLUTION


# %% [markdown]
# ## Signal and noise
#
# How noisy is $x_t$? In $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$ the picture has the
# variance $\bar\alpha_t$ (taking pixels of variance 1) and the noise has $1 - \bar\alpha_t$. Their quotient is the
# signal-to-noise ratio. It is 1 where picture and noise are equally strong. Two schedules with the same SNR curve are
# the same schedule, whatever their betas look like.


# %%
def snr(alphas_cumprod):
    """The signal-to-noise ratio of x_t (Kingma and others 2021, section 3.1).

    alphas_cumprod: (T,), in (0, 1). Returns (T,), positive.
    """
    ### BEGIN SOLUTION
    return alphas_cumprod / (1 - alphas_cumprod)  # (T,)
    ### END SOLUTION


# %% [markdown]
# **Predict before you run.** Take $T = 1000$, the linear schedule with its defaults and the cosine schedule. Which
# reaches SNR = 1 first, that is, at the smaller $t$? Commit to an answer by returning `"linear"`, `"cosine"` or
# `"together"`. Then run the plot below it.


# %%
def predict_first_to_noise():
    """Return "linear", "cosine" or "together"."""
    ### BEGIN SOLUTION
    return "linear"
    ### END SOLUTION


# %%
with when_done():
    T = 1000
    schedules = {
        "linear": compute_alphas_cumprod(linear_betas(T)),
        "cosine": compute_alphas_cumprod(cosine_betas(T)),
    }
    curves(schedules, xlabel="t", ylabel=r"$\bar\alpha_t$", title="What is left of the picture")
    curves({k: snr(a) for k, a in schedules.items()}, xlabel="t", ylabel="SNR", log=True, level=1.0)
    torch.manual_seed(0)
    noise = torch.randn_like(x_0[:1])
    stops = [100, 250, 400, 550, 700, 850, 999]
    rows(
        {
            name: torch.cat([q_sample(x_0[:1], a[s].reshape(1, 1, 1, 1), noise) for s in stops])
            for name, a in schedules.items()
        },
        titles=[f"t = {s}" for s in stops],
    )

# %% [markdown]
# ## Why the end must be noise
#
# Drawing a new digit will start from pure noise drawn from $\mathcal N(0, I)$ (papers call it $x_T$; here it takes the
# place of $x_{T-1}$). Training, on the other hand, only ever shows the network
# $x_t = \sqrt{\bar\alpha_t}\,x_0 + \dots$. The two agree at the last step only if $\bar\alpha_{T-1} \approx 0$.
#
# This is easy to get wrong. Take betas that were made for 1000 steps, run only 500 of them with the same ends, and see
# what is left.

# %%
with when_done():
    for steps in (1000, 500, 250):
        left = compute_alphas_cumprod(linear_betas(steps))[-1].item()
        print(f"linear, T = {steps:4d}: abar at the end = {left:.5f}, the picture keeps a factor of {left**0.5:.3f}")

# %% [markdown]
# With $T = 500$ the last $x_t$ still carries 8 % of the picture. That sounds like little, but it is the same for all
# pixels, so it survives averaging: the brightness of the whole image can be read off the noise. MNIST digits are mostly
# black. The network learns that its input is always a little dark on average, and at drawing time it is handed noise
# whose average is 0.

# %% [markdown] question="why_abar_must_vanish"
# At $t = T - 1$ the network was trained on $\sqrt{\bar\alpha_{T-1}}\,x_0 + \sqrt{1-\bar\alpha_{T-1}}\,\varepsilon$.
# Its mean is $\sqrt{\bar\alpha_{T-1}}\,x_0$, dark like the digits. Sampling starts from $\mathcal N(0, I)$ with mean 0,
# which is brighter than anything seen in training. The network takes the brighter mean for signal, so samples come out
# with too much ink or a grey ground, and the lowest frequencies suffer most, because averaging over many pixels removes
# the noise but not the leftover. The remedy is a schedule with $\bar\alpha_{T-1}$ near 0: more steps, larger betas, or
# the cosine schedule.

# %% [markdown]
# ## One step back, when the answer is known
#
# Now turn around. Given $x_t$, where was the image one step earlier? In general nobody knows: many images could have
# led here. But if somebody tells us $x_0$, the question has an exact answer, and it is a Gaussian again:
#
# $$q(x_{t-1} \mid x_t, x_0) = \mathcal N(\tilde\mu_t,\ \tilde\beta_t I)$$
#
# By Bayes' rule it is proportional to $q(x_t \mid x_{t-1})\; q(x_{t-1} \mid x_0)$. Both factors are Gaussians in
# $x_{t-1}$. Gather what stands in front of $x_{t-1}^2$ and of $x_{t-1}$ in the exponent:
#
# $$-\frac12\Big[\underbrace{\Big(\frac{\alpha_t}{\beta_t} + \frac{1}{1-\bar\alpha_{t-1}}\Big)}_{1/\tilde\beta_t}
#   x_{t-1}^2 - 2\Big(\frac{\sqrt{\alpha_t}}{\beta_t}x_t + \frac{\sqrt{\bar\alpha_{t-1}}}{1-\bar\alpha_{t-1}}x_0\Big)
#   x_{t-1}\Big]$$
#
# The first bracket is one over the variance. Bring it to one fraction and use
# $\alpha_t(1-\bar\alpha_{t-1}) + \beta_t = 1 - \bar\alpha_t$:
#
# $$\tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t$$
#
# At the first step there is no $\bar\alpha_{t-1}$ in the table. Before that step nothing was lost, so it is 1, and
# $\tilde\beta_0 = 0$: if you know $x_0$, you know where you were.


# %%
def posterior_variance(betas, alphas_cumprod):
    """The variance of q(x_{t-1} given x_t, x_0) for every t (DDPM, equation 7).

    betas, alphas_cumprod: (T,). Returns (T,), the first entry 0.
    """
    ### BEGIN SOLUTION
    previous = torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])  # (T,)
    return betas * (1 - previous) / (1 - alphas_cumprod)  # (T,)
    ### END SOLUTION


# %% [markdown]
# The mean is the second bracket times that variance:
#
# $$\tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0
#   + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t$$
#
# It is a compromise between where the path began and where it is now. Look closely at the second weight: it has
# $\sqrt{\alpha_t}$, the one step, and not $\sqrt{\bar\alpha_t}$, all of them. An earlier lab had the bar there by
# mistake, and its pictures still look fine at most steps. That is why we check numbers and not pictures.
#
# Compute the two weights in this form. The second bracket as it stands divides by $1 - \bar\alpha_{t-1}$, which is 0
# at the first step; times a variance of 0 that gives NaN.
#
# Here every argument is already extracted: `beta_t`, `abar_t` and `abar_prev` are $(B, 1, 1, 1)$.


# %%
def posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev):
    """The mean of q(x_{t-1} given x_t, x_0) (DDPM, equation 7).

    x_0, x_t: (B, C, H, W). beta_t, abar_t, abar_prev: (B, 1, 1, 1); abar_prev is abar at t - 1, or 1 at t = 0.
    Returns (B, C, H, W).
    """
    ### BEGIN SOLUTION
    weight_0 = abar_prev.sqrt() * beta_t / (1 - abar_t)  # (B, 1, 1, 1)
    weight_t = (1 - beta_t).sqrt() * (1 - abar_prev) / (1 - abar_t)  # (B, 1, 1, 1)
    return weight_0 * x_0 + weight_t * x_t  # (B, C, H, W)
    ### END SOLUTION


# %% [markdown]
# ## Experiments
#
# **The two weights.** Which of $x_0$ and $x_t$ does the mean listen to? Before you run the next cell, guess what
# happens near $t = 0$.

# %%
with when_done():
    betas = linear_betas(1000)
    abar = compute_alphas_cumprod(betas)
    prev = torch.cat([torch.ones(1), abar[:-1]])
    one = torch.ones(1000, 1, 1, 1)
    shape = (1000, 1, 1, 1)
    parts = [v.reshape(shape) for v in (betas, abar, prev)]
    curves(
        {
            "weight of $x_0$": posterior_mean(one, 0 * one, *parts).flatten(),
            "weight of $x_t$": posterior_mean(0 * one, one, *parts).flatten(),
        },
        xlabel="t",
        ylabel="weight",
        title="What the posterior mean listens to",
    )

# %% [markdown]
# **A slider.** Drag $t$ through the cosine schedule. At which step do you stop recognising the digit? Write the number
# down and compare it with the SNR there.

# %%
with when_done():
    abar = compute_alphas_cumprod(cosine_betas(1000))
    torch.manual_seed(0)
    noise = torch.randn_like(x_0)

    def noisy(t):
        show(q_sample(x_0, abar[t].reshape(1, 1, 1, 1), noise), columns=8, title=f"t = {t}, abar = {abar[t]:.3f}")

    explore(noisy, t=range(0, 1000, 10), still=(100, 500, 900))

# %% [markdown]
# ## Summary
#
# - One step: $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon$. It keeps the variance at 1.
# - All steps: $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$ with
#   $\bar\alpha_t = \prod_{s \le t}(1-\beta_s)$.
# - The SNR $\bar\alpha_t / (1-\bar\alpha_t)$ is what a schedule really is. It must reach nearly 0.
# - Knowing $x_0$, one step back is a Gaussian with a known mean and variance. Lab 3 trains a network to supply what we
#   do not know, and lab 4 uses it to walk back.
#
# ## Further reading
#
# - J. Sohl-Dickstein, E. Weiss, N. Maheswaranathan, S. Ganguli. *Deep Unsupervised Learning using Nonequilibrium
#   Thermodynamics*. ICML 2015. arXiv:1503.03585.
# - J. Ho, A. Jain, P. Abbeel. *Denoising Diffusion Probabilistic Models*. NeurIPS 2020. arXiv:2006.11239.
# - A. Nichol, P. Dhariwal. *Improved Denoising Diffusion Probabilistic Models*. ICML 2021. arXiv:2102.09672.
# - D. Kingma, T. Salimans, B. Poole, J. Ho. *Variational Diffusion Models*. NeurIPS 2021. arXiv:2107.00630.
# - S. Lin, B. Liu, J. Li, X. Yang. *Common Diffusion Noise Schedules and Sample Steps are Flawed*. WACV 2024.
#   arXiv:2305.08891.
