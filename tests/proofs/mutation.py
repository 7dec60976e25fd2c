"""First-order mutants of a definition: its syntax tree with one small change, as a student might slip."""

from __future__ import annotations

import ast
import copy
import functools
import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Definition = ast.FunctionDef | ast.ClassDef
Path = tuple[tuple[str, int | None], ...]  # from the definition down: a field, and the place in it where it is a list

BINARY = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.FloorDiv, ast.Mod, ast.MatMult)
ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
OPPOSITE = {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}

# Names that are taken for one another: each for its neighbours in its row.
SIBLINGS = """
    sqrt square rsqrt exp log abs
    sin cos tan arccos arcsin
    sum mean amax amin prod std
    min max
    cumsum cumprod
    zeros ones
    zeros_like ones_like
    floor round ceil trunc
    softmax log_softmax sigmoid
    silu relu gelu tanh
    cat stack
    linspace logspace
    reshape view_as
    flatten ravel
    long int float
    float double half
    float64 float32
    mul_ div_ mul
    add_ sub_ add
    append insert
    eigvals eigvalsh
    trace det sum
    cov corrcoef
    index_add index_copy
    zero_grad step
    parameters buffers
    transpose swapaxes
    amax argmax
    argmax argmin
    any all
    std var
    log log1p
    exp expm1
    shape stride
    T mT
    real imag
    mse_loss l1_loss
    lower upper
    deepcopy copy
"""

Replacements = Iterator[ast.AST]
Operator = Callable[[ast.AST, "Scope"], Replacements]


@dataclass(frozen=True)
class Scope:
    """What a definition calls by name.

    variables: its arguments and what it assigns. attributes: what it sets or asks of self.
    arguments: the arguments of the function whose body is changed.
    """

    variables: tuple[str, ...]
    attributes: tuple[str, ...]
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Mutant:
    """A definition with one change: by which operator and where it was made, the changed line, the whole source."""

    operator: str
    path: Path
    line: str
    source: str
    new: ast.AST


