"""Which of labdiff's files a lab needs, found by following imports, so that no list of them is kept by hand.

Three ask: what the sandbox shows, what a release packs, and what the hash of a lab's checks covers.

Two steps find them. A module runs as a whole when it is imported, so whatever it imports at its top is needed. A
function does something only where it is used, so what it imports inside itself, and the texts in it, count where the
code that is followed leads to it. Among the texts, the name of a file beside the module is a file that is needed, and
the name of a shipped checkpoint is one too.

The answers of labs are given out as far as the class has come. What imports an answer that is not given, at its top, is
not given either; what imports it inside a function does without.
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labdiff.exercises.names import LABS, check_lab
from labdiff.files import CHECKPOINTS, NOTEBOOKS, PACKAGE

NAME = PACKAGE.name
ANSWERS = f"{NAME}.reference"
FRONT = ("data", "plotting", "pictures", "canvas")  # what students use, whether their notebook does or not
INSIDE = ("grading.sandbox.inside", "grading.sandbox.confine")


@dataclass
class Needs:
    """What some code needs. modules: dotted names. data: files beside modules. checkpoints: names of shipped ones."""

    modules: set[str] = field(default_factory=set)
    data: set[Path] = field(default_factory=set)
    checkpoints: set[str] = field(default_factory=set)

    @property
    def files(self) -> dict[str, Path]:
        """Every file by its place in the package, such as "models/drawing.py"; checkpoints lie in shipped/."""
        found = {str(file.relative_to(PACKAGE)): file for file in map(file_of, self.modules) if file}
        found |= {str(file.relative_to(PACKAGE)): file for file in self.data}
        return found | {f"shipped/{name}.ckpt": CHECKPOINTS / f"{name}.ckpt" for name in self.checkpoints}


def up_to(lab: str) -> tuple[str, ...]:
    """A lab and those before it. Raises UnknownName where there is no such lab."""
    check_lab(lab)
    return LABS[: LABS.index(lab) + 1]


def needs(code: Iterable[str], lab: str | None = None) -> Needs:
    """What programs need of labdiff.

    code: sources, or dotted names of modules of labdiff, which are then needed as a whole. lab: the one whose class it
    is for: of the answers, those of earlier labs are given; all, unless told.
    """
    given = [f"{ANSWERS}.{each}" for each in (LABS if lab is None else up_to(lab)[:-1])]
    followed = _Followed(frozenset([ANSWERS, *given]))
    for each in code:
        if each.replace(".", "").isidentifier():
            followed.whole(each)
        else:
            followed.code(tree := ast.parse(each), _Module.of_code(tree))
    return followed.needs


@functools.cache
def of_student(lab: str) -> Needs:
    """What a student of a lab has: what its notebook and those before it need, their exercises, and earlier answers.

    Raises UnknownName where there is no such lab.
    """
    return needs(_of_student(lab), lab)


@functools.cache
def of_sandbox(lab: str) -> Needs:
    """What the sandbox of a lab shows: what a student has and may use, and the programs that run there.

    Raises UnknownName where there is no such lab.
    """
    return needs([*_of_student(lab), *(f"{NAME}.{each}" for each in (*FRONT, *INSIDE))], lab)


@functools.cache
def of_grader(lab: str) -> Needs:
    """What decides marks in a lab besides what the sandbox shows: the grader, and the right answers.

    Raises UnknownName where there is no such lab.
    """
    check_lab(lab)
    return needs([f"{NAME}.grading.grade", f"{ANSWERS}.{lab}"])


def _of_student(lab: str) -> list[str]:
    labs = up_to(lab)
    # exercises and answers are found by name, so no import leads to them
    by_name = [*(f"{NAME}.exercises.{each}" for each in labs), *(f"{ANSWERS}.{each}" for each in labs[:-1])]
    return [*map(_code_of, labs), *by_name]


def _code_of(lab: str) -> str:
    """All code of a lab's released notebook."""
    cells = json.loads((NOTEBOOKS / lab / f"{lab}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


# --- modules ----------------------------------------------------------------------------------


def file_of(module: str) -> Path | None:
    """The file of a module of labdiff; None where it is none."""
    place = PACKAGE.parent.joinpath(*module.split("."))
    for file in (place / "__init__.py", place.with_suffix(".py")):
        if file.exists():
            return file
    return None


@dataclass(frozen=True)
class _Module:
    """What stands at the top of a module. defined: name -> statements. imported: name -> (module, name in it)."""

    name: str
    folder: Path | None
    defined: dict[str, list[ast.stmt]]
    imported: dict[str, tuple[str, str]]
    run: list[ast.stmt]  # what is neither definition nor import

    @staticmethod
    @functools.cache
    def of(name: str) -> _Module:
        file = file_of(name)
        assert file
        return _Module._of(name, file.parent, ast.parse(file.read_text(encoding="utf-8")))

    @staticmethod
    def of_code(tree: ast.Module) -> _Module:
        return _Module._of("", None, tree)

    @staticmethod
    def _of(name: str, folder: Path | None, tree: ast.Module) -> _Module:
        defined: dict[str, list[ast.stmt]] = {}
        imported: dict[str, tuple[str, str]] = {}
        run = []
        for statement in tree.body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                defined.setdefault(statement.name, []).append(statement)
            elif not _is_for_types(statement):
                run.append(statement)
                nodes = list(ast.walk(statement))
                imported |= dict(_imports(nodes))
                for target in nodes:
                    if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                        defined.setdefault(target.id, []).append(statement)
        return _Module(name, folder, defined, imported, run)


def _is_for_types(statement: ast.stmt) -> bool:
    """Whether a statement is read by type checkers alone."""
    return isinstance(statement, ast.If) and getattr(statement.test, "id", "") == "TYPE_CHECKING"


def _imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The names that imports make: (name, (module, name in it or ""))."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == NAME:
                    yield alias.asname or alias.name, (alias.name, "")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == NAME:
            for alias in node.names:
                yield alias.asname or alias.name, (node.module or "", alias.name)


# --- following --------------------------------------------------------------------------------


class _Followed:
    """How far the code has been followed. given: of the answers, the modules that may be needed."""

    def __init__(self, given: frozenset[str]):
        self.needs = Needs()
        self.given = given
        self.seen: set[tuple[str, str]] = set()

    def whole(self, module: str) -> None:
        """Need a module and all that it defines."""
        if self.import_module(module):
            for name in _Module.of(module).defined:
                self.name(module, name)

    def import_module(self, module: str) -> bool:
        """Need a module as far as it runs when it is imported; False where it is not given."""
        if not self.is_given(module):
            return False
        for each in (module.rpartition(".")[0], module):  # a package's own module runs first
            if each and each not in self.needs.modules and (each == module or self.import_module(each)):
                self.needs.modules.add(each)
                about = _Module.of(each)
                for statement in about.run:
                    self.code(statement, about)
        return True

    def is_given(self, module: str, waiting: tuple[str, ...] = ()) -> bool:
        """Whether neither a module nor what it imports at its top is an answer that is not given."""
        if module.startswith(ANSWERS) and module not in self.given:
            return False
        if module in waiting or module in self.needs.modules:
            return True
        imported = _Module.of(module).imported.values()
        return all(self.is_given(each, (*waiting, module)) for each in dict.fromkeys(map(_module_in, imported)))

    def name(self, module: str, name: str) -> None:
        """Need what a module calls by a name."""
        if (module, name) in self.seen:
            return
        self.seen.add((module, name))
        about = _Module.of(module)
        if name in about.defined:
            for statement in about.defined[name]:
                self.code(statement, about)
        elif name in about.imported:
            self.imported(*about.imported[name])
        elif "__getattr__" in about.defined:  # a name that is made when it is asked for
            self.name(module, "__getattr__")

    def imported(self, module: str, name: str) -> None:
        """Need what `from module import name` brings."""
        submodule = f"{module}.{name}"
        if name and file_of(submodule):
            self.import_module(submodule)
        elif self.import_module(module) and name:
            self.name(module, name)

    def code(self, tree: ast.AST, about: _Module) -> None:
        """Need what some code of a module uses."""
        nodes = list(ast.walk(tree))
        inside = dict(_imports(nodes))
        for found in inside.values():
            self.import_module(_module_in(found))
        here = about.imported | inside
        modules = {name: _module_in(found) for name, found in here.items() if _is_module(found)}
        attributes = set()
        for node in nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                attributes.add(node.value)
                if self.import_module(modules[node.value.id]):
                    self.imported(modules[node.value.id], node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node not in attributes:
                if node.id in modules:  # handed on as a whole, so all of it may be used
                    self.whole(modules[node.id])
                elif node.id in here:
                    self.imported(*here[node.id])
                elif node.id in about.defined and about.name:
                    self.name(about.name, node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                self.text(node.value, about)

    def text(self, text: str, about: _Module) -> None:
        """Need the file or the checkpoint that a text names."""
        if not 0 < len(text) < 100 or "/" in text or "\0" in text or text.startswith("."):
            return
        if (CHECKPOINTS / f"{text}.ckpt").exists():
            self.needs.checkpoints.add(text)
        elif about.folder and "." in text and (about.folder / text).is_file() and not text.endswith(".py"):
            self.needs.data.add(about.folder / text)


def _is_module(found: tuple[str, str]) -> bool:
    return not found[1] or file_of(".".join(found)) is not None


def _module_in(found: tuple[str, str]) -> str:
    """The module that an import runs last."""
    return ".".join(found) if found[1] and file_of(".".join(found)) else found[0]
