"""What one submission may use, and where it may run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from labdiff.errors import SandboxError


class Isolation(str, Enum):
    """Where a submission's code runs. Isolation("...") raises SandboxError where there is none of that name."""

    BUBBLEWRAP = "bubblewrap"
    NONE = "none"  # with the rights of whoever grades

    __str__ = str.__str__  # in texts and tables it is its value

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise SandboxError(f"There is no isolation called {value!r}; there are {' and '.join(cls)}.")


@dataclass(frozen=True)
class Limits:
    """What one submission may use; times in seconds of wall clock, sizes in bytes."""

    cell_seconds: float = 30
    exercise_seconds: float = 20
    submission_seconds: float = 300
    process_memory: int = 2 << 30  # what one process may ask for
    memory: int = 4 << 30  # what all of them may hold
    processes: int = 64
    written_bytes: int = 64 << 20  # of one file, and of /tmp
    output_bytes: int = 32 << 20  # of one exercise
