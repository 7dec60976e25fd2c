"""Training the checkpoints that ship with the labs: `labdiff train`, or `python -m labdiff.train` under torchrun.

Each checkpoint has a function that says what its network, its batches and its loss are; `fit` does the rest.
"""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from tqdm import tqdm

from labdiff import data
from labdiff.models import checkpoint as checkpoints
from labdiff.models.checkpoint import CheckpointError

Figures = dict[str, Any]


def device_of(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is the GPU where there is one, under torchrun this process's own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if name == "cuda" else name)


# --- one process of many ----------------------------------------------------------------------


class World:
    """The processes that train together: one, or those that torchrun started.

    size: how many. rank: which of them this is. main: whether it is the first, which alone writes and prints.
    """

    def __init__(self, device: torch.device):
        self.size, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        self.main = self.rank == 0
        self.device = device

    def __enter__(self) -> World:
        if self.size > 1:
            if self.device.type == "cuda":
                torch.cuda.set_device(self.device)
            distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self.size > 1 and kind is None:  # after a failure the others can't be waited for
            distributed.destroy_process_group()

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """This process's part of a batch: every size-th of it. (B, ...) to (B / size, ...)."""
        return batch[self.rank :: self.size]

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, whose gradients are averaged over all processes at each backward pass."""
        return nn.parallel.DistributedDataParallel(network) if self.size > 1 else network

    def mean(self, value: torch.Tensor) -> float:
        """A number averaged over all processes."""
        value = value.detach().clone()
        if self.size > 1:
            distributed.all_reduce(value)
        return value.item() / self.size


# --- steps ------------------------------------------------------------------------------------


def learning_rate(step: int, steps: int, peak: float, warmup: int = 200, decay: float = 0.35) -> float:
    """Up to the peak in `warmup` steps, level, then down to 0 over the last `decay` of the steps.

    The level middle lets an interrupted run be resumed with another number of steps.
    """
    return peak * min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps))


class Batches:
    """Batches of a data set in an order that depends on the seed and the step alone.

    A resumed run therefore sees what an undisturbed one would have seen, and two processes with half a batch
    each see what one process with the whole batch would.
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


def fit(
    file: Path,
    network: nn.Module,
    n: int,
    draw: Callable[[torch.Tensor, torch.Generator], tuple[torch.Tensor, ...]],
    loss_of: Callable[..., torch.Tensor],
    recipe: dict[str, Any],
    *,
    device: str = "auto",
    overwrite: bool = False,
    bfloat16: bool | None = None,
    every: int = 500,
    warmup: int = 200,
    decay: float = 0.35,
    picture: Callable[[nn.Module], torch.Tensor] | None = None,
    measure: Callable[[nn.Module], Figures] | None = None,
) -> Figures:
    """Train a network by AdamW on a loss, keep the moving average of its weights, and write a checkpoint.

    n: how many examples there are. draw(indices, generator) -> what a batch is made of, tensors of (B, ...) on the
    CPU: the examples of these indices, and noise. loss_of(network, *those) -> the mean loss over them.
    recipe: "steps", "batch" (of each process), "peak", "seed", "ema_decay", and whatever else should be known.
    bfloat16: compute in it; tried out, unless told. picture(ema): images (N, C, H, W) in [-1, 1], drawn to FILE.png
    every `every` steps, when also FILE.resume is written, from which an interrupted run goes on.
    measure(ema): figures of the result. Returns them, with the loss and the minutes that it took.

    Under torchrun each process takes its part of a batch of size times "batch"; the losses are those of one
    process with that batch, to rounding.
    Raises CheckpointError where the file exists and `overwrite` is false, or FILE.resume is of another recipe.
    """
    from labdiff.reference.lab3_training import ema_update

    checkpoints.refuse_to_overwrite(file, overwrite)
    where = device_of(device)
    with World(where) as world, _memory_said_in_a_sentence():
        recipe = recipe | {"batch": recipe["batch"] * world.size}
        network = network.to(where, memory_format=torch.channels_last)
        ema = copy.deepcopy(network).eval().requires_grad_(False)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=0.01)
        parts = {"network": network, "ema": ema, "optimizer": optimizer}
        batches = Batches(n, recipe["batch"], recipe["seed"])

        def of_step(step: int) -> list[torch.Tensor]:
            return [_moved(world.share(part), where) for part in draw(*batches.at(step))]

        if bfloat16 is None:
            bfloat16 = _bfloat16_is_faster(network, loss_of, of_step(0))
        state_file = file.with_name(file.name + ".resume")
        start, losses = 0, []
        if state_file.exists():
            start, losses = _resume(state_file, parts, recipe)
            if world.main:
                print(f"Going on at step {start} of {recipe['steps']}, from {state_file}.")
        trained = world.wrap(network)
        steps = range(start, recipe["steps"])
        started = time.time()
        bar = tqdm(steps, initial=start, total=len(steps) + start, desc=file.stem, unit="step", disable=not world.main)
        for step in bar:
            # what a network draws by itself, too, must not depend on where a run was resumed
            torch.manual_seed(recipe["seed"] * 1_000_003 + step)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, recipe["steps"], recipe["peak"], warmup, decay)
            network.train()
            with torch.autocast(where.type, torch.bfloat16, enabled=bfloat16):
                loss = loss_of(trained, *of_step(step))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            # an average over more steps than there were would remember the random start
            ema_update(ema, network, min(recipe["ema_decay"], (1 + step) / (10 + step)))
            for average, current in zip(ema.buffers(), network.buffers(), strict=True):
                average.copy_(current)
            losses.append(world.mean(loss))
            if step % 20 == 0:
                bar.set_postfix(loss=f"{sum(losses[-100:]) / len(losses[-100:]):.4f}", refresh=False)
            if world.main and ((step + 1) % every == 0 or step + 1 == recipe["steps"]):
                state = {name: part.state_dict() for name, part in parts.items()}
                checkpoints.save(
                    state_file, {"step": step + 1, "losses": losses, "recipe": recipe, **state}, overwrite=True
                )
                if picture:
                    save_grid(picture(ema), file.with_suffix(".png"))
        figures: Figures = {"loss": sum(losses[-500:]) / len(losses[-500:]), "minutes": (time.time() - started) / 60}
        if world.main:
            write(file, ema, recipe, figures, overwrite)
            if measure:
                figures |= measure(ema)
                write(file, ema, recipe, figures, True)
            state_file.unlink(missing_ok=True)
    return figures


