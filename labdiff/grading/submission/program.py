"""From mended cells to what is run: the release's own definitions, then what the student wrote."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from labdiff.errors import Unreadable
from labdiff.exercises import Lab
from labdiff.grading.submission.read import Cell
from labdiff.grading.submission.release import Release, released
from labdiff.grading.submission.syntax import PARSING, binds, compiles, key_of, made_from_itself, parsed, reach, uses

MOST_STATEMENTS = 5000


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


@dataclass
class Piece:
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
    from_release = released(lab.name)
    pieces, count = [], 0
    for number, cell in enumerate(cells, 1):
        if cell.kind == "code" and cell.source.strip() and cell.source not in from_release.given:
            tree = parsed(cell.source)
            statements = tree.body if tree else []
            count += len(statements)
            if count > MOST_STATEMENTS:
                raise Unreadable(f"This notebook holds more than {MOST_STATEMENTS} statements.")
            kept = [not _is_shown(statement, from_release) for statement in statements]
            pieces.append(Piece(number, cell.source, statements, kept))
    _keep_what_is_used(pieces, set().union(*(binds(ast.parse(source)) for source in from_release.given)))
    sources, numbers = [*from_release.given], [0] * len(from_release.given)
    defined: dict[str, int] = {}
    definitions: dict[str, list[ast.stmt]] = {}
    for statement in (statement for source in from_release.given for statement in ast.parse(source).body):
        for name in binds(statement):
            definitions.setdefault(name, []).append(statement)
    for piece in pieces:
        if piece.statements and not any(piece.kept):
            continue
        for statement, keep in zip(piece.statements, piece.kept, strict=True):
            for name in binds(statement) if keep else ():
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
        {name: reach(name, definitions) & set(lab.exercises) - {name} for name in lab.exercises},
    )


def _is_shown(statement: ast.stmt, from_release: Release) -> bool:
    if key_of(statement) in from_release.shown:
        return True
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Constant):
        return True
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("check", "hint")


def _keep_what_is_used(pieces: list[Piece], given: set[str]) -> None:
    """Keep also those shown statements that make a name which a kept statement uses."""
    while True:
        kept = [s for piece in pieces for s, keep in zip(piece.statements, piece.kept, strict=True) if keep]
        missing = uses(kept) - set().union(given, *(binds(s) - made_from_itself(s) for s in kept))
        found = False
        for piece in pieces:
            for i, statement in enumerate(piece.statements):
                if not piece.kept[i] and binds(statement) & missing:
                    piece.kept[i] = found = True
        if not found:
            return


def _without(piece: Piece) -> str:
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
        if compiles(text) and len(ast.parse(text).body) == sum(piece.kept):
            return text
    kept_only = ast.Module([s for s, keep in zip(piece.statements, piece.kept, strict=True) if keep], [])
    try:
        return ast.unparse(kept_only)
    except PARSING:
        return piece.source


def _tree_is_of(piece: Piece) -> bool:
    """Whether the statements were parsed from the source itself, not from what its magics were turned into."""
    return compiles(piece.source)
