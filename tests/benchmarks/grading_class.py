"""How fast a class is graded on this machine, beside stock nbgrader, and how much memory the head needs.

    python tests/benchmarks/grading_class.py                       # 200 submissions, all graded by stock nbgrader too
    python tests/benchmarks/grading_class.py --stock 40            # a fifth of them by stock nbgrader
    python tests/benchmarks/grading_class.py --memory --size 2000  # the head's memory while a class is graded

The class is made of lab 1's reference, variants and mistakes, drawn for each student and exercise, and of
manglings. CPU seconds are the whole machine's, so nothing else should run. Prints the tables of the README.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mangling import MANGLINGS, SAVINGS
from submissions import right_answers, submission
from support import ROOT, answers

from labdiff import exercises
from labdiff.authoring.proofs import as_answer
from labdiff.grading.classroom import cluster
from labdiff.grading.classroom.course import Course, on_path
from labdiff.grading.classroom.store import Conditions, checks_of
from labdiff.grading.grade import grade
from labdiff.grading.report import CARRIED
from labdiff.grading.submission.mend import mend
from labdiff.grading.submission.program import program
from labdiff.grading.submission.read import read_cells

torch.set_num_threads(1)  # as in the tests and in the sandbox
os.environ |= {"LABDIFF_DATA": "offline", "OMP_NUM_THREADS": "1"}
LAB = "lab1_forward"
HAPPENED = ("copied_below", "cell_ids_lost", "prose_deleted", "checks_edited", "trailing_blanks", "helper_above")
SAVED = ("as_jupyter_does", "as_jupyterlab_does", "as_colab_does", "as_vs_code_does")
STOCK = """\
c = get_config()
c.CourseDirectory.course_id = "labdiff"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "notebooks"
c.Execute.timeout = 60
"""


def make_class(folder: Path, size: int, mangled: bool = True, seed: int = 0) -> None:
    """Write `size` submissions in nbgrader's layout into a folder; stock nbgrader cannot read the mangled ones."""
    chance = random.Random(seed)
    wrong, other = answers(LAB, "mistake"), answers(LAB, "variant")
    files = {kind: ROOT / "solutions" / LAB / f"{kind}s.py" for kind in ("mistake", "variant")}
    for student in range(size):
        chosen = {}
        for name in right_answers(LAB):
            kind = chance.choices(("right", "mistake", "variant", "untouched"), (5, 3, 2, 1))[0]
            pool = {"mistake": wrong, "variant": other}.get(kind, {}).get(name)
            if pool:
                chosen[name] = as_answer(files[kind], chance.choice(list(pool)), name)
            elif kind == "untouched" and name in wrong:
                chosen[name] = f"def {name}(*arguments):\n    raise NotImplementedError"
        notebook = json.loads(json.dumps(submission(LAB, **chosen)))
        happened, name, saved = chance.choice(HAPPENED), chance.choice(list(right_answers(LAB))), chance.choice(SAVED)
        if chance.random() < 0.3 and mangled:
            MANGLINGS[happened](notebook, [name])
        file = folder / f"student{student:05}" / LAB / f"{LAB}.ipynb"
        file.parent.mkdir(parents=True)
        file.write_bytes(SAVINGS[saved if mangled else SAVED[0]](notebook))


class Cpu:
    """Seconds of wall clock, and of CPU of the whole machine but for what runs at low priority."""

    def __enter__(self) -> Cpu:
        self.before, self.started = psutil.cpu_times(), time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.wall = time.perf_counter() - self.started
        now = psutil.cpu_times()
        self.cpu = now.user + now.system - self.before.user - self.before.system