def _moved(part: torch.Tensor, where: torch.device) -> torch.Tensor:
    return part.to(where, memory_format=torch.channels_last if part.dim() == 4 else torch.preserve_format)


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


@contextlib.contextmanager
def _memory_said_in_a_sentence() -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise CheckpointError("The GPU ran out of memory: lower --batch, or say --device cpu.") from error


def _bfloat16_is_faster(network: nn.Module, loss_of: Callable[..., torch.Tensor], batch: list[torch.Tensor]) -> bool:
    """Whether this machine computes a loss clearly faster in bfloat16; tried out, on a copy."""
    from labdiff.reference.lab3_training import bfloat16_is_faster

    network = copy.deepcopy(network)  # what it counts while training, such as means, must not change
    few = batch if batch[0].is_cuda else [part[:16] for part in batch]
    return bfloat16_is_faster(lambda *_: loss_of(network, *few), few[0], few[0])


def write(file: Path, network: nn.Module, recipe: dict[str, Any], figures: Figures, overwrite: bool) -> None:
    """Write a network as a checkpoint of labdiff, on the CPU and contiguous."""
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    checkpoint = {"weights": weights, "config": network.config, "recipe": recipe, "figures": figures}
    checkpoints.save(file, checkpoint, overwrite)


def save_grid(images: torch.Tensor, file: Path, columns: int = 8) -> None:
    """Write images (N, C, H, W) in [-1, 1] as one picture, `columns` to a line."""
    from PIL import Image
    from torchvision.utils import make_grid

    grid = make_grid(images, nrow=columns, padding=2, pad_value=-1)  # (3, H, W)
    temporary = file.with_name(file.name + ".partial")
    Image.fromarray(data.to_pixels(grid).permute(1, 2, 0).numpy()).save(temporary, format="PNG")
    os.replace(temporary, file)


