"""Time and memory against slots and length, ``ntm bench --scale``: tables and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from rich.text import Text

from ntm.analysis.scale import SIDES, Cell, What
from ntm.outcomes import Benchmark
from ntm.views import plots
from ntm.views.comparison import COLOURS
from ntm.views.drawing import INK, MUTED, PALE, StyledFigure, log_scale, styled
from ntm.views.grid import Grid

#: What a call is, by what grows from cell to cell.
_TITLES: dict[What, str] = {
    "step": "Training step, {length:,} vectors to copy",
    "sequence": "Sequence without gradients, {slots:,} slots",
}
_GROWS: dict[What, str] = {"step": "slots", "sequence": "vectors to copy"}
#: Less is noise: what a call takes by chance.
_LEAST_MIB = 1.0
_TIMES = [10.0**n for n in range(-5, 4)]
_SIZES = [4.0**n for n in range(10)]  # MiB: 1, 4, 16 ... 256 GiB


def grids(found: Benchmark) -> Iterator[Grid | Text]:
    """A table for training steps, one for sequences, and what was skipped."""
    about = ", ".join(f"{key} {value}" for key, value in found.about.items())
    yield Text(about)
    for what, cells in _parts(found.cells):
        sides = _sides(cells)
        heads = [head for side in sides for head in (SIDES[side].label, "MiB")]
        caption = "Medians; MiB is the peak above what a call takes with a few slots."
        table = Grid([_GROWS[what], *heads], title=_title(what, cells[0]), caption=caption)
        for size in dict.fromkeys(cell.place.size for cell in cells):
            row = {cell.side: cell for cell in cells if cell.place.size == size}
            numbers = [text for side in sides for text in _numbers(row[side])]
            table.add(f"{size:,}", *numbers)
        yield table
    for cell in found.cells:
        if cell.skipped:
            yield Text(f"skipped: {cell.name}: {cell.skipped}")


def save(found: Benchmark, file: Path = Path("scale.png")) -> Path:
    """Writes the picture as PNG."""
    plots.save(figure(found), file)
    return file


@styled()
def figure(found: Benchmark) -> StyledFigure:
    """Time above, memory below; training steps on the left, sequences on the right."""
    parts = list(_parts(found.cells))
    drawing = StyledFigure(figsize=(5.2 * len(parts) + 0.4, 7.0))
    drawing.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    panels = drawing.subplots(2, len(parts), squeeze=False, sharex="col", sharey="row")
    for column, (what, cells) in enumerate(parts):
        above, below = panels[0][column], panels[1][column]
        _draw(above, cells, "seconds", 0.0)
        _draw(below, cells, "mib", _LEAST_MIB)
        above.set_title(_title(what, cells[0]), fontsize=11.5, fontweight="bold", pad=10)
        below.set_xlabel(_GROWS[what])
    for axes, name, ticks, label in (
        (panels[0][0], "time", _TIMES, _time),
        (panels[1][0], "peak memory", _SIZES, _memory),
    ):
        axes.set_ylabel(name)
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(label))
    handles, labels = panels[0][0].get_legend_handles_labels()
    drawing.legend(
        handles, labels, loc="outside upper left", ncols=len(labels), frameon=False, fontsize=11
    )
    ends = "A line ends where the next size would take too long, or too much memory.   "
    drawing.supxlabel(
        ends + _circumstances(found.about), fontsize=8, color=MUTED, x=0.01, ha="left"
    )
    return drawing


def _draw(axes: Axes, cells: Sequence[Cell], number: str, least: float) -> None:
    """One line for each side. number: the field of a cell that is drawn."""
    for side, colour in zip(SIDES, COLOURS, strict=False):
        done = [cell for cell in cells if cell.side == side and not cell.skipped]
        x = [cell.place.size for cell in done]
        y = [max(getattr(cell, number), least) for cell in done]
        if done:
            axes.plot(x, y, "o-", color=colour, linewidth=2.2, markersize=5.5,
                      label=SIDES[side].label, clip_on=False, zorder=3)  # fmt: skip
            last = _size(y[-1]) if number == "mib" else _digits(y[-1])
            axes.annotate(last, (x[-1], y[-1]), xytext=(2, 7), textcoords="offset points",
                          ha="right", color=colour, fontsize=9.5, fontweight="bold")  # fmt: skip
    log_scale(axes, "x")
    axes.set_yscale("log")
    axes.margins(y=0.12)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(color=PALE)
    axes.tick_params(length=0, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)


def _parts(cells: Sequence[Cell]) -> Iterator[tuple[What, list[Cell]]]:
    """Training steps, then sequences; without the kind of which there are none."""
    for what in _TITLES:
        if part := [cell for cell in cells if cell.place.what == what]:
            yield what, part


def _sides(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.side for cell in cells))


def _title(what: What, cell: Cell) -> str:
    return _TITLES[what].format(**cell.place._asdict())


def _circumstances(about: dict[str, Any]) -> str:
    """The processor, its threads, and the commit, shortened."""
    commit = (about["commit"] or "")[:7]
    threads = f"{about['threads']} thread{'s' * (about['threads'] != 1)}"
    return ", ".join([about["device"], threads, *([f"commit {commit}"] if commit else [])])


def _numbers(cell: Cell) -> tuple[str, str]:
    if cell.seconds is None or cell.mib is None:
        return "-", "-"
    mib = f"{cell.mib:,.0f}" if cell.mib >= _LEAST_MIB else "<1"
    return _digits(cell.seconds), mib


def _digits(seconds: float) -> str:
    """Two digits or three, in seconds or milliseconds."""
    if seconds >= 1:
        return f"{seconds:,.1f} s" if seconds < 100 else f"{seconds:,.0f} s"
    return f"{1e3 * seconds:.2g} ms" if seconds < 0.1 else f"{1e3 * seconds:.0f} ms"


def _time(seconds: float, _: object) -> str:
    if seconds >= 1:
        return f"{seconds:,.0f} s"
    return f"{seconds * 1e3:g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:g} µs"


def _memory(mib: float, _: object) -> str:
    return _size(mib)


def _size(mib: float) -> str:
    if mib <= _LEAST_MIB:
        return "\N{LESS-THAN OR EQUAL TO}1 MiB"
    return (
        f"{mib:.2g} MiB"
        if mib < 100
        else f"{mib:.0f} MiB"
        if mib < 1024
        else f"{mib / 1024:.2g} GiB"
    )
