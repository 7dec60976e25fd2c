"""The zip that a class gets: notebook, wheel and README."""

from __future__ import annotations

from pathlib import Path

import jinja2
import nbformat

from labdiff import exercises
from labdiff.errors import FileError
from labdiff.grading.classroom.release.notebook import notebook
from labdiff.grading.classroom.release.package import package
from labdiff.grading.classroom.release.wheel import archive, version_of, wheel

README = Path(__file__).with_name("README.txt.jinja")


def contents(lab: str, name: str, correction: bool) -> bytes:
    """A lab's zip. name: of the notebook in it. Raises ReleaseError and FileError, see `pack_release`."""
    try:
        files = package(lab)
    except OSError as error:
        raise FileError(f"{error.filename} cannot be read: {error.strerror}.") from error
    version = version_of(lab, files)
    packed, data = wheel(version, files)
    template = jinja2.Template(README.read_text(encoding="utf-8"), keep_trailing_newline=True)
    readme = template.render(
        title=f"{lab}: {exercises.lab(lab).title}",
        name=name,
        notebook=f"{name}.ipynb",
        wheel=packed,
        megabytes=round(len(data) / 1e6),
    )
    text = nbformat.writes(notebook(lab, f"{name}.zip", version, correction))
    return archive({"README.txt": readme, f"{name}.ipynb": f"{text}\n", packed: data})
