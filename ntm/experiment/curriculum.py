"""A curriculum: training begins with a smaller task, which grows as it is learned."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ntm.experiment.config import Config, with_settings
from tasks import Task


def stages(config: Config) -> int:
    """How many smaller tasks come before the one that is meant."""
    if config.train.curriculum is None:
        return 0
    return 1 + max((abs(end - start) for start, end in _ends(config).values()), default=0)


def task_at(config: Config, stage: int) -> Task:
    """The task of a stage, counted from 0; from ``stages`` on, the one that is meant.

    From stage to stage the setting that has furthest to go grows by 1, the others in proportion.
    Of a range only the upper end grows, so that small cases go on until the curriculum is over.
    """
    count = stages(config)
    if stage >= count:
        return config.task
    assert config.train.curriculum is not None
    first = _first(config)
    now: list[tuple[str, Any]] = []
    for name, (start, end) in _ends(config).items():
        value = start + (end - start) * stage // max(1, count - 1)
        whole = getattr(first, name)
        now.append((name, (whole[0], value) if isinstance(whole, tuple) else value))
    return _with(config.task, tuple(now))


def _first(config: Config) -> Task:
    assert config.train.curriculum is not None
    return _with(
        config.task,
        tuple((n, tuple(v) if isinstance(v, list) else v)
              for n, v in config.train.curriculum.task.items()),
    )  # fmt: skip


def _ends(config: Config) -> dict[str, tuple[int, int]]:
    """What grows: from where, to where."""
    assert config.train.curriculum is not None
    first = _first(config)

    def upper(value: Any) -> int:
        return int(value[1] if isinstance(value, tuple) else value)

    return {
        name: (upper(getattr(first, name)), upper(getattr(config.task, name)))
        for name in config.train.curriculum.task
    }


@lru_cache(maxsize=64)
def _with(task: Task, settings: tuple[tuple[str, Any], ...]) -> Task:
    return with_settings(task, dict(settings), "train.curriculum.task")
