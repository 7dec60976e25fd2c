"""The `labdiff` command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from labdiff.errors import LabdiffError, Unreadable
from labdiff.exercises.names import check_lab
from labdiff.grading.classroom.export import Format
from labdiff.grading.sandbox.limits import Isolation

LAB = Annotated[str, typer.Argument(help="The name of a lab, such as lab1_forward.")]
COURSE = Annotated[Path, typer.Option(help="The folder of a class's gradebook, reports and feedback.")]


class SaidInASentence(TyperGroup):
    """Commands of which an error of labdiff's own family is one sentence and exit status 1; any other is a bug."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().main(*args, **options)
        except LabdiffError as error:
            raise SystemExit(fail(str(error))) from error


# what a command needs is imported when it runs: whoever mistypes a name should not wait for torch
app = typer.Typer(cls=SaidInASentence, no_args_is_help=True, add_completion=False, help="The Stable Diffusion Lab.")


@app.callback()
def main() -> None:
    """The Stable Diffusion Lab."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for the results.")] = Path("demo"),
) -> None:
    """Grade a class of twelve example submissions, write a feedback page, and draw 64 digits."""
    from labdiff.grading.classroom.demo import demo as run

    run(out)


@app.command()
def build(
    labs: Annotated[list[str] | None, typer.Argument(help="Labs to build; all, unless named.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; say what is stale and exit 1.")] = False,
    execute: Annotated[bool, typer.Option("--execute", help="Run the corrections again even if fresh.")] = False,
) -> None:
    """Build the notebooks, references, golden answers and figures from solutions/."""
    for lab in labs or ():
        check_lab(lab)
    from labdiff.authoring.build import build as run

    made = run(labs, check=check, execute=execute)
    for name in made.stale:
        print(f"{'stale' if check else 'built'}: {name}")
    if check and made.stale:
        raise typer.Exit(fail("Run `labdiff build` and commit what it writes."))
    if not made.stale:
        print("Everything built is fresh.")


@app.command()
def grade(
    what: Annotated[str, typer.Argument(help="A submission's file, or, with --submitted, the name of a lab.")],
    submitted: Annotated[
        Path | None, typer.Option(help="A class: a folder or zip of notebooks, as a platform hands them out.")
    ] = None,
    course: COURSE = Path(),
    pattern: Annotated[
        str | None, typer.Option(help="Finds the student in a file's path: a regular expression, (?P<student>...).")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="The address of a Dask cluster; this machine's cores else.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes on this machine.")] = None,
    regrade: Annotated[
        bool, typer.Option("--regrade", help="Grade again what was graded by other checks or with another seed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write what --regrade changes without asking.")] = False,
    lab: Annotated[str | None, typer.Option(help="The lab that a single file answers; found out unless given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report of a single file as JSON.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the hidden inputs; drawn unless given.")] = None,
    carry: Annotated[
        bool | None, typer.Option(help="Marks for right work that relies on a wrong answer above it; on by default.")
    ] = None,
    isolation: Annotated[
        Isolation, typer.Option(help='"none" runs submissions with your own rights: grade only what you trust.')
    ] = Isolation.BUBBLEWRAP,
) -> None:
    """Grade a submission, or a whole class, in a sandbox; exits 0 where it could be graded."""
    conditions = {"seed": seed, "isolation": isolation}
    if submitted:
        options = {"pattern": pattern, "scheduler": scheduler, "workers": workers, "regrade": regrade}
        return _grade_class(what, submitted, course, yes, **conditions, **options, carry=carry)
    if not Path(what).is_file():
        raise typer.Exit(
            fail(f"There is no file {what}. For a whole class say where it is: labdiff grade LAB --submitted DIR.")
        )
    return _grade_one(Path(what), lab, as_json, **conditions, carry=carry is not False)


def _grade_one(notebook: Path, lab: str | None, as_json: bool, **conditions: Any) -> None:
    from labdiff.grading.grade import grade as run

    report = run(notebook, lab, **conditions)
    if as_json or not report.problem:
        print(report.to_json() if as_json else report.as_text())
    if report.problem:
        raise typer.Exit(fail(report.problem))


def _grade_class(lab: str, submitted: Path, folder: Path, yes: bool, **options: Any) -> None:
    from labdiff.grading.classroom.course import Course
    from labdiff.grading.classroom.run import Change, grade_class
    from labdiff.grading.sandbox.host import check_isolation

    def agree(changes: list[Change]) -> bool:
        for change in changes:
            typer.echo(f"{change.student}: {change.before:g} -> {change.after:g}")
            typer.echo("".join(f"    {why}\n" for why in change.why), nl=False)
        typer.echo(f"The marks of {len(changes)} change.")
        return yes or typer.confirm("Write them to the gradebook?")

    if not options["scheduler"]:
        check_isolation(options["isolation"])
    try:
        summary = grade_class(Course(folder), lab, submitted, agree=agree, **options)
    except KeyboardInterrupt as error:
        raise typer.Exit(fail("Stopped. The same command goes on where it was.")) from error
    print(f"\n{summary.as_text()}\n")
    print(f"Summary   {folder / 'reports' / lab / 'summary.html'}")
    print(f"Table     {folder / 'reports' / lab / 'summary.csv'}")


@app.command()
def release(
    lab: LAB,
    out: Annotated[Path | None, typer.Option(help="The zip to write; LAB.zip unless given.")] = None,
    correction: Annotated[bool, typer.Option("--correction", help="The correction, for after the deadline.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Pack what a class gets of a lab: one zip that opens in Colab and JupyterLab."""
    check_lab(lab)
    from labdiff.grading.classroom.release import pack_release

    print(f"Wrote {pack_release(lab, out, correction=correction, overwrite=overwrite)}.")


