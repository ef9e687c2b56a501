"""Draws episodes for training and evaluation, and checks them against their task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ntm.errors import UsageError
from tasks import Episode, Task
from tasks.base import TaskError


def draw(task: Task, rng: np.random.Generator, batch: int) -> Episode:
    """``batch`` sequences of the task.

    Raises UsageError where the task lacks its data, such as a text, and where the episode is not
    what the task's sizes say.
    """
    try:
        episode = task.sample(rng, batch)
    except TaskError as error:
        raise UsageError(str(error)) from None
    if problem := _problem(task, episode, batch):
        raise UsageError(f"task {task.kind}: {problem}")
    return episode


def _problem(task: Task, episode: Episode, batch: int) -> str | None:
    """Where an episode differs from what its task says, in one line."""
    inputs, targets, mask, conditions = episode
    loss, O = task.loss, task.output_size  # noqa: E741
    T = len(inputs) if inputs.ndim else 0
    if not 1 <= T <= task.steps:
        return f"an episode has at most {task.steps} steps (steps); sample gave {T}"
    size = loss.target_size(O)
    given = [(inputs.shape, inputs.dtype), (targets.shape, targets.dtype), (mask.shape, mask.dtype)]
    right = [
        ((T, batch, task.input_size), torch.float32),
        ((T, batch, size), loss.target_dtype),
        ((T, batch), torch.float32),
    ]
    if given != right:
        axes = ("[T, B, input_size]", f"[T, B, {loss.target_axis}]", "[T, B]")
        return _difference(given, right, axes)
    for name, labels in conditions.items():
        if not isinstance(labels, Tensor) or labels.shape != (batch,):
            found = list(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
            return f"the condition {name} should be a tensor [{batch}], [B]; sample gave {found}"
    scored, values = mask.numpy(), targets.numpy()
    if not ((scored == 0) | (scored == 1)).all():
        return "mask should be 1 where the outputs are scored and 0 elsewhere"
    low, high, most = values.min(), values.max(), loss.largest_target(O)
    if not 0 <= low <= high <= most:
        return f"targets should be from 0 to {most}; sample gave {low:g} to {high:g}"
    return None


#: The shape and the type of a tensor.
_Layout: TypeAlias = tuple[tuple[int, ...], torch.dtype]


def _difference(found: Sequence[_Layout], right: Sequence[_Layout], axes: Sequence[str]) -> str:
    """The first tensor that differs, and how."""
    for name, (shape, dtype), (wanted, wanted_dtype), meaning in zip(
        ("inputs", "targets", "mask"), found, right, axes, strict=True
    ):
        if shape != wanted:
            return f"{name} should be {list(wanted)}, {meaning}; sample gave {list(shape)}"
        if dtype != wanted_dtype:
            return f"{name} should be {wanted_dtype}; sample gave {dtype}"
    raise AssertionError("nothing differs")
