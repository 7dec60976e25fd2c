"""Training the checkpoints that ship with the labs: `labdiff train`, or `python -m labdiff.train`."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from labdiff import checkpoints, data
from labdiff.checkpoints import CheckpointError

Figures = dict[str, Any]


def device_of(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is the GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200, decay: float = 0.35) -> float:
    """Up to the peak in `warmup` steps, level, then down to 0 over the last `decay` of the steps.

    The level middle lets an interrupted run be resumed with another number of steps.
    """
    return peak * min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps))


class Batches:
    """Batches of a data set in an order that depends on the seed and the step alone.

    A resumed run therefore sees what an undisturbed one would have seen.
    """

    def __init__(self, n: int, size: int, seed: int):
        self.n, self.size, self.seed = n, size, seed
        self.per_epoch = max(n // size, 1)
        self.epoch, self.order = -1, torch.arange(0)

    def at(self, step: int) -> tuple[torch.Tensor, torch.Generator]:
        """The indices of the batch of a step, (size,), and the generator of its noise."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            shuffler = torch.Generator().manual_seed(self.seed * 1_000_003 + 7 + epoch)
            self.epoch, self.order = epoch, torch.randperm(self.n, generator=shuffler)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return self.order[place * self.size : (place + 1) * self.size], generator


def run(
    file: Path,
    parts: dict[str, Any],
    step_fn: Callable[[int], float],
    recipe: dict[str, Any],
    every: int,
    at_stop: Callable[[int], None],
) -> list[float]:
    """Take the steps of a recipe, saving what is needed to go on every `every` steps.

    parts: name -> anything with state_dict and load_state_dict. An interrupted run leaves
    FILE.resume behind and goes on from there; it is removed at the end. Returns the losses.
    Raises CheckpointError where FILE.resume belongs to another recipe.
    """
    state_file = file.with_name(file.name + ".resume")
    start, losses = 0, []
    if state_file.exists():
        start, losses = _resume(state_file, parts, recipe)
        print(f"Going on at step {start} of {recipe['steps']}, from {state_file}.")
    bar = tqdm(range(start, recipe["steps"]), initial=start, total=recipe["steps"], desc=file.stem, unit="step")
    for step in bar:
        torch.manual_seed(recipe["seed"] * 1_000_003 + step)  # dropout, too, must not depend on where a run was resumed
        losses.append(step_fn(step))
        if step % 20 == 0:
            bar.set_postfix(loss=f"{sum(losses[-100:]) / len(losses[-100:]):.4f}", refresh=False)
        if (step + 1) % every == 0 or step + 1 == recipe["steps"]:
            state = {name: part.state_dict() for name, part in parts.items()}
            checkpoints.save(
                state_file, {"step": step + 1, "losses": losses, "recipe": recipe, **state}, overwrite=True
            )
            at_stop(step + 1)
    return losses


