"""What `labdiff release` packs opens with nothing else at hand, and holds no answer that its class is still to find."""

from __future__ import annotations

import ast
import base64
import csv
import functools
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbformat import NotebookNode
from packaging.requirements import Requirement
from releases import code_of, members, notebook_in, wheel_in
from submissions import SEED, right_answers
from support import ROOT

from labdiff import __version__, manifest
from labdiff.authoring.source import fill
from labdiff.errors import FileError, ReleaseError, UnknownName
from labdiff.exercises import lab as find_lab
from labdiff.exercises.names import LABS
from labdiff.grading.classroom.release import cells, contents, notebook, pack_release, package
from labdiff.grading.grade import grade
from labdiff.grading.submission.mend import mend
from labdiff.grading.submission.program import program
from labdiff.grading.submission.read import read_cells

each_lab = pytest.mark.parametrize("lab", LABS)


def released(lab: str) -> NotebookNode:
    return nbformat.read(ROOT / "notebooks" / lab / f"{lab}.ipynb", as_version=4)


# --- what is in it ----------------------------------------------------------------------------

LENT = {"lab1_forward": set(), "lab2_unet": {"shipped/model.ckpt"}}
LENT["lab3_training"] = {"shipped/model.ckpt", "reference/lab4_sampling.py", "reference/lab4_sampling.json"}
LENT["lab4_sampling"] = LENT["lab3_training"] | {"shipped/classifier.ckpt"}
LENT["lab5_guidance"] = {f"shipped/{name}.ckpt" for name in ("model", "classifier", "guided")}
LENT["lab6_text_to_image"] = LENT["lab5_guidance"] | {"shipped/autoencoder.ckpt", "shipped/text_to_image.ckpt"}
LENT["lab7_editing"] = LENT["lab8_debugging"] = LENT["lab6_text_to_image"] | {"canvas.py", "canvas.html"}
LEFT_AT_HOME = (
    "grading/",
    "authoring/",
    "models/train/",
    "cli.py",
    "__main__.py",
    "manifest.py",
    "models/evaluation.py",
)


@each_lab
def test_the_zip_holds_the_notebook_one_wheel_and_a_readme(packed, lab):
    assert sorted(members(packed(lab))) == ["README.txt", f"{lab}.ipynb", wheel_in(packed(lab))[0]]


@each_lab
def test_the_wheel_holds_what_the_lab_needs_and_no_more(packed, lab):
    labs = LABS[: LABS.index(lab) + 1]
    mine = {f"exercises/{each}.py" for each in labs} | {f"checking/golden/{each}.npz" for each in labs}
    earlier = {f"reference/{each}.py" for each in labs[:-1]}
    _, files = wheel_in(packed(lab))
    held = {name.removeprefix("labdiff/") for name in files if ".dist-info/" not in name}
    assert not [name for name in held if name.startswith(LEFT_AT_HOME)]
    of_some_labs = re.compile(r".*/lab\d.*|shipped/.*|canvas\..*")
    assert {name for name in held if of_some_labs.fullmatch(name)} == mine | earlier | LENT[lab]


@each_lab
def test_whatever_a_module_of_the_wheel_imports_of_labdiff_at_its_top_is_there(packed, lab):
    _, files = wheel_in(packed(lab))
    held = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in files}
    for name, data in files.items():
        for node in ast.parse(data).body if name.endswith(".py") else ():
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "labdiff":
                inside = [f"{node.module}.{each.name}" for each in node.names]
                assert {node.module, *filter(manifest.file_of, inside)} <= held, name
            elif isinstance(node, ast.Import):
                assert {each.name for each in node.names if each.name.split(".")[0] == "labdiff"} <= held, name


@each_lab
def test_the_wheel_says_of_itself_what_is_true(packed, lab):
    name, files = wheel_in(packed(lab))
    info = f"{name.removesuffix('-py3-none-any.whl')}.dist-info"
    rows = list(csv.reader(io.StringIO(files.pop(f"{info}/RECORD").decode())))
    hashes = {k: base64.urlsafe_b64encode(hashlib.sha256(v).digest()).decode().rstrip("=") for k, v in files.items()}
    assert rows[-1] == [f"{info}/RECORD", "", ""]
    assert rows[:-1] == [[k, f"sha256={hashes[k]}", str(len(v))] for k, v in sorted(files.items())]
    said = files[f"{info}/METADATA"].decode()
    plain = [r for r in map(Requirement, metadata.requires("labdiff") or []) if "extra" not in str(r.marker)]
    assert {str(r) for r in plain} == set(re.findall("^Requires-Dist: (.*)$", said, re.M))
    assert "entry_points" not in " ".join(files)
    assert b"MIT License" in files[f"{info}/licenses/LICENSE"]


