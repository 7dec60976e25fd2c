# %% [markdown]
# # Lab 3: Training
#
# **You build** the four targets a network can be trained on and the way from each to the others, the loss, one step of
# training, the moving average of the weights, the learning rate and the loop.
#
# **You can then** train a network that draws digits, watch them emerge, say at which timesteps it is still bad, and
# tell what a paper means by "we predict v".
#
# **It takes** about 100 minutes. Training takes up to 4 of them on two CPU cores that compute in bfloat16, about 20 on
# two that do not, less on a GPU. **It needs** lab 1 ($q(x_t \mid x_0)$ and the posterior), and what an optimizer and a
# gradient are in PyTorch.
#
# The functions of lab 1 and the U-Net of lab 2 are imported from `labdiff.reference`, so you can do this lab without
# having finished those. As before, exercises do not depend on each other.

# %%
import copy
import itertools
import math
import time

import torch
from torch import nn
from tqdm import tqdm

from labdiff import being_graded, check, hint, models, when_done
from labdiff.data import digits
from labdiff.plotting import curves, explore, rows
from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas, extract, linear_betas, q_sample
from labdiff.reference.lab2_unet import UNet

# %% [markdown]
# ## One equation, four questions
#
# Lab 1 ended with a gap. One step back is a Gaussian whose mean we know, if only somebody tells us $x_0$. Nobody does,
# so a network has to guess. It is given $x_t$ and $t$. What should it be asked for?
#
# Everything follows from one equation with three quantities in it:
#
# $$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$$
#
# The network sees $x_t$. Tell it $\varepsilon$ and it can compute $x_0$; tell it $x_0$ and it can compute
# $\varepsilon$. So asking for the noise and asking for the clean image are the same question in other units. Below are
# four such questions, and each answer can be turned into the others.
#
# ### The noise
#
# Ho, Jain and Abbeel (2020) asked for $\varepsilon$. Solve the equation for $x_0$:
#
# $$x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\varepsilon}{\sqrt{\bar\alpha_t}}$$
#
# Shapes: images are $(B, C, H, W)$, `abar_t` is $(B, 1, 1, 1)$, as `extract` returns it. No clamping here. A guess that
# leaves $[-1, 1]$ is a fact about the guess, and the sampler decides what to do with it.


# %%
def x0_from_eps(x_t, eps, abar_t):
    """The clean image that belongs to a noisy one and its noise (DDPM, equation 4, solved for x_0).

    x_t, eps: (B, C, H, W). abar_t: (B, 1, 1, 1), in (0, 1]. Returns (B, C, H, W), not clamped.
    """
    ### BEGIN SOLUTION
    return (x_t - (1 - abar_t).sqrt() * eps) / abar_t.sqrt()  # (B, C, H, W)
    ### END SOLUTION


# %% [markdown]
# This line is easy to get wrong in a way that nobody sees. An earlier lab of this course, on one notebook, has
#
# $$\frac{x_t - \sqrt{1/\bar\alpha_t - 1}\;\varepsilon}{\sqrt{\bar\alpha_t}}$$
#
# Now $\sqrt{1/\bar\alpha_t - 1} = \sqrt{1-\bar\alpha_t}\,/\sqrt{\bar\alpha_t}$. That root already holds the division,
# and the formula divides again. Its noise term is too large by $1/\sqrt{\bar\alpha_t}$. At that lab's last step
# $\bar\alpha = 0.0064$, so the factor is 12.5. The next cell gives both formulas the true noise, so both should return
# the digit without a flaw. `show` and `rows` clamp what they draw, as that lab clamps what its formula returns.

# %%
x_0, labels = digits(8)
with when_done():
    older_abar = compute_alphas_cumprod(linear_betas(500))
    torch.manual_seed(0)
    stops = [20, 60, 120, 200, 300, 400, 499]
    abar_t = older_abar[stops].reshape(-1, 1, 1, 1)  # (7, 1, 1, 1)
    image = x_0[:1].expand(7, -1, -1, -1)
    eps = torch.randn_like(image)
    x_t = q_sample(image, abar_t, eps)
    wrong = (x_t - (1 / abar_t - 1).sqrt() * eps) / abar_t.sqrt()
    rows(
        {"x_t": x_t, "from eps": x0_from_eps(x_t, eps, abar_t), "earlier formula": wrong},
        titles=[f"t = {s}" for s in stops],
    )
    print("too large by", ", ".join(f"{f:.1f}" for f in abar_t.rsqrt().flatten()))

# %% [markdown]
# At small $t$ the two agree, and at large $t$ the clamp turns a value of 100 into a value of 1. What remains looks like
# noise, and noise is what one expects there. A sampler with this line can still end in digits, because its last steps
# are the ones where the formula is nearly right. A picture can forgive a formula; a number does not.
#
# Now the other way.


# %%
def eps_from_x0(x_t, x_0, abar_t):
    """The noise that belongs to a noisy image and the clean one (DDPM, equation 4, solved for eps).

    x_t, x_0: (B, C, H, W). abar_t: (B, 1, 1, 1), in (0, 1). Returns (B, C, H, W).
    """
    ### BEGIN SOLUTION
    return (x_t - abar_t.sqrt() * x_0) / (1 - abar_t).sqrt()  # (B, C, H, W)
    ### END SOLUTION


