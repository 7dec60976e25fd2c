"""The grader's own score: through the sandbox, every mistake is caught with its hint and every variant accepted."""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest

import pytest
from submissions import SEED, submission
from support import ROOT, answers

from labdiff import exercises
from labdiff.authoring.proofs import as_answer, hint_of
from labdiff.grading.grade import grade

pytestmark = pytest.mark.sandbox
SCORE: dict[str, Counter] = {lab: Counter() for lab in exercises.LABS}


def notebooks(lab: str, kind: str):
    """Notebooks that hold all mistakes or variants of a lab between them, one of each exercise in each."""
    given = answers(lab, kind)
    for titles in zip_longest(*given.values()):
        chosen = {name: title for name, title in zip(given, titles, strict=True) if title}
        file = ROOT / "solutions" / lab / f"{kind}s.py"
        yield chosen, submission(lab, **{name: as_answer(file, title, name) for name, title in chosen.items()})


@pytest.mark.parametrize("lab", exercises.LABS)
def test_every_mistake_is_caught_and_gets_its_own_hint(lab):
    score, missed = SCORE[lab], []
    for chosen, notebook in notebooks(lab, "mistake"):
        results = {result.name: result for result in grade(notebook, lab, seed=SEED, carry=False).exercises}
        for name, title in chosen.items():
            score["mistakes"] += 1
            caught = results[name].score < results[name].max_score
            hinted = results[name].hint == hint_of(answers(lab, "mistake")[name][title])
            score["caught"] += caught
            score["hinted"] += hinted
            if not (caught and hinted):
                missed.append((name, title, results[name].score, results[name].hint))
    assert not missed


@pytest.mark.parametrize("lab", exercises.LABS)
def test_every_variant_earns_full_marks(lab):
    score, refused = SCORE[lab], []
    for chosen, notebook in notebooks(lab, "variant"):
        results = {result.name: result for result in grade(notebook, lab, seed=SEED, carry=False).exercises}
        for name, title in chosen.items():
            accepted = results[name].score == results[name].max_score
            score["variants"] += 1
            score["accepted"] += accepted
            if not accepted:
                refused.append((name, title, results[name]))
    assert not refused
