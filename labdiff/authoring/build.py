"""`labdiff build`: from a lab's source to everything that is built from it, and `--check`."""

from __future__ import annotations

import json
import re
import runpy
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbformat import NotebookNode
from tqdm import tqdm

from labdiff import data
from labdiff.authoring import example_class, figures, proofs, source
from labdiff.checking import golden
from labdiff.checking.fingerprint import fingerprint, same_fingerprint, seal
from labdiff.checking.judge import judge
from labdiff.checking.run import Output, run_probe
from labdiff.checking.verdict import RIGHT
from labdiff.errors import SourceError
from labdiff.exercises import Lab
from labdiff.exercises import lab as find_lab
from labdiff.exercises.names import LABS, nearest
from labdiff.files import ROOT
from labdiff.grading.classroom.course import Course

WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass
class Build:
    """One run of the build: what it wrote, or with `check` what it would have written."""

    check: bool = False
    execute: bool = False
    root: Path = ROOT
    stale: list[str] = field(default_factory=list)

    def write(self, file: Path, text: str) -> None:
        """Write a built file, or note that it is stale; the same text changes nothing."""
        if file.exists() and file.read_text(encoding="utf-8") == text:
            return
        self.stale.append(str(file.relative_to(self.root)))
        if not self.check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")


def build(labs: list[str] | None = None, *, check: bool = False, execute: bool = False, root: Path = ROOT) -> Build:
    """Build labs (all, unless told) and return what was stale.

    check: write nothing. execute: run the corrections again even where their outputs are fresh.
    Raises SourceError where a source, a mistake or a variant is not as it must be.
    """
    made = Build(check, execute, root)
    unknown = [name for name in labs or () if name not in LABS]
    if unknown:
        raise SourceError(f"There is no lab called {unknown[0]!r}. {nearest(unknown[0], LABS)}")
    if not (root / "solutions").is_dir():
        raise SourceError(f"There is no folder solutions/ in {root}: run labdiff build in a copy of the repository.")
    if not labs:
        build_drawings(made)
    for name in labs or LABS:
        build_lab(find_lab(name), made)
    return made


def build_drawings(made: Build) -> None:
    """Draw the offline digits and the pictures of the README from the checkpoint."""
    digits = made.root / "labdiff" / data.OFFLINE.name
    if not figures.offline_digits_are_fresh(digits):
        made.stale.append(str(digits.relative_to(made.root)))
        if not made.check:
            figures.save_offline_digits(digits)
    for name in figures.FIGURES:
        file = made.root / "figures" / name
        if not figures.is_fresh(file):
            made.stale.append(str(file.relative_to(made.root)))
            if not made.check:
                figures.save(file)


def build_lab(lab: Lab, made: Build) -> None:
    """Build one lab: correction, student's notebook, reference and golden answers."""
    folder = made.root / "solutions" / lab.name
    notebook = source.correction_of(folder / f"{lab.name}.py", lab, repository(made.root))
    made.write(made.root / "labdiff" / "reference" / f"{lab.name}.py", source.reference(notebook, lab))
    _build_golden(lab, folder, made)
    correction = folder / f"{lab.name}.ipynb"
    _keep_or_make_outputs(notebook, correction, made)
    made.write(correction, example_class.text(notebook))
    student = _student_notebook(lab.name, notebook)
    made.write(made.root / "notebooks" / lab.name / f"{lab.name}.ipynb", example_class.text(student))
    if lab.name == example_class.LAB:
        for name, text in example_class.build(student, notebook, folder, lab).items():
            made.write(made.root / example_class.FOLDER / f"{name}.ipynb", text)


