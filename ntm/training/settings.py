"""Settings as Python has them, and as the command line writes them: KEY=VALUE."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

#: ``{"train.batch": 4}`` or ``["train.batch=4"]``.
Settings: TypeAlias = Mapping[str, Any] | Sequence[str]
#: ``{"train.batch": [1, 8]}`` or ``["train.batch=1,8"]``.
Grid: TypeAlias = Mapping[str, Sequence[Any]] | Sequence[str]


def as_settings(settings: Settings, **others: Any) -> list[str]:
    """Settings as ``--set`` takes them; ``others`` follow, unless they are None."""
    if isinstance(settings, Mapping):
        settings = [f"{key}={_text(value)}" for key, value in settings.items()]
    given = {key: value for key, value in others.items() if value is not None}
    return [*settings, *(f"{key}={_text(value)}" for key, value in given.items())]


def as_axes(grid: Grid) -> list[str]:
    """A grid as ``--grid`` takes it."""
    if isinstance(grid, Mapping):
        return [f"{key}={','.join(map(_text, values))}" for key, values in grid.items()]
    return list(grid)


def _text(value: Any) -> str:
    """A value in YAML, of which JSON is a part; a word stays as it is where YAML reads it so."""
    if isinstance(value, str) and value.isidentifier():
        return value
    return json.dumps(value, default=plain)


def as_plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a file holds them: NumPy's numbers and arrays as Python's, paths as text."""
    data: dict[str, Any] = json.loads(json.dumps(dict(settings), default=plain))
    return data


def plain(value: Any) -> Any:
    """What JSON does not know: a number or an array of NumPy's, a path; anything else as text."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)
