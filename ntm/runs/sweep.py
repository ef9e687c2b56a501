"""Many runs: every combination of configs, settings and seeds once, whatever happens in between."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ntm.errors import NTMError, UsageError
from ntm.files import write_file
from ntm.runs.folder import RunDir
from ntm.runs.start import EXTENDABLE, flat
from ntm.training.load import expand, load_config, short_name, to_dict
from ntm.training.schema import Config

#: Statuses of a run that is over.
ENDED = ("solved", "budget")
#: The exit code of a run that was asked to stop, and has saved.
INTERRUPTED = 130


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    config: str
    settings: tuple[str, ...]
    seed: int
    folder: Path
    resolved: Config

    @property
    def run(self) -> RunDir:
        return RunDir(self.folder)

    def command(self, threads: int) -> list[str]:
        """The words after ``ntm`` that train it, or go on with it."""
        words = ["train", self.config]
        words += [word for setting in self.settings for word in ("--set", setting)]
        words += ["--seed", str(self.seed), "--run", str(self.folder)]
        words += ["--threads", str(threads), "--quiet"]
        return words + (self.resuming() if self.run.config_file.exists() else [])

    def resuming(self) -> list[str]:
        """The words that go on with its run; what may change in one is said."""
        asked = flat(to_dict(self.resolved))
        more = [f"{key}={asked[key]}" for key in sorted(EXTENDABLE)]
        return ["--resume", *(word for setting in more for word in ("--set", setting))]

    def differs(self) -> dict[str, tuple[Any, Any]]:
        """Settings in which the run that is there is another: there, and here."""
        there, here = flat(to_dict(self.run.config())), flat(to_dict(self.resolved))
        keys = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
        return {key: (there.get(key), here.get(key)) for key in keys}


def plan(
    configs: Sequence[str], seeds: int, grid: Sequence[str], settings: Sequence[str], out: Path
) -> list[Job]:
    """Every combination, each validated before anything is made.

    grid: ``key=value,value``; commas within brackets belong to a value. A run's folder is
    out/TASK/CONFIG/SETTINGS/seed-N, the same whenever the sweep is planned again. A family stands
    for all its models, each of which is a CONFIG.
    """
    if any(setting.partition("=")[0] == "seed" for setting in settings):
        raise UsageError("--set seed: --seeds N runs seeds 1 to N")
    axes = [[(key, value) for value in values] for key, values in map(_axis, grid)]
    keys = [axis[0][0] for axis in axes]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UsageError(f"--grid {twice[0]}: is there twice; one has all values of a key")
    jobs: dict[Path, Job] = {}
    for config in itertools.chain.from_iterable(map(expand, configs)):
        for chosen in itertools.product(*axes):
            given = [*settings, *(f"{key}={value}" for key, value in chosen)]
            loaded = load_config(config, given)
            name = ",".join(_short(key, value) for key, value in chosen)
            place = out / loaded.task.kind / short_name(config) / name
            for seed in range(1, seeds + 1):
                resolved = dataclasses.replace(loaded, seed=seed)
                job = Job(config, tuple(given), seed, place / f"seed-{seed}", resolved)
                if job.folder in jobs:
                    raise UsageError(
                        f"{job.folder}: two runs of this sweep would share this folder; configs of "
                        "one task need names of their own, and values of a grid must differ"
                    )
                jobs[job.folder] = job
    return list(jobs.values())


def _axis(text: str) -> tuple[str, list[str]]:
    key, equals, values = text.partition("=")
    depth, parts = 0, [""]
    for character in values:
        depth += (character in "[{(") - (character in ")}]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    parts = [part.strip() for part in parts]
    if not (key and equals and all(parts)):
        raise UsageError(f"--grid {text}: should be key=value,value such as train.batch=1,8")
    if key == "seed":
        raise UsageError("--grid seed: --seeds N runs seeds 1 to N")
    return key, parts


def _short(key: str, value: str) -> str:
    """A setting as part of a folder's name."""
    return f"{key.rpartition('.')[2]}={re.sub(r'[^A-Za-z0-9.+_-]+', '_', value).strip('_')}"


class Attempts:
    """How often each run has been tried, and what it last failed of: OUT/sweep.json."""

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
        """What it last failed of."""
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


class End(NamedTuple):
    """A job that is no longer running; ``error`` is what stopped it, None where it ended well."""

    job: Job
    error: str | None
    again: bool = (
        False  # interrupted, or another process is training there: neither done nor failed
    )


class Executor(Protocol):
    """Where jobs run."""

    def free(self) -> bool:
        """Whether it would take another job."""

    def start(self, job: Job) -> None:
        """Begins a job, or goes on with one."""

    def ended(self) -> list[End]:
        """Jobs that have ended since it was last asked."""

    def stop(self) -> None:
        """Asks what is running to save and stop, and waits for it."""


@dataclass
class _Process:
    job: Job
    process: subprocess.Popen[bytes]
    cores: list[int]
    errors: Any  # a file that holds its standard error


