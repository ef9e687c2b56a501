"""A task with other settings, for validation, tests and curricula."""

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
    """``["task.length=120"]`` -> ``{"length": 120}``; a test can only change keys of the task."""
    raw: dict[str, Any] = {}
    for setting in settings:
        key, value = split_setting(setting)
        if not key.startswith("task."):
            raise UsageError(
                f"--set {setting}: only settings of its task can change for a trained run, "
                "such as task.length=120"
            )
        apply_setting(raw, key, value)
    settings_of_task: dict[str, Any] = raw.get("task", {})
    return settings_of_task


def with_settings(task: Task, settings: dict[str, Any], where: str = "task") -> Task:
    """The task with other settings, for a model that was built for it.

    All other settings stay, including derived ones. Raises UsageError if the sizes change.
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
    """The task with other settings, for held-out episodes.

    Raises UsageError for a setting that is for training alone.
    """
    other = with_settings(task, settings, where)
    held_out = other.held_out("test")
    for key in settings:
        if (value := getattr(held_out, key)) != getattr(other, key):
            raise UsageError(f"{where}.{key}: is for training alone; elsewhere it is {value}")
    return other


def upper_end(value: Any) -> Any:
    """The larger end of a range, which is what grows of it; anything else as it is."""
    return value[1] if isinstance(value, tuple) else value
