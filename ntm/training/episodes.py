"""Draws episodes for training and evaluation, and checks them against their task."""

from __future__ import annotations

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
    T = inputs.shape[0] if inputs.ndim else 0
    if not 1 <= T <= task.steps:
        return f"an episode has at most {task.steps} steps (steps); sample gave {T}"
    size = loss.target_size(O)
    # Every draw passes here: at batch 1 the checks are 1% of a training step.
    if not (
        inputs.shape == (T, batch, task.input_size)
        and targets.shape == (T, batch, size)
        and mask.shape == (T, batch)
        and inputs.dtype is mask.dtype is torch.float32
        and targets.dtype is loss.target_dtype
    ):
        return _difference(
            ("inputs", inputs, (T, batch, task.input_size), torch.float32, "[T, B, input_size]"),
            (
                "targets",
                targets,
                (T, batch, size),
                loss.target_dtype,
                f"[T, B, {loss.target_axis}]",
            ),
            ("mask", mask, (T, batch), torch.float32, "[T, B]"),
        )
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


def _difference(*expected: tuple[str, Tensor, tuple[int, ...], torch.dtype, str]) -> str:
    """The first tensor that differs from its shape or type, and how."""
    for name, found, shape, dtype, axes in expected:
        if found.shape != shape:
            return f"{name} should be {list(shape)}, {axes}; sample gave {list(found.shape)}"
        if found.dtype != dtype:
            return f"{name} should be {dtype}; sample gave {found.dtype}"
    raise AssertionError("nothing differs")
