"""From whatever a student hands in to a program that can be graded, and to a notebook that nbgrader can read.

Notebooks come back copied, cut, merged, converted, with lost metadata and from other
editors. What counts is the source of their cells. A cell belongs to an exercise because
it defines its name, whatever its metadata says; what the release brought along is
recognised by its text and never taken from the submission.
"""

from __future__ import annotations

import ast
import copy
import functools
import itertools
import json
import os
import re
import stat
import symtable
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from labdiff import exercises
from labdiff.exercises import LABS, Lab

PACKAGE = Path(__file__).resolve().parents[2]
PLACES = (PACKAGE / "notebooks", PACKAGE.parent / "notebooks")
LARGEST = 160 << 20  # bytes of a notebook
MOST_CELLS = 3000
LONGEST = 50_000  # characters of a code cell
MOST_TAGS = 500  # of a text cell; how long it takes to clean them grows with their square
MOST_LISTS = 10_000_000  # and dictionaries in a file; three bytes of it take sixty in memory
MOST_CODE = 500_000  # characters of all code cells
MOST_STATEMENTS = 5000
MOST_MAGICS = 100  # of one cell; IPython takes a second for a hundred


DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Unreadable(Exception):
    """A file that cannot be graded; the message says why, in a sentence for the instructor's list."""


@dataclass
class Cell:
    """One cell of a submission, as far as it is believed: its kind, its text and the id it had in the release."""

    kind: str
    source: str
    grade_id: str = ""


@dataclass
class Program:
    """What of a submission is run, in order, and where each answer is defined.

    cells: sources. numbers: for each, its place among the notebook's cells from 1, or 0 where it
    came from the release. defined: exercise -> the index in `cells` of its last definition.
    uses: exercise -> the exercises of the lab that its answer calls, directly or not.
    """

    cells: list[str]
    numbers: list[int]
    defined: dict[str, int]
    uses: dict[str, set[str]]


# --- reading ----------------------------------------------------------------------------------


def read(notebook: str | Path | bytes | dict[str, Any]) -> list[Cell]:
    """The cells of a notebook of any format from 3 to 4.5, however it is encoded.

    notebook: a path, a file's bytes, or a notebook that is already parsed.
    Raises Unreadable, and OSError where there is no such file.
    """
    if isinstance(notebook, (str, Path)):
        if not stat.S_ISREG(os.lstat(notebook).st_mode):
            raise Unreadable("This is no file of its own, but a link, a folder or a pipe.")
        size = Path(notebook).stat().st_size
        if size > LARGEST:
            raise Unreadable(f"The file is too large: {size >> 20} MB, at most {LARGEST >> 20} are read.")
        notebook = Path(notebook).read_bytes()
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


# --- the release ------------------------------------------------------------------------------


def release_file(lab: str) -> Path:
    """Where the released notebook of a lab lies. Raises FileNotFoundError."""
    for place in PLACES:
        if (place / lab / f"{lab}.ipynb").exists():
            return place / lab / f"{lab}.ipynb"
    raise FileNotFoundError(f"The released notebook of {lab} is missing: run `labdiff build {lab}`.")


@dataclass(frozen=True)
class Release:
    """What a lab's released notebook holds, by its role.

    given: sources of cells that only define and import, which answers may rely on. shown: the
    statements of all other cells, as `_key` makes them. texts: every cell's text, spaces folded.
    order: the exercises as they are asked.
    """

    notebook: NotebookNode
    given: tuple[str, ...]
    shown: frozenset[str]
    texts: frozenset[str]
    order: tuple[str, ...]


@functools.cache
def release(lab: str) -> Release:
    """The release of a lab, read once."""
    notebook = nbformat.read(release_file(lab), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    given = tuple(cell.source for cell in code if "nbgrader" not in cell.metadata and _only_defines(cell.source))
    known = [cell.source for cell in code if cell.source not in given]
    shown = frozenset(_key(statement) for source in known for statement in ast.parse(source).body)
    ids = [cell.metadata.nbgrader.grade_id for cell in code if "nbgrader" in cell.metadata]
    order = tuple(name for name in ids if name in exercises.lab(lab).exercises)
    return Release(notebook, given, shown, frozenset(_folded(cell.source) for cell in notebook.cells), order)


def _only_defines(source: str) -> bool:
    """Whether a cell only imports, defines functions and classes, and names constants."""
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return all(
        isinstance(node, allowed)
        or (isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) and t.id.isupper() for t in node.targets))
        for node in ast.parse(source).body
    )


