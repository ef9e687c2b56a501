"""A machine small enough to train in a test, and somebody who watches it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ntm.runs.folder import RunDir
from ntm.runs.models import new_model
from ntm.runs.start import start_run
from ntm.training import loop
from ntm.training.load import parse_config
from ntm.training.schedule import Progress
from ntm.training.schema import Config

SMALL: dict[str, Any] = {
    "task": {"kind": "copy", "width": 3, "length": [1, 4]},
    "model": {
        "controller": {"kind": "lstm", "size": 11},
        "memory": {"slots": 9, "width": 5},
    },
    "train": {
        "optimizer": {"kind": "graves_rmsprop", "lr": 1e-3},
        "clip": {"value": 10},
        "batch": 3,
        "sequences": 60,
        "report_every": 7,
        "checkpoint_every": 20,
    },
    "validation": {"every": 15, "episodes": 4},
}


def small_config(**changes: Any) -> Config:
    """The small config with blocks changed: ``small_config(train={"batch": 2})``."""
    raw = {name: {**block, **changes.pop(name, {})} for name, block in SMALL.items()}
    return parse_config({**raw, **changes}, "small")


def small_config_of(task: dict[str, Any], **blocks: Any) -> Config:
    """The small machine on another task, with blocks replaced."""
    return parse_config({**SMALL, "task": task, **blocks}, "small")


def new_run(path: Path, config: Config) -> RunDir:
    return start_run(path, config, torch.device("cpu"), "ntm train small").run


def train(
    run: RunDir,
    config: Config,
    device: torch.device,
    watcher: loop.Watcher,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Trains the config's model in its run."""
    return loop.train(run, config, new_model(config, device), watcher, resume, should_stop)


def edit_manifest(run: RunDir, **entries: Any) -> None:
    """Changes a manifest from outside, as another version or another computer would."""
    data = {**run.manifest(), **entries}
    run.manifest_file.write_text(json.dumps(data), encoding="utf-8")


class Watch:
    """Remembers the rows that it is shown."""

    def __init__(self) -> None:
        self.reports: list[dict[str, float]] = []
        self.validations: list[dict[str, float]] = []

    def reported(self, row: dict[str, float]) -> None:
        self.reports.append(row)

    def validated(self, row: dict[str, float]) -> None:
        self.validations.append(row)
