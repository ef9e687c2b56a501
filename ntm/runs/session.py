"""Around training: requests to stop, and a manifest that says how it ended, whatever ended it."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from ntm.errors import KilledError, NotFiniteError
from ntm.runs.folder import RunDir
from ntm.runs.start import Started
from ntm.runs.status import Status
from ntm.training.loop import Watcher, train


class StopOnSignal:
    """The first Ctrl-C or SIGTERM requests a stop; a second one raises KeyboardInterrupt at once.

    Python delivers signals to the main thread alone: elsewhere nothing is requested.
    """

    def __init__(self) -> None:
        self._requested = False
        self._previous: dict[int, Any] = {}

    def requested(self) -> bool:
        return self._requested

    def __enter__(self) -> StopOnSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        signal.signal(number, self._previous[number])


@contextlib.contextmanager
def recorded(run: RunDir) -> Iterator[None]:
    """Writes to the manifest how training broke off, if it does.

    Raises KilledError for a KeyboardInterrupt; everything else is raised as it is.
    """
    try:
        yield
    except KeyboardInterrupt:
        run.manifest().stopped(Status.KILLED)
        raise KilledError(
            f"{run.path}: stopped at once; --resume continues from the last checkpoint"
        ) from None
    except NotFiniteError:
        run.manifest().stopped(Status.FAILED)
        raise
    except Exception:
        run.manifest().stopped(Status.ERROR)
        raise


def train_recorded(started: Started, watcher: Watcher, resume: bool) -> None:
    """Trains a run until it ends or is interrupted, and writes that to its manifest."""
    run, config, _, model = started
    with StopOnSignal() as stop:
        with recorded(run):
            end = train(run, config, model, watcher, resume, stop.requested)
        run.manifest().ended(end.status, end.sequences, end.seconds, peak_memory_mib())


def train_command(
    config: str,
    settings: Sequence[str],
    run: str | os.PathLike[str] | None,
    device: str,
    threads: int | None,
    resume: bool,
) -> str:
    """The command line that trains the same."""
    words = ["ntm", "train", config]
    words += [word for setting in settings for word in ("--set", setting)]
    words += ["--run", os.fspath(run)] if run is not None else []
    words += ["--device", device] if device != "auto" else []
    words += ["--threads", str(threads)] if threads is not None else []
    return shlex.join(words + (["--resume"] if resume else []))


def peak_memory_mib() -> float | None:
    """The peak memory of this process so far, in MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
