"""The labs' checks and widgets run with the Jupyter of Colab, which is old.

The kernel lives in a virtual environment of its own, with exactly the versions of
colab_packages.txt. Only Jupyter comes from there; torch, NumPy, Matplotlib and labdiff are
those of the environment that runs the tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from support import ROOT

import labdiff
from labdiff import exercises
from labdiff.authoring import source
from labdiff.checking.verdict import MIME
from labdiff.grading.submission.syntax import only_defines

PACKAGES = Path(__file__).parent / "colab_packages.txt"
# Named in full so that a new list from Google is noticed; all that they need is constrained by the list.
PINNED = {
    "IPython": "7.34.0",
    "ipykernel": "6.17.1",
    "ipywidgets": "7.7.1",
    "traitlets": "5.7.1",
    "jupyter_client": "7.4.9",
}
ALSO_INSIDE = ("zmq", "tornado", "jupyter_core")  # what a kernel speaks through must match its Jupyter
OUTSIDE = ("torch", "numpy", "matplotlib", "labdiff")
WIDGET = "application/vnd.jupyter.widget-view+json"

WHERE = f"""
import importlib, json, sys
told = {{}}
for name in {(*PINNED, *ALSO_INSIDE, *OUTSIDE)!r}:
    module = importlib.import_module(name)
    inside = module.__file__.startswith(sys.prefix)
    told[name] = [getattr(module, "__version__", ""), inside]
print(json.dumps(told))
"""
EXPLORE = """
import torch
from labdiff.plotting import explore, show

def picture(t):
    show(torch.full((2, 1, 8, 8), t / 10))

explore(picture, t=range(10))
"""


@pytest.fixture(scope="session")
def colab_python(pytestconfig: pytest.Config) -> Path:
    """The interpreter of the environment, made once and kept in pytest's cache."""
    outside = [str(Path(labdiff.__file__).parents[1]), *(p for p in sys.path if p.endswith("-packages"))]
    recipe = "\n".join([PACKAGES.read_text(encoding="utf-8"), json.dumps(PINNED), sys.version, sys.prefix, *outside])
    folder = pytestconfig.cache.mkdir("colab") / hashlib.sha256(recipe.encode()).hexdigest()[:12]
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install(python)
        ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        own = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
        # A .pth file appends to the path, so that the environment's own packages are found first.
        (own / "outside.pth").write_text("\n".join(outside) + "\n", encoding="utf-8")
        (folder / "complete").touch()
    return python


