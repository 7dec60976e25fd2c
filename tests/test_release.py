"""What `labdiff release` packs opens with nothing else at hand, and holds no answer that its class is still to find."""

from __future__ import annotations

import ast
import base64
import csv
import functools
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from packaging.requirements import Requirement
from submissions import SEED, right_answers
from support import ROOT

from labdiff.authoring.source import _only_defines, fill
from labdiff.checking.verdict import MIME
from labdiff.errors import ReleaseError
from labdiff.exercises import lab as find_lab
from labdiff.exercises.names import LABS
from labdiff.grading.classroom import release as packing
from labdiff.grading.classroom.release import pack_release
from labdiff.grading.grade import grade

each_lab = pytest.mark.parametrize("lab", LABS)
Files = dict[str, bytes]


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory):
    """The zip of a lab, made once."""
    folder = tmp_path_factory.mktemp("packed")
    return functools.cache(lambda lab, correction=False: pack_release(lab, folder, correction=correction))


def members(data: bytes | Path) -> Files:
    with zipfile.ZipFile(data if isinstance(data, Path) else io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def wheel_in(file: Path) -> tuple[str, Files]:
    ((name, data),) = [(name, data) for name, data in members(file).items() if name.endswith(".whl")]
    return name, members(data)


def notebook_in(file: Path) -> NotebookNode:
    (data,) = [data for name, data in members(file).items() if name.endswith(".ipynb")]
    return nbformat.reads(data.decode(), as_version=4)


def released(lab: str) -> NotebookNode:
    return nbformat.read(ROOT / "notebooks" / lab / f"{lab}.ipynb", as_version=4)


# --- what is in it ----------------------------------------------------------------------------

EVERYWHERE = {
    *("__init__.py", "checkpoints.py", "data.py", "metrics.py", "offline_digits.npz", "plotting.py"),
    *(f"checking/{name}.py" for name in ("__init__", "golden", "judge", "notebook", "run")),
    *("exercises/__init__.py", "reference/__init__.py"),
}
LENT = {"lab1_forward": set(), "lab2_unet": {"shipped/model.ckpt"}}
LENT["lab3_training"] = {"shipped/model.ckpt", "reference/lab4_sampling.py"}
LENT["lab4_sampling"] = {"shipped/model.ckpt", "shipped/judge.ckpt", "reference/lab4_sampling.py"}
LENT["lab5_guidance"] = {"shipped/model.ckpt", "shipped/judge.ckpt", "shipped/guided.ckpt"}
LATER = {"pictures.py", "shipped/autoencoder.ckpt", "shipped/text_to_image.ckpt"}
LENT["lab6_text_to_image"] = LENT["lab5_guidance"] | LATER
LENT["lab7_editing"] = LENT["lab8_debugging"] = LENT["lab6_text_to_image"] | {"canvas.py"}


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
    assert held == EVERYWHERE | mine | earlier | LENT[lab]


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


def code_of(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


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
    for name, data in members(file).items():
        for text in texts(name, data):
            try:
                bare = ast.unparse(_WithoutTexts().visit(ast.parse(text)))
                found |= functions & {*definitions(text)}
            except (SyntaxError, ValueError):
                bare = text
            said = " ".join(bare.replace('"', "'").split())
            found |= {line for line in known if line in said}
    return found


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
    monkeypatch.setattr(packing, "_imports", lambda lab: {"labdiff.reference.lab2_unet.UNet"})
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
    with pytest.raises(ReleaseError, match="Did you mean lab1_forward"):
        pack_release("lab1_foward", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReleaseError, match="cannot be written"):
        pack_release("lab1_forward", tmp_path / "file" / "one.zip")
    monkeypatch.setattr(packing, "PACKAGE", tmp_path / "labdiff")
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


# --- in a new environment ---------------------------------------------------------------------

SHOWN = "import json, labdiff; print(json.dumps([labdiff.__file__, [*__import__('labdiff.exercises').exercises.LABS]]))"
# what each lab takes from its package beside the checks
USES = {
    "lab1_forward": "assert draw(16, seed=1).shape == (16, 1, 28, 28) and not draw(2, seed=1).equal(draw(2, seed=2))",
    "lab2_unet": "assert not fit(UNet(), 'model').training",
    "lab3_training": """
from labdiff.reference.lab4_sampling import ddim_sample, ddim_timesteps, make_denoiser
abar = compute_alphas_cumprod(cosine_betas(1000))
x_T = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(5))
with torch.inference_mode():
    drawn = ddim_sample(make_denoiser(checkpoints.model(), abar), x_T, ddim_timesteps(1000, 20), abar)
torch.save(drawn, "drawn.pt")
""",
    "lab4_sampling": "assert metrics.look(digits(4)[0])[0].shape == (4, 10); checkpoints.model()",
    "lab5_guidance": "checkpoints.fit(GuidedUNet(**checkpoints.load('guided')['config']), 'guided')",
    "lab6_text_to_image": "checkpoints.fit(Autoencoder(**checkpoints.load('autoencoder')['config']), 'autoencoder')",
    "lab7_editing": "checkpoints.fit(GuidedUNet(**checkpoints.load('guided')['config']), 'guided')",
    "lab8_debugging": "checkpoints.model()",
}


@pytest.fixture(scope="session")
def fresh_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has all packages of this one but labdiff."""
    folder = tmp_path_factory.mktemp("fresh")
    shared = folder / "shared"
    shared.mkdir()
    for site in (Path(place) for place in sys.path if place.endswith("-packages")):
        for entry in site.iterdir():
            if "labdiff" not in entry.name and not (shared / entry.name).is_symlink():
                (shared / entry.name).symlink_to(entry)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    # A .pth file appends to the path, so that what pip installs here is found first.
    (own / "shared.pth").write_text(f"{shared}\n", encoding="utf-8")
    return python


@pytest.fixture
def run(fresh_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a notebook's cells in a new kernel of that environment, in a folder of its own, without any network."""
    if os.name == "nt":
        pytest.skip("links to the packages of this environment need rights that Windows does not give")
    environment = {
        "PYTHONPATH": "",
        "PIP_NO_INDEX": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "LABDIFF_DATA": "offline",
        "OMP_NUM_THREADS": "1",
    }
    spec = {"argv": [str(fresh_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "fresh"}
    file = tmp_path / "jupyter" / "kernels" / "fresh" / "kernel.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(spec | {"env": environment}), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    folder = tmp_path / "empty"
    folder.mkdir()
    subprocess.run(
        [str(fresh_python), "-m", "pip", "uninstall", "-y", "-q", "labdiff"], capture_output=True, check=True
    )

    def run_cells(sources: Iterable[str]) -> list[NotebookNode]:
        notebook = new_notebook(cells=[new_code_cell(text) for text in sources])
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, kernel_name="fresh", timeout=120, resources=resources).execute()
        return notebook.cells

    run_cells.folder = folder
    return run_cells


def unpack(file: Path, folder: Path) -> NotebookNode:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return notebook_in(file)


def verdicts(cells: list[NotebookNode]) -> dict[str, str]:
    """Exercise -> status of every verdict shown."""
    shown = [o.data[MIME] for cell in cells for o in cell.outputs if MIME in o.get("data", {})]
    return {verdict["exercise"]: verdict["status"] for verdict in shown}


def without_demonstrations(notebook: NotebookNode) -> list[str]:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [c.source for c in code if "nbgrader" in c.metadata or _only_defines(c.source)]


@pytest.mark.slow
@pytest.mark.parametrize("done", [False, True], ids=["nothing done", "everything right"])
def test_the_whole_first_lab_runs_from_its_zip_alone(run, packed, done):
    notebook = unpack(packed("lab1_forward"), run.folder)
    cells = run(code_of(fill(notebook, right_answers("lab1_forward")) if done else notebook))
    assert verdicts(cells) == dict.fromkeys(find_lab("lab1_forward").exercises, "right" if done else "not done")
    pictures = sum("image/png" in o.get("data", {}) for cell in cells for o in cell.outputs)
    assert pictures == (9 if done else 1)


@pytest.mark.slow
def test_one_environment_goes_through_all_labs_and_each_brings_its_own_package(run, packed):
    for lab in LABS:
        notebook = unpack(packed(lab), run.folder)
        first, rest = code_of(notebook)[0], without_demonstrations(fill(notebook, right_answers(lab)))
        stubs = without_demonstrations(notebook)
        cells = run([first, *stubs, *rest, USES[lab], SHOWN])
        names = find_lab(lab).exercises
        assert verdicts(cells[: 1 + len(stubs)]) == dict.fromkeys(names, "not done")
        assert verdicts(cells[1 + len(stubs) :]) == dict.fromkeys(names, "right")
        place, labs = json.loads(cells[-1].outputs[0].text)
        assert "shared" not in place and str(ROOT) not in place
        assert labs == [*LABS[: LABS.index(lab) + 1]]
    # back to an earlier lab, whose wheel is gone: the later one serves it
    (run.folder / wheel_in(packed(LABS[0]))[0]).unlink()
    before, cells = run([SHOWN])[0].outputs, run([code_of(notebook_in(packed(LABS[0])))[0], SHOWN])
    assert cells[0].outputs == [] and cells[1].outputs == before
    drawn_as_lab_4_draws(run.folder / "drawn.pt")


def drawn_as_lab_4_draws(file: Path) -> None:
    """What stands in for lab 4's answers draws the same digits as these, but for what they clamp on the way."""
    import torch

    from labdiff.checkpoints import model
    from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas
    from labdiff.reference.lab4_sampling import ddim_sample, ddim_timesteps, make_denoiser

    abar = compute_alphas_cumprod(cosine_betas(1000))
    x_T = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        right = ddim_sample(make_denoiser(model(), abar), x_T, ddim_timesteps(1000, 20), abar)
    assert (torch.load(file) - right).abs().mean() < 0.01


def test_the_zip_itself_beside_the_notebook_is_enough_whatever_the_browser_called_it(run, packed):
    (run.folder / "lab1_forward (1).zip").write_bytes(packed("lab1_forward").read_bytes())
    (run.folder / "holiday.zip").write_bytes(b"PK, cut off")
    run([code_of(notebook_in(packed("lab1_forward")))[0], "from labdiff import check"])


def test_colab_asks_for_the_zip_once(run, packed):
    google = f"""
import pathlib, sys, types
def upload():
    print("asked")
    pathlib.Path("lab1_forward.zip").write_bytes(pathlib.Path({str(packed("lab1_forward"))!r}).read_bytes())
files = types.ModuleType("google.colab.files")
files.upload = upload
colab = types.ModuleType("google.colab")
colab.files = files
sys.modules["google.colab"] = colab
sys.modules.setdefault("google", types.ModuleType("google"))
"""
    first = code_of(notebook_in(packed("lab1_forward")))[0]
    cells = run([google, first, first, "from labdiff import check"])
    assert "Choose lab1_forward.zip" in cells[1].outputs[0].text and "asked" in cells[1].outputs[0].text
    assert cells[2].outputs == []


def test_without_the_package_the_first_cell_says_what_to_put_where(run, packed):
    first = code_of(notebook_in(packed("lab1_forward")))[0]
    cell, _ = run([f"try:\n{re.sub('^', '    ', first, flags=re.M)}\nexcept FileNotFoundError as e:\n    print(e)", ""])
    assert f"Put lab1_forward.zip into {run.folder} and" in cell.outputs[0].text


# --- handed in --------------------------------------------------------------------------------


@pytest.mark.sandbox
@each_lab
def test_a_filled_release_is_graded_as_any_other_submission(packed, lab):
    empty = notebook_in(packed(lab))
    report = grade(fill(empty, right_answers(lab)), lab, seed=SEED)
    assert not report.problem
    assert {r.name: r.score for r in report.exercises} == {e.name: e.points for e in find_lab(lab).exercises.values()}
    assert {r.status for r in grade(empty, lab, seed=SEED).exercises} == {"not done"}
