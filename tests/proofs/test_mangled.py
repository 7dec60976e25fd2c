"""Damaged but honest notebooks: whatever of mangling.py happens to a right one, its marks stay.

What the grader still gets wrong is in FAULTS, each with the reason; such a test fails for as
long as the fault is there, and says so when it is gone. `table` shows what was graded.
"""

from __future__ import annotations

import functools
import json
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import mangling
import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mangling import MANGLED, MANGLINGS, SAVINGS, WHOLE, answers, ending, mangled, released, right, squeezed, words

from labdiff import exercises
from labdiff.errors import Unreadable
from labdiff.exercises.names import LABS
from labdiff.grading.grade import grade
from labdiff.grading.submission.mend import mend
from labdiff.grading.submission.program import Program, program
from labdiff.grading.submission.read import Cell, read_cells
from labdiff.grading.submission.restore import restore

pytestmark = [
    pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId"),
    pytest.mark.filterwarnings("ignore:.make_tokens_by_line"),
]

LAB1 = "lab1_forward"
SEED = 11
Steps = Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Fault:
    """What the grader does to a mangled notebook that it should not do.

    seen_in: "program" where an answer is not found, "notebook" where the mended notebook is not
    right, "marks" where marks are lost.
    """

    seen_in: tuple[str, ...]
    reason: str


PLACED_WRONG = "the marks are right; but the answer is looked for in a cell that does not hold it"

FAULTS = {
    "result_under_the_same_name": Fault(("program",), PLACED_WRONG),
    "method_set_from_outside": Fault(("program",), PLACED_WRONG),
}

# What can happen only where there is something to happen to.
ONLY_IN = {
    "cut_in_the_class_body": ("lab2_unet",),
    "on_a_base_class_below": ("lab2_unet",),
    "method_set_from_outside": ("lab2_unet",),
    "derived_from_the_stub": ("lab2_unet",),
    "function_from_a_demonstration": LABS[1:],
    "scripted": ("lab1_forward", "lab3_training"),
}
HARMLESS = ("as_jupyter_does", "as_format_4_5")  # these savings are what the release has anyway

ASSIGNING = ("assigned", "assigned_in_the_next_cell", "a_lambda", "a_partial", "on_a_base_class")
CONVERTING = ("turned_into_markdown", "turned_into_raw", "turned_into_fenced_markdown")
BLANKS = ("trailing_blanks", "tabs")

ASSIGNING = ("assigned", "assigned_in_the_next_cell", "a_lambda", "a_partial", "on_a_base_class")
CUTTING = (
    "cut_after_the_docstring",
    "cut_in_the_class_body",
    "cut_between_two_statements",
    "cut_before_each_statement",
    "cut_with_an_empty_cell_between",
)
CONVERTING = ("turned_into_markdown", "turned_into_raw", "turned_into_fenced_markdown")
LOSING = ("nbgrader_lost", "as_colab_does", "without_metadata")

# What manglings that are sound by themselves do together, each with a reason.
FAULTS_TOGETHER = {
    (
        "assigned",
        "attempt_put_aside_below",
        "cut_after_the_docstring",
    ): "what is put aside is decided before halves meet",
    ("question_turned_into_code", "nbgrader_lost"): "the words are run as code the first time, and not the second",
    (
        "question_answered_below",
        "question_turned_into_code",
    ): "words in a code cell below the question are not the answer",
    (
        "assigned_in_the_next_cell",
        "grade_id_swapped_with_a_question",
    ): "a definition with a question's id becomes prose",
}
# Pairs that stay out of the sequences below: such faults, and what no grader can make good, since an id and the
# text around it are both lost, or a wrong attempt is code where the right answer is not.
NOT_TOGETHER = {
    frozenset((one, other))
    for some, others in (
        (("attempt_put_aside_below",), CUTTING),
        (("question_turned_into_code",), (*LOSING, "grade_id_swapped_with_a_question", "question_answered_below")),
        (("grade_id_swapped_with_a_question",), (*ASSIGNING, "written_to_a_file", "prose_deleted", "question_copied")),
        (("grade_id_swapped_with_a_question",), CUTTING),
        (("question_answered_below",), ("prose_deleted", "question_copied")),
        (("prose_deleted",), LOSING),
        (("imports_edited",), ("imports_deleted",)),
        (CONVERTING, ("wrong_attempt_above", "attempt_that_called_an_unknown_name_above", "attempt_put_aside_below")),
        (("demonstrations_deleted",), [name for name in MANGLINGS if re.match("(name|function)_from_", name)]),
    )
    for one in some
    for other in others
}


