"""Programs that become cells of notebooks: files that run as they are, whose constants get a notebook's own values."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from nbformat import NotebookNode


def cell_of(file: Path, **constants: str) -> str:
    """The code of a cell: a file without its docstring, which is for whoever edits it, and with other constants.

    constants: name -> text. Each stands in the file once, as `NAME = "..."` in a line of its own.
    """
    text = file.read_text(encoding="utf-8")
    docstring = ast.parse(text).body[0]
    program = "\n".join(text.splitlines()[docstring.end_lineno :]).strip()
    for name, value in constants.items():
        program, found = re.subn(rf'^{name} = ".*"$', f'{name} = "{value}"', program, flags=re.MULTILINE)
        if found != 1:
            raise ValueError(f'{file} needs one line {name} = "..."; it has {found}.')
    return program


def installs(cell: NotebookNode) -> bool:
    """Whether a notebook's cell is the one that installs labdiff."""
    return cell.cell_type == "code" and 'find_spec("labdiff")' in cell.source