def _folded(text: str) -> str:
    return " ".join(text.split())


def _key(statement: ast.stmt) -> str:
    """What tells one statement from another, whatever its docstrings say."""
    bodies = []
    try:
        for node in ast.walk(statement):
            if isinstance(node, DOCUMENTED) and len(node.body) > 1 and ast.get_docstring(node, clean=False) is not None:
                bodies.append((node, node.body))
                node.body = node.body[1:]  # put back below: to copy the tree takes longer than all else here
        return ast.dump(statement)
    except PARSING:
        return f"not to be told, line {statement.lineno}"
    finally:
        for node, body in bodies:
            node.body = body


def recognise(cells: list[Cell]) -> str:
    """The lab that cells belong to: the one most of whose exercises they name. Raises Unreadable."""
    text = "\n".join(cell.source for cell in cells)
    words = set(re.findall(r"\b(?:def|class)\s+(\w+)|\bcheck\(\s*(\w+)|^(\w+)\s*=", text, re.M))
    named = {name for pair in words for name in pair if name}
    best = max(LABS, key=lambda lab: len(named & set(exercises.lab(lab).exercises)))
    if not named & set(exercises.lab(best).exercises):
        raise Unreadable("This is no lab: no cell names one of the exercises.")
    return best


# --- the program ------------------------------------------------------------------------------


def mend(cells: list[Cell], lab: Lab) -> list[Cell]:
    """Cells with their kind put right and cut ones joined; doing it twice changes nothing.

    Raises Unreadable where they belong to another lab or to none.
    """
    found = recognise(cells)
    if found != lab.name and not _belongs(cells, lab):
        raise Unreadable(f"This is {found}, and {lab.name} was to be graded.")
    names = {*lab.exercises}
    answered = set().union(*(_answers(cell, names, lab.name) for cell in cells if cell.kind == "code"))
    mended: list[Cell] = []
    for cell in cells:
        if cell.kind == "code" and not cell.source.strip():
            continue
        if cell.kind == "code" and cell.grade_id in lab.questions and not _answers(cell, names, lab.name):
            cell = Cell("markdown", cell.source, cell.grade_id)
        # an answer in words' clothes, unless it was put aside for one that is code
        if cell.kind != "code" and _answers(cell, names, lab.name) - answered:
            cell = Cell("code", _unfenced(cell.source), cell.grade_id)
        last = mended[-1] if mended and mended[-1].kind == "code" else None
        if last and cell.kind == "code" and _is_continued(last, cell, names):
            mended[-1] = Cell("code", mended[-1].source + "\n" + cell.source, mended[-1].grade_id or cell.grade_id)
        else:
            mended.append(cell)
    return mended


def _belongs(cells: list[Cell], lab: Lab) -> bool:
    """Whether more of the cells' names are this lab's than could be by accident."""
    defined = {name for cell in cells for name in re.findall(r"^(?:def|class)\s+(\w+)", cell.source, re.M)}
    return len(defined & set(lab.exercises)) >= 3


def _answers(cell: Cell, names: set[str], lab: str) -> set[str]:
    """The exercises that a cell's text answers, were it code."""
    known = _folded(cell.source) in release(lab).texts or len(cell.source) > LONGEST
    tree = None if known else _tree(_unfenced(cell.source))
    shown = release(lab).shown
    return set().union(*(_binds(n) & names for n in tree.body if _key(n) not in shown)) if tree else set()


DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def _unfenced(text: str) -> str:
    """Code without the fence that markdown puts around it."""
    fenced = re.fullmatch(r"\s*```\w*\n(.*?)\n?```\s*", text, re.S)
    return fenced.group(1) if fenced else text