def repository(root: Path) -> str:
    """The repository's address: the one setting is `[project.urls] Repository` in pyproject.toml."""
    found = re.search(r'^Repository\s*=\s*"([^"]+)"', (root / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    if not found:
        raise SourceError("pyproject.toml has no Repository under [project.urls]: the badge needs it.")
    return found.group(1)


# --- outputs ----------------------------------------------------------------------------------


def _keep_or_make_outputs(notebook: NotebookNode, file: Path, made: Build) -> None:
    fresh = source.code_hash(notebook)
    old = nbformat.read(file, as_version=4) if file.exists() else None
    if old and old.metadata.get("labdiff", {}).get("outputs_of") == fresh and not (made.execute and not made.check):
        outputs = [cell for cell in old.cells if cell.cell_type == "code"]
        for cell, before in zip([c for c in notebook.cells if c.cell_type == "code"], outputs, strict=True):
            cell.outputs, cell.execution_count = before.outputs, before.execution_count
    elif made.check:
        made.stale.append(f"{file.relative_to(made.root)} (outputs)")
    else:
        execute(notebook, file.parent)
    notebook.metadata["labdiff"] = {"outputs_of": fresh}


def execute(notebook: NotebookNode, folder: Path, timeout: int = 3600) -> None:
    """Run a notebook top to bottom in a new kernel and keep its outputs. Raises CellExecutionError."""
    metadata = json.loads(json.dumps(notebook.metadata))
    client = NotebookClient(
        notebook,
        timeout=timeout,
        startup_timeout=600,  # a busy machine takes its time
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    code = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=code, desc=f"running {folder.name}", unit="cell") as bar:
        client.on_cell_executed = lambda **_: bar.update()
        client.execute()
    notebook.metadata = nbformat.from_dict(metadata)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        # a slider shows nothing without a kernel; the plain pictures beside it stay
        cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        for output in cell.outputs:
            if output.output_type == "stream":
                # a progress bar writes over itself: keep what stands there in the end
                output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)


# --- the student's notebook -------------------------------------------------------------------


def _student_notebook(lab: str, notebook: NotebookNode) -> NotebookNode:
    """The release that `nbgrader generate_assignment` makes of the correction."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "solutions" / lab / f"{lab}.ipynb"
        place.parent.mkdir(parents=True)
        nbformat.write(notebook, place)
        released: NotebookNode = nbformat.read(Course(Path(folder)).release(lab), as_version=4)
    released.metadata.pop("labdiff", None)
    return released


# --- golden answers ---------------------------------------------------------------------------


def _build_golden(lab: Lab, folder: Path, made: Build) -> None:
    answers = runpy.run_path(str(made.root / "labdiff" / "reference" / f"{lab.name}.py"))
    mistakes = proofs.load(folder / "mistakes.py", "mistake")
    variants = proofs.load(folder / "variants.py", "variant")
    for kind, given in (("mistake", mistakes), ("variant", variants)):
        unknown = sorted(set(given) - set(lab.exercises))
        if unknown:
            raise SourceError(f"{lab.name}: a {kind} answers {', '.join(unknown)}, which is no exercise of this lab.")
    expected: golden.Expected = {}
    prints: golden.Mistakes = {}
    for name, exercise in lab.exercises.items():
        outputs = run_probe(exercise, answers[name], exercise.drawn(golden.SEED))
        for part, output in outputs.items():
            if output.error or output.changed:
                raise SourceError(f"{lab.name}: the reference's {name} fails on {part!r}: {output}")
        expected[name], prints[name] = outputs, {}
        for title, answer in variants.get(name, {}).items():
            verdict = judge(exercise, run_probe(exercise, answer, exercise.drawn(golden.SEED)), outputs)
            if verdict.status != RIGHT:
                raise SourceError(f"{lab.name}: the variant {title} of {name} does not pass: {verdict.parts}")
        wrong_outputs = {}
        for title, answer in mistakes.get(name, {}).items():
            got = wrong_outputs[title] = run_probe(exercise, answer, exercise.drawn(golden.SEED))
            verdict = judge(exercise, got, outputs)
            wrong = [part.name for part in verdict.parts if not part.passed]
            if not wrong:
                raise SourceError(f"{lab.name}: the check of {name} does not catch the mistake {title}.")
            all_prints = fingerprint(got, exercise)
            prints[name][proofs.hint_of(answer)] = {part: all_prints[part] for part in wrong}
        for title, answer in mistakes.get(name, {}).items():
            said = judge(exercise, wrong_outputs[title], outputs, prints[name]).hint
            if said != proofs.hint_of(answer):
                raise SourceError(f"{lab.name}: the mistake {title} of {name} gets another one's hint: {said!r}")
    for name, parts in expected.items():
        for output in parts.values():
            output.texts = {place: seal(lab.exercises[name], text) for place, text in output.texts.items()}
    file = made.root / golden.path(lab.name).relative_to(ROOT)
    if not _same_golden(lab, file, expected, prints):
        made.stale.append(str(file.relative_to(made.root)))
        if not made.check:
            file.parent.mkdir(parents=True, exist_ok=True)
            golden.save(file, expected, prints)


def _same_golden(lab: Lab, file: Path, expected: golden.Expected, mistakes: golden.Mistakes) -> bool:
    """Whether a file holds these golden answers, numbers to tolerance: no two machines round alike."""
    if not file.exists():
        return False
    old_expected, old_mistakes = golden.load(file)
    if [*old_expected] != [*expected] or {k: [*v] for k, v in old_mistakes.items()} != {
        k: [*v] for k, v in mistakes.items()
    }:
        return False
    for name, parts in expected.items():
        if [*old_expected[name]] != [*parts]:
            return False
        if not all(_same_output(old_expected[name][part], output) for part, output in parts.items()):
            return False
        rtol = lab.exercises[name].rtol
        for hint, prints in mistakes[name].items():
            old = old_mistakes[name][hint]
            if [*old] != [*prints] or not all(same_fingerprint(old[p], prints[p], rtol) for p in prints):
                return False
    return True


def _same_output(a: Output, b: Output) -> bool:
    return (
        (a.dtypes, a.texts) == (b.dtypes, b.texts)
        and all(a.arrays[k].shape == b.arrays[k].shape for k in a.arrays)
        and all(np.allclose(a.arrays[k], b.arrays[k], rtol=1e-4, atol=1e-5, equal_nan=True) for k in a.arrays)
    )
