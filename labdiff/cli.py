"""The `labdiff` command."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The Stable Diffusion Lab.")


@app.callback()
def main() -> None:
    """The Stable Diffusion Lab."""


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


def fail(message: str) -> int:
    """Print what went wrong and return the exit status."""
    typer.echo(message, err=True)
    return 1


if __name__ == "__main__":
    app()
