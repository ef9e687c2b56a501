"""Kernels compile for up to a minute or two: whoever waits for one can be told to stop.

Python runs the handler of a signal only between two of its own instructions, and the compiler is
one long call. So it compiles on a thread of its own, and the caller waits in short steps. A
compilation that nobody waits for any more goes on: in a notebook its kernel is kept, and a command
ends at once all the same.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds between two looks at whether to stop.
EVERY = 0.05


class StoppedWaiting(KeyboardInterrupt):
    """Whoever is responsible for stopping said so while a kernel was being compiled."""


_should_stop: Callable[[], bool] = lambda: False  # noqa: E731
_stops = 0  # how often the main thread has stopped waiting: then so do the others


class _Compilation(threading.Thread):
    """Calls a function, and holds what it returned or raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(name="ntm-compiling")
        self._function = function
        self._found: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._found = self._function()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._found


def wait_for(function: Callable[[], T]) -> T:
    """What the function returns, which compiles something.

    Raises KeyboardInterrupt as soon as there is one, and StoppedWaiting when ``stopped_when`` says
    so.
    """
    if isinstance(threading.current_thread(), _Compilation):  # a kernel that calls another
        return function()
    global _stops
    before, compilation = _stops, _Compilation(function)
    try:
        compilation.start()
        while compilation.is_alive():
            if _should_stop() or _stops != before:
                raise StoppedWaiting
            compilation.join(EVERY)
    except BaseException:
        if threading.current_thread() is threading.main_thread():
            _stops += 1
        raise
    found: T = compilation.result()
    return found


@contextlib.contextmanager
def stopped_when(should_stop: Callable[[], bool]) -> Iterator[None]:
    """Within it, nobody waits for a kernel once ``should_stop()``."""
    global _should_stop
    before, _should_stop = _should_stop, should_stop
    try:
        yield
    finally:
        _should_stop = before


def ends_process(main: Callable[[], None]) -> Callable[[], None]:
    """A command's main function, which ends its process without waiting for what still compiles.

    Called by anything but the process's own program, such as a test, it raises SystemExit as usual.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        is_program = sys._getframe(1).f_globals.get("__name__") == "__main__"
        try:
            main()
        except SystemExit as end:
            left = any(isinstance(thread, _Compilation) for thread in threading.enumerate())
            if not (is_program and left):
                raise
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))

    return wrapper
