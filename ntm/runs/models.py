"""Models from configs, and from runs."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import torch

from ntm.arguments import whole
from ntm.errors import NTMError, UsageError
from ntm.kernels.dispatch import Choice, EngineError, has_torch_kernels, select
from ntm.model import Model, build_model
from ntm.runs.folder import Checkpoint, RunDir
from ntm.runs.resources import plain_defaults
from ntm.training import limits
from ntm.training.schema import Config
from ntm.training.streams import Stream, torch_generator


def new_model(config: Config, device: torch.device | str = "cpu") -> Model:
    """The model of a config before training: the same numbers on every device."""
    generator = torch_generator(config.seed, Stream.INITIALISATION)
    task = config.task
    with plain_defaults():
        model = build_model(config.model, task.input_size, task.output_size, generator)
    return model.to(device)


def choose_engine(config: Config, model: Model) -> Choice:
    """The engine that runs this model under this config, and why it is this one."""
    try:
        return select(model.core, config.engine)
    except EngineError as error:
        raise UsageError(f"engine: {error}") from None


def load_model(
    run: RunDir,
    device: torch.device | str = "cpu",
    slots: int | None = None,
    snapshot: int | None = None,
) -> tuple[Model, Config]:
    """The trained model of a run, and its config.

    slots: gives it another memory. snapshot: takes the weights after so many sequences.
    """
    config = run.config()
    if slots is not None:
        slots = whole("slots", slots, 1)
        if config.model.memory is None:
            raise UsageError(
                f"{run.path}: a baseline has no memory, so --slots means nothing to it"
            )
        try:
            memory = config.model.memory.with_slots(slots)
        except ValueError as error:
            raise UsageError(f"{run.path}: --slots cannot be given: {error}") from None
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, memory=memory))
    if torch.device(device).type == "cpu":
        limits.check(config.task, config.model, batch=1, history=False)
    model = new_model(config, device)
    weights = run.load_best() if snapshot is None else run.load_snapshot(snapshot)
    load_weights(model, weights, run.path)
    return model.eval(), config


def load_weights(model: Model, checkpoint: Checkpoint, where: Path) -> None:
    """Puts a checkpoint's weights into a model that must fit them."""
    own, given = model.state_dict(), checkpoint.weights
    problems = [f"{name} is missing" for name in own.keys() - given.keys()]
    problems += [f"{name} has no place in this model" for name in given.keys() - own.keys()]
    problems += [
        f"{name} is {list(given[name].shape)}, should be {list(own[name].shape)}"
        for name in own.keys() & given.keys()
        if given[name].shape != own[name].shape
    ]
    if problems:
        raise NTMError(
            f"{where}: the checkpoint does not fit the run's config: {'; '.join(sorted(problems))}"
        )
    model.load_state_dict(given)


def take_weights(model: Model, checkpoint: Checkpoint, where: Path) -> tuple[list[str], list[str]]:
    """Puts those of a checkpoint's weights into a model that fit it, by name and shape.

    Returns the names of the model's weights that were taken, and of those that were not. Raises
    UsageError where none fits.
    """
    own, given = model.state_dict(), checkpoint.weights
    fits = [name for name in own if name in given and given[name].shape == own[name].shape]
    if not fits:
        raise UsageError(f"{where}: none of its weights has the name and the shape of one here")
    model.load_state_dict({name: given[name] for name in fits}, strict=False)
    return fits, [name for name in own if name not in fits]


def find_device(name: str, config: Config) -> torch.device:
    """The device that ``--device`` means.

    ``auto`` is the GPU where there is one, but for an NTM, or a unit that torch has no kernel
    for, on the fused engine: a step of it is many small operations, which take a GPU longer to
    launch than the CPU to do.
    """
    if name != "auto":
        return _named_device(name)
    if torch.cuda.is_available():
        model = new_model(config)
        fused = choose_engine(config, model).engine == "fused"
        on_cpu = fused and not has_torch_kernels(model.core)
        return torch.device("cpu" if on_cpu else "cuda")
    return torch.device("cpu")


def _named_device(name: str) -> torch.device:
    """Raises UsageError for a device that torch does not have here; the message names those."""
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]+)?", name):
        raise UsageError(f"--device {name}: should be auto, cpu, cuda, cuda:N or mps")
    gpus = torch.cuda.is_available()
    there = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count() if gpus else 0))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name not in there and not (name == "cuda" and gpus):
        raise UsageError(f"--device {name}: torch has no such device here, only {', '.join(there)}")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What a device is: cpu, mps, or the name of a GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
