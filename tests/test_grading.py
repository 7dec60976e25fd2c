"""`grade` and its front doors: what a submission earns, wherever it is handed in."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell
from submissions import SEED, lost, marks, mistaken, submission
from support import ROOT

from labdiff import exercises
from labdiff.errors import FileError, SandboxError, UnknownName
from labdiff.grading import grade as grading
from labdiff.grading.grade import grade
from labdiff.grading.report import CARRIED, OWN, Report
from labdiff.grading.sandbox import host as sandbox
from labdiff.grading.sandbox import view
from labdiff.grading.sandbox.limits import Limits
from labdiff.grading.submission.release import released

CLASS = ROOT / "tests" / "class"
QUICK = Limits(cell_seconds=4, exercise_seconds=4)


# --- the example class ------------------------------------------------------------------------


@pytest.mark.sandbox
def test_the_example_class_earns_what_it_should():
    earned = {file.stem: grade(file, "lab1_forward", seed=SEED) for file in sorted(CLASS.glob("*.ipynb"))}
    assert {name: report.score for name, report in earned.items()} == {
        "ada": 20,  # all right
        "bela": 11,  # half done
        "chen": 7.6,  # four mistakes, two left out
        "dara": 17,  # one mistake
        "emil": 20,  # all right, saved by Colab
        "fatima": 19,  # one answer ends Python
        "goro": 0,  # all wrong, and cheats
        "hana": 20,  # all right, written in other ways
        "ivan": 20,  # all right, in cells cut, merged, moved, converted and deleted
        "jun": 0,  # untouched
        "kofi": 18,  # a right answer on a wrong one
        "lena": 0,  # no notebook
    }
    assert [name for name, report in earned.items() if report.problem] == ["lena"]


@pytest.mark.sandbox
def test_a_report_survives_json_and_a_seed_repeats_it():
    notebook = mistaken("lab1_forward", q_sample="noise_by_variance")
    first, second = (grade(notebook, seed=SEED) for _ in range(2))
    assert Report.from_json(first.to_json()) == first
    for report in (first, second):
        report.seconds = 0
        for result in report.exercises:
            result.seconds = 0
    assert first == second
    assert grade(notebook).seed != grade(notebook).seed


# --- blast radius -----------------------------------------------------------------------------

DISASTERS = {
    "an exception": "1 / 0",
    "a loop without end": "while True:\n        pass",
    "os._exit": "import os\n    os._exit(0)",
    "a segmentation fault": "import ctypes\n    ctypes.string_at(0)",
    "a fork bomb": "import os\n    while True:\n        os.fork()",
    "100 GB": "return torch.ones(25 * 10**9)",
    "memory bit by bit": "kept = []\n    while True:\n        kept.append(torch.ones(10**6))",
    "printing without end": "while True:\n        print('more' * 1000)",
    "a deleted module": "import shutil\n    shutil.rmtree(torch.__path__[0])",
    "a recursion": "return snr(alphas_cumprod)",
    "the end of Python": "raise SystemExit",
    "a killed parent": "import os\n    os.kill(os.getppid(), 9)\n    os.kill(1, 9)\n    os._exit(0)",
    "gigabytes": "return torch.ones(400_000_000)",
}


@pytest.mark.sandbox
@pytest.mark.parametrize("disaster", DISASTERS)
def test_an_answer_that_goes_wrong_costs_itself_only(disaster):
    answer = f"def snr(alphas_cumprod):\n    {DISASTERS[disaster]}"
    report = grade(submission("lab1_forward", snr=answer), seed=SEED, limits=QUICK)
    assert lost(report) == {"snr"}
    result = next(result for result in report.exercises if result.name == "snr")
    assert result.hint or any(part.message for part in result.parts)


@pytest.mark.sandbox
@pytest.mark.parametrize("disaster", DISASTERS)
def test_a_cell_that_goes_wrong_costs_what_it_defines_only(disaster):
    body = DISASTERS[disaster].replace("snr(alphas_cumprod)", "disaster()")
    cell = f"def disaster():\n    {body}\n\n\ndisaster()\n\n\ndef snr(alphas_cumprod):\n    return 0"
    report = grade(submission("lab1_forward", snr=cell), seed=SEED, limits=QUICK)
    assert lost(report) == {"snr"}


@pytest.mark.sandbox
def test_a_thread_that_ends_python_later_costs_its_cell_only():
    later = "import os, threading\nthreading.Timer(0.05, lambda: os._exit(0)).start()"
    waits = "import time\ntime.sleep(0.5)"
    notebook = submission("lab1_forward")
    notebook.cells[6:6] = [new_code_cell(later), new_code_cell(waits)]
    assert not lost(grade(notebook, seed=SEED, limits=QUICK))


@pytest.mark.sandbox
def test_cells_that_a_student_added_keep_working():
    answer = "def snr(alphas_cumprod):\n    return ratio(alphas_cumprod, one())"
    notebook = submission("lab1_forward", snr=answer)
    notebook.cells.insert(3, new_code_cell("%matplotlib inline\n!pip install einops\nimport sys\n\none = lambda: 1.0"))
    notebook.cells.append(new_code_cell("print('oops', file=sys.stderr)\n\ndef ratio(a, b):\n    return a / (b - a)"))
    assert not lost(grade(notebook, seed=SEED))


@pytest.mark.sandbox
def test_warnings_and_progress_bars_cost_nothing():
    noisy = (
        "import warnings\nfrom tqdm import tqdm\n\n\ndef snr(alphas_cumprod):\n    warnings.warn('careful')\n"
        "    for _ in tqdm(range(3)):\n        print('on my way')\n    return alphas_cumprod / (1 - alphas_cumprod)"
    )
    assert not lost(grade(submission("lab1_forward", snr=noisy), seed=SEED))


# --- error carried forward --------------------------------------------------------------------


BROKEN = (
    "class TimeMLP(nn.Module):\n    def __init__(self, channels, out):\n        self.layer = nn.Linear(channels, out)"
)


@pytest.mark.sandbox
def test_right_work_on_a_wrong_answer_earns_its_marks_unless_turned_off():
    notebook = submission("lab2_unet", TimeMLP=BROKEN)
    carried = {result.name: result for result in grade(notebook, seed=SEED).exercises}
    assert (carried["TimeMLP"].score, carried["TimeMLP"].basis) == (0, OWN)
    unet = carried["UNet"]
    assert (unet.status, unet.score, unet.own_score, unet.basis) == ("wrong", unet.max_score, 0, CARRIED)
    assert unet.replaced == ["TimeMLP"]
    own = {result.name: result for result in grade(notebook, seed=SEED, carry=False).exercises}
    assert (own["UNet"].score, own["UNet"].basis) == (0, OWN)
    assert "TimeMLP" in own["UNet"].hint


@pytest.mark.sandbox
def test_wrong_work_on_a_wrong_answer_earns_nothing():
    wrong = "class UNet(nn.Module):\n    def __init__(self, *args, **kwargs):\n        super().__init__()\n"
    wrong += "        self.block = TimeMLP(8, 8)\n\n    def forward(self, x, t):\n        return x"
    assert lost(grade(submission("lab2_unet", TimeMLP=BROKEN, UNet=wrong), seed=SEED)) == {"TimeMLP", "UNet"}


@pytest.mark.sandbox
def test_an_answer_that_was_not_written_is_not_carried_forward():
    stub = next(c.source for c in released("lab2_unet").notebook.cells if c.source.startswith("class UNet"))
    report = grade(submission("lab2_unet", TimeMLP=BROKEN, UNet=stub), seed=SEED)
    assert {result.name: result.status for result in report.exercises}["UNet"] == "not done"


# --- fail closed ------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"\0" * 8, b"garbage" * 100, "nothing"])
def test_without_a_readable_result_there_are_no_marks(monkeypatch, said):
    def answers(lab, job, limits, isolation):
        if said != "nothing":
            yield from (({"exercise": name, "stopped": "", "seconds": 0.1}, said) for name in job["exercises"])

    monkeypatch.setattr(sandbox, "run", answers)
    report = grade(submission("lab1_forward"), seed=SEED)
    assert report.score == 0
    assert bool(report.problem) == (said == "nothing")


def test_outputs_of_other_inputs_earn_nothing(monkeypatch):
    """What the notebook's own check expects is not what the grader expects."""
    from dataclasses import asdict

    from labdiff.checking import golden
    from labdiff.grading.sandbox.packing import pack

    known, _ = golden.load(golden.path("lab1_forward"))

    def answers(lab, job, limits, isolation):
        for name in job["exercises"]:
            outputs = {part: asdict(output) for part, output in known[name].items()}
            yield {"exercise": name, "stopped": "", "seconds": 0.1}, pack([outputs, outputs])

    monkeypatch.setattr(sandbox, "run", answers)
    report = grade(submission("lab1_forward"), seed=SEED)
    assert {name for name, score in marks(report).items() if score} <= {"predict_first_to_noise"}
    assert "not the formula" in report.exercises[0].hint


