"""Which notebook is whose, in the folders and zips of nbgrader, Moodle, Canvas and GitHub Classroom."""

from __future__ import annotations

import io
import os
import pickle
import time
import unicodedata
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT

from labdiff.errors import CollectError, Unreadable
from labdiff.grading.classroom import collect as module
from labdiff.grading.classroom.collect import collect

LAB = "lab1_forward"
CLASS = ROOT / "tests" / "class"
ADA, BELA = ((CLASS / f"{name}.ipynb").read_bytes() for name in ("ada", "bela"))
OTHER_LAB = b'{"cells": [{"cell_type": "code", "source": "def timestep_embedding(t, dim):\\n    pass"}]}'
MOODLE_ADA = "Ada Lovelace_1234567_assignsubmission_file_"


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        place = root / "handed in" / name
        if name.endswith("/"):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    return root / "handed in"


def zipped(root: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(root / "handed in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return root / "handed in.zip"


both = pytest.mark.parametrize("made", [folder, zipped])


def who(found) -> list[str]:
    return [each.student for each in found]


@both
def test_moodle_with_a_folder_for_each_student(tmp_path, made):
    files = {
        f"{MOODLE_ADA}/{LAB}.ipynb": ADA,
        "Zoë de la Cruz-Müller_42_assignsubmission_file/work/notebook.ipynb": BELA,  # 4.1 and later
        "李 小龙_7_assignsubmission_file_/report.pdf": b"%PDF",
        "李 小龙_7_assignsubmission_onlinetext_/onlinetext.html": b"<p>",
        "Eve_13_assignsubmission_file_/Ada Lovelace_1234567_assignsubmission_file_/lab.ipynb": BELA,
    }
    found = {each.student: each for each in collect(made(tmp_path, files), LAB)}
    assert list(found) == sorted(["Ada Lovelace_1234567", "Eve_13", "Zoë de la Cruz-Müller_42", "李 小龙_7"])
    assert found["Ada Lovelace_1234567"].read() == ADA  # and not what Eve handed in under her name
    assert found["Ada Lovelace_1234567"].origin == f"{MOODLE_ADA}/{LAB}.ipynb"
    with pytest.raises(Unreadable, match=r"No notebook .* was handed in, but report.pdf and 1 more"):
        found["李 小龙_7"].read()
    assert {each.late for each in found.values()} == {None}


@both
def test_moodle_without_folders_and_without_numbers(tmp_path, made):
    files = {
        f"{MOODLE_ADA}{LAB}.ipynb": ADA,
        "Participant_99_assignsubmission_file_my_lab_1.ipynb": BELA,  # blind marking
        "Default group_assignsubmission_file_lab.ipynb": BELA,
        "Eve_13_assignsubmission_file_Ada_7_assignsubmission_file_x.ipynb": BELA,
    }
    assert who(collect(made(tmp_path, files), LAB)) == [
        "Ada Lovelace_1234567", "Default group", "Eve_13", "Participant_99",
    ]  # fmt: skip


@both
def test_canvas_with_late_resubmitted_and_anonymous_files(tmp_path, made):
    files = {
        f"lovelaceada_101_5001_{LAB}.ipynb": BELA,
        f"lovelaceada_101_5007_{LAB}-1.ipynb": ADA,
        "de_la_cruzzoë_LATE_102_5002_Lab 1_final_2.ipynb": BELA,
        "kofi_103_text.html": b"<p>I have no notebook</p>",
        "anon_Ab1C2_5004_lab.ipynb": BELA,
    }
    found = {each.student: each for each in collect(made(tmp_path, files), LAB)}
    assert list(found) == ["anon_Ab1C2", "de_la_cruzzoë_102", "kofi_103", "lovelaceada_101"]
    assert found["lovelaceada_101"].read() == ADA
    assert f"{LAB}-1.ipynb is graded" in found["lovelaceada_101"].note
    assert [each.late for each in found.values()] == [False, True, False, False]
    with pytest.raises(Unreadable, match="No notebook"):
        found["kofi_103"].read()


def test_two_names_with_one_number_stay_two_students(tmp_path):
    files = {f"bob_12_500_{LAB}.ipynb": ADA, f"eve_12_99_501_{LAB}.ipynb": BELA}  # Eve calls herself "eve_12"
    found = collect(folder(tmp_path, files), LAB)
    assert [(each.student, each.read()) for each in found] == [("bob_12", ADA), ("eve_12", BELA)]


@both
def test_nbgrader_with_renamed_files_timestamps_and_empty_folders(tmp_path, made):
    files = {
        f"ada/{LAB}/{LAB}.ipynb": ADA,
        f"ada/{LAB}/timestamp.txt": b"2026-11-01 12:00:00.5 UTC\n",
        f"ada/{LAB}/.ipynb_checkpoints/{LAB}-checkpoint.ipynb": BELA,
        "ada/lab2_unet/lab2_unet.ipynb": OTHER_LAB,
        f"bela/{LAB}/Kopie von Lab 1.ipynb": BELA,
        "chen/lab2_unet/lab2_unet.ipynb": OTHER_LAB,  # has not handed in lab 1
        f"dara/{LAB}/": b"",
        f"emil/{LAB}/timestamp.txt": b"yesterday",
        f"__MACOSX/ada/{LAB}/._{LAB}.ipynb": b"",
    }
    found = collect(made(tmp_path, files), LAB)
    assert who(found) == ["ada", "bela", "dara", "emil"]
    assert found[0].timestamp == datetime(2026, 11, 1, 12, 0, 0, 500000)
    assert found[0].note == "" and found[0].read() == ADA
    assert found[3].timestamp is None
    for empty in found[2:]:
        with pytest.raises(Unreadable, match="Nothing was handed in"):
            empty.read()


def test_nbgraders_own_folder_of_submissions_keeps_its_ids(tmp_path):
    names = ["ada", "o'brien+x@example.org", "Anne-Marie", "1234567", "अनिल", "a b"]
    assert who(collect(folder(tmp_path, {f"{n}/{LAB}/{LAB}.ipynb": ADA for n in names}), LAB)) == sorted(names)


@both
def test_github_classroom(tmp_path, made):
    files = {
        f"diffusion-1-submissions/diffusion-1-{login}/{path}": ADA
        for login in ("ada", "bela-b", "chen")
        for path in (f"notebooks/{LAB}.ipynb", ".git/HEAD", "README.md")
        if (login, path[0]) != ("chen", "n")
    }
    found = collect(made(tmp_path, files), LAB)
    assert who(found) == ["ada", "bela-b", "chen"]
    with pytest.raises(Unreadable, match=r"but README.md"):
        found[2].read()
    if made is folder:
        assert who(collect(tmp_path / "handed in" / "diffusion-1-submissions", LAB)) == ["ada", "bela-b", "chen"]


@both
@pytest.mark.parametrize("wrap", ["", "submissions/", "a/b/"])
def test_a_plain_folder_of_files_or_of_folders(tmp_path, made, wrap):
    files = {f"{wrap}{name}.ipynb": ADA for name in ("ada", "grace_hopper", "Łukasz")}
    assert who(collect(made(tmp_path, files), LAB)) == ["ada", "grace_hopper", "Łukasz"]
    other = tmp_path / "folders"
    other.mkdir()
    files = {f"{wrap}{name}/lab.ipynb": ADA for name in ("ada", "grace_hopper", "Łukasz")}
    assert who(collect(made(other, files), LAB)) == ["ada", "grace_hopper", "Łukasz"]


def test_the_example_class_is_found_as_it_lies_there():
    assert who(collect(CLASS, LAB)) == sorted(file.stem for file in CLASS.glob("*.ipynb"))


def test_one_folder_with_one_student_is_not_taken_for_a_wrapping(tmp_path):
    assert who(collect(folder(tmp_path, {f"ada/{LAB}.ipynb": ADA, "ada/draft.ipynb": BELA}), LAB)) == ["ada"]


def test_of_several_notebooks_the_labs_own_is_graded_and_the_note_says_so(tmp_path):
    files = {
        f"ada/{LAB}.ipynb": ADA, "ada/scratch.ipynb": BELA,
        "bela/first.ipynb": OTHER_LAB, "bela/second.ipynb": BELA, "bela/third.ipynb": b"{",
        f"chen/{LAB}.ipynb": BELA, f"chen/{LAB} (2).ipynb": ADA,
        f"dara/{LAB}.ipynb": ADA, f"dara/old/{LAB}.ipynb": BELA,
        "emil/a.ipynb": OTHER_LAB, "emil/b.ipynb": OTHER_LAB,
    }  # fmt: skip
    source = folder(tmp_path, files)
    os.utime(source / "emil" / "a.ipynb", (2e9, 2e9))
    found = {each.student: each for each in collect(source, LAB)}
    graded = {student: each.origin.partition("/")[2] for student, each in found.items()}
    assert graded == {
        "ada": f"{LAB}.ipynb", "bela": "second.ipynb", "chen": f"{LAB} (2).ipynb", "dara": f"{LAB}.ipynb",
        "emil": "a.ipynb",
    }  # fmt: skip
    assert found["ada"].note.startswith(f"2 notebooks were handed in; {LAB}.ipynb is graded")
    assert found["bela"].note == f"3 notebooks were handed in; second.ipynb is graded, because it alone is {LAB}."


def test_a_pattern_says_where_the_student_is(tmp_path):
    source = folder(tmp_path, {"2026/lab1-ada-v2.ipynb": ADA, "2026/lab1-bela-v1.ipynb": BELA, "solution.ipynb": ADA})
    assert who(collect(source, LAB, r"lab1-(?P<student>\w+)-v\d")) == ["ada", "bela"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(?P<student>", "is no regular expression"),
        (r"(\w+)\.ipynb", "does not say where the student is"),
        (r"(?P<student>nobody)", "finds a student in no path"),
    ],
)
def test_a_bad_pattern_is_one_sentence(tmp_path, pattern, said):
    with pytest.raises(CollectError, match=said) as error:
        collect(folder(tmp_path, {"ada.ipynb": ADA}), LAB, pattern)
    assert "\n" not in str(error.value)


def test_a_bad_source_is_one_sentence_that_says_what_to_do(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b")
    whole = zipped(tmp_path, {"ada.ipynb": ADA}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "torn.zip").write_bytes(whole.replace(b"PK\x01\x02", b"PK\x09\x09"))
    locked = bytearray(whole)
    locked[whole.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    for name, said in {
        "nowhere": "There is no",
        "empty": "There is no notebook",
        "a.tar.gz": "neither a folder nor a whole zip",
        "cut.zip": "neither a folder nor a whole zip",
        "torn.zip": "is broken: download it again",
        "locked.zip": "is encrypted: unpack it",
    }.items():
        with pytest.raises(CollectError, match=said) as error:
            collect(tmp_path / name, LAB)
        assert "\n" not in str(error.value)


@both
def test_a_notebook_that_is_nobodys_is_not_lost_silently(tmp_path, made):
    with pytest.raises(CollectError, match=r"Whose is solution.ipynb\?"):
        collect(made(tmp_path, {f"{MOODLE_ADA}/{LAB}.ipynb": ADA, "solution.ipynb": ADA}), LAB)


def test_bombs_links_pipes_and_damaged_members_cost_their_own_student_only(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 1 << 20)
    packed = zipped(tmp_path, {"ada.ipynb": ADA, "bomb.ipynb": bytes(64 << 20), "torn.ipynb": BELA})
    data = bytearray(packed.read_bytes())
    at = data.index(b"torn.ipynb") + 200
    data[at : at + 50] = bytes(50)
    packed.write_bytes(data)
    found = {each.student: each for each in collect(packed, LAB)}
    assert found["ada"].read() == ADA
    with pytest.raises(Unreadable, match="too large"):
        found["bomb"].read()
    with pytest.raises(Unreadable, match="broken inside the zip"):
        found["torn"].read()
    source = folder(tmp_path, {"ada.ipynb": ADA})
    (source / "link.ipynb").symlink_to("/etc/passwd")
    (source / "linked").symlink_to("/etc")
    os.mkfifo(source / "pipe.ipynb")
    found = {each.student: each for each in collect(source, LAB)}
    assert list(found) == ["ada", "link", "pipe"]
    for student in ("link", "pipe"):
        with pytest.raises(Unreadable, match="no file of its own"):
            found[student].read()


def test_a_zip_packed_so_that_it_cannot_be_read_within_limits_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("ada.ipynb", bytes(1 << 20))
    with pytest.raises(Unreadable, match="unpack the zip"):
        collect(tmp_path / "x.zip", LAB)[0].read()


def test_what_was_found_can_be_sent_to_another_process(tmp_path):
    found = collect(zipped(tmp_path, {"ada.ipynb": ADA}), LAB)
    assert pickle.loads(pickle.dumps(found)) == found
    assert pickle.loads(pickle.dumps(found[0])).read() == ADA


names = st.text(st.characters(exclude_characters="/\\\0", exclude_categories=("Cs",)), min_size=1, max_size=60)


@settings(max_examples=300, deadline=None)
@given(st.lists(names, min_size=1, max_size=12, unique=True))
def test_no_two_names_fall_together_and_each_is_safe_for_a_folder(given_names):
    students = module._ids(given_names)
    assert set(students) == set(given_names)
    folded = {unicodedata.normalize("NFKC", student).casefold() for student in students.values()}
    assert len(folded) == len(given_names)  # also where a file system knows no case
    for student in students.values():
        assert 0 < len(student.encode()) <= 255
        assert student == student.strip() and student[0] not in ".-+=@" and student[-1] != "."
        assert student.isprintable() and not set(student) & set('/\\:*?"<>|[]{}$`;&%')


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40), max_size=8), st.data())
def test_any_name_of_a_zips_member_is_harmless(members, data):
    parts = st.sampled_from(["..", "/", "\\", "C:", LAB, ".ipynb", "a_1_2_b.ipynb", "_assignsubmission_file_", "~"])
    members += ["".join(data.draw(st.lists(parts, min_size=1, max_size=6))) for _ in range(3)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in {*members, "ada.ipynb"}:
            archive.writestr(zipfile.ZipInfo(name), ADA[:10])
    source = Path(data.draw(st.just(PLACE))) / "members.zip"
    source.write_bytes(buffer.getvalue())
    module._opened.cache_clear()
    try:
        found = collect(source, LAB)
    except CollectError as error:
        assert "\n" not in str(error)
        return
    for each in found:
        assert Path(each.student).name == each.student and each.student not in (".", "..")
        try:
            assert each.read() == ADA[:10]
        except Unreadable as error:
            assert "\n" not in str(error)
    assert sorted(file.name for file in PLACE.iterdir()) == ["members.zip"]  # nothing is unpacked


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory):
    global PLACE
    PLACE = tmp_path_factory.mktemp("members")


def test_thirty_thousand_submissions_are_listed_in_seconds_of_computing(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for i in range(30_000):
            archive.writestr(f"Ada Lovelace_{i}_assignsubmission_file_/{LAB}.ipynb", b"{}")
    begun = time.process_time()
    found = collect(tmp_path / "all.zip", LAB)
    assert len(found) == 30_000
    assert time.process_time() - begun < 20
    begun = time.process_time()
    assert {each.read() for each in found[:2000]} == {b"{}"}
    assert time.process_time() - begun < 5
