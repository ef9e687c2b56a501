"""What the suite says about its work, such as that a kernel is compiled: the logger ``ntm``."""

from __future__ import annotations

import logging

import typer


class ToStandardError(logging.Handler):
    """Prints every message; in a notebook, below its cell."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(record.getMessage(), err=True)


def show_unless_configured() -> None:
    """Prints messages where nobody has set up logging: half a minute of compiling is worth a line.

    Handlers of the root logger, and a level or a handler of the logger ``ntm``, stay in charge.
    """
    log = logging.getLogger("ntm")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
    if not log.handlers:
        handler = ToStandardError()
        handler.addFilter(lambda record: not logging.getLogger().handlers)
        log.addHandler(handler)