def _resume(file: Path, parts: dict[str, Any], recipe: dict[str, Any]) -> tuple[int, list[float]]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{file} is damaged: delete it to begin again.") from error
    # the number of steps may differ: that is how a run is made longer or cut short
    other = [key for key in recipe if key != "steps" and state["recipe"].get(key) != recipe[key]]
    if other:
        raise CheckpointError(
            f"{file} was left by a run with another {', '.join(other)}: delete it to begin again, or say the same."
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"], list(state["losses"])


def train_model(
    file: Path,
    *,
    steps: int = 10_500,
    batch: int = 128,
    peak: float = 1.5e-3,
    seed: int = 0,
    T: int = 1000,
    ema_decay: float = 0.999,
    every: int = 500,
    device: str = "auto",
    overwrite: bool = False,
    measure: bool = True,
    bfloat16: bool | None = None,
    config: dict[str, Any] | None = None,
) -> Figures:
    """Train lab 2's U-Net on MNIST with lab 3's objective (v, cosine schedule) and write a checkpoint.

    Every `every` steps it saves what is needed to go on and draws 16 digits to FILE.png.
    bfloat16: compute in it; tried out, unless told. config: arguments of the U-Net, its defaults unless given.
    Returns the measured figures. Raises CheckpointError where the file exists and `overwrite` is false,
    data.DataError where MNIST cannot be had.
    """
    from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas, extract, q_sample
    from labdiff.reference.lab2_unet import UNet
    from labdiff.reference.lab3_training import MixedPrecision, bfloat16_is_faster, ema_update, v_target

    _refuse_to_overwrite(file, overwrite)
    images, _ = data.load("mnist", train=True)
    where = device_of(device)
    torch.manual_seed(seed)
    network = UNet(**(config or {})).to(where, memory_format=torch.channels_last)
    ema = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=0.01)
    alphas_cumprod = compute_alphas_cumprod(cosine_betas(T)).to(where)
    batches = Batches(len(images), batch, seed)
    if bfloat16 is None:
        first = images[:batch].to(where, memory_format=torch.channels_last)
        bfloat16 = bfloat16_is_faster(network, first, torch.zeros(len(first), dtype=torch.int64, device=where))
    mixed = MixedPrecision(network, bfloat16)
    recipe = {
        "data": "mnist",
        "steps": steps,
        "batch": batch,
        "peak": peak,
        "seed": seed,
        "T": T,
        "schedule": "cosine",
        "target": "v",
        "ema_decay": ema_decay,
    }

    def one_step(step: int) -> float:
        chosen, generator = batches.at(step)
        x_0 = images[chosen].to(where, memory_format=torch.channels_last)  # (B, 1, 28, 28)
        t = torch.randint(0, T, (batch,), generator=generator).to(where)  # (B,)
        eps = torch.randn(x_0.shape, generator=generator).to(where)  # (B, 1, 28, 28)
        abar_t = extract(alphas_cumprod, t, x_0)  # (B, 1, 1, 1)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        v = mixed(q_sample(x_0, abar_t, eps), t)  # (B, 1, 28, 28)
        loss = nn.functional.mse_loss(v.float(), v_target(x_0, eps, abar_t))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        # an average over more steps than there were would remember the random start
        ema_update(ema, network, min(ema_decay, (1 + step) / (10 + step)))
        return loss.item()

    def samples(step: int) -> None:
        save_grid(
            sample(MixedPrecision(ema, bfloat16), alphas_cumprod, 16, steps=20, seed=0),
            file.with_suffix(".png"),
            columns=8,
        )

    parts = {"network": network, "ema": ema, "optimizer": optimizer}
    started = time.time()
    losses = _say_out_of_memory(lambda: run(file, parts, one_step, recipe, every, samples))
    figures = {"loss": sum(losses[-500:]) / len(losses[-500:]), "minutes": (time.time() - started) / 60}
    write(file, ema, recipe, figures, overwrite)
    if measure:
        figures |= measure_model(MixedPrecision(ema, bfloat16))
        write(file, ema, recipe, figures, True)
    file.with_name(file.name + ".resume").unlink()
    return figures


def _refuse_to_overwrite(file: Path, overwrite: bool) -> None:
    if file.exists() and not overwrite:
        raise CheckpointError(f"{file} exists already: choose another name, or say --overwrite.")


