"""What training draws from: easier tasks at first."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ntm.training.schema import Config
from ntm.training.task_settings import with_settings
from tasks import Task


def stages(config: Config) -> int:
    """How many easier tasks come before the one that is meant."""
    if config.train.curriculum is None:
        return 0
    whole = [abs(b - a) for a, b in _ends(config).values() if isinstance(b, int)]
    return 1 + int(max(whole, default=0))


def task_at(config: Config, stage: int) -> Task:
    """The task of a stage, counted from 0; from ``stages`` on, the one that is meant.

    From stage to stage the whole number that has furthest to go grows by 1, the others and shares
    in proportion; where only shares are named, there is one stage before the task that is meant. Of
    a range only the upper end grows, so that small cases go on until the curriculum is over.
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
        value = end if stage == last else value  # to the last bit
        whole = getattr(first, name)
        now.append((name, (whole[0], value) if isinstance(whole, tuple) else value))
    return _with(config.task, tuple(now))


def lessons(config: Config) -> list[Task]:
    """The task, and the one that training begins with: what its limits depend on."""
    first = [task_at(config, 0)] if config.train.curriculum is not None else []
    return [*first, config.task]


def _first(config: Config) -> Task:
    assert config.train.curriculum is not None
    named = config.train.curriculum.task.items()
    frozen = tuple((n, tuple(v) if isinstance(v, list) else v) for n, v in named)
    return _with(config.task, frozen)


def _ends(config: Config) -> dict[str, tuple[float, float]]:
    """What grows: from where, to where."""
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
