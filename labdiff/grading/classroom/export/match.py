"""Which row of a roster is whose: by number, then id, e-mail and name."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from labdiff.grading.classroom.export.marks import Exported, Mark, numbered

Thing = TypeVar("Thing")


@dataclass
class RosterRow:
    """A student of a roster: where the row is, and by what it can be told."""

    at: int
    number: str
    ids: set[str]
    email: str
    name: str

    @property
    def shown(self) -> str:
        return self.name or self.email or self.number


def give_marks(
    known: list[Mark], rows: list[RosterRow], fill: Callable[[int, Mark, float], str], done: Exported
) -> None:
    """Give each mark to the one row that it belongs to, by number, then id, e-mail, name; note who is left.

    fill: gets the row's place, whose mark it is, and the score, and returns what a person should know, or "".
    """
    marked = [mark for mark in known if mark.score is not None]
    pairs: dict[int, Mark] = {}
    taken: set[str] = set()
    ways: list[tuple[Callable[[RosterRow], set[str]], Callable[[Mark], set[str]]]] = [
        # both, because the names that students choose are in the names of files
        (lambda row: {f"{row.number} {letters_of(row.name)}"}, lambda mark: {_number_and_name(mark)} - {""}),
        (lambda row: row.ids, lambda mark: {mark.student}),
        (
            lambda row: {row.email.casefold()} - {""},
            lambda mark: {mark.email.casefold(), mark.student.casefold()} - {""},
        ),
        (lambda row: {letters_of(row.name)} - {""}, _names),
    ]
    for of_row, of_mark in ways:
        by_row, by_mark = _index(rows, of_row), _index(marked, of_mark)
        for key, some in by_mark.items():
            fits = by_row.get(key, [])
            if len(some) == 1 and len(fits) == 1 and some[0].student not in taken and fits[0].at not in pairs:
                pairs[fits[0].at] = some[0]
                taken.add(some[0].student)
    for at, mark in pairs.items():
        if mark.score is not None and (said := fill(at, mark, mark.score)):
            done.remarks.append(f"{said}.")
    done.not_in_roster += [mark.student for mark in marked if mark.student not in taken]
    done.without_marks += [row.shown for row in rows if row.at not in pairs]
    listed = {name for row in rows for name in (row.number, *row.ids, row.email)} - {""}
    done.without_marks += [m.student for m in known if m.score is None and not {m.student, m.number, m.email} & listed]


def _index(things: Iterable[Thing], keys: Callable[[Thing], set[str]]) -> dict[str, list[Thing]]:
    index: dict[str, list[Thing]] = {}
    for thing in things:
        for key in keys(thing):
            index.setdefault(key, []).append(thing)
    return index


def _number_and_name(mark: Mark) -> str:
    name, number = numbered(mark.student)
    return f"{number} {letters_of(name)}" if number else ""


def _names(mark: Mark) -> set[str]:
    """How a roster may write a student's name."""
    if mark.number:  # a name alone is not enough where the platform's number says another
        return set()
    both = (f"{mark.first_name}{mark.last_name}", f"{mark.last_name}{mark.first_name}", mark.student)
    return {letters_of(name) for name in both} - {""}


def letters_of(name: str) -> str:
    """A name without what platforms take out of file names: only letters and digits, small."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")
