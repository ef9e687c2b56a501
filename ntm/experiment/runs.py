"""Starting a run and continuing one: folder, manifest, and what may change in between."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ntm.errors import UsageError
from ntm.experiment.config import Config, load_config, to_dict
from ntm.experiment.evaluate import state_size
from ntm.experiment.models import choose_engine, new_model
from ntm.experiment.rundir import FORMAT, RunDir

#: Settings that a run may be given anew when it is resumed: those that only say when to stop.
EXTENDABLE = {"train.sequences", "train.solved_bits"}


def start_run(path: Path, config: Config, device: torch.device, command: str) -> RunDir:
    """The folder of a new run, with its config and its manifest."""
    model = new_model(config, device)  # before the folder is made: one that cannot be leaves none
    engine, reason = choose_engine(config, model)
    parts = {name: _count(module) for name, module in model.core.named_children()}
    run = RunDir.create(path, config)
    run.update_manifest(
        format=FORMAT,
        status="running",
        command=command,
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seed=config.seed,
        device=str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        engine=engine,
        engine_reason=reason,
        threads=torch.get_num_threads(),
        parameters=_count(model),
        parameters_by_part={**parts, "readout": _count(model.readout)},
        state_size=state_size(model),
        versions={
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("ntm-suite", "torch", "numpy")},
        },
        machine=f"{platform.machine()} {platform.system()}",
        commit=_commit(),
    )
    return run


def continue_run(path: Path, settings: Iterable[str]) -> tuple[RunDir, Config]:
    """An existing run and its own config, in which only ``EXTENDABLE`` settings may change."""
    run = RunDir.open(path)
    settings = list(settings)
    before, config = run.config(), load_config(run.config_file, settings)
    old, new = _flat(to_dict(before)), _flat(to_dict(config))
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    if forbidden := sorted(changed - EXTENDABLE):
        key = forbidden[0]
        raise UsageError(
            f"{run.path}: a resumed run keeps its settings, but {key} is {old.get(key)} there "
            f"and {new.get(key)} here; only {' and '.join(sorted(EXTENDABLE))} may change"
        )
    if changed:
        run.save_config(config)
    return run, config


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _commit() -> str | None:
    """The commit of the code that runs, where it runs from a git checkout."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
