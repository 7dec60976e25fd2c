"""Training the checkpoints that ship with the labs."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from labdiff import data
from labdiff.reference.lab2_unet import UNet


def cosine_alphas_cumprod(T=1000, s=0.008):
    f = torch.cos((torch.linspace(0, 1, T + 1, dtype=torch.float64) + s) / (1 + s) * math.pi / 2) ** 2
    betas = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return (1 - betas).cumprod(0).float()


def lr_factor(step, steps, warmup=200, decay=0.35):
    return min(1.0, (step + 1) / warmup, max((steps - step) / (decay * steps), 0.0))


def train(path, steps=12000, batch=128, lr=1.5e-3, seed=0, T=1000, ema_decay=0.999, **config):
    path = Path(path)
    state_path = path.with_suffix(".resume")
    torch.manual_seed(seed)
    net = UNet(**config).to(memory_format=torch.channels_last)
    ema = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    ab = cosine_alphas_cumprod(T)
    x, _ = data.load("mnist", train=True)
    start = 0
    if state_path.exists():
        s = torch.load(state_path, weights_only=True)
        net.load_state_dict(s["net"]); ema.load_state_dict(s["ema"]); optimizer.load_state_dict(s["optimizer"])
        start = s["step"]
    bar = tqdm(range(start, steps), initial=start, total=steps, mininterval=10)
    losses = []
    for step in bar:
        g = torch.Generator().manual_seed(seed * 1_000_003 + step)
        # each epoch is one shuffled pass: the order comes from the epoch's number, so a resumed run sees the same batches
        per = len(x) // batch
        if step % per == 0 or step == start:
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed * 1_000_003 + 7 + step // per))
        i = order[(step % per) * batch : (step % per + 1) * batch]
        x0 = x[i].to(memory_format=torch.channels_last)
        t = torch.randint(0, T, (batch,), generator=g)
        eps = torch.randn(x0.shape, generator=g)
        a = ab[t][:, None, None, None]
        xt = a.sqrt() * x0 + (1 - a).sqrt() * eps
        v = a.sqrt() * eps - (1 - a).sqrt() * x0
        for group in optimizer.param_groups:
            group["lr"] = lr * lr_factor(step, steps)
        with torch.autocast("cpu", torch.bfloat16):
            out = net(xt, t)
        loss = F.mse_loss(out.float(), v)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        d = min(ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), 1 - d)
        losses.append(loss.item())
        if step % 100 == 99:
            bar.set_postfix(loss=f"{sum(losses[-100:]) / 100:.4f}")
        if step % 1000 == 999 or step == steps - 1:
            tmp = state_path.with_suffix(".tmp")
            torch.save(dict(net=net.state_dict(), ema=ema.state_dict(), optimizer=optimizer.state_dict(), step=step + 1), tmp)
            os.replace(tmp, state_path)
            torch.save(dict(config=net.config, weights=ema.state_dict(), step=step + 1), f"{path}.{step + 1}")


if __name__ == "__main__":
    torch.set_num_threads(2)
    train("/work/env/run/model.ckpt", channels=64, multipliers=(1, 2), blocks=1)
