"""`labdiff release`: what a class gets of a lab, as one zip.

In it lie the notebook, a wheel of labdiff and a README. The notebook's first cell installs the wheel, from the zip or
from beside the notebook, so nothing is fetched from a repository. The checkpoints travel inside the wheel, so that in
Colab there is one file to upload. A wheel is made for one lab and serves those before it too, whose right answers it
holds, because the lab builds on them. Of the lab itself and of later ones it holds none.

package: the files that a class gets. wheel: these as what pip installs. notebook: the notebook, with first_cell.py in
it. sampler.py stands in for answers that a class does not have yet. cells, README.txt.jinja: how texts are filled in.
"""

from __future__ import annotations

from pathlib import Path

from labdiff.errors import FileError, ReleaseError
from labdiff.exercises.names import check_lab
from labdiff.files import write


def pack_release(lab: str, to: Path | None = None, *, correction: bool = False, overwrite: bool = False) -> Path:
    """Pack a lab for a class: one zip that opens in Colab and in JupyterLab. The same release has the same bytes.

    lab: its name. to: the file, or a folder that is there; ./<lab>.zip unless given. correction: the
    executed notebook with the right answers, as <lab>_correction, in place of the student's. overwrite: replace
    a file of other content; one of the same content is left as it is.

    Returns the file. Raises UnknownName where there is no such lab, FileError where a file cannot be read or written,
    and ReleaseError where the correction is missing, where the notebook imports what its class is still to write,
    and where a file of other content is in the way.
    """
    check_lab(lab)
    from labdiff.grading.classroom.release.contents import contents  # only now, since it takes a while

    name = f"{lab}_correction" if correction else lab
    file = Path(to or ".")
    file = file / f"{name}.zip" if file.is_dir() else file
    _write(file, contents(lab, name, correction), overwrite)
    return file


def _write(file: Path, content: bytes, overwrite: bool) -> None:
    try:
        before = file.read_bytes() if file.exists() else None
    except OSError as error:
        raise FileError(f"{file} cannot be read: {error.strerror}.") from error
    if before == content:
        return
    if before is not None and not overwrite:
        raise ReleaseError(f"{file} is there already with other content: choose another name, or overwrite it.")
    write(file, content)
