"""What the functions of :mod:`ntm.api` return."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ntm.analysis.bench import Row
from ntm.analysis.results import Trouble
from ntm.analysis.scale import Cell
from ntm.model import Model
from ntm.runs.folder import RunDir
from ntm.runs.status import Status
from ntm.training.schema import Config


@dataclass(frozen=True)
class Run(os.PathLike[str]):
    """A run: its folder, and how its training stands. It is taken wherever a folder's path is."""

    path: Path
    status: Status | None  # None: its manifest does not say
    sequences: int  # trained on
    seconds: float  # of training
    best_bits: float | None  # excess bits of its best validation; None before any
    config: Config = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """The run in a folder, as it stands now. Raises RunNotFoundError where there is none."""
        run = RunDir.open(path)
        manifest = run.manifest()
        excess = [row["bits"] - row["floor"] for row in run.rows(run.validation_file)]
        return cls(
            run.path, manifest.status, manifest.get("sequences", 0), manifest.get("seconds", 0.0),
            min(excess, default=None), run.config(), manifest,
        )  # fmt: skip

    def __fspath__(self) -> str:
        return str(self.path)


class Trained(Model):
    """The model of a run. ``task`` is what it is validated on: ``task.sample(rng, batch)``."""

    def __init__(self, model: Model, config: Config) -> None:
        torch.nn.Module.__init__(self)
        self.core, self.readout = model.core, model.readout
        self.config, self.task = config, config.validation_task


@dataclass(frozen=True)
class Report:
    """A report: the files that were written, and the runs that are not in it."""

    files: list[Path]
    left_out: list[Trouble]


@dataclass(frozen=True)
class Sweep:
    """Where a sweep stands after it has ended, or was interrupted."""

    out: Path
    total: int
    before: int  # done before it began
    done: list[Run]
    failed: dict[Path, str]  # folders of runs, and their last error
    report: Report | None  # of the runs that are done; None where there are none

    @property
    def left(self) -> int:
        """Runs that are still to do."""
        return self.total - len(self.done) - len(self.failed)


@dataclass(frozen=True)
class Benchmark:
    """The speed of the engines: what it was measured on, and a row for each case.

    cells: instead of rows, what memories of many sizes take.
    """

    about: dict[str, Any]
    rows: list[Row]
    cells: list[Cell] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        return {**self.about, "rows": [row.as_dict() for row in self.cells or self.rows]}
