"""Where the jobs of a sweep run: in processes of this computer, or elsewhere."""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple, Protocol

from ntm.runs.jobs import Job
from ntm.runs.launcher import Child


class End(NamedTuple):
    """A step of a job that has ended; ``error`` is what stopped it, None where it ended well.

    again: it was interrupted, or another process is training there: neither done nor failed.
    """

    job: Job
    error: str | None
    again: bool = False


class Executor(Protocol):
    """Where jobs run."""

    def free(self) -> bool:
        """Whether it would take another job."""

    def start(self, job: Job) -> None:
        """Begins the next step of a job."""

    def ended(self) -> list[End]:
        """Steps that have ended since it was last asked."""

    def stop(self) -> None:
        """Asks what is running to save and stop, and waits for it."""


class _Running(NamedTuple):
    job: Job
    child: Child
    cores: list[int]


class LocalExecutor:
    """Processes of this computer, each on cores of its own so that none waits for another's."""

    def __init__(self, workers: int) -> None:
        cores = _cores()
        share = max(1, len(cores) // workers)
        self._idle = [
            [cores[(i * share + k) % len(cores)] for k in range(share)] for i in range(workers)
        ]
        self._running: list[_Running] = []

    def free(self) -> bool:
        return bool(self._idle)

    def start(self, job: Job) -> None:
        cores = self._idle.pop(0)
        child = Child(job.command(len(cores)), threads=len(cores), own_session=True)
        if hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):  # it may have ended already
                os.sched_setaffinity(child.pid, cores)
        self._running.append(_Running(job, child, cores))

    def ended(self) -> list[End]:
        over = [running for running in self._running if not running.child.is_running()]
        self._running = [running for running in self._running if running not in over]
        self._idle += [running.cores for running in over]
        return [_end(running) for running in over]

    def stop(self) -> None:
        for running in self._running:
            running.child.terminate()
        for running in self._running:
            running.child.outcome()
        self._running.clear()


def _end(running: _Running) -> End:
    outcome, error = running.child.outcome(), None
    if outcome.error is not None:
        error = outcome.error.removeprefix(f"{running.job.folder}: ")
    return End(running.job, error, outcome.again)


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