# --- isolation --------------------------------------------------------------------------------


def test_without_bubblewrap_grading_refuses_and_says_how_to_install_it(monkeypatch):
    sandbox._way.cache_clear()
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(SandboxError, match="apt-get install bubblewrap"):
        grade(submission("lab1_forward"))
    sandbox._way.cache_clear()


def test_without_isolation_the_marks_are_the_same_and_the_report_says_so():
    report = grade(CLASS / "chen.ipynb", seed=SEED, isolation="none")
    assert report.isolation == "none"
    assert report.score == 7.6
    with pytest.raises(SandboxError, match="bubblewrap and none"):
        grade(CLASS / "chen.ipynb", isolation="chroot")


LOOK = """\
import ctypes, os, socket
libc = ctypes.CDLL(None)
seen = {
    "calls": [libc.memfd_create(b"x", 0), libc.unshare(0x10000000), libc.ptrace(0, 0, 0, 0)],
    "env": sorted(os.environ), "uid": os.getuid(), "files": sorted(os.listdir("/")), "home": os.listdir("."),
    "privileges": [line.split()[1] for line in open("/proc/self/status") if line.startswith(("Cap", "NoNewPrivs"))],
    "processes": len([name for name in os.listdir("/proc") if name.isdigit()]),
}
for name, place in {"package": "/labdiff/labdiff", "usr": "/usr/lib"}.items():
    try:
        open(place + "/written", "w")
        seen[name] = "written"
    except OSError as error:
        seen[name] = type(error).__name__
try:
    socket.create_connection(("127.0.0.1", PORT), timeout=1)
    seen["network"] = "reached"
except OSError as error:
    seen["network"] = type(error).__name__
seen["answers"] = [f for d, _, files in os.walk("/labdiff") for f in files if "golden" in d or "lab1" in f]
raise RuntimeError(str(seen))"""