def _is_continued(first: Cell, second: Cell, names: set[str]) -> bool:
    """Whether a cell was cut in two: the second begins inside a block, or one of them is no code by itself."""
    alone = _tree(textwrap.dedent(second.source))
    if alone and any(isinstance(node, DEFINITIONS) and node.name in names for node in alone.body):
        return False  # indented as a whole
    line = next((line for line in second.source.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    inside = line[:1].isspace()
    if not inside and _tree(first.source) is not None and _tree(second.source) is not None:
        return False
    return _compiles(first.source + "\n" + second.source)


def _compiles(source: str) -> bool:
    try:
        compile(source, "<cell>", "exec", dont_inherit=True)
    except PARSING:
        return False
    return True


# what Python's parser, and whatever walks its trees, raises on sources made to hurt it
PARSING = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
MAGIC = re.compile(r"^[ \t]*[%!?,;/]|\?[ \t]*$|=[ \t]*[%!]|^[ \t]*await\b", re.M)


def _tree(source: str) -> ast.Module | None:
    """The syntax tree of a cell, with the magics of IPython turned into calls; None where it has none."""
    if source.lstrip().startswith("%%"):  # such as %%time: what stands below is what is run
        source = source.partition("\n")[2]
    for text in (source, textwrap.dedent(source)):  # IPython runs a cell that is indented as a whole
        try:
            return ast.parse(text)
        except PARSING:
            continue
    if not 0 < len(MAGIC.findall(source)) <= MOST_MAGICS:
        return None
    try:
        return ast.parse(TransformerManager().transform_cell(source))
    except (*PARSING, RuntimeError):
        return None


@dataclass
class _Piece:
    """A submitted code cell in parts: its statements, and which of them are run."""

    number: int
    source: str
    statements: list[ast.stmt] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)


def program(cells: list[Cell], lab: Lab) -> Program:
    """What of mended cells is run: the release's own definitions, then what the student wrote.

    Statements that the release shows (demonstrations, trainings, checks, empty stubs) are left
    out, unless something that the student wrote uses the names that they make.
    """
    from_release = release(lab.name)
    pieces, count = [], 0
    for number, cell in enumerate(cells, 1):
        if cell.kind == "code" and cell.source.strip() and cell.source not in from_release.given:
            tree = _tree(cell.source)
            statements = tree.body if tree else []
            count += len(statements)
            if count > MOST_STATEMENTS:
                raise Unreadable(f"This notebook holds more than {MOST_STATEMENTS} statements.")
            kept = [not _is_shown(statement, from_release) for statement in statements]
            pieces.append(_Piece(number, cell.source, statements, kept))
    _keep_what_is_used(pieces, set().union(*(_binds(ast.parse(source)) for source in from_release.given)))
    sources, numbers = [*from_release.given], [0] * len(from_release.given)
    defined: dict[str, int] = {}
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in (statement for source in from_release.given for statement in ast.parse(source).body):
        for name in _binds(statement):
            definitions.setdefault(name, []).append(statement)
    for piece in pieces:
        if piece.statements and not any(piece.kept):
            continue
        for statement, kept in zip(piece.statements, piece.kept, strict=True):
            for name in _binds(statement) if kept else ():
                if not _is_shown(statement, from_release):
                    defined[name] = len(sources)
                definitions.setdefault(name, []).append(statement)
        if not piece.statements:  # a cell that cannot be parsed still says which exercise it is about
            for name in re.findall(r"^(?:def|class)\s+(\w+)", piece.source, re.M):
                defined.setdefault(name, len(sources))
        sources.append(_without(piece))
        numbers.append(piece.number)
    return Program(
        sources,
        numbers,
        {name: at for name, at in defined.items() if name in lab.exercises},
        {name: _reach(name, definitions) & set(lab.exercises) - {name} for name in lab.exercises},
    )


def _is_shown(statement: ast.stmt, from_release: Release) -> bool:
    if _key(statement) in from_release.shown:
        return True
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Constant):
        return True
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("check", "hint")