def mutants(definition: Definition, written: Callable[[Path], bool] = lambda path: True) -> list[Mutant]:
    """Every mutant of a definition, each source once, without what does not compile.

    written: whether the node at a path may be changed. Docstrings, annotations and the wording of f-strings never are.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's compiler, on what makes no sense
        return list(_mutants(definition, written).values())


def _mutants(definition: Definition, written: Callable[[Path], bool]) -> dict[str, Mutant]:
    original = ast.unparse(definition)
    found: dict[str, Mutant] = {}
    for path, node in _nodes(definition):
        if not written(path):
            continue
        scope, of_shape = _scope(definition, path), _only_its_shape_is_asked(definition, path)
        for operator in OPERATORS:
            for new in () if of_shape and operator in OF_VALUES else operator(node, scope):
                changed = _replaced(definition, path, new)
                try:
                    source = ast.unparse(ast.fix_missing_locations(changed))
                    compile(source, "<mutant>", "exec")
                except (SyntaxError, ValueError):
                    continue
                if source != original and source not in found:
                    line = _line(definition, changed, path)
                    found[source] = Mutant(operator.__name__, path, line, source, new)
    return found


def both(definition: Definition, one: Mutant, other: Mutant) -> str | None:
    """The source with two changes; None where they meet, one inside the other."""
    shorter = min(len(one.path), len(other.path))
    if one.path[:shorter] == other.path[:shorter]:
        return None
    changed = _replaced(_replaced(definition, one.path, one.new), other.path, other.new)
    return ast.unparse(ast.fix_missing_locations(changed))


def with_number(definition: Definition, path: Path, number: float) -> str:
    """The source with another number at a place."""
    return ast.unparse(ast.fix_missing_locations(_replaced(definition, path, _number(number))))


def line_at(definition: Definition, path: Path) -> str:
    """The first line of the innermost statement around a place."""
    return ast.unparse(at(definition, path[: _depth(definition, path)])).splitlines()[0]


def key(definition: Definition, mutant: Mutant) -> tuple[str, str, int]:
    """What is changed into what, and at which of the places that read the same, counted from 1.

    The texts are those of the smallest expression around the change, so that the rest of its line may be reworded. Of a
    return statement that is changed as a whole, what it returned is `_`; what is deleted becomes `pass`.
    """
    place = _place(definition, mutant.path)
    before, after = at(definition, place), at(_replaced(definition, mutant.path, mutant.new), place)
    if isinstance(before, ast.Return) and isinstance(after, ast.Return):
        blank = _Blank(before.value)
        return "return _", _head(blank.visit(copy.deepcopy(after))), _nth(definition, place, ast.Return)
    return _head(before), _head(after), _nth(definition, place)


def expression_at(definition: Definition, path: Path) -> str:
    """The smallest expression around a place, as text."""
    return _head(at(definition, _place(definition, path)))


def numbers(definition: Definition, written: Callable[[Path], bool] = lambda path: True) -> dict[Path, float]:
    """The numbers that stand in a definition, by their places."""
    return {path: node.value for path, node in _nodes(definition) if _is_number(node) and written(path)}


# --- walking ----------------------------------------------------------------------------------


def _nodes(node: ast.AST, path: Path = ()) -> Iterator[tuple[Path, ast.AST]]:
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases"):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or isinstance(child, (ast.expr_context, ast.operator, ast.cmpop)):
                continue
            if (name == "body" and i == 0 and _is_docstring(child)) or isinstance(child, ast.JoinedStr):
                continue
            yield (*path, (name, i)), child
            yield from _nodes(child, (*path, (name, i)))


def _only_its_shape_is_asked(definition: Definition, path: Path) -> bool:
    parent = at(definition, path[:-1])
    return isinstance(parent, ast.Attribute) and parent.attr in ("shape", "dim", "device")


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def at(node: ast.AST, path: Path) -> ast.AST:
    """The node at a path."""
    for name, i in path:
        node = getattr(node, name) if i is None else getattr(node, name)[i]
    return node


def _replaced(definition: Definition, path: Path, new: ast.AST) -> Definition:
    changed = copy.deepcopy(definition)
    parent, (name, i) = at(changed, path[:-1]), path[-1]
    if i is None:
        setattr(parent, name, copy.deepcopy(new))
    else:
        getattr(parent, name)[i] = copy.deepcopy(new)
    return changed


def _depth(definition: Definition, path: Path) -> int:
    """How far down the innermost statement around a place is."""
    return max(n for n in range(len(path) + 1) if isinstance(at(definition, path[:n]), ast.stmt))


def _place(definition: Definition, path: Path) -> Path:
    """Where the smallest expression around a place is; what makes up a whole statement stands for itself.

    Where there is no such expression, as around a default, it is the statement.
    """
    depth = _depth(definition, path)
    for n in range(len(path) - 1, depth, -1):
        if _stands_alone(at(definition, path[:n])):
            return path[:n]
    in_signature = len(path) > depth and path[depth][0] == "args"
    return path if _stands_alone(at(definition, path)) and not in_signature else path[:depth]


def _stands_alone(node: ast.AST) -> bool:
    """Whether a node is an expression that says enough: no name, no number, no part of an index."""
    if isinstance(node, ast.UnaryOp):
        return not isinstance(node.operand, ast.Constant)
    if isinstance(node, ast.Tuple) and any(isinstance(each, ast.Slice) for each in node.elts):
        return False
    return isinstance(node, ast.expr) and not isinstance(node, (ast.Slice, ast.Starred, ast.Name, ast.Constant))


def _head(node: ast.AST) -> str:
    """The text of an expression, or the first line of a statement's."""
    return ast.unparse(node).splitlines()[0]


def _nth(definition: Definition, place: Path, kind: type[ast.AST] | None = None) -> int:
    """Which of the places that read the same this is, or which of those of a kind."""
    here = at(definition, place)
    kind = kind or (ast.expr if isinstance(here, ast.expr) else ast.stmt)
    alike = [(p, node) for p, node in [((), definition), *_nodes(definition)] if isinstance(node, kind)]
    return [p for p, node in alike if kind is ast.Return or _head(node) == _head(here)].index(place) + 1


class _Blank(ast.NodeTransformer):
    """Writes `_` for an expression, wherever it stands."""

    def __init__(self, expression: ast.AST | None):
        self.dump = ast.dump(expression) if expression else ""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        return ast.Name("_", ast.Load()) if ast.dump(node) == self.dump else super().generic_visit(node)


def _line(definition: Definition, changed: Definition, path: Path) -> str:
    """The first line of the innermost changed statement; of a deleted one, what it was."""
    after = at(changed, path[: _depth(definition, path)])
    if isinstance(after, ast.Pass):
        return "without " + line_at(definition, path)
    return ast.unparse(after).splitlines()[0]


