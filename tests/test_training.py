"""Training goes on where it was stopped, and several processes train as one would."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labdiff import checkpoints, data, pictures, train
from labdiff.checkpoints import CheckpointError
from labdiff.reference.lab3_training import bfloat16_is_faster
from labdiff.reference.lab6_text_to_image import Autoencoder

# A small regression on made data. ARGUMENTS: the file, the batch of each process, the steps. With DIES set, the
# last process is killed at that step.
TOY = """
import os, signal, sys
from pathlib import Path
import torch
from labdiff import train

class Toy(torch.nn.Sequential):
    config = {}

torch.manual_seed(0)
network = Toy(torch.nn.Linear(3, 8), torch.nn.SiLU(), torch.nn.Linear(8, 1))
x = torch.randn(64, 3)
rank, calls, dies = int(os.environ.get("RANK", 0)), [], int(os.environ.get("DIES", 0))

def draw(chosen, generator):
    calls.append(1)
    if dies and len(calls) == dies and rank == int(os.environ.get("WORLD_SIZE", 1)) - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return x[chosen], torch.randn(len(chosen), 1, generator=generator)

def loss_of(network, x, noise):
    return (network(x) - x.sum(1, keepdim=True) - 0.1 * noise).square().mean()

mean = train.World.mean
def told(world, loss):
    value = mean(world, loss)
    if rank == 0:
        print("loss", repr(value))
    return value
train.World.mean = told

recipe = {"steps": int(sys.argv[3]), "batch": int(sys.argv[2]), "peak": 0.01, "seed": 0, "ema_decay": 0.9}
options = {"device": "cpu", "every": 2, "warmup": 1, "bfloat16": False}
figures = train.fit(Path(sys.argv[1]), network, len(x), draw, loss_of, recipe, **options)
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
    return torch.cat([value.flatten() for value in checkpoints.load(file)["weights"].values()])


def test_two_processes_train_as_one_with_twice_the_batch(toy, tmp_path):
    one, losses = toy("one.ckpt", batch=16)
    two, of_two = toy("two.ckpt", batch=8, processes=2)
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    assert len(losses) == 6 and losses[0] != losses[-1]
    torch.testing.assert_close(torch.tensor(of_two), torch.tensor(losses), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights(tmp_path / "two.ckpt"), weights(tmp_path / "one.ckpt"), rtol=1e-4, atol=1e-5)
    assert checkpoints.load(tmp_path / "two.ckpt")["recipe"]["batch"] == 16


def test_a_killed_process_ends_the_run_and_it_goes_on_from_the_last_save(toy, tmp_path):
    whole, losses = toy("whole.ckpt", batch=16)
    killed, _ = toy("parts.ckpt", batch=8, processes=2, dies=6)  # one call of draw tries out nothing, so at step 5
    assert whole.returncode == 0
    assert killed.returncode != 0
    assert not (tmp_path / "parts.ckpt").exists()
    assert torch.load(tmp_path / "parts.ckpt.resume", weights_only=True)["step"] == 4
    again, rest = toy("parts.ckpt", batch=8, processes=2)
    assert again.returncode == 0, again.stderr
    assert "Going on at step 4 of 6" in again.stdout
    torch.testing.assert_close(torch.tensor(rest), torch.tensor(losses[4:]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights(tmp_path / "parts.ckpt"), weights(tmp_path / "whole.ckpt"), rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.glob("*.resume"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Train the toy in this process: here(name, batch) -> nothing."""
    script = tmp_path / "toy.py"
    script.write_text(TOY)
    monkeypatch.setattr(train.World, "mean", train.World.mean)  # the toy changes it

    def run(name: str, batch: int = 8, steps: int = 6) -> None:
        monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / name), str(batch), str(steps)])
        runpy.run_path(str(script))

    return run


def test_an_interrupted_training_ends_with_the_same_weights(here, tmp_path, monkeypatch):
    here("whole.ckpt")
    real, calls = train.learning_rate, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(train, "learning_rate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        here("parts.ckpt")
    assert not (tmp_path / "parts.ckpt").exists()
    monkeypatch.setattr(train, "learning_rate", real)
    here("parts.ckpt")
    assert torch.equal(weights(tmp_path / "whole.ckpt"), weights(tmp_path / "parts.ckpt"))
    assert not list(tmp_path.glob("*.resume"))


def test_a_run_does_not_go_on_from_another_recipe(here, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        here("model.ckpt")
    with pytest.raises(CheckpointError, match="was left by a run with another batch"):
        here("model.ckpt", batch=16)


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
    with pytest.raises(CheckpointError, match="lower --batch"), train._memory_said_in_a_sentence():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")


@pytest.mark.mnist
@pytest.mark.slow
@pytest.mark.parametrize("which", ["model", "judge", "guided", "autoencoder"])
def test_every_checkpoint_can_be_trained_and_drawn(which, tmp_path, monkeypatch):
    """A few steps of the real thing, on a few of its images."""
    real = train.data.load
    monkeypatch.setattr(train.data, "load", lambda *a, **k: tuple(part[:200] for part in real(*a, **k)))
    file = tmp_path / f"{which}.ckpt"
    train.TRAIN[which](file, steps=3, batch=4, every=2, device="cpu", measure=False, bfloat16=False)
    assert checkpoints.load(file)["recipe"]["steps"] == 3
    assert which == "judge" or file.with_suffix(".png").exists()


def test_what_the_autoencoder_cannot_show_is_left_out_of_training():
    coder = checkpoints.fit(Autoencoder(**checkpoints.load("autoencoder")["config"]), "autoencoder")
    images, digits = data.offline_digits()
    x, _, attributes = pictures.pictures(images[:40], digits[:40], progress=False)
    attributes[::4, pictures.INK] = (attributes[::4, pictures.INK] + 1) % 6  # what these pictures do not show
    z, legible = train.legible_latents(coder, x, attributes)
    assert not legible[::4].any()
    assert legible.sum() > 10
    with torch.inference_mode():
        assert (pictures.read(coder.decode(z[legible])) == attributes[legible]).all()
