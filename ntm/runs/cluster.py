"""A sweep on a Ray cluster: the optional extra ``ray``."""

from __future__ import annotations

import contextlib
import io
import logging
import shlex
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ntm.errors import UsageError
from ntm.files import TEMPORARY, write_file
from ntm.registry import registered
from ntm.runs.executor import End
from ntm.runs.jobs import Job
from ntm.runs.launcher import Child, Outcome
from ntm.training.load import dump_config

#: Seconds between the copies of a run that its node sends while it trains: what a node that dies
#: takes with it.
EVERY = 5.0
#: Stand for the config's file and the run's folder of a node, in the words that it is sent.
CONFIG, FOLDER = "{config}", "{folder}"


class RunFiles(NamedTuple):
    """A run as it is on its node; ``code`` is None while it trains."""

    code: int | None
    message: str
    files: bytes


class RayExecutor:
    """Runs on a Ray cluster, which need not share a file system.

    Each node works in a folder of its own and sends copies of it; the sweep's folder always holds
    the last one, so that a run whose node dies goes on from there on another.

    address: of a cluster, such as ``auto`` or ``host:6379``; None starts one here. Not of a Ray
        client (``ray://``), which gets nothing of a run before its end.
    workers: runs at a time, at most; the cluster's resources may allow fewer.
    """

    def __init__(self, address: str | None, workers: int, cpus: float = 1, gpus: float = 0) -> None:
        try:
            import ray
        except ImportError:
            raise UsageError(
                "--executor ray: Ray is not installed: pip install 'ntm-suite[ray]'"
            ) from None
        if (address or "").startswith("ray://"):
            raise UsageError(
                f"--address {address}: a Ray client gets nothing of a run before its end; start "
                "the sweep on a node of the cluster, with --address auto"
            )
        self._ray, self._workers, self._cpus, self._gpus = ray, workers, cpus, gpus
        try:
            here: dict[str, Any] = {"include_dashboard": False} if address is None else {}
            ray.init(
                address=address, ignore_reinit_error=True, log_to_driver=False,
                logging_level=logging.ERROR, **here,
            )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(f"--address {address}: {error}") from None
        self._train = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_retries=0, num_returns="streaming"
        )(run_here)
        self._running: list[tuple[Job, Any, str]] = []

    def free(self) -> bool:
        return len(self._running) < self._workers

    def start(self, job: Job) -> None:
        there = pack(job.folder) if job.run.config_file.exists() else b""
        threads = max(1, int(self._cpus))
        words = job.command(threads, elsewhere=(CONFIG, FOLDER))
        stream = self._train.remote(dump_config(job.resolved), words, there, EVERY, registered())
        self._running.append((job, stream, shlex.join(["ntm", *job.command(threads)])))

    def ended(self) -> list[End]:
        ends = []
        for entry in list(self._running):
            end = self._listen(*entry)
            if end is not None:
                self._running.remove(entry)
                ends.append(end)
        return ends

    def stop(self) -> None:
        for _, stream, _ in self._running:
            self._ray.cancel(stream)
        self._running.clear()

    def _listen(self, job: Job, stream: Any, command: str) -> End | None:
        """Takes what a run has sent; how its step ended, if it has."""
        while self._ray.wait([stream], timeout=0)[0]:
            try:
                found = RunFiles(*self._ray.get(next(stream)))
            except StopIteration:
                return End(job, "its node sent nothing more")
            except self._ray.exceptions.RayError as error:
                return End(job, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            unpack(found.files, job.folder)
            if found.code is None:
                continue
            if command.startswith("ntm train "):  # with the paths of this computer
                job.run.manifest().set_command(command)
            outcome = Outcome(found.code, found.message)
            return End(job, outcome.error, outcome.again)
        return None


def run_here(
    config: str, words: Sequence[str], before: bytes, every: float, plugins: Sequence[str]
) -> Iterator[tuple[int | None, str, bytes]]:
    """Does one step of a run on this node; yields a :class:`RunFiles` now and then.

    config: of the run, as YAML. words: after ``ntm``, in which CONFIG and FOLDER stand for paths.
    before: the files of the run, where there are some. every: seconds between two copies.
    plugins: classes to register first, as ``module:Class``.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder, file = Path(scratch) / "run", Path(scratch) / "config.yaml"
        file.write_text(config, encoding="utf-8")
        if before:
            unpack(before, folder)
        places = {CONFIG: str(file), FOLDER: str(folder)}
        child = Child([places.get(word, word) for word in words], plugins=plugins)
        try:
            sent = time.monotonic()
            while child.is_running():
                time.sleep(0.1)
                if time.monotonic() - sent > every:
                    sent = time.monotonic()
                    yield None, "", pack(folder)
        finally:  # the sweep may have been stopped: then nobody listens any more
            child.terminate()
            outcome = child.outcome()
        yield outcome.code, outcome.message.replace(f"{folder}: ", ""), pack(folder)


def pack(folder: Path) -> bytes:
    """The files of a run, also of one that is being trained.

    Checkpoints are read before tables: a table that is ahead of its checkpoint is cut when the run
    goes on, but rows that are missing would stay missing.
    """
    stream = io.BytesIO()
    files = [f for f in folder.rglob("*") if f.is_file() and not _passing(f)]
    files.sort(key=lambda f: (f.parent.name != "checkpoint", f.name != "last.safetensors", f.name))
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in files:
            with contextlib.suppress(FileNotFoundError):  # training drops snapshots
                archive.writestr(file.relative_to(folder).as_posix(), file.read_bytes())
    return stream.getvalue()


def unpack(files: bytes, folder: Path) -> None:
    """Writes the files of a run, each whole or not at all; checkpoints last, see ``pack``."""
    root = folder.resolve()
    with zipfile.ZipFile(io.BytesIO(files)) as archive:
        for name in reversed(archive.namelist()):
            file = folder / name
            if root not in file.resolve().parents:
                raise UsageError(f"{name}: a run's file that lies outside of it")
            write_file(file, archive.read(name))


def _passing(file: Path) -> bool:
    return file.name == ".lock" or file.suffix == TEMPORARY