def together(names: Sequence[str]) -> bool:
    """Whether manglings and a saving can honestly happen to one notebook."""
    return not any(frozenset(pair) in NOT_TOGETHER for pair in combinations(names, 2))


def asked(lab: str) -> list[str]:
    return [*exercises.lab(lab).exercises]


def cases(seen_in: str, labs: Sequence[str] = MANGLED) -> list[Any]:
    """Each mangling and each saving of each lab: (lab, steps, saved)."""
    found = []
    for lab in labs:
        manglings = [name for name in MANGLINGS if lab in ONLY_IN.get(name, LABS)]
        for name in (*manglings, *SAVINGS):
            steps = [(name, asked(lab))] if name in MANGLINGS else []
            saved = name if name in SAVINGS else "as_jupyter_does"
            fault = FAULTS.get(name, Fault((), ""))
            wrong = [pytest.mark.xfail(strict=True, reason=fault.reason)] if seen_in in fault.seen_in else []
            found.append(pytest.param(lab, steps, saved, id=f"{lab}-{name}", marks=wrong))
    return found


def changed(lab: str, steps: Steps, saved: str) -> bool:
    return mangled(lab, steps, saved) != plain(lab)


@functools.cache
def plain(lab: str) -> bytes:
    return mangled(lab, [])


# --- mending, without running anything --------------------------------------------------------


def not_found(lab: str, runs: Program) -> list[str]:
    """The exercises of which a program does not hold the right answer where it says that it does."""

    def holds(name: str) -> bool:
        text = runs.cells[runs.defined[name]] if name in runs.defined else ""
        elsewhere = rf"\b({mangling.RENAMED}|file_of_){name}\b"  # the cell assigns or imports it
        return bool(re.search(elsewhere, text)) or ending(name) in squeezed(re.sub(r"\A%%.*\n", "", text))

    return [name for name in asked(lab) if not holds(name)]


def again(notebook: nbformat.NotebookNode, lab: str) -> list[Cell]:
    """The mended cells of a notebook that was saved and read once more."""
    return mend(read_cells(nbformat.writes(notebook).encode()), exercises.lab(lab))


def complaints(lab: str, cells: list[Cell]) -> list[str]:
    """What is wrong with the notebook for nbgrader that is made of mended cells."""
    about = exercises.lab(lab)
    notebook = restore(cells, about)
    nbformat.validate(notebook)
    graded = [(c.metadata.nbgrader.grade_id, c) for c in notebook.cells if "nbgrader" in c.metadata]
    ids = [grade_id for grade_id, _ in graded]
    found = [f"{grade_id} stands {ids.count(grade_id)} times" for grade_id in {*ids} if ids.count(grade_id) != 1]
    found += [f"check-{name} is missing" for name in about.exercises if f"check-{name}" not in ids]
    found += [f"{name} is missing" for name in about.questions if name not in ids]
    for name, cell in graded:
        if name in about.questions and (cell.cell_type != "markdown" or folded(words(name)) not in folded(cell.source)):
            found.append(f"{name} has lost its words")
    if program(again(notebook, lab), about).cells != program(cells, about).cells:
        found.append("mended again, another program is run")
    if restore(again(notebook, lab), about) != notebook:
        found.append("mended again, it is another notebook")
    return found


