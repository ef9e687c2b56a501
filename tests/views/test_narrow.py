"""On a narrow terminal, no number is cut off."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from ntm.views import tables
from ntm.views.console import TrainingConsole
from ntm.views.grid import Grid
from tests.views.test_console import row

WIDTHS = (20, 40, 50, 80, 200)
NUMBERS = ["1,234,567.8901", "0.0312", "99.95%"]


def shown(grid: Grid, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=True, color_system=None).print(grid)
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return text


@pytest.mark.parametrize("width", WIDTHS)
def test_every_number_of_a_table_is_there(width: int) -> None:
    grid = Grid(["condition", "bits", "sequence_accuracy", "a long name of a column"])
    grid.add("length 10", *NUMBERS)
    grid.add_line()
    grid.add("all [of them]", *reversed(NUMBERS))
    text = shown(grid, width)
    for number in NUMBERS:
        assert text.count(number) == 2
    words = " ".join(text.split())
    for word in ("condition", "length 10", "all [of them]", "sequence_accuracy"):
        assert word in words or width < 30


def test_where_there_is_room_a_row_is_a_line() -> None:
    grid = Grid(["condition", "bits", "errors", "share"])
    grid.add("length 10", *NUMBERS)
    assert any(all(n in line for n in NUMBERS) for line in shown(grid, 80).splitlines())
    assert not any(all(n in line for n in NUMBERS) for line in shown(grid, 40).splitlines())


@pytest.mark.parametrize("width", WIDTHS)
def test_every_number_of_training_is_there(width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, color_system=None)
    with TrainingConsole(console, 100_000) as watcher:
        watcher.reported(row(1000, 10))
        watcher.validated(row(1000, 10))
        before = len(stream.getvalue())
        watcher.reported(row(3000, 15))
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()[before:])
    for number in ("3,000", "12.346", "7.9", "validation 12.346", "400/s", "4:02"):
        assert number in " ".join(text.split())
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_file_has_room_for_a_whole_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    grid = Grid(["condition", "bits", "errors", "share"])
    grid.add("length 10", *NUMBERS)
    tables.show(grid)
    out = capsys.readouterr().out
    assert any(all(n in line for n in NUMBERS) for line in out.splitlines())