def _scope(definition: Definition, path: Path) -> Scope:
    functions = [at(definition, path[:n]) for n in range(len(path) + 1)]
    inner = [node for node in functions if isinstance(node, ast.FunctionDef)]
    arguments, variables = [], []
    for function in inner:
        arguments = [a.arg for a in function.args.args if a.arg != "self"]
        variables += arguments
        stored = (n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        variables += [node.id for node in stored]
    attributes = [
        node.attr
        for node in ast.walk(definition)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    ]
    return Scope(*(tuple(dict.fromkeys(names)) for names in (variables, attributes, arguments)))


# --- operators --------------------------------------------------------------------------------


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)


def _number(value: float) -> ast.expr:
    positive = ast.Constant(abs(value))
    return ast.UnaryOp(ast.USub(), positive) if value < 0 else positive


def _is_value(node: ast.AST, scope: Scope) -> bool:
    """Whether a node may stand for a number or a tensor, not for a module, a target or a string."""
    if isinstance(node, ast.Name):
        return node.id in scope.variables and isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Subscript):
        return isinstance(node.ctx, ast.Load)
    return isinstance(node, (ast.BinOp, ast.Call))


def _copied(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _call_of(node: ast.expr, method: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(node, method, ast.Load()), list(arguments), [])


def _without(items: list, i: int) -> list:
    return items[:i] + items[i + 1 :]


def _swapped(items: list, i: int, j: int) -> list:
    new = list(items)
    new[i], new[j] = new[j], new[i]
    return new


def binary(node: ast.AST, scope: Scope) -> Replacements:
    """Another operation, the operands swapped where that matters, or one of them alone."""
    if isinstance(node, ast.BinOp):
        yield from (_copied(node, op=op()) for op in BINARY if not isinstance(node.op, op))
        if not isinstance(node.op, (ast.Add, ast.Mult)):
            yield _copied(node, left=node.right, right=node.left)
        yield from (node.left, node.right)


def comparison(node: ast.AST, scope: Scope) -> Replacements:
    """Another comparison; one of a chain alone."""
    if not isinstance(node, ast.Compare):
        return
    values = [node.left, *node.comparators]
    for i, op in enumerate(node.ops):
        others = ORDER if isinstance(op, ORDER) else (OPPOSITE[type(op)],)
        for other in others:
            if not isinstance(op, other):
                yield _copied(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])
        if len(node.ops) > 1:
            yield ast.Compare(values[i], [op], [values[i + 1]])


def sign(node: ast.AST, scope: Scope) -> Replacements:
    """A minus or a `not` dropped, a minus added."""
    if isinstance(node, ast.UnaryOp):
        yield node.operand
    elif _is_value(node, scope):
        yield ast.UnaryOp(ast.USub(), node)


def constant(node: ast.AST, scope: Scope) -> Replacements:
    """Another number, truth value or text."""
    if _is_number(node):
        value = node.value
        yield from (_number(n) for n in dict.fromkeys((value + 1, value - 1, 0, 2 * value, -value)) if n != value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield ast.Constant(node.value + "?")
    elif isinstance(node, ast.Constant) and node.value is None:
        yield from (ast.Constant(0), ast.Constant(1))


def call(node: ast.AST, scope: Scope) -> Replacements:
    """A call dropped, an argument dropped, two arguments swapped."""
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Attribute):
        yield node.func.value
    if node.args:
        yield node.args[0].value if isinstance(node.args[0], ast.Starred) else node.args[0]
    yield from (_copied(node, args=_without(node.args, i)) for i in range(len(node.args)))
    yield from (_copied(node, keywords=_without(node.keywords, i)) for i in range(len(node.keywords)))
    for i, j in itertools.combinations(range(len(node.args)), 2):
        yield _copied(node, args=_swapped(node.args, i, j))


def index(node: ast.AST, scope: Scope) -> Replacements:
    """An index dropped or at another place."""
    if not isinstance(node, ast.Subscript) or not isinstance(node.ctx, ast.Load):
        return
    yield node.value
    if isinstance(node.slice, ast.Slice):
        one, minus_one = ast.Constant(1), _number(-1)
        for lower, upper in ((one, None), (None, minus_one), (None, one), (minus_one, None), (None, None)):
            yield _copied(node, slice=ast.Slice(lower, upper))
        yield _copied(node, slice=ast.Slice(node.slice.upper, node.slice.lower))
        yield _copied(node, slice=ast.Slice(node.slice.lower, None))
        yield _copied(node, slice=ast.Slice(None, node.slice.upper))
    elif not isinstance(node.slice, ast.Tuple):
        yield from (_copied(node, slice=new) for new in (ast.Constant(0), ast.Constant(1), _number(-1)))


