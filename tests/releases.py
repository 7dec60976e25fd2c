"""The zips that `labdiff release` makes, and what is in them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

Files = dict[str, bytes]


def members(data: bytes | Path) -> Files:
    with zipfile.ZipFile(data if isinstance(data, Path) else io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def wheel_in(file: Path) -> tuple[str, Files]:
    ((name, data),) = [(name, data) for name, data in members(file).items() if name.endswith(".whl")]
    return name, members(data)


def notebook_in(file: Path) -> NotebookNode:
    (data,) = [data for name, data in members(file).items() if name.endswith(".ipynb")]
    return nbformat.reads(data.decode(), as_version=4)


def code_of(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]
