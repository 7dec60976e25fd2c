"""What the judge and the notebook's check say, in which words."""

from __future__ import annotations

import math

import pytest
import torch

import labdiff
from labdiff.checking import notebook
from labdiff.checking.fingerprint import same_fingerprint
from labdiff.checking.judge import judge
from labdiff.checking.notebook import as_html, as_text, verdict_of
from labdiff.checking.run import run_probe
from labdiff.checking.verdict import RIGHT, WRONG
from labdiff.exercises import Exercise, find
from labdiff.exercises.draw import Draw, given_weights


def try_on(answer, right=lambda x: 2 * x, **options):
    """The first part's verdict on an exercise made for the occasion."""
    exercise = Exercise(
        "double",
        "lab1_forward",
        3,
        1,
        1,
        ("a", "b", "c"),
        inputs=lambda draw: {"x": draw.normal(2, 3)},
        probe=lambda answer, x: {"a matrix": lambda: answer(x), "a row": lambda: answer(x[:1])},
        **options,
    )
    return judge(
        exercise, run_probe(exercise, answer, exercise.drawn(1)), run_probe(exercise, right, exercise.drawn(1))
    )


@pytest.mark.parametrize(
    "answer, message",
    [
        (lambda x: 2 * x[0], "shape (3,), expected (2, 3)"),
        (lambda x: None, "the answer returned None: does it end in a return?"),
        (lambda x: object(), "the answer returned an object, a torch.Tensor belongs there"),
        (lambda x: (2 * x, x), "returned 2 values in a row, expected one tensor"),
        (lambda x: 2 * x / 0, "6 of 6 values are infinity, the first at [0, 0]"),
        (lambda x: x * math.nan, "6 of 6 values are NaN, the first at [0, 0]"),
        (lambda x: (2 * x).double(), "the values are right, but the dtype is float64, expected float32"),
        (lambda x: x.mul_(2), "the answer changes what it is given: make a new tensor"),
        (lambda x: (2 * x).to(torch.complex64), "complex numbers, real ones belong here"),
        (lambda x: x @ x, "RuntimeError"),
        (
            lambda x: 2 * x + torch.tensor([[0, 5.0, 0], [0, 0, 2]]),
            "2 of 6 values differ; largest difference 5 at [0, 1]",
        ),
    ],
)
def test_a_failed_part_says_in_a_sentence_what_differs(answer, message):
    verdict = try_on(answer)
    assert verdict.status == WRONG
    assert message in verdict.parts[0].message


def test_the_line_of_the_answer_that_raised_is_named():
    def answer(x):
        y = x + 1
        return y.undefined_attribute

    message = try_on(answer).parts[0].message
    assert message.startswith("AttributeError")
    assert "return y.undefined_attribute" in message


def test_nothing_is_earned_without_the_first_part_and_shares_after_it():
    assert try_on(lambda x: 2 * x if len(x) == 1 else x).score == 0
    assert try_on(lambda x: 2 * x if len(x) == 2 else x).score == 1.5
    assert try_on(lambda x: 2 * x).score == 3


def test_an_answer_may_raise_anything_and_only_its_part_fails():
    for error in (SystemExit, RecursionError, MemoryError, AssertionError):

        def answer(x, error=error):
            if len(x) == 1:
                raise error
            return 2 * x

        first, second = try_on(answer).parts
        assert first.passed
        assert not second.passed
        assert error.__name__ in second.message


def test_one_part_cannot_spoil_the_inputs_of_the_next():
    def answer(x):
        y = 2 * x
        x.zero_()
        return y

    verdict = try_on(answer)
    assert all("changes what it is given" in part.message for part in verdict.parts)


def test_an_answer_leaves_no_trace_in_the_random_state_or_the_gradient_mode():
    torch.manual_seed(3)
    expected = torch.rand(1)

    def answer(x):
        torch.manual_seed(99)
        torch.set_grad_enabled(False)
        return 2 * x

    torch.manual_seed(3)
    assert try_on(answer).status == RIGHT
    assert torch.equal(torch.rand(1), expected)
    assert torch.is_grad_enabled()


def test_rounding_is_forgiven_and_a_thousandth_is_not():
    assert try_on(lambda x: (2 * x.double() * (1 + 1e-6)).float()).status == RIGHT
    assert try_on(lambda x: 2 * x * 1.001).status == WRONG


def test_a_seed_means_the_same_inputs_everywhere():
    assert Draw(0).normal(2).tolist() == pytest.approx([1.7640524, 0.4001572], abs=1e-6)
    assert Draw(0).integers(0, 100, 3).tolist() == [44, 47, 64]
    assert Draw(0).uniform(2).tolist() == pytest.approx([0.5488135, 0.7151894], abs=1e-6)


def test_given_weights_depend_on_names_and_not_on_the_order_of_creation():
    class Ab(torch.nn.Module):
        def __init__(self, order):
            super().__init__()
            for name in order:
                setattr(self, name, torch.nn.Linear(3, 3))

    one, other = given_weights(Ab("ab"), 5), given_weights(Ab("ba"), 5)
    assert torch.equal(one.a.weight, other.a.weight)
    assert not torch.equal(one.a.weight, one.b.weight)


