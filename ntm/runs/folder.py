"""A run on disk: the only file that knows file names under runs/."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from ntm.errors import NTMError, RunExistsError, RunNotFoundError, UsageError
from ntm.files import TEMPORARY, user_path, write_file, writing
from ntm.runs import evaluations
from ntm.runs.evaluations import Evaluation
from ntm.runs.locking import locked
from ntm.runs.manifest import Manifest
from ntm.training.load import dump_config, load_config
from ntm.training.schema import Config

#: How a checkpoint is read; 2 has a checksum.
CHECKPOINT = "ntm-checkpoint-2"


class Checkpoint(NamedTuple):
    """A snapshot of training. ``state`` is plain data; nothing in the file can execute code."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


class RunDir:
    """The files of one run.

    config.yaml, manifest.json, metrics.csv (training), eval.csv (validation), trace.npz,
    checkpoint/last.safetensors (to resume from; previous.safetensors is the one before it),
    checkpoint/best.safetensors (the weights that did best in validation: the run is evaluated and
    plotted with these), checkpoint/snapshots/ (weights during training, if train.snapshots asks
    for them), evaluations.json, plots/.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = user_path(path)
        self.config_file = self.path / "config.yaml"
        self.manifest_file = self.path / "manifest.json"
        self.metrics_file = self.path / "metrics.csv"
        self.validation_file = self.path / "eval.csv"
        self._checkpoints = self.path / "checkpoint"
        self.last_file = self._checkpoints / "last.safetensors"
        self.previous_file = self._checkpoints / "previous.safetensors"
        self.best_file = self._checkpoints / "best.safetensors"
        self.snapshots_folder = self._checkpoints / "snapshots"
        self.trace_file = self.path / "trace.npz"
        self.evaluations_file = self.path / "evaluations.json"

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: Config) -> RunDir:
        """A new run. An existing folder's content is never overwritten."""
        run = cls(path)
        run.check_free()
        with writing(run.path):
            run.last_file.parent.mkdir(parents=True, exist_ok=True)
        run.save_config(config)
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDir:
        """An existing run."""
        run = cls(path)
        if not run.exists():
            raise RunNotFoundError(f"{run.path}: no run here (a run's folder holds a config.yaml)")
        return run

    def exists(self) -> bool:
        """Whether there is a run in the folder."""
        return self.config_file.is_file()

    def check_free(self) -> None:
        """Raises RunExistsError or UsageError where a new run would overwrite something."""
        if self.config_file.exists():
            raise RunExistsError(
                f"{self.path} already holds a run: --resume continues it, --run DIR starts another"
            )
        if self.path.is_dir() and any(self._foreign()):
            raise UsageError(f"{self.path} is not empty and holds no run: name another with --run")

    def _foreign(self) -> Iterator[Path]:
        """Files that are not left over from a run that was killed while it was created."""
        for path in self.path.rglob("*"):
            if not (path.name == ".lock" or path.suffix == TEMPORARY or path == self._checkpoints):
                yield path

    def tidy(self) -> None:
        """Removes files that a killed process had not finished writing."""
        with writing(self.path):
            for file in self.path.rglob(f".*{TEMPORARY}"):
                file.unlink(missing_ok=True)

    def config(self) -> Config:
        """The config that the run was started with, with every setting."""
        return load_config(self.config_file)

    def save_config(self, config: Config) -> None:
        """Writes the config, with every setting."""
        write_file(self.config_file, dump_config(config))

    def manifest(self) -> Manifest:
        """What made the run, and how it ended; empty where there is none yet."""
        return Manifest(self.manifest_file)

    def obstacle(self) -> str | None:
        """Why what is found in the run should not be kept in it; None where nothing is in the way.

        A reference run is one that others compare with, such as those that are shipped.
        """
        if self.manifest().get("reference"):
            return f"{self.path}: is a reference run, which stays unchanged"
        for folder in (self.path, self.path / "plots"):
            if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                return f"{folder}: cannot be written"
        return None

    def picture(self, name: str, options: dict[str, int] | None = None) -> Path:
        """The file of a picture, a different one for different options."""
        suffix = "".join(f"-{key}-{value}" for key, value in (options or {}).items())
        return self.path / "plots" / f"{name}{suffix}.png"

    def lock(self, refusal: str = "") -> contextlib.AbstractContextManager[None]:
        """Keeps other processes from training here, see :func:`ntm.runs.locking.locked`.

        Raises RunLockedError, with ``refusal`` as its message, where another process holds it.
        """
        refusal = refusal or f"{self.path}: another process is training here"
        return locked(self.path, refusal, self.config_file.exists)

    # Tables

    def append(self, file: Path, row: dict[str, Any]) -> None:
        """Appends one row of metrics or of validation, and flushes it."""
        with writing(file), file.open("a", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, row, lineterminator="\n")
            if not stream.tell():
                writer.writeheader()
            writer.writerow(row)

    def rows(self, file: Path) -> list[dict[str, float]]:
        """The rows of a table, as numbers. A truncated row is left out."""
        try:
            with file.open(encoding="utf-8", newline="") as stream:
                reader = csv.DictReader(stream)
                if reader.fieldnames and not {"sequences", "bits"} <= set(reader.fieldnames):
                    raise NTMError(f"{file}: is not a table of a run: it has no column named bits")
                return list(_numbers(reader))
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise NTMError(f"{file}: cannot be read: {error}") from None

    def has_started(self) -> bool:
        """Whether there is a checkpoint; a run can be killed before its first one.

        Raises NTMError for a run that went further and lost it: to start over would lose the rest.
        """
        if self.last_file.exists():
            return True
        if self.best_file.exists() or self.metrics_file.exists():
            raise NTMError(
                f"{self.last_file}: is missing, so the run cannot be resumed{self._hint()}"
            )
        return False

    def truncate(self, sequences: int) -> None:
        """Drops rows later than a checkpoint, which the resumed run will write again."""
        for file in (self.metrics_file, self.validation_file):
            if not file.exists():
                continue
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise NTMError(f"{file}: cannot be read: {error}") from None
            header, *lines = text.splitlines(keepends=True) or [""]
            width = header.count(",")
            kept = [header]
            for line in lines:
                first = line.split(",", 1)[0]
                whole = line.endswith("\n") and line.count(",") == width and first.isdigit()
                if whole and int(first) <= sequences:
                    kept.append(line)
            if len(kept) <= len(lines):
                write_file(file, "".join(kept))

    # Evaluations

    def evaluations(self) -> list[Evaluation]:
        """The results of ``ntm evaluate``, in the order in which they were first asked for."""
        return evaluations.read(self.evaluations_file)

    def keep_evaluation(self, found: Evaluation) -> None:
        """Adds an evaluation, in place of one of the same question."""
        evaluations.keep(found, self.evaluations_file)

    def keep_or_say_why(self, found: Evaluation, out: str | os.PathLike[str] | None) -> str | None:
        """Keeps an evaluation in ``out``, or here; returns why it has not been kept.

        Raises NTMError where ``out`` cannot be written.
        """
        if out is not None:
            evaluations.keep(found, Path(out) / self.evaluations_file.name)
            return None
        if (obstacle := self.obstacle()) is not None:
            return f"{obstacle}; --out FOLDER saves the result there"
        try:
            self.keep_evaluation(found)
        except NTMError as error:
            return str(error)
        return None

    # Checkpoints

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Writes the checkpoint to resume from. The one before it is kept, too."""
        if self.last_file.exists():
            with writing(self.previous_file):
                _link(self.last_file, self.previous_file)
        tensors = {f"model/{name}": t for name, t in checkpoint.weights.items()}
        tensors |= {f"optimizer/{name}": t for name, t in checkpoint.optimizer.items()}
        self._save(self.last_file, tensors, checkpoint.state)

    def save_best(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Writes the weights that did best in validation so far."""
        self._save(self.best_file, {f"model/{name}": t for name, t in weights.items()}, state)

    def snapshots(self) -> list[int]:
        """The sequences after which snapshots were taken, in order."""
        files = self.snapshots_folder.glob("*.safetensors")
        return sorted(int(file.stem) for file in files if file.stem.isdigit())

    def save_snapshot(self, weights: dict[str, Tensor], sequences: int) -> None:
        """Writes the weights as they are after so many sequences."""
        tensors = {f"model/{name}": t for name, t in weights.items()}
        self._save(self._snapshot(sequences), tensors, {"sequences": sequences})

    def load_snapshot(self, sequences: int) -> Checkpoint:
        """The weights after so many sequences."""
        return _load(self._snapshot(sequences))

    def drop_snapshot(self, sequences: int) -> None:
        """Removes a snapshot."""
        with writing(self.snapshots_folder):
            self._snapshot(sequences).unlink(missing_ok=True)

    def _snapshot(self, sequences: int) -> Path:
        return self.snapshots_folder / f"{sequences:012}.safetensors"

    def _save(self, file: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        tensors = {name: t.detach().contiguous().cpu() for name, t in tensors.items()}
        text = json.dumps(state)
        metadata = {"format": CHECKPOINT, "state": text}
        metadata["checksum"] = _checksum(tensors, text)
        write_file(file, safetensors.torch.save(tensors, metadata))

    def load_checkpoint(self) -> Checkpoint:
        """The checkpoint to resume from.

        Raises NTMError where it is damaged; the message says whether the one before it is whole.
        """
        try:
            return _load(self.last_file)
        except NTMError as error:
            raise NTMError(f"{error}{self._hint()}") from None

    def _hint(self) -> str:
        """How to go on from the checkpoint before the last, if it is whole."""
        try:
            before = _load(self.previous_file).state["progress"]["sequences"]
        except (NTMError, KeyError, TypeError):
            return ""
        return (
            f"; the checkpoint before it, of {before:,} sequences, is whole: mv "
            f"{shlex.quote(str(self.previous_file))} {shlex.quote(str(self.last_file))} "
            "to go on from there"
        )

    def load_best(self) -> Checkpoint:
        """The weights to evaluate: the best, or the last ones before any validation."""
        return _load(self.best_file if self.best_file.exists() else self.last_file)


def _load(file: Path) -> Checkpoint:
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
    try:
        data = file.read_bytes()  # safetensors itself opens no path that is not UTF-8
        tensors = safetensors.torch.load(data)
        metadata = _metadata(data)
        if metadata.get("format") != CHECKPOINT:
            found = metadata.get("format", "none")
            raise NTMError(
                f"{file}: not a checkpoint of this program (its format is {found}, "
                f"but should be {CHECKPOINT})"
            )
        text = metadata["state"]
        state = json.loads(text)
        for key, tensor in tensors.items():
            group, _, name = key.partition("/")
            groups[group][name] = tensor
        if metadata["checksum"] != _checksum(tensors, text):
            raise ValueError("its checksum does not match its content")
    except FileNotFoundError:
        raise NTMError(f"{file}: no checkpoint here; train the run first") from None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise NTMError(f"{file}: not a readable checkpoint, damaged or foreign: {error}") from None
    return Checkpoint(groups["model"], groups["optimizer"], state)


def _metadata(data: bytes) -> dict[str, str]:
    """The texts in the header of a safetensors file that has been found to be whole."""
    size = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    return found


def _checksum(tensors: dict[str, Tensor], state: str) -> str:
    """Of all that a checkpoint holds."""
    return hashlib.sha256(safetensors.torch.save(tensors) + state.encode()).hexdigest()


def _link(file: Path, other: Path) -> None:
    """Gives a file a second name, at once and whole; what had that name is gone."""
    temporary = other.with_name(f".{other.name}{TEMPORARY}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(file, temporary)
    except OSError:  # a file system without links
        shutil.copyfile(file, temporary)
    os.replace(temporary, other)


def _numbers(reader: csv.DictReader[str]) -> Iterator[dict[str, float]]:
    for row in reader:
        with contextlib.suppress(TypeError, ValueError):  # cut off: a missing or a broken number
            yield {name: float(value) for name, value in row.items()}