@pytest.mark.sandbox
def test_a_submission_sees_nothing_but_python_and_the_lab(monkeypatch):
    import socket

    monkeypatch.setenv("SECRET", "hidden")
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    socket.create_connection(("127.0.0.1", port), timeout=1).close()  # from here it can be reached
    cell = LOOK.replace("PORT", str(port)).replace("str(seen)", "str(seen)[START:START + 400]")
    text = ""
    for start in range(0, 2000, 400):
        job = {"cells": [cell.replace("START", str(start))], "exercises": {}, "replaced": [], "reference": ""}
        ((event, _),) = sandbox.run("lab1_forward", job, QUICK)
        text += event["error"].removeprefix("RuntimeError").removeprefix(": ").split(" (line ")[0]
    seen = ast.literal_eval(text)
    server.close()
    assert "SECRET" not in seen["env"] and "USER" not in seen["env"]
    assert set(seen["privileges"]) == {"0000000000000000", "1"}
    assert seen["uid"] == 65534
    assert seen["calls"] == [-1, -1, -1]
    assert seen["home"] == []
    assert seen["processes"] <= 3
    assert (seen["package"], seen["usr"]) == ("OSError", "OSError")
    assert seen["network"] in ("ConnectionRefusedError", "OSError")
    assert seen["answers"] == ["lab1_forward.py"]  # what the lab asks, in exercises/