# --- what a student sees ----------------------------------------------------------------------


def extract(values, t, x):
    return values[t]


def q_sample(x_0, abar_t, noise):
    raise NotImplementedError


def test_check_prints_the_part_the_shapes_and_the_hint(capsys):
    labdiff.check(extract)
    said = capsys.readouterr().out
    assert "extract: not right yet, 0 of 2 points" in said
    assert "a batch of images: shape (4,), expected (4, 1, 1, 1)" in said
    assert "Your result has the shape (B,)" in said
    assert "hint(extract)" in said
    assert "Traceback" not in said


def test_check_of_an_unfilled_stub_says_not_done_yet(capsys):
    labdiff.check(q_sample)
    said = capsys.readouterr().out
    assert "q_sample: not done yet, 0 of 3 points" in said
    assert "Error" not in said


def test_hints_grow_stronger_and_end(capsys):
    notebook._asked.clear()
    for _ in range(4):
        labdiff.hint(q_sample)
    said = capsys.readouterr().out
    assert [said.count(f"Hint {i} of 3") for i in (1, 2, 3)] == [1, 1, 2]
    assert all(text in said for text in find("q_sample").hints)
    assert "This is the last hint" in said


def test_check_of_an_unknown_name_offers_the_nearest(capsys):
    def q_smaple():
        pass

    labdiff.check(q_smaple)
    assert "no exercise called 'q_smaple'. Did you mean q_sample" in capsys.readouterr().out


def test_check_of_a_lambda_asks_for_def(capsys):
    labdiff.check(lambda x: x)
    assert "Write your answer with def" in capsys.readouterr().out


def test_a_class_without_forward_is_named(capsys):
    class TimeMLP(torch.nn.Module):
        def __init__(self, *arguments):
            super().__init__()

        def forwards(self, x):
            return x

    labdiff.check(TimeMLP)
    assert "your class has no method called forward" in capsys.readouterr().out


def test_one_interrupt_stops_the_whole_check():
    calls = []

    def answer(x):
        calls.append(1)
        raise KeyboardInterrupt

    assert all("you stopped it" in part.message for part in try_on(answer).parts)
    assert len(calls) == 1


def test_check_of_a_result_asks_for_the_function(capsys):
    labdiff.check(torch.zeros(3))
    assert "take the function or class you wrote" in capsys.readouterr().out


def test_check_returns_marks_to_nbgrader_only(monkeypatch, capsys):
    assert labdiff.check(extract) is None
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert labdiff.check(extract) == 0.0


def test_a_failure_names_the_answer_upstream_that_causes_it():
    verdict = verdict_of(find("q_sample"), calls_extract)
    assert verdict.status == WRONG
    notes = notebook._notes(find("q_sample"), calls_extract, verdict)
    assert "Your answer calls extract, which is not right yet: mend that first, then check again." in notes


def calls_extract(x_0, abar_t, noise):
    return extract(abar_t.flatten(), torch.arange(len(x_0)), x_0) * noise.sum() + x_0


def test_what_an_answer_says_is_escaped_in_html():
    def predict_first_to_noise():
        return "<script>alert(1)</script>"

    verdict = verdict_of(find("predict_first_to_noise"), predict_first_to_noise)
    page = as_html(verdict, [])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<script>" in as_text(verdict, [])


def test_a_cell_that_uses_unfinished_answers_says_so_and_goes_on(capsys):
    with labdiff.when_done():
        q_sample(None, None, None)
    assert "This cell waits: q_sample is not done yet." in capsys.readouterr().out
    with labdiff.when_done():
        Upsample()(torch.zeros(1))
    assert "This cell stopped in Upsample, so check that exercise first. ZeroDivisionError" in capsys.readouterr().out
    with labdiff.when_done():
        print(made_above)  # noqa: F821
    assert "This cell waits for a cell above that makes made_above." in capsys.readouterr().out
    with pytest.raises(ZeroDivisionError), labdiff.when_done():
        print(1 / 0)


def test_a_waiting_cell_names_the_innermost_undone_answer(capsys):
    def snr(x):
        return q_sample(x, x, x)

    with labdiff.when_done():
        snr(1)
    assert "q_sample is not done yet" in capsys.readouterr().out


class Upsample(torch.nn.Module):
    def forward(self, x):
        return x / (1 // 0)


def test_an_error_is_recognised_whether_or_not_torch_names_the_operation():
    """torch 2.15 writes "mm: mat1 and mat2 ...", torch 2.14 "mat1 and mat2 ..."."""
    one, other, third = (
        {"error": f"RuntimeError: {text}", "changed": []}
        for text in ("mm: mat1 and mat2 shapes differ", "mat1 and mat2 shapes differ", "size mismatch")
    )
    assert same_fingerprint(one, other, 1e-4) and same_fingerprint(other, one, 1e-4)
    assert not same_fingerprint(one, third, 1e-4)
