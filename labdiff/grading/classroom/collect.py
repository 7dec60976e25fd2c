"""A class's submissions of a lab: which notebook is whose, in what nbgrader, Moodle, Canvas or GitHub hand out.

What is known about the places, in the order in which they are tried:

- Moodle: `Ada Lovelace_1234567_assignsubmission_file_/lab.ipynb` (4.1 and later without the last underscore), or
  without folders `Ada Lovelace_1234567_assignsubmission_file_lab.ipynb`. The number is the participant's.
- GitHub Classroom, `gh classroom clone student-repos`: `<assignment>-submissions/<assignment>-<login>/`.
- Canvas: `lovelaceada_LATE_<user>_<attachment>_lab-1.ipynb`, all in one folder; anonymous ones have no name.
- nbgrader: `<student>/<lab>/<lab>.ipynb`, with timestamp.txt beside it.
- a folder for each student, or `<student>.ipynb`.

Nothing is written to disk, and no notebook is read unless a student handed in several.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import re
import stat
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from nbgrader.utils import parse_utc

from labdiff.errors import CollectError, Unreadable
from labdiff.grading.submission.read import LARGEST, read_cells
from labdiff.grading.submission.release import lab_of

IGNORED = {"__MACOSX", "__pycache__", "node_modules"}  # and all that begins with a dot
LONGEST_NAME = 120  # bytes of a student's id, which becomes the name of folders and files
MOST_READ = 20  # notebooks of one student, to find out which is the lab's
PUNCTUATION = " .@+'-_"  # besides letters and digits, what a student's id may hold

CLONED = "-submissions"  # what `gh classroom` calls its folder, after the assignment

MOODLE = r"(?P<student>[^/]+?)_assignsubmission_[a-z]+(?:_(?P<flat>[^/]*))?(?:/(?P<file>.*))?"
GITHUB = r"(?:{slugs})-(?P<student>[^/]+)/(?P<file>.*)"
NBGRADER = r"(?P<student>[^/]+)/{lab}/(?P<file>.*)"
CANVAS = (
    r"(?:(?P<student>[^/]*?)_)?(?:(?P<late>LATE|late)_)?(?P<id>\d+|anon_[A-Za-z0-9]+)_"
    r"(?:(?P<number>\d+)_(?P<file>[^/]+)|(?:text|link)\.html)"
)
FOLDERS = r"(?P<student>[^/]+)/(?P<file>.*)"
FILES = r"(?P<student>[^/]+)\.[Ii][Pp][Yy][Nn][Bb]"
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}  # of Windows


@dataclass(frozen=True)
class Submitted:
    """What one student handed in.

    student: the id for the gradebook, safe as the name of a folder and different for different
    students. Of Moodle and Canvas it ends in the number that they know the student by, after an
    underscore. origin: the path inside the folder or zip as the platform named it; of a student
    without a notebook, the folder or another file. note: what a person should know, or "".
    late: what Canvas says, None where nobody says. timestamp: UTC, from nbgrader's timestamp.txt.
    """

    student: str
    origin: str
    note: str = ""
    late: bool | None = None
    timestamp: datetime | None = None
    source: Path = field(default=Path(), repr=False)
    member: str = field(default="", repr=False)  # how the source names it; "" where there is no notebook

    def read(self) -> bytes:
        """The notebook's bytes. Raises Unreadable, with the sentence for this student's row, where there are none."""
        if not self.member:
            raise Unreadable(self.note)
        return _read(self.source, self.member, LARGEST)


@dataclass(frozen=True)
class _Entry:
    """A file, or a folder, whose path then ends in a slash."""

    path: str  # with / and without . and ..
    member: str
    modified: tuple[int, ...]

    @property
    def is_notebook(self) -> bool:
        return _is_notebook(self.path)


@dataclass(frozen=True)
class _Found:
    """An entry and what its path says."""

    entry: _Entry
    student: str
    file: str = ""  # as the student named it
    number: int = 0  # Canvas counts attachments up
    late: bool | None = None
    is_time: bool = False


def collect(source: Path, lab: str, pattern: str | None = None) -> list[Submitted]:
    """The submissions of a lab in a folder or a zip, sorted by student.

    pattern: a regular expression with a group (?P<student>...), searched in each path inside the
    source; what it does not match is left out. Without one, a notebook that no student can be
    found for is an error. A student who handed in files and no notebook is in the list: its
    `read` raises Unreadable with the reason. Raises CollectError.
    """
    source = Path(source)
    wanted = _compiled(pattern)
    entries = list(_listed(source))
    if not any(entry.is_notebook for entry in entries):
        raise CollectError(f"There is no notebook (.ipynb) in {source}: give the folder or zip with the submissions.")
    if wanted:
        found = [_Found(e, m["student"], e.path) for e in entries if (m := wanted.search(e.path)) and m["student"]]
        if not any(each.entry.is_notebook for each in found):
            raise CollectError(f"The pattern finds a student in no path; one of them is {_notebook(entries)}: mend it.")
    else:
        found = _whose(source, entries, lab)
    handed_in: dict[str, list[_Found]] = {}
    for each in found:
        handed_in.setdefault(each.student, []).append(each)
    ids = _ids(list(handed_in))
    submitted = []
    for student, files in handed_in.items():
        chosen, note = _choose(source, files, lab)
        late = [each.late for each in files if each.late is not None]
        times = [each.entry.member for each in files if each.is_time]
        submitted.append(
            Submitted(
                ids[student],
                chosen.path,
                note,
                any(late) if late else None,
                _time(source, times[0]) if times else None,
                source,
                chosen.member if chosen.is_notebook else "",
            )
        )
    return sorted(submitted, key=lambda each: each.student)


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise CollectError(f"The pattern {pattern!r} is no regular expression: {error}.") from error
    if "student" not in wanted.groupindex:
        raise CollectError(f"The pattern {pattern!r} does not say where the student is: give it a (?P<student>...).")
    return wanted


# --- listing ----------------------------------------------------------------------------------


def _listed(source: Path) -> Iterator[_Entry]:
    if source.is_dir():
        yield from _in_folder(source)
    elif not source.exists():
        raise CollectError(f"There is no {source}: give the folder or the zip with the submissions.")
    elif zipfile.is_zipfile(source):
        for info in _zip(source).infolist():
            if info.flag_bits & 1:
                raise CollectError(f"{source} is encrypted: unpack it with its password and give the folder.")
            name = info.filename
            if not info.flag_bits & 0x800:  # the zip does not say UTF-8, but macOS writes it
                with contextlib.suppress(UnicodeError):
                    name = name.encode("cp437").decode("utf-8")
            parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..")]
            kept = list(itertools.takewhile(lambda part: not _is_ignored(part), parts))
            if kept:  # of what is ignored, the folder that it lies in is left: it may be all that a student has
                is_folder = info.is_dir() or len(kept) < len(parts)
                yield _Entry("/".join(kept) + "/" * is_folder, info.filename, info.date_time)
    else:
        raise CollectError(f"{source} is neither a folder nor a whole zip: give the folder or the zip as downloaded.")


def _in_folder(source: Path) -> Iterator[_Entry]:
    waiting = [(str(source), "")]
    while waiting:
        folder, path = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _is_ignored(entry.name):
                        continue
                    inside = path + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, inside + "/"))
                        yield _Entry(inside + "/", inside, ())
                    else:
                        when = entry.stat(follow_symlinks=False).st_mtime_ns if _is_notebook(inside) else 0
                        yield _Entry(inside, inside, (when,))
        except OSError as error:
            raise CollectError(f"{folder} cannot be read: {error.strerror}. Make it readable and try again.") from error


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name in IGNORED


def _is_notebook(path: str) -> bool:
    return path.lower().endswith(".ipynb")


# --- whose ------------------------------------------------------------------------------------


def _whose(source: Path, entries: list[_Entry], lab: str) -> list[_Found]:
    """Each entry with its student, by the first layout that fits most notebooks, below folders that only wrap it."""
    name, inside = source.stem if source.is_file() else source.resolve().name, ""
    while True:
        paths = [entry.path[len(inside) :] for entry in entries if entry.is_notebook]
        slugs = {lab, lab.replace("_", "-"), *([name[: -len(CLONED)]] if name.endswith(CLONED) else [])}
        for layout in (MOODLE, GITHUB.format(slugs="|".join(map(re.escape, sorted(slugs)))), CANVAS):
            found = _by(layout, entries, inside)
            # most of them, so that nobody's file name decides how all others are read
            if 2 * sum(each.entry.is_notebook for each in found) > len(paths):
                return _whole(found, entries)
        # a notebook directly in a student's folder: then there is no folder for each lab
        if all(path.count("/") > 1 for path in paths):
            found = _by(NBGRADER.format(lab=re.escape(lab)), entries, inside)
            if any(each.entry.is_notebook for each in found):
                return [replace(each, is_time=each.file == "timestamp.txt") for each in found]
        tops = {path.partition("/")[0] for path in paths}
        top = next(iter(tops))
        is_wrapped = len(tops) == 1 and len(paths) > 1 and f"{top}/{lab}.ipynb" not in paths
        if not is_wrapped:
            break
        name, inside = top, f"{inside}{top}/"
    return _whole(_by(FOLDERS if any("/" in path for path in paths) else FILES, entries, inside), entries)


def _by(layout: str, entries: list[_Entry], inside: str) -> list[_Found]:
    """The entries that a layout matches."""
    pattern = re.compile(layout, re.S)
    found = []
    for entry in entries:
        match = pattern.fullmatch(entry.path[len(inside) :]) if entry.path.startswith(inside) else None
        if not match:
            continue
        said = match.groupdict()
        student = "_".join(part for part in (said.get("student"), said.get("id")) if part)
        file = said.get("flat") or said.get("file") or ""
        late = bool(said["late"]) if "late" in said else None
        found.append(_Found(entry, student, file, int(said.get("number") or 0), late))
    return found


def _whole(found: list[_Found], entries: list[_Entry]) -> list[_Found]:
    """What was found, if no notebook is left over. Raises CollectError."""
    taken = {each.entry.path for each in found}
    left = [entry for entry in entries if entry.is_notebook and entry.path not in taken]
    if left:
        raise CollectError(
            f"Whose is {_shown(left[0].path)}? Notebooks not named like {_notebook([e.entry for e in found])}: "
            f"{len(left)}. Move them away, or say with a pattern where the student is."
        )
    return found


def _notebook(entries: list[_Entry]) -> str:
    return _shown(next(entry.path for entry in entries if entry.is_notebook))


def _shown(text: str) -> str:
    """A name that a student may have chosen, on one line and short."""
    text = "".join(c if c.isprintable() else " " for c in text[:200])
    return text if len(text) <= 120 else f"{text[:58]} ... {text[-57:]}"


def _ids(names: list[str]) -> dict[str, str]:
    """For each name an id that is safe as the name of a folder; no two fall together on any file system."""
    ids = {name: _safe(name) for name in names}
    folded: dict[str, list[str]] = {}
    for name, student in ids.items():
        folded.setdefault(_folded(student), []).append(name)
    for same in folded.values():
        if len(same) > 1:
            ids |= {name: _marked(ids[name], name) for name in same}
    if len({_folded(student) for student in ids.values()}) < len(ids):
        raise CollectError("Two students' names cannot be told apart: rename their folders or files.")
    return ids


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _safe(name: str) -> str:
    """A name with letters, digits and little else, whatever it was; marked where that changed it beyond recognition."""
    normal = unicodedata.normalize("NFC", name)
    safe = "".join(c if unicodedata.category(c)[0] in "LMN" or c in PUNCTUATION else "_" for c in normal)
    safe = safe.rstrip(". ").lstrip(" .@+'-")  # no hidden file, no option, no formula
    if len(safe.encode()) > LONGEST_NAME or not safe or _folded(safe.partition(".")[0]) in DEVICES:
        return _marked(safe, name)
    return safe


def _marked(safe: str, name: str) -> str:
    """A safe name with something that only this name gives, before the number that a platform put last."""
    number = re.search(r"_\d{1,18}$", safe)
    last = number[0] if number else ""
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    room = LONGEST_NAME - len(last) - len(mark) - 1
    first = safe[: len(safe) - len(last)].encode()[:room].decode("utf-8", "ignore").rstrip(". ")
    return f"{first or 'student'}-{mark}{last}"


# --- which notebook ---------------------------------------------------------------------------


def _choose(source: Path, files: list[_Found], lab: str) -> tuple[_Entry, str]:
    """The entry that counts of what one student handed in, and what a person should know of it."""
    notebooks = [each for each in files if each.entry.is_notebook]
    if not notebooks:
        others = [each for each in files if not each.entry.path.endswith("/") and not each.is_time]
        if not others:
            return files[0].entry, "Nothing was handed in: the folder is empty."
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        name = _shown(others[0].entry.path.rpartition("/")[2])
        return others[0].entry, f"No notebook (.ipynb) was handed in, but {name}{more}."
    if len(notebooks) == 1:
        return notebooks[0].entry, ""
    notebooks.sort(key=_newest, reverse=True)
    named = [each for each in notebooks if _stem(each)[0] == lab.casefold()]
    left, why = (named, "it is named for the lab") if named else (notebooks, "")
    if len(left) > 1:
        right = [each for each in left[:MOST_READ] if _is_lab(source, each.entry.member, lab)]
        if len(right) == 1:
            left, why = right, f"it alone is {lab}"
        else:
            left, why = right or left, f"it is the newest of those that are {lab}" if right else "it is the newest"
    name = _shown(left[0].entry.path.rpartition("/")[2])
    return left[0].entry, f"{len(notebooks)} notebooks were handed in; {name} is graded, because {why}."


def _newest(found: _Found) -> tuple[int, int, int, tuple[int, ...], str]:
    """Sorts what lies at the top, then what was handed in last, to the end."""
    return (-found.file.count("/"), found.number, _stem(found)[1], found.entry.modified, found.entry.path)


def _stem(found: _Found) -> tuple[str, int]:
    """A file's name, and the count that Canvas and browsers put behind it when there is one already."""
    name = found.file.rpartition("/")[2].casefold().removesuffix(".ipynb")
    counted = re.fullmatch(r"(.+?)(?:-(\d{1,4})| ?\((\d{1,4})\))", name, re.S)
    return (counted[1], int(counted[2] or counted[3])) if counted else (name, 0)


