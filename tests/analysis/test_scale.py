"""Time and memory against slots and length: what is measured, what is skipped, what is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from rich.console import Console
from torch.nn.utils import parameters_to_vector

from ntm import cli
from ntm.analysis import scale as module
from ntm.analysis.scale import SIDES, Bounds, Cell, Place, answer, extrapolate, scale
from ntm.errors import UsageError
from ntm.model import Model
from ntm.outcomes import Benchmark
from ntm.runs.models import new_model
from ntm.training.load import load_config
from ntm.training.schema import Config
from ntm.views import scaling
from ntm.views.grid import Grid

STEP, LONGER = Place("step", 30, 2), Place("sequence", 30, 4)
ABOUT = {"device": "a processor", "threads": 2, "torch": "2", "commit": "0123456789"}


def law(seconds: Callable[[Place], float], mib: Callable[[Place], float]) -> Any:
    """Instead of measuring: what a place takes."""
    return lambda place, side, *_: Cell(place, side, seconds(place), mib(place))


@pytest.mark.parametrize("place", [STEP, LONGER])
@pytest.mark.parametrize("side", SIDES)
def test_every_side_answers(place: Place, side: str) -> None:
    if SIDES[side].settings == ("engine=fused",):
        pytest.importorskip("numba")
    found = answer(place, side, threads=1, seconds=0)
    assert found.keys() == {"seconds", "mib"}
    assert found["seconds"] > 0
    assert found["mib"] >= 0


def test_a_row_for_every_slot_makes_no_difference_but_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both training steps take the same gradients, so the parameters are the same afterwards."""
    pytest.importorskip("numba")
    made: list[Model] = []

    def keep(config: Config, *device: Any) -> Model:
        made.append(new_model(config, *device))
        return made[-1]

    monkeypatch.setattr("ntm.analysis.scale.new_model", keep)
    monkeypatch.setattr("ntm.analysis.bench.new_model", keep)
    for side in ("dense", "alike"):
        module._call(Place("step", 300, 3), SIDES[side])()
    made.append(new_model(load_config("copy/ntm-lstm")))
    dense, alike, before = (parameters_to_vector(model.parameters()).detach() for model in made)
    assert float((alike - before).abs().max()) > 1e-5
    torch.testing.assert_close(dense, alike, rtol=0, atol=1e-6)


def test_a_memory_with_a_row_per_slot_takes_them_and_one_of_alike_slots_does_not() -> None:
    """A million slots of width 20 in float32 are 76 MiB."""
    pytest.importorskip("numba")
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("what a process took before is counted here, too")
    place = Place("sequence", 10**6, 2)
    dense, alike = (answer(place, side, threads=1, seconds=0)["mib"] for side in ("dense", "alike"))
    assert dense > 76
    assert alike < 30  # its weighting, 4 MiB, may be there more than once


def test_a_child_measures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    (cell,) = scale(grid=[STEP], sides=["reference"], seconds=0)
    assert (cell.place, cell.side, cell.skipped) == (STEP, "reference", "")
    assert cell.seconds is not None
    assert cell.seconds > 0


def test_a_child_that_fails_is_skipped_with_its_reason_and_so_are_larger_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SIDES, "none", SIDES["reference"]._replace(settings=("model.sort=1",)))
    found = list(scale(grid=[STEP, STEP._replace(slots=40)], sides=["none"]))
    assert found[0].skipped.startswith("failed: ")
    assert found[1].skipped == f"not tried, as 30 {found[0].skipped}"


def test_what_takes_too_long_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = [Place("sequence", 9, 10**n) for n in range(2, 6)]
    monkeypatch.setattr(module, "_cell", law(lambda p: p.length**2 / 1e6, lambda p: 1.0))
    found = list(scale(grid=grid, sides=["alike"], bounds=Bounds(60, 100)))
    assert [cell.seconds for cell in found] == pytest.approx([0.01, 1, None, None])
    assert [cell.skipped for cell in found[2:]] == [
        "would take about 100 s",
        "would take about 10,000 s",
    ]


