"""A whole class, as an instructor grades it: nothing lost, nothing done twice, whatever dies on the way."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

from labdiff.errors import ClassError, CourseError
from labdiff.grading.classroom import cluster
from labdiff.grading.classroom import run as module
from labdiff.grading.classroom import store as reports
from labdiff.grading.classroom.course import Course
from labdiff.grading.classroom.export.marks import marks as marks_of
from labdiff.grading.classroom.run import Change, grade_class
from labdiff.grading.grade import grade
from labdiff.grading.report import Report

pytestmark = pytest.mark.sandbox
LAB, SEED = "lab1_forward", 20_262
CLASS = ROOT / "tests" / "class"
FEW = ("ada", "chen", "ivan", "lena")  # all right, one mistake, carried forward, no notebook at all


def hand_in(folder: Path, *students: str) -> Path:
    """A folder of notebooks, named for their students."""
    folder.mkdir(parents=True, exist_ok=True)
    for student in students:
        shutil.copy(CLASS / f"{student}.ipynb", folder)
    return folder


def marks(course: Course) -> dict[str, float]:
    """What the gradebook holds: student -> marks."""
    with course.api.gradebook as gradebook:
        return {each.student.id: each.score for each in gradebook.assignment_submissions(LAB)}


def kept(course: Course) -> dict[str, dict]:
    """The reports on disk, without what they took: name -> report."""
    found = {}
    for file in (course.root / "reports" / LAB / "graded").glob("*.json"):
        about = json.loads(file.read_text())
        about.pop("seconds")
        for each in about["exercises"]:
            each.pop("seconds")
        found[file.stem] = about
    return found


@contextlib.contextmanager
def a_cluster(workers: int) -> Iterator[tuple[str, list[int]]]:
    """A scheduler and workers as processes of their own: its address, and the process ids of the workers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"],
            env=environment,
            **quiet,
        )
    ]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    started += [subprocess.Popen([*worker, "--memory-limit", "0"], env=environment, **quiet) for _ in range(workers)]
    try:
        with cluster.connect(address) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address, [process.pid for process in started[1:]]
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def two_workers() -> Iterator[str]:
    with a_cluster(2) as (address, _):
        yield address


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, two_workers: str) -> Course:
    """The class of twelve, graded in one go."""
    root = tmp_path_factory.mktemp("undisturbed")
    course = Course(root)
    grade_class(course, LAB, hand_in(root / "in", *twelve()), seed=SEED, scheduler=two_workers)
    return course


def twelve() -> list[str]:
    return sorted(file.stem for file in CLASS.glob("*.ipynb"))


def test_a_class_earns_what_each_submission_earns_alone(undisturbed):
    alone = {student: grade(CLASS / f"{student}.ipynb", LAB, seed=SEED).score for student in twelve()}
    assert marks(undisturbed) == pytest.approx(alone)
    rows = (undisturbed.root / "reports" / LAB / "summary.csv").read_text().splitlines()
    assert len(rows) == 13
    assert [row.split(",")[0] for row in rows[1:]] == twelve()


def test_the_summary_tells_what_to_teach_again_and_whom_to_look_at(undisturbed):
    page = (undisturbed.root / "reports" / LAB / "summary.html").read_text()
    assert "a standard deviation, not a variance" in page
    assert "This is no notebook: the file is not JSON." in page
    assert page.count("data:image/png;base64,") == 2
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_the_same_command_again_grades_nothing_and_says_the_same(undisturbed, monkeypatch, two_workers):
    monkeypatch.setattr(cluster, "connect", lambda *a: pytest.fail("a cluster was started"))
    monkeypatch.setattr(Course, "record", lambda *a: pytest.fail("something was recorded again"))
    page = undisturbed.root / "reports" / LAB / "summary.csv"
    before = page.read_text()
    grade_class(undisturbed, LAB, undisturbed.root / "in")
    assert page.read_text() == before


def test_a_new_submission_is_graded_and_nobody_else(tmp_path, two_workers, monkeypatch):
    course = Course(tmp_path)
    folder = hand_in(tmp_path / "in", *FEW)
    grade_class(course, LAB, folder, seed=SEED, scheduler=two_workers)
    shutil.copy(CLASS / "ada.ipynb", folder / "chen.ipynb")
    said: list[str] = []
    grade_class(course, LAB, folder, scheduler=two_workers, say=said.append)
    assert [words.split()[0] for words in said] == ["chen"]
    assert marks(course) == {"ada": 20, "chen": 20, "ivan": pytest.approx(marks(course)["ivan"]), "lena": 0}


