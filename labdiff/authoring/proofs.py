"""Mistakes and variants: wrong and right answers that prove the checks.

`solutions/<lab>/mistakes.py` holds functions and classes under `@mistake("exercise")`; the
docstring of each is the hint a student reads when their outputs match it.
`solutions/<lab>/variants.py` holds right answers written in other ways, under
`@variant("exercise")`.
"""

from __future__ import annotations

import ast
import inspect
import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from labdiff.exercises import find, lab
from labdiff.files import PACKAGE
from labdiff.grading.submission.syntax import DEFINITIONS, needed

MARK = "_labdiff"  # the attribute of a marked answer: (kind, exercise)
Answer = TypeVar("Answer", bound=Callable[..., Any])


def mistake(exercise: str) -> Callable[[Answer], Answer]:
    """Mark a wrong answer to an exercise; its docstring is the hint."""
    return _mark("mistake", exercise)


def variant(exercise: str) -> Callable[[Answer], Answer]:
    """Mark a right answer to an exercise, written in another way than the reference."""
    return _mark("variant", exercise)


def _mark(kind: str, exercise: str) -> Callable[[Answer], Answer]:
    def mark(answer: Answer) -> Answer:
        setattr(answer, MARK, (kind, exercise))
        return answer

    return mark


def load(file: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The answers marked in a file: exercise -> name of the answer -> answer, in the file's order."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in runpy.run_path(str(file)).items():
        # vars, not getattr: a subclass of a marked class is not itself marked
        marked = vars(value).get(MARK) if hasattr(value, "__dict__") and callable(value) else None
        if marked and marked[0] == kind:
            found.setdefault(marked[1], {})[name] = value
    return found


def hint_of(answer: Any) -> str:
    """The hint of a mistake: its docstring, on one line. Raises ValueError where it has none."""
    text = " ".join((inspect.cleandoc(answer.__doc__) if answer.__doc__ else "").split())
    if not text:
        raise ValueError(f"The mistake {answer.__name__} has no docstring: its docstring is the hint.")
    return text


def as_answer(file: Path, title: str, exercise: str) -> str:
    """The source of a mistake or variant, as a student would have written it: named for its exercise, complete.

    file: mistakes.py or variants.py. title: the answer's name there. What it needs of the file, and of
    the reference where it derives from that, comes along; its marks and its hint do not.
    """
    body = ast.parse(file.read_text(encoding="utf-8")).body
    references = {
        alias.asname or alias.name: PACKAGE / "reference" / f"{alias.name}.py"
        for node in body
        if isinstance(node, ast.ImportFrom) and node.module == "labdiff.reference"
        for alias in node.names
    }
    kept = needed(body, {title})
    imports = [n for n in kept if isinstance(n, (ast.Import, ast.ImportFrom)) and not _of_labdiff(n)]
    rest = [n for n in kept if not isinstance(n, (ast.Import, ast.ImportFrom))]
    for node in rest:
        if isinstance(node, DEFINITIONS) and node.name == title:
            node.decorator_list = [each for each in node.decorator_list if not _marks(each)]
            node.body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    asked = lab(find(exercise).lab).exercises  # only these names could meet other answers of the notebook
    inlined = _Inlined(references, {title: exercise}, asked)
    rest = [inlined.definition(node) for node in rest]
    for file, names in inlined.taken.items():
        part = needed(ast.parse(file.read_text(encoding="utf-8")).body, names)
        prefixed = {name: f"_right_{name}" for name in asked}
        rest = [_Inlined({}, prefixed).definition(node) for node in part] + rest
    return ast.unparse(ast.Module([*imports, *rest], []))


def _marks(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") in ("mistake", "variant")


def _of_labdiff(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module in ("labdiff.authoring", "labdiff.reference", "__future__")


class _Inlined(ast.NodeTransformer):
    """Renames definitions, and replaces `right.X` by X, or `_right_X` where X is asked; `taken` says which X."""

    def __init__(self, references: dict[str, Path], renamed: dict[str, str], asked: Iterable[str] = ()):
        self.references, self.renamed, self.asked = references, renamed, asked
        self.taken: dict[Path, set[str]] = {}

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self.references:
            self.taken.setdefault(self.references[node.value.id], set()).add(node.attr)
            return ast.Name(f"_right_{node.attr}" if node.attr in self.asked else node.attr, node.ctx)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.renamed.get(node.id, node.id), node.ctx)

    def definition(self, node: ast.stmt) -> ast.stmt:
        """A statement of a module, renamed where it defines one of the names."""
        if isinstance(node, DEFINITIONS):
            node.name = self.renamed.get(node.name, node.name)
        renamed: ast.stmt = self.visit(node)
        return renamed
