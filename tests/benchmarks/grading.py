"""What grading costs on this machine: seconds, CPU seconds and memory per submission, beside stock nbgrader.

    python tests/benchmarks/grading.py

Three submissions of each lab (all right, untouched, and one with a mistake in each exercise) are graded by
`nbgrader autograde`, one command per lab: by labdiff in its sandbox, by stock nbgrader, and by
stock nbgrader on the same submissions without their demonstration cells. Prints the table of
the README.
"""

from __future__ import annotations

import copy
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat
import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from submissions import mistaken, submission
from support import ROOT, answers

from labdiff import exercises
from labdiff.grading.classroom.course import Course, on_path
from labdiff.grading.submission.release import released

torch.set_num_threads(1)  # as in the tests and in the sandbox
os.environ |= {"LABDIFF_DATA": "offline", "OMP_NUM_THREADS": "1"}
STOCK = """\
c = get_config()
c.CourseDirectory.course_id = "labdiff"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "notebooks"
c.Execute.timeout = 600
"""


def submissions(lab: str, cut: bool) -> dict[str, nbformat.NotebookNode]:
    """The three submissions of a lab: student -> notebook; `cut` without the demonstration cells."""
    wrong = {name: next(iter(titles)) for name, titles in answers(lab, "mistake").items()}
    made = {
        "right": submission(lab),
        "untouched": copy.deepcopy(released(lab).notebook),
        "mistaken": mistaken(lab, **wrong),
    }
    if cut:
        for notebook in made.values():
            notebook.cells = [
                cell
                for cell in notebook.cells
                if cell.cell_type != "code" or "nbgrader" in cell.metadata or cell.source in released(lab).given
            ]
    return made


class Memory(threading.Thread):
    """The most memory that the processes below this one held together, looked at every 50 ms: `peak`, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.on = 0, True

    def run(self) -> None:
        """Look until `on` is false."""
        while self.on:
            total = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)
            time.sleep(0.05)


def measure(lab: str, config: str, cut: bool = False) -> tuple[float, float, float]:
    """Wall seconds and CPU seconds per submission, and the most memory of the command with all its processes in GB."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(ROOT / "solutions" / lab, root / "solutions" / lab)
        course = Course(root)
        course.release(lab)
        (root / "nbgrader_config.py").write_text(config)
        made = submissions(lab, cut)
        for student, notebook in made.items():
            file = root / "submitted" / student / lab / f"{lab}.ipynb"
            file.parent.mkdir(parents=True)
            nbformat.write(notebook, file)
        memory = Memory()
        memory.start()
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with on_path():
            done = subprocess.run(
                [sys.executable, "-m", "nbgrader", "autograde", lab, "--create"],
                cwd=root,
                capture_output=True,
                text=True,
            )
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        memory.on = False
        memory.join()
        assert done.returncode == 0, done.stderr
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return seconds / len(made), cpu / len(made), memory.peak / 2**30


def main() -> None:
    """Print the table."""
    ours = (ROOT / "nbgrader_config.py").read_text()
    ways = {
        "labdiff, in the sandbox": (ours, False),
        "stock nbgrader": (STOCK, False),
        "stock, cells cut": (STOCK, True),
    }
    print("| lab | " + " | ".join(f"{way}: s / CPU s / GB" for way in ways) + " |")
    print("| --- |" + " --- |" * len(ways))
    sums = {way: [0.0, 0.0, 0.0] for way in ways}
    for lab in exercises.LABS:
        row = []
        for way, (config, cut) in ways.items():
            found = measure(lab, config, cut)
            sums[way] = [a + b / len(exercises.LABS) for a, b in zip(sums[way], found, strict=True)]
            row.append(" / ".join(f"{value:.1f}" for value in found))
        print(f"| {lab} | " + " | ".join(row) + " |", flush=True)
    print("| mean | " + " | ".join(" / ".join(f"{value:.1f}" for value in sums[way]) for way in ways) + " |")


if __name__ == "__main__":
    main()