# %% [markdown]
# ### The velocity
#
# Both questions have a weak spot. Near the last step, $x_0$ from $\varepsilon$ divides by $\sqrt{\bar\alpha_t}$, which
# is nearly 0, so the smallest error of the network becomes a huge one in $x_0$. And the question itself is empty there:
# the input is the noise, the network only has to hand it back. Asking for $x_0$ has the same trouble at the other end.
# Near $t = 0$ the input is the answer.
#
# Salimans and Ho (2022) asked for a mixture that is never empty:
#
# $$v_t = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0$$
#
# There is a picture behind it. The squares of $\sqrt{\bar\alpha_t}$ and $\sqrt{1-\bar\alpha_t}$ add up to 1, so they
# are the cosine and the sine of some angle $\varphi$. Then $x_t = \cos\varphi\;x_0 + \sin\varphi\;\varepsilon$ moves on
# an arc from $x_0$ to $\varepsilon$, and its derivative in $\varphi$ is
# $-\sin\varphi\;x_0 + \cos\varphi\;\varepsilon = v$: the direction in which the image is moving, its velocity.


# %%
def v_target(x_0, eps, abar_t):
    """What a v-predicting network is trained on (Salimans and Ho 2022, section 4).

    x_0, eps: (B, C, H, W). abar_t: (B, 1, 1, 1), in [0, 1]. Returns v: (B, C, H, W).
    """
    ### BEGIN SOLUTION
    return abar_t.sqrt() * eps - (1 - abar_t).sqrt() * x_0  # (B, C, H, W)
    ### END SOLUTION


# %% [markdown]
# Look at what the network would be asked for. Near $t = 0$, $v$ is the noise; near the end it is the negative of the
# digit. Where the input shows one of the two, the question is about the other.

# %%
betas = cosine_betas(1000)
alphas_cumprod = compute_alphas_cumprod(betas)
with when_done():
    torch.manual_seed(0)
    stops = [0, 150, 300, 500, 700, 850, 999]
    abar_t = alphas_cumprod[stops].reshape(-1, 1, 1, 1)
    image = x_0[:1].expand(7, -1, -1, -1)
    eps = torch.randn_like(image[:1]).expand_as(image)
    rows(
        {"input x_t": q_sample(image, abar_t, eps), "eps": eps, "x_0": image, "v": v_target(image, eps, abar_t)},
        titles=[f"t = {s}" for s in stops],
    )

# %% [markdown]
# To use the network, $v$ has to be turned back into $x_0$ and $\varepsilon$. Write $c = \sqrt{\bar\alpha_t}$ and
# $s = \sqrt{1-\bar\alpha_t}$. Then
#
# $$\begin{pmatrix} x_t \\ v \end{pmatrix} =
#   \begin{pmatrix} c & s \\ -s & c \end{pmatrix} \begin{pmatrix} x_0 \\ \varepsilon \end{pmatrix}$$
#
# The matrix is a rotation. The inverse of a rotation is its transpose, so nothing needs to be divided, and no small
# error can become a large one. Read off the two rows.


# %%
def x0_from_v(x_t, v, abar_t):
    """The clean image that belongs to a noisy one and its velocity (Salimans and Ho 2022, section 4).

    x_t, v: (B, C, H, W). abar_t: (B, 1, 1, 1), in [0, 1]. Returns (B, C, H, W), not clamped.
    """
    ### BEGIN SOLUTION
    return abar_t.sqrt() * x_t - (1 - abar_t).sqrt() * v  # (B, C, H, W)
    ### END SOLUTION


# %%
def eps_from_v(x_t, v, abar_t):
    """The noise that belongs to a noisy image and its velocity.

    x_t, v: (B, C, H, W). abar_t: (B, 1, 1, 1), in [0, 1]. Returns (B, C, H, W).
    """
    ### BEGIN SOLUTION
    return (1 - abar_t).sqrt() * x_t + abar_t.sqrt() * v  # (B, C, H, W)
    ### END SOLUTION


