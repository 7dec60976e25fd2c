"""What goes wrong with data and checkpoints is named in one sentence, and nothing is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch

from labdiff import data, images, models, schedules
from labdiff.errors import CheckpointError, DataError, FileError, UnknownName
from labdiff.models import checkpoint
from labdiff.reference.lab2_unet import UNet
from labdiff.reference.lab4_sampling import confident_share, ddim_timesteps

SMALL = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "heads": 2}


@pytest.fixture
def small(tmp_path):
    """A checkpoint of a small U-Net, and the network."""
    network = UNet(**SMALL)
    file = tmp_path / "small.ckpt"
    checkpoint.save(file, network, {"T": 1000}, {})
    return file, network


# --- checkpoints ------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_as_it_was_written(small):
    file, network = small
    found = models.from_checkpoint(UNet, file)
    assert all(
        torch.equal(a, b) for a, b in zip(found.state_dict().values(), network.state_dict().values(), strict=True)
    )


def test_a_truncated_checkpoint_is_named(small):
    file, _ = small
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"small\.ckpt cannot be read as a checkpoint: it is cut off, damaged"):
        models.load(file)


def test_a_foreign_file_is_named(tmp_path):
    file = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}}, file)
    with pytest.raises(CheckpointError, match="is no checkpoint of labdiff: it lacks weights, config, recipe, figures"):
        models.load(file)
    file.write_text("not even torch")
    with pytest.raises(CheckpointError, match="cannot be read"):
        models.load(file)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "was_here"), "w"))

    file = tmp_path / "evil.ckpt"
    torch.save({"weights": Payload()}, file)
    with pytest.raises(CheckpointError, match="cannot be read"):
        models.load(file)
    assert not (tmp_path / "was_here").exists()


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"There is no checkpoint .*nowhere\.ckpt"):
        models.load(tmp_path / "nowhere.ckpt")
    with pytest.raises(UnknownName, match=r"No checkpoint called 'modle' ships with labdiff; there are .*model"):
        models.load("modle")


def test_a_network_that_does_not_fit_learns_which_parameter_and_which_shape(small):
    file, _ = small
    with pytest.raises(
        CheckpointError, match=r"linear1.weight has the shape \(64, 16\) in your network and \(32, 8\) in the"
    ):
        models.load_weights(UNet(**{**SMALL, "channels": 16}), file)
    with pytest.raises(
        CheckpointError,
        match=r"Your network has no parameter time_mlp\S+, which the checkpoint holds\. Did you mean weight\?$",
    ):
        models.load_weights(torch.nn.Linear(2, 2), file)
    network = UNet(**SMALL)
    network.extra = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(CheckpointError, match="Your network has a parameter extra that the checkpoint does not hold"):
        models.load_weights(network, file)


def test_a_shipped_file_is_never_overwritten_unless_told(small):
    file, network = small
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match="exists already: choose another name, or say --overwrite"):
        checkpoint.save(file, network, {}, {})
    assert file.read_bytes() == before


def test_a_checkpoint_is_written_whole_or_not_at_all(small, monkeypatch):
    file, network = small
    before = file.read_bytes()

    def dies_half_way(value, place):
        place.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", dies_half_way)
    with pytest.raises(FileError):
        checkpoint.save(file, network, {}, {}, overwrite=True)
    assert file.read_bytes() == before
    assert [each.name for each in file.parent.iterdir()] == [file.name]


# --- the shipped checkpoints ------------------------------------------------------------------


def test_the_front_of_models_needs_no_answer_of_a_lab():
    code = "import sys, labdiff.models, labdiff.schedules; print([n for n in sys.modules if 'labdiff.reference' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_where_answers_are_missing_digits_come_that_were_drawn_beforehand(monkeypatch):
    monkeypatch.setitem(sys.modules, "labdiff.models.sampling", None)
    drawn = models.draw(40, seed=3)
    known, _ = data.offline_digits()
    assert drawn.shape == (40, 1, 28, 28)
    assert all((known == each).flatten(1).all(1).any() for each in drawn)
    assert torch.equal(drawn, models.draw(40, seed=3)) and not torch.equal(drawn, models.draw(40, seed=4))


@pytest.mark.parametrize("name", ["unet", "guided_unet", "autoencoder", "text_to_image", "digit_classifier"])
def test_each_shipped_network_is_on_the_cpu_and_evaluates(name):
    network = getattr(models, name)()
    assert network is getattr(models, name)()
    assert not network.training
    assert {each.device.type for each in network.parameters()} == {"cpu"}


@pytest.mark.slow
def test_the_shipped_model_draws_digits_that_the_classifier_reads():
    drawn = 256
    probabilities, _ = models.classify(models.draw(drawn, steps=20))
    measured = models.load("model")["figures"]["20"]["confident"]  # on 10,000 digits
    assert confident_share(probabilities.log()) > measured - 4 * (measured * (1 - measured) / drawn) ** 0.5
    assert len(probabilities.argmax(1).unique()) == 10


@pytest.mark.parametrize("steps", [10, 20, 36, 50])
def test_timesteps_are_evenly_spaced_in_a_power_of_t(steps):
    assert schedules.spaced_timesteps(steps) == ddim_timesteps(1000, steps)
    for power in (0.5, 0.8):
        spaced = schedules.spaced_timesteps(steps, power)
        assert (len(spaced), spaced[0], spaced[-1]) == (steps, 999, 0)
        even = [(t / 999) ** (1 / power) for t in spaced]
        assert even == pytest.approx(torch.linspace(1, 0, steps).tolist(), abs=2e-3)


def test_timesteps_that_fall_together_are_visited_once():
    assert schedules.spaced_timesteps(50, power=4.0)[-2:] == [1, 0]


def test_the_shipped_checkpoints_hold_their_recipe_and_measured_figures():
    model, classifier = models.load("model"), models.load("classifier")
    assert sum(value.numel() for value in model["weights"].values()) <= 3_000_000
    assert model["figures"]["50"]["times_floor"] > 0
    assert classifier["figures"]["test_accuracy"] >= 0.994


@pytest.mark.mnist
def test_the_classifier_reads_the_test_images_as_well_as_its_card_says():
    from labdiff.models.evaluation import evaluate_classifier

    found = evaluate_classifier(models.digit_classifier())["test_accuracy"]
    assert found == pytest.approx(models.load("classifier")["figures"]["test_accuracy"], abs=2e-4)


# --- data -------------------------------------------------------------------------------------


def test_offline_digits_serve_where_nothing_else_does_and_say_so(monkeypatch, capsys):
    monkeypatch.setenv("LABDIFF_DATA", "offline")
    x, labels = data.digits(100)
    assert "offline digits" in capsys.readouterr().out
    assert x.shape == (100, 1, 28, 28)
    assert x.min() >= -1
    assert x.max() <= 1
    assert set(labels.tolist()) == set(range(10))


def test_mnist_that_cannot_be_downloaded_is_named(monkeypatch, tmp_path):
    from torchvision import datasets

    def unreachable(self):
        raise RuntimeError("Error downloading train-images")

    monkeypatch.setattr(datasets.MNIST, "download", unreachable)
    monkeypatch.setenv("LABDIFF_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"MNIST is not in .* and could not be downloaded .*set LABDIFF_DATA"):
        data.load("mnist")
    assert len(data.digits(3)[0]) == 3


@pytest.mark.mnist
@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda raw: raw[: len(raw) // 2], "is incomplete: it has 3920008 bytes of 7840016; delete it"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "is damaged: its checksum is not that of the original"),
    ],
)
def test_a_partial_or_corrupt_download_is_named(monkeypatch, tmp_path, harm, message):
    shutil.copytree(data.folder() / "MNIST", tmp_path / "MNIST")
    file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.chmod(0o644)
    file.write_bytes(harm(file.read_bytes()))
    monkeypatch.setenv("LABDIFF_DATA", str(tmp_path))
    with pytest.raises(DataError, match=message):
        data.load("mnist", train=False)


def test_an_unknown_data_set_is_named():
    with pytest.raises(UnknownName, match="There is no data set 'cifar': labdiff has 'mnist' and 'fashion'"):
        data.load("cifar")


def test_pixels_do_not_wrap_around():
    assert images.to_pixels(torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5])).tolist() == [0, 0, 128, 255, 255]
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(images.to_pixels(images.from_pixels(pixels)), pixels)