def folded(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(("lab", "steps", "saved"), cases("program"))
def test_each_answer_is_found_in_a_mangled_notebook(lab, steps, saved):
    assert changed(lab, steps, saved) or saved in HARMLESS
    about = exercises.lab(lab)
    assert not_found(lab, program(mend(read_cells(mangled(lab, steps, saved)), about), about)) == []


@pytest.mark.parametrize(("lab", "steps", "saved"), cases("notebook"))
def test_a_mended_notebook_is_whole_and_mending_it_again_changes_nothing(lab, steps, saved):
    assert complaints(lab, mend(read_cells(mangled(lab, steps, saved)), exercises.lab(lab))) == []


@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize("saved", SAVINGS)
def test_however_a_notebook_is_saved_the_same_program_is_run(lab, saved):
    about = exercises.lab(lab)
    expected = program(mend(read_cells(mangled(lab, [])), about), about)
    assert program(mend(read_cells(mangled(lab, [], saved)), about), about) == expected


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(names, id="+".join(names), marks=pytest.mark.xfail(strict=True, reason=reason))
        for names, reason in FAULTS_TOGETHER.items()
    ],
)
def test_some_manglings_that_meet_leave_a_notebook_that_is_mended_whole(names):
    cells = mend(read_cells(mangled(LAB1, [(name, asked(LAB1)) for name in names])), exercises.lab(LAB1))
    assert not_found(LAB1, program(cells, exercises.lab(LAB1))) + complaints(LAB1, cells) == []


SOUND = [name for name in MANGLINGS if name not in FAULTS]


@st.composite
def several(draw: Callable[..., Any]) -> tuple[str, Steps, str]:
    """A lab, one to four manglings, each with the answers that it is done to, and a way to save it."""
    lab = draw(st.sampled_from(MANGLED))
    possible = st.tuples(st.lists(st.sampled_from(SOUND), min_size=1, max_size=4), st.sampled_from([*SAVINGS]))
    names, saved = draw(possible.filter(lambda found: together([*found[0], found[1]])))
    some = st.lists(st.sampled_from(asked(lab)), min_size=1, unique=True).map(
        lambda found: sorted(found, key=asked(lab).index)
    )
    return lab, [(name, draw(some)) for name in names], saved


@settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(several())
def test_any_few_manglings_in_a_row_leave_a_notebook_that_is_mended_whole(case):
    lab, steps, saved = case
    about = exercises.lab(lab)
    cells = mend(read_cells(mangled(lab, steps, saved)), about)
    assert not_found(lab, program(cells, about)) == []
    assert complaints(lab, cells) == []


# --- marks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Graded:
    """Whether a mangling of a lab left the marks as they were."""

    lab: str
    mangling: str
    right: bool


GRADED: list[Graded] = []


def table(graded: Sequence[Graded]) -> str:
    """For each lab: how many manglings were graded right, of how many, and which were not."""
    lines = ["| lab | manglings graded right | not |", "| --- | --- | --- |"]
    for lab in LABS:
        of_lab = [each for each in graded if each.lab == lab]
        wrong = ", ".join(sorted({each.mangling for each in of_lab if not each.right}))
        if of_lab:
            lines.append(f"| {lab} | {sum(each.right for each in of_lab)} of {len(of_lab)} | {wrong} |")
    return "\n".join(lines)


@pytest.fixture(scope="module", autouse=True)
def shown_at_the_end(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    if GRADED and terminal:
        terminal.write_line("\n" + table(GRADED))


def lost(report: Any) -> dict[str, str]:
    """The exercises that did not earn all their marks by themselves: name -> why."""
    assert report.problem == "", report.problem
    return {
        result.name: result.hint or str([part.message for part in result.parts if not part.passed])
        for result in report.exercises
        if (result.status, result.score, result.own_score) != ("right", result.max_score, result.max_score)
    }


def graded(lab: str, name: str, notebook: Any) -> dict[str, str]:
    """Grade a notebook, enter the outcome in the table, and return what was lost."""
    GRADED.append(Graded(lab, name, False))
    wrong = lost(grade(notebook, seed=SEED))
    GRADED[-1] = Graded(lab, name, not wrong)
    return wrong


@pytest.mark.sandbox
@pytest.mark.parametrize(("lab", "steps", "saved"), cases("marks", [LAB1]))
def test_a_mangled_notebook_of_lab_1_earns_full_marks(lab, steps, saved):
    name = steps[0][0] if steps else saved
    assert graded(lab, name, mangled(lab, steps, saved)) == {}


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("lab", "steps", "saved"),
    [
        case
        for case in cases("marks", ["lab2_unet"])
        if case.values[1] and case.values[1][0][0] in ONLY_IN and "scripted" not in case.id
    ],
)
def test_what_happens_only_in_other_labs_leaves_full_marks_too(lab, steps, saved):
    assert graded(lab, steps[0][0], mangled(lab, steps, saved)) == {}


