"""What happens to honest notebooks on their way to the grader, one small function each.

A mangling changes a notebook in place, at the answers that are named: `MANGLINGS`. A saving
makes the bytes of a file: `SAVINGS`. Where a mangling cannot honestly be done to an answer,
since an earlier one has cut it in two, say, it leaves that answer alone.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from support import ROOT

from labdiff import exercises
from labdiff.authoring.example_class import from_colab
from labdiff.authoring.source import fill, without_marks

Cell = dict[str, Any]
Notebook = dict[str, Any]
Mangling = Callable[[Notebook, Sequence[str]], None]
Saving = Callable[[Notebook], bytes]

MANGLINGS: dict[str, Mangling] = {}
SAVINGS: dict[str, Saving] = {}
RENAMED = "my_"  # before the name of an answer that is assigned to the exercise's name
WHOLE: set[str] = set()  # manglings that are done to the whole notebook, whatever answers are named


def mangling(function: Mangling) -> Mangling:
    """Enter a mangling of single answers under its name."""
    MANGLINGS[function.__name__] = function
    return function


def of_the_whole(function: Callable[[Notebook], None]) -> Callable[[Notebook], None]:
    """Enter a mangling that is done to a notebook as a whole under its name."""
    MANGLINGS[function.__name__] = lambda notebook, names: function(notebook)
    WHOLE.add(function.__name__)
    return function


def saving(function: Saving) -> Saving:
    """Enter a way to save a notebook under its name."""
    SAVINGS[function.__name__] = function
    return function


# --- the notebook with all right answers ------------------------------------------------------


@functools.cache
def released(lab: str) -> Any:
    """The released notebook of a lab, not to be changed."""
    return nbformat.read(ROOT / "notebooks" / lab / f"{lab}.ipynb", as_version=4)


@functools.cache
def answers(lab: str) -> dict[str, str]:
    """The reference's answers: exercise -> source."""
    correction = nbformat.read(ROOT / "solutions" / lab / f"{lab}.ipynb", as_version=4)
    marked = [cell for cell in correction.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    asked = exercises.lab(lab).exercises
    return {
        c.metadata.nbgrader.grade_id: without_marks(c.source) for c in marked if c.metadata.nbgrader.grade_id in asked
    }


def words(question: str) -> str:
    """What the student answers to a written question."""
    return f'As to {question}: für große $t$ bleibt $\\bar\\alpha_t$ übrig,\n\n- "und" das\n- sieht man `x_t` an.'


def right(lab: str) -> Notebook:
    """A lab's notebook with all right answers, in words too; sources are single strings."""
    written = {name: words(name) for name in exercises.lab(lab).questions}
    return json.loads(json.dumps(fill(released(lab), answers(lab) | written)))


def mangled(lab: str, steps: Iterable[tuple[str, Sequence[str]]], saved: str = "as_jupyter_does") -> bytes:
    """The right notebook of a lab after some manglings, each with the answers that it is done to, as a file."""
    notebook = right(lab)
    for name, names in steps:
        MANGLINGS[name](notebook, names)
    return SAVINGS[saved](notebook)


# --- finding and editing ----------------------------------------------------------------------


def code(source: str, **metadata: Any) -> Cell:
    """A code cell."""
    return {
        "cell_type": "code",
        "execution_count": 3,
        "id": "new",
        "metadata": metadata,
        "outputs": [],
        "source": source,
    }


def prose(source: str) -> Cell:
    """A markdown cell."""
    return {"cell_type": "markdown", "id": "new", "metadata": {}, "source": source}


@functools.lru_cache(maxsize=4096)
def squeezed(text: str) -> str:
    """A text up to blanks and the kind of quotes; of code, up to its layout and comments."""
    with contextlib.suppress(SyntaxError):
        text = "\n".join(map(unparsed, ast.parse(TransformerManager().transform_cell(text)).body))
    return re.sub(r"\s", "", text).replace('"', "'")


def unparsed(node: ast.stmt) -> str:
    """The source of a statement, or nothing where it is nested too deep."""
    try:
        return ast.unparse(node)
    except RecursionError:
        return ""


@functools.cache
def ending(name: str) -> str:
    """The last statement of the right answer, squeezed: what tells it from stubs and wrong attempts."""
    source = answers(exercises.find(name).lab)[name]
    return squeezed(ast.unparse(last_function(ast.parse(source).body[0]).body[-1]))


def last_function(node: ast.stmt) -> ast.FunctionDef:
    """The function itself, or the last method of a class."""
    return node if isinstance(node, ast.FunctionDef) else [n for n in node.body if isinstance(n, ast.FunctionDef)][-1]


@functools.lru_cache(maxsize=4096)
def tree(source: str) -> ast.Module | None:
    """The syntax tree of a cell, not to be changed; None where it has none."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def definition(source: str, name: str) -> ast.stmt | None:
    """The last definition of an answer at the top of a cell, also of one that is renamed."""
    body = tree(source).body if tree(source) else []
    return next((n for n in reversed(body) if getattr(n, "name", "") in (name, RENAMED + name)), None)


def end(cells: list[Cell], at: int) -> int:
    """The place behind a cell and its other halves."""
    for below in range(at + 1, len(cells)):
        if cells[below]["cell_type"] != "code":
            break
        # an answer that is indented as a whole was pasted, not cut
        if re.match(r"\s+(?!\s|(?:def|class) (?!__init__|forward))", cells[below]["source"]):
            return end(cells, below)
        if cells[below]["source"].strip():
            break
    return at + 1


def is_continued(cells: list[Cell], at: int) -> bool:
    """Whether a cell is the first part of one that was cut."""
    return end(cells, at) > at + 1


def whole(notebook: Notebook, name: str) -> int | None:
    """The place of the code cell that holds the right answer, where it does so in one piece."""
    for at in reversed(range(len(notebook["cells"]))):
        cell = notebook["cells"][at]
        node = definition(cell["source"], name) if cell["cell_type"] == "code" else None
        if node and ending(name) in squeezed(unparsed(node)) and not is_continued(notebook["cells"], at):
            return at
    return None


def each_whole(notebook: Notebook, names: Sequence[str]) -> Iterable[tuple[str, int]]:
    """Each named answer that stands in one piece, and where; cells may be inserted meanwhile."""
    for name in names:
        at = whole(notebook, name)
        if at is not None:
            yield name, at


def edit(notebook: Notebook, names: Sequence[str], change: Callable[[str, str], str]) -> None:
    """Change the source of each answer: change(source, name) -> source."""
    for name, at in each_whole(notebook, names):
        cell = notebook["cells"][at]
        cell["source"] = change(cell["source"], name)


def with_lines(source: str, name: str, *lines: str) -> str:
    """A cell with lines put in where the answer begins to compute."""
    function = last_function(definition(source, name))
    body = function.body[1:] if ast.get_docstring(function) is not None and len(function.body) > 1 else function.body
    rows = source.split("\n")
    before = rows[body[0].lineno - 1]
    indent = before[: len(before) - len(before.lstrip())]
    rows[body[0].lineno - 1 : body[0].lineno - 1] = [indent + line for line in lines]
    return "\n".join(rows)


def renamed(source: str, name: str) -> str:
    """A cell whose answer has another name."""
    return re.sub(rf"\b(def|class) {name}\b", rf"\1 {RENAMED}{name}", source)


def is_import(cell: Cell) -> bool:
    source = cell["source"]
    return (
        cell["cell_type"] == "code"
        and "from labdiff import" in source
        and not re.search(r"^(def|class) ", source, re.M)
    )


def import_cell(notebook: Notebook) -> Cell:
    """The cell that imports; a new one where it was deleted."""
    if not any(map(is_import, notebook["cells"])):
        notebook["cells"].insert(0, code("from labdiff import check"))
    return next(filter(is_import, notebook["cells"]))


def nbgrader(cell: Cell) -> dict[str, Any]:
    return cell["metadata"].get("nbgrader", {})


@functools.cache
def shown() -> frozenset[str]:
    """The sources of all released cells that show something, rather than only define and import."""
    free = [c for lab in exercises.LABS for c in released(lab).cells if c.cell_type == "code" and not nbgrader(c)]
    sources = {cell.source for cell in free if "from labdiff import" not in cell.source}
    return frozenset(s for s in sources if any(not hasattr(node, "name") for node in ast.parse(s).body))


def demonstrations(notebook: Notebook) -> list[Cell]:
    """The cells that are still as a released demonstration."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and cell["source"] in shown()]


def keep(notebook: Notebook, kept: Callable[[Cell], bool]) -> None:
    notebook["cells"] = [cell for cell in notebook["cells"] if kept(cell)]


# --- copied -----------------------------------------------------------------------------------


@mangling
def copied_below(notebook: Notebook, names: Sequence[str]) -> None:
    """An answer stands twice, with the same ids."""
    for _, at in each_whole(notebook, names):
        notebook["cells"].insert(at + 1, copy.deepcopy(notebook["cells"][at]))


@mangling
def stub_below(notebook: Notebook, names: Sequence[str]) -> None:
    """The untouched stub was pasted below the answer."""
    for name, at in each_whole(notebook, names):
        notebook["cells"].insert(at + 1, stub(name))


def stub(name: str) -> Cell:
    """The cell of an exercise as it was released."""
    cells = released(exercises.find(name).lab).cells
    return json.loads(json.dumps(next(cell for cell in cells if nbgrader(cell).get("grade_id") == name)))


def attempt(name: str) -> str:
    return f"class {name}:\n    pass" if name[0].isupper() else f"def {name}(*args, **kwargs):\n    return 0"


@mangling
def wrong_attempt_above(notebook: Notebook, names: Sequence[str]) -> None:
    """A wrong first attempt was left above the answer."""
    for name, at in each_whole(notebook, names):
        notebook["cells"].insert(at, code(attempt(name)))


@mangling
def broken_attempt_above(notebook: Notebook, names: Sequence[str]) -> None:
    """A first attempt that Python cannot read was left above the answer."""
    for name, at in each_whole(notebook, names):
        notebook["cells"].insert(at, code(attempt(name) + "\n    return ((3 +"))


@mangling
def broken_attempt_below(notebook: Notebook, names: Sequence[str]) -> None:
    """A rewrite that Python cannot read was given up below the answer."""
    for name, at in each_whole(notebook, names):
        notebook["cells"].insert(at + 1, code(attempt(name) + "\n    return ((3 +"))


@mangling
def result_under_the_same_name(notebook: Notebook, names: Sequence[str]) -> None:
    """Below its check, the answer's name was used for a result."""
    for name, at in each_whole(notebook, names):
        checks = [i for i, c in enumerate(notebook["cells"]) if c["source"].startswith(f"check({name})")]
        notebook["cells"].insert(max([at, *checks]) + 1, code(f"{name} = [{name}][0] and 3"))


@mangling
def attempt_that_called_an_unknown_name_above(notebook: Notebook, names: Sequence[str]) -> None:
    """A wrong first attempt, tried out on a name that does not exist, was left above the answer."""
    for name, at in each_whole(notebook, names):
        notebook["cells"].insert(at, code(f"{attempt(name)}\n\n\n{name}(noisse)"))


@mangling
def attempt_put_aside_below(notebook: Notebook, names: Sequence[str]) -> None:
    """A wrong attempt was kept below the answer, made raw so that Jupyter does not run it."""
    for i, (name, at) in enumerate(each_whole(notebook, names)):
        aside = code(attempt(name))
        convert(aside, ("raw", "markdown")[i % 2])
        notebook["cells"].insert(at + 1, aside)


@mangling
def stub_above(notebook: Notebook, names: Sequence[str]) -> None:
    """The stub was left as it was, and the answer written into a new cell below it."""
    for name, at in each_whole(notebook, names):
        cell = notebook["cells"][at]
        notebook["cells"].insert(at, stub(name))
        cell["metadata"] = {}


@mangling
def answer_in_the_check_cell(notebook: Notebook, names: Sequence[str]) -> None:
    """The stub was left as it was, and the answer written into the check's cell."""
    for name, at in each_whole(notebook, names):
        for cell in notebook["cells"][at + 1 :]:
            if cell["source"] == f"check({name})" and can_follow(notebook["cells"][at]["source"]):
                cell["source"] = notebook["cells"][at]["source"] + "\n\n" + cell["source"]
                notebook["cells"][at] = stub(name)
                break


def classes(names: Sequence[str]) -> list[str]:
    return [name for name in names if name[0].isupper()]


@mangling
def method_set_from_outside(notebook: Notebook, names: Sequence[str]) -> None:
    """The stub of a class was left as it was, and its method set in a new cell."""
    for name, at in each_whole(notebook, classes(names)):
        cell = notebook["cells"][at]
        if definition(cell["source"], name).name == name and len(ast.parse(cell["source"]).body) == 1:
            function = last_function(definition(cell["source"], name))
            rows = cell["source"].split("\n")[function.lineno - 1 : function.end_lineno]
            inner = rows[0][: len(rows[0]) - len(rows[0].lstrip())]
            text = "\n".join(row.removeprefix(inner) for row in rows)
            notebook["cells"][at : at + 1] = [stub(name), code(f"{text}\n\n\n{name}.forward = forward")]


@mangling
def derived_from_the_stub(notebook: Notebook, names: Sequence[str]) -> None:
    """The stub of a class was left as it was, and its method written into a class of the same name below it."""
    for name, at in each_whole(notebook, classes(names)):
        cell = notebook["cells"][at]
        if f"class {name}(nn.Module)" in cell["source"] and len(ast.parse(cell["source"]).body) == 1:
            function = last_function(definition(cell["source"], name))
            rows = cell["source"].split("\n")[function.lineno - 1 : function.end_lineno]
            notebook["cells"][at : at + 1] = [stub(name), code("\n".join([f"class {name}({name}):", *rows]))]


# --- cut --------------------------------------------------------------------------------------


def cut(notebook: Notebook, at: int, row: int, **metadata: Any) -> None:
    """Cut a cell in two before a row, counted from 0."""
    rows = notebook["cells"][at]["source"].split("\n")
    notebook["cells"][at]["source"] = "\n".join(rows[:row])
    tail = "\n".join(rows[row:])
    notebook["cells"].insert(at + 1, code(re.sub(r"\A\n+", "", tail), **metadata))


@mangling
def cut_after_the_docstring(notebook: Notebook, names: Sequence[str]) -> None:
    """Both halves keep the metadata, as in JupyterLab."""
    for name, at in each_whole(notebook, names):
        node = definition(notebook["cells"][at]["source"], name)
        if ast.get_docstring(node) is not None and len(node.body) > 1:
            cut(notebook, at, node.body[0].end_lineno, **copy.deepcopy(notebook["cells"][at]["metadata"]))


@mangling
def cut_in_the_class_body(notebook: Notebook, names: Sequence[str]) -> None:
    """Cut between two methods."""
    for name, at in each_whole(notebook, names):
        node = definition(notebook["cells"][at]["source"], name)
        if isinstance(node, ast.ClassDef):
            cut(notebook, at, last_function(node).lineno - 1)


@mangling
def cut_between_two_statements(notebook: Notebook, names: Sequence[str]) -> None:
    """Cut before the last statement of the answer."""
    for name, at in each_whole(notebook, names):
        function = last_function(definition(notebook["cells"][at]["source"], name))
        if len(function.body) > 1:
            cut(notebook, at, function.body[-1].lineno - 1)


@mangling
def cut_before_each_statement(notebook: Notebook, names: Sequence[str]) -> None:
    """Each statement stands in a cell of its own."""
    for name, at in each_whole(notebook, names):
        function = last_function(definition(notebook["cells"][at]["source"], name))
        for statement in reversed(function.body[1:]):
            cut(notebook, at, statement.lineno - 1)


@mangling
def cut_with_an_empty_cell_between(notebook: Notebook, names: Sequence[str]) -> None:
    """Cut, and an empty cell was added between the halves."""
    for name, at in each_whole(notebook, names):
        function = last_function(definition(notebook["cells"][at]["source"], name))
        if len(function.body) > 1:
            cut(notebook, at, function.body[-1].lineno - 1)
            notebook["cells"].insert(at + 1, code(""))


# --- merged and moved -------------------------------------------------------------------------


def can_follow(source: str) -> bool:
    """Whether a cell can be put below another one in the same cell."""
    return not source.startswith(("%%", "from __future__"))


@mangling
def merged_in_pairs(notebook: Notebook, names: Sequence[str]) -> None:
    """Two answers in one cell."""
    for first, second in zip(names[::2], names[1::2], strict=False):
        at, below = whole(notebook, first), whole(notebook, second)
        if at is not None and below is not None and at < below and can_follow(notebook["cells"][below]["source"]):
            notebook["cells"][below]["source"] = (
                notebook["cells"][at]["source"] + "\n\n\n" + notebook["cells"][below]["source"]
            )
            del notebook["cells"][at]


@mangling
def merged_with_check_and_demonstration(notebook: Notebook, names: Sequence[str]) -> None:
    """An answer, its check and the demonstration below it in one cell, where they stand below each other."""
    for name, at in each_whole(notebook, names):
        free = {id(cell) for cell in demonstrations(notebook)}
        cells = notebook["cells"]
        for cell in cells[at + 1 : at + 3]:
            if id(cell) in free or cell["source"] == f"check({name})":
                cells[at]["source"] += "\n\n" + cell["source"]
                keep(notebook, lambda other, merged=cell: other is not merged)


@of_the_whole
def all_code_in_one_cell(notebook: Notebook) -> None:
    """Everything that is code and can be merged stands in the first code cell."""
    cells = notebook["cells"]
    merged = [c for i, c in enumerate(cells) if c["cell_type"] == "code" and can_follow(c["source"])]
    merged = [c for c in merged if parses(c["source"]) and c["source"] not in RAISING]
    if len(merged) > 1 and not any(is_continued(cells, i) for i in range(len(cells))):
        merged[0]["source"] = "\n\n\n".join(cell["source"] for cell in merged)
        gone = {id(cell) for cell in merged[1:]}
        keep(notebook, lambda cell: id(cell) not in gone)


def parses(source: str) -> bool:
    return tree(source) is not None


@mangling
def in_reverse_order(notebook: Notebook, names: Sequence[str]) -> None:
    """The answers stand in reverse order, each with its other half, copies and attempts."""
    units: list[list[Cell]] = []
    cells = notebook["cells"]
    while cells:
        units.append(cells[: end(cells, 0)])
        cells = cells[end(cells, 0) :]
    slots: list[int] = []
    groups: list[list[list[Cell]]] = []
    last: set[str] = set()
    for i, unit in enumerate(units):
        about = {
            n for n in names if re.search(rf"^(?:(?:def|class) (?:{RENAMED})?{n}\b|{n} =)", unit[0]["source"], re.M)
        }
        if about:
            slots.append(i)
            groups[-1].append(unit) if about & last else groups.append([unit])
            last = about
    moved = [unit for group in reversed(groups) for unit in group]
    for slot, unit in zip(slots, moved, strict=True):
        units[slot] = unit
    notebook["cells"] = [cell for unit in units for cell in unit]


# --- deleted ----------------------------------------------------------------------------------


@of_the_whole
def checks_deleted(notebook: Notebook) -> None:
    keep(notebook, lambda cell: not cell["source"].startswith("check("))


@of_the_whole
def demonstrations_deleted(notebook: Notebook) -> None:
    gone = {id(cell) for cell in demonstrations(notebook)}
    keep(notebook, lambda cell: id(cell) not in gone)


@of_the_whole
def imports_deleted(notebook: Notebook) -> None:
    keep(notebook, lambda cell: not is_import(cell))


@of_the_whole
def prose_deleted(notebook: Notebook) -> None:
    """All text but the answers in words."""
    keep(notebook, lambda cell: cell["cell_type"] != "markdown" or cell["source"].startswith("As to ") or can_run(cell))


def can_run(cell: Cell) -> bool:
    return parses(cell["source"].strip("`\n").removeprefix("python"))


# --- other cells ------------------------------------------------------------------------------


@mangling
def imports_edited(notebook: Notebook, names: Sequence[str]) -> None:
    """The answers use a module that was added to the imports."""
    import_cell(notebook)["source"] += "\nimport numpy as np"
    edit(notebook, names, lambda source, name: with_lines(source, name, "np.zeros(1)"))


@mangling
def helper_above(notebook: Notebook, names: Sequence[str]) -> None:
    for name, at in each_whole(notebook, names):
        cell = notebook["cells"][at]
        cell["source"] = with_lines(cell["source"], name, f"above_{name.lower()}()")
        notebook["cells"].insert(at, code(f"def above_{name.lower()}():\n    return 1"))


@mangling
def helper_below(notebook: Notebook, names: Sequence[str]) -> None:
    for name, at in each_whole(notebook, names):
        cell = notebook["cells"][at]
        cell["source"] = with_lines(cell["source"], name, f"below_{name.lower()}()")
        notebook["cells"].insert(at + 1, code(f"def below_{name.lower()}():\n    return 1"))


RAISING = (
    "1 / 0",
    'raise RuntimeError("I stopped here")',
    "import sys\n\nsys.exit()",
    'input("your name? ")',
    "assert False",
    "exit()",
    "q_sampel(x_0",
    "raise KeyboardInterrupt",
)


@mangling
def cell_that_raises_between(notebook: Notebook, names: Sequence[str]) -> None:
    for i, (_, at) in enumerate(each_whole(notebook, names)):
        notebook["cells"].insert(at + 1, code(RAISING[i % len(RAISING)]))


@mangling
def name_from_an_edited_demonstration(notebook: Notebook, names: Sequence[str]) -> None:
    """The answers use a name that the student made in a demonstration."""
    free = demonstrations(notebook)
    if free:
        free[-1]["source"] = 'device = "cpu"\n' + free[-1]["source"]
        edit(notebook, names, lambda source, name: with_lines(source, name, "torch.zeros(1, device=device)"))


@mangling
def name_from_inside_an_edited_demonstration(notebook: Notebook, names: Sequence[str]) -> None:
    """The answers use a name that the student made inside a demonstration's `with when_done()`."""
    free = [cell for cell in demonstrations(notebook) if cell["source"].startswith("with when_done():\n")]
    if free:
        free[0]["source"] = free[0]["source"].replace(":\n", ':\n    device = "cpu"\n', 1)
        edit(notebook, names, lambda source, name: with_lines(source, name, "torch.zeros(1, device=device)"))


# What a mangling does, it does to the form of a notebook, not to what a lab asks: four labs are enough.
MANGLED = exercises.LABS[:4]
# For each lab a name that a demonstration makes before it calls any answer.
MADE_ON_TOP = dict(zip(MANGLED, ("labels", "net", "alphas_cumprod", "real"), strict=True))
MADE_INSIDE = dict(zip(MANGLED, ("T", "x_0", "older_abar", "pixels"), strict=True))
MADE_BY_DEF = dict(zip(MANGLED[1:], ("size_of", "draw_digits", "measure"), strict=True))


def use_of(notebook: Notebook, names: Sequence[str], made: dict[str, str]) -> None:
    for name in names:
        used = made.get(exercises.find(name).lab)
        if used and any(re.search(rf"\b{used}\b", cell["source"]) for cell in demonstrations(notebook)):
            edit(notebook, [name], lambda source, name, used=used: with_lines(source, name, used))


@mangling
def name_from_a_demonstration(notebook: Notebook, names: Sequence[str]) -> None:
    """The answers use a name that only a released demonstration makes."""
    use_of(notebook, names, MADE_ON_TOP)


@mangling
def name_from_a_demonstration_made_anew(notebook: Notebook, names: Sequence[str]) -> None:
    """The answer's cell begins with a new value of a name that a released demonstration makes."""

    def change(source: str, name: str) -> str:
        made = MADE_ON_TOP[exercises.find(name).lab]
        return on_top(source, f"{made} = copy.copy({made})").replace(f"{made} =", f"import copy\n{made} =", 1)

    free = {word for cell in demonstrations(notebook) for word in re.findall(r"\w+", cell["source"])}
    edit(notebook, [name for name in names if MADE_ON_TOP[exercises.find(name).lab] in free], change)


@mangling
def name_from_inside_a_demonstration(notebook: Notebook, names: Sequence[str]) -> None:
    """The answers use a name that only the `with when_done()` of a released demonstration makes."""
    use_of(notebook, names, MADE_INSIDE)


@mangling
def function_from_a_demonstration(notebook: Notebook, names: Sequence[str]) -> None:
    """The answers use a function that only a released demonstration defines."""
    use_of(notebook, names, MADE_BY_DEF)


@of_the_whole
def checks_edited(notebook: Notebook) -> None:
    ways = ("{}  # right", "print({})", "{};", "verdict = {}", "# {}", "{}\n{}", "hint(torch)\n{}")
    for i, cell in enumerate(c for c in notebook["cells"] if c["source"].startswith("check(")):
        cell["source"] = ways[i % len(ways)].replace("{}", cell["source"])


@of_the_whole
def cells_tagged(notebook: Notebook) -> None:
    for cell in notebook["cells"]:
        cell["metadata"]["tags"] = ["remove_cell", "skip-execution", "hide-input"]


@of_the_whole
def given_cells_edited(notebook: Notebook) -> None:
    """A comment was added to each cell that is given."""
    sources = {cell.source for lab in exercises.LABS for cell in released(lab).cells if not nbgrader(cell)}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and cell["source"] in sources:
            cell["source"] += "\n# so that is how"


# --- converted --------------------------------------------------------------------------------


def convert(cell: Cell, kind: str) -> None:
    cell["cell_type"] = kind
    for key in ("outputs", "execution_count"):
        cell.pop(key, None)
    if kind == "code":
        cell |= {"outputs": [], "execution_count": None}


@mangling
def turned_into_markdown(notebook: Notebook, names: Sequence[str]) -> None:
    for _, at in each_whole(notebook, names):
        convert(notebook["cells"][at], "markdown")


@mangling
def turned_into_raw(notebook: Notebook, names: Sequence[str]) -> None:
    for _, at in each_whole(notebook, names):
        convert(notebook["cells"][at], "raw")


@mangling
def turned_into_fenced_markdown(notebook: Notebook, names: Sequence[str]) -> None:
    for i, (_, at) in enumerate(each_whole(notebook, names)):
        cell = notebook["cells"][at]
        convert(cell, "markdown")
        cell["source"] = f"```{('python', '', 'py')[i % 3]}\n{cell['source']}\n```"


def written(notebook: Notebook) -> list[Cell]:
    return [cell for cell in notebook["cells"] if cell["source"].startswith("As to ")]


@of_the_whole
def question_turned_into_code(notebook: Notebook) -> None:
    for cell in written(notebook):
        convert(cell, "code")


@of_the_whole
def question_turned_into_raw(notebook: Notebook) -> None:
    for cell in written(notebook):
        convert(cell, "raw")


@of_the_whole
def question_answered_below(notebook: Notebook) -> None:
    """The student left the question's cell as it was and answered in a new one."""
    for cell in written(notebook):
        at = notebook["cells"].index(cell)
        if nbgrader(cell).get("grade_id") == cell["source"].split(":")[0].removeprefix("As to "):
            notebook["cells"].insert(at + 1, prose(cell["source"]))
            cell["source"] = "*Your answer here.*"


@of_the_whole
def question_copied(notebook: Notebook) -> None:
    """The question's cell as it was stands above and below the answer."""
    for cell in written(notebook):
        at = notebook["cells"].index(cell)
        untouched = copy.deepcopy(cell) | {"source": "*Your answer here.*"}
        notebook["cells"][at : at + 1] = [untouched, cell, copy.deepcopy(untouched)]


# --- metadata ---------------------------------------------------------------------------------


@mangling
def grade_ids_duplicated(notebook: Notebook, names: Sequence[str]) -> None:
    """The cells above and below an answer have its id too."""
    for _, at in each_whole(notebook, names):
        near = notebook["cells"][max(0, at - 1) : at + 2]
        for cell in (cell for cell in near if cell not in written(notebook)):
            cell["metadata"]["nbgrader"] = copy.deepcopy(nbgrader(notebook["cells"][at]))


@mangling
def grade_ids_swapped(notebook: Notebook, names: Sequence[str]) -> None:
    """Neighbouring answers have each other's ids."""
    found = [notebook["cells"][at] for _, at in each_whole(notebook, names)]
    for one, other in zip(found[::2], found[1::2], strict=False):
        one["metadata"], other["metadata"] = other["metadata"], one["metadata"]


@mangling
def grade_id_swapped_with_a_question(notebook: Notebook, names: Sequence[str]) -> None:
    """An answer in code and one in words have each other's ids."""
    for (_, at), other in zip(each_whole(notebook, names), written(notebook), strict=False):
        one = notebook["cells"][at]
        one["metadata"], other["metadata"] = other["metadata"], one["metadata"]


@of_the_whole
def nbgrader_lost(notebook: Notebook) -> None:
    for cell in notebook["cells"]:
        cell["metadata"].pop("nbgrader", None)


@of_the_whole
def cell_ids_lost(notebook: Notebook) -> None:
    for cell in notebook["cells"]:
        cell.pop("id", None)


@of_the_whole
def cell_ids_duplicated(notebook: Notebook) -> None:
    for cell in notebook["cells"]:
        cell["id"] = "the-same"


# --- how the source is written ----------------------------------------------------------------


@of_the_whole
def trailing_blanks(notebook: Notebook) -> None:
    for cell in notebook["cells"]:
        cell["source"] = re.sub(r"$", "   ", cell["source"], flags=re.M) + "\n\n"


@of_the_whole
def tabs(notebook: Notebook) -> None:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = re.sub(
                r"^( {4})+", lambda blanks: "\t" * (len(blanks[0]) // 4), cell["source"], flags=re.M
            )


@mangling
def annotated(notebook: Notebook, names: Sequence[str]) -> None:
    def change(source: str, name: str) -> str:
        rows = source.split("\n")
        function = last_function(definition(source, name))
        if function.returns is None and not any(argument.annotation for argument in function.args.args):
            for argument in reversed(function.args.args):
                row, end = argument.end_lineno - 1, argument.end_col_offset
                if argument.arg != "self":
                    rows[row] = rows[row][:end] + ": torch.Tensor | None" + rows[row][end:]
            rows[function.lineno - 1] = re.sub(r"\):(\s*)$", r') -> "Any thing":\1', rows[function.lineno - 1])
        return "\n".join(rows)

    edit(notebook, names, change)


def decorated(source: str, name: str, decorator: str) -> str:
    rows = source.split("\n")
    function = last_function(definition(source, name))
    indent = re.match(r"\s*", rows[function.lineno - 1])[0]
    rows.insert(function.lineno - 1, f"{indent}@{decorator}")
    return "\n".join(rows)


TIMED = """\
import functools
import time


def timed(function):
    @functools.wraps(function)
    def run(*args, **kwargs):
        started = time.perf_counter()
        result = function(*args, **kwargs)
        print(f"{time.perf_counter() - started:.3f} s")
        return result

    return run"""


@mangling
def decorated_by_their_own(notebook: Notebook, names: Sequence[str]) -> None:
    import_cell(notebook)
    notebook["cells"].insert(1, code(TIMED))
    edit(notebook, names, lambda source, name: decorated(source, name, "timed"))


NEED_GRADIENTS = ("diffusion_loss", "train_step", "confident_share")


@mangling
def decorated_with_no_grad(notebook: Notebook, names: Sequence[str]) -> None:
    names = [name for name in names if name not in NEED_GRADIENTS]
    edit(notebook, names, lambda source, name: decorated(source, name, "torch.no_grad()"))


@mangling
def compiled(notebook: Notebook, names: Sequence[str]) -> None:
    """Functions under `@torch.compile`."""
    names = [name for name in names if not name[0].isupper()]
    edit(notebook, names, lambda source, name: decorated(source, name, "torch.compile"))


@mangling
def docstring_removed(notebook: Notebook, names: Sequence[str]) -> None:
    def change(source: str, name: str) -> str:
        rows = source.split("\n")
        documented = [n for n in ast.walk(definition(source, name)) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
        for node in sorted(documented, key=lambda node: -node.lineno):
            if ast.get_docstring(node) is not None and len(node.body) > 1:
                del rows[node.body[0].lineno - 1 : node.body[0].end_lineno]
        return "\n".join(rows)

    edit(notebook, names, change)


@mangling
def future_annotations(notebook: Notebook, names: Sequence[str]) -> None:
    line = "from __future__ import annotations\n\n\n"
    edit(notebook, names, lambda source, name: line + source.removeprefix(line))


@mangling
def leftover_raise(notebook: Notebook, names: Sequence[str]) -> None:
    """The stub's line was left below the answer's return."""

    def change(source: str, name: str) -> str:
        rows = source.split("\n")
        last = last_function(definition(source, name)).body[-1]
        if isinstance(last, ast.Return):
            indent = re.match(r"\s*", rows[last.lineno - 1])[0]
            rows.insert(last.end_lineno, indent + "raise NotImplementedError  # your code here")
        return "\n".join(rows)

    edit(notebook, names, change)


@mangling
def umlaut_in_a_comment(notebook: Notebook, names: Sequence[str]) -> None:
    edit(notebook, names, lambda source, name: f"# für später: größer als ϵ, « ça »\n{source}\n# 日本")


def on_top(source: str, line: str) -> str:
    """A cell with a line on top, below the imports from the future that must come first."""
    found = re.match(r"from __future__ import annotations\n", source)
    return found[0] + line + "\n" + source[found.end() :] if found else line + "\n" + source


@mangling
def imports_in_the_answer(notebook: Notebook, names: Sequence[str]) -> None:
    def change(source: str, name: str) -> str:
        return on_top(
            with_lines(source, name, "sqrt(pi)", "Path()"), "from math import *\nfrom pathlib import Path\n\n"
        )

    edit(notebook, names, change)


@mangling
def constant_above(notebook: Notebook, names: Sequence[str]) -> None:
    """An answer uses a number from the cell above it."""
    for name, at in each_whole(notebook, names):
        cell = notebook["cells"][at]
        cell["source"] = with_lines(cell["source"], name, f"scale_of_{name} + 1")
        notebook["cells"].insert(at, code(f"scale_of_{name}: float = 1.5"))


@mangling
def inside_a_block(notebook: Notebook, names: Sequence[str]) -> None:
    """The answer is defined inside an `if`."""

    def change(source: str, name: str) -> str:
        node, rows = definition(source, name), source.split("\n")
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
        inner = "\t" if any(row.startswith("\t") for row in rows) else "    "
        rows[first : node.end_lineno] = [inner + row if row.strip() else row for row in rows[first : node.end_lineno]]
        rows.insert(first, "if torch.tensor(1) > 0:")
        return "\n".join(rows)

    edit(notebook, names, change)


@mangling
def indented_as_a_whole(notebook: Notebook, names: Sequence[str]) -> None:
    """Pasted with its indentation, which Jupyter takes off."""
    edit(notebook, names, lambda source, name: re.sub(r"^(?=.)", "    ", source, flags=re.M))


@mangling
def indented_below_a_helper(notebook: Notebook, names: Sequence[str]) -> None:
    """Pasted with its indentation right below another definition."""
    for name, at in each_whole(notebook, names):
        cell = notebook["cells"][at]
        cell["source"] = re.sub(r"^(?=.)", "    ", cell["source"], flags=re.M)
        notebook["cells"].insert(at, code(f"def above_{name.lower()}():\n    return 1"))


@mangling
def import_of_colab_on_top(notebook: Notebook, names: Sequence[str]) -> None:
    """The answer's cell begins with a module that exists only where the student worked."""
    edit(notebook, names, lambda source, name: on_top(source, "from google.colab import drive\n"))


@mangling
def name_made_by_an_import_from_the_future(notebook: Notebook, names: Sequence[str]) -> None:
    """The imports begin with annotations from the future, which Jupyter then applies to all cells."""
    cell = import_cell(notebook)
    if can_follow(cell["source"]):
        cell["source"] = "from __future__ import annotations\n\n" + cell["source"]
        annotated(notebook, names)
        edit(notebook, names, lambda source, name: source.replace("torch.Tensor | None", "Tensor"))


@mangling
def scripted(notebook: Notebook, names: Sequence[str]) -> None:
    """Functions under `@torch.jit.script`, where it knows what they do."""
    names = [name for name in names if name in ("q_step", "q_sample", "snr", "x0_from_eps", "v_target")]
    edit(notebook, names, lambda source, name: decorated(source, name, "torch.jit.script"))


# --- assigned ---------------------------------------------------------------------------------


def assign(notebook: Notebook, names: Sequence[str], value: str, top: str = "") -> None:
    """Rename answers and assign a value made of them, in which {} is the new name, to the exercises' names."""

    def change(source: str, name: str) -> str:
        if definition(source, RENAMED + name):
            return source
        source = renamed(source, name) + f"\n\n\n{name} = {value.format(RENAMED + name)}"
        return on_top(source, top) if top else source

    edit(notebook, names, change)


@mangling
def assigned(notebook: Notebook, names: Sequence[str]) -> None:
    assign(notebook, names, "{}")


@mangling
def assigned_in_the_next_cell(notebook: Notebook, names: Sequence[str]) -> None:
    for name, at in each_whole(notebook, names):
        cell = notebook["cells"][at]
        if not definition(cell["source"], RENAMED + name):
            cell["source"] = renamed(cell["source"], name)
            notebook["cells"].insert(at + 1, code(f"{name} = {RENAMED}{name}"))


@mangling
def a_lambda(notebook: Notebook, names: Sequence[str]) -> None:
    names = [name for name in names if not name[0].isupper()]
    assign(notebook, names, "lambda *args, **kwargs: {}(*args, **kwargs)")


@mangling
def a_partial(notebook: Notebook, names: Sequence[str]) -> None:
    assign(notebook, names, "functools.partial({})", top="import functools")


CALLABLE = """
class Formula_{0}:
    def __call__(self, *args, **kwargs):
        return self.compute(*args, **kwargs)


class Own_{0}(Formula_{0}):
    compute = staticmethod({1}{0})


{0} = Own_{0}()"""


@mangling
def on_a_base_class(notebook: Notebook, names: Sequence[str]) -> None:
    """Classes derive from the student's own one in the cell above; functions become objects that can be called."""
    for name, at in each_whole(notebook, names):
        cell = notebook["cells"][at]
        if definition(cell["source"], RENAMED + name):
            continue
        if name[0].isupper():
            cell["source"] = re.sub(rf"class {name}\(nn.Module\)", f"class {name}(Own{name})", cell["source"])
            notebook["cells"].insert(at, code(f"class Own{name}(nn.Module):\n    depth = 1"))
        else:
            cell["source"] = renamed(cell["source"], name) + "\n\n" + CALLABLE.format(name, RENAMED)


@mangling
def on_a_base_class_below(notebook: Notebook, names: Sequence[str]) -> None:
    """The class that an answer derives from stands below it, and the one that this derives from below that."""
    for name, at in each_whole(notebook, [name for name in names if name[0].isupper()]):
        cell = notebook["cells"][at]
        if f"class {name}(nn.Module)" in cell["source"]:
            cell["source"] = cell["source"].replace(f"class {name}(nn.Module)", f"class {name}(Below{name})")
            notebook["cells"].insert(at + 1, code(f"class Below{name}(Lowest{name}):\n    depth = 1"))
            notebook["cells"].insert(at + 2, code(f"class Lowest{name}(nn.Module):\n    depth = 2"))


# --- cells that Python refuses, or hardly reads -----------------------------------------------


@of_the_whole
def a_long_sum(notebook: Notebook) -> None:
    """Values were typed into one sum: Python reads it, its tools go down one level for each term."""
    notebook["cells"].insert(3, code("total = " + " + ".join(f"{i}.5" for i in range(500))))


@of_the_whole
def an_argument_named_twice(notebook: Notebook) -> None:
    notebook["cells"].insert(3, code("def scaled(x, x):\n    return x"))


@of_the_whole
def a_global_too_late(notebook: Notebook) -> None:
    notebook["cells"].insert(3, code("def count():\n    steps = 0\n    global steps\n    return steps"))


@of_the_whole
def cells_of_other_languages(notebook: Notebook) -> None:
    """Notes in code cells, a shell's commands, HTML, and a cell of blanks."""
    texts = (
        "So far so good!",
        "pip install labdiff",
        "<b>mine</b>",
        " \n\t\n",
        "%%html\n<b>mine</b>",
        "%%latex\n$x_t$",
        "...",
    )
    for i, text in enumerate(texts):
        notebook["cells"].insert(end(notebook["cells"], 2 + 2 * i), code(text))


# --- magics and noise -------------------------------------------------------------------------


@of_the_whole
def magic_in_the_imports(notebook: Notebook) -> None:
    cell = import_cell(notebook)
    cell["source"] = "%matplotlib inline\n%load_ext autoreload\n%autoreload 2\n" + cell["source"]


@mangling
def magic_in_the_answer(notebook: Notebook, names: Sequence[str]) -> None:
    edit(notebook, names, lambda source, name: f"%matplotlib inline\n!pip install x\nfiles = !ls\n{source}\n?{name}")


@mangling
def timed_by_a_magic(notebook: Notebook, names: Sequence[str]) -> None:
    edit(notebook, names, lambda source, name: f"%%time\n{source}")


@mangling
def captured_by_a_magic(notebook: Notebook, names: Sequence[str]) -> None:
    edit(notebook, names, lambda source, name: f"%%capture said\n{source}")


@mangling
def magics_between(notebook: Notebook, names: Sequence[str]) -> None:
    ways = ("!pip install x", "?{}", "{}?", "{}??", "%pip install -q x", "%%bash\necho {}", "%timeit 1", "%who")
    for i, (name, at) in enumerate(each_whole(notebook, names)):
        notebook["cells"].insert(at + 1, code(ways[i % len(ways)].format(name)))


@mangling
def noisy(notebook: Notebook, names: Sequence[str]) -> None:
    """Answers that show, print, warn and draw bars."""
    lines = (
        "import sys, warnings",
        "from tqdm.auto import tqdm",
        "from IPython.display import clear_output",
        'display("here")',
        "clear_output(wait=True)",
        'print("here", file=sys.stderr)',
        'warnings.warn("here")',
        "for _ in tqdm(range(3)): pass",
    )
    edit(notebook, names, lambda source, name: with_lines(source, name, *lines))


@mangling
def written_to_a_file(notebook: Notebook, names: Sequence[str]) -> None:
    """The answer is written to a file and imported from it."""
    for name, at in each_whole(notebook, [name for name in names if not name[0].isupper()]):
        cell = notebook["cells"][at]
        alone = len(tree(cell["source"]).body) == 1
        if alone and definition(cell["source"], name).name == name:
            cell["source"] = f"%%writefile file_of_{name}.py\nimport math\nimport torch\n\n\n{cell['source']}"
            notebook["cells"].insert(at + 1, code(f"from file_of_{name} import {name}"))


@mangling
def separated_by_odd_lines(notebook: Notebook, names: Sequence[str]) -> None:
    """A comment was copied from a page with a separator that Python does not take for the end of a line."""

    def change(source: str, name: str) -> str:
        source = with_lines(source, name, f"odd_{name} + 1")
        return on_top(f"{source}\nodd_{name} = 1.5\ncheck({name})", "# see there,\u2028and there")

    edit(notebook, names, change)


@mangling
def drawing_bars_in_the_notebook(notebook: Notebook, names: Sequence[str]) -> None:
    lines = ("from tqdm.notebook import tqdm", "for _ in tqdm(range(3)): pass")
    edit(notebook, names, lambda source, name: with_lines(source, name, *lines))


# --- saved ------------------------------------------------------------------------------------


def listed(notebook: Notebook) -> Notebook:
    """A notebook whose sources are lists of lines, as they are in a file."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook["cells"]:
        cell["source"] = cell["source"].splitlines(keepends=True)
    return notebook


def dumped(notebook: Notebook, **options: Any) -> str:
    return json.dumps(listed(notebook), **({"indent": 1, "sort_keys": True, "ensure_ascii": False} | options)) + "\n"


@saving
def as_jupyter_does(notebook: Notebook) -> bytes:
    return dumped(notebook).encode()


@saving
def as_colab_does(notebook: Notebook) -> bytes:
    return dumped(from_colab(nbformat.from_dict(notebook)), indent=2, sort_keys=False).encode()


@saving
def as_vs_code_does(notebook: Notebook) -> bytes:
    saved = copy.deepcopy(notebook)
    saved["metadata"] = {
        "language_info": {"name": "python"},
        "orig_nbformat": 4,
        "vscode": {"interpreter": {"hash": "31f2aee4e71d21fbe5cf8b01ff0e069b"}},
    }
    for cell in saved["cells"]:
        cell["metadata"]["vscode"] = {"languageId": "python" if cell["cell_type"] == "code" else "markdown"}
    return dumped(saved).encode()


@saving
def as_jupyterlab_does(notebook: Notebook) -> bytes:
    saved = copy.deepcopy(notebook)
    saved["metadata"] |= {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2}}}
    saved["metadata"] |= {"toc-autonumbering": True, "colab": {}}
    for cell in saved["cells"]:
        cell["metadata"] |= {"editable": True, "slideshow": {"slide_type": ""}, "tags": [], "collapsed": True}
        cell["metadata"] |= {"jupyter": {"outputs_hidden": True, "source_hidden": True}, "trusted": True}
        if cell["cell_type"] == "code":
            said = {"output_type": "stream", "name": "stdout", "text": ["q_sample\n", "right\n"]}
            error = {"output_type": "error", "ename": "NameError", "evalue": "x", "traceback": ["\x1b[31mNameError"]}
            cell["outputs"] = [said, error]
    return dumped(saved).encode()


def of_minor(notebook: Notebook, minor: int) -> bytes:
    saved = copy.deepcopy(notebook) | {"nbformat_minor": minor}
    for cell in saved["cells"] if minor < 5 else ():
        cell.pop("id", None)
    return dumped(saved).encode()


for minor in (0, 2, 4, 5, 9):
    SAVINGS[f"as_format_4_{minor}"] = functools.partial(of_minor, minor=minor)


@saving
def as_format_3(notebook: Notebook) -> bytes:
    older = nbformat.convert(nbformat.from_dict(notebook), 3)
    return nbformat.v3.writes_json(older).encode()


@saving
def without_kernelspec(notebook: Notebook) -> bytes:
    return dumped(notebook | {"metadata": {}}).encode()


@saving
def with_another_kernelspec(notebook: Notebook) -> bytes:
    spec = {"display_name": "conda: diffusion (3.12)", "language": "python", "name": "conda-env-diffusion-py"}
    return dumped(notebook | {"metadata": {"kernelspec": spec}}).encode()


@saving
def without_metadata(notebook: Notebook) -> bytes:
    saved = {"cells": [{k: v for k, v in cell.items() if k != "metadata"} for cell in notebook["cells"]]}
    return dumped(saved).encode()


@saving
def with_bom(notebook: Notebook) -> bytes:
    return dumped(notebook).encode("utf-8-sig")


@saving
def in_utf_16(notebook: Notebook) -> bytes:
    return dumped(notebook).encode("utf-16")


@saving
def in_utf_16_big_endian(notebook: Notebook) -> bytes:
    return b"\xfe\xff" + dumped(notebook).encode("utf-16-be")


def in_one_byte(notebook: Notebook, encoding: str) -> bytes:
    """In an old encoding, which has the umlauts and not much more; JSON has a way to write the rest."""
    text = dumped(notebook)
    rest = {ord(c): json.dumps(c)[1:-1] for c in set(text) if not c.encode(encoding, "ignore")}
    return text.translate(rest).encode(encoding)


@saving
def in_latin_1(notebook: Notebook) -> bytes:
    return in_one_byte(notebook, "latin-1")


@saving
def in_windows_1252(notebook: Notebook) -> bytes:
    return in_one_byte(notebook, "cp1252")


@saving
def in_ascii_on_one_line(notebook: Notebook) -> bytes:
    return dumped(notebook, indent=None, ensure_ascii=True).encode("ascii")


@saving
def with_crlf_lines(notebook: Notebook) -> bytes:
    return dumped(notebook).replace("\n", "\r\n").encode()


@saving
def with_crlf_in_the_sources(notebook: Notebook) -> bytes:
    saved = copy.deepcopy(notebook)
    for cell in saved["cells"]:
        cell["source"] = cell["source"].replace("\n", "\r\n")
    return dumped(saved).encode()


@saving
def with_sources_in_one_string(notebook: Notebook) -> bytes:
    return json.dumps(notebook).encode()
