"""Mistakes that nobody wrote: every answer with one small change, and what the checks say of it.

Changed is what a student writes, and the defaults of a function; what the release gives, such as a module's
`__init__`, is not asked. A mutant is caught where it does not get full marks on inputs of a hidden seed. One
that is not caught either does the same as the reference on every input that its docstring allows, or marks a
hole in the checks. Both are listed in equivalent_mutants.json, so that a new one has to be looked at.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import re
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mutation
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mutation import Mutant
from support import ALL, ROOT, reference

from labdiff import exercises
from labdiff.authoring.source import BEGIN, END
from labdiff.checking.judge import judge
from labdiff.checking.run import Output, run_probe
from labdiff.checking.verdict import RIGHT
from labdiff.exercises import Exercise

Key = tuple[str, str, int]  # what stands there, what it becomes, at which place of those that read the same
Reasons = dict[str, dict[str, list[str]]]  # why -> exercise -> changes

SEEDS = (20_261, 20_262)
SECONDS = 2.0
AT_LEAST = 0.98
CODE = [e for e in ALL if not e.name.startswith("predict_")]
each_exercise = pytest.mark.parametrize("exercise", CODE, ids=lambda e: e.name)

ABOUT = json.loads((Path(__file__).parent / "equivalent_mutants.json").read_text(encoding="utf-8"))
EQUIVALENT, HOLES, NUMBERS = ABOUT["equivalent"], ABOUT["holes"], ABOUT["numbers"]
DRAWN_PAIRS = DRAWN_NUMBERS = 600


@dataclasses.dataclass(frozen=True)
class Count:
    """Of the mutants of one exercise: all, those that do the same as the reference, those caught, those missed."""

    lab: str
    exercise: str
    mutants: int
    equivalent: int
    caught: int
    missed: int


COUNTS: list[Count] = []  # filled as the exercises are tried, for a table of all of them


# --- trying a mutant --------------------------------------------------------------------------


@functools.cache
def definition(exercise: Exercise) -> tuple[mutation.Definition, range]:
    """The reference answer, and the lines of it that a student writes."""
    text = (ROOT / "solutions" / exercise.lab / f"{exercise.lab}.py").read_text(encoding="utf-8")
    (node,) = (n for n in ast.parse(text).body if getattr(n, "name", "") == exercise.name)
    lines = text.splitlines()
    begin, end = (next(i for i in range(node.lineno, len(lines)) if mark in lines[i]) for mark in (BEGIN, END))
    return node, range(begin + 1, end + 1)


def written(exercise: Exercise, path: mutation.Path) -> bool:
    """Whether a student writes what stands there; the defaults of a function count too, the checks try them."""
    node, lines = definition(exercise)
    of_signature = isinstance(node, ast.FunctionDef) and path[0][0] == "args"
    return of_signature or getattr(mutation.at(node, path), "lineno", 0) in lines


@functools.cache
def mutants(exercise: Exercise) -> list[Mutant]:
    return mutation.mutants(definition(exercise)[0], functools.partial(written, exercise))


@functools.cache
def expected(exercise: Exercise, seed: int) -> tuple[dict[str, Any], dict[str, Output]]:
    """The inputs of a seed, and what the reference gives on them."""
    inputs = exercise.drawn(seed)
    return inputs, run_probe(exercise, getattr(reference(exercise.lab), exercise.name), inputs)


def survives(exercise: Exercise, source: str) -> bool:
    """Whether an answer gets full marks on both seeds; part by part, since most fail at the first."""
    namespace = dict(vars(reference(exercise.lab)))
    try:
        with time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(source, "<mutant>", "exec"), namespace)
            answer = namespace[exercise.name]
            return all(passes(exercise, answer, seed, part) for seed in SEEDS for part in expected(exercise, seed)[1])
    except (Exception, KeyboardInterrupt):
        return False


def passes(exercise: Exercise, answer: Any, seed: int, part: str) -> bool:
    """Whether an answer passes one part."""

    def one_part(answer: Any, **inputs: Any) -> dict[str, Any]:
        return {part: exercise.probe(answer, **inputs)[part]}

    inputs, outputs = expected(exercise, seed)
    got = run_probe(dataclasses.replace(exercise, probe=one_part), answer, inputs)
    return judge(exercise, got, {part: outputs[part]}).status == RIGHT


@contextmanager
def time_limit() -> Iterator[None]:
    """KeyboardInterrupt after two seconds of computing, where the system can do that; a probe ends at it."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGPROF, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@functools.cache
def survivors(exercise: Exercise) -> list[Mutant]:
    """The mutants that are not caught; counts them on the way."""
    found = [mutant for mutant in mutants(exercise) if survives(exercise, mutant.source)]
    same = sum(key(exercise, mutant) in listed(EQUIVALENT, exercise) for mutant in found)
    everything = len(mutants(exercise))
    COUNTS.append(Count(exercise.lab, exercise.name, everything, same, everything - len(found), len(found) - same))
    return found


def listed(reasons: Reasons, exercise: Exercise) -> dict[Key, str]:
    """The changes that are listed for an exercise: as they compare -> as they are written."""
    texts = [text for named in reasons.values() for text in named.get(exercise.name, [])]
    return {as_key(text): text for text in texts}


def as_key(text: str) -> Key:
    """`before => after (place n)` as it compares."""
    before, after, nth = re.fullmatch(r"(.+) => (.+?)(?: \(place (\d+)\))?", text).groups()
    return normal(before), normal(after), int(nth or 1)


