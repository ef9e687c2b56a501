"""Starting a run and resuming one: its folder, its manifest, and what may change in between."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ntm.analysis.evaluate import state_size
from ntm.errors import UsageError
from ntm.kernels.threads import threads
from ntm.model import Model
from ntm.runs.folder import RunDir
from ntm.runs.models import choose_engine, device_name, new_model, take_weights
from ntm.runs.processor import processor
from ntm.training import limits
from ntm.training.curriculum import lessons
from ntm.training.episodes import draw
from ntm.training.load import load_config, to_dict
from ntm.training.schema import Config
from ntm.training.streams import Stream, numpy_generator
from tasks import Task
from tasks.base import TaskError

#: Settings that decide when to stop. They may change when a run is resumed, also in a sweep. (With
#: ``train.rollback_factor``, solved_bits also decides when weights are rolled back, from then on.)
EXTENDABLE = {"train.sequences", "train.solved_bits"}
#: All settings that may change when a run is resumed; the manifest records when they have.
CHANGEABLE = {*EXTENDABLE, "train.optimizer.lr"}


class Started(NamedTuple):
    """A run that is ready to be trained.

    notes: what a user should know about a resumed run.
    model: as it is initialised; a resumed run's weights are in its checkpoint.
    """

    run: RunDir
    config: Config
    notes: list[str]
    model: Model


def start_run(path: Path, config: Config, device: torch.device, command: str) -> Started:
    """Creates the folder of a new run, with its config and its manifest.

    The model is built first: one that cannot be built leaves no folder behind.
    """
    _check_memory(config, device)
    model = new_model(config, device)
    taken = _initialise(model, config)
    for task in lessons(config):
        draw(task, numpy_generator(config.seed, Stream.TRAINING), config.train.batch)
    facts = {**_circumstances(config, model), **_sizes(model)}
    run = RunDir.create(path, config)
    try:
        run.manifest().started(command, config.seed, facts)
    except BaseException:
        run.config_file.unlink(missing_ok=True)
        raise
    return Started(run, config, taken, model)


def _initialise(model: Model, config: Config) -> list[str]:
    """Puts the weights of ``train.init`` into a new model; what was taken, in a line."""
    if config.train.init is None:
        return []
    try:
        source = RunDir.open(Path(config.train.init).expanduser())
        taken, left = take_weights(model, source.load_best(), source.path)
    except UsageError as error:
        raise UsageError(f"train.init: {error}") from None
    drawn = f"; drawn anew, as it has none of that shape: {', '.join(left)}" if left else ""
    return [f"weights of {source.path}: {', '.join(taken)}{drawn}"]


def _check_memory(config: Config, device: torch.device) -> None:
    if device.type == "cpu":
        train = config.train
        for task in lessons(config):
            for slots in (None, train.slots[1]) if train.slots else (None,):
                limits.check(task, config.model, train.batch, train.recompute_every, slots=slots)


def continue_run(
    path: Path, settings: Iterable[str], given: Config, device: torch.device, command: str
) -> Started:
    """Opens an existing run with its own config, in which only ``CHANGEABLE`` settings may change.

    given: the config that the user named; its notes say where the run's own settings differ, and
    which circumstances have changed. Under the same circumstances, the run continues bit for bit
    as if it had never stopped.
    """
    run = RunDir.open(path)
    before, config = _extended(run, settings)
    for task in lessons(config):
        draw(task, numpy_generator(config.seed, Stream.TRAINING), 1)
    has_started, sequences = run.has_started(), 0
    if has_started:  # read before anything is written: it may be damaged
        sequences = run.load_checkpoint().state["progress"]["sequences"]
    run.tidy()
    if config != before:
        run.save_config(config)

    new, asked = flat(to_dict(config)), flat(to_dict(given))
    kept = sorted(k for k in new.keys() | asked.keys() if new.get(k) != asked.get(k))
    notes = [f"the run keeps its own settings, in which {', '.join(kept)} differ"] if kept else []
    _check_memory(config, device)
    model = new_model(config, device)
    notes += [] if has_started else _initialise(model, config)
    manifest, now = run.manifest(), _circumstances(config, model)
    if "format" not in manifest:  # it was killed before there was one
        manifest.started(command, config.seed, {**now, **_sizes(model)})
    notes += [
        f"not bit for bit as if it had not stopped: {k} was {manifest[k]}, is {now[k]}"
        for k in _BIT_FOR_BIT
        if k in now and manifest.get(k) not in (None, now[k])
    ]
    changes = _changes(before, config)
    manifest.resumed(command, now, {"after": sequences, "changed": changes} if changes else {})
    return Started(run, config, notes, model)


def _changes(before: Config, after: Config) -> dict[str, list[Any]]:
    """The settings in which two configs differ, as they were and as they are."""
    old, new = flat(to_dict(before)), flat(to_dict(after))
    return {key: [old[key], new[key]] for key in sorted(old) if old[key] != new.get(key)}


def _extended(run: RunDir, settings: Iterable[str]) -> tuple[Config, Config]:
    """The config of a run as it is, and with settings that may change in a resumed run."""
    # A family's budget decided the size of the controller, which is what the run's config holds.
    settings = [s for s in settings if not s.startswith("parameters=")]
    before, config = run.config(), load_config(run.config_file, settings)
    old, new = flat(to_dict(before)), flat(to_dict(config))
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    if before.task.kind == config.task.kind and _same_data(run, config.task):
        changed -= {"task.path"}  # the same text, elsewhere
    if forbidden := sorted(key for key in changed if key not in CHANGEABLE):
        key = forbidden[0]
        raise UsageError(
            f"{run.path}: a resumed run keeps its settings, but {key} is {old.get(key)} there "
            f"and {new.get(key)} here; only {', '.join(sorted(CHANGEABLE))} may change"
        )
    return before, config


def settings_of_test(run: RunDir, task: Task, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a test that make it another one than on the run's own task.

    A path to the run's own text is no other text. Another text is refused unless it was asked for,
    and where its answers would have another meaning.
    """
    if run.manifest().get("data") is None:
        return settings
    if _same_data(run, task):
        return {key: value for key, value in settings.items() if key != "path"}
    if task.tied or "path" not in settings:
        raise UsageError(
            f"task.path: is not the text that {run.path} was trained on, or has changed since"
            + (", and its words have other numbers" if task.tied else "")
        )
    return settings