def test_manual_marks_and_comments_outlive_grading_again(tmp_path, two_workers):
    course = Course(tmp_path)
    folder = hand_in(tmp_path / "in", "chen")
    grade_class(course, LAB, folder, seed=SEED, scheduler=two_workers)
    with course.api.gradebook as gradebook:
        question = next(g for g in gradebook.find_submission_notebook(LAB, LAB, "chen").grades if g.needs_manual_grade)
        question.manual_score = 1.5
        answer = gradebook.find_grade("check-q_sample", LAB, LAB, "chen")
        answer.manual_score = 0.25
        comment = gradebook.find_submission_notebook(LAB, LAB, "chen").comments[0]
        comment.manual_comment = "See me on Monday."
        gradebook.db.commit()
        by_hand = marks(course)
    grade_class(course, LAB, folder, seed=SEED + 1, regrade=True, scheduler=two_workers)
    assert marks(course) == by_hand
    with course.api.gradebook as gradebook:
        comments = [c.comment for c in gradebook.find_submission_notebook(LAB, LAB, "chen").comments]
    assert "See me on Monday." in comments


def test_regrade_shows_whose_marks_change_and_why_before_it_writes(tmp_path, two_workers, monkeypatch):
    course = Course(tmp_path)
    folder = hand_in(tmp_path / "in", "ada", "chen")
    grade_class(course, LAB, folder, seed=SEED, scheduler=two_workers)
    before = marks(course)
    # as if the check of q_sample had been wrong about chen, and was corrected since
    monkeypatch.setattr(module, "checks_of", lambda lab: "corrected")
    corrected = grade(CLASS / "chen.ipynb", LAB, seed=SEED)
    for result in corrected.exercises:
        if result.name == "q_sample":
            result.score, result.status, result.hint = result.max_score, "right", ""
    answers = {"ada": grade(CLASS / "ada.ipynb", LAB, seed=SEED), "chen": corrected}
    monkeypatch.setattr(cluster, "connect", lambda *a: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "grade_all", lambda work, *a: [(w, answers[w[0].student]) for w, _ in work])

    said: list[str] = []
    grade_class(course, LAB, folder, say=said.append)
    assert any("--regrade" in words for words in said)
    assert marks(course) == before  # not asked to

    shown: list[Change] = []
    with pytest.raises(ClassError, match="Nothing was written"):
        grade_class(course, LAB, folder, regrade=True, agree=lambda changes: shown.extend(changes) or False)
    assert marks(course) == before
    (change,) = shown
    assert (change.student, change.before) == ("chen", before["chen"])
    assert "q_sample" in change.why[0] and "wrong -> right" in change.why[0]

    grade_class(course, LAB, folder, regrade=True)
    assert marks(course) == {"ada": 20, "chen": change.after}


def test_a_report_that_was_cut_short_is_made_again(tmp_path, two_workers):
    course = Course(tmp_path)
    folder = hand_in(tmp_path / "in", "chen")
    grade_class(course, LAB, folder, seed=SEED, scheduler=two_workers)
    whole = kept(course)
    (file,) = (tmp_path / "reports" / LAB / "graded").glob("*.json")
    file.write_text(file.read_text()[:200])
    shutil.rmtree(tmp_path / "autograded")
    grade_class(course, LAB, folder, scheduler=two_workers)
    assert kept(course) == whole


def test_killed_at_any_point_the_same_command_goes_on(tmp_path, two_workers, undisturbed):
    course = Course(tmp_path)
    folder = hand_in(tmp_path / "in", *twelve())
    chance = random.Random(0)
    killed = 0
    while killed < 50:
        pid = os.fork()
        if not pid:
            with contextlib.suppress(BaseException), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
                grade_class(Course(tmp_path), LAB, folder, seed=SEED, scheduler=two_workers, say=lambda words: None)
            os._exit(0)
        time.sleep(chance.uniform(0, 1.5))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        killed += 1
        if killed % 17 == 0:  # and now and then begin anew, so that the beginning is killed as often as the end
            for name in ("reports", "autograded"):
                shutil.rmtree(tmp_path / name, ignore_errors=True)
    grade_class(course, LAB, folder, seed=SEED, scheduler=two_workers)
    assert kept(course) == kept(undisturbed)
    assert marks(course) == marks(undisturbed)


