"""The reference gives what diffusers and torchmetrics give, to 1e-5, and what theory demands."""

from __future__ import annotations

import pytest
import torch

from labdiff.reference.lab1_forward import (
    compute_alphas_cumprod,
    cosine_betas,
    extract,
    linear_betas,
    posterior_mean,
    posterior_variance,
    q_sample,
)
from labdiff.reference.lab3_training import eps_from_v, eps_from_x0, v_target, x0_from_eps, x0_from_v, x_prev_from_eps
from labdiff.reference.lab4_sampling import (
    ancestral_sample,
    ddim_sample,
    ddim_sigma,
    ddim_step,
    ddim_timesteps,
    frechet_distance,
    make_denoiser,
    p_mean_variance,
    p_sample,
)
from labdiff.reference.lab5_guidance import guide, rescale_guidance
from labdiff.reference.lab6_text_to_image import CrossAttention, kl_divergence

diffusers = pytest.importorskip("diffusers")

# In float64, because 1 - abar cancels near t = 0: there float32 is good for 5e-4 only, ours and theirs alike.
T = 1000
BETAS = cosine_betas(T).double()
ABAR = compute_alphas_cumprod(BETAS)
DENOISE = make_denoiser(lambda x, t: torch.tanh(x.flip(-1) + 0.1 * torch.sin(t.float()).reshape(-1, 1, 1, 1)), ABAR)


def network(x, t):
    """Any function of x and t may stand for a network that says v."""
    return torch.tanh(x.flip(-1) + 0.1 * torch.sin(t.float()).reshape(-1, 1, 1, 1))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(ours, theirs, tolerance=1e-5):
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, check_dtype=False)


def in_float64(scheduler):
    """The same scheduler, computing with our betas in float64."""
    scheduler.betas, scheduler.alphas, scheduler.alphas_cumprod = BETAS, 1 - BETAS, ABAR
    scheduler.one = torch.ones((), dtype=torch.float64)
    scheduler.final_alpha_cumprod = scheduler.one
    return scheduler


@pytest.mark.parametrize(
    "ours, theirs", [(linear_betas(T), "linear"), (cosine_betas(T), "squaredcos_cap_v2")], ids=["linear", "cosine"]
)
def test_schedules(ours, theirs):
    scheduler = diffusers.DDPMScheduler(T, beta_schedule=theirs)
    close(ours, scheduler.betas)
    close(compute_alphas_cumprod(ours), scheduler.alphas_cumprod)


def test_q_sample_and_the_velocity():
    scheduler = in_float64(diffusers.DDPMScheduler(T))
    x_0, noise, t = normal(5, 1, 8, 8), normal(5, 1, 8, 8, seed=1), torch.tensor([0, 10, 500, 998, 999])
    abar_t = extract(ABAR, t, x_0)
    close(q_sample(x_0, abar_t, noise), scheduler.add_noise(x_0, noise, t))
    close(v_target(x_0, noise, abar_t), scheduler.get_velocity(x_0, noise, t))


@pytest.mark.parametrize("t", [1, 2, 10, 500, 990])
def test_the_posterior(t):
    """diffusers' ancestral step, told the true noise, has the posterior's mean and variance."""
    scheduler = in_float64(diffusers.DDPMScheduler(T, clip_sample=False))
    x_0, eps = normal(2, 1, 8, 8), normal(2, 1, 8, 8, seed=1)
    x_t = q_sample(x_0, ABAR[t], eps)
    ours = posterior_mean(x_0, x_t, BETAS[t], ABAR[t], ABAR[t - 1])
    noise = normal(2, 1, 8, 8, seed=2)
    theirs = scheduler.step(eps, t, x_t, generator=torch.Generator().manual_seed(2)).prev_sample
    close(p_sample(ours, posterior_variance(BETAS, ABAR)[t], noise, t), theirs)
    close(x_prev_from_eps(x_t, eps, BETAS[t], ABAR[t]), ours)


