"""Mistakes that a user can mend: reported as one message, never as a traceback."""

from __future__ import annotations


class NTMError(Exception):
    """Something failed. The message names the key or the path, and what would be right."""

    exit_code = 1

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


class NotFiniteError(NTMError):
    """Training has run into numbers that are not finite."""


class UsageError(NTMError):
    """What was asked for cannot be: a wrong command, config or path."""

    exit_code = 2


class RunLockedError(UsageError):
    """Another process is training in this folder: the same command may succeed later."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h