LEAVE = """
import ctypes, os, socket, sys, time, torch
for place in ("/tmp/left", "/dev/shm/left", "/tmp/home/left"):
    open(place, "w").write("SECRET")
torch.left = sys.left = "SECRET"
os.environ["LEFT"] = "SECRET"
ctypes.CDLL(None).sethostname(b"left", 4)
if os.fork() == 0:
    os.setsid()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("\\0left")
    listening.listen()
    while True:
        time.sleep(1)
time.sleep(0.5)
"""
FIND = """
import gc, os, socket, sys, torch
found = [f for place in ("/tmp", "/dev/shm", "/tmp/home") for f in os.listdir(place) if f == "left"]
found += [name for name in ("LEFT",) if name in os.environ]
found += [m.__name__ for m in (torch, sys) if hasattr(m, "left")]
found += [p for p in os.listdir("/proc") if p.isdigit() and int(p) > 50]
found += ["host"] * (socket.gethostname() == "left")
try:
    socket.socket(socket.AF_UNIX).connect("\\0left")
    found.append("socket")
except OSError:
    pass
held = (o for o in gc.get_objects() if isinstance(o, (list, tuple)) and len(o) < 99)
found += ["memory"] * any("".join(["SEC", "RET"]) in o for o in held)
raise RuntimeError(repr(found))
"""


@pytest.mark.sandbox
def test_what_one_submission_leaves_behind_the_next_one_does_not_meet():
    def said(cell: str) -> str:
        job = {"cells": [cell], "exercises": {}, "replaced": [], "reference": ""}
        ((event, _),) = sandbox.run("lab1_forward", job, QUICK)
        return event["error"]

    def waiting() -> list[int]:
        return [each.process.pid for each in sandbox._idle]

    alone = said(LEAVE + FIND)  # what is left behind is found by the one who left it
    assert all(word in alone for word in ("left", "LEFT", "torch", "sys", "socket")), alone
    before = waiting()
    found = said(FIND)
    assert waiting() == before  # both came from the same process, unless each has a sandbox of its own here
    assert found.startswith("RuntimeError: []"), found


WRITE = """
import only_here, os
mounts = {line.split()[4] for line in open("/proc/self/mountinfo")}
written = []
for place in filter(os.path.isdir, mounts):
    try:
        open(f"{place}/written", "w").close()
        written.append(place)
    except OSError:
        pass
raise RuntimeError(written)
"""


@pytest.mark.sandbox
def test_nothing_can_be_written_but_its_own_folders_even_where_labdiff_is_installed(tmp_path, monkeypatch):
    (tmp_path / "labdiff").mkdir()  # as where pip put it; below /tmp, where Python itself may lie too
    (tmp_path / "only_here.py").write_text("found = True")
    sandbox.close()
    places = (*view.site_folders(), str(tmp_path))
    for module in (sandbox, view):
        monkeypatch.setattr(module, "site_folders", lambda: places)
    job = {"cells": [WRITE], "exercises": {}, "replaced": [], "reference": ""}
    ((event, _),) = sandbox.run("lab1_forward", job, QUICK)
    sandbox.close()
    written = set(ast.literal_eval(event["error"].split(": ", 1)[1].split(" (line")[0]))
    assert written == {"/tmp", "/dev/shm"}


HOARDS = """
import mmap, os, socket
said = []
for what in (
    lambda: mmap.mmap(-1, 1 << 20),  # shared memory, which no limit counts once it is put aside
    lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    lambda: socket.socket(40, socket.SOCK_STREAM),  # the line to the host of a virtual machine
    lambda: [os.mkdir(f"/tmp/{i}") for i in range(50_000)],
    lambda: [os.pipe() for _ in range(100)],
):
    try:
        what()
        said.append("allowed")
    except OSError as error:
        said.append("refused")
raise RuntimeError(said)
"""


