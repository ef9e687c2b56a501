"""Curricula: training starts with an easier task, which grows to the full one, or beyond it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ntm.training.curriculum_settings import CurriculumConfig, DoublingConfig
from ntm.training.schema import Config
from ntm.training.task_settings import upper_end, with_settings
from tasks import Task


def stages(config: Config) -> int:
    """How often the task can grow."""
    curriculum = config.train.curriculum
    if curriculum is None:
        return 0
    ends = _ends(config.task, curriculum).values()
    if isinstance(curriculum, DoublingConfig):
        return max(int((end - 1) // start).bit_length() for start, end in ends)
    whole = [abs(end - start) for start, end in ends if isinstance(end, int)]
    return 1 + int(max(whole, default=0))


def task_at(config: Config, stage: int) -> Task:
    """The task of a stage, counted from 0; from ``stages`` on, the last one."""
    curriculum = config.train.curriculum
    if isinstance(curriculum, DoublingConfig):
        return _doubled(config.task, curriculum, min(stage, stages(config)))
    if curriculum is None or stage >= stages(config):
        return config.task
    return _grown(config.task, curriculum, stage, max(1, stages(config) - 1))


def lessons(config: Config) -> list[Task]:
    """The first and the last task that training draws from, which bound all others; the task."""
    if config.train.curriculum is None:
        return [config.task]
    ends = [task_at(config, 0), task_at(config, stages(config)), config.task]
    return list(dict.fromkeys(ends))


def _grown(task: Task, curriculum: CurriculumConfig, stage: int, last: int) -> Task:
    """From stage to stage, the integer that has furthest to go grows by 1.

    Other integers and fractions grow in proportion; fractions alone take one stage. Of a range only
    the upper end grows, so that small cases remain until the curriculum is over.
    """
    first = _with(task, curriculum.task)
    now: dict[str, Any] = {}
    for name, (start, end) in _ends(task, curriculum).items():
        grown = (end - start) * stage
        value = start + (grown // last if isinstance(end, int) else grown / last)
        value = end if stage == last else value  # exactly
        whole = getattr(first, name)
        now[name] = (whole[0], value) if isinstance(whole, tuple) else value
    return _with(task, now)


def _doubled(task: Task, curriculum: DoublingConfig, stage: int) -> Task:
    """The level of every size after so many doublings; a range reaches from its least to there."""
    first = _with(task, curriculum.task)
    now: dict[str, Any] = {}
    for name, (start, end) in _ends(task, curriculum).items():
        level, named, own = min(start << stage, end), getattr(first, name), getattr(task, name)
        now[name] = (min(named[0], own[0]), level) if isinstance(named, tuple) else level
    return _with(task, now)


def _ends(task: Task, curriculum: CurriculumConfig) -> dict[str, tuple[Any, Any]]:
    """The settings that grow, from where and to where."""
    limit = curriculum.limit if isinstance(curriculum, DoublingConfig) else {}
    first, last = _with(task, curriculum.task), _with(task, limit)
    return {n: (upper_end(getattr(first, n)), upper_end(getattr(last, n))) for n in curriculum.task}


def _with(task: Task, settings: dict[str, Any]) -> Task:
    frozen = ((n, tuple(v) if isinstance(v, list) else v) for n, v in settings.items())
    return _kept(task, tuple(frozen)) if settings else task


@lru_cache(maxsize=64)
def _kept(task: Task, settings: tuple[tuple[str, Any], ...]) -> Task:
    return with_settings(task, dict(settings), "train.curriculum.task")
