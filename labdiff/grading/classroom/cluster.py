"""Many submissions at once on Dask: on this machine's cores, or on any running cluster.

A submission travels as bytes and comes back as a Report in JSON. Workers need
labdiff[grading] and bubblewrap, and share nothing on disk with each other or with us.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from typing import TypeVar

import psutil
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed

from labdiff.errors import ClusterError, SandboxError
from labdiff.grading.classroom.store import Conditions, checks_of
from labdiff.grading.grade import grade, ungraded
from labdiff.grading.report import Report
from labdiff.grading.sandbox.host import check_isolation

MEMORY = 3 << 30  # bytes that one worker and the submission it runs may need
ENDED = "Each worker that tried to grade it ended: run the same command again, or look at it yourself."
AHEAD = 2  # submissions per worker that are on their way, so that none waits and the scheduler holds few

Named = TypeVar("Named")  # whatever names a submission


@contextlib.contextmanager
def connect(scheduler: str | None = None, workers: int | None = None) -> Iterator[Client]:
    """A client of the cluster at an address, or of one made for the time being on this machine.

    workers: of the cluster made here; as many as cores and memory allow unless given.
    Raises ClusterError where there is no cluster at that address, or none with workers.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            most = min(os.cpu_count() or 1, int(psutil.virtual_memory().total // MEMORY))
            local = LocalCluster(
                n_workers=workers or max(1, most),
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",  # a free port; without an address it warns where another has 8787
                silence_logs=logging.CRITICAL,
            )
            scheduler = stack.enter_context(local)
        try:
            client = stack.enter_context(Client(scheduler, timeout=20, set_as_default=False))
            client.wait_for_workers(1, timeout=30)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"There is no Dask cluster with workers at {scheduler}: start `dask scheduler` and, on each machine, "
                f"`dask worker ADDRESS --nthreads 1`. ({str(error)[:100] or type(error).__name__})"
            ) from error
        yield client


def grade_all(
    submissions: Iterable[tuple[Named, bytes]], conditions: Conditions, client: Client
) -> Iterator[tuple[Named, Report]]:
    """Grade submissions, each given as (whatever names it, bytes), and yield their reports as they come in.

    Submissions are taken from the iterable as workers need them, so neither we nor the
    scheduler hold a class in memory. Raises ClusterError where a worker cannot grade.
    """
    supply, done = iter(submissions), as_completed(loop=client.loop)
    flying: dict[object, Named] = {}
    while True:
        room = AHEAD * max(1, len(client.nthreads())) - len(flying)
        for name, data in itertools.islice(supply, max(0, room)):
            future = client.submit(_grade, data, conditions, pure=False, retries=2)
            flying[future.key] = name
            done.add(future)
        if not flying:
            return
        future = next(done)
        yield flying.pop(future.key), _report(future, conditions)
        del future


def _report(future: Future[tuple[str, str]], conditions: Conditions) -> Report:
    try:
        said, checks = future.result()
    except KilledWorker:
        return ungraded(conditions.lab, conditions.seed, conditions.isolation, ENDED)
    except SandboxError as error:
        raise ClusterError(f"A worker cannot grade: {error}") from error
    if checks != conditions.checks:
        raise ClusterError("A worker has other checks of this lab: install the same labdiff on every machine.")
    return Report.from_json(said)


def _grade(data: bytes, conditions: Conditions) -> tuple[str, str]:
    """On a worker: the report of one submission, and the hash of the checks that this worker has."""
    check_isolation(conditions.isolation)
    lab, seed, isolation = conditions.lab, conditions.seed, conditions.isolation
    checks = checks_of(lab)
    try:
        report = grade(data, lab, seed=seed, isolation=isolation, carry=conditions.carry)
    except SandboxError:
        raise
    except Exception as error:  # one submission stops nobody else
        problem = f"It could not be graded ({type(error).__name__}): a person should look at this one."
        report = ungraded(lab, seed, isolation, problem)
    return report.to_json(None), checks