def _same_data(run: RunDir, task: Task) -> bool:
    """Whether a task's data are those that the run was trained on."""
    try:
        data = task.data()
    except TaskError as error:
        raise UsageError(str(error)) from None
    return data is not None and data == run.manifest().get("data")


#: The circumstances on which the last bits of a run depend.
_BIT_FOR_BIT = ("engine", "device", "threads", "versions", "platform", "data")


def _circumstances(config: Config, model: Model) -> dict[str, Any]:
    """Where, and with which versions, the run is trained."""
    engine, reason = choose_engine(config, model)
    device = model.readout.weight.device
    data = config.task.data()
    return {
        "engine": engine,
        "engine_reason": reason,
        "device": device_name(device),
        "threads": threads(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("ntm-suite", "torch", "numpy", "numba")},
        },
        "platform": f"{platform.machine()} {platform.system()}",
        "processor": processor(),
        "commit": commit(),
        **({} if data is None else {"data": data}),
    }


def _sizes(model: Model) -> dict[str, Any]:
    sizes = {name: _count(module) for name, module in model.core.named_children()}
    return {
        "parameters": _count(model),
        "parameters_by_part": {**sizes, "readout": _count(model.readout)},
        "state_size": state_size(model),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested data as one dictionary, with keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def commit(package: Path = Path(__file__).parents[1]) -> str | None:
    """The commit of the code that runs, where it runs from a checkout of the suite itself.

    Another repository may hold the folder that the suite is installed in; its commit says nothing.
    """
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        own = _git(package, "ls-files", "--full-name", "--error-unmatch", "__init__.py")
        if own == "ntm/__init__.py" and (package.parent / "pyproject.toml").is_file():
            return _git(package, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return None


def _git(folder: Path, *words: str) -> str:
    """What git prints, of the repository that this folder is in, whatever GIT_DIR says."""
    others = {key: value for key, value in os.environ.items() if key not in _GIT}
    command = ["git", *words]
    result = subprocess.run(  # noqa: S603
        command, cwd=folder, env=others, capture_output=True, text=True, timeout=10, check=True
    )
    return result.stdout.strip()


_GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
