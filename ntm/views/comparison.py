"""Pictures of many runs side by side: learning curves and generalisation, with bands over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from ntm.analysis.trace import Array
from ntm.views.drawing import INK, MUTED, PALE, StyledFigure, log_scale, styled
from ntm.views.plots import decade_below, far_from_zero

#: Okabe and Ito's colours, which the colour-blind can tell apart; the yellow is too pale for lines.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
#: More groups than this are too many for one colour, or one line of text, each.
MANY = len(COLOURS)
#: Logarithmic axes of bits end here; 0 itself is drawn at the edge.
LOWEST = 1e-3
#: An accuracy over fewer answers than this is mostly chance.
FEW = 30
YLABEL = "excess bits per sequence"
#: Labels of steps in words.
_STEPS = {"seen": "characters of the word seen"}


class Curve(NamedTuple):
    """Validation of one run."""

    x: Array  # sequences, or seconds
    bits: Array  # excess: above what the best possible predictor pays


def curve_of(validation: Sequence[Mapping[str, float]], metric: str = "sequences") -> Curve:
    """The curve of a run's table of validation, over sequences or seconds."""
    at = np.array([row[metric] for row in validation])
    return Curve(at, np.array([row["bits"] - row["floor"] for row in validation]))


class Point(NamedTuple):
    """A result from elsewhere, such as the paper's."""

    label: str
    x: float
    bits: float


@styled()
def learning_curves(
    groups: Mapping[str, Sequence[Curve]],
    title: str,
    xlabel: str = "sequences seen",
    solved_bits: float = 0.0,
    points: Sequence[Point] = (),
    ylabel: str = YLABEL,
) -> StyledFigure:
    """Excess bits during training: a median and a band for each group of seeds.

    The band holds the middle half of the seeds, and a thin line is one seed. A seed that has
    stopped keeps the bits with which it stopped, and its end is marked. Where one group takes more
    than ten times as long as another, the axis is logarithmic; that of bits is, unless all of them
    are far from 0. Of more groups than there are colours, the best are in colour, the others grey.
    """
    figure = StyledFigure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.add_subplot()
    best = {name: np.median([c.bits.min() for c in curves]) for name, curves in groups.items()}
    shown = sorted(groups, key=lambda name: float(best[name]))[:MANY]
    colours = dict(zip([n for n in groups if n in shown], COLOURS, strict=False))
    for curve in (c for name, curves in groups.items() if name not in colours for c in curves):
        bits = np.maximum(curve.bits, LOWEST)
        axes.plot(curve.x, bits, color=MUTED, alpha=0.25, linewidth=0.6, zorder=1, rasterized=True)
    for name, colour in colours.items():
        _band(axes, name, groups[name], colour)
    if others := len(groups) - len(colours):
        axes.plot([], [], color=MUTED, alpha=0.5, linewidth=1, label=f"{others} others, each seed")
    if solved_bits:
        axes.axhline(solved_bits, color=INK, linewidth=1, linestyle=":", label="solved")
    _mark(axes, points)
    every = [float(b) for curves in groups.values() for c in curves for b in c.bits]
    if not far_from_zero(every):
        log_scale(axes, "y")
        axes.set_ylim(bottom=decade_below([*every, solved_bits or np.inf], LOWEST))
        axes.yaxis.set_major_formatter(FuncFormatter(_bits))
    ends = [max(curve.x[-1] for curve in curves) for curves in groups.values()]
    if max(ends) > 10 * min(ends):  # or what is quick would be a line at the edge
        log_scale(axes, "x")
    else:
        axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return _finish(figure, axes, title)


def _band(axes: Axes, name: str, curves: Sequence[Curve], colour: str) -> None:
    """A median, the middle half of the seeds, and every seed with its end."""
    at = np.unique(np.concatenate([curve.x for curve in curves]))
    held = np.array([_held(curve, at) for curve in curves])
    low, middle, high = np.maximum(np.quantile(held, (0.25, 0.5, 0.75), axis=0), LOWEST)
    for curve in curves:
        bits = np.maximum(curve.bits, LOWEST)
        axes.plot(curve.x, bits, color=colour, alpha=0.25, linewidth=0.7)
        axes.plot(curve.x[-1], bits[-1], "o", color=colour, markersize=3, alpha=0.7)
    axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(at, middle, color=colour, linewidth=2, label=f"{name} ({_seeds(len(curves))})")


@styled()
def ranking(
    groups: Mapping[str, Sequence[float]], title: str, xlabel: str = YLABEL
) -> StyledFigure:
    """The bits of every seed, a row for each group, the best on top: for many groups.

    A dot is a seed, the bar the median.
    """
    order = sorted(groups, key=lambda name: -float(np.median(groups[name])))
    figure = StyledFigure(figsize=(7.5, 1.1 + 0.25 * len(order)), layout="constrained")
    axes = figure.add_subplot()
    values = {name: np.maximum(np.asarray(groups[name], float), LOWEST) for name in order}
    for row, name in enumerate(order):
        axes.plot(values[name], [row] * len(values[name]), "o", color=COLOURS[0], alpha=0.45,
                  markersize=5, markeredgewidth=0)  # fmt: skip
        axes.plot([np.median(values[name])] * 2, [row - 0.32, row + 0.32], color=INK, linewidth=2)
    axes.set_yticks(range(len(order)), order, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.7, len(order) - 0.3)
    if not far_from_zero([b for bits in values.values() for b in bits]):
        log_scale(axes, "x")
        axes.xaxis.set_major_formatter(FuncFormatter(_bits))
    axes.set_xlabel(xlabel)
    axes.set_title(title, fontsize=12, fontweight="bold")
    axes.grid(axis="both", color=PALE)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


