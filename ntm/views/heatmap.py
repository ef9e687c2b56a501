"""Tables as colours: a score by condition, and pairs of models."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from ntm.analysis.results import Comparison
from ntm.views.comparison import LOWEST, MANY
from ntm.views.drawing import (
    ACCENT,
    INK,
    MUTED,
    PALE,
    StyledFigure,
    label_decades,
    log_scale,
    styled,
)

#: More rows than this are drawn without a number in each cell.
NUMBERED = 12


@styled()
def by_condition(tables: Sequence[Sequence[dict[str, float]]], title: str) -> StyledFigure:
    """Excess bits for each condition: the mean over tables, one for each seed.

    One condition becomes bars; of two, such as length and repeats, the first runs across.
    """
    names = conditions_of(tables[0])
    found: dict[tuple[float, ...], list[float]] = {}
    for table in tables:
        for row in table:
            place = tuple(row[name] for name in names)
            found.setdefault(place, []).append(row["bits"] - row["floor"])
    means = {place: max(float(np.mean(bits)), LOWEST) for place, bits in found.items()}
    if len(names) == 1:
        return _bars(names[0], {place[0]: bits for place, bits in means.items()}, title)

    across, up = (sorted({place[i] for place in means}) for i in (0, 1))
    grid = np.full((len(up), len(across)), np.nan)
    for (x, y, *_), bits in means.items():
        grid[up.index(y), across.index(x)] = bits
    figure = StyledFigure(
        figsize=(1.6 + 0.5 * len(across), 1.2 + 0.42 * len(up)), layout="constrained"
    )
    axes = figure.add_subplot()
    colours = matplotlib.colormaps["cividis"].with_extremes(bad=PALE)
    image = axes.imshow(
        grid, origin="lower", aspect="auto", cmap=colours,
        norm=LogNorm(LOWEST, max(1.0, float(np.nanmax(grid)))),
    )  # fmt: skip
    _ticks(axes, across, up)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.set_title(title, fontsize=12, fontweight="bold")
    if max(grid.shape) <= NUMBERED:
        middle = np.sqrt(LOWEST * max(1.0, float(np.nanmax(grid))))
        for (row, column), bits in np.ndenumerate(grid):
            if not np.isnan(bits):
                axes.text(column, row, _short(bits), ha="center", va="center", fontsize=7,
                          color="white" if bits < middle else INK)  # fmt: skip
    label_decades(figure.colorbar(image, label="excess bits").ax.yaxis)
    return figure


def conditions_of(table: Sequence[dict[str, float]]) -> list[str]:
    """The names of the conditions by which a score is broken down."""
    return [name for name in table[0] if name not in _SCORES]


_SCORES = {"episodes", "bits", "floor", "bit_errors", "sequence_accuracy"}


def _bars(name: str, means: dict[float, float], title: str) -> StyledFigure:
    figure = StyledFigure(figsize=(7.5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    at = sorted(means)
    axes.bar([f"{x:g}" for x in at], [means[x] - LOWEST for x in at], bottom=LOWEST, color=ACCENT)
    log_scale(axes, "y")
    axes.set_ylim(LOWEST, max(1.0, *means.values()) * 1.5)
    axes.set_xlabel(name)
    axes.set_ylabel("excess bits")
    axes.set_title(title, fontsize=12, fontweight="bold")
    axes.grid(axis="y", color=PALE)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@styled()
def pairwise(
    names: Sequence[str], comparisons: Sequence[tuple[str, str, Comparison]], title: str
) -> StyledFigure:
    """The probability that a seed of the row scores less than one of the column."""
    n = len(names)
    better, text = np.full((n, n), np.nan), [[""] * n for _ in names]
    for a, b, found in comparisons:
        i, j = names.index(a), names.index(b)
        better[i, j], better[j, i] = found.better, 1 - found.better
        text[i][j], text[j][i] = f"{found.better:.0%}", f"{1 - found.better:.0%}"
        if found.interval is not None and n <= MANY:
            low, high = found.interval
            text[i][j] += f"\n{low:.0%}\N{EN DASH}{high:.0%}"
            text[j][i] += f"\n{1 - high:.0%}\N{EN DASH}{1 - low:.0%}"
    across, up, size = (1.15, 0.6, 8.0) if n <= MANY else (0.4, 0.27, 5.5)
    figure = StyledFigure(figsize=(3.2 + across * n, 1.6 + up * n), layout="constrained")
    axes = figure.add_subplot()
    colours = matplotlib.colormaps["PuOr"].with_extremes(bad=PALE)
    axes.imshow(better, cmap=colours, vmin=-0.25, vmax=1.25, aspect="auto")
    for i in range(n):
        for j in range(n):
            dark = better[i, j] > 0.85
            axes.text(j, i, text[i][j], ha="center", va="center", fontsize=size,
                      color="white" if dark else INK)  # fmt: skip
    if n <= MANY:
        axes.set_xticks(range(n), [_wrapped(name) for name in names], fontsize=8)
        axes.set_yticks(range(n), [_wrapped(name, 22) for name in names], fontsize=9)
    else:
        axes.set_xticks(range(n), names, fontsize=7, rotation=90)
        axes.set_yticks(range(n), names, fontsize=7)
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=12, fontweight="bold")
    axes.spines[:].set_visible(False)
    return figure


def _ticks(axes: Axes, across: Sequence[float], up: Sequence[float]) -> None:
    for values, set_ticks in ((across, axes.set_xticks), (up, axes.set_yticks)):
        step = max(1, len(values) // NUMBERED)
        places = range(0, len(values), step)
        set_ticks(list(places), [f"{values[i]:g}" for i in places])
    axes.tick_params(color=MUTED)


def _short(bits: float) -> str:
    if bits <= LOWEST:
        return "0"
    return f"{bits:.2g}" if bits < 100 else f"{bits:.0f}"


def _wrapped(name: str, width: int = 14) -> str:
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
