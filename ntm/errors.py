"""Errors that a user can mend: reported as one message, never as a traceback."""

from __future__ import annotations


class NTMError(Exception):
    """Something failed. The message names the key or the path, and what would be right.

    ``exit_code`` is what the command line ends with.
    """

    exit_code = 1

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(NTMError):
    """A wrong command, config or path."""

    exit_code = 2


class RunNotFoundError(UsageError):
    """There is no run in this folder."""


class RunExistsError(UsageError):
    """A new run would overwrite one that is there."""


class RunLockedError(UsageError):
    """Another process is training in this folder: the same command may succeed later."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class ShadowedPackageError(UsageError, ImportError):
    """A folder of the user's has the name of one of our packages, and is found first."""


class NotFiniteError(NTMError):
    """Training has produced a loss or a gradient that is not finite."""


class OutOfMemoryError(NTMError):
    """A tensor did not fit into memory."""


class KilledError(NTMError):
    """Training was stopped at once, before it could save."""

    exit_code = 130  # as a shell reports SIGINT


def out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """The error to report where ``error`` means that memory ran out; None for any other.

    Python and NumPy raise MemoryError. Torch raises RuntimeError, on the CPU without a class of its
    own ("DefaultCPUAllocator: can't allocate memory: ..."), so only the text tells it from others.
    """
    text = str(error).strip()
    refused = isinstance(error, RuntimeError) and "allocate" in text
    if not (isinstance(error, MemoryError) or refused):
        return None
    detail = text.splitlines()[-1] if text else "no more was available"
    return OutOfMemoryError(
        "not enough memory: a smaller model, a smaller train.batch or shorter sequences need less "
        f"({detail})"
    )