def _say_out_of_memory(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except torch.cuda.OutOfMemoryError as error:
        raise CheckpointError("The GPU ran out of memory: lower --batch, or say --device cpu.") from error


def write(file: Path, network: nn.Module, recipe: dict[str, Any], figures: Figures, overwrite: bool) -> None:
    """Write a network as a checkpoint of labdiff, on the CPU and contiguous."""
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    checkpoint = {"weights": weights, "config": network.config, "recipe": recipe, "figures": figures}
    checkpoints.save(file, checkpoint, overwrite)


@torch.inference_mode()
def sample(
    network: nn.Module,
    alphas_cumprod: torch.Tensor,
    n: int,
    steps: int,
    seed: int = 0,
    eta: float = 1.0,
    batch: int = 250,
) -> torch.Tensor:
    """Draw n digits by DDIM with `steps` calls per image. Returns (n, 1, 28, 28) in [-1, 1], on the CPU."""
    from labdiff.reference.lab4_sampling import ddim_sample, ddim_timesteps, make_denoiser

    where = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    x_T = torch.randn(n, 1, 28, 28, generator=generator)
    timesteps = ddim_timesteps(len(alphas_cumprod), steps)
    denoise = make_denoiser(network, alphas_cumprod.to(where))
    drawn = [
        ddim_sample(denoise, x.to(where), timesteps, alphas_cumprod.to(where), eta, generator).float().cpu()
        for x in tqdm(x_T.split(batch), desc=f"drawing, {steps} calls", leave=False, disable=n <= batch)
    ]
    return torch.cat(drawn)  # (n, 1, 28, 28)


def measure_model(network: nn.Module, calls: tuple[int, ...] = (10, 20, 50, 200), n: int = 10_000) -> Figures:
    """FID and confident share of drawn digits for several numbers of calls, beside the floor.

    The floor is the FID that n training images score against the same test images.
    """
    from labdiff import metrics
    from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas

    test, _ = data.load("mnist", train=False)
    real = metrics.look(test)[1]
    train, _ = data.load("mnist", train=True)
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]
    figures: Figures = {"n": n, "floor": metrics.measure(train[chosen], real)}
    alphas_cumprod = compute_alphas_cumprod(cosine_betas(1000))
    for steps in calls:
        found = metrics.measure(sample(network, alphas_cumprod, n, steps, seed=1), real)
        figures[str(steps)] = found | {"times_floor": found["fid"] / figures["floor"]["fid"]}
    return figures


def train_judge(
    file: Path,
    *,
    epochs: int = 10,
    batch: int = 256,
    peak: float = 4e-3,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> Figures:
    """Train the judge on MNIST with shifted and turned digits and write a checkpoint.

    Returns its accuracy on the 10,000 test images. Raises as `train_model` does.
    """
    from labdiff.metrics import Judge, shifted_and_turned

    _refuse_to_overwrite(file, overwrite)
    images, labels = data.load("mnist", train=True)
    where = device_of(device)
    torch.manual_seed(seed)
    network = Judge().to(where, memory_format=torch.channels_last)
    batches = Batches(len(images), batch, seed)
    steps = epochs * batches.per_epoch
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=0.02)
    recipe = {"data": "mnist", "steps": steps, "batch": batch, "peak": peak, "seed": seed}

    def one_step(step: int) -> float:
        network.train()
        chosen, generator = batches.at(step)
        x = shifted_and_turned(images[chosen], generator).to(where, memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak, decay=0.7)
        logits = network(x)  # (B, 10)
        loss = nn.functional.cross_entropy(logits.float(), labels[chosen].to(where))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    parts = {"network": network, "optimizer": optimizer}
    _say_out_of_memory(lambda: run(file, parts, one_step, recipe, 500, lambda step: None))
    figures = {"test_accuracy": accuracy(network)}
    write(file, network.eval(), recipe, figures, overwrite)
    file.with_name(file.name + ".resume").unlink()
    return figures


@torch.inference_mode()
def accuracy(network: nn.Module) -> float:
    """The share of MNIST's 10,000 test images that a classifier reads rightly."""
    images, labels = data.load("mnist", train=False)
    where = next(network.parameters()).device
    network.eval()
    said = torch.cat([network(x.to(where)).argmax(1).cpu() for x in images.split(500)])  # (N,)
    return (said == labels).float().mean().item()


def save_grid(images: torch.Tensor, file: Path, columns: int = 8) -> None:
    """Write images (N, C, H, W) in [-1, 1] as one picture, `columns` to a line."""
    from PIL import Image
    from torchvision.utils import make_grid

    grid = make_grid(images, nrow=columns, padding=2, pad_value=-1)  # (3, H, W)
    temporary = file.with_name(file.name + ".partial")
    Image.fromarray(data.to_pixels(grid).permute(1, 2, 0).numpy()).save(temporary, format="PNG")
    os.replace(temporary, file)