# %% [markdown]
# ### The image one step earlier
#
# Many texts describe training like this: take $x_t$, let the network denoise it to $x_{t-1}$, and compare with the true
# $x_{t-1}$. Then one opens the code, and the code compares $\varepsilon$. Are the two the same?
#
# First, the true $x_{t-1}$ is not a function of $x_t$ and $x_0$. It is drawn from the posterior, with mean
# $\tilde\mu_t$ and variance $\tilde\beta_t$ in each of the $d$ pixels. Let $\hat\mu$ be what the network says. Its
# error, averaged over that draw, falls into two parts:
#
# $$\mathbb E\,\|x_{t-1} - \hat\mu\|^2 = \|\tilde\mu_t - \hat\mu\|^2 + d\,\tilde\beta_t$$
#
# No network can do anything about the second part. So comparing with $x_{t-1}$ has the same best answer as comparing
# with $\tilde\mu_t$, only with more luck in it.
#
# Second, what is $\tilde\mu_t$ when the network thinks in noise? Lab 1 had it as a sum of $x_0$ and $x_t$. Put
# $x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\varepsilon)/\sqrt{\bar\alpha_t}$ into it, and use
# $\sqrt{\bar\alpha_{t-1}}/\sqrt{\bar\alpha_t} = 1/\sqrt{\alpha_t}$. The factor of $x_t$ becomes
#
# $$\frac{1}{1-\bar\alpha_t}\Big(\frac{\beta_t}{\sqrt{\alpha_t}} + \sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})\Big)
#   = \frac{\beta_t + \alpha_t - \bar\alpha_t}{(1-\bar\alpha_t)\sqrt{\alpha_t}} = \frac{1}{\sqrt{\alpha_t}}$$
#
# and $\bar\alpha_{t-1}$ has vanished. Altogether
#
# $$\tilde\mu_t = \frac{1}{\sqrt{\alpha_t}}\Big(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\varepsilon\Big)$$


# %%
def x_prev_from_eps(x_t, eps, beta_t, abar_t):
    """The mean of x_{t-1} given x_t and its noise (DDPM, equation 11).

    x_t, eps: (B, C, H, W). beta_t, abar_t: (B, 1, 1, 1), in (0, 1). Returns (B, C, H, W).
    """
    ### BEGIN SOLUTION
    alpha_t = 1 - beta_t  # (B, 1, 1, 1)
    return (x_t - beta_t / (1 - abar_t).sqrt() * eps) / alpha_t.sqrt()  # (B, C, H, W)
    ### END SOLUTION


# %% [markdown]
# Third, let $\hat\mu$ be that same expression with the network's guess $\hat\varepsilon$. Subtract the two. $x_t$ is
# known and drops out, and only the error in the noise is left, times a number:
#
# $$\|\tilde\mu_t - \hat\mu\|^2 = w_t\,\|\varepsilon - \hat\varepsilon\|^2$$
#
# Which number is $w_t$?


# %%
def x_prev_weight(beta_t, abar_t):
    """How much an error in eps counts when x_{t-1} is compared (DDPM, equation 12, without 1 / (2 sigma^2)).

    beta_t, abar_t: the same shape, in (0, 1). Returns w_t, that shape, positive.
    """
    ### BEGIN SOLUTION
    return beta_t**2 / ((1 - beta_t) * (1 - abar_t))
    ### END SOLUTION


# %% [markdown]
# ### The same objective, up to a weight
#
# The same subtraction works for every pair. An error in one target is an error in another, times a number that depends
# on $t$ alone:
#
# - From $x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\varepsilon)/\sqrt{\bar\alpha_t}$:
#   $\ \|\varepsilon - \hat\varepsilon\|^2 = \mathrm{SNR}_t\;\|x_0 - \hat x_0\|^2$, with
#   $\mathrm{SNR}_t = \bar\alpha_t/(1-\bar\alpha_t)$.
# - From $x_0 = c\,x_t - s\,v$ with $s^2 = 1-\bar\alpha_t$:
#   $\ \|v - \hat v\|^2 = \frac{1}{1-\bar\alpha_t}\,\|x_0 - \hat x_0\|^2 = (\mathrm{SNR}_t + 1)\,\|x_0 - \hat x_0\|^2$.
# - From the section above: $\|\tilde\mu_t - \hat\mu\|^2 = w_t\,\mathrm{SNR}_t\,\|x_0 - \hat x_0\|^2$.
#
# So all four objectives are one objective, a weighted error in $x_0$. They differ in how they divide the network's
# attention between the timesteps. The next cell does not believe this. It takes random guesses, computes each error
# with your functions, and prints the ratios beside the formulas.

# %%
with when_done():
    torch.manual_seed(0)
    t = torch.tensor([50, 500, 950])
    image, eps, guess = x_0[:3], torch.randn(3, 1, 28, 28), torch.randn(3, 1, 28, 28)
    abar_t, beta_t = extract(alphas_cumprod, t, image), extract(betas, t, image)
    x_t = q_sample(image, abar_t, eps)

    def squared(a, b):
        return (a - b).square().sum(dim=(1, 2, 3))  # (B,)

    x0_guess = x0_from_eps(x_t, guess, abar_t)
    in_x0 = squared(image, x0_guess)
    in_eps = squared(eps, eps_from_x0(x_t, x0_guess, abar_t))
    in_v = squared(v_target(image, eps, abar_t), v_target(x0_guess, guess, abar_t))
    in_prev = squared(x_prev_from_eps(x_t, eps, beta_t, abar_t), x_prev_from_eps(x_t, guess, beta_t, abar_t))
    ratio = (abar_t / (1 - abar_t)).flatten()
    for name, measured, formula in (
        ("eps", in_eps / in_x0, ratio),
        ("v", in_v / in_x0, ratio + 1),
        ("x_{t-1}", in_prev / in_x0, x_prev_weight(beta_t, abar_t).flatten() * ratio),
    ):
        for i, step in enumerate(t.tolist()):
            print(f"error in {name:8} / error in x_0 at t = {step:3}: {measured[i]:12.6f}   formula {formula[i]:12.6f}")