@pytest.mark.sandbox
def test_what_no_limit_would_count_is_refused():
    job = {"cells": [HOARDS], "exercises": {}, "replaced": [], "reference": ""}
    ((event, _),) = sandbox.run("lab1_forward", job, QUICK)
    most = 5 if sandbox._way().where == "namespaces" else 4  # bubblewrap has no limit on files
    assert event["error"].count("refused") >= most, event


@pytest.mark.sandbox
def test_references_of_earlier_labs_are_there_and_those_of_this_lab_and_later_ones_are_not():
    cells = [f"import labdiff.reference.{lab}" for lab in exercises.LABS] + ["import labdiff.authoring"]
    job = {"cells": cells, "exercises": {}, "replaced": [], "reference": ""}
    errors = {}
    for event, _ in sandbox.run("lab3_training", job, QUICK):
        errors[event["cell"]] = event["error"]
    assert [errors[i] == "" for i in range(5)] == [True, True, False, False, False]


@pytest.mark.sandbox
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be two users")
def test_every_way_that_works_here_holds_the_same_walls(monkeypatch):
    worked = 0
    for way in sandbox.WAYS:
        monkeypatch.setattr(sandbox, "WAYS", (way,))
        sandbox._way.cache_clear()
        sandbox.close()
        try:
            report = grade(
                submission("lab1_forward", snr="import os\n\n\ndef snr(x):\n    os.fork()\n    return x"), seed=SEED
            )
        except SandboxError:
            continue
        worked += 1
        assert lost(report) == {"snr"}
    sandbox._way.cache_clear()
    sandbox.close()
    assert worked


# --- pytest's door ----------------------------------------------------------------------------


@pytest.mark.slow
def test_pytest_leaves_notebooks_alone_that_are_no_labs_or_were_not_named(tmp_path):
    nbformat.write(nbformat.v4.new_notebook(cells=[new_code_cell("x = 1")]), tmp_path / "mine.ipynb")
    shutil.copy(CLASS / "ada.ipynb", tmp_path / "ada.ipynb")
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    everything = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout
    assert "1 test collected" in everything
    mine = subprocess.run([*command, "mine.ipynb"], capture_output=True, text=True, cwd=tmp_path)
    assert "no tests collected" in mine.stdout or "not found" in mine.stderr
    lab = subprocess.run([*command, "ada.ipynb"], capture_output=True, text=True, cwd=tmp_path).stdout
    assert f"{len(exercises.lab('lab1_forward').exercises)} tests collected" in lab


def test_a_missing_reference_and_a_lab_that_does_not_exist_are_named(monkeypatch, tmp_path):
    with monkeypatch.context() as patched, pytest.raises(FileError, match="labdiff build"):
        patched.setattr(grading, "PACKAGE", tmp_path)
        grade(CLASS / "ada.ipynb", seed=SEED + 1)
    with pytest.raises(UnknownName, match="Did you mean lab1_forward"):
        grade(CLASS / "ada.ipynb", "lab1")
    assert "lab1_forward, and lab2_unet" in grade(CLASS / "ada.ipynb", "lab2_unet").problem
    assert grading.ungraded("lab2_unet", 0, "none", "x").max_score == 23


def test_a_script_in_a_students_text_does_not_reach_the_graders_browser():
    from labdiff.grading.submission.mend import mend
    from labdiff.grading.submission.read import read_cells
    from labdiff.grading.submission.restore import restore

    notebook = submission("lab1_forward")
    evil = '<script>alert(1)</script> <img src=x onerror="alert(2)"> <b>bold</b>, and $a < b$'
    notebook.cells.insert(3, nbformat.v4.new_markdown_cell(evil))
    lab = exercises.lab("lab1_forward")
    text = "".join(
        cell.source for cell in restore(mend(read_cells(notebook), lab), lab).cells if cell.cell_type != "code"
    )
    assert "<script" not in text and "<img" not in text
    assert "<b>bold</b>, and $a" in text


def test_what_is_asked_can_be_read_where_no_answers_are():
    """The sandbox of the first lab holds no reference at all, and reads what every lab asks before it forks."""
    for file in (ROOT / "labdiff" / "exercises").glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            named = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in getattr(node, "names", [])]
            assert not [name for name in named if name and name.startswith("labdiff.reference")], file.name