@styled()
def generalisation(
    groups: Mapping[str, Mapping[float, Sequence[float]]],
    title: str,
    xlabel: str,
    trained: float,
    points: Sequence[Point] = (),
    ylabel: str = YLABEL,
) -> StyledFigure:
    """Bits at sizes beyond ``trained``, the largest in training.

    groups: for each size the bits of every seed. The line is the median, the band holds the middle
    half of the seeds, and a dot is one seed.
    """
    figure = StyledFigure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.add_subplot()
    largest = trained
    for (name, sizes), (colour, dashes) in zip(groups.items(), _styles(len(groups)), strict=True):
        at = sorted(sizes)
        bits = [np.maximum(np.asarray(sizes[size], float), LOWEST) for size in at]
        low, middle, high = np.array([np.quantile(b, (0.25, 0.5, 0.75)) for b in bits]).T
        for size, values in zip(at, bits, strict=True):
            axes.plot([size] * len(values), values, "o", color=colour, markersize=3, alpha=0.35)
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
        label = f"{name} ({_seeds(max(map(len, bits)))})"
        axes.plot(
            at, middle, dashes, marker="o", color=colour, linewidth=2, markersize=5, label=label
        )
        largest = max(largest, *at)
    _mark(axes, points)
    log_scale(axes, "x")
    log_scale(axes, "y")
    every = [b for sizes in groups.values() for bits in sizes.values() for b in bits]
    highest = max(LOWEST, *every, *(p.bits for p in points))
    axes.set_ylim(LOWEST * 0.8, highest * 1.5)
    left = min(axes.get_xlim()[0], trained / 2)
    axes.axvspan(left, trained, color=PALE, zorder=0)
    axes.set_xlim(left, largest * 1.15)
    axes.text(trained, 0.99, "trained ", transform=axes.get_xaxis_transform(), ha="right",
              va="top", color=MUTED, fontsize=9)  # fmt: skip
    axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(_bits))
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return _finish(figure, axes, title)


@styled()
def accuracy(
    groups: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], title: str
) -> StyledFigure:
    """Accuracy by the label of steps, such as characters seen.

    groups: for each the rows of every seed, as an evaluation has them. The line is the median, and
    the thin lines are seeds. Labels that fewer than ``FEW`` scored steps have are left out.
    """
    figure = StyledFigure(figsize=(7.5, 4.0), layout="constrained")
    axes = figure.add_subplot()
    label = next(key for seeds in groups.values() for key in seeds[0][0])
    for (name, seeds), (colour, dashes) in zip(groups.items(), _styles(len(groups)), strict=True):
        found: dict[float, list[float]] = {}
        for rows in seeds:
            kept = [row for row in rows if row["scored"] >= FEW]
            at = [row[label] for row in kept]
            if len(seeds) > 1:
                axes.plot(at, [row["accuracy"] for row in kept], color=colour, alpha=0.3, lw=0.7)
            for row in kept:
                found.setdefault(row[label], []).append(row["accuracy"])
        at = sorted(found)
        middle = [np.median(found[x]) for x in at]
        axes.plot(at, middle, dashes, marker="o", color=colour, linewidth=2, markersize=4,
                  clip_on=False, label=f"{name} ({_seeds(len(seeds))})")  # fmt: skip
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(_STEPS.get(label, label))
    axes.set_ylabel("accuracy")
    return _finish(figure, axes, title)


def _held(curve: Curve, at: Array) -> Array:
    """The curve's bits at other places: the last ones known there, the first ones before that."""
    place = np.searchsorted(curve.x, at, side="right") - 1
    bits: Array = curve.bits[np.maximum(place, 0)]
    return bits


def _mark(axes: Axes, points: Sequence[Point]) -> None:
    """Points of others; those of one label share a marker."""
    for label, marker in zip(dict.fromkeys(p.label for p in points), "xD^v", strict=False):
        mine = [p for p in points if p.label == label]
        axes.plot([p.x for p in mine], [max(p.bits, LOWEST) for p in mine], marker, color=INK,
                  markersize=6, fillstyle="none", label=label, zorder=3, clip_on=False)  # fmt: skip


def _finish(figure: StyledFigure, axes: Axes, title: str) -> StyledFigure:
    axes.set_title(title, fontsize=12, fontweight="bold")
    axes.grid(axis="y", color=PALE)
    axes.spines[["top", "right"]].set_visible(False)
    figure.set_size_inches(10.8, 4.6)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)  # inside it hides curves
    return figure


def _styles(count: int) -> list[tuple[str, str]]:
    """Colours and lines, no two alike: where colours begin again, lines are dashed, then dotted."""
    return [(COLOURS[i % MANY], ("-", "--", ":")[min(i // MANY, 2)]) for i in range(count)]


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _thousands(x: float, _: object) -> str:
    return f"{x:,.0f}"


def _bits(y: float, _: object) -> str:
    if y >= 1:
        return f"{y:,.0f}"
    return f"{y:g}" if y > LOWEST else f"\N{LESS-THAN OR EQUAL TO}{LOWEST:g}"
