"""`labdiff similar`: who copied is found, who did not is left in peace, and the page is safe to open."""

from __future__ import annotations

import ast
import builtins
import functools
import json
import random
import re

import nbformat
import pytest
from submissions import right_answers, submission
from support import ROOT, answers

from labdiff import exercises
from labdiff.authoring.proofs import as_answer
from labdiff.grading.classroom.similar import OTHER, SHOWN, Evidence, compare, parts, similar, write_page
from labdiff.grading.classroom.similar import answers as written_by

NAME = "lab1_forward"
LAB = exercises.lab(NAME)
SHUFFLES = 20


@functools.cache
def ways(name: str) -> tuple[str, ...]:
    """The reference's answer to an exercise, then the variants and the mistakes."""
    others = (
        as_answer(ROOT / "solutions" / NAME / f"{kind}s.py", title, name)
        for kind in ("variant", "mistake")
        for title in answers(NAME, kind).get(name, {})
    )
    return (right_answers(NAME)[name], *others)


class Renamed(ast.NodeTransformer):
    """Gives every variable another name."""

    def __init__(self, prefix: str, keep: set[str]):
        self.prefix, self.keep = prefix, keep

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.new(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self.new(node.arg))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self.new(node.name)
        return self.generic_visit(node)

    def new(self, name: str) -> str:
        return name if name in self.keep or hasattr(builtins, name) else f"{self.prefix}_{name}"


def renamed(source: str, prefix: str) -> str:
    """The source with variables renamed, which also takes its comments and its layout."""
    imported = {
        n.asname or n.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for n in node.names
    }
    keep = {*LAB.exercises, "torch", "math", "np", "numpy", "F", "nn"} | imported
    return ast.unparse(Renamed(prefix, keep).visit(ast.parse(source)))


class Habits(ast.NodeTransformer):
    """Rewrites expressions into others of the same value, as one person happens to write them and another does not."""

    def __init__(self, chance: random.Random):
        self.chance = chance

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if (
            isinstance(node.func, ast.Attribute)
            and node.func.attr == "sqrt"
            and not node.args
            and self.chance.random() < 0.4
        ):
            return ast.BinOp(node.func.value, ast.Pow(), ast.Constant(0.5))
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Sub) and self.chance.random() < 0.25:
            return ast.BinOp(ast.UnaryOp(ast.USub(), node.right), ast.Add(), node.left)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST | list[ast.AST]:
        self.generic_visit(node)
        if node.value is None or self.chance.random() < 0.6:
            return node
        return [ast.Assign([ast.Name("result", ast.Store())], node.value), ast.Return(ast.Name("result", ast.Load()))]


def honest_class(size: int, seed: int) -> dict[str, dict[str, str]]:
    """Students who answer by themselves, half of the time as the reference does, with names and habits of their own."""
    chance = random.Random(seed)
    students = {}
    for i in range(size):
        chosen = {n: chance.choice(ways(n)[1:]) if chance.random() < 0.5 else ways(n)[0] for n in LAB.exercises}
        own = {n: Habits(chance).visit(ast.parse(source)) for n, source in chosen.items()}
        students[f"s{i}"] = {
            n: renamed(ast.unparse(ast.fix_missing_locations(tree)), f"n{i}") for n, tree in own.items()
        }
    return students


def disguised(source: str) -> str:
    """A copied answer with other names, comments, blank lines and wider layout."""
    lines = renamed(source, "mine").replace(" = ", "  =  ").split("\n")
    return "\n\n".join(
        re.sub(r"$", "   # thought of this myself", line) if line.endswith(")") else line for line in lines
    )


def handed_in(answers: dict[str, str], besides: str = "") -> bytes:
    notebook = submission(NAME, **answers)
    if besides:
        notebook.cells.append(nbformat.v4.new_code_cell(besides))
    return json.dumps(notebook).encode()


def names(evidence: Evidence) -> list[set[str]]:
    return [{*pair.names} for pair in evidence.pairs]


