"""Files that are whole or not there, whenever a process is killed; text in them is UTF-8."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ntm.errors import NTMError

#: Ends the names of files that are being written.
TEMPORARY = ".part"


def write_file(file: Path, content: str | bytes) -> None:
    """Whole or not at all: written beside the file, synced, then renamed over it."""
    data = legible(content).encode() if isinstance(content, str) else content
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(TEMPORARY, f".{file.name}.", file.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide it from others
            os.replace(temporary, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def legible(text: str) -> str:
    """The text as UTF-8 can hold it: bytes of a path that are none are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as a person gives it: ``~`` is the home folder."""
    return Path(os.path.expanduser(path))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses is one message, which names the file."""
    try:
        yield
    except OSError as error:
        raise NTMError(f"{path}: cannot be written: {error.strerror or error}") from None