def test_a_worker_killed_in_the_middle_costs_nobody_anything(tmp_path, undisturbed):
    course = Course(tmp_path)
    folder = hand_in(tmp_path / "in", *twelve())
    with a_cluster(2) as (address, workers):
        rows: list[str] = []

        def after_three(words: str) -> None:
            rows.append(words)
            if len(rows) == 3:
                os.killpg(workers[0], signal.SIGKILL)

        grade_class(course, LAB, folder, seed=SEED, scheduler=address, say=after_three)
    assert len(rows) == 12
    assert marks(course) == marks(undisturbed)


def test_marks_of_who_was_late_are_taken_off_by_nbgraders_plugin(tmp_path, two_workers):
    (tmp_path / "nbgrader_config.py").write_text(
        "from labdiff.grading.doors import settings as nbgrader_settings\n"
        "c = nbgrader_settings.apply(get_config())\n"
        'c.LateSubmissionPlugin.penalty_method = "zero"\n'
    )
    course = Course(tmp_path)
    for student, day in (("ada", 1), ("bela", 3)):
        course.submit(LAB, student, CLASS / f"{student}.ipynb")
        (tmp_path / "submitted" / student / LAB / "timestamp.txt").write_text(f"2026-11-0{day} 12:00:00 UTC")
    course.prepare(LAB)
    with course.api.gradebook as gradebook:
        gradebook.update_or_create_assignment(LAB, duedate="2026-11-02 12:00:00 UTC")
    grade_class(course, LAB, tmp_path / "submitted", seed=SEED, scheduler=two_workers)
    with course.api.gradebook as gradebook:
        assert {mark.student: mark.score for mark in marks_of(gradebook, LAB)} == {"ada": 20, "bela": 0}