# --- what is trained --------------------------------------------------------------------------


def train_model(
    file: Path,
    *,
    steps: int = 10_500,
    batch: int = 128,
    peak: float = 1.5e-3,
    seed: int = 0,
    T: int = 1000,
    ema_decay: float = 0.999,
    measure: bool = True,
    config: dict[str, Any] | None = None,
    **how: Any,
) -> Figures:
    """Train lab 2's U-Net on MNIST with lab 3's objective (v, cosine schedule), see `fit`.

    config: arguments of the U-Net, its defaults unless given. Raises data.DataError where MNIST cannot be had.
    """
    from labdiff.models import evaluation as measuring
    from labdiff.reference.lab2_unet import UNet

    images, _ = data.load("mnist", train=True)
    torch.manual_seed(seed)
    network = UNet(**(config or {}))
    draw, loss_of = diffusion(images, T)
    recipe = {"data": "mnist", "steps": steps, "batch": batch, "peak": peak, "seed": seed, "T": T}
    recipe |= {"schedule": "cosine", "target": "v", "ema_decay": ema_decay}

    def picture(ema: nn.Module) -> torch.Tensor:
        return measuring.sample(ema, 16, steps=20)

    finish = measuring.measure_model if measure else None
    return fit(file, network, len(images), draw, loss_of, recipe, picture=picture, measure=finish, **how)


