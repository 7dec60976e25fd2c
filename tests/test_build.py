"""One source per lab: what is built from it is fresh, whole, and gives nothing away."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import nbformat
import pytest
from support import ROOT

from labdiff import exercises
from labdiff.authoring import build as building
from labdiff.authoring import source
from labdiff.errors import SourceError

each_lab = pytest.mark.parametrize("name", exercises.LABS)


def notebook(folder: str, name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / folder / name / f"{name}.ipynb", as_version=4)


@pytest.fixture
def copy_of_repository(tmp_path):
    """What lab 1 is built from and what was built from it, to be changed freely."""
    for part in ("solutions/lab1_forward", "notebooks/lab1_forward", "labdiff/checking/golden", "tests/class"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "nbgrader_config.py", "labdiff/reference/lab1_forward.py"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    return tmp_path


def test_building_twice_changes_no_byte(copy_of_repository):
    def contents():
        files = [f for f in copy_of_repository.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
        return {f: f.read_bytes() for f in files}

    before = contents()
    assert building.build(["lab1_forward"], root=copy_of_repository).stale == []
    assert contents() == before


def test_check_names_what_a_changed_source_made_stale_and_writes_nothing(copy_of_repository):
    file = copy_of_repository / "solutions" / "lab1_forward" / "lab1_forward.py"
    file.write_text(
        file.read_text().replace("return alphas_cumprod / (1 - alphas_cumprod)", "return 2 * alphas_cumprod")
    )
    reference = copy_of_repository / "labdiff" / "reference" / "lab1_forward.py"
    before = reference.read_bytes()
    stale = building.build(["lab1_forward"], check=True, root=copy_of_repository).stale
    assert "labdiff/reference/lab1_forward.py" in stale
    assert "solutions/lab1_forward/lab1_forward.ipynb (outputs)" in stale
    assert reference.read_bytes() == before


def test_new_prose_does_not_ask_for_a_new_execution(copy_of_repository):
    file = copy_of_repository / "solutions" / "lab1_forward" / "lab1_forward.py"
    file.write_text(file.read_text().replace("# ## Summary", "# ## In short"))
    stale = building.build(["lab1_forward"], check=True, root=copy_of_repository).stale
    assert stale[:2] == ["solutions/lab1_forward/lab1_forward.ipynb", "notebooks/lab1_forward/lab1_forward.ipynb"]
    assert {Path(name).parent for name in stale[2:]} == {Path("tests/class")}


def test_a_new_version_is_named_in_the_notebook_and_leaves_its_outputs_and_ids_as_they_are(monkeypatch):
    file = ROOT / "solutions" / "lab1_forward" / "lab1_forward.py"
    made = []
    for version in ("1.2.3", "1.2.4"):
        monkeypatch.setattr(source, "__version__", version)
        made.append(source.correction_of(file, exercises.lab("lab1_forward"), "https://github.com/a/b"))
        assert f'"git+https://github.com/a/b@v{version}"' in made[-1].cells[1].source
    before, after = made
    assert source.code_hash(before) == source.code_hash(after)
    assert [cell.id for cell in before.cells] == [cell.id for cell in after.cells]


@pytest.mark.parametrize(
    "before, after, message",
    [
        ("def snr(", "def signal_to_noise(", "must define exactly one exercise .* it defines signal_to_noise"),
        ('question="why_abar_must_vanish"', 'question="why_not"', "the source asks 'why_not'"),
        (
            "# %%\ndef snr(alphas_cumprod):",
            "# %% [markdown]\n# def snr(alphas_cumprod):",
            "no cell of the source answers snr",
        ),
    ],
)
def test_a_source_that_cannot_be_built_is_named(tmp_path, before, after, message):
    file = tmp_path / "lab1_forward.py"
    text = (ROOT / "solutions" / "lab1_forward" / "lab1_forward.py").read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    with pytest.raises(SourceError, match=message):
        source.correction_of(file, exercises.lab("lab1_forward"), "https://github.com/a/b")


@each_lab
def test_a_students_notebook_holds_no_answer(name):
    text = json.dumps(notebook("notebooks", name))
    assert "BEGIN SOLUTION" not in text
    correction = {
        c.metadata.nbgrader.grade_id: c for c in notebook("solutions", name).cells if "nbgrader" in c.metadata
    }
    for cell in notebook("notebooks", name).cells:
        assert not cell.get("outputs")
        if "nbgrader" in cell.metadata and cell.metadata.nbgrader.solution:
            assert cell.source != correction[cell.metadata.nbgrader.grade_id].source
            if cell.cell_type == "code":
                assert "raise NotImplementedError" in cell.source


@each_lab
def test_every_exercise_has_its_answer_cell_and_its_check_with_the_points(name):
    lab, cells = exercises.lab(name), notebook("notebooks", name).cells
    marked = [cell for cell in cells if "nbgrader" in cell.metadata]
    checks = {cell.source: cell.metadata.nbgrader.points for cell in marked if cell.source.startswith("check(")}
    assert checks == {f"check({each.name})": each.points for each in lab.exercises.values()}
    manual = {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.points for c in marked if c.cell_type == "markdown"}
    assert manual == {each.name: each.points for each in lab.questions.values()}


@each_lab
def test_cell_ids_are_unique_and_come_from_the_source(name):
    ids = [cell.id for cell in notebook("notebooks", name).cells]
    assert len(ids) == len(set(ids))
    assert ids == [cell.id for cell in notebook("solutions", name).cells]


@each_lab
def test_notebooks_are_valid_and_parse(name):
    for folder in ("solutions", "notebooks"):
        nbformat.validate(notebook(folder, name))
        for cell in notebook(folder, name).cells:
            if cell.cell_type == "code":
                ast.parse(cell.source)


@each_lab
def test_a_correction_was_run_without_an_error_and_its_checks_are_green(name):
    cells = [cell for cell in notebook("solutions", name).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    verdicts = [o["data"][building_mime()] for o in outputs if building_mime() in o.get("data", {})]
    assert len(verdicts) == len(exercises.lab(name).exercises)
    assert {verdict["status"] for verdict in verdicts} == {"right"}


def building_mime() -> str:
    from labdiff.checking.verdict import MIME

    return MIME


@each_lab
def test_no_picture_or_file_is_linked_from_elsewhere(name):
    for cell in notebook("notebooks", name).cells:
        assert "![" not in cell.source
        assert "<img" not in cell.source
        assert "urlopen" not in cell.source