@each_lab
def test_only_the_first_cell_and_the_link_differ_from_the_release(packed, lab):
    before, after = released(lab).cells, notebook_in(packed(lab)).cells
    assert [(c.id, c.metadata, c.cell_type) for c in before] == [(c.id, c.metadata, c.cell_type) for c in after]
    assert [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a.source != b.source] == [0, 1]
    assert "github" not in after[0].source + after[1].source
    assert after[0].source.split() == before[0].source.partition("[Open in Colab]")[0].split()


@each_lab
def test_the_readme_names_the_files_that_are_there(packed, lab):
    readme = members(packed(lab))["README.txt"].decode()
    assert f"{lab}.zip" in readme
    assert set(members(packed(lab))) - {"README.txt"} <= set(re.findall(r'[^\s"]+\.(?:whl|ipynb)', readme))


# --- no answers -------------------------------------------------------------------------------

# Lines that the toys in lab 2's probes share with answers; hints, which are given out, quote both.
IN_PROBES = {"return torch.cat([angles.sin(), angles.cos()], dim=1)", "return (v @ weights.transpose(-1, -2), weights)"}


class _WithoutTexts(ast.NodeTransformer):
    """Takes docstrings and the texts of hints away: hints are given out, and the last one is nearly the answer."""

    def _definition(self, node: ast.AST) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)

    visit_FunctionDef = visit_ClassDef = visit_Module = _definition

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if node.value in _hints() else node


@functools.cache
def _hints() -> frozenset[str]:
    return frozenset(hint for lab in LABS for each in find_lab(lab).exercises.values() for hint in each.hints)


def definitions(source: str) -> Iterator[str]:
    """What every function of a source takes and does, whatever it is called, decorated with, or says of itself."""
    for node in ast.walk(_WithoutTexts().visit(ast.parse(source))):
        if isinstance(node, ast.FunctionDef):
            yield ast.dump(node.args) + "".join(map(ast.dump, node.body))


def lines(source: str) -> set[str]:
    """The lines of a source that say enough to be recognised, written in one way."""
    text = ast.unparse(_WithoutTexts().visit(ast.parse(source)))
    return {line for line in map(str.strip, text.replace('"', "'").splitlines()) if len(line) >= 24}


def reference_of(lab: str) -> str:
    return (ROOT / "labdiff" / "reference" / f"{lab}.py").read_text(encoding="utf-8")


@functools.cache
def secrets_of(lab: str) -> tuple[frozenset[str], frozenset[str]]:
    """The functions and lines of a lab's answers, mistakes and variants that its student's notebook does not show."""
    folder = ROOT / "solutions" / lab
    nodes = ast.parse(reference_of(lab)).body
    asked = [ast.unparse(n) for n in nodes if getattr(n, "name", "") in find_lab(lab).exercises]
    assert len(asked) == len(find_lab(lab).exercises)
    sources = [*asked, *((folder / f"{kind}.py").read_text(encoding="utf-8") for kind in ("mistakes", "variants"))]
    given = [text for each in LABS for text in code_of(released(each))]
    functions = {f for text in sources for f in definitions(text)} - {f for text in given for f in definitions(text)}
    return frozenset(functions), frozenset(set().union(*map(lines, sources)) - set().union(*map(lines, given)))


def texts(name: str, data: bytes) -> Iterable[str]:
    """Every text inside a file: the cells of a notebook, the texts of arrays, the bytes of a checkpoint."""
    if name.endswith((".whl", ".zip")):
        return [text for inner, content in members(data).items() for text in texts(inner, content)]
    if name.endswith(".ipynb"):
        cells = json.loads(data)["cells"]
        outputs = [json.dumps(cell.get("outputs", [])) for cell in cells]
        return [*("".join(cell["source"]) for cell in cells), *outputs]
    if name.endswith(".npz"):
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return [text for key in stored for text in _strings(stored[key])]
    return [data.decode("utf-8", "replace")]


