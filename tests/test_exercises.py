"""The checks themselves are checked: on every exercise, with its reference, variants and mistakes."""

from __future__ import annotations

import functools

import pytest
import torch
from support import ALL, answers, named, reference

from labdiff import exercises
from labdiff.authoring.proofs import hint_of
from labdiff.checking import golden
from labdiff.checking.fingerprint import fingerprint
from labdiff.checking.judge import judge
from labdiff.checking.notebook import verdict_of
from labdiff.checking.run import run_probe
from labdiff.checking.verdict import NOT_DONE, RIGHT, WRONG

FRESH = 20_261  # a seed that no golden answer was made with
each_exercise = pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.name)


def answer_of(exercise):
    return getattr(reference(exercise.lab), exercise.name)


@each_exercise
def test_the_reference_passes_against_the_golden_answers(exercise):
    verdict = verdict_of(exercise, answer_of(exercise))
    assert verdict.status == RIGHT, verdict.parts
    assert verdict.score == exercise.points


@functools.cache
def on_fresh_inputs(name):
    """What the reference gives on inputs that no golden answer was made with."""
    exercise = exercises.find(name)
    return run_probe(exercise, answer_of(exercise), exercise.drawn(FRESH))


@functools.cache
def mistakes_on_fresh_inputs(name):
    """What each mistake of an exercise gives there, and the fingerprints by which it is recognised: outputs, prints."""
    exercise = exercises.find(name)
    outputs, prints = {}, {}
    for answer in answers(exercise.lab, "mistake")[name].values():
        hint = hint_of(answer)
        got = outputs[hint] = run_probe(exercise, answer, exercise.drawn(FRESH))
        wrong = [part.name for part in judge(exercise, got, on_fresh_inputs(name)).parts if not part.passed]
        found = fingerprint(got, exercise)
        prints[hint] = {part: found[part] for part in wrong}
    return outputs, prints


@pytest.mark.parametrize("exercise, answer", named("variant"))
def test_a_variant_passes_on_golden_and_on_fresh_inputs(exercise, answer):
    assert verdict_of(exercise, answer).status == RIGHT
    verdict = judge(exercise, run_probe(exercise, answer, exercise.drawn(FRESH)), on_fresh_inputs(exercise.name))
    assert verdict.status == RIGHT, verdict.parts


@pytest.mark.parametrize("exercise, answer", named("mistake"))
def test_a_mistake_is_caught_and_gets_its_own_hint(exercise, answer):
    verdict = verdict_of(exercise, answer)
    assert verdict.status == WRONG
    assert verdict.score < exercise.points
    assert verdict.hint == hint_of(answer)


@pytest.mark.parametrize("exercise, answer", named("mistake"))
def test_a_mistake_is_caught_and_recognised_on_fresh_inputs_too(exercise, answer):
    outputs, prints = mistakes_on_fresh_inputs(exercise.name)
    verdict = judge(exercise, outputs[hint_of(answer)], on_fresh_inputs(exercise.name), prints)
    assert verdict.status == WRONG
    assert verdict.hint == hint_of(answer)


@each_exercise
def test_an_unfilled_stub_is_not_done_rather_than_wrong(exercise):
    def stub(*args, **kwargs):
        raise NotImplementedError

    class Stub(torch.nn.Module):
        def __init__(self, *args, **kwargs):
            raise NotImplementedError

    for unfilled in (stub, Stub):
        verdict = verdict_of(exercise, unfilled)
        assert verdict.status == NOT_DONE
        assert verdict.score == 0
        assert not verdict.hint


@each_exercise
def test_an_answer_of_the_wrong_type_is_wrong_and_raises_nothing(exercise):
    for answer in (lambda *a, **k: None, lambda *a, **k: "text", lambda *a, **k: torch.full((2, 2), torch.nan), 7):
        verdict = verdict_of(exercise, answer)
        assert verdict.status == WRONG
        assert verdict.score == 0
        assert verdict.parts[0].message


@each_exercise
def test_no_exercise_needs_the_answer_to_another(exercise, monkeypatch):
    """A mistake in one never hides another: with every other answer of the lab broken, this one still passes."""

    def broken(*args, **kwargs):
        raise AssertionError("an exercise called the answer to another one")

    answer, module = answer_of(exercise), reference(exercise.lab)
    for other in exercises.lab(exercise.lab).exercises:
        if other != exercise.name:
            theirs = getattr(module, other)
            if isinstance(theirs, type):
                monkeypatch.setattr(theirs, "forward", broken)
            else:
                monkeypatch.setattr(module, other, broken)
    assert verdict_of(exercise, answer).status == RIGHT


@each_exercise
def test_every_exercise_has_its_proofs_and_three_hints(exercise):
    mistakes = answers(exercise.lab, "mistake").get(exercise.name, {})
    assert len(mistakes) >= 3
    assert len({hint_of(answer) for answer in mistakes.values()}) == len(mistakes)
    assert len(answers(exercise.lab, "variant").get(exercise.name, {})) >= 2
    assert len(set(exercise.hints)) == 3
    assert exercise.points > 0
    assert exercise.difficulty in (1, 2, 3)


def test_there_are_at_least_26_exercises_and_90_mistakes():
    assert len(ALL) >= 26
    assert len(named("mistake")) >= 90


def test_every_lab_asks_for_a_prediction_and_a_written_answer():
    for name in exercises.LABS:
        lab = exercises.lab(name)
        assert any(exercise.startswith("predict") for exercise in lab.exercises)
        assert lab.questions


def test_exercise_names_are_unique_over_all_labs():
    names = [exercise.name for exercise in ALL]
    assert len(names) == len(set(names))


@each_exercise
def test_golden_answers_hold_no_text_in_the_clear(exercise):
    expected, _ = golden.load(golden.path(exercise.lab))
    for output in expected[exercise.name].values():
        assert all(text.startswith("sealed:") for text in output.texts.values())


@each_exercise
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_reference_gives_the_same_on_the_gpu(exercise):
    expected = on_fresh_inputs(exercise.name)
    with torch.backends.cudnn.flags(allow_tf32=False):
        got = run_probe(exercise, answer_of(exercise), exercise.drawn(FRESH), device="cuda")
    for part, output in got.items():
        assert not output.error, f"{part}: {output.error}"
        for place, array in output.arrays.items():
            torch.testing.assert_close(
                torch.from_numpy(array).double(),
                torch.from_numpy(expected[part].arrays[place]).double(),
                rtol=20 * exercise.rtol,
                atol=1e-4,
            )


@each_exercise
def test_no_answer_can_be_a_list_of_known_results(exercise):
    """What the grader expects on a seed of its own is not what ships for the notebook's check."""
    if not exercise.drawn(0):
        assert exercise.name.startswith("predict_")  # a choice among few is the same for everybody
        return
    one, other = (next(iter(run_probe(exercise, answer_of(exercise), exercise.drawn(s)).values())) for s in (0, FRESH))
    assert any(
        one.arrays[k].shape != other.arrays[k].shape
        or not torch.equal(*map(torch.from_numpy, (one.arrays[k], other.arrays[k])))
        for k in one.arrays
    )