def test_a_disguised_copy_is_found_and_nobody_else():
    found = 0
    for seed in range(3):
        students = honest_class(40, seed)
        students["s7"] = {name: disguised(source) for name, source in students["s3"].items()}
        evidence = similar([(who, handed_in(said)) for who, said in students.items()], NAME, SHUFFLES)
        found += {"s3", "s7"} in names(evidence)
        assert len(names(evidence)) <= 2, names(evidence)
    assert found == 3


def test_honest_classes_are_left_in_peace():
    accused = [seed for seed in range(12) if compare(honest_class(40, seed), LAB, SHUFFLES).pairs]
    assert len(accused) <= 1, accused


def test_a_whole_class_that_writes_as_the_reference_does_is_left_in_peace():
    right = {name: right_answers(NAME)[name] for name in LAB.exercises}
    students = {f"s{i}": {name: renamed(source, f"n{i}") for name, source in right.items()} for i in range(30)}
    assert not compare(students, LAB, SHUFFLES).pairs


def test_strong_students_among_weak_ones_are_left_in_peace():
    students = honest_class(40, 1)
    for i in range(15):
        students[f"s{i}"] = {name: renamed(right_answers(NAME)[name], f"n{i}") for name in LAB.exercises}
    strong = {f"s{i}" for i in range(15)}
    assert not [pair for pair in names(compare(students, LAB, SHUFFLES)) if pair & strong]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 30])
def test_where_all_wrote_the_same_there_is_no_evidence(size):
    wrong = {name: ways(name)[-1] for name in LAB.exercises}
    evidence = compare({f"s{i}": wrong for i in range(size)}, LAB, SHUFFLES)
    assert (evidence.pairs, evidence.compared) == ([], size)


def test_the_same_seed_gives_the_same_evidence():
    students = honest_class(30, 3)
    students["s1"] = students["s2"]
    assert compare(students, LAB, SHUFFLES, seed=4) == compare(students, LAB, SHUFFLES, seed=4)


def test_who_comes_first_does_not_matter_to_the_bits():
    students = honest_class(30, 3)
    students["s1"] = students["s2"]
    one = compare(students, LAB, SHUFFLES)
    other = compare(dict(reversed(students.items())), LAB, SHUFFLES)
    bits = [{frozenset(p.names): round(p.bits, 3) for p in e.pairs if p.names[0] in "s1 s2"} for e in (one, other)]
    assert bits[0] == bits[1]


@pytest.mark.parametrize("name", [*LAB.exercises])
def test_a_disguise_changes_no_part_of_an_answer(name):
    for source in ways(name):
        plain = renamed(source, "yours")
        assert parts(plain, name, LAB).keys() == parts(disguised(source), name, LAB).keys() != set()


def test_what_counts_is_what_is_done_not_how_it_is_spelled():
    one = parts("def f(a, b):\n    return a * torch.exp(b)", "snr", LAB).keys()
    assert one == parts("def g(p, q) -> 'x':\n    '''Text.'''\n    return (q.exp()) * p", "snr", LAB).keys()
    assert one != parts("def f(a, b):\n    return b * torch.exp(a)", "snr", LAB).keys()
    assert one != parts("def f(a, b):\n    return a * torch.log(b)", "snr", LAB).keys()


def test_an_argument_counts_by_its_place_in_its_own_function():
    one = "def weigh(v, w):\n    return v.sin() + w\n\ndef snr(w):\n    return weigh(w, 3) + w.cos()"
    same = "def scale(p, q):\n    return p.sin() + q\n\ndef snr(p):\n    return scale(p, 3) + p.cos()"
    assert parts(one, "snr", LAB).keys() == parts(same, "snr", LAB).keys()


def test_expressions_in_a_text_with_accents_are_marked_where_they_stand(tmp_path):
    students = honest_class(30, 2)
    said = {
        n: f"def {n}(a, é):\n    print(f'ü{{a + é * 2}}é', 'ñ')\n    return a.sin() + é ** {i}"
        for i, n in enumerate(LAB.exercises)
    }
    students["s1"] = students["s2"] = said
    (pair,) = compare(students, LAB, SHUFFLES).pairs
    for shared in pair.shared:
        assert ["".join(piece for piece, _ in text) for text in shared.texts] == [said[shared.exercise]] * 2


