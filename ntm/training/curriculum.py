"""Curricula: training starts with an easier task, which grows to the full one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ntm.training.schema import Config
from ntm.training.task_settings import with_settings
from tasks import Task


def stages(config: Config) -> int:
    """The number of easier tasks before the full one."""
    if config.train.curriculum is None:
        return 0
    whole = [abs(b - a) for a, b in _ends(config).values() if isinstance(b, int)]
    return 1 + int(max(whole, default=0))


def task_at(config: Config, stage: int) -> Task:
    """The task of a stage, counted from 0; from ``stages`` on, the full one.

    From stage to stage, the integer that has furthest to go grows by 1, other integers and
    fractions in proportion; fractions alone take one stage. Of a range only the upper end grows, so
    that small cases remain until the curriculum is over.
    """
    count = stages(config)
    if stage >= count:
        return config.task
    assert config.train.curriculum is not None
    first, last = _first(config), max(1, count - 1)
    now: list[tuple[str, Any]] = []
    for name, (start, end) in _ends(config).items():
        grown = (end - start) * stage
        value = start + (grown // last if isinstance(end, int) else grown / last)
        value = end if stage == last else value  # exactly
        whole = getattr(first, name)
        now.append((name, (whole[0], value) if isinstance(whole, tuple) else value))
    return _with(config.task, tuple(now))


def lessons(config: Config) -> list[Task]:
    """The first and the full task, which bound the sizes of all others."""
    first = [task_at(config, 0)] if config.train.curriculum is not None else []
    return [*first, config.task]


def _first(config: Config) -> Task:
    assert config.train.curriculum is not None
    named = config.train.curriculum.task.items()
    frozen = tuple((n, tuple(v) if isinstance(v, list) else v) for n, v in named)
    return _with(config.task, frozen)


def _ends(config: Config) -> dict[str, tuple[float, float]]:
    """The settings that grow, from where and to where."""
    assert config.train.curriculum is not None
    first = _first(config)

    def upper(value: Any) -> Any:
        return value[1] if isinstance(value, tuple) else value

    return {
        name: (upper(getattr(first, name)), upper(getattr(config.task, name)))
        for name in config.train.curriculum.task
    }


@lru_cache(maxsize=64)
def _with(task: Task, settings: tuple[tuple[str, Any], ...]) -> Task:
    return with_settings(task, dict(settings), "train.curriculum.task")