class LocalExecutor:
    """Processes of this machine, each on cores of its own so that none waits for another's."""

    def __init__(self, workers: int) -> None:
        cores = _cores()
        share = max(1, len(cores) // workers)
        self._idle = [
            [cores[(i * share + k) % len(cores)] for k in range(share)] for i in range(workers)
        ]
        self._running: list[_Process] = []

    def free(self) -> bool:
        return bool(self._idle)

    def start(self, job: Job) -> None:
        cores = self._idle.pop(0)
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        # A session of its own: Ctrl-C at the terminal reaches the sweep, which passes it on once.
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "ntm.cli", *job.command(len(cores))],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": str(len(cores))},
        )  # fmt: skip
        if hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):  # it may have ended already
                os.sched_setaffinity(process.pid, cores)
        self._running.append(_Process(job, process, cores, errors))

    def ended(self) -> list[End]:
        over = [p for p in self._running if p.process.poll() is not None]
        self._running = [p for p in self._running if p not in over]
        self._idle += [p.cores for p in over]
        return [self._end(p) for p in over]

    def stop(self) -> None:
        for p in self._running:
            with contextlib.suppress(ProcessLookupError):
                p.process.send_signal(signal.SIGTERM)
        for p in self._running:
            p.process.wait()

    def _end(self, p: _Process) -> End:
        p.errors.seek(0)
        said = p.errors.read().decode(errors="replace").strip().splitlines()
        p.errors.close()
        code = p.process.returncode
        if code == 0:
            return End(p.job, None)
        if code < 0:
            return End(p.job, f"killed by {signal.Signals(-code).name}")
        last = said[-1] if said else f"ended with exit code {code}"
        last = last.removeprefix("ntm: ").removeprefix(f"{p.job.folder}: ")
        busy = "another process is training here" in last
        return End(p.job, last, again=busy or code == INTERRUPTED)


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class Watcher(Protocol):
    """Somebody who watches a sweep."""

    def changed(self, state: State) -> None:
        """Called every now and then, and whenever a run begins or ends."""

    def ended(self, job: Job, error: str | None) -> None:
        """A run is done, or has failed."""


@dataclass
class State:
    """Where a sweep stands."""

    waiting: list[Job]
    running: dict[Path, tuple[Job, float]]  # since when, on time.monotonic
    done: list[Job]
    failed: list[tuple[Job, str]]
    before: int  # how many were done when it began
    seconds: list[float]  # that runs took, of those it has seen from start to end

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
    watcher: Watcher,
    retries: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> State:
    """Runs what is missing, and goes on with what was interrupted.

    A run that fails is tried again at most ``retries`` times, in all calls together, after the
    others; what it failed of is remembered. One in which another process is training is waited for.
    """
    attempts = Attempts(out)
    state = State([], {}, [], [], 0, [])
    for job in jobs:
        _check(job)
        if not job.folder.exists():
            attempts.forget(job)
        if is_done(job):
            state.done.append(job)
        elif attempts.failures(job) > retries:
            state.failed.append((job, attempts.error(job)))
        else:
            state.waiting.append(job)
    state.before = len(state.done)

    while (state.waiting or state.running) and not should_stop():
        while state.waiting and executor.free():
            job = state.waiting.pop(0)
            executor.start(job)
            state.running[job.folder] = (job, time.monotonic())
        for end in executor.ended():
            _, since = state.running.pop(end.job.folder)
            if end.error is None and is_done(end.job):
                state.done.append(end.job)
                state.seconds.append(time.monotonic() - since)
                watcher.ended(end.job, None)
            elif end.again:
                state.waiting.append(end.job)
                time.sleep(1)
            else:
                error = end.error or "ended without being done"
                attempts.failed(end.job, error)
                if attempts.failures(end.job) > retries:
                    state.failed.append((end.job, error))
                    watcher.ended(end.job, error)
                else:
                    state.waiting.append(end.job)
        watcher.changed(state)
        time.sleep(0.1)
    executor.stop()
    return state


def is_done(job: Job) -> bool:
    """Whether its run is over, with the settings that are asked for.

    What cannot be read is not.
    """
    with contextlib.suppress(NTMError):
        ended = job.run.manifest().get("status") in ENDED
        return ended and job.run.config_file.exists() and not job.differs()
    return False


def _check(job: Job) -> None:
    """Refuses to take a run with other settings for this one, or to go on with it."""
    if not job.run.config_file.exists():
        return
    for key, (there, here) in job.differs().items():
        if key not in EXTENDABLE:
            raise UsageError(
                f"{job.folder}: holds a run in which {key} is {there}, not {here}; --out names "
                "another folder"
            )


def progress(job: Job) -> dict[str, float]:
    """The last row of metrics of a run: read from the end, however long the table is."""
    file = job.run.metrics_file
    with contextlib.suppress(OSError, ValueError, IndexError), file.open("rb") as stream:
        names = stream.readline().decode().strip().split(",")
        stream.seek(max(stream.tell(), file.stat().st_size - 1000))
        lines = stream.read().decode().splitlines()
        return dict(zip(names, map(float, lines[-1].split(",")), strict=True))
    return {}


@contextlib.contextmanager
def lock(out: Path) -> Iterator[None]:
    """Keeps a second sweep out of the folder."""
    out.mkdir(parents=True, exist_ok=True)
    with RunDir(out).lock(f"{out}: another sweep is running here"):
        yield
