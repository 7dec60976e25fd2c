"""Mistakes that nobody wrote: every answer with one small change, and what the checks say of it.

Changed is what a student writes, and the defaults of a function; what the release gives, such as a module's
`__init__`, is not asked. A mutant is caught where it does not get full marks on inputs of a hidden seed. One
that is not caught either does the same as the reference on every input that its docstring allows, or marks a
hole in the checks. Both are listed here, so that a new one has to be looked at.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mutation
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mutation import Mutant
from support import ALL, ROOT, reference

from labdiff import exercises
from labdiff.authoring.source import BEGIN, END
from labdiff.checking.judge import judge
from labdiff.checking.run import Output, run_probe
from labdiff.checking.verdict import RIGHT
from labdiff.exercises import Exercise

SEEDS = (20_261, 20_262)
SECONDS = 2.0
AT_LEAST = 0.98
CODE = [e for e in ALL if not e.name.startswith("predict_")]
each_exercise = pytest.mark.parametrize("exercise", CODE, ids=lambda e: e.name)

EQUIVALENT = {
    "cosine, square and absolute value are even, and the sine is odd on both sides of a fraction": """
        cosine_betas: f = -torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
        cosine_betas: f = (-torch.cos((u + s) / (1 + s) * math.pi / 2)) ** 2
        cosine_betas: f = torch.cos(-((u + s) / (1 + s) * math.pi / 2)) ** 2
        cosine_betas: f = torch.cos(-((u + s) / (1 + s) * math.pi) / 2) ** 2
        cosine_betas: f = torch.cos(-((u + s) / (1 + s)) * math.pi / 2) ** 2
        cosine_betas: f = torch.cos(-(u + s) / (1 + s) * math.pi / 2) ** 2
        cosine_betas: f = torch.cos((u + s) / -(1 + s) * math.pi / 2) ** 2
        cosine_betas: f = torch.cos((u + s) / (1 + s) * math.pi / -2) ** 2
        timestep_embedding: return torch.cat([angles.sin(), (-angles).cos()], dim=1)
        x_prev_weight: return (-beta_t) ** 2 / ((1 - beta_t) * (1 - abar_t))
        diffusion_loss: error = (target.float() - prediction.float()).square()
        diffusion_loss: error = (-(prediction.float() - target.float())).square()
        ddim_step: kept = (1 - abar_prev - (-sigma_t) ** 2).clamp(min=0).sqrt()
        slerp: lengths = (-a).square().sum(axes, keepdim=True).sqrt() * b.square().sum(axes, keepdim=True).sqrt()
        slerp: lengths = a.square().sum(axes, keepdim=True).sqrt() * (-b).square().sum(axes, keepdim=True).sqrt()
        slerp: theta = -cosine.arccos()
        frechet_distance: return ((b.mean(0) - a.mean(0)).square().sum() + S_a.trace() + S_b.trace() - 2 * roots).item()
        frechet_distance: return ((-(a.mean(0) - b.mean(0))).square().sum() + S_a.trace() + S_b.trace() - 2 * roots).item()
        guided_loss: return (v_target(x_0, eps, abar_t) - v.float()).square().mean()
        guided_loss: return (-(v.float() - v_target(x_0, eps, abar_t))).square().mean()
        kl_divergence: return 0.5 * ((-mean).square() + log_variance.exp() - 1 - log_variance).mean()
        latent_loss: return F.mse_loss(v_target(z_0, eps, abar_t), model(z_t, t, tokens))
        edit_distance: return (original - edited).square().mean(dim=(1, 2, 3)).sqrt()
        edit_distance: return (-(edited - original)).square().mean(dim=(1, 2, 3)).sqrt()
        known_change: return (-(mask * (edited - original))).abs().max().item()
        known_change: return (-mask * (edited - original)).abs().max().item()
        known_change: return (mask * (original - edited)).abs().max().item()
        known_change: return (mask * -(edited - original)).abs().max().item()
    """,  # noqa: E501
    "only the shape, the dtype or the device of it is used": """
        posterior_variance: previous = torch.cat([torch.ones_like(-alphas_cumprod[:1]), alphas_cumprod[:-1]])
        posterior_variance: previous = torch.cat([torch.ones_like(alphas_cumprod[-1:]), alphas_cumprod[:-1]])
        posterior_variance: previous = torch.cat([torch.ones_like((-alphas_cumprod)[:1]), alphas_cumprod[:-1]])
        posterior_variance: previous = torch.cat([torch.ones_like(betas[:1]), alphas_cumprod[:-1]])
        posterior_variance: previous = torch.cat([torch.ones_like((1 - alphas_cumprod)[:1]), alphas_cumprod[:-1]])
        posterior_variance: previous = torch.cat([torch.ones_like(alphas_cumprod.sqrt()[:1]), alphas_cumprod[:-1]])
        attention: scores = q.transpose(-1, -2) @ k / math.sqrt(k.shape[-2])
        attention: scores = q.transpose(-1, -2) @ k / math.sqrt(v.shape[-2])
        train_step: abar_t = extract(alphas_cumprod, t, -x_0)
        train_step: abar_t = extract(alphas_cumprod, t, eps)
        train_step: abar_t = extract(alphas_cumprod, t, 1 - x_0)
        train_step: abar_t = extract(alphas_cumprod, t, x_0.sqrt())
        train_epoch: for i in range(len(-order) // batch_size):
        train_epoch: for i in range(len(1 - order) // batch_size):
        train_epoch: for i in range(len(order.sqrt()) // batch_size):
        loss_by_timestep: total = torch.zeros(bins, device=t.device).index_add(0, index, losses)
        loss_by_timestep: total = torch.zeros(bins, device=index.device).index_add(0, index, losses)
        ddim_loop: abar_prev = torch.ones_like(-abar_t) if after is None else alphas_cumprod[after]
        ddim_loop: abar_prev = torch.ones_like(x_T) if after is None else alphas_cumprod[after]
        ddim_loop: abar_prev = torch.ones_like(x) if after is None else alphas_cumprod[after]
        ddim_loop: abar_prev = torch.ones_like(1 - abar_t) if after is None else alphas_cumprod[after]
        ddim_loop: abar_prev = torch.ones_like(abar_t.sqrt()) if after is None else alphas_cumprod[after]
        slerp: axes = tuple(range(1, b.dim()))
        guided_loss: abar_t = extract(alphas_cumprod, t, -x_0)
        guided_loss: abar_t = extract(alphas_cumprod, t, eps)
        guided_loss: abar_t = extract(alphas_cumprod, t, 1 - x_0)
        guided_loss: abar_t = extract(alphas_cumprod, t, x_0.sqrt())
        both_predictions: labels = torch.cat([torch.full_like(-y, null), y])
        both_predictions: labels = torch.cat([torch.full_like(t, null), y])
        both_predictions: labels = torch.cat([torch.full_like(1 - y, null), y])
        rescale_guidance: axes = tuple(range(1, conditional.dim()))
        guided_guess: both = torch.cat([negative.expand_as(-context), context])
        guided_guess: both = torch.cat([negative.expand_as(1 - context), context])
        guided_guess: both = torch.cat([negative.expand_as(context.sqrt()), context])
        attention_maps: return weights.mean(1).transpose(1, 2).reshape(len(-weights), -1, height, width)
        attention_maps: return weights.mean(1).transpose(1, 2).reshape(len(1 - weights), -1, height, width)
        attention_maps: return weights.mean(1).transpose(1, 2).reshape(len(weights.sqrt()), -1, height, width)
        repaint_loop: abar_prev = torch.ones_like(-abar_t) if after is None else alphas_cumprod[after]
        repaint_loop: abar_prev = torch.ones_like(1 - abar_t) if after is None else alphas_cumprod[after]
        repaint_loop: abar_prev = torch.ones_like(abar_t.sqrt()) if after is None else alphas_cumprod[after]
        picture_of: sheet = torch.zeros(lines * columns, H, W, dtype=torch.uint8, device=pixels.device)
        sample_ancestral: before = torch.cat([torch.ones_like(-betas[:1]), alphas_cumprod[:-1]])
        sample_ancestral: before = torch.cat([torch.ones_like(betas[-1:]), alphas_cumprod[:-1]])
        sample_ancestral: before = torch.cat([torch.ones_like((-betas)[:1]), alphas_cumprod[:-1]])
        sample_ancestral: before = torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])
        sample_ancestral: before = torch.cat([torch.ones_like((1 - betas)[:1]), alphas_cumprod[:-1]])
        sample_ancestral: before = torch.cat([torch.ones_like(betas.sqrt()[:1]), alphas_cumprod[:-1]])
        sample_ancestral: for t in reversed(range(len(-betas))):
        sample_ancestral: for t in reversed(range(len(noise))):
        sample_ancestral: for t in reversed(range(len(alphas_cumprod))):
        sample_ancestral: for t in reversed(range(len(before))):
        sample_ancestral: for t in reversed(range(len(1 - betas))):
        sample_ancestral: for t in reversed(range(len(betas.sqrt()))):
        clean_guess: image_weight = torch.exp(-0.5 * log_abar).to(-x_t)
        clean_guess: image_weight = torch.exp(-0.5 * log_abar).to(1 - x_t)
        clean_guess: image_weight = torch.exp(-0.5 * log_abar).to(x_t.sqrt())
        clean_guess: noise_weight = torch.exp(0.5 * (log_rest - log_abar)).to(-x_t)
        clean_guess: noise_weight = torch.exp(0.5 * (log_rest - log_abar)).to(image_weight)
        clean_guess: noise_weight = torch.exp(0.5 * (log_rest - log_abar)).to(1 - x_t)
        clean_guess: noise_weight = torch.exp(0.5 * (log_rest - log_abar)).to(x_t.sqrt())
        clean_guess: x_0 = extract(image_weight, t, -x_t) * x_t - extract(noise_weight, t, x_t) * eps
        clean_guess: x_0 = extract(image_weight, t, eps) * x_t - extract(noise_weight, t, x_t) * eps
        clean_guess: x_0 = extract(image_weight, t, 1 - x_t) * x_t - extract(noise_weight, t, x_t) * eps
        clean_guess: x_0 = extract(image_weight, t, x_t.sqrt()) * x_t - extract(noise_weight, t, x_t) * eps
        clean_guess: x_0 = extract(image_weight, t, x_t) * x_t - extract(noise_weight, t, -x_t) * eps
        clean_guess: x_0 = extract(image_weight, t, x_t) * x_t - extract(noise_weight, t, eps) * eps
        clean_guess: x_0 = extract(image_weight, t, x_t) * x_t - extract(noise_weight, t, 1 - x_t) * eps
        clean_guess: x_0 = extract(image_weight, t, x_t) * x_t - extract(noise_weight, t, x_t.sqrt()) * eps
        training_pairs: t = random_timesteps(u, len(-alphas_cumprod))
        training_pairs: t = random_timesteps(u, len(1 - alphas_cumprod))
        training_pairs: t = random_timesteps(u, len(alphas_cumprod.sqrt()))
        training_pairs: return (q_sample(x_0, extract(alphas_cumprod, t, -x_0), eps), t, eps)
        training_pairs: return (q_sample(x_0, extract(alphas_cumprod, t, eps), eps), t, eps)
        training_pairs: return (q_sample(x_0, extract(alphas_cumprod, t, 1 - x_0), eps), t, eps)
        training_pairs: return (q_sample(x_0, extract(alphas_cumprod, t, x_0.sqrt()), eps), t, eps)
    """,
    "another name for the same axis, or for the same thing": """
        compute_alphas_cumprod: return torch.cumprod(1 - betas, dim=-1)
        timestep_embedding: return torch.cat([angles.sin(), angles.cos()], dim=-1)
        timestep_embedding: half = dim / 2
        timestep_embedding: angles = t[:, None].float() * frequencies
        timestep_embedding: angles = t[:, None].float() * frequencies[:,]
        timestep_embedding: angles = t[:, None].float() * frequencies[None,]
        attention: scores = q.transpose(-2, -1) @ k / math.sqrt(q.shape[-2])
        attention: scores = q.swapaxes(-1, -2) @ k / math.sqrt(q.shape[-2])
        attention: scores = q.transpose(-1, 2) @ k / math.sqrt(q.shape[-2])
        attention: scores = q.transpose(-1, --2) @ k / math.sqrt(q.shape[-2])
        attention: scores = q.transpose(-1, -2) @ k / math.sqrt(q.shape[2])
        attention: scores = q.transpose(-1, -2) @ k / math.sqrt(q.shape[--2])
        attention: return v @ weights.transpose(-2, -1), weights
        attention: return v @ weights.swapaxes(-1, -2), weights
        attention: return v @ weights.transpose(-1, 2), weights
        attention: return v @ weights.transpose(-1, --2), weights
        patchify: x = x.reshape(C, B, H // patch, patch, W // patch, patch)
        patchify: x = x.permute(0, 1, -3, 5, 2, 4)
        Upsample: return self.conv(F.interpolate(x, scale_factor=2))
        UNet: h = block(h, emb) if -isinstance(block, Stage) else block(h)
        UNet: h = block(torch.cat([h, skips.pop()], dim=1), emb) if -isinstance(block, Stage) else block(h)
        diffusion_loss: per_image = error.flatten(1).mean(dim=-1)
        loss_by_timestep: total = torch.zeros(bins, device=losses.device).index_add(-1, index, losses)
        loss_by_timestep: total = (-torch.zeros(bins, device=losses.device)).index_add(0, index, losses)
        ddim_timesteps: return torch.linspace(T - 1, 0, n).round().int().tolist()
        confident_share: return (logits.softmax(dim=-1).amax(dim=1) > threshold).float().mean().item()
        confident_share: return (logits.softmax(dim=1).amax(dim=-1) > threshold).float().mean().item()
        frechet_distance: S_a, S_b = a.mT.cov(), b.T.cov()
        frechet_distance: S_a, S_b = a.T.cov(), b.mT.cov()
        share_as_asked: return (probabilities.argmax(dim=-1) == y).float().mean().item()
        manifold_radii: return distance.sort().values[:, k]
        manifold_radii: return distance.sort(dim=-1).values[:, k]
        share_inside: return inside.any(dim=-1).float().mean().item()
        CrossAttention: k, v = self.kv(context).transpose(2, 1).reshape(B, 2, self.heads, C // self.heads, -1).unbind(1)
        CrossAttention: k, v = self.kv(context).swapaxes(1, 2).reshape(B, 2, self.heads, C // self.heads, -1).unbind(1)
        attention_maps: return weights.mean(1).transpose(2, 1).reshape(len(weights), -1, height, width)
        attention_maps: return weights.mean(1).swapaxes(1, 2).reshape(len(weights), -1, height, width)
        edit_distance: return (edited - original).square().mean(dim=(2, 1, 3)).sqrt()
        edit_distance: return (edited - original).square().mean(dim=(3, 2, 1)).sqrt()
        edit_distance: return (edited - original).square().mean(dim=(1, 3, 2)).sqrt()
        edit_distance: return (edited - original).square().mean(dim=(1, -2, 3)).sqrt()
        schedule_for: return (betas, torch.cumprod(1 - betas, dim=-1))
        picture_of: sheet = -torch.zeros(lines * columns, H, W, dtype=torch.uint8, device=images.device)
        picture_of: sheet[:B] = pixels[:, -1].to(torch.uint8)
        picture_of: return sheet.reshape(lines, columns, H, W).transpose(2, 1).reshape(lines * H, columns * W)
        picture_of: return sheet.reshape(lines, columns, H, W).swapaxes(1, 2).reshape(lines * H, columns * W)
        picture_of: return sheet.reshape(lines, columns, H, W).transpose(1, -2).reshape(lines * H, columns * W)
        sample_ancestral: alphas_cumprod = torch.cumprod(1 - betas, dim=-1)
        clean_guess: log_abar = torch.log1p(-betas.double()).cumsum(dim=-1)
        training_pairs: t = random_timesteps(len(alphas_cumprod), u)
    """,
    "a matrix product of matrices of one number, or of a column and a row": """
        posterior_mean: weight_0 = abar_prev.sqrt() @ beta_t / (1 - abar_t)
        posterior_mean: weight_t = (1 - beta_t).sqrt() @ (1 - abar_prev) / (1 - abar_t)
        timestep_embedding: angles = t[:, None].float() @ frequencies[None, :]
        p_mean_variance: small = beta_t @ (1 - abar_prev) / (1 - abar_t)
        slerp: lengths = a.square().sum(axes, keepdim=True).sqrt() @ b.square().sum(axes, keepdim=True).sqrt()
    """,
    "it is float32 already, or precise enough": """
        cosine_betas: u = torch.linspace(0, 1, T + 1)
        cosine_betas: u = torch.linspace(0, 1, T + 1, dtype=torch.float32)
        timestep_embedding: angles = t[:, None] * frequencies[None, :]
        diffusion_loss: error = (prediction - target.float()).square()
        diffusion_loss: error = (prediction.float() - target).square()
        confident_share: return (logits.softmax(dim=1).amax(dim=1) > threshold).double().mean().item()
        frechet_distance: return ((features_a.mean(0) - b.mean(0)).square().sum() + S_a.trace() + S_b.trace() - 2 * roots).item()
        frechet_distance: return ((a.mean(0) - features_b.mean(0)).square().sum() + S_a.trace() + S_b.trace() - 2 * roots).item()
        share_as_asked: return (probabilities.argmax(dim=1) == y).double().mean().item()
        guided_loss: return (v - v_target(x_0, eps, abar_t)).square().mean()
        share_inside: return inside.any(dim=1).double().mean().item()
        clean_guess: log_abar = torch.log1p(-betas).cumsum(dim=0)
        clean_guess: log_abar = torch.log1p(-betas.float()).cumsum(dim=0)
    """,  # noqa: E501
    "the result never leaves [-1, 1], or has no axis of length 1": """
        linear_betas: return torch.linspace(beta_start, beta_end, T).clamp(-1, 1)
        cosine_betas: return (1 - f[1:] / f[:-1]).clamp(max=max_beta).float().clamp(-1, 1)
        compute_alphas_cumprod: return torch.cumprod(1 - betas, dim=0).clamp(-1, 1)
        posterior_variance: return (betas * (1 - previous) / (1 - alphas_cumprod)).clamp(-1, 1)
        timestep_embedding: return torch.cat([angles.sin(), angles.cos()], dim=1).clamp(-1, 1)
        ddim_sigma: return (eta * ((1 - abar_prev) / (1 - abar_t)).sqrt() * (1 - abar_t / abar_prev).sqrt()).clamp(-1, 1)
        diffusion_loss: return per_image.mean().squeeze()
        guided_loss: return (v.float() - v_target(x_0, eps, abar_t)).square().mean().squeeze()
        manifold_radii: return distance.sort(dim=1).values[:, k].squeeze()
        kl_divergence: return (0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()).squeeze()
        latent_scale: return (1 / latents.std()).squeeze()
        decode_latents: return decoder(z / scale).clamp(-1, 1).clamp(-1, 1)
        latent_loss: return F.mse_loss(model(z_t, t, tokens), v_target(z_0, eps, abar_t)).squeeze()
        attention_maps: return weights.mean(1).transpose(1, 2).reshape(len(weights), -1, height, width).clamp(-1, 1)
        clean_guess: return x_0.clamp(-1, 1).clamp(-1, 1)
        latent_round_trip: return decode(z / scale + shift).clamp(-1, 1).clamp(-1, 1)
    """,  # noqa: E501
    "it changes only what the answer itself has made": """
        cosine_betas: f = torch.cos(u.add_(s) / (1 + s) * math.pi / 2) ** 2
        ResBlock: h = h.add_(self.time(F.silu(emb))[:, :, None, None])
        loss_by_timestep: return total.div_(count.clamp(min=1))
        ema_update: -average.mul_(decay).add_(current, alpha=1 - decay)
        sample_ancestral: x = x.add_(betas[t].sqrt() * noise[t])
        clean_guess: noise_weight = torch.exp(0.5 * log_rest.sub_(log_abar)).to(x_t)
        averaged_training: -average[name].lerp_(p.detach(), 1 - decay)
    """,
    "the same for every value that may come in": """
        diffusion_loss: def diffusion_loss(prediction, target, weight=1):
        train_step: model.zero_grad()
        ema_update: for average, current in zip(ema.parameters(), model.parameters()):
        ema_update: for average, current in zip(ema.parameters(), model.parameters(), strict=False):
        learning_rate: return peak * min((steps - step) / (steps - warmup), (step + 1) / warmup)
        p_mean_variance: return posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev), small if fixed >= "small" else beta_t
        p_sample: return mean + variance.sqrt() * noise if t != 0 else mean
        ddim_loop: for t, after in zip(timesteps, [*timesteps[1:], None]):
        ddim_loop: for t, after in zip(timesteps, [*timesteps[1:], None], strict=False):
        repaint_loop: for t, after in zip(timesteps, [*timesteps[1:], None]):
        repaint_loop: for t, after in zip(timesteps, [*timesteps[1:], None], strict=False):
        repaint_loop: if i != 0:
        sample_ancestral: if t != 0:
        averaged_training: if i % every <= 0:
    """,  # noqa: E501
    "a cosine beyond 1 takes the straight line, at -1 no arc is defined, near 0.9995 line and arc agree": """
        slerp: cosine = (a * b).sum(axes, keepdim=True) / lengths
        slerp: cosine = ((a * b).sum(axes, keepdim=True) / lengths).clamp(-1)
        slerp: cosine = ((a * b).sum(axes, keepdim=True) / lengths).clamp(-2, 1)
        slerp: cosine = ((a * b).sum(axes, keepdim=True) / lengths).clamp(-1, 2)
        slerp: return torch.where(cosine >= 0.9995, (1 - w) * a + w * b, arc)
        slerp: return torch.where(cosine.sqrt() > 0.9995, (1 - w) * a + w * b, arc)
    """,
    "a distance does not depend on the order of the sets, a covariance or a deviation on no sign and no shift": """
        frechet_distance: b, a = features_a.double(), features_b.double()
        frechet_distance: a, b = features_b.double(), features_a.double()
        frechet_distance: S_b, S_a = a.T.cov(), b.T.cov()
        frechet_distance: S_a, S_b = b.T.cov(), a.T.cov()
        frechet_distance: S_a, S_b = (-a).T.cov(), b.T.cov()
        frechet_distance: S_a, S_b = (1 - a).T.cov(), b.T.cov()
        frechet_distance: S_a, S_b = a.T.cov(), (-b).T.cov()
        frechet_distance: S_a, S_b = a.T.cov(), (1 - b).T.cov()
        frechet_distance: roots = torch.linalg.eigvals(S_b @ S_a).sqrt().real.sum()
        rescale_guidance: ratio = (-conditional).std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
        rescale_guidance: ratio = (1 - conditional).std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
        rescale_guidance: ratio = conditional.std(dim=axes, keepdim=True) / (-guided).std(dim=axes, keepdim=True)
        rescale_guidance: ratio = conditional.std(dim=axes, keepdim=True) / (1 - guided).std(dim=axes, keepdim=True)
        latent_scale: return 1 / (-latents).std()
        latent_scale: return 1 / (1 - latents).std()
    """,
    "a tensor of no axes is taken for the number in it": """
        confident_share: return (logits.softmax(dim=1).amax(dim=1) > threshold).float().mean()
        frechet_distance: return (a.mean(0) - b.mean(0)).square().sum() + S_a.trace() + S_b.trace() - 2 * roots
        share_as_asked: return (probabilities.argmax(dim=1) == y).float().mean()
        share_inside: return inside.any(dim=1).float().mean()
        label_information: return -0.5 * torch.trapezoid(snr * gap, snr.log())
        known_change: return (mask * (edited - original)).abs().max()
    """,
    "a mask of 0 and 1 is its own root, and a root keeps the order": """
        share_as_asked: return (probabilities.sqrt().argmax(dim=1) == y).float().mean().item()
        share_inside: return inside.sqrt().any(dim=1).float().mean().item()
        combine_known: return mask.sqrt() * q_sample(x_0, abar_prev, noise) + (1 - mask) * x_prev
        combine_known: return mask * q_sample(x_0, abar_prev, noise) + (1 - mask.sqrt()) * x_prev
        known_change: return (mask.sqrt() * (edited - original)).abs().max().item()
    """,
    "a message may say more, or less, than the word": """
        tokenise: raise ValueError(word)
        tokenise: raise ValueError()
        tokenise: raise ValueError(unknown_word(word, text))
        tokenise: raise ValueError(unknown_word(word, found))
        tokenise: raise ValueError(unknown_word(word, word))
    """,
    "a beta_start that is not scaled leaves log(abar) within the 12 percent that the contract grants": """
        schedule_for: betas = torch.linspace(0.0001 / scale, 0.02 * scale, T)
        schedule_for: betas = torch.linspace(0.0001 ** scale, 0.02 * scale, T)
        schedule_for: betas = torch.linspace(0.0001 % scale, 0.02 * scale, T)
        schedule_for: betas = torch.linspace(0.0001, 0.02 * scale, T)
    """,
    "an assignment casts as well": """
        picture_of: sheet[:B] = pixels[:, 0]
        picture_of: sheet[:B] = pixels[:, 0].to()
    """,
    "the last mean is the last guess, and the last entry is never asked for": """
        sample_ancestral: return x_0
        sample_ancestral: before = torch.cat([torch.ones_like(betas[:1]), alphas_cumprod])
        sample_ancestral: before = torch.cat([torch.ones_like(betas[:1]), alphas_cumprod[:]])
    """,
    "a multiple of a number is one of its negative, and its negative is one": """
        averaged_training: def averaged_training(network, step, batches, decay, evaluate, every=-1):
        averaged_training: if -(i % every) == 0:
        averaged_training: if -i % every == 0:
        averaged_training: if i % -every == 0:
    """,
    "nobody asks for the gradient of an average": """
        averaged_training: average = {name: p.clone() for name, p in network.named_parameters()}
        averaged_training: average[name].lerp_(p, 1 - decay)
    """,
}

KNOWN_HOLES = {
    "the inputs are on the device where new tensors are made": """
        loss_by_timestep: total = torch.zeros(bins).index_add(0, index, losses)
        picture_of: sheet = torch.zeros(lines * columns, H, W, dtype=torch.uint8)
    """,
    "the message holds the word, among the others of the prompt": """
        tokenise: raise ValueError(unknown_word(text, words))
        tokenise: raise ValueError(unknown_word(found, words))
    """,
}

# Where another number can do the same, or goes unseen: exercise, number, line -> why.
LOOSE = {
    ("cosine_betas", 0, "u = torch.linspace(0, 1, T + 1, dtype=torch.float64)"): "2 does: cos^2 is even about u = 1",
    ("slerp", 1, "cosine = ((a * b).sum(axes, keepdim=True) / lengths).clamp(-1, 1)"): "a cosine never leaves [-1, 1]",
    (
        "slerp",
        0.9995,
        "return torch.where(cosine > 0.9995, (1 - w) * a + w * b, arc)",
    ): "a hole: no angle is smaller than 10 degrees",
}
PAIRS = NUMBERS = 600  # how many are drawn


@dataclasses.dataclass(frozen=True)
class Count:
    """Of the mutants of one exercise: all, those that do the same as the reference, those caught, those missed."""

    lab: str
    exercise: str
    mutants: int
    equivalent: int
    caught: int
    missed: int


COUNTS: list[Count] = []  # filled as the exercises are tried, for a table of all of them


# --- trying a mutant --------------------------------------------------------------------------


@functools.cache
def definition(exercise: Exercise) -> tuple[mutation.Definition, range]:
    """The reference answer, and the lines of it that a student writes."""
    text = (ROOT / "solutions" / exercise.lab / f"{exercise.lab}.py").read_text(encoding="utf-8")
    (node,) = (n for n in ast.parse(text).body if getattr(n, "name", "") == exercise.name)
    lines = text.splitlines()
    begin, end = (next(i for i in range(node.lineno, len(lines)) if mark in lines[i]) for mark in (BEGIN, END))
    return node, range(begin + 1, end + 1)


def written(exercise: Exercise, path: mutation.Path) -> bool:
    """Whether a student writes what stands there; the defaults of a function count too, the checks try them."""
    node, lines = definition(exercise)
    of_signature = isinstance(node, ast.FunctionDef) and path[0][0] == "args"
    return of_signature or getattr(mutation.at(node, path), "lineno", 0) in lines


@functools.cache
def mutants(exercise: Exercise) -> list[Mutant]:
    return mutation.mutants(definition(exercise)[0], functools.partial(written, exercise))


@functools.cache
def expected(exercise: Exercise, seed: int) -> tuple[dict[str, Any], dict[str, Output]]:
    """The inputs of a seed, and what the reference gives on them."""
    inputs = exercise.drawn(seed)
    return inputs, run_probe(exercise, getattr(reference(exercise.lab), exercise.name), inputs)


def survives(exercise: Exercise, source: str) -> bool:
    """Whether an answer gets full marks on both seeds; part by part, since most fail at the first."""
    namespace = dict(vars(reference(exercise.lab)))
    try:
        with time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(source, "<mutant>", "exec"), namespace)
            answer = namespace[exercise.name]
            return all(passes(exercise, answer, seed, part) for seed in SEEDS for part in expected(exercise, seed)[1])
    except (Exception, KeyboardInterrupt):
        return False


def passes(exercise: Exercise, answer: Any, seed: int, part: str) -> bool:
    """Whether an answer passes one part."""

    def one_part(answer: Any, **inputs: Any) -> dict[str, Any]:
        return {part: exercise.probe(answer, **inputs)[part]}

    inputs, outputs = expected(exercise, seed)
    got = run_probe(dataclasses.replace(exercise, probe=one_part), answer, inputs)
    return judge(exercise, got, {part: outputs[part]}).status == RIGHT


@contextmanager
def time_limit() -> Iterator[None]:
    """KeyboardInterrupt after two seconds of computing, where the system can do that; a probe ends at it."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGPROF, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@functools.cache
def survivors(exercise: Exercise) -> list[Mutant]:
    """The mutants that are not caught; counts them on the way."""
    found = [mutant for mutant in mutants(exercise) if survives(exercise, mutant.source)]
    lines = [normal(mutant.line) for mutant in found]
    same = sum(line in listed(EQUIVALENT, exercise) for line in lines)
    everything = len(mutants(exercise))
    COUNTS.append(Count(exercise.lab, exercise.name, everything, same, everything - len(found), len(found) - same))
    return found


def listed(reasons: dict[str, str], exercise: Exercise) -> dict[str, str]:
    """The lines that are listed for an exercise: as they compare -> as they are written."""
    lines = (line.strip() for text in reasons.values() for line in text.strip().splitlines())
    named = (line.split(": ", 1) for line in lines)
    return {normal(line): line for name, line in named if name == exercise.name}


def normal(line: str) -> str:
    """A line as it is in every version of Python, whose `ast.unparse` differ in their parentheses."""
    return ast.dump(ast.parse(line.removeprefix("without ") + (" pass" if line.endswith(":") else "")))


# --- the tests --------------------------------------------------------------------------------


@each_exercise
def test_every_mutant_is_caught_or_listed_with_its_reason(exercise):
    found = {normal(mutant.line): f"{exercise.name}: {mutant.line}" for mutant in survivors(exercise)}
    known = listed(EQUIVALENT, exercise) | listed(KNOWN_HOLES, exercise)
    missed = [line for key, line in found.items() if key not in known]
    assert not missed, "neither caught nor listed:\n" + "\n".join(missed)
    stale = [line for key, line in known.items() if key not in found]
    assert not stale, "listed, but caught or no mutant at all:\n" + "\n".join(stale)


def test_every_listed_line_names_an_exercise():
    lines = " ".join([*EQUIVALENT.values(), *KNOWN_HOLES.values()]).strip().splitlines()
    assert {line.split(":")[0].strip() for line in lines if line.strip()} <= {exercise.name for exercise in CODE}


@pytest.mark.parametrize("lab", [*exercises.LABS, "all labs"])
def test_at_least_98_of_100_mutants_are_caught(lab):
    for exercise in CODE:
        survivors(exercise)
    counts = [count for count in COUNTS if lab in (count.lab, "all labs")]
    wrong = sum(count.mutants - count.equivalent for count in counts)
    assert sum(count.caught for count in counts) >= AT_LEAST * wrong


DRAWN = settings(derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


@settings(DRAWN, max_examples=PAIRS)
@given(st.data())
def test_two_mistakes_at_once_are_caught(data):
    exercise = data.draw(st.sampled_from(CODE))
    missed = {mutant.source for mutant in survivors(exercise)}
    caught = [mutant for mutant in mutants(exercise) if mutant.source not in missed]
    one, other = data.draw(st.lists(st.sampled_from(caught), min_size=2, max_size=2))
    assume(may_not_cancel(one, other))
    source = mutation.both(definition(exercise)[0], one, other)
    assume(source)
    assert not survives(exercise, source), f"{exercise.name}: {one.line} and {other.line}"


def may_not_cancel(one: Mutant, other: Mutant) -> bool:
    """A minus sign, a root and 1 - x can be undone by a second change, and so can most by one of their own kind."""
    return one.operator != other.operator and not {one.operator, other.operator} & {"sign", "near"}


@settings(DRAWN, max_examples=NUMBERS)
@given(st.data())
def test_another_number_in_an_answer_is_caught(data):
    exercise = data.draw(st.sampled_from([each for each in CODE if numbers(each)]))
    path, number = data.draw(st.sampled_from(numbers(exercise)))
    other = data.draw(st.integers(0, 40) if isinstance(number, int) else st.floats(0, 3 * number))
    assume(abs(other - number) > 0.05 * number)
    source = mutation.with_number(definition(exercise)[0], path, other)
    assert not survives(exercise, source), f"{exercise.name}: {other} for {number}\n{source}"


@functools.cache
def numbers(exercise: Exercise) -> list[tuple[mutation.Path, float]]:
    """The numbers that stand in an answer, by their places, but for those that may be others."""
    node = definition(exercise)[0]
    found = mutation.numbers(node, functools.partial(written, exercise))
    return [(path, n) for path, n in found.items() if (exercise.name, n, mutation.line_at(node, path)) not in LOOSE]
