"""Around training: requests to stop, and a manifest that says how it ended, whatever ended it."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from ntm.errors import KilledError, NotFiniteError
from ntm.kernels.compiling import StoppedWaiting, stopped_when
from ntm.model import Model
from ntm.runs.folder import RunDir
from ntm.runs.start import Started, continue_run, start_run
from ntm.runs.status import Status
from ntm.training.loop import Watcher, train
from ntm.training.schedule import Progress
from ntm.training.schema import Config

log = logging.getLogger("ntm")


class StopOnSignal:
    """Ctrl-C, or a signal that would end this process, requests a stop.

    A second Ctrl-C raises KeyboardInterrupt at once; the other signals may come as often as they
    like, as they do from schedulers and closed terminals. A signal that is ignored, as SIGHUP is
    under nohup, or that has a handler of the user's, stays so; SIGINT and SIGTERM are taken over.

    Python delivers signals to the main thread alone: elsewhere nothing is requested.
    """

    def __init__(self) -> None:
        self._requested = False
        self._previous: dict[int, Any] = {}
        self._compiling = stopped_when(self.requested)

    def requested(self) -> bool:
        return self._requested

    def __enter__(self) -> StopOnSignal:
        if threading.current_thread() is threading.main_thread():
            for number in _signals():
                self._previous[number] = signal.signal(number, self._on_signal)
            self._compiling.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._previous:
            return
        self._compiling.__exit__(None, None, None)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._requested:
            raise KeyboardInterrupt
        self._requested = True


def _signals() -> list[int]:
    """Those that request a stop: a user's, a scheduler's, a closed terminal's."""
    names = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")  # which Windows has not
    others = [getattr(signal, name) for name in names if hasattr(signal, name)]
    fatal = [number for number in others if signal.getsignal(number) is signal.SIG_DFL]
    return [signal.SIGINT, signal.SIGTERM, *fatal]


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
    except BaseException:
        run.manifest().stopped(Status.ERROR)
        raise


@contextlib.contextmanager
def begun(
    path: Path,
    settings: Sequence[str],
    config: Config,
    device: torch.device,
    command: str,
    resume: bool,
) -> Iterator[Started]:
    """A run to train, for as long as it is locked: a new one, or to resume the one that is there.

    Its manifest says how this ends, whatever ends it. A start that fails leaves nothing behind.
    """
    run = RunDir(path)
    is_there = run.exists()
    if resume and not is_there:
        log.info("%s: no run here yet, so one begins", path)
    if not (resume and is_there):
        run.check_free()
    with run.lock():  # before anything in the folder is changed
        if resume and is_there:
            started = continue_run(path, settings, config, device, command)
        else:
            started = start_run(path, config, device, command)
        with recorded(run):
            yield started


def train_recorded(started: Started, watcher: Watcher, resume: bool, stop: StopOnSignal) -> None:
    """Trains a run until it ends or is interrupted, and writes that to its manifest."""
    run, config, _, model = started
    try:
        end = train(run, config, model, watcher, resume, stop.requested)
    except StoppedWaiting:
        if (saved := _saved(run, model)) is None:
            raise
        end = saved
    facts = {} if config.train.curriculum is None else {"stage": end.stage}
    run.manifest().ended(end.status, end.sequences, end.seconds, peak_memory_mib(), **facts)


def _saved(run: RunDir, model: Model) -> Progress | None:
    """The progress in the checkpoint, as interrupted there; None if training went further."""
    checkpoint = run.load_checkpoint()
    now = model.state_dict()
    if not all(torch.equal(now[name].cpu(), was) for name, was in checkpoint.weights.items()):
        return None
    progress = Progress(**checkpoint.state["progress"])
    progress.status = Status.INTERRUPTED
    return progress


def train_command(
    config: str | None,
    settings: Sequence[str],
    run: str | os.PathLike[str] | None,
    device: str,
    threads: int | None,
    resume: bool,
) -> str:
    """The command line that trains the same."""
    words = ["ntm", "train", *([] if config is None else [config])]
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
