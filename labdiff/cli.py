"""The `labdiff` command."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The Stable Diffusion Lab.")


@app.callback()
def main() -> None:
    """The Stable Diffusion Lab."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for the results.")] = Path("demo"),
) -> None:
    """Grade an example submission, write its feedback page, and draw 64 digits; under two minutes."""
    from labdiff.grading.course import CourseError
    from labdiff.grading.demo import demo as run

    try:
        run(out)
    except CourseError as error:
        raise typer.Exit(fail(str(error))) from error


@app.command()
def build(
    labs: Annotated[list[str] | None, typer.Argument(help="Labs to build; all, unless named.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; say what is stale and exit 1.")] = False,
    execute: Annotated[bool, typer.Option("--execute", help="Run the corrections again even if fresh.")] = False,
) -> None:
    """Build the notebooks, references, golden answers and figures from solutions/."""
    from labdiff.authoring.build import SourceError
    from labdiff.authoring.build import build as run

    try:
        made = run(labs, check=check, execute=execute)
    except SourceError as error:
        raise typer.Exit(fail(str(error))) from error
    for name in made.stale:
        print(f"{'stale' if check else 'built'}: {name}")
    if check and made.stale:
        raise typer.Exit(fail("Run `labdiff build` and commit what it writes."))
    if not made.stale:
        print("Everything built is fresh.")


class Checkpoint(str, Enum):
    """What `labdiff train` trains."""

    model = "model"
    judge = "judge"


@app.command()
def train(
    which: Annotated[Checkpoint, typer.Argument(help="The U-Net that draws digits, or the judge that reads them.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; ./WHICH.ckpt unless given.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of the model.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per step.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same batches and noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    measure: Annotated[bool, typer.Option(help="Measure the model at the end (FID; long on a CPU).")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Train a checkpoint on MNIST; interrupted, the same command goes on where it stopped."""
    from labdiff import train as training
    from labdiff.checkpoints import CheckpointError
    from labdiff.data import DataError

    file = out or Path(f"{which.value}.ckpt")
    given = {"batch": batch, "steps": steps} if which is Checkpoint.model else {"batch": batch}
    options = {key: value for key, value in given.items() if value is not None}
    options |= {"seed": seed, "device": device, "overwrite": overwrite}
    try:
        if which is Checkpoint.model:
            figures = training.train_model(file, measure=measure, **options)
        else:
            figures = training.train_judge(file, **options)
    except (CheckpointError, DataError) as error:
        raise typer.Exit(fail(str(error))) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(fail(f"Stopped. The same command goes on from {file}.resume.")) from error
    print(json.dumps(figures, indent=2))
    print(f"Wrote {file}.")


def fail(message: str) -> int:
    """Print what went wrong and return the exit status."""
    typer.echo(message, err=True)
    return 1


if __name__ == "__main__":
    app()