def ours(submitted: Path, size: int, workers: int) -> Cpu:
    """`labdiff grade` of the whole class, recorded in a gradebook."""
    with tempfile.TemporaryDirectory() as folder, Cpu() as taken:
        command = [sys.executable, "-m", "labdiff.cli", "grade", LAB, "--submitted", str(submitted)]
        command += ["--course", folder, "--workers", str(workers)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert f"{size} submissions" in done.stdout, done.stdout[-2000:]
    return taken


def grading_alone(submitted: Path, workers: int) -> Cpu:
    """The same without a gradebook, from the moment at which the workers have begun."""
    work = [(file, file.read_bytes()) for file in sorted(submitted.glob("*/*/*.ipynb"))]
    conditions = Conditions(LAB, checks_of(LAB), 1)
    with cluster.connect(workers=workers) as client:
        for _ in cluster.grade_all(work[: 4 * workers], conditions, client):
            pass
        with Cpu() as taken:
            for _ in cluster.grade_all(work, conditions, client):
                pass
    return taken


def stock(submitted: Path, size: int) -> Cpu:
    """`nbgrader autograde` of a class, as nbgrader comes."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(ROOT / "solutions" / LAB, root / "solutions" / LAB)
        Course(root).release(LAB)
        (root / "nbgrader_config.py").write_text(STOCK)
        for student in sorted(submitted.iterdir())[:: max(1, len(list(submitted.iterdir())) // size)][:size]:
            shutil.copytree(student, root / "submitted" / student.name)
        with on_path(), Cpu() as taken:
            subprocess.run(
                [sys.executable, "-m", "nbgrader", "autograde", LAB, "--create"], cwd=root, capture_output=True
            )
    return taken


def row(name: str, size: int, taken: Cpu) -> str:
    """One line of the table."""
    return f"| {name} | {size} | {60 * size / taken.wall:.0f} | {taken.cpu / size:.2f} | {taken.wall:.0f} |"


def memory(submitted: Path, size: int) -> None:
    """Print the head's memory while a class is graded, after each tenth of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "labdiff.cli", "grade", LAB, "--submitted", str(submitted), "--course", folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        head, seen = psutil.Process(process.pid), []

        def watch() -> None:
            for line in process.stdout:
                if line.startswith("  student"):
                    seen.append(head.memory_full_info().uss / 2**20)

        watching = threading.Thread(target=watch)
        watching.start()
        process.wait()
        watching.join()
    print("| submissions graded | memory of the head, MB |\n| --- | --- |")
    for tenth in range(1, 11):
        at = size * tenth // 10
        print(f"| {at} | {seen[min(at, len(seen)) - 1]:.0f} |")


def shares(submitted: Path, size: int = 40) -> None:
    """Print where the CPU seconds of one submission go, one after the other in this process."""
    work = [file.read_bytes() for file in sorted(submitted.glob("*/*/*.ipynb"))[:size]]
    asked, spent = exercises.lab(LAB), {}

    def timed(what: str, do: Callable[[], Any]) -> Any:
        before = psutil.cpu_times()
        made = do()
        now = psutil.cpu_times()
        spent[what] = (now.user + now.system - before.user - before.system) / len(work)
        return made

    grade(work[0], LAB, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        course = Course(Path(folder))
        course.prepare(LAB)
        timed("read and mend", lambda: [program(mend(read_cells(data), asked), asked) for data in work])
        reports = timed("graded", lambda: [grade(data, LAB, seed=1) for data in work])
        places = [Path(folder) / "submitted" / f"s{i}" / LAB / f"{LAB}.ipynb" for i in range(len(work))]
        for place, data in zip(places, work, strict=True):
            place.parent.mkdir(parents=True)
            place.write_bytes(data)
        timed("record", lambda: [course.record(LAB, f"s{i}", report) for i, report in enumerate(reports)])
        again = sum(result.basis == CARRIED or bool(result.replaced) for each in reports for result in each.exercises)
    print("\n| of one submission | CPU s |\n| --- | --- |")
    print(f"| reading and mending the notebook | {spent['read and mend']:.3f} |")
    print(
        f"| the sandbox ({again / len(work):.1f} runs more for errors carried forward), and judging | "
        f"{spent['graded'] - spent['read and mend']:.3f} |"
    )
    print(f"| nbgrader's gradebook and graded notebook, in the head | {spent['record']:.3f} |")


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser()
    options.add_argument("--size", type=int, default=200)
    options.add_argument("--stock", type=int, default=None, help="how many of them stock nbgrader grades; all")
    options.add_argument("--memory", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        submitted = Path(folder) / "submitted"
        make_class(submitted, given.size)
        if given.memory:
            return memory(submitted, given.size)
        print("| | submissions | a minute | CPU s each | seconds |\n| --- | --- | --- | --- | --- |")
        for workers in (1, 2):
            print(row(f"grading alone, workers: {workers}", given.size, grading_alone(submitted, workers)), flush=True)
        for workers in (1, 2):
            print(
                row(f"labdiff grade, workers: {workers}", given.size, ours(submitted, given.size, workers)), flush=True
            )
        shares(submitted)
        print()
        size = given.stock or given.size
        plain = Path(folder) / "plain"
        make_class(plain, given.size, mangled=False)
        print(row("nbgrader autograde", size, stock(plain, size)), flush=True)


if __name__ == "__main__":
    main()