def diffusion(
    images: torch.Tensor, T: int, *told: torch.Tensor, drop: float = 0.0, null: Any = None
) -> tuple[Callable[..., tuple[torch.Tensor, ...]], Callable[..., torch.Tensor]]:
    """What `fit` needs to train a network to predict v, with the cosine schedule: `draw` and `loss_of`.

    images: (N, C, H, W). told: what the network is told beside the time, each (N, ...); with the probability `drop`
    it is replaced by `null`, so that the network can be guided (Ho and Salimans 2022, algorithm 1).
    """
    from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas, extract, q_sample
    from labdiff.reference.lab3_training import v_target

    alphas_cumprod = compute_alphas_cumprod(cosine_betas(T))  # (T,)

    def draw(chosen: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        x_0 = images[chosen]  # (B, C, H, W)
        t = torch.randint(0, T, (len(x_0),), generator=generator)  # (B,)
        eps = torch.randn(x_0.shape, generator=generator)  # (B, C, H, W)
        parts = [x_0, t, eps]
        dropped = torch.rand(len(x_0), generator=generator) < drop  # (B,)
        for each in told:
            shape = (-1,) + (1,) * (each.dim() - 1)
            parts.append(torch.where(dropped.view(shape), torch.as_tensor(null, dtype=each.dtype), each[chosen]))
        return tuple(parts)

    def loss_of(network: nn.Module, x_0: torch.Tensor, t: torch.Tensor, eps: torch.Tensor, *told: torch.Tensor):
        abar_t = extract(alphas_cumprod.to(x_0.device), t, x_0)  # (B, 1, 1, 1)
        v = network(q_sample(x_0, abar_t, eps), t, *told)  # (B, C, H, W)
        return nn.functional.mse_loss(v.float(), v_target(x_0, eps, abar_t))

    return draw, loss_of


def train_guided(
    file: Path,
    *,
    steps: int = 8_000,
    batch: int = 128,
    peak: float = 1e-3,
    seed: int = 0,
    ema_decay: float = 0.999,
    drop: float = 0.1,
    measure: bool = True,
    **how: Any,
) -> Figures:
    """Teach labels to the U-Net of model.ckpt: lab 5's GuidedUNet, which begins with those weights, see `fit`.

    drop: the share of labels that are replaced by the null label. Raises data.DataError where MNIST cannot be had.
    """
    from labdiff.models import evaluation as measuring
    from labdiff.reference.lab5_guidance import GuidedUNet

    images, labels = data.load("mnist", train=True)
    known = checkpoints.load("model")
    torch.manual_seed(seed)
    network = GuidedUNet(**known["config"])
    network.load_state_dict(known["weights"], strict=False)  # the label vectors are new, and 0
    T = known["recipe"]["T"]
    draw, loss_of = diffusion(images, T, labels, drop=drop, null=network.null)
    recipe = {"data": "mnist", "begins with": "model", "steps": steps, "batch": batch, "peak": peak, "seed": seed}
    recipe |= {"T": T, "schedule": "cosine", "target": "v", "ema_decay": ema_decay, "drop": drop}

    def picture(ema: nn.Module) -> torch.Tensor:
        return measuring.sample_labels(ema, torch.arange(40) % 10, steps=20, scale=2.0)

    finish = measuring.measure_guided if measure else None
    return fit(file, network, len(images), draw, loss_of, recipe, picture=picture, measure=finish, **how)


def train_autoencoder(
    file: Path,
    *,
    steps: int = 5_000,
    batch: int = 32,
    peak: float = 2e-3,
    seed: int = 0,
    ema_decay: float = 0.995,
    kl_weight: float = 1e-4,
    measure: bool = True,
    **how: Any,
) -> Figures:
    """Train lab 6's autoencoder on coloured pictures made from MNIST, see `fit`.

    The loss is the mean squared error of the pixels and kl_weight times the KL divergence.
    """
    from labdiff.models import evaluation as measuring
    from labdiff import pictures
    from labdiff.reference.lab6_text_to_image import Autoencoder, kl_divergence

    images, digits = data.load("mnist", train=True)
    torch.manual_seed(seed)
    network = Autoencoder(channels=32)
    generator = torch.Generator().manual_seed(seed)
    drawn = pictures.random_attributes(digits, generator)  # (N, 6)
    inked = pictures.shapes(images, drawn, seed)  # (N, 32, 32)

    def draw(chosen: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        attributes = pictures.random_attributes(digits[chosen], generator)  # (B, 6), new colours
        x = pictures.paint(inked[chosen], attributes, generator)  # (B, 3, 32, 32)
        return x, torch.randn(len(x), network.config["latent_channels"], 8, 8, generator=generator)

    def loss_of(network: nn.Module, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        again, mean, log_variance = network(x, noise)
        kl = kl_divergence(mean.float(), log_variance.float())
        return nn.functional.mse_loss(again.float(), x) + kl_weight * kl

    recipe = {"data": "pictures made from mnist", "steps": steps, "batch": batch, "peak": peak, "seed": seed}
    recipe |= {"ema_decay": ema_decay, "kl_weight": kl_weight}

    def picture(ema: nn.Module) -> torch.Tensor:
        x, _ = draw(torch.arange(32), torch.Generator().manual_seed(seed))
        with torch.inference_mode():
            again = ema.decoder(ema.encoder(x.to(next(ema.parameters()).device))[0]).float().cpu()
        return torch.stack([x, again], 1).flatten(0, 1)

    def finish(ema: nn.Module) -> Figures:
        x, _ = draw(torch.arange(min(2000, len(images))), torch.Generator().manual_seed(seed))
        with torch.inference_mode():
            latents = torch.cat([ema.encoder(part.to(ema.scale.device))[0] for part in x.split(250)])
        ema.scale.fill_(1 / latents.float().std().item())
        return measuring.measure_autoencoder(ema) if measure else {}

    return fit(file, network, len(images), draw, loss_of, recipe, picture=picture, measure=finish, **how)


def train_text_to_image(
    file: Path,
    *,
    steps: int = 12_000,
    batch: int = 64,
    peak: float = 1.5e-3,
    seed: int = 0,
    T: int = 1000,
    ema_decay: float = 0.999,
    drop: float = 0.1,
    colourings: int = 2,
    autoencoder: str = "autoencoder",
    measure: bool = True,
    **how: Any,
) -> Figures:
    """Train lab 6's text encoder and U-Net on the latents of captioned pictures, see `fit`.

    Pictures that cannot be read back once the autoencoder has had them are left out, and so are the combinations of
    `pictures.is_held_out`.
    colourings: how often each shape is painted. autoencoder: its checkpoint. drop: the share of captions left empty.
    """
    from labdiff.models import evaluation as measuring
    from labdiff import pictures
    from labdiff.reference.lab6_text_to_image import Autoencoder, TextToImage, tokenise

    coder = checkpoints.fit(Autoencoder(**checkpoints.load(autoencoder)["config"]), autoencoder)
    torch.manual_seed(seed)
    network = TextToImage()
    inked, attributes = pictures.legible_shapes(*data.load("mnist", train=True), seed=seed)
    latents, tokens = [], []
    for i in range(colourings):
        generator = torch.Generator().manual_seed(seed * 1_000 + i)
        attributes = pictures.recoloured(attributes, generator, held_out=False)  # (N, 6)
        painted = pictures.paint(inked, attributes, generator)  # (N, 3, 32, 32)
        encoded, legible = legible_latents(coder, painted, attributes)
        latents.append(encoded[legible])
        tokens += map(tokenise, pictures.captions(attributes[legible], seed * 1_000 + i))
    z, words = torch.cat(latents), torch.tensor(tokens)  # (M, 4, 8, 8), (M, L)
    draw, loss_of = diffusion(z, T, words, drop=drop, null=tokenise(""))
    recipe = {"data": "pictures made from mnist", "steps": steps, "batch": batch, "peak": peak, "seed": seed, "T": T}
    recipe |= {"schedule": "cosine", "target": "v", "ema_decay": ema_decay, "drop": drop, "colourings": colourings}

    def picture(ema: nn.Module) -> torch.Tensor:
        return measuring.sample_prompts(ema, coder, measuring.PROMPTS, steps=20)

    def finish(ema: nn.Module) -> Figures:
        return measuring.measure_text_to_image(ema, coder)

    return fit(
        file, network, len(z), draw, loss_of, recipe, picture=picture, measure=finish if measure else None, **how
    )


@torch.inference_mode()
def legible_latents(coder: nn.Module, x: torch.Tensor, attributes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures as latents, and which of them are read rightly once they are decoded.

    coder: lab 6's Autoencoder. x: (N, 3, 32, 32) in [-1, 1]. attributes: (N, 6), what the pictures show.
    Returns latents (N, 4, 8, 8), of deviation about 1, and (N,), bool.
    """
    from labdiff import pictures

    latents, legible = [], []
    parts = list(zip(x.split(500), attributes.split(500), strict=True))
    for part, shown in tqdm(parts, desc="encoding", disable=len(x) < 2000, mininterval=1):
        latents.append(coder.encode(part))
        legible.append((pictures.read(coder.decode(latents[-1])) == shown).all(1))
    return torch.cat(latents), torch.cat(legible)


def train_judge(
    file: Path,
    *,
    steps: int = 2_340,
    batch: int = 256,
    peak: float = 4e-3,
    seed: int = 0,
    measure: bool = True,
    **how: Any,
) -> Figures:
    """Train the judge on MNIST with shifted and turned digits, see `fit`.

    Under torchrun each process normalises its batches by itself, so there the losses depend on how many there are.
    """
    from labdiff.models import evaluation as measuring
    from labdiff.models.classifier import Judge, shifted_and_turned

    images, labels = data.load("mnist", train=True)
    torch.manual_seed(seed)

    def draw(chosen: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return shifted_and_turned(images[chosen], generator), labels[chosen]

    def loss_of(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(network(x).float(), y)

    recipe = {"data": "mnist", "steps": steps, "batch": batch, "peak": peak, "seed": seed, "ema_decay": 0.99}
    how = {"decay": 0.7} | how
    finish = measuring.measure_judge if measure else None
    return fit(file, Judge(), len(images), draw, loss_of, recipe, measure=finish, **how)


TRAIN: dict[str, Callable[..., Figures]] = {
    "model": train_model,
    "judge": train_judge,
    "guided": train_guided,
    "autoencoder": train_autoencoder,
    "text_to_image": train_text_to_image,
}


if __name__ == "__main__":
    import sys

    from labdiff.cli import app

    app(["train", *sys.argv[1:]])
