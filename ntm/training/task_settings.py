"""A task at other settings: for validation, tests and curricula."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from ntm import registry
from ntm.errors import UsageError
from ntm.training.dialect import apply_setting, split_setting
from ntm.training.messages import validate
from tasks import AnyTask, Task


@lru_cache(maxsize=1)
def _adapter(version: int) -> TypeAdapter[Task]:
    """Validates tasks of every registered kind; ``version`` is the registries'."""
    return TypeAdapter(AnyTask)


def task_settings(settings: Iterable[str]) -> dict[str, Any]:
    """``["task.length=120"]`` -> ``{"length": 120}``; only keys of the task can change at test."""
    raw: dict[str, Any] = {}
    for setting in settings:
        key, value = split_setting(setting)
        if not key.startswith("task."):
            raise UsageError(
                f"--set {setting}: a trained run can only be given other settings of its task, "
                "such as task.length=120"
            )
        apply_setting(raw, key, value)
    settings_of_task: dict[str, Any] = raw.get("task", {})
    return settings_of_task


def with_settings(task: Task, settings: dict[str, Any], where: str = "task") -> Task:
    """The same task at other settings, for a model that was made for it.

    Everything that is not named stays, what was derived too.
    """
    adapter = _adapter(registry.load_plugins())
    raw = {**adapter.dump_python(task, mode="json"), **settings}
    other = validate(adapter, raw, where, where)
    if (other.input_size, other.output_size) != (task.input_size, task.output_size):
        raise UsageError(
            f"{where}: the model has {task.input_size} inputs and {task.output_size} outputs, but "
            f"with {settings} the task has {other.input_size} and {other.output_size}"
        )
    return other


def as_tested(task: Task, settings: dict[str, Any], where: str = "task") -> Task:
    """The same task at other settings, for episodes that are held out.

    Raises UsageError for a setting that only training has.
    """
    other = with_settings(task, settings, where)
    held_out = other.held_out("test")
    for key in settings:
        if (value := getattr(held_out, key)) != getattr(other, key):
            raise UsageError(f"{where}.{key}: is for training alone; elsewhere it is {value}")
    return other