def test_what_takes_too_much_memory_is_skipped_for_the_side_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cell(place: Place, side: str, *_: object) -> Cell:
        return Cell(place, side, 0.1, place.slots / 10 if side == "dense" else 1.0)

    monkeypatch.setattr(module, "_cell", cell)
    grid = [Place("step", 10**n, 20) for n in range(3, 7)]
    found = list(scale(grid=grid, sides=["dense", "alike"], bounds=Bounds(60, 20_000)))
    skipped = [(c.side, c.place.slots, c.skipped) for c in found if c.skipped]
    assert skipped == [("dense", 10**6, "would need about 97.7 GiB")]


def test_one_value_is_taken_to_grow_with_the_size_and_two_as_they_do() -> None:
    assert extrapolate([10], [3.0], 100) == pytest.approx(30)
    assert extrapolate([10, 100], [3.0, 3.0], 10**5) == pytest.approx(3)
    assert extrapolate([1, 10, 100], [9.0, 1.0, 100.0], 1000) == pytest.approx(10_000)
    assert extrapolate([10, 100], [3.0, 3e5], 1000, most=1) == pytest.approx(3e6)  # noise, too
    assert extrapolate([10, 100], [3.0, 2.0], 1000) == pytest.approx(2)  # noise: nothing shrinks
    assert extrapolate([10, 100], [0.0, 2.0], 1000) == pytest.approx(20)


def test_it_measures_the_cpu() -> None:
    with pytest.raises(UsageError, match="--scale measures the CPU, not --device cuda"):
        next(scale(torch.device("cuda")))


def made_up() -> Benchmark:
    cells = [
        Cell(Place("step", 100, 20), "dense", 0.00123, 0.2),
        Cell(Place("step", 100, 20), "alike", 0.00123, 0.2),
        Cell(Place("step", 10**6, 20), "dense", skipped="would need about 97 GiB"),
        Cell(Place("step", 10**6, 20), "alike", 0.00125, 1234.6),
        Cell(Place("sequence", 128, 1000), "dense", 12.34, 5.0),
        Cell(Place("sequence", 128, 1000), "alike", 0.123, 5.0),
    ]
    return Benchmark(ABOUT, [], cells)


def points(axes: Axes) -> list[list[tuple[float, float]]]:
    """What the lines of a panel are drawn through."""
    lines = [np.asarray(line.get_xydata()).tolist() for line in axes.lines]
    return [[(x, y) for x, y in line] for line in lines]


def test_tables_hold_every_cell_and_say_what_was_skipped() -> None:
    console = Console(width=120, record=True, quiet=False)
    tables = list(scaling.grids(made_up()))
    assert sum(isinstance(table, Grid) for table in tables) == 2
    for table in tables:
        console.print(table)
    text = console.export_text()
    rows = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["1,000,000", "-", "-", "1.2", "ms", "1,235"] in rows
    assert ["1,000", "12.3", "s", "5", "123", "ms", "5"] in rows
    assert "1,000,000 slots, length 20, fused, a row per slot: would need about 97 GiB" in text
    assert "commit 0123456789" in text


def test_the_picture_draws_what_was_measured() -> None:
    picture = scaling.figure(made_up())
    times, seconds, steps, lengths = picture.axes
    assert points(times) == [[(100, 0.00123)], [(100, 0.00123), (10**6, 0.00125)]]
    assert points(seconds) == [[(1000, 12.34)], [(1000, 0.123)]]
    assert points(steps) == [[(100, 1.0)], [(100, 1.0), (10**6, 1234.6)]]
    assert lengths.get_xlabel() == "vectors to copy"
    assert picture.image(dpi=40).startswith(b"\x89PNG")


def test_a_picture_of_one_kind_has_one_column() -> None:
    found = made_up()
    assert len(scaling.figure(Benchmark(ABOUT, [], found.cells[:4])).axes) == 2


def test_json_and_the_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "GRID", [STEP, LONGER])
    monkeypatch.setattr(module, "_cell", law(lambda p: 2.5, lambda p: 7.0))
    monkeypatch.setattr("sys.argv", ["ntm", "bench", "--scale", "--threads", "1", "--json"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert data.keys() == {"device", "threads", "torch", "commit", "rows"}
    assert len(data["rows"]) == 2 * len(SIDES)
    assert data["rows"][0] == {
        "what": "step", "slots": 30, "length": 2, "side": next(iter(SIDES)),
        "seconds": 2.5, "mib": 7.0, "skipped": "",
    }  # fmt: skip
    assert err.splitlines()[-1] == "scale.png"
    assert Path("scale.png").stat().st_size > 1000
