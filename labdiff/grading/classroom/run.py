"""A whole class: find what was handed in, grade what is new, record it in nbgrader's gradebook, and sum it up.

Everything is kept below the course's folder, in reports/<lab>/: `class.json` (the seed and
the other conditions), `graded/` (a report per submission and conditions) and the summary.
What is there already is not done again, so a run that was stopped anywhere goes on where it was.
"""

from __future__ import annotations

import contextlib
import csv
import gc
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from labdiff import exercises, files
from labdiff.checking.verdict import Status
from labdiff.errors import ClassError, CourseError, FileError, Unreadable
from labdiff.grading.classroom import cluster
from labdiff.grading.classroom.collect import Submitted, collect
from labdiff.grading.classroom.course import Course
from labdiff.grading.classroom.store import STAMP, Conditions, Recorded, Reports, checks_of, hash_of, recorded
from labdiff.grading.classroom.summary import Summary
from labdiff.grading.grade import new_seed
from labdiff.grading.report import CARRIED, Report
from labdiff.grading.sandbox.limits import Isolation


@dataclass(frozen=True)
class Change:
    """What grading again does to one student's marks. why: one line for each exercise whose marks change."""

    student: str
    before: float
    after: float
    why: tuple[str, ...]


def grade_class(
    course: Course,
    lab: str,
    source: Path,
    *,
    pattern: str | None = None,
    seed: int | None = None,
    carry: bool | None = None,
    isolation: Isolation = Isolation.BUBBLEWRAP,
    scheduler: str | None = None,
    workers: int | None = None,
    regrade: bool = False,
    agree: Callable[[list[Change]], bool] = lambda changes: True,
    say: Callable[[str], None] = tqdm.write,
) -> Summary:
    """Grade a lab of a whole class, and return the summary, which is also written to reports/<lab>/.

    course: where the gradebook is. source, pattern: see `collect`. seed, carry: as the class was
    graded before unless given. scheduler, workers: see `cluster.connect`. regrade: grade again
    what was graded under other conditions (corrected checks, another seed), and write it if
    `agree` says so when it is shown the changes. say: takes a line for each student.

    Raises ClassError, CollectError, cluster.ClusterError, CourseError; what was graded until then is kept.
    """
    exercises.lab(lab)  # a name that is none is said before anything is read
    handed_in = collect(source, lab, pattern)
    folder = course.root / "reports" / lab
    gc.freeze()  # what is loaded by now stays; nbgrader makes so much that looking at it again costs a tenth
    with _alone(folder):
        conditions = _conditions(folder / "class.json", lab, seed, carry, isolation)
        course.prepare(lab)
        run = _Run(course, conditions, Reports(folder / "graded"), regrade, say)
        with tqdm(total=len(handed_in), unit="submission", dynamic_ncols=True) as bar:
            new = run.new(handed_in, bar.update)
            # no cluster is started for a class in which nothing is new
            first = next(new, None)
            if first:
                with cluster.connect(scheduler, workers) as client:
                    for work, report in cluster.grade_all(itertools.chain([first], new), conditions, client):
                        run.graded(work, report)
                        bar.update()
        changes = run.changes()
        if changes and not agree(changes):
            raise ClassError("Nothing was written: the marks in the gradebook are what they were.")
        run.write_again()
        files.write(folder / "class.json", json.dumps(asdict(conditions), indent=2))
        return run.summary(folder)


