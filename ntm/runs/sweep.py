"""Many runs: every one done once, whatever happens in between."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ntm.errors import NTMError
from ntm.files import write_file
from ntm.runs.executor import Executor
from ntm.runs.folder import RunDir
from ntm.runs.jobs import Job


class SweepWatcher(Protocol):
    """Sees how a sweep gets on."""

    def changed(self, state: SweepState) -> None:
        """Called every now and then, and whenever a step begins or ends."""

    def ended(self, job: Job, error: str | None) -> None:
        """A job is done, or has failed."""


@dataclass
class SweepState:
    """Where a sweep stands."""

    waiting: list[Job] = field(default_factory=list)
    running: dict[Path, tuple[Job, float]] = field(default_factory=dict)  # since, time.monotonic
    done: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, str]] = field(default_factory=list)
    before: int = 0  # how many were done when it began
    seconds: list[float] = field(default_factory=list)  # that jobs took from start to end

    def left(self, workers: int) -> float | None:
        """Seconds until everything is done, if the others take as long as those so far."""
        if not self.seconds:
            return None
        each, now = sum(self.seconds) / len(self.seconds), time.monotonic()
        rest = sum(max(0.0, each - (now - since)) for _, since in self.running.values())
        return (rest + each * len(self.waiting)) / workers


def sweep(
    jobs: Iterable[Job],
    out: Path,
    executor: Executor,
    watcher: SweepWatcher,
    retries: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> SweepState:
    """Runs what is missing, and goes on with what was interrupted.

    A job that fails is tried again at most ``retries`` times, in all calls together, after the
    others; its last error is remembered. One in which another process is training is waited for.
    Raises UsageError where a folder holds a run with other settings.
    """
    attempts = Attempts(out)
    state = _begin(jobs, attempts, retries)
    begun: dict[Path, float] = {}
    steps: dict[Path, int] = {}
    while (state.waiting or state.running) and not should_stop():
        while state.waiting and executor.free():
            job = state.waiting.pop(0)
            steps[job.folder] = job.steps_left()
            executor.start(job)
            state.running[job.folder] = (job, time.monotonic())
            begun.setdefault(job.folder, time.monotonic())
        for end in executor.ended():
            job, error = end.job, end.error
            del state.running[job.folder]
            left = job.steps_left()
            if error is None and left == 0:
                state.done.append(job)
                state.seconds.append(time.monotonic() - begun[job.folder])
                watcher.ended(job, None)
            elif error is None and left < steps[job.folder]:  # trained: its tests are next
                state.waiting.insert(0, job)
            elif end.again:
                state.waiting.append(job)
                time.sleep(1)
            else:
                error = error or "ended without being done"
                attempts.failed(job, error)
                if attempts.failures(job) > retries:
                    state.failed.append((job, error))
                    watcher.ended(job, error)
                else:
                    state.waiting.append(job)
        watcher.changed(state)
        time.sleep(0.1)
    executor.stop()
    return state


def _begin(jobs: Iterable[Job], attempts: Attempts, retries: int) -> SweepState:
    """What is done, what has failed too often, and what waits."""
    state = SweepState()
    for job in jobs:
        job.check()
        if not job.folder.exists():
            attempts.forget(job)
        if job.steps_left() == 0:
            state.done.append(job)
        elif attempts.failures(job) > retries:
            state.failed.append((job, attempts.error(job)))
        else:
            state.waiting.append(job)
    state.before = len(state.done)
    return state


class Attempts:
    """How often each job has failed, and its last error: OUT/sweep.json."""

    def __init__(self, out: Path) -> None:
        self.file = out / "sweep.json"
        self._out = out
        try:
            self._data: dict[str, dict[str, Any]] = json.loads(self.file.read_text("utf-8"))
            if not all(isinstance(entry, dict) for entry in self._data.values()):
                raise ValueError("it should hold an object for each run")
        except FileNotFoundError:
            self._data = {}
        except (OSError, ValueError, AttributeError) as error:
            raise NTMError(f"{self.file}: cannot be read: {error}; without it, no error is "
                           "remembered, and nothing is lost") from None  # fmt: skip

    def failures(self, job: Job) -> int:
        """How often it has failed."""
        return int(self._entry(job).get("failures", 0))

    def error(self, job: Job) -> str:
        """Its last error."""
        return str(self._entry(job).get("error", ""))

    def forget(self, job: Job) -> None:
        """A run whose folder was removed begins anew."""
        if self._data.pop(self._key(job), None) is not None:
            self._write()

    def failed(self, job: Job, error: str) -> None:
        """Remembers a failure."""
        entry = {"failures": self.failures(job) + 1, "error": error}
        self._data[self._key(job)] = entry
        self._write()

    def _write(self) -> None:
        write_file(self.file, json.dumps(self._data, indent=2) + "\n")

    def _entry(self, job: Job) -> Mapping[str, Any]:
        return self._data.get(self._key(job), {})

    def _key(self, job: Job) -> str:
        return job.folder.relative_to(self._out).as_posix()


@contextlib.contextmanager
def lock(out: Path) -> Iterator[None]:
    """Keeps a second sweep out of the folder."""
    with RunDir(out).lock(f"{out}: another sweep is running here"):
        yield
