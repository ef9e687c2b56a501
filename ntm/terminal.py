"""What commands print, whatever the terminal's encoding."""

from __future__ import annotations

import codecs
import contextlib
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import typer


def describe(heading: str, names: Mapping[str, str]) -> None:
    """Prints names with their descriptions, aligned."""
    typer.echo(heading)
    for name, description in names.items():
        typer.echo(f"  {name:{max(map(len, names))}}  {description}")


def print_report(files: Iterable[Path], left_out: Iterable[tuple[Path, str]]) -> None:
    """Prints what was written, and what was left out."""
    for path in files:
        typer.echo(path)
    print_problems(left_out)


def print_problems(left_out: Iterable[tuple[Path, str]]) -> None:
    """Prints the paths that were left out, and why, to standard error."""
    for path, problem in left_out:
        typer.echo(f"left out: {path}: {problem}", err=True)


def _encoded(error: UnicodeError) -> tuple[str | bytes, int]:
    """A path's bytes as they were; any other character that an encoding lacks as an escape."""
    with contextlib.suppress(UnicodeError):
        return codecs.lookup_error("surrogateescape")(error)
    return codecs.lookup_error("backslashreplace")(error)


def write_anything() -> None:
    """Lets no name stop a command: the terminal's encoding may lack its characters."""
    codecs.register_error("ntm", _encoded)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ntm")
