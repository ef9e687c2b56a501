"""Families: many models on one task, each as large as a budget of parameters allows."""

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

#: What a model of a family may set of its own, beside the model.
OWN = ("train", "validation", "engine")


def is_family(raw: dict[str, Any]) -> bool:
    """Whether a file's data is a family's: it has ``models`` in place of ``model``."""
    return "models" in raw


def members(raw: dict[str, Any], source: str) -> list[str]:
    """The names of a family's models; ``source`` is what an error message names.

    They are folders of runs, so they are made of letters, digits and what is harmless in a path.
    """
    models = raw["models"]
    if "model" in raw:
        raise UsageError(f"{source}: model: a family has models instead; only one can be there")
    if not isinstance(models, dict) or not models:
        raise UsageError(
            f"{source}: models: should name some, such as {{lstm: {{controller: {{kind: lstm}}}}}}"
        )
    for name, model in models.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
            raise UsageError(
                f"{source}: models.{name}: a name should begin with a letter or a digit, and have "
                "nothing but these and . _ + - in it"
            )
        if not isinstance(model, dict):
            raise UsageError(
                f"{source}: models.{name}: should be a model, such as "
                "{controller: {kind: lstm}}"
            )
    return list(models)


def member(raw: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    """The config of one model of a family, as plain data: what is its own is merged over the rest.

    ``parameters`` stays in it where the family has it.
    """
    if not is_family(raw):
        raise UsageError(f"{source}:{name}: {source} is one config, and has no models to choose of")
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
    """Both, block by block; where both have a value, the one above.

    A block of another ``kind`` is another block: nothing of the one below it is kept.
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
    """The same model with the largest controller that has at most ``budget`` trained parameters.

    All of the model's count: controller, heads, readout, and whatever is learned of the first
    state.
    """
    if isinstance(model.controller, EchoStateConfig):
        raise UsageError(
            "model.controller.size: is missing: a reservoir is not trained, so the budget of "
            "parameters does not say how large it should be"
        )
    limits.check(task, _of_size(model, 1), batch=1, history=False)
    return _of_size(model, _largest(model, task.input_size, task.output_size, budget))


@functools.lru_cache(maxsize=1024)  # a sweep asks for each of its models more than once
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
    """How many numbers of a model are trained, counted on it; nothing is allocated for that."""
    with torch.device("meta"):
        built = build_model(model, input_size, output_size, torch.Generator("cpu"))
    return sum(p.numel() for p in built.parameters() if p.requires_grad)


def _of_size(model: ModelConfig, size: int) -> ModelConfig:
    controller = dataclasses.replace(model.controller, size=size)
    return dataclasses.replace(model, controller=controller)