class _Run:
    """One run over a class."""

    def __init__(
        self, course: Course, conditions: Conditions, reports: Reports, regrade: bool, say: Callable[[str], None]
    ):
        self.course, self.conditions, self.reports, self.say = course, conditions, reports, say
        self.lab, self.regrade = conditions.lab, regrade
        self.in_gradebook = course.students(self.lab)
        self.rows: list[tuple[Submitted, str]] = []  # what was handed in -> the name of its report
        self.problems: dict[str, str] = {}  # student -> why there is no report
        self.again: list[tuple[Submitted, str, str]] = []  # what to record when agreed: old and new report
        self.kept = 0

    def new(
        self, handed_in: list[Submitted], passed: Callable[[], object]
    ) -> Iterator[tuple[tuple[Submitted, str], bytes]]:
        """What has to be graded; what need not is recorded on the way where it is not yet, and `passed` called."""
        for each in handed_in:
            try:
                data = each.read()
            except (Unreadable, OSError) as error:
                self._fails(each, str(error))
                passed()
                continue
            submission = hash_of(data)
            key = self.conditions.key(submission)
            before = recorded(self.course.root, self.lab, each.student)
            known = before.submission == submission and each.student in self.in_gradebook
            if known and before.key != key and not self.regrade and self.reports.get(before.key):
                self.kept += 1
                self.rows.append((each, before.key))
            elif known and before.key == key:
                self.rows.append((each, key))
            elif report := self.reports.get(key):
                self._record(each, data, key, report)
            else:
                yield (each, submission), data
                continue
            passed()

    def graded(self, work: tuple[Submitted, str], report: Report) -> None:
        """Keep a new report, and record it."""
        each, submission = work
        key = self.conditions.key(submission)
        if report.problem == cluster.ENDED:  # it may be no fault of this one, so it is tried again the next time
            self._fails(each, report.problem)
            return
        self.reports.put(key, report)
        self._record(each, self._same(each, key), key, report)

    def _same(self, each: Submitted, key: str) -> bytes:
        """The submission that a report is of, read once more; b"" where the file is another one by now."""
        with contextlib.suppress(Unreadable, OSError):
            data = each.read()
            if self.conditions.key(hash_of(data)) == key:
                return data
        self._fails(each, "The file changed while it was graded: run the same command again.")
        return b""

    def _fails(self, each: Submitted, problem: str) -> None:
        self.problems[each.student] = problem
        self.say(f"  {each.student:<20} {problem}")

    def _record(self, each: Submitted, data: bytes, key: str, report: Report) -> None:
        if not data:
            return
        before = recorded(self.course.root, self.lab, each.student)
        if self.regrade and before.submission == hash_of(data) and before.key not in ("", key):
            self.again.append((each, before.key, key))
        else:
            self._write(each, data, key, report)
        self.rows.append((each, key))
        self.say(line(each.student, report))

    def _write(self, each: Submitted, data: bytes, key: str, report: Report) -> None:
        place = self.course.root / "submitted" / each.student / self.lab
        try:
            self._place(each, place, data)
        except FileError as error:
            self._fails(each, f"It was graded and not recorded: {error}")
            return
        try:
            self.course.record(self.lab, each.student, report)
        except CourseError as error:
            self._fails(each, f"nbgrader could not record it: {error.cause}")
            return
        stamp = Recorded(hash_of(data), key, each.origin)
        files.write(self.course.root / "autograded" / each.student / self.lab / STAMP, json.dumps(asdict(stamp)))

    def _place(self, each: Submitted, place: Path, data: bytes) -> None:
        """Put a submission where nbgrader looks for it, unless that is where it came from."""
        if (each.source / each.origin).parent.resolve() == place.resolve():
            if Path(each.origin).name != f"{self.lab}.ipynb" and (place / f"{self.lab}.ipynb").exists():
                raise FileError(f"{each.origin} was graded, and {self.lab}.ipynb is there too: take one away.")
            return
        files.write(place / f"{self.lab}.ipynb", data)
        if each.timestamp:  # what nbgrader takes late penalties from
            files.write(place / "timestamp.txt", each.timestamp.isoformat())

    def changes(self) -> list[Change]:
        """Whose marks would change by what was graded again."""
        found = []
        for each, old, new in self.again:
            before, after = self.reports.get(old), self.reports.get(new)
            if before and after and before.score != after.score:
                found.append(Change(each.student, before.score, after.score, tuple(_why(before, after))))
        return found

    def write_again(self) -> None:
        """Record what was graded again."""
        for each, _, new in tqdm(self.again, unit="submission", disable=not self.again):
            report = self.reports.get(new)
            data = self._same(each, new) if report else b""
            if report and data:
                self._write(each, data, new, report)

    def summary(self, folder: Path) -> Summary:
        """Sum up the class, in reports/<lab>/."""
        if self.kept:
            self.say(f"{self.kept} were graded under other conditions and kept: --regrade grades them again.")
        found = Summary(self.lab)
        with files.writing(folder / "summary.csv") as file, open(file, "w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(found.header())
            for each, key in sorted(self.rows, key=lambda row: row[0].student):
                report = self.reports.get(key)
                if report:
                    table.writerow(found.add(each.student, report, each.note))
            for student, problem in sorted(self.problems.items()):
                table.writerow(found.problem(student, problem))
        found.waiting = self.course.waiting(self.lab)
        files.write(folder / "summary.html", found.as_page())
        return found


def line(student: str, report: Report) -> str:
    """One line about a submission: its marks, and what a person should know."""
    results = report.exercises
    counts: list[tuple[int, str]] = [(sum(r.status == kind for r in results), kind) for kind in Status]
    counts.append((sum(r.basis == CARRIED for r in results), "carried forward"))
    what = report.problem or ", ".join(f"{n} {kind}" for n, kind in counts if n)
    return f"  {student:<20} {report.score:>5g} / {report.max_score:<4g} {what}"


def _why(before: Report, after: Report) -> Iterator[str]:
    old = {result.name: result for result in before.exercises}
    for new in after.exercises:
        was = old.get(new.name)
        score, status, hint = (was.score, was.status, was.hint) if was else (0.0, "not asked", "")
        if score != new.score:
            reason = new.hint or hint
            yield f"{new.name} {score:g} -> {new.score:g} ({status} -> {new.status}) {reason}".rstrip()
    if before.problem != after.problem:
        yield f"{before.problem or 'could be graded'} -> {after.problem or 'could be graded'}"


def _conditions(file: Path, lab: str, seed: int | None, carry: bool | None, isolation: Isolation) -> Conditions:
    """The conditions of this run; what is not given is as it was in the run before."""
    before = {}
    with contextlib.suppress(OSError, ValueError):
        before = json.loads(file.read_text(encoding="utf-8"))
    carry = before.get("carry", True) if carry is None else carry
    seed = before.get("seed", new_seed()) if seed is None else seed
    conditions = Conditions(lab, checks_of(lab), seed, carry, isolation)
    if not before:
        files.write(file, json.dumps(asdict(conditions), indent=2))  # a run that is stopped goes on with the same seed
    return conditions


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second run over the same lab of the same course out; not on Windows, which has no such locks."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ClassError(f"Another run is grading this lab in {folder}: wait until it has ended.") from error
        yield