def install(python: Path) -> None:
    """Install Colab's Jupyter, or skip where packages cannot be had."""
    wanted = [f"{name.lower()}=={version}" for name, version in PINNED.items()]
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    # Alone first: with what they need, pip calls a package that it cannot reach a conflict of versions.
    alone = subprocess.run([*command, "--no-deps", *wanted], capture_output=True, text=True)
    if alone.returncode != 0:
        why = (alone.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        pytest.skip(f"Colab's Jupyter packages cannot be downloaded here: {why}")
    done = subprocess.run([*command, "--constraint", str(PACKAGES), *wanted], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"Colab's Jupyter cannot be installed:\n{done.stderr}")


@pytest.fixture
def run(colab_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run cells in one new kernel of the environment; returns them with their outputs."""
    from nbclient import NotebookClient

    spec = {
        "argv": [str(colab_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Colab",
        "language": "python",
        "env": {
            "PYTHONPATH": "",
            "IPYTHONDIR": str(tmp_path / "ipython"),  # nobody's own startup files
            "LABDIFF_DATA": "offline",
            "OMP_NUM_THREADS": "1",
        },
    }
    file = tmp_path / "kernels" / "colab" / "kernel.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))

    def run_cells(sources: Iterable[str]) -> list[NotebookNode]:
        notebook = new_notebook(cells=[new_code_cell(text) for text in sources])
        resources = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(notebook, kernel_name="colab", timeout=120, resources=resources).execute()
        return notebook.cells

    return run_cells


def correction_of(lab: str) -> NotebookNode:
    return nbformat.read(ROOT / "solutions" / lab / f"{lab}.ipynb", as_version=4)


def notebook_of(lab: str) -> NotebookNode:
    return nbformat.read(ROOT / "notebooks" / lab / f"{lab}.ipynb", as_version=4)


def filled(lab: str) -> NotebookNode:
    """A student's notebook with the reference's answers in place of the stubs."""
    cells = [cell for cell in correction_of(lab).cells if "nbgrader" in cell.metadata]
    return source.fill(notebook_of(lab), {c.metadata.nbgrader.grade_id: source.without_marks(c.source) for c in cells})


def without_demonstrations(notebook: NotebookNode) -> list[str]:
    """The code of imports, definitions, answers and checks."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [c.source for c in code if "nbgrader" in c.metadata or only_defines(c.source)]


def data(cell: NotebookNode) -> list[NotebookNode]:
    """The display bundles among a cell's outputs."""
    return [output.data for output in cell.outputs if "data" in output]


def verdicts(cells: list[NotebookNode]) -> dict[str, str]:
    """Exercise -> status of every verdict shown."""
    shown = [bundle[MIME] for cell in cells for bundle in data(cell) if MIME in bundle]
    return {verdict["exercise"]: verdict["status"] for verdict in shown}


def test_the_kernel_has_colabs_jupyter_and_the_packages_under_test(run):
    (cell,) = run([WHERE])
    told = json.loads(cell.outputs[0].text)
    assert {name: told[name] for name in PINNED} == {name: [version, True] for name, version in PINNED.items()}
    assert all(told[name][1] for name in ALSO_INSIDE)
    assert not any(told[name][1] for name in OUTSIDE)


@pytest.mark.parametrize("lab", exercises.LABS)
def test_every_check_says_not_done_of_a_stub_and_right_of_the_reference(run, lab):
    names = exercises.lab(lab).exercises
    stubs, answers = without_demonstrations(notebook_of(lab)), without_demonstrations(filled(lab))
    cells = run([*stubs, *answers])
    assert verdicts(cells[: len(stubs)]) == dict.fromkeys(names, "not done")
    assert verdicts(cells[len(stubs) :]) == dict.fromkeys(names, "right")


def test_a_verdict_comes_as_html_and_as_text_too(run):
    cells = run(["from labdiff import check", "def snr(alphas_cumprod):\n    return 1", "check(snr)"])
    (bundle,) = data(cells[-1])
    assert 'data-status="wrong"' in bundle["text/html"]
    assert "not right yet" in bundle["text/plain"]


def test_hints_are_displayed_one_after_another(run):
    ask = "hint(q_sample)"
    stub = "def q_sample(x_0, abar_t, noise):\n    raise NotImplementedError"
    cells = run(["from labdiff import hint", stub, ask, ask])
    shown = [data(cell)[0] for cell in cells[2:]]
    assert [bundle["text/plain"].startswith(f"Hint {n} of 3") for n, bundle in enumerate(shown, 1)] == [True, True]
    assert all("text/html" in bundle for bundle in shown)


def test_explore_shows_plain_figures_and_a_slider(run):
    (cell,) = run([EXPLORE])
    bundles = data(cell)
    assert sum("image/png" in bundle for bundle in bundles) == 3
    assert sum(WIDGET in bundle for bundle in bundles) == 1
    assert not any(output.get("name") == "stderr" for output in cell.outputs)


def test_the_canvas_runs_on_the_jupyter_of_colab(run):
    """In its ipywidgets, and through a stand-in for the module that only Colab has."""
    stand_in = """\
import sys, types
called = {}
output = sys.modules["google.colab.output"] = types.ModuleType("google.colab.output")
output.register_callback = called.__setitem__
sys.modules["google.colab"] = types.ModuleType("google.colab")
pad = scribble()
((name, callback),) = called.items()
print(callback("[[[1, 2], [30, 40]]]"), pad.drawn, name)"""
    first, second = run(["from labdiff.canvas import scribble\nscribble();", stand_in])
    assert sum(WIDGET in bundle for bundle in data(first)) == 1
    assert sum("<canvas" in bundle.get("text/html", "") for bundle in data(first)) == 1
    assert not any(WIDGET in bundle for bundle in data(second))
    (said,) = (output.text for output in second.outputs if output.output_type == "stream")
    assert "Python has 1 stroke." in said
    assert said.split()[-1] in data(second)[0]["text/html"]
