"""Families: many models on one task, each as large as the budget of parameters allows."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from typing import Any

import torch

from controllers.echo_state import EchoStateConfig
from ntm.errors import UsageError
from ntm.model import ModelConfig, build_model
from ntm.training import limits
from tasks import Task

#: The blocks that a model of a family may override.
OWN = ("train", "validation", "engine")


def is_family(raw: dict[str, Any]) -> bool:
    """Whether the data of a file are a family: they have ``models`` in place of ``model``."""
    return "models" in raw


def members(raw: dict[str, Any], source: str) -> list[str]:
    """The names of a family's models; ``source`` is named in error messages.

    They become folders of runs, so only letters, digits and characters safe in paths are allowed.
    """
    models = raw["models"]
    if "model" in raw:
        raise UsageError(f"{source}: model: a family has models instead; remove one of the two")
    if not isinstance(models, dict) or not models:
        raise UsageError(
            f"{source}: models: should be models by name, such as "
            "{lstm: {controller: {kind: lstm}}}"
        )
    for name, model in models.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
            raise UsageError(
                f"{source}: models.{name}: a name should begin with a letter or a digit, "
                "and contain only these and . _ + -"
            )
        if not isinstance(model, dict):
            raise UsageError(
                f"{source}: models.{name}: should be a model, such as "
                "{controller: {kind: lstm}}"
            )
    return list(models)


def member(raw: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    """The config of one model of a family, as plain data: its own blocks merged over the family's.

    It keeps ``parameters``, if the family has a budget.
    """
    if not is_family(raw):
        raise UsageError(f"{source}:{name}: {source} is a single config and has no models")
    names = members(raw, source)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {source}:{near[0]}?" if near else f"it has {', '.join(names)}"
        raise UsageError(f"{source}:{name}: the family has no such model; {hint}")
    rest = {key: value for key, value in raw.items() if key != "models"}
    own = {key: value for key, value in raw["models"][name].items() if key in OWN}
    model = {key: value for key, value in raw["models"][name].items() if key not in OWN}
    return merge(rest, {**own, "model": model})


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merges nested data; where both have a value, ``above`` wins.

    A block of another ``kind`` replaces the one below as a whole.
    """
    merged = dict(below)
    for key, value in above.items():
        old = below.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            other = "kind" in value and value["kind"] != old.get("kind")
            merged[key] = value if other else merge(old, value)
        else:
            merged[key] = value
    return merged


def fit(model: ModelConfig, task: Task, budget: int) -> ModelConfig:
    """The model with the largest controller for which it has at most ``budget`` parameters.

    All trained parameters count: controller, heads, readout, and learned initial states.
    """
    if isinstance(model.controller, EchoStateConfig):
        raise UsageError(
            "model.controller.size: is missing: a reservoir is not trained, so the budget of "
            "parameters does not determine its size"
        )
    limits.check(task, _of_size(model, 1), batch=1, history=False)
    return _of_size(model, _largest(model, task.input_size, task.output_size, budget))


@functools.lru_cache(maxsize=1024)  # a sweep needs each of its models more than once
def _largest(model: ModelConfig, input_size: int, output_size: int, budget: int) -> int:
    def count(size: int) -> int:
        return parameters(_of_size(model, size), input_size, output_size)

    if (least := count(1)) > budget:
        raise UsageError(f"parameters: {budget:,} are too few: at size 1 the model has {least:,}")
    high = 2
    while count(high) <= budget:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= budget else (low, middle)
    return low


def parameters(model: ModelConfig, input_size: int, output_size: int) -> int:
    """The number of trained parameters of a model, counted without allocating it."""
    with torch.device("meta"):
        built = build_model(model, input_size, output_size, torch.Generator("cpu"))
    return sum(p.numel() for p in built.parameters() if p.requires_grad)


def _of_size(model: ModelConfig, size: int) -> ModelConfig:
    controller = dataclasses.replace(model.controller, size=size)
    return dataclasses.replace(model, controller=controller)