def _strings(array: np.ndarray) -> list[str]:
    if array.dtype.kind != "U":
        return []
    return [*map(str, array.flatten())] if not str(array).startswith("{") else [*_leaves(json.loads(str(array)))]


def _leaves(value: object) -> Iterator[str]:
    for item in value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else ():
        yield from _leaves(item)
    if isinstance(value, str):
        yield value


def found_in(file: Path, labs: Sequence[str]) -> set[str]:
    """The functions and lines of some labs' answers that a zip holds anywhere."""
    functions, known = (frozenset().union(*parts) for parts in zip(*map(secrets_of, labs), strict=True))
    # mistakes and variants of later labs also use answers of earlier ones, which the class has by then
    earlier = [reference_of(each) for each in LABS[: min(map(LABS.index, labs))]]
    functions -= {f for text in earlier for f in definitions(text)}
    known -= {line for text in earlier for line in lines(text)}
    found: set[str] = set()
    for text in {text for name, data in members(file).items() for text in texts(name, data)}:
        here, said, words = searched(text)
        found |= functions & here
        # the words of a line, but for the first and the last, are words of the text: that spares most of the search
        found |= {line for line in known if words.issuperset(line.split()[1:-1]) and line in said}
    return found


@functools.cache
def searched(text: str) -> tuple[frozenset[str], str, frozenset[str]]:
    """The functions that a text defines, the text on one line, Python without docstrings and hints, and its words."""
    try:
        bare = ast.unparse(_WithoutTexts().visit(ast.parse(text)))
        functions = frozenset(definitions(text))
    except (SyntaxError, ValueError):
        bare, functions = text, frozenset()
    words = bare.replace('"', "'").split()
    return functions, " ".join(words), frozenset(words)


@each_lab
def test_no_answer_mistake_or_variant_of_the_lab_or_of_a_later_one_is_in_the_zip(packed, lab):
    assert found_in(packed(lab), LABS[LABS.index(lab) :]) - IN_PROBES == set()


@each_lab
def test_the_search_for_answers_finds_those_that_are_there(packed, lab, tmp_path):
    in_correction = found_in(packed(lab, correction=True), [lab])
    functions, known = secrets_of(lab)
    assert len(in_correction & functions) >= 0.9 * len(find_lab(lab).exercises)
    assert in_correction & known
    for place in ("notes.txt", "labdiff/x.py", "y.npz"):
        with zipfile.ZipFile(tmp_path / "planted.zip", "w") as archive:
            text = f"if True:\n    {max(known, key=len)}\n"
            about = io.BytesIO()
            np.savez(about, about=np.array(json.dumps({"a": [text]})))
            archive.writestr(place, about.getvalue() if place.endswith("npz") else text)
        assert found_in(tmp_path / "planted.zip", [lab]), place


def test_a_notebook_that_imports_what_its_class_is_still_to_write_is_not_packed(monkeypatch, tmp_path):
    monkeypatch.setattr(package, "_imports", lambda lab: {"labdiff.reference.lab2_unet.UNet"})
    with pytest.raises(ReleaseError, match=r"lab2_unet\.UNet.*still to write"):
        pack_release("lab1_forward", tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- the file ---------------------------------------------------------------------------------


@each_lab
def test_packing_twice_gives_the_same_bytes(packed, lab, tmp_path):
    assert pack_release(lab, tmp_path / "again.zip").read_bytes() == packed(lab).read_bytes()


def test_packing_again_into_the_same_file_leaves_it_as_it_is(tmp_path):
    file = pack_release("lab1_forward", tmp_path)
    before = file.stat().st_mtime_ns
    assert pack_release("lab1_forward", tmp_path) == file == tmp_path / "lab1_forward.zip"
    assert file.stat().st_mtime_ns == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_of_other_content_is_replaced_only_where_one_says_so(tmp_path):
    file = tmp_path / "mine.zip"
    file.write_bytes(b"something else")
    with pytest.raises(ReleaseError, match=r"mine\.zip is there already"):
        pack_release("lab1_forward", file)
    assert file.read_bytes() == b"something else"
    pack_release("lab1_forward", file, overwrite=True)
    assert "lab1_forward.ipynb" in members(file)


def test_a_folder_that_is_missing_is_made(tmp_path):
    assert pack_release("lab1_forward", tmp_path / "autumn" / "one.zip").exists()


def test_what_cannot_be_packed_or_written_is_said_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UnknownName, match="Did you mean lab1_forward"):
        pack_release("lab1_foward", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        pack_release("lab1_forward", tmp_path / "file" / "one.zip")
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReleaseError, match=r"The correction of lab1_forward is not here: .* solutions/"):
        pack_release("lab1_forward", tmp_path, correction=True)


