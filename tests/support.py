"""What the tests share: the labs' exercises, their reference answers, their mistakes and variants."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from labdiff import exercises
from labdiff.authoring import proofs
from labdiff.cli import app

ROOT = Path(__file__).resolve().parents[1]
ALL = [exercise for lab in exercises.LABS for exercise in exercises.lab(lab).exercises.values()]


@functools.cache
def reference(lab: str) -> Any:
    """The module of a lab's reference answers."""
    return importlib.import_module(f"labdiff.reference.{lab}")


@functools.cache
def answers(lab: str, kind: str) -> dict[str, dict[str, Any]]:
    """A lab's mistakes or variants: exercise -> name -> answer."""
    return proofs.load(ROOT / "solutions" / lab / f"{kind}s.py", kind)


def named(kind: str) -> list[Any]:
    """Every mistake or variant as a pytest parameter (exercise, answer)."""
    return [
        pytest.param(exercise, answer, id=f"{exercise.name}-{title}")
        for exercise in ALL
        for title, answer in answers(exercise.lab, kind).get(exercise.name, {}).items()
    ]


def labdiff(*arguments: object) -> Result:
    """Run the `labdiff` command in this process and folder. Raises what the command does not turn into a sentence."""
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
