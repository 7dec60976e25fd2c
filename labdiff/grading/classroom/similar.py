"""`labdiff similar`: pairs of submissions that are closer than chance, as evidence for a person to look at.

An answer is the set of the expressions and statements in its syntax tree. Names that the
student chose are replaced, comments, docstrings and layout are not in the tree, and what
the release or the reference holds is taken out, as is what more than a quarter of the
class wrote. What remains counts more the fewer wrote it. How much two submissions share by
chance is found by dealing the class's own answers out anew.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import itertools
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader

from labdiff import exercises
from labdiff.errors import Unreadable
from labdiff.exercises import Lab
from labdiff.files import PACKAGE
from labdiff.grading.submission.mend import mend
from labdiff.grading.submission.program import program
from labdiff.grading.submission.read import read_cells
from labdiff.grading.submission.release import released
from labdiff.grading.submission.restore import answered_questions
from labdiff.grading.submission.syntax import DEFINITIONS, PARSING, needed, parsed

OTHER = "other cells"  # what a student wrote besides the answers
COMMON = 1 / 4  # what a larger share of the class wrote is no evidence
SMALLEST = 3  # nodes of a syntax tree: less than `x.exp()` says nothing
WORDS = 5  # in a row, of an answer in words
UPPER = 0.98  # the quantile of all pairs' totals up to which they count as ordinary
SHUFFLES = 50
SHOWN = 50  # pairs on the page
LONGEST = 20_000  # characters of one answer that are compared
BLOCK = 512  # submissions whose pairs are added up at once

Answers = dict[str, str]  # exercise, question or OTHER -> what the student wrote
Marked = list[tuple[str, bool]]  # a text in pieces, and whether each counts as shared
Spans = dict[int, list[tuple[int, int]]]  # part -> where it stands, in bytes


@dataclass(frozen=True)
class Shared:
    """What two submissions share in one exercise.

    bits: what it adds, see `Pair`. alike: the share of their uncommon parts that both have, 0 to 1.
    writers: how many of the class wrote the rarest of these. texts: both answers, marked.
    """

    exercise: str
    bits: float
    alike: float
    writers: int
    texts: tuple[Marked, Marked]


@dataclass(frozen=True)
class Pair:
    """Two submissions closer than chance.

    bits: the sum over the exercises. One where only one in 2**b pairs of this class shares as much adds b bits as far
    as the answers are alike, and takes one away as far as they are not. shared: where they share any, the most first.
    """

    names: tuple[str, str]
    bits: float
    shared: list[Shared]


@dataclass(frozen=True)
class Evidence:
    """What `similar` found.

    compared: how many submissions. threshold: bits that no pair reached in `shuffles` classes dealt out anew.
    found: how many pairs lie above it; pairs: at most SHOWN of them, the largest first. left_out: name -> why.
    """

    lab: str
    compared: int
    threshold: float
    shuffles: int
    found: int
    pairs: list[Pair]
    left_out: dict[str, str] = field(default_factory=dict)


def similar(submissions: Iterable[tuple[str, bytes]], lab: str, shuffles: int = SHUFFLES, seed: int = 0) -> Evidence:
    """Find the pairs of submissions that share more than chance explains.

    submissions: (a name, the file's bytes), each name once. shuffles: how often the class is dealt out anew, at
    least 1; where chance is all there is, about one class in shuffles + 1 has a pair reported. seed: same seed,
    same result.
    Raises UnknownName where there is no such lab.
    """
    asked = exercises.lab(lab)
    written: dict[str, Answers] = {}
    left_out: dict[str, str] = {}
    for name, data in submissions:
        try:
            written[name] = answers(data, asked)
        except Unreadable as error:
            left_out[name] = str(error)
        except (RecursionError, MemoryError) as error:
            left_out[name] = f"The cells could not be read ({type(error).__name__})."
    return compare(written, asked, shuffles, seed, left_out)


# --- what was written -------------------------------------------------------------------------


def answers(data: bytes, lab: Lab) -> Answers:
    """What a student wrote for each exercise with its helpers, for each question, and besides. Raises Unreadable."""
    cells = mend(read_cells(data), lab)
    runs = program(cells, lab)
    body: list[ast.stmt] = []
    texts: dict[int, str] = {}  # a statement's id -> its text
    for number, source in zip(runs.numbers, runs.cells, strict=True):
        tree = parsed(source) if number else None
        for statement in tree.body if tree else ():
            if not isinstance(statement, (ast.Import, ast.ImportFrom)):
                body.append(statement)
                texts[id(statement)] = _written(statement, source)
    found: dict[str, list[str]] = defaultdict(list)
    for name in released(lab.name).order:
        for statement in needed(body, {name}):
            its = isinstance(statement, DEFINITIONS) and statement.name not in {*lab.exercises} - {name}
            if its and id(statement) in texts:  # a helper counts once, for the first that needs it
                found[name].append(texts.pop(id(statement)))
    found[OTHER] = [texts[id(statement)] for statement in body if id(statement) in texts]
    for name, number in answered_questions(cells, lab, {runs.numbers[at] for at in runs.defined.values()}).items():
        found[name] = [cells[number - 1].source]
    return {name: "\n\n".join(_not_too_long(texts)) for name, texts in found.items() if texts}


def _not_too_long(texts: list[str]) -> list[str]:
    ends = itertools.accumulate(map(len, texts))
    return [text for text, end in zip(texts, ends, strict=True) if end <= LONGEST]


def _written(statement: ast.stmt, source: str) -> str:
    """A statement as it stands in its cell, or unparsed where magics moved the lines."""
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    text = textwrap.dedent("\n".join(source.split("\n")[first - 1 : statement.end_lineno]))
    with contextlib.suppress(*PARSING):
        if [ast.dump(each) for each in ast.parse(text).body] == [ast.dump(statement)]:
            return text
    try:
        return ast.unparse(statement)
    except PARSING:
        return ""


# --- its parts --------------------------------------------------------------------------------


def parts(text: str, name: str, lab: Lab) -> Spans:
    """The parts of an answer whatever it is named, and where they stand."""
    if name in lab.questions:
        return _runs_of_words(text)
    try:
        return _Shapes(text, {*lab.exercises}).found
    except PARSING:
        return {}


def _digest(*shape: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(shape).encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _runs_of_words(text: str) -> Spans:
    found: Spans = defaultdict(list)
    words = list(re.finditer(r"\w+", text))
    at = [0, *itertools.accumulate(len(character.encode()) for character in text)]  # characters to bytes
    for i in range(len(words) - WORDS + 1):
        run = words[i : i + WORDS]
        digest = _digest(*(word.group().casefold() for word in run))
        found[digest].append((at[run[0].start()], at[run[-1].end()]))
    return found


def _arguments(statement: ast.stmt) -> dict[str, str]:
    """A statement's arguments by their place: which of them is used says much, whatever it is called."""
    found: dict[str, str] = {}
    for node in ast.walk(statement):
        if isinstance(node, ast.arguments):
            for i, argument in enumerate([*node.posonlyargs, *node.args, *node.kwonlyargs]):
                found.setdefault(argument.arg, f"argument {i}")
    return found


class _Shapes:
    """The expressions and statements of a source, with the names that it makes replaced."""

    def __init__(self, source: str, asked: set[str]):
        tree = ast.parse(source)
        self.starts = [0]
        for line in source.encode().split(b"\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)
        nodes = list(ast.walk(tree))
        self.attributes = {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
        # Python up to 3.11 does not say where in an f-string an expression stands
        self.unplaced = {
            id(n) for each in nodes if isinstance(each, ast.JoinedStr) for n in ast.walk(each) if n != each
        }
        own = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        own |= {n.name for n in nodes if isinstance(n, (*DEFINITIONS, ast.AsyncFunctionDef))}
        self.found: Spans = defaultdict(list)
        for statement in tree.body:
            self.names = dict.fromkeys(own, "own") | _arguments(statement)
            self.names = {name: stands for name, stands in self.names.items() if name not in asked}
            self._shape(statement)

    def _shape(self, node: ast.AST) -> tuple[int, int]:
        """The digest of a node and its size; what is large enough is put down in `found`."""
        kind, children = type(node).__name__, list(self._children(node))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            # torch.sqrt(x) and x.sqrt() are the same
            on, attribute = node.func.value, node.func.attr
            on_module = isinstance(on, ast.Name) and on.id not in self.names
            children = [*([] if on_module else [on]), *node.args, *node.keywords]
            kind = f"call of {'own' if attribute in self.attributes else attribute}"
        shapes, size = [], 1
        for child in children:
            digest, its = self._shape(child) if isinstance(child, ast.AST) else (child, 0)
            shapes.append(digest)
            size += its
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
            shapes.sort(key=repr)
        digest = _digest(kind, *shapes)
        if size >= SMALLEST and isinstance(node, (ast.expr, ast.stmt)) and id(node) not in self.unplaced:
            assert node.end_lineno is not None and node.end_col_offset is not None  # ast.parse knows them
            start = self.starts[node.lineno - 1] + node.col_offset
            self.found[digest].append((start, self.starts[node.end_lineno - 1] + node.end_col_offset))
        return digest, size

    def _children(self, node: ast.AST) -> Iterator[object]:
        for name, value in ast.iter_fields(node):
            if name in ("ctx", "annotation", "returns", "type_comment", "kind"):
                continue
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant):
                    continue  # a docstring
                if isinstance(each, ast.AST):
                    yield each
                elif name == "attr":
                    yield "own" if each in self.attributes else each
                elif name in ("id", "arg", "name"):
                    yield self.names.get(each, each)
                else:
                    yield repr(each)


@functools.cache
def given(name: str) -> frozenset[int]:
    """The parts of what every student has been given: the release's cells, and the reference."""
    lab = exercises.lab(name)
    cells = released(lab.name).notebook.cells
    reference = (PACKAGE / "reference" / f"{lab.name}.py").read_text(encoding="utf-8")
    code = [cell.source for cell in cells if cell.cell_type == "code"] + [reference]
    words = [cell.source for cell in cells if cell.cell_type == "markdown"]
    found = [parts(text, OTHER, lab) for text in code] + [_runs_of_words(text) for text in words]
    return frozenset().union(*found)


# --- how much is chance -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Exercise:
    """The class's answers to one exercise, of those who wrote anything that counts.

    writers: their places in the class, rising. forms: for each the number of the form that the answer took.
    bits, alike: forms by forms, how rare it is to share as much, and which share of the parts is shared.
    evidence: what a pair's answers add to its total, `bits` as far as they are alike, less a bit as far as not.
    """

    writers: np.ndarray
    forms: np.ndarray
    bits: np.ndarray
    alike: np.ndarray
    evidence: np.ndarray


def compare(
    written: dict[str, Answers],
    lab: Lab,
    shuffles: int = SHUFFLES,
    seed: int = 0,
    left_out: dict[str, str] | None = None,
) -> Evidence:
    """The evidence of a class whose answers have been read: a submission's name -> its answers."""
    names = list(written)
    asked: dict[str, _Exercise] = {}
    counts: dict[str, dict[int, int]] = {}
    for exercise in (*released(lab.name).order, *lab.questions, OTHER):
        texts = [written[name].get(exercise, "") for name in names]
        known = {text: frozenset(parts(text, exercise, lab)) - given(lab.name) for text in {*texts}}
        theirs, counts[exercise] = _uncommon([known[text] for text in texts])
        if theirs:
            asked[exercise] = _rarity(theirs, counts[exercise], len(names))
    random = np.random.default_rng(seed)
    tendency = _tendency(asked.values(), len(names))
    dealt = ([_dealt_anew(each, tendency, random) for each in asked.values()] for _ in range(shuffles))
    threshold = _threshold([*asked.values()], dealt, len(names))
    above = []
    for first, totals in _totals(asked.values(), len(names)):
        rows, columns = np.nonzero(totals > threshold)
        above += [(float(totals[i, j]), first + int(i), int(j)) for i, j in zip(rows, columns, strict=True)]
    above.sort(key=lambda pair: (-pair[0], pair[1:]))
    pairs = []
    for bits, *places in above[:SHOWN]:
        a, b = (names[place] for place in places)
        shared = [
            Shared(name, *evidence, *_marked(written[a][name], written[b][name], name, lab, counts[name]))
            for name, evidence in _by_exercise(asked, *places)
        ]
        pairs.append(Pair((a, b), bits, shared))
    return Evidence(lab.name, len(names), threshold, shuffles, len(above), pairs, left_out or {})


def _uncommon(found: list[frozenset[int]]) -> tuple[dict[int, frozenset[int]], dict[int, int]]:
    """What each wrote of what at most COMMON of the class did, where there is any; and how many wrote each part."""
    count = Counter(part for each in found for part in each)
    kept = {part: n for part, n in count.items() if n <= COMMON * len(found)}
    theirs = {i: frozenset(part for part in each if part in kept) for i, each in enumerate(found)}
    return {i: each for i, each in theirs.items() if each}, kept


def _rarity(theirs: dict[int, frozenset[int]], counts: dict[int, int], size: int) -> _Exercise:
    """How much every two forms of the answers to one exercise share, and how rare that is among the class's pairs."""
    writers = np.array(list(theirs))
    distinct = {form: k for k, form in enumerate(dict.fromkeys(theirs.values()))}
    forms = np.array([distinct[form] for form in theirs.values()])
    where: dict[int, list[int]] = defaultdict(list)
    for form, k in distinct.items():
        for part in form:
            where[part].append(k)
    together: dict[tuple[int, ...], float] = defaultdict(float)  # parts that the same forms hold count as one
    for part, holders in sorted(where.items()):
        together[tuple(holders)] += np.log2(size / counts[part])
    holds = np.zeros((len(distinct), len(together)), np.float32)
    for column, same in enumerate(together):
        holds[list(same), column] = 1
    # rounded, since what is equal must stay equal however it was added up
    shared = ((holds * np.array([*together.values()], np.float32)) @ holds.T).round(2)
    whole = np.diag(shared)
    people = np.bincount(forms)
    pairs = np.outer(people, people) - np.diag(people)  # every two people twice
    values, at = np.unique(shared, return_inverse=True)
    as_much = np.bincount(at.ravel(), pairs.ravel(), len(values))[::-1].cumsum()[::-1]
    bits = np.where(values > 0, np.log2(size * (size - 1) / np.maximum(as_much, 1)), 0).astype(np.float32)
    bits, alike = bits[at].reshape(shared.shape), shared / np.maximum.outer(whole, whole)
    return _Exercise(writers, forms, bits, alike, alike * bits - (1 - alike))


def _tendency(asked: Collection[_Exercise], size: int) -> np.ndarray:
    """The log odds that a student writes what is neither given nor common; (size,)."""
    times = _times(asked, size)
    return np.log((times + 1e-9) / (len(asked) - times + 0.5))


def _times(asked: Iterable[_Exercise], size: int) -> np.ndarray:
    return sum((np.bincount(each.writers, minlength=size) for each in asked), np.zeros(size))


def _dealt_anew(each: _Exercise, tendency: np.ndarray, random: np.random.Generator) -> _Exercise:
    """The same answers with other writers, drawn by their tendency (Gumbel's way to draw without replacement)."""
    keys = tendency + random.gumbel(size=len(tendency))
    writers = np.sort(np.argsort(-keys, kind="stable")[: len(each.writers)])
    return replace(each, writers=writers, forms=random.permutation(each.forms))


def _threshold(asked: list[_Exercise], dealt: Iterable[list[_Exercise]], size: int) -> float:
    """The highest total of the classes dealt out anew, stretched by how much wider this class's own totals spread.

    Where a class falls into groups of one style, its ordinary pairs spread wider than chance; what
    is left of that after `UPPER` is for the few pairs that stand out.
    """
    middle, upper, _ = _spread(asked, size)
    chance = np.array([_spread(each, size) for each in dealt])
    wider = max(1.0, (upper - middle) / max(float((chance[:, 1] - chance[:, 0]).mean()), 1e-6))
    return max(0.0, float(middle + wider * (chance[:, 2] - chance[:, 0]).max()))


def _spread(asked: Iterable[_Exercise], size: int) -> tuple[float, float, float]:
    """The median, the UPPER quantile and the highest of all pairs' totals."""
    asked = list(asked)
    found = [rows[np.triu_indices(len(rows), first + 1, size)] for first, rows in _totals(asked, size)]
    totals = np.concatenate(found) if size > 1 else np.zeros(1)
    return float(np.median(totals)), float(np.quantile(totals, UPPER)), float(totals.max())


def _totals(asked: Iterable[_Exercise], size: int) -> Iterator[tuple[int, np.ndarray]]:
    """The totals of all pairs in blocks of rows: the first row's number, and its pairs with later submissions."""
    asked = list(asked)
    times = _times(asked, size).astype(np.float32)
    for first in range(0, size, BLOCK):
        rows = min(BLOCK, size - first)
        totals = -(times[first : first + rows, None] + times)  # each counts as not alike where only one wrote any
        for each in asked:
            low, high = np.searchsorted(each.writers, (first, first + rows))
            at = np.ix_(each.writers[low:high] - first, each.writers[low:])
            totals[at] += 2 + each.evidence[np.ix_(each.forms[low:high], each.forms[low:])]
        totals[np.tril_indices(rows, first, size)] = -np.inf
        yield first, totals


# --- the page ---------------------------------------------------------------------------------


def _by_exercise(asked: dict[str, _Exercise], a: int, b: int) -> list[tuple[str, tuple[float, float]]]:
    """What each exercise tells about two submissions, the most bits first: name -> bits, how much is alike."""
    found = {}
    for name, each in asked.items():
        at = {writer: form for writer, form in zip(each.writers.tolist(), each.forms.tolist(), strict=True)}
        if a in at and b in at and each.alike[at[a], at[b]] > 0:
            forms = at[a], at[b]
            found[name] = float(each.alike[forms] * each.bits[forms]), float(each.alike[forms])
    return sorted(found.items(), key=lambda item: -item[1][0])


def _marked(one: str, other: str, name: str, lab: Lab, counts: dict[int, int]) -> tuple[int, tuple[Marked, Marked]]:
    """How many wrote the rarest part of both texts, and both texts in pieces."""
    found = parts(one, name, lab), parts(other, name, lab)
    shared = [part for part in found[0] if part in found[1] and part in counts]
    pieces = [
        _pieces(text, [s for part in shared for s in its[part]]) for text, its in zip((one, other), found, strict=True)
    ]
    return min(counts[part] for part in shared), (pieces[0], pieces[1])


def _pieces(text: str, spans: list[tuple[int, int]]) -> Marked:
    data, at, pieces = text.encode(), 0, []
    for start, end in sorted(spans):
        if end > at:
            pieces += [(data[at : max(at, start)].decode(), False), (data[max(at, start) : end].decode(), True)]
            at = end
    return [(piece, marked) for piece, marked in [*pieces, (data[at:].decode(), False)] if piece]


def write_page(evidence: Evidence, to: Path) -> None:
    """Write the evidence as one HTML page that needs nothing else."""
    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    text = page.get_template("similar.html.jinja").render(evidence=evidence, common=f"{COMMON:.0%}")
    to.write_text(text, encoding="utf-8", errors="replace")
