"""The cells of whatever file a student hands in: any format of notebook, however it is encoded."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labdiff.errors import FileError, Unreadable

LARGEST = 160 << 20  # bytes of a notebook
MOST_CELLS = 3000
LONGEST = 50_000  # characters of a code cell
MOST_LISTS = 10_000_000  # and dictionaries in a file; three bytes of it take sixty in memory
MOST_CODE = 500_000  # characters of all code cells


@dataclass
class Cell:
    """One cell of a submission, as far as it is believed: its kind, its text and the id it had in the release."""

    kind: str
    source: str
    grade_id: str = ""


def read_cells(notebook: str | Path | bytes | dict[str, Any]) -> list[Cell]:
    """The cells of a notebook of any format from 3 to 4.5, however it is encoded.

    notebook: a path, a file's bytes, or a notebook that is already parsed.
    Raises Unreadable, and FileError where there is no such file.
    """
    if isinstance(notebook, (str, Path)):
        notebook = _content(Path(notebook))
    if isinstance(notebook, bytes):
        notebook = _parse(notebook)
    if not isinstance(notebook, dict):
        raise Unreadable("This is no notebook: its JSON is not an object.")
    cells = notebook.get("cells")
    if cells is None:
        sheets = notebook.get("worksheets")  # formats up to 3
        cells = [cell for sheet in _list(sheets) if isinstance(sheet, dict) for cell in _list(sheet.get("cells"))]
    if not isinstance(cells, list) or not cells:
        raise Unreadable("This notebook holds no cells.")
    if len(cells) > MOST_CELLS:
        raise Unreadable(f"This notebook holds {len(cells)} cells; at most {MOST_CELLS} are read.")
    believed = [_cell(cell) for cell in cells if isinstance(cell, dict)]
    code = sum(len(cell.source) for cell in believed if cell.kind == "code")
    if code > MOST_CODE:
        raise Unreadable(f"This notebook holds {code} characters of code; at most {MOST_CODE} are read.")
    return believed


def _content(file: Path) -> bytes:
    try:
        if not stat.S_ISREG(os.lstat(file).st_mode):
            raise Unreadable("This is no file of its own, but a link, a folder or a pipe.")
        size = file.stat().st_size
        if size > LARGEST:
            raise Unreadable(f"The file is too large: {size >> 20} MB, at most {LARGEST >> 20} are read.")
        return file.read_bytes()
    except OSError as error:
        raise FileError(f"{file} cannot be read: {error.strerror or error}.") from error


def _parse(data: bytes) -> Any:
    if not data.strip():
        raise Unreadable("The file is empty.")
    if data.count(b"[") + data.count(b"{") > MOST_LISTS:
        raise Unreadable("The file holds too many lists: clear the outputs and save it again.")
    for encoding in ("utf-8-sig", "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "latin-1"):
        try:
            return json.loads(data.decode(encoding))
        except UnicodeDecodeError:
            continue
        except (ValueError, RecursionError, MemoryError) as error:
            raise Unreadable("This is no notebook: the file is not JSON.") from error
    raise Unreadable("This is no notebook: the file is not text.")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _cell(cell: dict[str, Any]) -> Cell:
    source = cell.get("source", cell.get("input", ""))
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    metadata = cell.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    grade_id = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    kind = cell.get("cell_type")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    if kind == "code" and len(text) > LONGEST:
        raise Unreadable(f"A cell of this notebook is {len(text)} characters long; at most {LONGEST} are read.")
    return Cell(
        kind if kind in ("code", "raw") else "markdown",
        text.encode("utf-8", "replace").decode(),
        grade_id if isinstance(grade_id, str) else "",
    )


def folded(text: str) -> str:
    """A text with each run of white space as one space."""
    return " ".join(text.split())
