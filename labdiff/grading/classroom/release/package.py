"""The files of labdiff that a lab's class gets, found by following what its notebooks import."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from labdiff import manifest
from labdiff.checking import golden
from labdiff.errors import ReleaseError
from labdiff.grading.submission.release import released

SAMPLER = Path(__file__).with_name("sampler.py")
IN_PLACE_OF = f"{manifest.ANSWERS}.lab4_sampling"
LENT = {f"{IN_PLACE_OF}.{name}" for name in ("ddim_sample", "ddim_timesteps", "make_denoiser")}
STEPS = (1000, 20)  # of which T, and how many, the sampler takes


def package(lab: str) -> dict[str, bytes]:
    """The files of a lab's package: place in the wheel -> content.

    Raises UnknownName, FileError, ReleaseError where a notebook imports what its class is still to write, and OSError.
    """
    labs = manifest.up_to(lab)
    files = manifest.of_student(lab).files | {f"checking/golden/{each}.npz": golden.path(each) for each in labs}
    held = {f"labdiff/{place}": file.read_bytes() for place, file in files.items()}
    return held | (_sampler() if _borrows(labs) else {})


def _borrows(labs: Sequence[str]) -> bool:
    """Whether the notebooks of labs use answers of the last of them, or of later ones, that the sampler stands in for.

    Raises ReleaseError where they use others.
    """
    held = tuple(f"{manifest.ANSWERS}.{each}." for each in labs[:-1])
    used = {name for each in labs for name in _imports(each) if name.startswith(f"{manifest.ANSWERS}.")}
    borrowed = {name for name in used if not name.startswith(held)}
    if borrowed - LENT:
        raise ReleaseError(
            f"The notebook imports {', '.join(sorted(borrowed - LENT))}, which its class is still to write: "
            "take the import out of the lab."
        )
    return bool(borrowed)


def _imports(lab: str) -> Iterator[str]:
    """The dotted names that a lab's notebook imports."""
    for cell in released(lab).notebook.cells:
        for node in ast.walk(ast.parse(cell.source)) if cell.cell_type == "code" else ():
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _sampler() -> dict[str, bytes]:
    """What draws digits in place of lab 4's answers, and the numbers of its steps."""
    from labdiff.reference.lab1_forward import compute_alphas_cumprod, cosine_betas
    from labdiff.reference.lab3_training import x0_from_v
    from labdiff.reference.lab4_sampling import ddim_step, ddim_timesteps

    one, none = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    alphas_cumprod = compute_alphas_cumprod(cosine_betas(STEPS[0])).double()
    timesteps = ddim_timesteps(*STEPS)
    steps = []
    for t, before in zip(timesteps, [*timesteps[1:], None], strict=True):
        abar_t, abar_prev = alphas_cumprod[t] * one, one if before is None else alphas_cumprod[before] * one
        share = [
            round(float(ddim_step(x, x0_from_v(x, v, abar_t), abar_t, abar_prev, none, none)), 5)
            for x, v in ((one, none), (none, one))  # of the image, of the network's output
        ]
        steps.append([t, *share])
    place = IN_PLACE_OF.replace(".", "/")
    numbers = json.dumps({"T": STEPS[0], "steps": steps}).encode()
    return {f"{place}.py": SAMPLER.read_bytes(), f"{place}.json": numbers}
