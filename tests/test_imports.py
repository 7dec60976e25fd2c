"""What a command imports, and how long it takes to say a sentence."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports
from support import ROOT

SECONDS = 0.7  # of the processor, for an answer that needs no torch
# a command as it is typed, in a process of its own that tells at its end what it has imported
TOLD = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})), file=sys.stderr))
from labdiff.cli import app
app(sys.argv[1:])
"""
QUICK = {
    "--help": "Usage",
    "export lab1_forward": "grade the lab first",
    "feedback lab1_forward": "Nobody was graded in lab1_forward yet",
    "release nonsense": "There is no lab called 'nonsense'",
    "build nonsense": "There is no lab called 'nonsense'",
}
each_command = pytest.mark.parametrize("command", QUICK)


def run(arguments: list[str], folder: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """What a process of Python took of the processor, and what it said."""
    environment = os.environ | {"COLUMNS": "200"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


@each_command
def test_what_needs_no_torch_imports_none(command, tmp_path):
    _, done = run(["-c", TOLD, *command.split()], str(tmp_path))
    *said, modules = (done.stdout + done.stderr).strip().splitlines()
    assert QUICK[command] in " ".join(said)
    assert {"torch", "labdiff"} & {*json.loads(modules)} == {"labdiff"}


@each_command
def test_what_needs_no_torch_answers_at_once(command, tmp_path):
    seconds = min(run(["-m", "labdiff", *command.split()], str(tmp_path))[0] for _ in range(3))
    assert seconds < SECONDS


def test_imports_run_one_way(monkeypatch):
    """The order is [tool.importlinter] in pyproject.toml."""
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == EXIT_STATUS_SUCCESS