@functools.cache
def bundles(lab: str) -> list[tuple[list[tuple[str, list[str]]], str]]:
    """All manglings of a lab in a few notebooks: each answer suffers one, and each notebook some as a whole.

    Returns the steps and the saving of each notebook.
    """
    one_by_one = [name for name in SOUND if name not in WHOLE and lab in ONLY_IN.get(name, LABS)]
    as_a_whole = [name for name in SOUND if name in WHOLE]
    savings = [*SAVINGS]
    made = []
    while one_by_one or as_a_whole:
        steps: list[tuple[str, list[str]]] = []
        free = asked(lab)
        for name in [*one_by_one]:
            for some in [*([each] for each in free), *map(list, pairwise(free))]:
                if together([name, *(done for done, _ in steps)]) and changed(lab, [(name, some)], "as_jupyter_does"):
                    steps.append((name, some))
                    one_by_one.remove(name)
                    free = [each for each in free if each not in some]
                    break
        for name in [*as_a_whole][:3]:
            if together([name, *(done for done, _ in steps)]):
                steps.append((name, []))
                as_a_whole.remove(name)
        made.append((steps, savings[len(made) * 3 % len(savings)]))
    return made


@pytest.mark.sandbox
@pytest.mark.parametrize("lab", LABS[1:3])
def test_many_manglings_at_once_earn_full_marks_in_the_other_labs(lab):
    wrong = {}
    for steps, saved in bundles(lab):
        found = lost(grade(mangled(lab, steps, saved), seed=SEED))
        for name, some in steps:
            spoilt = {each: found[each] for each in some or asked(lab) if each in found}
            GRADED.append(Graded(lab, name, not spoilt))
            if spoilt:
                wrong[name] = spoilt
        GRADED.append(Graded(lab, saved, not found))
    assert wrong == {}


@pytest.mark.sandbox
def test_a_renamed_file_and_a_parsed_notebook_earn_full_marks(tmp_path):
    file = tmp_path / "Kopie von lab (1) FINAL für Abgabe.ipynb.json"
    file.write_bytes(mangled(LAB1, []))
    assert graded(LAB1, "a renamed file", file) == {}
    assert graded(LAB1, "a path as text", str(file)) == {}
    assert graded(LAB1, "a parsed notebook", right(LAB1)) == {}
    assert graded(LAB1, "a notebook of nbformat", nbformat.read(file, as_version=4)) == {}


