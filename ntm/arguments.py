"""Arguments of functions: NumPy's numbers are as good as Python's, and a mistake is one line."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from ntm.errors import UsageError


def whole(name: str, value: Any, least: int = 0) -> int:
    """The whole number that ``value`` is, at least ``least``. Raises UsageError, which names it."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise UsageError(f"{name}: should be a whole number from {least} up, not {value!r}")
    return number


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Within it, settings that pydantic refuses raise UsageError, with a line for each of them."""
    try:
        yield
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            message = message.replace("Input should be", "should be")
            given = "" if problem["type"] == "value_error" else f", not {problem['input']!r}"
            lines.append(f"{key}: {message}{given}" if key else f"{message}{given}")
        raise UsageError("\n".join(lines)) from None