def test_two_instructors_write_one_postgresql_gradebook_at_once(tmp_path, two_workers, postgresql, undisturbed):
    config = (
        "from labdiff.grading.doors import settings as nbgrader_settings\n"
        "c = nbgrader_settings.apply(get_config())\n"
        f"c.CourseDirectory.db_url = {postgresql!r}\n"
    )
    everybody = twelve()
    running = []
    for instructor, students in (("anna", everybody[:8]), ("boris", everybody[4:])):  # four they both grade
        folder = tmp_path / instructor
        hand_in(folder / "in", *students)
        (folder / "nbgrader_config.py").write_text(config)
        command = [sys.executable, "-m", "labdiff.cli", "grade", LAB, "--submitted", "in", "--seed", str(SEED)]
        command += ["--scheduler", two_workers]
        running.append(subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for process in running:
        said, errors = process.communicate(timeout=300)
        assert process.returncode == 0, said + errors
        assert "could not record" not in said
    assert marks(Course(tmp_path / "anna")) == marks(undisturbed)


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of our own: the address of an empty database in it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not here: apt-get install postgresql")
    pytest.importorskip("psycopg")
    programs = found[-1].parent
    with tempfile.TemporaryDirectory(prefix="labdiff-postgresql-") as folder:
        options = {"cwd": folder, "check": True, "capture_output": True}
        if os.geteuid() == 0:  # as whom it refuses to run
            options["user"] = "postgres"
            shutil.chown(folder, "postgres")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        unicode = ["--encoding=UTF8", "--locale=C"]  # where the machine says nothing, texts would come back as bytes
        subprocess.run(
            [programs / "initdb", "-D", f"{folder}/data", "-U", "grader", "-A", "trust", *unicode], **options
        )
        start = ["-D", f"{folder}/data", "-l", f"{folder}/log", "-w"]
        subprocess.run([programs / "pg_ctl", *start, "-o", f"-p {port} -k {folder} -h 127.0.0.1", "start"], **options)
        try:
            yield f"postgresql+psycopg://grader@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([programs / "pg_ctl", *start, "-m", "immediate", "stop"], **options)


def test_a_gradebook_that_cannot_be_reached_is_one_sentence(tmp_path):
    pytest.importorskip("psycopg")
    (tmp_path / "nbgrader_config.py").write_text(
        "from labdiff.grading.doors import settings as nbgrader_settings\n"
        "c = nbgrader_settings.apply(get_config())\n"
        'c.CourseDirectory.db_url = "postgresql+psycopg://grader:secret@127.0.0.1:9/gradebook"\n'
    )
    with pytest.raises(CourseError, match="cannot be opened") as said:
        grade_class(Course(tmp_path), LAB, hand_in(tmp_path / "in", "ada"))
    assert "secret" not in str(said.value)


def test_two_runs_at_once_over_one_class_are_refused(tmp_path):
    course = Course(tmp_path)
    hand_in(tmp_path / "in", "ada")
    with module._alone(tmp_path / "reports" / LAB), pytest.raises(ClassError, match="Another run"):
        grade_class(course, LAB, tmp_path / "in")


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    hand_in(tmp_path / "in", "ada")
    with pytest.raises(cluster.ClusterError, match=r"There is no Dask cluster with workers at tcp://127\.0\.0\.1:9"):
        grade_class(Course(tmp_path), LAB, tmp_path / "in", scheduler="tcp://127.0.0.1:9")


def test_workers_with_other_checks_are_refused(tmp_path, two_workers, monkeypatch):
    monkeypatch.setattr(module, "checks_of", lambda lab: "newer")
    with pytest.raises(cluster.ClusterError, match="same labdiff on every machine"):
        grade_class(Course(tmp_path), LAB, hand_in(tmp_path / "in", "ada"), scheduler=two_workers)


def test_a_folder_whose_nbgrader_would_run_submissions_itself_is_refused(tmp_path):
    (tmp_path / "nbgrader_config.py").write_text("c = get_config()\n")
    with pytest.raises(CourseError, match="does not switch labdiff's grader on"):
        Course(tmp_path)


def test_what_decides_marks_is_in_the_name_of_a_report():
    here = reports.Conditions(LAB, "checks", 1)
    there = [
        reports.Conditions("lab2_unet", "checks", 1),
        reports.Conditions(LAB, "corrected", 1),
        reports.Conditions(LAB, "checks", 2),
        reports.Conditions(LAB, "checks", 1, carry=False),
        reports.Conditions(LAB, "checks", 1, isolation="none"),
    ]
    names = {conditions.key(submission) for conditions in [here, *there] for submission in ("a", "b")}
    assert len(names) == 12


def test_a_report_comes_back_from_disk_as_it_was(tmp_path):
    report = grade(CLASS / "chen.ipynb", LAB, seed=SEED)
    shelf = reports.Reports(tmp_path)
    shelf.put("name", report)
    assert shelf.get("name") == report
    assert shelf.get("other") is None
    assert isinstance(shelf.get("name"), Report)


def test_a_file_that_changes_while_it_is_graded_earns_nothing_by_it(tmp_path, two_workers, monkeypatch):
    course = Course(tmp_path)
    folder = hand_in(tmp_path / "in", "ada")
    graded = cluster.grade_all

    def then_swapped(*arguments):
        for work, report in graded(*arguments):
            shutil.copy(CLASS / "chen.ipynb", folder / "ada.ipynb")
            yield work, report

    monkeypatch.setattr(cluster, "grade_all", then_swapped)
    said: list[str] = []
    grade_class(course, LAB, folder, seed=SEED, scheduler=two_workers, say=said.append)
    assert "changed while it was graded" in said[0]
    assert marks(course) == {}
    monkeypatch.setattr(cluster, "grade_all", graded)
    grade_class(course, LAB, folder, scheduler=two_workers)
    assert marks(course) == {"ada": 7.6}


def test_links_and_what_is_no_file_cost_their_student_alone(tmp_path, two_workers):
    course = Course(tmp_path)
    secret = tmp_path / "secret.txt"
    secret.write_text("of the instructor")
    for student in ("ada", "chen", "ivan"):
        course.submit(LAB, student, CLASS / f"{student}.ipynb")
    (tmp_path / "submitted" / "ada" / LAB / "data.txt").symlink_to(secret)
    (tmp_path / "submitted" / "chen" / LAB / "a.ipynb").symlink_to("/nowhere")
    said: list[str] = []
    summary = grade_class(course, LAB, tmp_path / "submitted", seed=SEED, scheduler=two_workers, say=said.append)
    assert {student for student, why in summary.look if "link" in why} == {"ada", "chen"}
    assert (tmp_path / "autograded" / "ivan" / LAB / f"{LAB}.ipynb").exists()
    assert not [file for file in tmp_path.glob("autograded/**/*.txt")]


def test_who_hands_in_again_late_is_late(tmp_path, two_workers):
    course = Course(tmp_path)
    folder = tmp_path / "in"
    for day, student in ((1, "ada"), (3, "chen")):
        place = folder / "ada" / LAB
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(CLASS / f"{student}.ipynb", place / f"{LAB}.ipynb")
        (place / "timestamp.txt").write_text(f"2026-11-0{day} 12:00:00 UTC")
        grade_class(course, LAB, folder, seed=SEED, scheduler=two_workers)
        with course.gradebook() as gradebook:
            assert gradebook.find_submission(LAB, "ada").timestamp.day == day
