from __future__ import annotations

import io

from rich.console import Console

from ntm.views.console import TrainingConsole


def row(sequences: float, seconds: float) -> dict[str, float]:
    return {"sequences": sequences, "seconds": seconds, "bits": 12.3456, "bit_errors": 7.89}


def test_the_bar_fits_a_narrow_terminal_and_says_what_matters() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    with TrainingConsole(console, 100_000) as watcher:
        watcher.reported(row(1000, 10))
        watcher.validated(row(1000, 10))
        watcher.reported(row(3000, 15))
        shown = stream.getvalue().split("\r")[-1]
    line = next(part for part in shown.splitlines() if "3,000 sequences" in part)
    assert "12.346 bits, 7.9 errors, validation 12.346, 400/s, 4:02 at most" in line
    assert "\n" not in line.strip()


def test_elsewhere_there_are_lines() -> None:
    stream = io.StringIO()
    with TrainingConsole(Console(file=stream, width=30), 100_000) as watcher:
        watcher.reported(row(1000, 10))
    assert stream.getvalue() == "1,000 sequences: 12.346 bits, 7.9 errors\n"


def test_quiet_is_quiet() -> None:
    stream = io.StringIO()
    with TrainingConsole(Console(file=stream), 100_000, quiet=True) as watcher:
        watcher.reported(row(1000, 10))
        watcher.validated(row(1000, 10))
    assert stream.getvalue() == ""
