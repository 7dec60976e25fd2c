"""`labdiff release`: what a class gets of a lab, as one zip.

In it lie the notebook, a wheel of labdiff and a README. The notebook's first cell installs the wheel, from the zip or
from beside the notebook, so nothing is fetched from a repository. The checkpoints travel inside the wheel, so that in
Colab there is one file to upload. A wheel is made for one lab and serves those before it too, whose right answers it
holds, because the lab builds on them. Of the lab itself and of later ones it holds none.
"""

from __future__ import annotations

import ast
import base64
import copy
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import nbformat
import torch
from nbformat import NotebookNode

from labdiff import checkpoints, exercises
from labdiff.checkpoints import CheckpointError
from labdiff.errors import ReleaseError
from labdiff.exercises.names import LABS
from labdiff.files import PACKAGE
from labdiff.grading.submission.release import released

SOME = ("pictures", "canvas")  # modules that only some labs use
CODE = ("__init__.py", "checkpoints.py", "data.py", "metrics.py", "plotting.py", "offline_digits.npz")
# a checkpoint, and the module that a notebook imports (from) where it uses it; `draw` needs none here, see DRAW.
# Others go along where a notebook names them.
CHECKPOINTS = {"model": "labdiff.checkpoints", "judge": "labdiff.metrics"}
DRAWN = "labdiff.checkpoints.draw"
REFERENCE = "labdiff.reference"
SAMPLER = "lab4_sampling"
BORROWED = {f"{REFERENCE}.{SAMPLER}.{name}" for name in ("ddim_sample", "ddim_timesteps", "make_denoiser")}
STEPS = (1000, 20)  # of which T, and how many, the borrowed sampler takes
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the date of every file, so that the same release has the same bytes

FIRST_CELL = '''\
# Installs labdiff where this lab's is missing, from {lab}.zip or the .whl file in it, and otherwise does nothing.
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

WHEEL = "{wheel}"


def wheel_is_here():
    """Whether the wheel lies beside this notebook, taken out of a zip if need be."""
    for file in Path().glob("*.zip"):
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                if WHEEL in archive.namelist():
                    archive.extract(WHEEL)
    return Path(WHEEL).exists()


found = importlib.util.find_spec("labdiff")
if not (found and found.origin and Path(found.origin).with_name("exercises").joinpath("{lab}.py").exists()):
    if not wheel_is_here() and "google.colab" in sys.modules:
        from google.colab import files

        print("Choose {name}.zip, or the .whl file in it.")
        files.upload()
    if not wheel_is_here():
        raise FileNotFoundError(f"Put {name}.zip into {{Path().resolve()}} and run this cell again.")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", WHEEL]
    subprocess.check_call(command)
    importlib.invalidate_caches()'''

README = """\
{title}

In this zip
    {notebook}
        the lab
    {wheel}
        labdiff, the code of the course, {megabytes:.0f} MB; the notebook's first cell installs it

In Colab
    1. Take {notebook} out of the zip.
    2. At https://colab.research.google.com choose File, Upload notebook, and that file.
    3. Run the first cell. It asks for a file: choose {name}.zip, and wait until it is uploaded.
    Colab forgets the package after a while; the first cell then asks for the zip again.

In JupyterLab
    1. Unpack the zip into a folder.
    2. In a terminal in that folder: jupyter lab {notebook}
       (If there is no JupyterLab: pip install jupyterlab)
    3. Run the first cell. It installs labdiff and, where they are missing, PyTorch and Matplotlib.

By hand, where the first cell does not do it (in Colab with an exclamation mark before it, in a cell):
    pip install "{wheel}"
If you were given a new zip of a lab that you have begun:
    pip install --force-reinstall --no-deps "{wheel}"

MNIST is downloaded at its first use. Without a network the lab uses digits that come with labdiff.
"""

# Each of these is put at the end of a module, where it takes the place of what stands above it.
ONLY_THESE = """

LABS = {labs!r}  # those that this package is made for
"""
DRAW = '''

def draw(n: int, steps: int = 20, eta: float = 1.0, seed: int = 0, size: int = 28) -> torch.Tensor:
    """Digits that the network of model.ckpt drew beforehand: to draw new ones takes the answers of all labs.

    n: how many. seed: which ones. steps, eta and size change nothing here.
    Returns (n, 1, 28, 28), float32 in [-1, 1].
    """
    from labdiff.data import offline_digits

    images, _ = offline_digits()
    return images[torch.randint(len(images), (n,), generator=torch.Generator().manual_seed(seed))]
'''
# A whole step of DDIM with eta = 0 is linear in the image and in the network's v, as long as nothing is clamped.
# Its two numbers are worked out here, so that no formula that a lab asks for goes out.
SAMPLER_CODE = '''\
"""In place of the answers of {lab}, which this package does not hold: enough to draw digits with a network."""

import torch

# a timestep, and how much of the image and of the network's output makes the image of the next one
STEPS = (
{steps}
)


def make_denoiser(network, alphas_cumprod):
    """The network as it is; `ddim_sample` takes it so."""
    return network


def ddim_timesteps(T, n):
    """The timesteps of STEPS. Raises ValueError where others are asked for."""
    if (T, n) != {asked}:
        raise ValueError("This package draws in {asked[1]} steps of {asked[0]}; {lab} builds what draws in others.")
    return [t for t, _, _ in STEPS]


def ddim_sample(network, x_T, timesteps, alphas_cumprod):
    """Walk from noise x_T (B, C, H, W) to images in [-1, 1], by the numbers of STEPS."""
    x = x_T
    for t, image, output in STEPS:
        x = image * x + output * network(x, torch.full((len(x),), t, device=x.device))  # (B, C, H, W)
    return x.clamp(-1, 1)
'''


