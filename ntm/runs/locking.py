"""The lock on a folder in which one process at a time may train."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from ntm.errors import RunLockedError
from ntm.files import writing

log = logging.getLogger("ntm")


@contextlib.contextmanager
def locked(folder: Path, refusal: str, is_kept: Callable[[], bool]) -> Iterator[None]:
    """Holds the lock on a folder, which is made if need be.

    The system releases it if this process dies. Within it, an error removes what is empty of the
    folder again unless ``is_kept()``. On a file system without locks, that is said, and nothing is
    locked. Raises RunLockedError, with ``refusal`` as its message, where another process holds the
    lock.
    """
    file = folder / ".lock"
    with contextlib.ExitStack() as stack:
        with writing(folder):
            made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            new = not file.exists()
            stream = stack.enter_context(file.open("w"))
        if not _lock(stream, folder):
            raise RunLockedError(refusal)
        try:
            yield
        except BaseException:
            if new and not is_kept():
                _remove(file, made)
            raise


def _lock(stream: IO[str], folder: Path) -> bool:
    """Locks a file that is open for writing; False where another process has locked it."""
    try:
        import fcntl
    except ImportError:  # Windows has none
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # on some network file systems
        log.warning(
            "%s: cannot be locked (%s); make sure that no other process trains here",
            folder, error.strerror or error,
        )  # fmt: skip
    return True


def _remove(file: Path, made: list[Path]) -> None:
    """Removes a lock's file, what is empty beside it, and folders that were made for it."""
    with contextlib.suppress(OSError):
        file.unlink()
        for folder in (*file.parent.iterdir(), *made):
            with contextlib.suppress(OSError):  # files, and folders that are not empty
                folder.rmdir()