# %%
with when_done():
    ratio = alphas_cumprod / (1 - alphas_cumprod)
    curves(
        {
            "$x_0$": torch.ones(1000),
            r"$\varepsilon$": ratio,
            "$v$": ratio + 1,
            "$x_{t-1}$": x_prev_weight(betas, alphas_cumprod) * ratio,
        },
        xlabel="t",
        ylabel="weight of an error in $x_0$",
        title="What each target pays attention to",
        log=True,
    )

# %% [markdown]
# Read the plot from the right. Asking for $\varepsilon$ all but ignores the errors in $x_0$ at the noisy end, where
# the large shapes are decided. Asking for $v$ is never below 1. At the clean end both weigh an error in $x_0$
# thousands of times, and rightly so, since it is tiny there. The curve of $x_{t-1}$ begins at exactly 1: before the
# step number 0 the image is $x_0$ itself, so comparing $x_{t-1}$ and comparing $x_0$ are the same there. From then on
# it falls steeply. One step changes the image so little that even a bad guess of $x_0$ hardly moves $x_{t-1}$.
#
# Question: a text says that the network is trained by comparing $x_{t-1}$, the code compares $\varepsilon$. In what
# sense are these the same objective, and why can the two nevertheless give different networks?

# %% [markdown] question="same_objective_or_not"
# At every single $t$ the two errors are the same up to the positive factor $w_t$ (and up to the constant
# $d\,\tilde\beta_t$, if one compares with a drawn $x_{t-1}$ instead of its mean). A positive factor and a constant do
# not move a minimum. So a network that could answer perfectly and separately at each $t$ would end up the same.
# A real network has one set of weights for all $t$, and limited size and training time. It cannot be best everywhere.
# The factor $w_t$ depends on $t$, so the sum over $t$ trades errors at some timesteps against errors at others, and the
# two objectives strike different bargains. The gradients also differ in size from step to step, which changes how noisy
# training is.

# %% [markdown]
# We train on $v$ from here on.
#
# ## Which timestep
#
# Every image in every batch gets a timestep of its own, all $T$ of them equally likely. We start from numbers $u$,
# uniform in $[0, 1)$, so that the result can be checked. Timesteps are array indices: `int64`, from 0 to $T - 1$.


# %%
def random_timesteps(u, T):
    """Turn uniform numbers into timesteps, each of 0, ..., T - 1 equally likely.

    u: (B,), float32, uniform in [0, 1). T: number of steps. Returns (B,), int64.
    """
    ### BEGIN SOLUTION
    return (u * T).long()  # (B,)
    ### END SOLUTION


# %% [markdown]
# ## The loss
#
# The mean squared error between what the network said and the target: first over the channels and pixels of each image,
# then over the batch. In between there is a place for a weight per image. With it, the network can be asked for $v$ and
# yet be judged by any of the curves above:
#
# $$L = \frac1B \sum_{i=1}^{B} w_i\; \frac{1}{CHW}\,\|\hat y_i - y_i\|^2$$
#
# We leave the weight out for now. Min-SNR (Hang and others 2023) is a well-known choice of it.
#
# One thing about precision. On many machines the network computes in bfloat16, which keeps 8 significant bits, 2 to 3
# decimal digits. That is enough for a prediction, and too little for differences, squares and a mean over 50,000
# pixels. So convert both inputs to float32 before you subtract.


# %%
def diffusion_loss(prediction, target, weight=None):
    """The mean squared error, weighted per image, in float32 whatever comes in.

    prediction, target: (B, C, H, W), float32 or bfloat16. weight: (B,) or None for no weights.
    Returns a scalar tensor, float32, through which gradients flow.
    """
    ### BEGIN SOLUTION
    error = (prediction.float() - target.float()).square()  # (B, C, H, W)
    per_image = error.flatten(1).mean(dim=1)  # (B,)
    if weight is not None:
        per_image = weight * per_image  # (B,)
    return per_image.mean()  # scalar
    ### END SOLUTION


# %% [markdown]
# ## One step of training
#
# Here is Algorithm 1 of the DDPM paper, with $v$ in the place of $\varepsilon$:
#
# 1. Take clean images $x_0$, a timestep for each, and noise. (All three are arguments.)
# 2. Make $x_t$, and the target that belongs to it. Each image has its own $\bar\alpha_t$.
# 3. Ask the network and compute the loss.
# 4. Compute the gradient and let the optimizer change the weights.
#
# PyTorch adds gradients to those that are already there. Somebody has to clear them, at the right moment.
#
# `extract` and `q_sample` from lab 1 are imported. The target and the loss are passed in as functions:
# `target_fn(x_0, eps, abar_t)` is `v_target` for us, and `loss_fn(prediction, target)` is `diffusion_loss`. Return the
# loss as a plain number. A tensor would keep the whole computation behind it alive, and after a thousand steps the
# memory is full.