def pack_release(lab: str, to: Path | None = None, *, correction: bool = False, overwrite: bool = False) -> Path:
    """Pack a lab for a class: one zip that opens in Colab and in JupyterLab. The same release has the same bytes.

    lab: its name. to: the file, or a folder that is there; ./<lab>.zip unless given. correction: the
    executed notebook with the right answers, as <lab>_correction, in place of the student's. overwrite: replace
    a file of other content; one of the same content is left as it is.

    Returns the file. Raises ReleaseError where there is no such lab, where the correction or another
    part is missing, where a file of other content is in the way, and where it cannot be written.
    """
    try:
        title = exercises.lab(lab).title
    except KeyError as error:
        raise ReleaseError(error.args[0]) from error
    name = f"{lab}_correction" if correction else lab
    try:
        source = _correction(lab) if correction else released(lab).notebook
        wheel, package = _wheel(lab)
    except (OSError, CheckpointError) as error:
        raise ReleaseError(str(error)) from error
    notebook = nbformat.writes(_with_first_cell(source, FIRST_CELL.format(lab=lab, name=name, wheel=wheel)))
    about = {"title": f"{lab}: {title}", "name": name, "notebook": f"{name}.ipynb", "wheel": wheel}
    readme = README.format(**about, megabytes=len(package) / 1e6)
    content = _zip({"README.txt": readme, f"{name}.ipynb": notebook + "\n", wheel: package})
    file = Path(to or ".")
    file = file / f"{name}.zip" if file.is_dir() else file
    _write(file, content, overwrite)
    return file


def _write(file: Path, content: bytes, overwrite: bool) -> None:
    """Write a file whole or not at all."""
    try:
        if file.exists():
            if file.read_bytes() == content:
                return
            if not overwrite:
                raise ReleaseError(f"{file} is there already with other content: choose another name, or overwrite it.")
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(file.name + ".partial")
        temporary.write_bytes(content)
        os.replace(temporary, file)
    except OSError as error:
        raise ReleaseError(f"{file} cannot be written: {error.strerror}.") from error


# --- the notebook -----------------------------------------------------------------------------


def _correction(lab: str) -> NotebookNode:
    for root in (PACKAGE.parent, Path.cwd()):
        file = root / "solutions" / lab / f"{lab}.ipynb"
        if file.exists():
            return nbformat.read(file, as_version=4)
    raise ReleaseError(
        f"The correction of {lab} is not here: run this in a copy of the repository, which holds it in solutions/."
    )


def _with_first_cell(notebook: NotebookNode, first: str) -> NotebookNode:
    """A copy of a notebook that installs the wheel, without the link to a repository that may not exist."""
    made = copy.deepcopy(notebook)
    installs = [c for c in made.cells if c.cell_type == "code" and 'find_spec("labdiff")' in c.source]
    if len(installs) != 1:
        raise ReleaseError("The lab's notebook has no cell that installs labdiff: run `labdiff build`.")
    installs[0].source = first
    made.cells[0].source = re.sub(r"\n*\[Open in Colab\]\([^)]*\)", "", made.cells[0].source)
    return made


def _code(lab: str) -> list[ast.AST]:
    """The nodes of all code of a lab's notebook."""
    cells = released(lab).notebook.cells
    return [node for cell in cells if cell.cell_type == "code" for node in ast.walk(ast.parse(cell.source))]


