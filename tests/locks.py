"""A file system without locks, such as some network ones."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest


def refuse_locks(monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """Every lock fails with the error of that name. Returns what the system says of it."""
    fcntl = pytest.importorskip("fcntl")
    number = getattr(errno, name)

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    return os.strerror(number)
