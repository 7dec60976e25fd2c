"""Training goes on where it was stopped, and several processes train as one would."""

from __future__ import annotations

import dataclasses
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labdiff import data, models, pictures
from labdiff.errors import CheckpointError
from labdiff.models import checkpoint
from labdiff.models.train import TRAINED, training
from labdiff.models.train.processes import Processes, device_named
from labdiff.models.train.recipe import Recipe
from labdiff.models.train.text_to_image import legible_latents
from labdiff.reference.lab3_training import bfloat16_is_faster

# A small regression on made data. ARGUMENTS: the file, the batch of each process, the steps. With DIES set, the
# last process is killed at that step.
TOY = """
import os, signal, sys
from pathlib import Path
import torch
from labdiff.models.train import training
from labdiff.models.train.processes import Processes
from labdiff.models.train.recipe import Recipe

class Toy(torch.nn.Sequential):
    config = {}

rank, calls, dies = int(os.environ.get("RANK", 0)), [], int(os.environ.get("DIES", 0))

def prepare(recipe):
    torch.manual_seed(0)
    network = Toy(torch.nn.Linear(3, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1))
    x = torch.randn(64, 3)

    def draw(chosen, generator):
        calls.append(1)
        if dies and len(calls) == dies and rank == int(os.environ.get("WORLD_SIZE", 1)) - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return x[chosen], torch.randn(len(chosen), 1, generator=generator)

    def loss_of(network, x, noise):
        return (network(x) - x.sum(1, keepdim=True) - 0.1 * noise).square().mean()

    return training.Task(network, len(x), draw, loss_of, evaluate=lambda ema: {})

mean = Processes.mean
def told(processes, loss):
    value = mean(processes, loss)
    if rank == 0:
        print("loss", repr(value))
    return value
Processes.mean = told
training.bfloat16_is_faster = lambda *_: False

file, batch, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
recipe = Recipe(data="made", steps=steps, batch=batch, peak=0.01, warmup=1, ema_decay=0.9)
figures = training.train(file, recipe, prepare, device="cpu", every=2)
"""


@pytest.fixture
def toy(tmp_path):
    """Train the toy in processes of its own: toy(name, batch, steps, processes, dies) -> what ended, and its losses."""
    script = tmp_path / "toy.py"
    script.write_text(TOY)

    def run(name: str, batch: int, steps: int = 6, processes: int = 1, dies: int = 0):
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(torchrun if processes > 1 else []), str(script)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "DIES": str(dies), "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            [*command, str(tmp_path / name), str(batch), str(steps)],
            capture_output=True, text=True, timeout=240, env=environment,
        )  # fmt: skip
        losses = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("loss")]
        return done, losses

    return run