# %%
def train_step(model, optimizer, x_0, t, eps, alphas_cumprod, loss_fn, target_fn):
    """One step of training (DDPM, algorithm 1).

    model: model(x_t, t) -> prediction, the shape of x_t. optimizer: holds the model's parameters.
    x_0, eps: (B, C, H, W). t: (B,), int64, in [0, T). alphas_cumprod: (T,).
    loss_fn(prediction, target) -> scalar tensor. target_fn(x_0, eps, abar_t) -> (B, C, H, W).
    Changes the model's weights once. Returns the loss before that change, a float.
    """
    ### BEGIN SOLUTION
    abar_t = extract(alphas_cumprod, t, x_0)  # (B, 1, 1, 1)
    x_t = q_sample(x_0, abar_t, eps)  # (B, C, H, W)
    loss = loss_fn(model(x_t, t), target_fn(x_0, eps, abar_t))  # scalar
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
    ### END SOLUTION


# %% [markdown]
# ## A calmer copy
#
# Each step follows the gradient of one small batch, so the weights jitter around the place they are heading for.
# Samples show it: from one step to the next, digits gain and lose strokes. The remedy is an old one, an average over
# the path. A second network, never trained itself, follows the first:
#
# $$\theta_{\text{ema}} \leftarrow d\,\theta_{\text{ema}} + (1 - d)\,\theta$$
#
# This is the exponential moving average, EMA. With decay $d = 0.999$ it looks back over about
# $1/(1-d) = 1000$ steps. Nearly every published diffusion model is an EMA.
#
# The update must change the parameters of `ema` themselves, in place, and must leave no trace for gradients. Mind that
# `a = d * a + ...` makes a new tensor and gives it the name `a`; the network never hears of it.


# %%
def ema_update(ema, model, decay):
    """Move the average's parameters towards the model's, in place. Returns nothing.

    ema, model: two networks of the same architecture. decay: in [0, 1], the share of the average that stays.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        for average, current in zip(ema.parameters(), model.parameters(), strict=True):
            average.mul_(decay).add_(current, alpha=1 - decay)
    ### END SOLUTION


# %% [markdown]
# ## The learning rate
#
# A step size that is right in the middle of training is too large at the start, when the optimizer knows little about
# the gradients yet, and too large at the end, when the weights should settle. So the rate is not constant. It rises in
# a straight line over the first `warmup` steps and then falls in a straight line:
#
# $$\mathrm{rate}(i) = \mathrm{peak}\cdot\min\Big(\frac{i + 1}{\mathrm{warmup}},\
#   \frac{\mathrm{steps} - i}{\mathrm{steps} - \mathrm{warmup}}\Big),\qquad i = 0, \dots, \mathrm{steps} - 1$$
#
# It would reach 0 only at $i = \mathrm{steps}$, the first step that is not taken. So no step is wasted at either end.


# %%
def learning_rate(step, steps, peak, warmup):
    """The learning rate of one step: a linear rise to the peak, then a linear fall towards 0.

    step: int in [0, steps). steps: how many there are. peak: the largest rate. warmup: int in [1, steps).
    Returns a float in (0, peak].
    """
    ### BEGIN SOLUTION
    return peak * min((step + 1) / warmup, (steps - step) / (steps - warmup))
    ### END SOLUTION


# %%
with when_done():
    curves(
        {"rate": torch.tensor([learning_rate(i, 1500, 1e-3, 100) for i in range(1500)])},
        xlabel="step",
        ylabel="learning rate",
        title="1500 steps, 100 of them warm-up",
    )

# %% [markdown]
# ## The loop
#
# An epoch is one pass over the images in a shuffled order. Cut the order into batches, hand each batch to a function,
# and collect what it returns. What is left at the end and is too small for a batch is dropped. The next epoch has
# another order, so the same images are not left out twice.
#
# `order` may be shorter than the number of images. Then only those images are used.


# %%
def train_epoch(images, order, batch_size, step_fn):
    """Call step_fn on each whole batch of images, in the given order.

    images: (N, C, H, W). order: (M,), int64, which images in which order. batch_size: int.
    step_fn: takes a batch (batch_size, C, H, W), returns its loss, a float.
    Returns a list of floats, one for each of the M // batch_size whole batches.
    """
    ### BEGIN SOLUTION
    losses = []
    for i in range(len(order) // batch_size):
        batch = order[i * batch_size : (i + 1) * batch_size]  # (batch_size,)
        losses.append(step_fn(images[batch]))
    return losses
    ### END SOLUTION


# %% [markdown]
# ## All of it together
#
# The next two cells are given. They call every part that you built and add four things from daily practice.
#
# - **Precision.** Processors with special units compute much faster in bfloat16, others much slower. So
#   `bfloat16_is_faster` tries both and takes the time. The parameters stay in float32 either way.
# - **Memory order.** `channels_last` stores the channels of a pixel next to each other, as convolutions like it.
# - **Clipping.** Now and then a batch gives a huge gradient. It is scaled down to length 1 before it does harm.
# - **A growing decay.** At the start the average would hang on to random weights, so its decay grows with the steps:
#   $\min(0.999,\ (1 + i)/(10 + i))$.


# %%
class MixedPrecision(nn.Module):
    """A network that computes in bfloat16 inside, where `enabled`; its parameters stay float32."""

    def __init__(self, network, enabled=True):
        super().__init__()
        self.network = network
        self.enabled = enabled

    def forward(self, x, t):
        """x: (B, C, H, W). t: (B,), int64. Returns what the network returns, in bfloat16 where enabled."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.enabled):
            return self.network(x, t)


