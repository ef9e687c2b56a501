"""Costs and probabilities as lines: figures 3, 7, 10, 11, 13, 14 and 18 of the paper."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ntm.analysis.trace import Array
from ntm.views import paper
from ntm.views.comparison import Curve
from ntm.views.drawing import INK, MUTED, PALE, StyledFigure, styled
from ntm.views.figures.style import COLOURS, show

#: A curve is averaged over this share of itself: at batch 1 a cost jumps from sequence to sequence.
SMOOTH = 0.02


@styled()
def learning(
    curves: Mapping[str, Sequence[Curve]],
    title: str,
    readings: Sequence[paper.Reading] = (),
    top: tuple[float, float] | None = None,
    optimum: float | None = None,
    validated: Collection[str] = (),
) -> StyledFigure:
    """Figures 3, 7, 10, 13 and 18: cost per sequence in training, against sequences in thousands.

    curves: the training cost of every seed of each model. The line is the median, the band the
    middle half of the seeds; the paper's readings are hollow. The curves of models in ``validated``
    are of validation, and the legend says so. Where one model takes more than three times as long
    as another, a second panel enlarges the beginning.
    """
    lengths = {name: max(c.x[-1] for c in each) for name, each in curves.items()}
    longest, shortest = max(lengths.values()), min(lengths.values())
    panels = [longest]
    if longest > 3 * shortest:
        panels.append(1.15 * max(n for n in lengths.values() if 3 * n < longest))
    figure = StyledFigure(figsize=(8.4 if len(panels) == 1 else 13, 4.4), layout="constrained")
    every = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    smooth = {name: [_smooth(curve) for curve in each] for name, each in curves.items()}
    bottom, peak = top or (0.0, max(float(c.bits.max()) for each in smooth.values() for c in each))
    # A model that never comes down as far as the paper's stays in the picture.
    ends = [float(np.median([c.bits[-1] for c in each])) for each in smooth.values()]
    limits = bottom, max(peak, bottom + 1.2 * (max(ends) - bottom))
    for axes, end in zip(every, panels, strict=True):
        for name, each in smooth.items():
            _line(axes, name, each, ", validation" if name in validated else "")
        _mark(axes, [r for r in readings if r.sequences <= end])
        if optimum is not None:
            axes.axhline(
                optimum, color=INK, linestyle="--", linewidth=1.2, label="optimal estimator"
            )
        axes.set_xlim(0, end / 1000)
        axes.set_ylim(limits)
        axes.set_xlabel("sequence number (thousands)")
        axes.grid(color=PALE)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    every[0].set_ylabel("cost per sequence (bits)")
    every[0].set_title(title, fontsize=12, fontweight="bold")
    if len(panels) > 1:
        every[1].set_title("The beginning, enlarged", fontsize=11)
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside right upper")
    return figure


def _smooth(curve: Curve) -> Curve:
    n = max(1, round(SMOOTH * len(curve.x)))
    keep = len(curve.x) // n * n  # the first ones of an uneven rest are left out
    x, bits = (v[len(v) - keep :].reshape(-1, n).mean(axis=1) for v in curve)
    return Curve(x, bits)


def _line(axes: Axes, name: str, curves: Sequence[Curve], of: str) -> None:
    """A median and a band; a seed that has stopped keeps its last cost."""
    colour = COLOURS[name]
    x = np.unique(np.concatenate([c.x for c in curves]))
    held = np.array([np.interp(x, c.x, c.bits) for c in curves])
    low, middle, high = np.quantile(held, (0.25, 0.5, 0.75), axis=0)
    seeds = f"{len(curves)} seeds" if len(curves) > 1 else "1 seed"
    axes.fill_between(x / 1000, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x / 1000, middle, color=colour, linewidth=1.7, label=f"{name} ({seeds}{of})")
    axes.plot(x[-1] / 1000, middle[-1], "o", color=colour, markersize=4)


def _mark(axes: Axes, readings: Sequence[paper.Reading]) -> None:
    """Hollow diamonds for what the paper's own plots show."""
    for name in dict.fromkeys(r.model for r in readings):
        mine = [r for r in readings if r.model == name]
        axes.plot([r.sequences / 1000 for r in mine], [r.bits for r in mine], "D",
                  color=COLOURS[name], fillstyle="none", markersize=7, markeredgewidth=1.6,
                  clip_on=False, zorder=4, label=f"the paper's {name}")  # fmt: skip


@styled()
def by_items(
    groups: Mapping[str, Mapping[int, Sequence[float]]],
    readings: Mapping[str, Mapping[int, float]],
    trained: int,
    title: str,
) -> StyledFigure:
    """Figure 11: cost of recall against items. groups: bits of every seed, by model and items."""
    figure = StyledFigure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for name, sizes in groups.items():
        at = sorted(sizes)
        low, middle, high = np.array([np.quantile(sizes[n], (0.25, 0.5, 0.75)) for n in at]).T
        seeds = max(map(len, sizes.values()))
        axes.fill_between(at, low, high, color=COLOURS[name], alpha=0.2, linewidth=0)
        axes.plot(at, middle, "o-", color=COLOURS[name], linewidth=1.7, markersize=5,
                  label=f"{name} ({seeds} seed{'s' * (seeds > 1)})")  # fmt: skip
    for name, points in readings.items():
        axes.plot(list(points), list(points.values()), "D", color=COLOURS[name], fillstyle="none",
                  markersize=8, markeredgewidth=1.6, clip_on=False, zorder=4,
                  label=f"the paper's {name}")  # fmt: skip
    axes.axvline(trained, color=MUTED, linestyle=":", linewidth=1.2)
    axes.text(trained, 0.99, " largest in training", transform=axes.get_xaxis_transform(),
              va="top", color=MUTED, fontsize=9)  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlabel("number of items per sequence")
    axes.set_ylabel("cost per sequence (bits)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, fontsize=12, fontweight="bold")
    axes.grid(color=PALE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


@styled()
def predictions(bits: Array, lines: Mapping[str, Array], title: str, start: int) -> StyledFigure:
    """Figure 14: the probability of a 1 at each step, optimal and predicted, above the bits.

    bits [T]; lines: probabilities [T]. Steps from ``start`` on are shown.
    """
    figure = StyledFigure(figsize=(12.5, 1.2 + 1.75 * (len(lines) - 1)), layout="constrained")
    (best, optimal), *others = lines.items()
    rows = figure.subplots(
        len(others) + 1, 1, sharex=True, squeeze=False, height_ratios=[5] * len(others) + [1]
    )[:, 0]
    t = np.arange(len(bits))
    for axes, (name, values) in zip(rows, others, strict=False):
        axes.step(t, optimal, where="mid", color=INK, linewidth=1.3, linestyle=(0, (3, 1.5)),
                  label=best)  # fmt: skip
        axes.step(t, values, where="mid", color=COLOURS[name], linewidth=1.8, label=name)
        off = float(np.abs(values - optimal)[start:].mean())
        axes.set_title(f"{name}: {off:.3f} from the optimum on average")
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("P(1)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9, loc="upper right", bbox_to_anchor=(1, 1.2), ncols=2)
    show(rows[-1], bits[:, None], "Greys", (0, 1))
    rows[-1].set_yticks([])
    rows[-1].set_ylabel("bits", rotation=0, ha="right", va="center")
    rows[-1].set_xlim(start - 0.5, len(bits) - 0.5)
    rows[-1].set_xlabel("time")
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    return figure
