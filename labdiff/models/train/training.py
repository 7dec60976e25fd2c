"""A training that can be stopped and gone on with, in one process or in several."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from labdiff import files
from labdiff.errors import CheckpointError
from labdiff.images import save_grid
from labdiff.models import checkpoint
from labdiff.models.train.processes import Processes, device_named
from labdiff.models.train.recipe import Recipe
from labdiff.reference.lab3_training import bfloat16_is_faster, ema_update

Figures = dict[str, Any]
Batch = tuple[torch.Tensor, ...]
KEPT = {"done": int, "seconds": float, "losses": list, "recipe": dict, "network": dict, "ema": dict, "optimizer": dict}


@dataclass(frozen=True)
class Task:
    """What is trained, apart from its recipe.

    n: how many examples there are. draw(indices, generator) -> what a batch is made of, tensors of (B, ...) on the
    CPU: the examples of these indices, and noise. loss_of(network, *those) -> the mean loss over them, a scalar.
    The others take the averaged network. evaluate: figures of the result. picture: images (N, C, H, W) in [-1, 1],
    drawn beside the file whenever the state is saved. settle: what is left to be set in it when the steps are done.
    """

    network: nn.Module
    n: int
    draw: Callable[[torch.Tensor, torch.Generator], Batch]
    loss_of: Callable[..., torch.Tensor]
    evaluate: Callable[[Any], Figures]
    picture: Callable[[Any], torch.Tensor] | None = None
    settle: Callable[[Any], None] | None = None


class Batches:
    """Batches of a data set in an order that depends on the seed and the step alone.

    A resumed run therefore sees what an undisturbed one would have seen, and two processes with half a batch
    each see what one process with the whole batch would.
    """

    def __init__(self, n: int, size: int, seed: int) -> None:
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


class Training:
    """A network trained by AdamW, and the moving average of its weights, which becomes the checkpoint.

    done: how many steps. losses: of each of them. seconds: how long they took, in all runs.
    The state is saved in FILE.resume, and taken up from there where that exists.
    Raises CheckpointError where FILE.resume is of another recipe, foreign or damaged.
    """

    def __init__(self, file: Path, recipe: Recipe, task: Task, processes: Processes) -> None:
        self.file, self.recipe, self.task, self.processes = file, recipe, task, processes
        self.state_file = file.with_name(file.name + ".resume")
        self.done, self.losses, self.seconds = 0, list[float](), 0.0
        self.network = task.network.to(processes.device).to(memory_format=torch.channels_last)
        self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=0.0, betas=recipe.betas, weight_decay=recipe.weight_decay
        )
        self.batches = Batches(task.n, recipe.batch, recipe.seed)
        self.bfloat16 = self._bfloat16_is_faster()
        if self.state_file.exists():
            self._resume()
        self.trained = processes.wrap(self.network)

    def run(self, every: int = 500) -> None:
        """Do all steps that are left, saving the state every `every` of them."""
        steps = self.recipe.steps
        with tqdm(
            initial=self.done, total=steps, desc=self.file.stem, unit="step", disable=not self.processes.main
        ) as bar:
            while self.done < steps:
                started = time.monotonic()
                self.step()
                self.seconds += time.monotonic() - started
                bar.update()
                if self.done % 20 == 1:
                    bar.set_postfix(loss=f"{self.loss(100):.4f}", refresh=False)
                if self.processes.main and (self.done % every == 0 or self.done == steps):
                    self.save()

    def step(self) -> None:
        """One step: a batch, its gradients, the weights, and their average."""
        recipe, step = self.recipe, self.done
        # what a network draws by itself, too, must not depend on where a run was resumed
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate(step)
        self.network.train()
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss = self.task.loss_of(self.trained, *self._batch(step))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.optimizer.step()
        # an average over more steps than there were would remember the random start
        ema_update(self.ema, self.network, min(recipe.ema_decay, (1 + step) / (10 + step)))
        for average, current in zip(self.ema.buffers(), self.network.buffers(), strict=True):
            average.copy_(current)
        self.losses.append(self.processes.mean(loss))
        self.done += 1

    def loss(self, last: int) -> float:
        """The mean loss of the last steps."""
        return sum(self.losses[-last:]) / len(self.losses[-last:])

    def save(self) -> None:
        """Write what a later run goes on from, and the picture. Raises FileError."""
        state = {"done": self.done, "seconds": self.seconds, "losses": self.losses, "recipe": self.recipe.as_dict()}
        state |= {name: part.state_dict() for name, part in self._parts().items()}
        with files.writing(self.state_file) as temporary:
            torch.save(state, temporary)
        if self.task.picture:
            save_grid(self.task.picture(self.ema), self.file.with_suffix(".png"))

    def finish(self, evaluate: bool, overwrite: bool) -> Figures:
        """Write the checkpoint, and once more with figures of the result, which may take long; return the figures.

        Raises CheckpointError where the file exists and `overwrite` is false, and FileError.
        """
        figures: Figures = {"loss": self.loss(500), "minutes": self.seconds / 60}
        if self.processes.main:
            if self.task.settle:
                self.task.settle(self.ema)
            checkpoint.save(self.file, self.ema, self.recipe.as_dict(), figures, overwrite)
            if evaluate:
                figures |= self.task.evaluate(self.ema)
                checkpoint.save(self.file, self.ema, self.recipe.as_dict(), figures, overwrite=True)
            self.state_file.unlink(missing_ok=True)
        return figures

    def _parts(self) -> dict[str, Any]:
        return {"network": self.network, "ema": self.ema, "optimizer": self.optimizer}

    def _batch(self, step: int) -> list[torch.Tensor]:
        where = self.processes.device
        shares = map(self.processes.share, self.task.draw(*self.batches.at(step)))
        return [x.to(where, memory_format=torch.channels_last) if x.dim() == 4 else x.to(where) for x in shares]

    def _bfloat16_is_faster(self) -> bool:
        """Whether this machine computes a loss clearly faster in bfloat16; tried out, on a copy."""
        network = copy.deepcopy(self.network)  # what it counts while training, such as means, must not change
        batch = self._batch(0)
        few = batch if batch[0].is_cuda else [part[:16] for part in batch]
        return bool(bfloat16_is_faster(lambda *_: self.task.loss_of(network, *few), few[0], few[0]))

    def _resume(self) -> None:
        """Take up the saved state."""
        cure = "Delete it to begin again."
        state = checkpoint.read_parts(self.state_file, "training's state", KEPT, cure)
        wrong = [name for name, kind in KEPT.items() if not isinstance(state[name], kind)]
        if wrong:
            raise CheckpointError(f"{self.state_file} is not what a training left: see its {wrong[0]}. {cure}")
        before, now = state["recipe"], self.recipe.as_dict()
        # the number of steps may differ: that is how a run is made longer or cut short
        other = [key for key in now | before if key != "steps" and now.get(key) != before.get(key)]
        if other:
            raise CheckpointError(
                f"{self.state_file} was left by a run with another {', '.join(other)}: "
                "delete it to begin again, or say the same."
            )
        try:
            for name in ("network", "ema"):
                checkpoint.check_weights(self.network, state[name])
            self._check_optimizer(state["optimizer"])
        except CheckpointError as error:
            raise CheckpointError(f"{self.state_file} is of another network than this training's. {cure}") from error
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.done, self.losses, self.seconds = state["done"], state["losses"], state["seconds"]
        if self.processes.main:
            print(f"Going on at step {self.done} of {self.recipe.steps}, from {self.state_file}.")

    def _check_optimizer(self, state: dict[str, Any]) -> None:
        """Raise CheckpointError where a state is not what AdamW keeps for these parameters."""
        own = self.optimizer.state_dict()["param_groups"]
        shapes = [p.shape for p in self.network.parameters()]
        kept, groups = state.get("state"), state.get("param_groups")
        if not isinstance(kept, dict) or not isinstance(groups, list) or not set(kept) <= set(range(len(shapes))):
            raise CheckpointError("The optimizer's state is of other parameters.")
        if [(*group, len(group["params"])) for group in groups] != [(*group, len(group["params"])) for group in own]:
            raise CheckpointError("The optimizer's state has other settings.")
        for i, averages in kept.items():
            if any(averages[name].shape != shapes[i] for name in ("exp_avg", "exp_avg_sq")):
                raise CheckpointError(f"The optimizer's state of parameter {i} has another shape.")


def train(
    file: Path,
    recipe: Recipe,
    prepare: Callable[[Recipe], Task],
    *,
    device: str = "auto",
    every: int = 500,
    evaluate: bool = True,
    overwrite: bool = False,
) -> Figures:
    """Train what a recipe says and write a checkpoint; where FILE.resume lies beside it, go on from there.

    recipe: its batch is that of each process. prepare(recipe): what is trained. device: one of processes.DEVICES.
    every: steps after which FILE.resume and FILE.png are written. evaluate: whether figures of the result are taken.
    Returns the figures, with the loss and the minutes that the steps took.

    Under torchrun each process takes its part of a batch of size times "batch"; the losses are those of one
    process with that batch, to rounding.
    Raises CheckpointError where the file exists and `overwrite` is false, FILE.resume is of another recipe, foreign or
    damaged, the device is not there or has too little memory; FileError where a file cannot be written; and what
    `prepare` raises: DataError where MNIST cannot be had.
    """
    checkpoint.refuse_to_overwrite(file, overwrite)
    with Processes(device_named(device)) as processes, _memory_said_in_a_sentence():
        recipe = dataclasses.replace(recipe, batch=recipe.batch * processes.size)
        training = Training(file, recipe, prepare(recipe), processes)
        training.run(every)
        return training.finish(evaluate, overwrite)


@contextlib.contextmanager
def _memory_said_in_a_sentence() -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise CheckpointError("The GPU ran out of memory: lower --batch, or say --device cpu.") from error