@each_lab
def test_the_correction_is_packed_with_its_outputs_under_a_name_that_overwrites_nobodys_work(packed, lab):
    file = packed(lab, correction=True)
    assert file.name == f"{lab}_correction.zip"
    assert f"{lab}_correction.ipynb" in members(file)
    correction = nbformat.read(ROOT / "solutions" / lab / f"{lab}.ipynb", as_version=4)
    outputs = [cell.get("outputs") for cell in notebook_in(file).cells]
    assert outputs == [cell.get("outputs") for cell in correction.cells]
    assert wheel_in(file) == wheel_in(packed(lab))


# --- its version ------------------------------------------------------------------------------


def test_a_corrected_check_changes_the_version_and_nothing_else_does(packed, monkeypatch, tmp_path):
    name = wheel_in(packed("lab1_forward"))[0]
    assert re.fullmatch(rf"labdiff-{re.escape(__version__)}\+lab1\.forward\.[0-9a-f]{{8}}-py3-none-any\.whl", name)
    files = package.package("lab1_forward")
    files["labdiff/exercises/lab1_forward.py"] += b"\n"
    monkeypatch.setattr(contents, "package", lambda lab: files)
    other = wheel_in(pack_release("lab1_forward", tmp_path))[0]
    assert (other == name, other[:-27] == name[:-27]) == (False, True)


@pytest.mark.parametrize(
    "here, does",
    [
        ("0.2.0+lab4.sampling.0123abcd", True),
        ("0.3.0+lab4.sampling.0123abcd", True),
        ("0.10.0", True),
        ("0.2.0", True),
        ("0.1.0", False),  # the whole package, and older
        ("0.1.0+lab8.debugging", False),
        ("0.2.0+lab2.unet.0123abcd", False),
        ("0.3.0+lab2.unet.0123abcd", False),
        ("0.2.0+lab3.training.0123abcd", False),
    ],
)
def test_what_serves_a_lab_is_as_new_and_holds_that_lab(here, does):
    first = cells.cell_of(notebook.FIRST_CELL, VERSION="0.2.0+lab3.training.89abcdef")
    names: dict[str, Any] = {}
    exec(first.partition("\ninstall_labdiff()")[0], names)
    assert names["serves"](here) is does


def test_a_file_that_becomes_a_cell_loses_its_docstring_and_gets_its_constants(tmp_path):
    file = tmp_path / "cell.py"
    file.write_text('"""For\n\nauthors."""\n\n# For students.\nA = "1"\nB = "2"\nprint(A)\n')
    assert cells.cell_of(file, A="3") == '# For students.\nA = "3"\nB = "2"\nprint(A)'
    with pytest.raises(ValueError, match="one line C"):
        cells.cell_of(file, C="3")


# --- handed in --------------------------------------------------------------------------------


@each_lab
def test_the_first_cell_of_a_release_makes_no_demonstration_run(packed, lab):
    def runs(notebook: NotebookNode) -> list[str]:
        filled = fill(notebook, right_answers(lab))
        return program(mend(read_cells(nbformat.writes(filled).encode()), find_lab(lab)), find_lab(lab)).cells

    assert [cell for cell in runs(notebook_in(packed(lab))) if "install_labdiff" not in cell] == runs(released(lab))


@pytest.mark.sandbox
@each_lab
def test_a_filled_release_is_graded_as_any_other_submission(packed, lab):
    empty = notebook_in(packed(lab))
    report = grade(fill(empty, right_answers(lab)), lab, seed=SEED)
    assert not report.problem
    assert {r.name: r.score for r in report.exercises} == {e.name: e.points for e in find_lab(lab).exercises.values()}
    assert {r.status for r in grade(empty, lab, seed=SEED).exercises} == {"not done"}