def key(exercise: Exercise, mutant: Mutant) -> Key:
    before, after, nth = mutation.key(definition(exercise)[0], mutant)
    return normal(before), normal(after), nth


def as_written(exercise: Exercise, mutant: Mutant) -> str:
    before, after, nth = mutation.key(definition(exercise)[0], mutant)
    return f"{before} => {after}" + (f" (place {nth})" if nth > 1 else "")


def normal(text: str) -> str:
    """A text as it is in every version of Python, whose `ast.unparse` differ in their parentheses."""
    head = text.endswith(":") and not text.endswith("[:")
    return ast.dump(ast.parse(text + " pass" if head else text))


# --- the tests --------------------------------------------------------------------------------


@each_exercise
def test_every_mutant_is_caught_or_listed_with_its_reason(exercise):
    found = {key(exercise, mutant): as_written(exercise, mutant) for mutant in survivors(exercise)}
    known = listed(EQUIVALENT, exercise) | listed(HOLES, exercise)
    missed = [f"{exercise.name}: {text}" for change, text in found.items() if change not in known]
    assert not missed, "neither caught nor listed:\n" + "\n".join(missed)
    stale = [f"{exercise.name}: {text}" for change, text in known.items() if change not in found]
    assert not stale, "listed, but caught or no mutant at all:\n" + "\n".join(stale)


ONE = "def f(a, b, c, d):\n    return (a + b) * (c - d).square()"
OTHER = "def f(a, b, c, d):\n    'Words.'\n    x = ( c-d ).square()  # more\n    return x * (b + a)"


def test_a_key_stays_the_same_where_the_rest_of_its_line_is_worded_otherwise():
    definitions = [ast.parse(text).body[0] for text in (ONE, OTHER)]
    keys = [{mutation.key(node, mutant) for mutant in mutation.mutants(node)} for node in definitions]
    assert ("(c - d).square", "(-(c - d)).square", 1) in keys[0] & keys[1]
    assert ("return _", "return _.squeeze()", 1) in keys[0] & keys[1]


@each_exercise
def test_no_two_mutants_have_the_same_key(exercise):
    keys = [key(exercise, mutant) for mutant in mutants(exercise)]
    assert len(keys) == len(set(keys))


def test_every_listed_change_is_of_an_exercise_and_listed_once():
    texts = [
        (name, as_key(text)) for reasons in (EQUIVALENT, HOLES) for named in reasons.values()
        for name, changes in named.items() for text in changes
    ]  # fmt: skip
    assert {name for name, _ in texts} <= {exercise.name for exercise in CODE}
    assert len(texts) == len(set(texts))


def test_every_listed_number_stands_in_its_answer():
    for named in NUMBERS.values():
        for name, places in named.items():
            (exercise,) = [exercise for exercise in CODE if exercise.name == name]
            assert set(places) <= {place for _, _, place in places_of_numbers(exercise)}


@pytest.mark.parametrize("lab", [*exercises.LABS, "all labs"])
def test_at_least_98_of_100_mutants_are_caught(lab):
    for exercise in CODE:
        survivors(exercise)
    counts = [count for count in COUNTS if lab in (count.lab, "all labs")]
    wrong = sum(count.mutants - count.equivalent for count in counts)
    assert sum(count.caught for count in counts) >= AT_LEAST * wrong


DRAWN = settings(derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


@settings(DRAWN, max_examples=DRAWN_PAIRS)
@given(st.data())
def test_two_mistakes_at_once_are_caught(data):
    exercise = data.draw(st.sampled_from(CODE))
    missed = {mutant.source for mutant in survivors(exercise)}
    caught = [mutant for mutant in mutants(exercise) if mutant.source not in missed]
    one, other = data.draw(st.lists(st.sampled_from(caught), min_size=2, max_size=2))
    assume(may_not_cancel(one, other))
    source = mutation.both(definition(exercise)[0], one, other)
    assume(source)
    assert not survives(exercise, source), f"{exercise.name}: {one.line} and {other.line}"


def may_not_cancel(one: Mutant, other: Mutant) -> bool:
    """A minus sign, a root and 1 - x can be undone by a second change, and so can most by one of their own kind."""
    return one.operator != other.operator and not {one.operator, other.operator} & {"sign", "near"}


@settings(DRAWN, max_examples=DRAWN_NUMBERS)
@given(st.data())
def test_another_number_in_an_answer_is_caught(data):
    exercise = data.draw(st.sampled_from([each for each in CODE if numbers(each)]))
    path, number = data.draw(st.sampled_from(numbers(exercise)))
    other = data.draw(st.integers(0, 40) if isinstance(number, int) else st.floats(0, 3 * number))
    assume(abs(other - number) > 0.05 * number)
    source = mutation.with_number(definition(exercise)[0], path, other)
    assert not survives(exercise, source), f"{exercise.name}: {other} for {number}\n{source}"


@functools.cache
def numbers(exercise: Exercise) -> list[tuple[mutation.Path, float]]:
    """The numbers that stand in an answer, by their places, but for those that may be others."""
    may_be_others = {place for named in NUMBERS.values() for place in named.get(exercise.name, [])}
    return [(path, number) for path, number, place in places_of_numbers(exercise) if place not in may_be_others]


def places_of_numbers(exercise: Exercise) -> list[tuple[mutation.Path, float, str]]:
    """The numbers that stand in an answer: where, which, and the number in the smallest expression around it."""
    node = definition(exercise)[0]
    found = mutation.numbers(node, functools.partial(written, exercise))
    return [(path, n, f"{n} in {mutation.expression_at(node, path)}") for path, n in found.items()]