@pytest.mark.parametrize("fixed", ["small", "large"])
@pytest.mark.parametrize("t", [0, 1, 2, 10, 500, 998, 999])
def test_one_ancestral_step(fixed, t):
    scheduler = in_float64(
        diffusers.DDPMScheduler(
            T, prediction_type="v_prediction", variance_type=f"fixed_{fixed}", clip_sample=True, clip_sample_range=1.0
        )
    )
    x_t = normal(3, 1, 8, 8)
    previous = ABAR[t - 1] if t else torch.ones(())
    mean, variance = p_mean_variance(x_t, DENOISE(x_t, t), BETAS[t], ABAR[t], previous, fixed)
    ours = p_sample(mean, variance, normal(3, 1, 8, 8, seed=5), t)
    said = network(x_t, torch.full((3,), t))
    theirs = scheduler.step(said, t, x_t, generator=torch.Generator().manual_seed(5)).prev_sample
    close(ours, theirs)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("calls", [10, 50])
def test_a_whole_ddim_run(calls, eta):
    scheduler = in_float64(
        diffusers.DDIMScheduler(
            T, prediction_type="v_prediction", clip_sample=True, set_alpha_to_one=True, timestep_spacing="trailing"
        )
    )
    scheduler.set_timesteps(calls)
    x = x_T = normal(3, 1, 8, 8)
    generator = torch.Generator().manual_seed(5)
    for t in scheduler.timesteps:
        options = {"eta": eta, "generator": generator, "use_clipped_model_output": True}
        x = scheduler.step(network(x, t.expand(3)), t, x, **options).prev_sample
    ours = ddim_sample(DENOISE, x_T, scheduler.timesteps.tolist(), ABAR, eta, torch.Generator().manual_seed(5))
    close(ours, x)


@pytest.mark.parametrize("n", [2, 4, 10, 20, 50, 100, 1000])
def test_timesteps(n):
    scheduler = diffusers.DDIMScheduler(T, timestep_spacing="linspace")
    scheduler.set_timesteps(n)
    assert ddim_timesteps(T, n) == scheduler.timesteps.tolist()


def test_the_frechet_distance_is_that_of_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    a, b = normal(400, 64).relu() @ normal(64, 64, seed=1) / 8, normal(300, 64, seed=2) @ normal(64, 64, seed=3) / 8
    parts = [f(x) for x in (a, b) for f in (lambda x: x.mean(0), lambda x: x.T.cov())]
    assert float(frechet_distance(a, b)) == pytest.approx(float(fid._compute_fid(*parts)), rel=1e-5)


def test_the_kl_term_is_that_of_diffusers_autoencoder():
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    moments = normal(3, 8, 4, 4)
    theirs = DiagonalGaussianDistribution(moments).kl() / (4 * 4 * 4)  # they add up, we take the mean
    close(kl_divergence(*moments.chunk(2, dim=1)), theirs.mean())


def test_cross_attention_is_that_of_torch():
    module = CrossAttention(16, 24, heads=4).double()
    torch.nn.init.normal_(module.out.weight, generator=torch.Generator().manual_seed(0))
    x, words = normal(2, 16, 4, 4), normal(2, 7, 24, seed=1)
    q = module.q(module.norm(x)).flatten(2).transpose(1, 2)  # (B, HW, C)
    k, v = module.kv(words).chunk(2, dim=-1)  # (B, L, C)
    q, k, v = (each.unflatten(-1, (4, 4)).transpose(1, 2) for each in (q, k, v))  # (B, heads, places, d)
    h = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, HW, C)
    close(module(x, words), x + module.out(h.transpose(1, 2).unflatten(-1, (4, 4))))


# --- what theory demands ----------------------------------------------------------------------


