"""Starting a run and continuing one: folder, manifest, and what may change in between."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ntm.analysis.evaluate import state_size
from ntm.errors import UsageError
from ntm.kernels.threads import threads
from ntm.model import Model
from ntm.runs.folder import FORMAT, RunDir
from ntm.runs.models import choose_engine, new_model
from ntm.runs.processor import processor
from ntm.training import limits
from ntm.training.curriculum import lessons
from ntm.training.episodes import draw
from ntm.training.load import load_config, to_dict
from ntm.training.schema import Config
from ntm.training.streams import Stream, numpy_generator
from tasks import Task
from tasks.base import TaskError

#: Settings that a run may be given anew when it is resumed: those that say when to stop. (With
#: ``train.rollback_factor`` a change of solved_bits also says when it goes back, from then on.)
EXTENDABLE = {"train.sequences", "train.solved_bits"}


def start_run(path: Path, config: Config, device: torch.device, command: str) -> RunDir:
    """The folder of a new run, with its config and its manifest."""
    _check_memory(config, device)
    model = new_model(config, device)  # before the folder is made: one that cannot be leaves none
    for task in lessons(config):
        draw(task, numpy_generator(config.seed, Stream.TRAINING), config.train.batch)
    circumstances = _circumstances(config, model)
    run = RunDir.create(path, config)
    run.update_manifest(
        format=FORMAT,
        status="running",
        command=command,
        started=_now(),
        seed=config.seed,
        **circumstances,
        **_sizes(model),
    )
    return run


def _check_memory(config: Config, device: torch.device) -> None:
    if device.type == "cpu":
        train = config.train
        for task in lessons(config):
            for slots in (None, train.slots[1]) if train.slots else (None,):
                limits.check(task, config.model, train.batch, train.recompute_every, slots=slots)


def continue_run(
    path: Path, settings: Iterable[str], given: Config, device: torch.device, command: str
) -> tuple[RunDir, Config, list[str]]:
    """An existing run and its own config, in which only ``EXTENDABLE`` settings may change.

    Also returns what a user should know: settings of the ``given`` config that the run has
    otherwise, and circumstances that have changed. With the same circumstances, the run goes on
    bit for bit as if it had not stopped.
    """
    run = RunDir.open(path)
    # The size that a family's budget asked for is in the run's own config, and compared as that.
    settings = [s for s in settings if not s.startswith("parameters=")]
    before, config = run.config(), load_config(run.config_file, settings)
    old, new = flat(to_dict(before)), flat(to_dict(config))
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    if before.task.kind == config.task.kind and _same_data(run, config.task):
        changed -= {"task.path"}  # the same text, elsewhere
    if forbidden := sorted(key for key in changed if key not in EXTENDABLE):
        key = forbidden[0]
        raise UsageError(
            f"{run.path}: a resumed run keeps its settings, but {key} is {old.get(key)} there "
            f"and {new.get(key)} here; only {' and '.join(sorted(EXTENDABLE))} may change"
        )
    for task in lessons(config):
        draw(task, numpy_generator(config.seed, Stream.TRAINING), 1)
    if run.has_started():
        run.load_checkpoint()  # before anything is written: it may be damaged
    run.tidy()
    if config != before:
        run.save_config(config)

    asked = flat(to_dict(given))
    kept = sorted(k for k in new.keys() | asked.keys() if new.get(k) != asked.get(k))
    notes = [f"the run keeps its own settings, in which {', '.join(kept)} differ"] if kept else []
    _check_memory(config, device)
    model = new_model(config, device)
    manifest, now = run.manifest(), _circumstances(config, model)
    if "format" not in manifest:  # it was killed before there was one
        now |= {"format": FORMAT, "command": command, "started": _now(), "seed": config.seed}
        now |= _sizes(model)
    was = {key: manifest.get(key) for key in now}
    notes += [
        f"not bit for bit as if it had not stopped: {k} was {was[k]}, is {now[k]}"
        for k in _BIT_FOR_BIT
        if k in now and was[k] not in (None, now[k])
    ]
    resumed = [*manifest.get("resumed", []), {"command": command, "started": _now()}]
    run.update_manifest(status="running", resumed=resumed, **now)
    return run, config, notes


def settings_of_test(run: RunDir, task: Task, settings: dict[str, Any]) -> dict[str, Any]:
    """In which settings a test on this task differs from the run's own.

    The run's own text elsewhere is no other text. Another one is refused where it was not asked
    for, or where answers would not mean the same.
    """
    if run.manifest().get("data") is None:
        return settings
    if _same_data(run, task):
        return {key: value for key, value in settings.items() if key != "path"}
    if task.tied or "path" not in settings:
        raise UsageError(
            f"task.path: is another text than {run.path} was trained on, or has changed since"
            + (", and its words have other numbers" if task.tied else "")
        )
    return settings


def _same_data(run: RunDir, task: Task) -> bool:
    """Whether a task's data are those that the run was made with."""
    try:
        data = task.data()
    except TaskError as error:
        raise UsageError(str(error)) from None
    return data is not None and data == run.manifest().get("data")


#: The circumstances on which the last bits of a run depend.
_BIT_FOR_BIT = ("engine", "device", "threads", "versions", "machine", "data")


def _circumstances(config: Config, model: Model) -> dict[str, Any]:
    """Where and with what a run runs."""
    engine, reason = choose_engine(config, model)
    device = model.readout.weight.device
    data = config.task.data()
    return {
        "engine": engine,
        "engine_reason": reason,
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": threads(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("ntm-suite", "torch", "numpy", "numba")},
        },
        "machine": f"{platform.machine()} {platform.system()}",
        "processor": processor(),
        "commit": _commit(),
        **({} if data is None else {"data": data}),
    }


def _sizes(model: Model) -> dict[str, Any]:
    parts = {name: _count(module) for name, module in model.core.named_children()}
    return {
        "parameters": _count(model),
        "parameters_by_part": {**parts, "readout": _count(model.readout)},
        "state_size": state_size(model),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested data as one dictionary, its keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def peak_memory_mib() -> float | None:
    """The most memory that this process ever had, in MiB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


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
