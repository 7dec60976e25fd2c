"""The noise schedule that the shipped networks were trained with, and the timesteps that samplers visit.

The formulas are answers of labs 1 and 4, which these functions call; they need a package that holds those.
"""

from __future__ import annotations

import torch


def alphas_cumprod(T: int = 1000) -> torch.Tensor:
    """The image's share of the variance at each timestep, by the cosine schedule (Nichol and Dhariwal 2021).

    T: number of steps. Returns abar, (T,), float32, falling from nearly 1 to nearly 0.
    """
    from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas

    abar: torch.Tensor = compute_alphas_cumprod(cosine_betas(T))
    return abar


def spaced_timesteps(steps: int, power: float = 1.0, T: int = 1000) -> list[int]:
    """Timesteps from T - 1 to 0, evenly spaced in t ** (1 / power), see lab 4: below 1, more of them lie near T - 1.

    steps: how many, at least 2. Where two fall together, the list is shorter. With power 1 it is what lab 4's
    ddim_timesteps returns.
    """
    from labdiff.reference.lab4_sampling import ddim_timesteps

    if power == 1:
        even: list[int] = ddim_timesteps(T, steps)
        return even
    fine = 1000 * (T - 1)  # 0, ..., fine stand for the numbers from 0 to 1
    return list(dict.fromkeys(round((T - 1) * (u / fine) ** power) for u in ddim_timesteps(fine + 1, steps)))