def _keep_what_is_used(pieces: list[_Piece], given: set[str]) -> None:
    """Keep also those shown statements that make a name which a kept statement uses."""
    while True:
        kept = [s for piece in pieces for s, keep in zip(piece.statements, piece.kept, strict=True) if keep]
        missing = _uses(kept) - set().union(given, *(_binds(s) - _made_from_itself(s) for s in kept))
        found = False
        for piece in pieces:
            for i, statement in enumerate(piece.statements):
                if not piece.kept[i] and _binds(statement) & missing:
                    piece.kept[i] = found = True
        if not found:
            return


def _binds(tree: ast.AST) -> set[str]:
    """The names that a statement makes in the scope it stands in."""
    names: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (*DEFINITIONS, ast.AsyncFunctionDef)):
            names.add(node.name)
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        waiting.extend(ast.iter_child_nodes(node))
    return names


def _made_from_itself(statement: ast.stmt) -> set[str]:
    """The names that a statement makes anew from what they stood for before, as in `x = x + 1`."""
    if isinstance(statement, ast.FunctionDef):
        return set()
    read = statement.bases if isinstance(statement, ast.ClassDef) else [statement]
    names = (n.id for tree in read for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    return _binds(statement) & set(names)


def _uses(statements: Iterable[ast.stmt]) -> set[str]:
    """The names that statements look up outside themselves, in whatever function."""
    names: set[str] = set()
    tables = []
    for statement in statements:
        try:
            tables.append(symtable.symtable(ast.unparse(statement), "<cell>", "exec"))
        except PARSING:  # what Python parses, and then refuses to compile
            names |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    while tables:
        table = tables.pop()
        outside = [s for s in table.get_symbols() if s.is_global() or table.get_type() == "module"]
        names |= {symbol.get_name() for symbol in outside if symbol.is_referenced()}
        tables += table.get_children()
    return names


def _reach(name: str, definitions: dict[str, list[ast.stmt]]) -> set[str]:
    """All names that the definition of a name leads to."""
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        for used in _uses(definitions.get(waiting.pop(), ())) - reached:
            reached.add(used)
            waiting.append(used)
    return reached


def needed(body: list[ast.stmt], names: Iterable[str]) -> list[ast.stmt]:
    """The statements of a module that some of its definitions need, in its order, with all imports and constants."""
    definitions: dict[str, list[ast.stmt]] = {}
    for node in body:
        if isinstance(node, DEFINITIONS):
            definitions.setdefault(node.name, []).append(node)
    wanted = set(names).union(*(_reach(name, definitions) for name in names))
    return [node for node in body if not isinstance(node, DEFINITIONS) or node.name in wanted]


def _without(piece: _Piece) -> str:
    """A cell's source with the statements that are not run blanked out, so that its lines keep their numbers."""
    lines = piece.source.split("\n")
    if not piece.statements or all(piece.kept):
        return piece.source
    if _tree_is_of(piece):
        for statement, kept in zip(piece.statements, piece.kept, strict=True):
            if not kept:
                first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
                for i in range(first - 1, statement.end_lineno or first):
                    lines[i] = ""
        text = "\n".join(lines)
        if _compiles(text) and len(ast.parse(text).body) == sum(piece.kept):
            return text
    kept_only = ast.Module([s for s, keep in zip(piece.statements, piece.kept, strict=True) if keep], [])
    try:
        return ast.unparse(kept_only)
    except PARSING:
        return piece.source


def _tree_is_of(piece: _Piece) -> bool:
    """Whether the statements were parsed from the source itself, not from what its magics were turned into."""
    return _compiles(piece.source)


# --- a notebook for nbgrader ------------------------------------------------------------------


def restore(cells: list[Cell], lab: Lab) -> NotebookNode:
    """A notebook of mended cells in the current format, with the release's metadata where it belongs.

    Each exercise has its cell and its check, each question its cell, once; what was lost comes
    from the release. Outputs, and whatever else the submission said of its cells, are gone.
    """
    original = release(lab.name).notebook
    marked = {c.metadata.nbgrader.grade_id: c for c in original.cells if "nbgrader" in c.metadata}
    runs = program(cells, lab)
    answers: dict[int, list[str]] = {}
    for name, at in runs.defined.items():
        answers.setdefault(runs.numbers[at], []).append(name)
    questions = {number: name for name, number in _answered(cells, lab, {*answers}).items()}
    unchanged = {_folded(marked[name].source) for name in lab.questions}
    below: dict[int, list[int]] = {}  # question's cell -> the cells below it, where the student answered there
    for number in questions:
        if _folded(cells[number - 1].source) in unchanged:
            theirs = (_is_theirs(cell, lab) for cell in cells[number:])
            below[number] = [number + 1 + i for i, _ in enumerate(itertools.takewhile(bool, theirs))]
    moved = {number for numbers in below.values() for number in numbers}
    stubs = {_folded(marked[name].source): name for name in lab.exercises}
    restored: list[NotebookNode] = []
    placed: set[str] = set()

    def place(*names: str) -> None:
        for name in names:
            restored.append(copy.deepcopy(marked[f"check-{name}"]))
            placed.add(name)

    for number, cell in enumerate(cells, 1):
        if number in moved or (cell.kind == "code" and re.fullmatch(r"check\(\w+\)", _folded(cell.source))):
            continue
        names = answers.get(number, [])
        stub = stubs.get(_folded(cell.source))
        if stub and stub not in runs.defined and stub not in placed:
            names = [stub]
        question = questions.get(number)
        if below.get(number):
            cell = Cell("markdown", "\n\n".join(cells[n - 1].source for n in below[number]))
        code = cell.kind == "code" and not question
        node = new_code_cell(cell.source) if code else new_markdown_cell(_harmless(cell.source, lab))
        if names or question:
            node.metadata = copy.deepcopy(marked[question or names[0]].metadata)
            placed |= {question} if question else set()
        restored.append(node)
        place(*names)
    for name in lab.exercises:
        if name not in placed:
            restored.append(copy.deepcopy(marked[name]))
            place(name)
    restored += [copy.deepcopy(marked[name]) for name in lab.questions if name not in placed]
    for i, node in enumerate(restored):
        node["id"] = f"cell-{i}"
    return nbformat.v4.new_notebook(cells=restored, metadata=copy.deepcopy(original.metadata))


def _harmless(text: str, lab: Lab) -> str:
    """A student's text without scripts: nbgrader's pages would run them in the grader's browser, with their rights."""
    if _folded(text) in release(lab.name).texts or not re.search(r"<\s*[a-zA-Z/!]", text):
        return text
    from nbconvert.filters import clean_html  # imported here, since only nbgrader's door needs it

    if len(text) > LONGEST or text.count("<") > MOST_TAGS:
        return text.replace("<", "&lt;")
    return clean_html(text)


def _is_theirs(cell: Cell, lab: Lab) -> bool:
    """Whether a cell holds words that the release does not."""
    return cell.kind != "code" and bool(cell.source.strip()) and _folded(cell.source) not in release(lab.name).texts


def _answered(cells: list[Cell], lab: Lab, taken: set[int]) -> dict[str, int]:
    """The cell that answers each question, by its id or else by what stands above it: question -> number.

    taken: the numbers of the cells that define answers, whatever their id says.
    """
    original = [cell for cell in release(lab.name).notebook.cells]
    found: dict[str, int] = {}
    for i, cell in enumerate(original):
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name not in lab.questions:
            continue
        above = [_folded(c.source) for c in original[max(0, i - 2) : i]]
        ways = (
            [n for n, c in enumerate(cells, 1) if c.grade_id == name and n not in taken],
            [n for n in range(3, len(cells) + 1) if [_folded(c.source) for c in cells[n - 3 : n - 1]] == above],
        )
        numbers = next((way for way in ways if way), [])
        said = [n for n in numbers if _folded(cells[n - 1].source) != _folded(cell.source)]
        if numbers:
            found[name] = (said or numbers)[-1]
    return found