@pytest.mark.parametrize("t", [1, 2, 50, 500, 998])
def test_ddim_with_eta_1_over_all_steps_is_ancestral_sampling(t):
    x_t, x_0, noise = normal(3, 1, 8, 8), normal(3, 1, 8, 8, seed=1).clamp(-1, 1), normal(3, 1, 8, 8, seed=2)
    mean, variance = p_mean_variance(x_t, x_0, BETAS[t], ABAR[t], ABAR[t - 1])
    sigma = ddim_sigma(ABAR[t], ABAR[t - 1], 1.0)
    close(p_sample(mean, variance, noise, t), ddim_step(x_t, x_0, ABAR[t], ABAR[t - 1], sigma, noise))


def gaussian(mean, deviation):
    """The exact denoiser of data N(mean, deviation^2)."""

    def denoise(x_t, t):
        a = ABAR[t]
        gain = deviation**2 * a.sqrt() / (a * deviation**2 + 1 - a)
        return mean + gain * (x_t - a.sqrt() * mean)

    return denoise


def test_fully_rescaled_guidance_has_the_deviation_of_the_conditional_prediction():
    guided, conditional = normal(3, 4, 8, 8) * 5 + 1, normal(3, 4, 8, 8, seed=1) * 0.5
    close(rescale_guidance(guided, conditional, 1.0).std((1, 2, 3)), conditional.std((1, 2, 3)))
    close(rescale_guidance(guided, conditional, 0.0), guided)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_guidance_with_the_scales_0_and_1_draws_all_data_and_that_of_the_label(scale):
    """Two labels, two Gaussians as far apart as to be one with a larger deviation, whose exact denoisers are known."""
    told, all_data = gaussian(0.3, 0.1), gaussian(0.0, 0.4)

    def denoise(x_t, t):
        return guide(all_data(x_t, t), told(x_t, t), scale)

    drawn = ddim_sample(denoise, normal(64, 1, 16, 16), ddim_timesteps(T, 200), ABAR)
    mean, deviation = (0.3, 0.1) if scale else (0.0, 0.4)
    assert drawn.mean().item() == pytest.approx(mean, abs=0.01)
    assert drawn.std().item() == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_exact_denoiser_of_gaussian_data_draws_that_gaussian(eta):
    x_T = normal(64, 1, 16, 16)
    drawn = ddim_sample(gaussian(0.4, 0.25), x_T, ddim_timesteps(T, 200), ABAR, eta, torch.Generator().manual_seed(1))
    assert drawn.mean().item() == pytest.approx(0.4, abs=0.01)
    assert drawn.std().item() == pytest.approx(0.25, rel=0.03)


def test_an_exact_denoiser_of_one_data_point_draws_that_point():
    point = normal(1, 1, 8, 8).clamp(-1, 1)

    def denoise(x_t, t):
        return point.expand_as(x_t)

    for n in (1, 2, 20):
        close(ddim_sample(denoise, normal(3, 1, 8, 8), ddim_timesteps(T, n), ABAR), point.expand(3, -1, -1, -1))

    def p_step(x, t):
        previous = ABAR[t - 1] if t else torch.ones(())
        return p_sample(*p_mean_variance(x, denoise(x, t), BETAS[t], ABAR[t], previous), torch.randn_like(x), t)

    close(ancestral_sample(p_step, normal(3, 1, 8, 8), T)[0], point.expand(3, -1, -1, -1))


@pytest.mark.parametrize("abar", [0.999, 0.7, 0.2, 0.01])
def test_conversions_undo_each_other(abar):
    abar_t = torch.full((2, 1, 1, 1), abar, dtype=torch.float64)
    x_0, eps = normal(2, 1, 8, 8), normal(2, 1, 8, 8, seed=1)
    x_t, v = q_sample(x_0, abar_t, eps), v_target(x_0, eps, abar_t)
    close(x0_from_v(x_t, v, abar_t), x_0)
    close(eps_from_v(x_t, v, abar_t), eps)
    close(x0_from_eps(x_t, eps, abar_t), x_0)
    close(eps_from_x0(x_t, x_0, abar_t), eps)
