"""Stock nbgrader on the cheats, each in a box of its own: what it gave is kept in tests/cheats/stock_nbgrader.json.

`pytest -m stock` measures it anew, which takes half an hour: once for each release of nbgrader is enough.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cheating import CHEATS, LAB, MARKED, MOST, PORT, RIGHT, WRONG, Cheat, answered, text, with_answer
from nbformat.v4 import new_code_cell
from nbgrader.api import Gradebook
from support import ROOT

from labdiff.grading.sandbox import host as sandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.stock]
KEPT = ROOT / "tests" / "cheats" / "stock_nbgrader.json"
MEASURED: dict[str, float | None] = {}

TESTS = {
    "extract": """
values, t, x = torch.rand(10), torch.randint(0, 10, (4,)), torch.rand(4, 1, 8, 8)
assert torch.allclose(extract(values, t, x), values[t].reshape(4, 1, 1, 1))""",
    "q_sample": """
x_0, abar_t, noise = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 1, 1), torch.randn(3, 1, 8, 8)
assert torch.allclose(q_sample(x_0, abar_t, noise), abar_t.sqrt() * x_0 + (1 - abar_t).sqrt() * noise)""",
    "posterior_mean": """
x_0, x_t = torch.rand(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
beta_t, abar_prev = torch.rand(3, 1, 1, 1), torch.rand(3, 1, 1, 1)
abar_t = (1 - beta_t) * abar_prev
wanted = (abar_prev.sqrt() * beta_t * x_0 + (1 - beta_t).sqrt() * (1 - abar_prev) * x_t) / (1 - abar_t)
assert torch.allclose(posterior_mean(x_0, x_t, beta_t, abar_t, abar_prev), wanted)""",
}
CONFIG = b"c = get_config()\nc.Execute.timeout = 10\n"


def source() -> bytes:
    """The three exercises as an instructor writes them for nbgrader: a solution, and hidden tests with the formula."""
    cells = [new_code_cell("import torch")]
    for name, answer in RIGHT.items():
        told, _, solved = answer.rpartition('"""\n')
        cells.append(with_answer(name, f'{told}"""\n    ### BEGIN SOLUTION\n{solved}\n    ### END SOLUTION'))
        cells.append(copy.deepcopy(MARKED[f"check-{name}"]))
        cells[-1].source = f"### BEGIN HIDDEN TESTS{TESTS[name]}\n### END HIDDEN TESTS"
    return text(cells)


def packed(course: bytes, files: dict[str, bytes], links: dict[str, str] | None = None, pipe: str = "") -> bytes:
    """An archive with more files in it."""
    archive = io.BytesIO(course)
    with tarfile.open(fileobj=archive, mode="a" if course else "w") as course_archive:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            course_archive.addfile(about, io.BytesIO(data))
        for name, kind, target in [
            *((name, tarfile.SYMTYPE, target) for name, target in (links or {}).items()),
            *([(pipe, tarfile.FIFOTYPE, "")] if pipe else []),
        ]:
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, target
            course_archive.addfile(about)
    return archive.getvalue()


def in_a_box(course: bytes, command: str, result: str, patience: float = 60) -> bytes:
    """Run a command on a course in a bubblewrap of its own, and bring its exit status and a result out.

    The box has no network, sees programs and Python, and has a /tmp in memory, into which the
    course comes as an archive.
    """
    environment = {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    # first, since Python itself may lie in a folder below /tmp
    view = ["--size", str(256 << 20), "--tmpfs", "/tmp", "--dev", "/dev", "--proc", "/proc"]
    for place in dict.fromkeys(["/usr", "/bin", "/lib", "/lib64", sys.base_prefix, sys.prefix]):
        if os.path.lexists(place):
            view += ["--symlink", os.readlink(place), place] if os.path.islink(place) else ["--ro-bind", place, place]
    # jsonschema spends a second on this package wherever it finds it
    slow = importlib.util.find_spec("rfc3987_syntax")
    view += ["--tmpfs", str(Path(slow.origin).parent)] if slow and slow.origin else []
    view += ["--chdir", "/tmp", "--remount-ro", "/"]
    script = [
        "ulimit -c 0 -d 2097152 -f 65536 -u 128",
        "mkdir course && tar -x -C course && cd course",
        f"{command} > /tmp/log 2>&1 < /dev/null",
        "echo $?",
        "set -- /proc/[0-9]*; [ $# -gt 1 ] && sleep 1",  # for what a cheat has left running
        result,
    ]
    ours = sandbox._way()
    box = ours.words if ours.where == "once" else [*sandbox.CONFINED, *sandbox.OWN_USER, "--disable-userns"]
    words = ["bwrap", *box, *view, *sandbox._environment(environment), "--", "/bin/bash", "-c", "\n".join(script)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", **ours.user)
    try:
        return process.communicate(course, timeout=patience)[0]
    except subprocess.TimeoutExpired:
        return b""
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def course() -> bytes:
    """A course as it is when the submissions come in, among them the right one of another student."""
    files = {f"source/{LAB}/{LAB}.ipynb": source(), "nbgrader_config.py": CONFIG}
    status, _, made = in_a_box(packed(b"", files), f"nbgrader generate_assignment {LAB}", "tar -c .").partition(b"\n")
    assert status == b"0"
    return packed(made, {f"submitted/ada/{LAB}/{LAB}.ipynb": answered(RIGHT)})


def stock_score(course: bytes, cheat: Cheat, folder: Path) -> float | None:
    """What stock nbgrader enters into the gradebook; None where it ends without a mark."""
    name = f"submitted/eve/{LAB}/{LAB}.ipynb"
    if cheat.kind == "link":
        course = packed(course, {}, links={name: f"/tmp/course/source/{LAB}/{LAB}.ipynb"})
    elif cheat.kind == "pipe":
        course = packed(course, {}, pipe=name)
    else:
        course = packed(course, {name: cheat.data})
    command = f"nbgrader autograde {LAB} --student eve"
    if str(PORT).encode() in cheat.data:
        course = packed(course, {"friend/answers.py": "\n\n".join(RIGHT.values()).encode()})
        command = f"python -m http.server {PORT} -b 127.0.0.1 -d friend > /dev/null 2>&1 & {command}"
    status, _, gradebook = in_a_box(course, command, "cat gradebook.db", cheat.patience).partition(b"\n")
    file = folder / "gradebook.db"
    file.write_bytes(gradebook)
    try:
        with Gradebook(f"sqlite:///{file}") as book:
            score = book.find_submission(LAB, "eve").score
    except Exception:  # whatever a broken gradebook leads to
        score = 0.0
    return score if score or status == b"0" else None


def test_stock_nbgrader_marks_right_and_wrong_answers_rightly(course, tmp_path):
    assert stock_score(course, Cheat("right", "", MOST, answered(RIGHT)), tmp_path) == MOST
    assert stock_score(course, Cheat("wrong", "", 0, answered(WRONG)), tmp_path) == 0


@pytest.mark.parametrize("cheat", CHEATS, ids=[cheat.name for cheat in CHEATS])
def test_stock_nbgrader_is_tried_on_a_cheat(cheat, course, tmp_path):
    MEASURED[cheat.name] = stock_score(course, cheat, tmp_path)


def test_what_stock_nbgrader_gives_is_what_was_kept():
    if len(MEASURED) < len(CHEATS):
        pytest.skip("not all cheats were graded in this run")
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    measured = {"nbgrader": importlib.metadata.version("nbgrader"), "marks": MEASURED}
    other = [name for name, marks in MEASURED.items() if kept["marks"].get(name, -1) != marks]
    # how it ends under an attack can depend on who comes first, so a few of its marks may differ
    same = len(other) <= 5 and kept["nbgrader"] == measured["nbgrader"]
    assert same, f"{other} differ; what belongs into {KEPT}:\n{json.dumps(measured, indent=2)}"