@pytest.mark.sandbox
def test_outputs_of_100_megabytes_cost_neither_marks_nor_much_time_and_memory():
    notebook = right(LAB1)
    shown = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    picture = {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo" * 1_000_000}, "metadata": {}}
    stream = {"output_type": "stream", "name": "stdout", "text": ["step 1000 of 1000: the loss is 0.0271\n"] * 200_000}
    for cell in shown[:8]:
        cell["outputs"] = [picture, stream] if cell is shown[0] else [picture]
    data = SAVINGS["as_jupyter_does"](notebook)
    assert len(data) > 90 << 20
    tracemalloc.start()
    cells = read_cells(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(len(cell.source) for cell in cells) < 1 << 20
    assert peak < 5 * len(data)
    started = time.process_time()
    assert graded(LAB1, "outputs of 100 MB", data) == {}
    assert time.process_time() - started < 60


# --- what cannot be graded --------------------------------------------------------------------


def only(*sources: str) -> bytes:
    """A notebook of some code cells."""
    return json.dumps({"cells": [mangling.code(source) for source in sources], "metadata": {}}).encode()


UNGRADEABLE = {
    "an empty file": b"",
    "blank lines": b" \r\n\t\n",
    "a byte order mark": b"\xef\xbb\xbf",
    "a text": b"Dear all, my notebook is attached.",
    "a script": answers(LAB1)["q_step"].encode(),
    "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "half a notebook": mangled(LAB1, [])[:9000],
    "a notebook without its last bytes": mangled(LAB1, [])[:-3],
    "half a notebook in UTF-16": mangled(LAB1, [], "in_utf_16")[:9001],
    "a notebook in UTF-32": mangled(LAB1, []).decode().encode("utf-32"),
    "every byte": bytes(range(256)) * 40,
    "an archive": b"PK\x03\x04" + bytes(1000),
    "zeros": bytes(1000),
    "a number": b"1",
    "a number of many digits": b"1" * 10_000,
    "nothing": b"null",
    "not a number": b"NaN",
    "an object": b"{}",
    "a list": b"[]",
    "a list of cells": json.dumps(right(LAB1)["cells"]).encode(),
    "no cells": b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "cells that are none": b'{"cells": null}',
    "cells that are an object": b'{"cells": {}}',
    "cells that are no cells": b'{"cells": [null, 1, "x", []]}',
    "cells without anything": b'{"cells": [{}, {"cell_type": 3, "source": {}, "metadata": []}]}',
    "no worksheets": b'{"worksheets": [], "nbformat": 3}',
    "worksheets that are none": b'{"worksheets": [null, {"cells": 7}], "nbformat": 3}',
    "another lab": mangled("lab2_unet", []),
    "no lab": only("print(1)", "import torch", "def greet():\n    return 1"),
    "lists in lists": b"[" * 200_000,
    "lists in lists, closed": b"[" * 100_000 + b"]" * 100_000,
    "objects in objects": b'{"cells":' * 100_000,
    "cells in cells": b'{"cells": ' + b"[" * 900 + b"]" * 900 + b"}",
    "too many cells": json.dumps({"cells": [mangling.code("1")] * 3001}).encode(),
    "a cell too long": only("x = 1\n" * 40_000),
}


@pytest.mark.parametrize("data", UNGRADEABLE.values(), ids=UNGRADEABLE.keys())
def test_what_cannot_be_graded_is_one_sentence_without_marks(data):
    report = grade(data, LAB1, seed=SEED)
    assert re.fullmatch(r"[A-Z][^\n]{5,200}\.", report.problem), report.problem
    assert report.score == 0
    assert report.max_score == sum(exercise.points for exercise in exercises.lab(LAB1).exercises.values())
    assert {result.status for result in report.exercises} == {"not done"}


@pytest.mark.parametrize("lab", LABS)
def test_the_untouched_release_is_no_problem_and_holds_no_answer(lab):
    about = exercises.lab(lab)
    cells = mend(read_cells(nbformat.writes(released(lab)).encode()), about)
    assert program(cells, about).defined == {}
    notebook = restore(cells, about)
    nbformat.validate(notebook)
    assert [c.source for c in notebook.cells] == [c.source for c in released(lab).cells]


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(mangling.code("x(\n" + "\n" * 49_000), id="blank lines"),
        pytest.param(mangling.prose("<div>" * 40_000), id="markup in markup"),
    ],
)
def test_no_notebook_keeps_the_grader_busy(cell):
    lab = exercises.lab("lab1_forward")
    notebook = right("lab1_forward")
    notebook["cells"].append(cell)
    started = time.process_time()
    cells = mend(read_cells(json.dumps(notebook).encode()), lab)
    program(cells, lab)
    restore(cells, lab)
    assert time.process_time() - started < 10


def test_a_file_that_would_fill_memory_is_refused_before_it_is_parsed():
    with pytest.raises(Unreadable, match="too many lists"):
        read_cells(b'{"cells": [' + b"[]," * 11_000_000 + b"0]}")