def bfloat16_is_faster(network, x, t):
    """Whether this machine calls a network clearly faster in bfloat16; tried out, on a CPU with 16 images at most.

    network: called with x, (B, C, H, W), and t, (B,). Its gradients are left alone.
    """
    if not x.is_cuda:  # where bfloat16 is slow, it is slow enough for 16 images to tell
        x, t = x[:16], t[:16]

    def seconds(enabled):
        best = math.inf
        for _ in range(3):  # the first run also sets things up
            start = time.perf_counter()
            with torch.inference_mode():
                MixedPrecision(network, enabled)(x, t)
            if x.is_cuda:
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        return best

    return seconds(True) < 0.9 * seconds(False)


# %%
def train_unet(images, steps, batch=64, peak=1e-3, seed=0, device=None, alphas_cumprod=None, every=0, callback=None):
    """Train lab 2's U-Net to predict v, with the answers above.

    images: (N, 1, H, W), float32 in [-1, 1]. steps, batch: how many batches, and how large.
    peak: the largest learning rate. seed: of the weights, the order, the timesteps and the noise.
    device: the GPU where there is one, unless told.
    alphas_cumprod: (T,), the cosine schedule with T = 1000 unless given.
    every, callback: after every `every` steps, and after the last one, callback(steps done, ema, network) is called.
    Returns the averaged network, in evaluation mode, and the losses, one float per step.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if alphas_cumprod is None:
        alphas_cumprod = compute_alphas_cumprod(cosine_betas(1000))
    alphas_cumprod = alphas_cumprod.to(device)
    batch = min(batch, len(images))
    warmup = max(1, min(100, steps // 10))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet().to(device, memory_format=torch.channels_last)
    ema = copy.deepcopy(network).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

    def clip(*_):
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)

    optimizer.register_step_pre_hook(clip)
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that every device sees the same batches
    some, first = images[:batch].to(device), torch.zeros(batch, dtype=torch.int64, device=device)
    model = MixedPrecision(network, bfloat16_is_faster(network, some, first))

    counter = itertools.count()
    losses = []
    with tqdm(total=steps, desc="training", unit="step", delay=1, mininterval=1) as bar:

        def one_step(x_0):
            step = next(counter)
            x_0 = x_0.to(device)  # (B, 1, H, W)
            t = random_timesteps(torch.rand(len(x_0), generator=generator), len(alphas_cumprod)).to(device)  # (B,)
            eps = torch.randn(x_0.shape, generator=generator).to(device)  # (B, 1, H, W)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, max(steps, warmup + 1), peak, warmup)  # one step has no fall
            loss = train_step(model, optimizer, x_0, t, eps, alphas_cumprod, diffusion_loss, v_target)
            ema_update(ema, network, min(0.999, (1 + step) / (10 + step)))
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{loss:.3f}")
            if every and ((step + 1) % every == 0 or step + 1 == steps):
                callback(step + 1, ema, network)
            return loss

        while len(losses) < steps:
            order = torch.randperm(len(images), generator=generator)[: (steps - len(losses)) * batch]
            losses += train_epoch(images, order, batch, one_step)
    return ema, losses


# %% [markdown]
# Now train. A few times along the way the cell draws eight digits, always from the same noise, so that you see the same
# eight digits emerge. The sampler that does it, DDIM, is what you will build in the next lab. For now it is a function
# that walks from noise to a picture in 20 calls of the network.
#
# It takes up to 4 minutes on two CPU cores that compute in bfloat16 and about 20 on two that do not. The bar says after
# a few steps which are yours. If that is too long for you, stop the cell, lower `STEPS` and run it again; the learning
# rate follows. With a third of the steps you see the same things, and rougher digits.

# %%
from labdiff.reference.lab4_sampling import ddim_sample, ddim_timesteps, make_denoiser

STEPS = 2 if being_graded() else 1500  # a grader looks at the answers, not at how well a network draws
LOOKS = sorted({max(1, round(STEPS * part)) for part in (0.05, 0.1, 0.2, 0.35, 0.5, 1)})

trained, losses, averaged, raw = None, [], {}, {}


def draw_digits(network, n=8):
    """Draw n digits with a network: (n, 1, 28, 28), on the CPU. The same noise every time."""
    device = next(network.parameters()).device
    x_T = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(5)).to(device)
    abar = alphas_cumprod.to(device)
    with torch.inference_mode():
        return ddim_sample(make_denoiser(network, abar), x_T, ddim_timesteps(1000, 20), abar).cpu()


def look(done, ema, network):
    """Draw with the average and with the raw weights, at a few steps."""
    if done in LOOKS:
        averaged[done], raw[done] = draw_digits(ema), draw_digits(network)


def need_training():
    """Let a cell below wait where nothing has been trained yet."""
    if trained is None:
        raise NotImplementedError


with when_done():
    started = time.perf_counter()
    trained, losses = train_unet(digits()[0], STEPS, every=1, callback=look)
    trained = trained.cpu()
    print(f"{STEPS} steps in {time.perf_counter() - started:.0f} s, the last loss is {losses[-1]:.4f}")
    rows({f"{done} steps": images for done, images in averaged.items()})

# %% [markdown]
# What comes first, and what comes last: the dark ground, the size of a digit, strokes, strokes that join, straight
# ends? Write down from which row on you would call it a digit.
#
# Now compare with the loss. It falls steeply at first and then looks nearly flat, while the pictures go on changing.
# The loss is a mean over all timesteps and over chance, and most of it can never be removed: no network can know which
# digit hides in pure noise.

# %%
with when_done():
    need_training()
    window = min(50, len(losses))
    smooth = torch.tensor(losses).unfold(0, window, 1).mean(dim=1)  # (steps - window + 1,)
    curves({"loss": smooth}, xlabel="step", ylabel="loss", title=f"Mean over {window} steps", log=True)

# %% [markdown]
# ## Raw weights and their average
#
# The same network at several moments. Each time the same eight digits are drawn twice, with the raw weights and with
# the average. In which pairs of rows do the two differ most, and which of the two looks more like the next pair?

# %%
with when_done():
    need_training()
    rows(
        {f"{name}, {n} steps": kept[n] for n in LOOKS[-4:] for name, kept in (("raw", raw), ("EMA", averaged))},
    )

# %% [markdown]
# Expect the largest difference while the learning rate is high. As it falls, the steps become small, the raw weights
# stop jittering, and the two agree: a falling rate does part of the work of the average. People who train for weeks and
# do not know when they will stop cannot let the rate fall in advance. They rely on the average.
#
# ## Where is it hard?
#
# The loss you saw is one number for all timesteps. To see where the network is good, sort the losses of single images
# by timestep. There are $T$ timesteps, so we gather them in bins of equal width. Bin $k$ holds the timesteps with
# $\lfloor t \cdot \mathrm{bins} / T\rfloor = k$. An empty bin gets 0.


# %%
def loss_by_timestep(losses, t, T, bins):
    """The mean loss in each of `bins` equal parts of the timesteps.

    losses: (N,), float32. t: (N,), int64, in [0, T). T, bins: int, bins <= T.
    Returns (bins,), float32; 0 where a bin is empty.
    """
    ### BEGIN SOLUTION
    index = t * bins // T  # (N,)
    total = torch.zeros(bins, device=losses.device).index_add(0, index, losses)  # (bins,)
    count = torch.bincount(index, minlength=bins)  # (bins,)
    return total / count.clamp(min=1)  # (bins,)
    ### END SOLUTION


# %% [markdown]
# **Predict before you run.** The cell below asks your network for $v$ on test images at all timesteps and turns each
# answer into a guess of $\varepsilon$ and of $x_0$. Consider the error in $\varepsilon$. At which timesteps is it
# largest: at the `"early"` ones near $t = 0$, where there is little noise, in the `"middle"`, or at the `"late"` ones,
# where there is nothing but noise? Commit to one of the three, then run the plot.


# %%
def predict_hardest_timesteps():
    """Return "early", "middle" or "late"."""
    ### BEGIN SOLUTION
    return "early"
    ### END SOLUTION


# %%
test_images, _ = digits(2000, train=False)


def errors(network):
    """The mean squared error of each test image, in v, eps and x_0: name -> (N,), and the timesteps (N,)."""
    generator = torch.Generator().manual_seed(0)
    t = torch.randint(0, 1000, (len(test_images),), generator=generator)  # (N,)
    found = {"$v$": [], r"$\varepsilon$": [], "$x_0$": []}
    for image, step in zip(test_images.split(200), t.split(200), strict=True):
        eps = torch.randn(image.shape, generator=generator)
        abar_t = extract(alphas_cumprod, step, image)
        x_t = q_sample(image, abar_t, eps)
        with torch.inference_mode():
            v = network(x_t, step)
        pairs = (
            (v, v_target(image, eps, abar_t)),
            (eps_from_v(x_t, v, abar_t), eps),
            (x0_from_v(x_t, v, abar_t), image),
        )
        for kept, (said, true) in zip(found.values(), pairs, strict=True):
            kept.append((said - true).square().mean(dim=(1, 2, 3)))
    return {name: torch.cat(values) for name, values in found.items()}, t


with when_done():
    need_training()
    measured, t = errors(trained)
    curves(
        {name: loss_by_timestep(values, t, 1000, 25) for name, values in measured.items()},
        x=torch.arange(25) * 40 + 20,
        xlabel="t",
        ylabel="mean squared error",
        title="One network, three errors",
        log=True,
    )

# %% [markdown]
# The error in $\varepsilon$ is largest at the early steps, although they look easiest to the eye. There the noise is so
# faint that it hides among the details of the strokes. At the late steps the input is almost the noise itself. The
# error in $x_0$ runs the other way: easy early, hopeless late, when the best guess is a blur of all digits. The error
# in $v$ changes far less than either. The weights that you derived say the same: at each $t$ the error in
# $\varepsilon$ is SNR times the error in $x_0$, and the error in $v$ is SNR + 1 times it.
#
# So a loss of 0.1 means nothing by itself. Ask which target, and at which timesteps.
#
# ## How far is it from the shipped network?
#
# `model.ckpt` is the same U-Net with the same target, trained for longer; `checkpoints/README.md` says how. Here
# are both errors in $v$.

# %%
with when_done():
    need_training()
    shipped = models.unet()
    both = {}
    for name, network in ((f"yours, {STEPS} steps", trained), ("model.ckpt", shipped)):
        found, t = errors(network)
        both[name] = loss_by_timestep(found["$v$"], t, 1000, 25)
    curves(
        both,
        x=torch.arange(25) * 40 + 20,
        xlabel="t",
        ylabel="mean squared error in v",
        title="What longer training buys",
        log=True,
    )
    rows({"yours": draw_digits(trained), "model.ckpt": draw_digits(shipped)})

# %% [markdown]
# ## Experiments
#
# **What does it see?** Drag $t$. The rows show noisy test digits and the clean image that your network believes in. At
# which $t$ does a guess turn into another digit? Where does it become the blur of all digits?

# %%
with when_done():
    need_training()
    torch.manual_seed(0)
    eps = torch.randn(8, 1, 28, 28)

    def belief(t):
        steps = torch.full((8,), t)
        abar_t = extract(alphas_cumprod, steps, eps)
        x_t = q_sample(test_images[:8], abar_t, eps)
        with torch.inference_mode():
            guess = x0_from_v(x_t, trained(x_t, steps), abar_t)
        rows({f"x_t at t = {t}": x_t, "its x_0": guess})

    explore(belief, t=range(0, 1000, 20), still=(200, 600, 900))

# %% [markdown]
# **Half the training.** Call `train_unet` with `STEPS // 2` steps and compare its digits with
# `averaged[round(STEPS * 0.5)]`, those of the long run after equally many steps. Which are better, and what does the
# learning rate have to do with it?
#
# **Another target.** In a copy of `train_unet`, replace `v_target` by `lambda x_0, eps, abar_t: eps`. `draw_digits` and
# `errors` take every network for one that predicts $v$, so turn its answer into $v$ first:
# $v = (\varepsilon - \sqrt{1-\bar\alpha_t}\,x_t)/\sqrt{\bar\alpha_t}$. At $t = 999$ the divisor is nearly 0 and blows
# up every error, so do not let it fall below 0.01. At which timesteps is its error in $x_0$ larger than before? Compare
# with the plot of the weights.
#
# ## Summary
#
# - $x_t$, $x_0$, $\varepsilon$ and $v$ are tied by two linear equations. Any two give the others. For $v$ they form a
#   rotation, which never divides by a small number.
# - Comparing $x_{t-1}$, $\varepsilon$, $x_0$ or $v$ is one objective with different weights over the timesteps:
#   relative to $x_0$ they are $w_t\,\mathrm{SNR}_t$, $\mathrm{SNR}_t$, 1 and $\mathrm{SNR}_t + 1$.
# - A training step is: noise the image, ask, compare, clear, backward, step. One keeps an average of the weights.
# - Look at the loss by timestep, never at the mean alone.
#
# The shipped checkpoint was made in this way. `labdiff train` in a terminal trains it again, with more steps than you
# had patience for. Lab 4 builds the sampler that you borrowed here.
#
# ## Further reading
#
# - J. Ho, A. Jain, P. Abbeel. *Denoising Diffusion Probabilistic Models*. NeurIPS 2020. arXiv:2006.11239.
# - T. Salimans, J. Ho. *Progressive Distillation for Fast Sampling of Diffusion Models*. ICLR 2022. arXiv:2202.00512.
# - T. Karras, M. Aittala, T. Aila, S. Laine. *Elucidating the Design Space of Diffusion-Based Generative Models*.
#   NeurIPS 2022. arXiv:2206.00364.
# - T. Hang, S. Gu, C. Li, J. Bao, D. Chen, H. Hu, X. Geng, B. Guo. *Efficient Diffusion Training via Min-SNR Weighting
#   Strategy*. ICCV 2023. arXiv:2303.09556.
# - D. Kingma, R. Gao. *Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation*. NeurIPS 2023.
#   arXiv:2303.00848.
# - B. Polyak, A. Juditsky. *Acceleration of Stochastic Approximation by Averaging*. SIAM Journal on Control and
#   Optimization 30(4), 1992.
# - I. Loshchilov, F. Hutter. *Decoupled Weight Decay Regularization*. ICLR 2019. arXiv:1711.05101.