def _is_lab(source: Path, member: str, lab: str) -> bool:
    try:
        return lab_of(read_cells(_read(source, member, LARGEST))) == lab
    except Unreadable:
        return False


# --- reading ----------------------------------------------------------------------------------


def _read(source: Path, member: str, most: int) -> bytes:
    """At most so many bytes of one file of the source. Raises Unreadable."""
    try:
        data = _read_zipped(source, member, most) if source.is_file() else _read_file(source / member, most)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise Unreadable(
            "This file is broken inside the zip: ask the student for it, or download the zip again."
        ) from error
    except OSError as error:
        raise Unreadable(f"This file cannot be read: {error.strerror or error}.") from error
    if len(data) > most:
        raise Unreadable(f"The file is too large: at most {most >> 20} MB are read.")
    return data


def _read_file(file: Path, most: int) -> bytes:
    if not stat.S_ISREG(os.lstat(file).st_mode):
        raise Unreadable("This is no file of its own, but a link, a folder or a pipe.")
    with open(file, "rb") as opened:
        return opened.read(most + 1)


def _read_zipped(source: Path, member: str, most: int) -> bytes:
    archive = _zip(source)
    info = archive.getinfo(member)
    # the others unpack without a limit, whatever they are asked for
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable("This file is packed in a way that is not read: unpack the zip and give the folder.")
    with archive.open(info) as opened:
        return opened.read(most + 1)


_lock = threading.Lock()


def _zip(source: Path) -> zipfile.ZipFile:
    """A zip, opened once: listing 30,000 members takes longer than reading one."""
    about = source.stat()
    with _lock:
        try:
            # a forked process would share its parent's place in the file
            return _opened(str(source), about.st_mtime_ns, about.st_size, os.getpid())
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            raise CollectError(f"{source} is broken: download it again, or unpack it and give the folder.") from error


@functools.lru_cache(maxsize=2)
def _opened(source: str, modified: int, size: int, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(source)


def _time(source: Path, member: str) -> datetime | None:
    try:
        at: datetime = parse_utc(_read(source, member, 100).decode().strip())
    except (Unreadable, ValueError, OverflowError):
        return None
    return at
