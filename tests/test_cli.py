"""The `labdiff` command, as somebody types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support import labdiff


def in_a_new_process(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As somebody types it: nothing is imported yet, and the surroundings are of its own."""
    return subprocess.run(
        [sys.executable, "-m", "labdiff", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test works in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("isolation", [pytest.param("bubblewrap", marks=pytest.mark.sandbox), "none"])
def test_demo_grades_writes_feedback_and_draws_digits_without_network_or_mnist(tmp_path, isolation):
    surroundings = {"LABDIFF_DATA": "/nowhere", "HTTP_PROXY": "http://127.0.0.1:9"}
    if isolation == "none":  # as where bubblewrap is not installed
        surroundings["PATH"] = str(Path(sys.executable).parent)
    done = in_a_new_process("demo", cwd=tmp_path, **surroundings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"isolation: {isolation}" in done.stdout
    assert ("apt-get install bubblewrap" in done.stdout) == (isolation == "none")
    assert "chen       7.6 / 20" in done.stdout
    assert "This is no notebook: the file is not JSON." in done.stdout
    out = tmp_path / "demo"
    assert "q_sample" in done.stdout
    assert "a standard deviation, not a variance" in " ".join(done.stdout.split())  # the table wraps its lines
    assert "not done" in done.stdout
    assert "To get a lab: labdiff release lab1_forward" in done.stdout
    assert "labdiff-verdict" in (out / "feedback" / "chen" / "lab1_forward" / "lab1_forward.html").read_text()
    assert (out / "gradebook.db").exists()
    with Image.open(out / "digits.png") as picture:
        assert picture.width > 400
        assert len(set(picture.convert("L").tobytes())) > 50


def test_an_unknown_lab_is_named_with_the_nearest(tmp_path):
    done = labdiff("build", "lab1_foward")
    assert done.exit_code == 1
    assert "There is no lab called 'lab1_foward'. Did you mean lab1_forward" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_be_graded_is_one_sentence(tmp_path):
    (tmp_path / "broken.ipynb").write_text('{"cells": [')
    for arguments, message in (
        (["broken.ipynb"], "This is no notebook: the file is not JSON."),
        (["missing.ipynb"], "There is no file missing.ipynb."),
        (["broken.ipynb", "--lab", "lab1"], "There is no lab called 'lab1'. Did you mean lab1_forward"),
    ):
        done = labdiff("grade", *arguments)
        assert done.exit_code != 0
        assert message in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr


def test_training_never_replaces_a_file_unless_told(tmp_path):
    (tmp_path / "classifier.ckpt").write_text("precious")
    done = labdiff("train", "classifier")
    assert done.exit_code == 1
    assert "classifier.ckpt exists already: choose another name, or say --overwrite." in done.stderr
    assert (tmp_path / "classifier.ckpt").read_text() == "precious"


def test_training_without_mnist_says_what_to_do(monkeypatch):
    monkeypatch.setenv("LABDIFF_DATA", "offline")
    done = labdiff("train", "model", "--steps", "1")
    assert done.exit_code == 1
    assert "LABDIFF_DATA=offline, so MNIST is not looked for." in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_class_commands_cannot_do_is_one_sentence(tmp_path):
    for arguments, message in (
        (["grade", "lab1_forward", "--submitted", "nowhere"], "There is no nowhere"),
        (["grade", "lab1_forwards", "--submitted", "."], "Did you mean lab1_forward"),
        (["release", "lab1_forwards"], "Did you mean lab1_forward"),
        (["export", "lab1_forward"], "grade the lab first"),
        (["feedback", "lab1_forward"], "Nobody was graded in lab1_forward yet"),
        (["similar", "lab1_forward"], "There is no submitted"),
    ):
        done = labdiff(*arguments)
        assert done.exit_code == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
