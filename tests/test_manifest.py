"""What a lab needs is found by following imports: nothing is missing, no answer is given away, every change is seen."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

from labdiff import manifest, pictures
from labdiff.errors import UnknownName
from labdiff.exercises.names import LABS
from labdiff.grading.classroom import store
from labdiff.grading.sandbox.limits import Limits

each_lab = pytest.mark.parametrize("lab", LABS)
checks_of = store.checks_of.__wrapped__  # each time anew


def imported_at_its_top(file: Path) -> set[str]:
    """The modules of labdiff that run when a module is imported."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "labdiff":
            inside = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {node.module, *(name for name in inside if manifest.file_of(name))}
    return found


@each_lab
def test_whatever_a_module_imports_when_it_is_imported_comes_along(lab):
    for needs in (manifest.of_student(lab), manifest.of_sandbox(lab)):
        for module in needs.modules:
            assert imported_at_its_top(manifest.file_of(module)) <= needs.modules, module


@each_lab
def test_the_answers_of_this_lab_and_of_later_ones_are_in_no_list_of_a_student_or_a_sandbox(lab):
    for needs in (manifest.of_student(lab), manifest.of_sandbox(lab)):
        answers = {module for module in needs.modules if module.startswith("labdiff.reference.")}
        assert answers == {f"labdiff.reference.{each}" for each in LABS[: LABS.index(lab)]}
        assert not any("golden" in place and place.endswith(".npz") for place in needs.files)
        assert not any(module.startswith(("labdiff.authoring", "labdiff.cli")) for module in needs.modules)


def test_a_function_brings_what_it_imports_only_where_something_uses_it():
    used = manifest.needs(["from labdiff.data import digits"])
    assert "labdiff.data" in used.modules
    assert {file.name for file in used.data} == {"offline_digits.npz"}
    assert not used.checkpoints
    assert manifest.needs(["from labdiff.models import unet\nunet()"]).checkpoints == {"model"}
    assert manifest.needs(['network = fit("guided")']).checkpoints == {"guided"}


def test_what_imports_an_answer_at_its_top_is_not_given_before_the_answer_is():
    early, late = (manifest.needs(["labdiff.models.drawing"], lab).modules for lab in ("lab2_unet", LABS[-1]))
    assert "labdiff.models.sampling" in late - early


def test_an_unknown_lab_is_named_with_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean lab2_unet"):
        manifest.of_student("lab2_net")


# --- the hash of a lab's checks ---------------------------------------------------------------


@pytest.mark.parametrize("lab", ["lab1_forward", "lab6_text_to_image"])
def test_the_hash_of_a_labs_checks_moves_with_each_file_that_the_sandbox_shows(monkeypatch, lab):
    before, read = checks_of(lab), Path.read_bytes
    shown = manifest.of_sandbox(lab).files
    assert len(shown) > 20
    for place, changed in shown.items():
        monkeypatch.setattr(Path, "read_bytes", lambda self, it=changed: read(self) + b"\n" * (self == it))
        assert checks_of(lab) != before, place
    monkeypatch.undo()
    assert checks_of(lab) == before


@pytest.mark.parametrize("place", ["grading/grade.py", "grading/submission/mend.py", "reference/lab1_forward.py"])
def test_the_hash_moves_with_what_decides_outside_the_sandbox(monkeypatch, place):
    before, read = checks_of("lab1_forward"), Path.read_bytes
    changed = manifest.of_grader("lab1_forward").files[place]
    monkeypatch.setattr(Path, "read_bytes", lambda self: read(self) + b"\n" * (self == changed))
    assert checks_of("lab1_forward") != before


@pytest.mark.parametrize("limit", [field.name for field in dataclasses.fields(Limits)])
def test_the_hash_moves_with_each_limit(monkeypatch, limit):
    before = checks_of("lab1_forward")
    other = dataclasses.replace(Limits(), **{limit: getattr(Limits(), limit) + 1})
    monkeypatch.setattr(store, "Limits", lambda: other)
    assert checks_of("lab1_forward") != before


def test_the_hash_moves_with_a_word_of_lab_6s_vocabulary(monkeypatch):
    before, read = checks_of("lab6_text_to_image"), Path.read_bytes
    assert "seven" in pictures.vocabulary()
    changed = Path(pictures.__file__)
    monkeypatch.setattr(
        Path, "read_bytes", lambda self: read(self) if self != changed else read(self).replace(b'"seven"', b'"septet"')
    )
    assert checks_of("lab6_text_to_image") != before