def _texts(lab: str) -> set[str]:
    """The texts that stand in the code of a lab's notebook."""
    return {n.value for n in _code(lab) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def _imports(lab: str) -> set[str]:
    """The dotted names that a lab's notebook imports."""
    names: set[str] = set()
    for node in _code(lab):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


# --- the wheel --------------------------------------------------------------------------------


def _wheel(lab: str) -> tuple[str, bytes]:
    """The name and the bytes of a lab's wheel. Raises ReleaseError, CheckpointError or OSError: a part is missing."""
    about = _installed()
    # a version of its own, so that pip replaces the package of an earlier lab by this one
    version = f"{about.version}+{lab.replace('_', '.')}"
    info = f"labdiff-{version}.dist-info"
    members: dict[str, str | bytes] = {**_package(lab)}
    members[f"{info}/METADATA"] = _metadata(about, version)
    members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: labdiff\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members[f"{info}/licenses/LICENSE"] = about.read_text("licenses/LICENSE") or ""
    record = "".join(f"{name},{_digest(data)},{len(_bytes(data))}\n" for name, data in sorted(members.items()))
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    return f"labdiff-{version}-py3-none-any.whl", _zip(members)


def _installed() -> metadata.Distribution:
    try:
        return metadata.distribution("labdiff")
    except metadata.PackageNotFoundError as error:
        raise ReleaseError("labdiff is not installed here, so what it requires is not known: install it.") from error


def _metadata(about: metadata.Distribution, version: str) -> str:
    """What pip reads: who this is, and what a student needs, which is what no extra asks for."""
    lines = ["Metadata-Version: 2.1", "Name: labdiff", f"Version: {version}"]
    lines += [f"Summary: {about.metadata['Summary']}", "License: MIT"]
    lines += [f"Requires-Python: {about.metadata['Requires-Python']}"]
    lines += [f"Requires-Dist: {wanted}" for wanted in about.requires or () if "extra ==" not in wanted]
    return "\n".join([*lines, ""])


def _package(lab: str) -> dict[str, bytes]:
    """The files of a lab's package: place in the wheel -> content."""
    labs = LABS[: LABS.index(lab) + 1]
    used = set().union(*map(_imports, labs))
    names = [*CODE, "exercises/__init__.py", "reference/__init__.py"]
    names += [f"{name}.py" for name in SOME if any(f"{each}.".startswith(f"labdiff.{name}.") for each in used)]
    names += [f"checking/{file.name}" for file in (PACKAGE / "checking").glob("*.py")]
    names += [f"checking/golden/{each}.npz" for each in labs]
    names += [f"exercises/{each}.py" for each in labs]
    names += [f"reference/{each}.py" for each in labs[:-1]]
    files = {f"labdiff/{name}": (PACKAGE / name).read_bytes() for name in names}
    named = set().union(*map(_texts, labs))
    for name in sorted(file.stem for file in checkpoints.path("model").parent.glob("*.ckpt")):
        module = CHECKPOINTS.get(name)
        if any(f"{each}.".startswith(f"{module}.") for each in used - {DRAWN}) if module else name in named:
            files[f"labdiff/shipped/{name}.ckpt"] = checkpoints.path(name).read_bytes()
    files["labdiff/checkpoints.py"] += DRAW.encode()
    files["labdiff/exercises/__init__.py"] += ONLY_THESE.format(labs=labs).encode()
    if _borrows(used, labs[:-1]):
        files[f"labdiff/reference/{SAMPLER}.py"] = _sampler().encode()
    return files


def _borrows(used: Iterable[str], earlier: tuple[str, ...]) -> bool:
    """Whether notebooks use answers that a package does not hold. Raises ReleaseError where nothing stands in."""
    held = tuple(f"{REFERENCE}.{each}." for each in earlier)
    borrowed = {name for name in used if name.startswith(f"{REFERENCE}.") and not name.startswith(held)}
    if borrowed - BORROWED:
        raise ReleaseError(
            f"The notebook imports {', '.join(sorted(borrowed - BORROWED))}, which its class is still to write: "
            "take the import out of the lab."
        )
    return bool(borrowed)


def _sampler() -> str:
    """The module that draws digits in place of lab 4's answers."""
    from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas
    from labdiff.reference.lab3_training import x0_from_v
    from labdiff.reference.lab4_sampling import ddim_step, ddim_timesteps

    one, none = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    alphas_cumprod = compute_alphas_cumprod(cosine_betas(STEPS[0])).double()
    timesteps = ddim_timesteps(*STEPS)
    lines = []
    for t, before in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t, abar_prev = alphas_cumprod[t] * one, one if before is None else alphas_cumprod[before] * one
        image, output = (
            float(ddim_step(x, x0_from_v(x, v, abar_t), abar_t, abar_prev, none, none))
            for x, v in ((one, none), (none, one))
        )
        lines.append(f"    ({t}, {image:.5f}, {output:.5f}),")
    return SAMPLER_CODE.format(lab=SAMPLER, steps="\n".join(lines), asked=STEPS)


# --- zips -------------------------------------------------------------------------------------


def _zip(members: dict[str, str | bytes]) -> bytes:
    """Files as a zip, whose bytes depend on nothing else."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(members.items()):
            about = zipfile.ZipInfo(name, LONG_AGO)
            about.compress_type, about.external_attr, about.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
            archive.writestr(about, _bytes(data))
    return made.getvalue()


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _digest(data: str | bytes) -> str:
    """A hash as a wheel's RECORD spells it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(_bytes(data)).digest()).rstrip(b"=").decode()