def test_helpers_count_once_and_added_cells_count():
    helper = "def weigh(v):\n    return v.sin() + 3"
    one = helper + "\n\ndef snr(alphas_cumprod):\n    return weigh(alphas_cumprod)"
    two = "def extract(values, t, x):\n    return weigh(values)[t]"
    said = written_by(
        handed_in({"snr": one, "extract": two}, besides="%time probe = [i ** 7 for i in range(9)]\n"), LAB
    )
    assert [name for name, text in said.items() if "def weigh" in text] in (["extract"], ["snr"])
    assert "** 7" in said[OTHER] and "check(" not in said[OTHER]


def test_what_the_release_brought_is_no_answer():
    released = (ROOT / "notebooks" / NAME / f"{NAME}.ipynb").read_bytes()
    evidence = similar([(f"s{i}", released) for i in range(2)] + [("t", handed_in({}))] * 9, NAME, SHUFFLES)
    assert not evidence.pairs


def test_words_count_whatever_their_case_and_punctuation():
    said = "Sampling begins with pure noise, so training has to end there too."
    same, question = said.upper().replace(",", " -"), next(iter(LAB.questions))
    assert parts(said, question, LAB).keys() == parts(same, question, LAB).keys() != set()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"cells": []}', b"\x00" * 100, b'{"cells": [{"source": "x"}]}'])
def test_what_cannot_be_read_is_left_out_and_named(data, tmp_path):
    evidence = similar([("ada", data), ("bela", handed_in({}))], NAME, SHUFFLES)
    assert evidence.compared == 1 and evidence.left_out.keys() == {"ada"}
    write_page(evidence, tmp_path / "page.html")
    assert "ada" in (tmp_path / "page.html").read_text()


HOSTILE = "<script>alert(1)</script>"


def test_hostile_names_and_answers_do_no_harm_on_the_page(tmp_path):
    students = honest_class(40, 2)
    bad = {
        n: f"def {n}(x):\n    y = '{HOSTILE}\u202e\ud800{n}'  # {HOSTILE} é\n    return [x, '</pre>{n}'], y * len(x)"
        for n in LAB.exercises
    }
    bad = {name: source.encode("utf-8", "replace").decode() for name, source in bad.items()}
    handed = [(who, handed_in(said)) for who, said in students.items()]
    handed += [(f"<img src=x onerror=alert(2)>{i}\ud800", handed_in(bad)) for i in range(2)]
    evidence = similar([*handed, (HOSTILE, b"")], NAME, SHUFFLES)
    assert len(evidence.pairs) == 1
    write_page(evidence, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<img" not in page and page.count("</pre>") == page.count("<pre>") > 0
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(?!#)\w|url\(|@import", re.sub("&lt;.*?&gt;", "", page))


def test_sources_made_to_hurt_the_parser_take_no_time_and_stop_nobody():
    deep = "def snr(x):\n    return " + "-" * 3000 + "x"
    long = "def extract(x):\n    return " + " + ".join(["x"] * 9000)
    nested = "def q_step(x):\n    return " + "(" * 150 + "x" + ",)" * 150
    students = [(f"s{i}", handed_in({"snr": deep, "extract": long, "q_step": nested})) for i in range(3)]
    assert similar(students, NAME, SHUFFLES).compared == 3


def test_more_pairs_than_the_page_shows_are_counted(tmp_path):
    students = honest_class(120, 5)
    for i in range(12):  # a ring that shares what nobody else wrote
        students[f"s{i}"] = {
            n: f"def {n}(a, b, c):\n    return a.sin() + {j}.25 ** b - c.mul({j})" for j, n in enumerate(LAB.exercises)
        }
    evidence = compare(students, LAB, SHUFFLES)
    assert len(evidence.pairs) == SHOWN < evidence.found == 12 * 11 // 2
    write_page(evidence, tmp_path / "page.html")
    assert f"{evidence.found - SHOWN} more pairs" in (tmp_path / "page.html").read_text()
