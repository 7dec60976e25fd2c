"""A release opens in an environment that has never heard of labdiff, one lab after another."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from releases import code_of, notebook_in, wheel_in
from submissions import right_answers
from support import ROOT

from labdiff.authoring.source import fill
from labdiff.checking.verdict import MIME
from labdiff.exercises import lab as find_lab
from labdiff.exercises.names import LABS
from labdiff.grading.classroom.release import contents, pack_release
from labdiff.grading.submission.syntax import only_defines

SHOWN = "import json, labdiff; print(json.dumps([labdiff.__file__, [*__import__('labdiff.exercises').exercises.LABS]]))"
# what each lab takes from its package beside the checks
USES = {
    "lab1_forward": """
from labdiff.models import draw
assert draw(16, seed=1).shape == (16, 1, 28, 28) and not draw(2, seed=1).equal(draw(2, seed=2))
""",
    "lab2_unet": "from labdiff.models import load_weights; assert not load_weights(UNet(), 'model').training",
    "lab3_training": """
from labdiff.models import unet
from labdiff.reference.lab4_sampling import ddim_sample, ddim_timesteps, make_denoiser
abar = compute_alphas_cumprod(cosine_betas(1000))
x_T = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(5))
with torch.inference_mode():
    drawn = ddim_sample(make_denoiser(unet(), abar), x_T, ddim_timesteps(1000, 20), abar)
torch.save(drawn, "drawn.pt")
""",
    "lab4_sampling": "from labdiff.models import classify; assert classify(digits(4)[0])[0].shape == (4, 10)",
    "lab5_guidance": "from labdiff.models import from_checkpoint; from_checkpoint(GuidedUNet, 'guided')",
    "lab6_text_to_image": """
from labdiff.models import from_checkpoint
from_checkpoint(Autoencoder, 'autoencoder'), from_checkpoint(TextToImage, 'text_to_image')
""",
    "lab7_editing": "from labdiff.models import guided_unet; guided_unet()",
    "lab8_debugging": "from labdiff.models import draw, unet; unet(); assert draw(2).shape == (2, 1, 28, 28)",
}


@pytest.fixture
def run(fresh_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a notebook's cells in a new kernel of that environment, in a folder of its own, without any network."""
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


CORRECTED = """
from importlib.metadata import version
from labdiff.exercises import lab1_forward
print("corrected" if hasattr(lab1_forward, "CORRECTED") else "as it was", version("labdiff"))"""


@pytest.fixture
def corrected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The zip of lab 1 after one of its checks was corrected."""
    before = contents.package

    def package(lab: str) -> dict[str, bytes]:
        files = before(lab)
        files["labdiff/exercises/lab1_forward.py"] += b"\nCORRECTED = True\n"
        return files

    with monkeypatch.context() as patched:
        patched.setattr(contents, "package", package)
        return pack_release("lab1_forward", tmp_path / "corrected.zip")


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
    return [c.source for c in code if "nbgrader" in c.metadata or only_defines(c.source)]


@pytest.mark.parametrize("done", [False, True], ids=["nothing done", "everything right"])
def test_the_whole_first_lab_runs_from_its_zip_alone(run, packed, done):
    notebook = unpack(packed("lab1_forward"), run.folder)
    cells = run(code_of(fill(notebook, right_answers("lab1_forward")) if done else notebook))
    assert verdicts(cells) == dict.fromkeys(find_lab("lab1_forward").exercises, "right" if done else "not done")
    pictures = sum("image/png" in o.get("data", {}) for cell in cells for o in cell.outputs)
    assert pictures == (9 if done else 1)


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

    from labdiff.models import unet
    from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas
    from labdiff.reference.lab4_sampling import ddim_sample, ddim_timesteps, make_denoiser

    abar = compute_alphas_cumprod(cosine_betas(1000))
    x_T = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        right = ddim_sample(make_denoiser(unet(), abar), x_T, ddim_timesteps(1000, 20), abar)
    assert (torch.load(file) - right).abs().mean() < 0.01


@pytest.mark.parametrize("which", ["the notebook that was begun", "the new notebook"])
def test_a_corrected_check_reaches_who_ran_the_old_one(run, packed, corrected, which):
    begun = unpack(packed("lab1_forward"), run.folder)
    run([code_of(begun)[0], "from labdiff import check"])
    (run.folder / "lab1_forward (1).zip").write_bytes(corrected.read_bytes())
    notebook = begun if which == "the notebook that was begun" else notebook_in(corrected)
    first, said, again = run([code_of(notebook)[0], CORRECTED, code_of(notebook)[0]])
    assert (first.outputs, again.outputs) == ([], [])
    assert said.outputs[0].text.split() == ["corrected", *wheel_in(corrected)[0].split("-")[1:2]]


def test_a_kernel_that_runs_the_old_labdiff_is_told_to_begin_again(run, packed, corrected):
    first = code_of(unpack(packed("lab1_forward"), run.folder))[0]
    download = f"import shutil; shutil.copy({str(corrected)!r}, 'new.zip')"
    cells = run([first, "import labdiff", download, first])
    assert cells[0].outputs == []
    assert "restart the kernel" in cells[3].outputs[0].text


def test_an_earlier_labs_first_cell_leaves_the_package_of_a_later_one(run, packed, corrected):
    run([code_of(unpack(packed("lab2_unet"), run.folder))[0]])
    cells = run([code_of(unpack(corrected, run.folder))[0], SHOWN])
    assert json.loads(cells[1].outputs[0].text)[1] == [*LABS[:2]]


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
