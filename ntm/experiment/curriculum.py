"""A curriculum: training begins with a smaller task, which grows to the one that is meant."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ntm.experiment.config import Config, with_settings
from tasks import Task


def task_at(config: Config, sequences: int) -> Task:
    """What the next sequences are drawn from, after so many.

    The first settings grow linearly to the task's, in whole steps of equal duration. Of a range
    only the upper end grows, so that small cases go on until the curriculum is over.
    """
    curriculum = config.train.curriculum
    if curriculum is None or sequences >= curriculum.sequences:
        return config.task
    share = sequences / curriculum.sequences
    first = _with(config.task, tuple((n, _plain(v)) for n, v in curriculum.task.items()))
    now: list[tuple[str, Any]] = []
    for name in curriculum.task:
        start, end = getattr(first, name), getattr(config.task, name)
        if isinstance(start, tuple):
            now.append((name, (start[0], _between(start[1], end[1], share))))
        else:
            now.append((name, _between(start, end, share)))
    return _with(config.task, tuple(now))


def _between(start: int, end: int, share: float) -> int:
    """Whole steps of equal duration, from start to end with both."""
    steps = abs(end - start) + 1
    moved = min(int(share * steps), steps - 1)
    return start + (moved if end >= start else -moved)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@lru_cache(maxsize=64)
def _with(task: Task, settings: tuple[tuple[str, Any], ...]) -> Task:
    return with_settings(task, dict(settings), "train.curriculum.task")
