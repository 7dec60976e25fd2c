"""Attacks on a grader, one file each in tests/cheats: none earns more than its answers are worth, none leaves a trace.

Beside our marks stand those of stock nbgrader for the same submissions, which test_stock_nbgrader.py measures.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from cheating import (
    CHEATS,
    HARD_TO_READ,
    LAB,
    MARK,
    MOST,
    PORT,
    RIGHT,
    SEED,
    WRONG,
    Cheat,
    answered,
)
from support import ROOT

from labdiff import exercises
from labdiff.errors import Unreadable
from labdiff.files import PACKAGE
from labdiff.grading.doors.nbgrader import page
from labdiff.grading.grade import grade
from labdiff.grading.report import Report
from labdiff.grading.sandbox import host as sandbox
from labdiff.grading.sandbox import view
from labdiff.grading.sandbox.limits import Limits
from labdiff.grading.submission.mend import mend
from labdiff.grading.submission.program import program
from labdiff.grading.submission.read import read_cells

EACH = pytest.mark.parametrize("cheat", CHEATS, ids=[cheat.name for cheat in CHEATS])
SCORES: dict[str, str] = {}  # what labdiff gave
STOCK = json.loads((ROOT / "tests" / "cheats" / "stock_nbgrader.json").read_text(encoding="utf-8"))


def test_cheats_have_a_name_of_their_own_and_say_in_one_short_sentence_what_they_try():
    assert len({cheat.name for cheat in CHEATS}) == len(CHEATS) >= 34
    for cheat in CHEATS:
        assert 10 < len(cheat.tries) <= 90 and "|" not in cheat.tries and cheat.tries[0].isupper(), cheat.tries


@pytest.mark.parametrize("kind", ["code", "markdown"])
@pytest.mark.parametrize("source", HARD_TO_READ.values(), ids=HARD_TO_READ)
def test_no_cell_stops_or_stalls_the_reading(source, kind):
    notebook = json.loads(answered(WRONG))
    notebook["cells"] += [{"cell_type": kind, "metadata": {}, "source": source}] * 5
    with within(10), contextlib.suppress(Unreadable):
        program(mend(read_cells(notebook), exercises.lab(LAB)), exercises.lab(LAB))


def test_cells_that_seem_to_be_cut_do_not_stall_the_reading():
    notebook = json.loads(answered(WRONG))
    notebook["cells"] += [{"cell_type": "code", "metadata": {}, "source": "    x = 1\n" * 100}] * 2_500
    with within(10), contextlib.suppress(Unreadable):
        program(mend(read_cells(notebook), exercises.lab(LAB)), exercises.lab(LAB))


# --- graded by labdiff ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked() -> Iterator[list[str]]:
    """What a server on loopback was asked for, which gives the right answers to everybody."""
    said: list[str] = []

    class Friend(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write("\n\n".join(RIGHT.values()).encode())

        def log_message(self, *about: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Friend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield said
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def adopting() -> Iterator[None]:
    """Whatever process outlives its parents becomes a child of this one, where it can be seen."""
    libc, subreaper = ctypes.CDLL(None), 36  # prctl(2)
    libc.prctl(subreaper, 1, 0, 0, 0)
    yield
    libc.prctl(subreaper, 0, 0, 0, 0)


def below() -> set[int]:
    """The living processes below this one, but for the sandbox that waits for the next submission: two processes."""
    found = set()
    waiting = [each.process.pid for each in sandbox._idle]
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            ours = process.pid in waiting or (process.ppid() in waiting and process.cmdline()[-1] == "namespaces")
            if process.status() != psutil.STATUS_ZOMBIE and not ours:
                found.add(process.pid)
    return found


def left_running(before: set[int]) -> set[int]:
    """The processes that are still there a while after the run; the kernel needs a moment to end a sandbox."""
    until = time.monotonic() + 5
    while (more := below() - before) and time.monotonic() < until:
        time.sleep(0.02)
    return more


def left_lying() -> list[Path]:
    """The files with a cheat's mark, in name or text, where cheats try to put them."""
    sites = [Path(site) for site in view.site_folders()]
    homes = [Path.home(), Path.cwd(), Path("/"), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
    marked = [file for folder in (ROOT, PACKAGE, *sites, *homes) for file in folder.glob(f"{MARK}*")]
    code = [*PACKAGE.rglob("*.py"), *(site / "sitecustomize.py" for site in sites)]
    code += [Path(sys.modules[name].__file__) for name in ("os", "numpy", "torch", "nbformat")]
    return marked + [file for file in code if file.exists() and MARK in file.read_text(encoding="utf-8")]


class TooSlow(BaseException):
    """Raised by the clock, and caught by nobody on its way."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails the test where something computes for longer, or hangs; on Windows it may take as long as it wants."""
    if not hasattr(signal, "SIGPROF"):
        yield
        return

    def ring(*about: Any) -> None:
        raise TooSlow

    # the processor's time, since a busy machine must not fail this; what hangs takes none of it
    clocks = ((signal.SIGPROF, signal.ITIMER_PROF, seconds), (signal.SIGALRM, signal.ITIMER_REAL, 10 * seconds))
    slow = False
    before = {sign: signal.signal(sign, ring) for sign, _, _ in clocks}
    for _, timer, patience in clocks:
        signal.setitimer(timer, patience)
    try:
        yield
    except TooSlow:
        slow = True
    finally:
        for sign, timer, _ in clocks:
            signal.setitimer(timer, 0)
            signal.signal(sign, before[sign])
    if slow:
        pytest.fail(f"it computed for more than {seconds} s, or hung", pytrace=False)


def handed_in(cheat: Cheat, folder: Path) -> Path:
    """The file of a cheat."""
    file = folder / f"{LAB}.ipynb"
    if cheat.kind == "link":
        file.symlink_to(ROOT / "solutions" / LAB / f"{LAB}.ipynb")
    elif cheat.kind == "pipe":
        os.mkfifo(file)
    else:
        file.write_bytes(cheat.data)
    return file


def strings(tree: Any) -> list[str]:
    """All texts in a tree of dictionaries and lists."""
    if isinstance(tree, dict):
        return [found for item in tree.values() for found in strings(item)]
    if isinstance(tree, list):
        return [found for item in tree for found in strings(item)]
    return [tree] if isinstance(tree, str) else []


@functools.cache
def secrets() -> set[str]:
    """The lines of the right answers that do work, without their comments."""
    tree = ast.parse((PACKAGE / "reference" / f"{LAB}.py").read_text(encoding="utf-8"))
    answers = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    written = [ast.unparse(line) for answer in answers for line in answer.body[1:]]
    return {line.removeprefix("return ") for line in written if len(line) > 20} | {str(SEED)}


def check_texts(report: Report) -> None:
    """Nothing in a report's texts moves a terminal, fills a screen, is markup in the page, or is a right answer."""
    said = strings(asdict(report))
    for one in said:
        assert one.isprintable() and len(one) <= 1000, repr(one[:200])
        assert not [secret for secret in secrets() if secret in one]
    assert len(report.to_json()) < 100_000
    for result in report.exercises:
        assert "<script" not in page(result) and "<img" not in page(result)


@pytest.mark.sandbox
@EACH
def test_a_cheat_earns_what_its_answers_are_worth_and_leaves_nothing_behind(cheat, tmp_path, asked, adopting):
    before = below()
    asked.clear()
    with within(30):
        report = grade(handed_in(cheat, tmp_path), LAB, seed=SEED, limits=Limits(cell_seconds=5, exercise_seconds=5))
    SCORES[cheat.name] = f"{report.score:g}"
    assert report.score == cheat.honest
    assert not left_running(before)
    assert not asked
    assert not left_lying()
    check_texts(report)


@pytest.mark.sandbox
def test_what_a_cheat_could_leave_behind_would_be_seen(asked, adopting):
    assert b"def q_sample" in urlopen(f"http://127.0.0.1:{PORT}/answers.py").read()
    assert asked.pop() == "/answers.py"
    before = below()
    started = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    os.fork() or time.sleep(60)"
    subprocess.run([sys.executable, "-c", started], check=True)
    until = time.monotonic() + 5
    while len(left := below() - before) != 1 and time.monotonic() < until:
        time.sleep(0.02)
    (orphan,) = left
    os.kill(orphan, signal.SIGKILL)
    os.waitpid(orphan, 0)
    file = Path.home() / f"{MARK}-test"
    file.touch()
    try:
        assert left_lying() == [file]
    finally:
        file.unlink()


@pytest.mark.sandbox
def test_beside_the_cheats_right_answers_earn_full_marks_and_wrong_ones_none():
    assert grade(answered(RIGHT), LAB).score == MOST
    assert grade(answered(WRONG), LAB).score == 0


# --- the table --------------------------------------------------------------------------------

BEGIN, END = "<!-- cheats -->", "<!-- /cheats -->"


def table(ours: dict[str, str], stock: dict[str, Any]) -> str:
    """All cheats with their marks, as the README beside them shows them."""
    theirs = {name: "none" if marks is None else f"{marks:g}" for name, marks in stock["marks"].items()}
    rows = [f"| {c.name} | {c.tries} | {c.honest:g} | {theirs[c.name]} | {ours[c.name]} |" for c in CHEATS]
    head = f"| cheat | what it tries | its answers are worth | stock nbgrader {stock['nbgrader']} | labdiff |"
    return "\n".join([head, "| --- | --- | --- | --- | --- |", *rows])


def test_the_marks_of_stock_nbgrader_are_kept_for_every_cheat():
    assert [*STOCK["marks"]] == [cheat.name for cheat in CHEATS]


@pytest.mark.sandbox
def test_the_table_beside_the_cheats_is_what_was_measured():
    if any(cheat.name not in SCORES for cheat in CHEATS):
        pytest.skip("not all cheats were graded in this run")
    readme = (ROOT / "tests" / "cheats" / "README.md").read_text(encoding="utf-8")
    assert readme.partition(BEGIN)[2].partition(END)[0].strip() == table(SCORES, STOCK)
