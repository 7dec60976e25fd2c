"""What can be told of a cell from its syntax tree: the names that it makes and uses, and what it needs."""

from __future__ import annotations

import ast
import re
import symtable
import textwrap
from collections.abc import Iterable

from IPython.core.inputtransformer2 import TransformerManager

MOST_MAGICS = 100  # of one cell; IPython takes a second for a hundred
DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def only_defines(source: str) -> bool:
    """Whether a cell only imports, defines functions and classes, and names constants."""
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return all(
        isinstance(node, allowed)
        or (isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) and t.id.isupper() for t in node.targets))
        for node in ast.parse(source).body
    )


def key_of(statement: ast.stmt) -> str:
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


DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def compiles(source: str) -> bool:
    """Whether Python compiles a source."""
    try:
        compile(source, "<cell>", "exec", dont_inherit=True)
    except PARSING:
        return False
    return True


# what Python's parser, and whatever walks its trees, raises on sources made to hurt it
PARSING = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
MAGIC = re.compile(r"^[ \t]*[%!?,;/]|\?[ \t]*$|=[ \t]*[%!]|^[ \t]*await\b", re.M)


def parsed(source: str) -> ast.Module | None:
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


def binds(tree: ast.AST) -> set[str]:
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


def made_from_itself(statement: ast.stmt) -> set[str]:
    """The names that a statement makes anew from what they stood for before, as in `x = x + 1`."""
    if isinstance(statement, ast.FunctionDef):
        return set()
    read = statement.bases if isinstance(statement, ast.ClassDef) else [statement]
    names = (n.id for tree in read for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
    return binds(statement) & set(names)


def uses(statements: Iterable[ast.stmt]) -> set[str]:
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


def reach(name: str, definitions: dict[str, list[ast.stmt]]) -> set[str]:
    """All names that the definition of a name leads to."""
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        for used in uses(definitions.get(waiting.pop(), ())) - reached:
            reached.add(used)
            waiting.append(used)
    return reached


def needed(body: list[ast.stmt], names: Iterable[str]) -> list[ast.stmt]:
    """The statements of a module that some of its definitions need, in its order, with all imports and constants."""
    definitions: dict[str, list[ast.stmt]] = {}
    for node in body:
        if isinstance(node, DEFINITIONS):
            definitions.setdefault(node.name, []).append(node)
    wanted = set(names).union(*(reach(name, definitions) for name in names))
    return [node for node in body if not isinstance(node, DEFINITIONS) or node.name in wanted]