def row(node: ast.AST, scope: Scope) -> Replacements:
    """An entry of a tuple or list dropped, two of them swapped."""
    if isinstance(node, (ast.Tuple, ast.List)):
        for i, j in itertools.combinations(range(len(node.elts)), 2):
            yield _copied(node, elts=_swapped(node.elts, i, j))
        if isinstance(node.ctx, ast.Load):
            yield from (_copied(node, elts=_without(node.elts, i)) for i in range(len(node.elts)))


def sibling(node: ast.AST, scope: Scope) -> Replacements:
    """A method, function or layer taken for another."""
    if isinstance(node, ast.Attribute):
        of_self = isinstance(node.value, ast.Name) and node.value.id == "self"
        others = scope.attributes if of_self else _siblings().get(node.attr, ())
        yield from (_copied(node, attr=attr) for attr in others if attr != node.attr)
    elif isinstance(node, ast.Name) and node.id not in scope.variables:
        yield from (ast.Name(other, node.ctx) for other in _siblings().get(node.id, ()))


@functools.cache
def _siblings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in SIBLINGS.splitlines():
        for name in line.split():
            found.setdefault(name, []).extend(other for other in line.split() if other != name)
    return found


def variable(node: ast.AST, scope: Scope) -> Replacements:
    """A variable taken for another."""
    if isinstance(node, ast.Name) and node.id in scope.variables and isinstance(node.ctx, ast.Load):
        yield from (ast.Name(other, ast.Load()) for other in scope.variables if other != node.id)


def near(node: ast.AST, scope: Scope) -> Replacements:
    """A variable taken for its complement 1 - x or for its root."""
    if isinstance(node, ast.Name) and node.id in scope.variables and isinstance(node.ctx, ast.Load):
        yield ast.BinOp(ast.Constant(1), ast.Sub(), node)
        yield _call_of(node, "sqrt")


def condition(node: ast.AST, scope: Scope) -> Replacements:
    """A condition negated, always true or never; its branches swapped; `and` for `or`."""
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        tests = (ast.UnaryOp(ast.Not(), node.test), ast.Constant(True), ast.Constant(False))
        yield from (_copied(node, test=test) for test in tests)
    elif isinstance(node, ast.BoolOp):
        yield _copied(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        yield from node.values


def statement(node: ast.AST, scope: Scope) -> Replacements:
    """A statement deleted, a block without its head, another thing returned."""
    if isinstance(node, ast.stmt) and not isinstance(node, (ast.Pass, ast.FunctionDef, ast.ClassDef)):
        yield ast.Pass()
    if isinstance(node, (ast.With, ast.If, ast.For)):
        yield ast.If(ast.Constant(True), node.body, [])
    if isinstance(node, ast.Return):
        yield from (_copied(node, value=ast.Name(name, ast.Load())) for name in scope.arguments)
        yield _copied(node, value=ast.Constant(None))


def in_place(node: ast.AST, scope: Scope) -> Replacements:
    """An operation that changes its first operand, a variable."""
    names = {ast.Add: "add_", ast.Sub: "sub_", ast.Mult: "mul_", ast.Div: "div_"}
    if isinstance(node, ast.BinOp) and type(node.op) in names and isinstance(node.left, ast.Name):
        yield _call_of(node.left, names[type(node.op)], node.right)


def finish(node: ast.AST, scope: Scope) -> Replacements:
    """A result that is clamped, squeezed or in float64, which nobody asked for."""
    if isinstance(node, ast.Return) and node.value:
        yield _copied(node, value=_call_of(node.value, "clamp", _number(-1), _number(1)))
        yield from (_copied(node, value=_call_of(node.value, name)) for name in ("squeeze", "double"))


def default(node: ast.AST, scope: Scope) -> Replacements:
    """Two defaults swapped, or the first one dropped."""
    if isinstance(node, ast.arguments) and node.defaults:
        yield _copied(node, defaults=node.defaults[1:])
        for i, j in itertools.combinations(range(len(node.defaults)), 2):
            yield _copied(node, defaults=_swapped(node.defaults, i, j))


OPERATORS: tuple[Operator, ...] = (
    binary,
    comparison,
    sign,
    constant,
    call,
    index,
    row,
    sibling,
    variable,
    near,
    condition,
    statement,
    in_place,
    finish,
    default,
)
OF_VALUES = (sign, near)