def weights(file: Path) -> torch.Tensor:
    return torch.cat([value.flatten() for value in models.load(file)["weights"].values()])


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(toy, tmp_path):
    one, losses = toy("one.ckpt", batch=16)
    two, of_two = toy("two.ckpt", batch=8, processes=2)
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    assert len(losses) == 6 and losses[0] != losses[-1]
    torch.testing.assert_close(torch.tensor(of_two), torch.tensor(losses), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights(tmp_path / "two.ckpt"), weights(tmp_path / "one.ckpt"), rtol=1e-4, atol=1e-5)
    assert models.load(tmp_path / "two.ckpt")["recipe"]["batch"] == 16


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_it_goes_on_from_the_last_save(toy, tmp_path):
    whole, losses = toy("whole.ckpt", batch=16)
    killed, _ = toy("parts.ckpt", batch=8, processes=2, dies=7)  # one call of draw tries out bfloat16, so at step 5
    assert whole.returncode == 0
    assert killed.returncode != 0
    assert not (tmp_path / "parts.ckpt").exists()
    assert torch.load(tmp_path / "parts.ckpt.resume", weights_only=True)["done"] == 4
    again, rest = toy("parts.ckpt", batch=8, processes=2)
    assert again.returncode == 0, again.stderr
    assert "Going on at step 4 of 6" in again.stdout
    torch.testing.assert_close(torch.tensor(rest), torch.tensor(losses[4:]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights(tmp_path / "parts.ckpt"), weights(tmp_path / "whole.ckpt"), rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.glob("*.resume"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Train the toy in this process: here(name, batch, steps) -> its figures."""
    script = tmp_path / "toy.py"
    script.write_text(TOY)
    monkeypatch.setattr(Processes, "mean", Processes.mean)  # the toy changes them
    monkeypatch.setattr(training, "bfloat16_is_faster", training.bfloat16_is_faster)

    def run(name: str, batch: int = 8, steps: int = 6) -> dict:
        monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / name), str(batch), str(steps)])
        return runpy.run_path(str(script))["figures"]

    return run


@pytest.fixture
def left(here, tmp_path, monkeypatch):
    """What an interrupted training of parts.ckpt left after three of its steps, of which two were saved."""
    real, calls = Recipe.learning_rate, []

    def interrupted(recipe, step):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(recipe, step)

    with monkeypatch.context() as patched:
        patched.setattr(Recipe, "learning_rate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            here("parts.ckpt")
    assert not (tmp_path / "parts.ckpt").exists()
    return tmp_path / "parts.ckpt.resume"


def test_an_interrupted_training_ends_with_the_same_weights(here, left, tmp_path):
    here("whole.ckpt")
    here("parts.ckpt")
    assert torch.equal(weights(tmp_path / "whole.ckpt"), weights(tmp_path / "parts.ckpt"))
    assert not list(tmp_path.glob("*.resume"))


def changed(file: Path, **parts) -> None:
    torch.save(torch.load(file, weights_only=True) | parts, file)


def test_the_minutes_of_a_resumed_training_add_up(here, left):
    changed(left, seconds=600.0)
    assert 10 < here("parts.ckpt")["minutes"] < 11


def test_a_resumed_training_may_be_made_longer(here, left, tmp_path):
    here("parts.ckpt", steps=8)
    assert models.load(tmp_path / "parts.ckpt")["recipe"]["steps"] == 8


def test_a_run_does_not_go_on_from_another_recipe(here, left):
    with pytest.raises(CheckpointError, match="was left by a run with another batch: delete it"):
        here("parts.ckpt", batch=16)
    recipe = torch.load(left, weights_only=True)["recipe"]
    changed(left, recipe=recipe | {"betas": (0.9, 0.999), "clip": 2.0, "T": 1000})
    with pytest.raises(CheckpointError, match="was left by a run with another betas, clip, T: delete it"):
        here("parts.ckpt")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda file: file.write_bytes(file.read_bytes()[:3000]),
            "cannot be read as a training's state: it is cut off",
        ),
        (lambda file: file.write_bytes(b""), "cannot be read as a training's state: it is cut off"),
        (lambda file: file.write_text("a note"), "cannot be read as a training's state: it is cut off"),
        (lambda file: torch.save([1, 2], file), "is no training's state of labdiff: it lacks done, seconds, losses"),
        (lambda file: torch.save({"done": 2, "losses": []}, file), "lacks seconds, recipe, network, ema, optimizer"),
        (lambda file: changed(file, done="two"), "is not what a training left: see its done"),
        (lambda file: changed(file, network={"0.weight": torch.zeros(2, 2)}), "is of another network than this"),
        (lambda file: changed(file, ema={"0.weight": 1}), "is of another network than this"),
        (lambda file: changed(file, optimizer={}), "is of another network than this"),
    ],
)
def test_a_foreign_or_half_written_state_is_named(here, left, spoil, message):
    spoil(left)
    with pytest.raises(CheckpointError, match=f"parts.ckpt.resume .*{message}.*Delete it to begin again"):
        here("parts.ckpt")


def test_the_state_of_other_averages_is_named(here, left):
    optimizer = torch.load(left, weights_only=True)["optimizer"]
    optimizer["state"][0]["exp_avg"] = torch.zeros(2, 2)
    changed(left, optimizer=optimizer)
    with pytest.raises(CheckpointError, match="is of another network than this training's"):
        here("parts.ckpt")


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_named("auto") == device_named("cpu") == torch.device("cpu")
    with pytest.raises(CheckpointError, match="There is no device called 'gpu': say auto, cpu or cuda"):
        device_named("gpu")
    with pytest.raises(CheckpointError, match="No GPU that PyTorch can use is here: say --device cpu"):
        device_named("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(CheckpointError, match="Process 2 has no GPU, since there are 1: lower --nproc-per-node"):
        device_named("cuda")


def test_a_finished_checkpoint_is_not_trained_over(here, tmp_path):
    here("model.ckpt")
    before = (tmp_path / "model.ckpt").read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        here("model.ckpt")
    assert (tmp_path / "model.ckpt").read_bytes() == before


def test_trying_bfloat16_takes_few_images_and_no_backward_pass():
    """Where a processor lacks it, a backward pass in bfloat16 of a whole batch takes ten seconds."""
    sizes = set()

    def network(x, t):
        assert not torch.is_grad_enabled()
        sizes.add((len(x), len(t)))
        return x

    bfloat16_is_faster(network, torch.zeros(64, 1, 4, 4), torch.zeros(64, dtype=torch.int64))
    assert sizes == {(16, 16)}


def test_a_gpu_without_enough_memory_says_what_to_lower():
    with pytest.raises(CheckpointError, match="lower --batch"), training._memory_said_in_a_sentence():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")


@pytest.mark.mnist
@pytest.mark.slow
@pytest.mark.parametrize("which", ["model", "classifier", "guided", "autoencoder"])
def test_every_checkpoint_can_be_trained_and_drawn(which, tmp_path, monkeypatch):
    """A few steps of the real thing, on a few of its images."""
    real = data.load
    monkeypatch.setattr(data, "load", lambda *a, **k: tuple(part[:200] for part in real(*a, **k)))
    monkeypatch.setattr(training, "bfloat16_is_faster", lambda *_: False)
    file = tmp_path / f"{which}.ckpt"
    recipe, prepare = TRAINED[which]
    recipe = dataclasses.replace(recipe, steps=3, batch=4)
    training.train(file, recipe, prepare, every=2, device="cpu", evaluate=False)
    assert models.load(file)["recipe"]["steps"] == 3
    assert which == "classifier" or file.with_suffix(".png").exists()
    assert checkpoint.load(file)["recipe"] == recipe.as_dict()


def test_what_the_autoencoder_cannot_show_is_left_out_of_training():
    coder = models.autoencoder()
    images, digits = data.offline_digits()
    x, _, attributes = pictures.pictures(images[:40], digits[:40], progress=False)
    attributes[::4, pictures.INK] = (attributes[::4, pictures.INK] + 1) % 6  # what these pictures do not show
    z, legible = legible_latents(coder, x, attributes)
    assert not legible[::4].any()
    assert legible.sum() > 10
    with torch.inference_mode():
        assert (models.attributes_of(coder.decode(z[legible])) == attributes[legible]).all()