@app.command()
def feedback(
    lab: LAB,
    course: COURSE = Path(),
    zipped: Annotated[Path | None, typer.Option("--zip", help="A zip of the pages, as Moodle takes them back.")] = None,
) -> None:
    """Write the feedback page of everybody who was graded."""
    from labdiff.grading.classroom.course import Course
    from labdiff.grading.classroom.feedback import write_feedback

    unknown = write_feedback(Course(course), lab, zipped)
    print(f"Feedback  {zipped or course / 'feedback'}")
    if unknown:
        print(f"Not from Moodle, so each in a folder of their own: {len(unknown)} students.")


@app.command()
def export(
    lab: LAB,
    format: Annotated[Format, typer.Option(help="What the file is for.")] = Format.NBGRADER,
    course: COURSE = Path(),
    out: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    roster: Annotated[
        Path | None, typer.Option(help="Moodle's grading worksheet or Canvas's gradebook as downloaded, to fill in.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="The assignment's title in Canvas's file.")] = None,
) -> None:
    """Write the marks in the gradebook in a format that other programs import."""
    from labdiff.grading.classroom.export import export as run

    done = run(course, lab, format, out or Path(format.file_of(lab)), roster, column)
    print(done.as_text())


@app.command()
def similar(
    lab: LAB,
    submitted: Annotated[Path, typer.Option(help="A class: a folder or zip of notebooks.")] = Path("submitted"),
    pattern: Annotated[str | None, typer.Option(help="As for `labdiff grade`.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page to write; LAB_similar.html unless given.")] = None,
    shuffles: Annotated[int, typer.Option(min=1, help="How often chance is tried.")] = 50,
) -> None:
    """Show answers that are closer than chance side by side, for a person to look at."""
    from tqdm import tqdm

    from labdiff.grading.classroom.collect import collect
    from labdiff.grading.classroom.similar import similar as run
    from labdiff.grading.classroom.similar import write_page

    def notebooks() -> Iterator[tuple[str, bytes]]:
        for each in tqdm(handed_in, unit="submission", dynamic_ncols=True):
            try:
                yield each.student, each.read()
            except (Unreadable, OSError):
                yield each.student, b""

    handed_in = collect(submitted, lab, pattern)
    evidence = run(notebooks(), lab, shuffles)
    page = out or Path(f"{lab}_similar.html")
    write_page(evidence, page)
    print(f"{evidence.found} pairs of {evidence.compared} submissions are closer than chance: {page}")
    if evidence.left_out:
        print(f"{len(evidence.left_out)} could not be compared; the page names them.")


class Checkpoint(str, Enum):
    """What `labdiff train` trains."""

    model = "model"
    classifier = "classifier"
    guided = "guided"
    autoencoder = "autoencoder"
    text_to_image = "text_to_image"


@app.command()
def train(
    which: Annotated[Checkpoint, typer.Argument(help="Which checkpoint; the model card says what each is.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; ./WHICH.ckpt unless given.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Examples per step, of each process.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same batches and noise.")] = 0,
    every: Annotated[int, typer.Option(min=1, help="Steps after which is saved what is needed to go on.")] = 500,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    measure: Annotated[bool, typer.Option(help="Measure the result at the end (long on a CPU).")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Train a checkpoint; interrupted, the same command goes on where it stopped.

    On several GPUs or machines: torchrun --nproc-per-node N -m labdiff train WHICH ...
    """
    import dataclasses
    import os

    from labdiff.models.train import TRAINED
    from labdiff.models.train.training import train as run

    file = out or Path(f"{which.value}.ckpt")
    recipe, prepare = TRAINED[which.value]
    recipe = dataclasses.replace(recipe, steps=steps or recipe.steps, batch=batch or recipe.batch, seed=seed)
    try:
        figures = run(file, recipe, prepare, device=device, every=every, evaluate=measure, overwrite=overwrite)
    except KeyboardInterrupt as error:
        raise typer.Exit(fail(f"Stopped. The same command goes on from {file}.resume.")) from error
    if os.environ.get("RANK", "0") == "0":  # under torchrun, the process that wrote it
        print(json.dumps(figures, indent=2))
        print(f"Wrote {file}.")


def fail(message: str) -> int:
    """Print what went wrong and return the exit status."""
    typer.echo(message, err=True)
    return 1


if __name__ == "__main__":
    app()
