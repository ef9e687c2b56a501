"""How a model sorts by priority: figures 16 and 17 of the paper."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from ntm.analysis.trace import Array, NTMTrace, Trace
from ntm.views import paper
from ntm.views.drawing import MUTED, StyledFigure, styled
from ntm.views.figures.style import COLOURS, RED, show
from ntm.views.plots import slots_in_use


@styled()
def sort_example(trace: Trace, title: str) -> StyledFigure:
    """Figure 16: the vectors with their priorities, and the sorted answer. Needs no model."""
    shown, answer = int(np.argmax(trace.mask)) - 1, np.flatnonzero(trace.mask)
    width = trace.targets.shape[1]
    figure = StyledFigure(figsize=(10.5, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    grid = figure.subplots(2, 2, sharex="col", width_ratios=[shown, len(answer)],
                           height_ratios=[4, 1])  # fmt: skip
    (left, right), (below, sorted_below) = grid
    show(left, trace.inputs[:shown, :width], "Greys", (0, 1))
    left.set_title("Inputs")
    priority = trace.inputs[:shown, width]
    sorted_priority = np.sort(priority)[::-1][: len(answer)]
    for axes, values in ((below, priority), (sorted_below, sorted_priority)):
        colours = [RED if p < 0 else COLOURS[paper.LSTM] for p in values]
        axes.bar(np.arange(len(values)), values, color=colours)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set_ylim(-1.05, 1.05)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("time")
    below.set_ylabel("priority")
    show(right, trace.targets[answer], "Greys", (0, 1))
    right.set_title("Targets: from the highest priority down")
    for axes in (left, right):
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


class SortLocations(NamedTuple):
    """Where an NTM writes the vectors to be sorted, and whether priority decides it."""

    head: int  # of the write heads: the one whose locations a line fits best
    fitted: Array  # [K] locations that the linear fit gives, among the slots in use
    r_squared: float


def sort_locations(ntm: NTMTrace, priority: Array) -> SortLocations:
    """A linear fit of the written location by priority, [K], as in the paper's figure 17."""
    reads = ntm.reads.shape[1]
    places = ntm.weights[: len(priority), reads:, slots_in_use(ntm.weights)].argmax(-1)
    fits = []
    for head, at in enumerate(places.T.astype(float)):
        fitted = np.polyval(np.polyfit(priority, at, 1), priority)
        spread = float(((at - at.mean()) ** 2).sum())
        fits.append(
            (1 - float(((at - fitted) ** 2).sum()) / spread if spread else 0.0, head, fitted)
        )
    r_squared, head, fitted = max(fits, key=lambda fit: fit[0])
    return SortLocations(head, fitted, r_squared)


class SortSelection(NamedTuple):
    """Whether an NTM reads, in order of priority, the very slots that it wrote."""

    writer: int  # of the write heads
    reader: int  # of the read heads
    lag: int  # steps between a read and the answer that it is for: 0, or 1
    share: float  # of the answers whose slot was read


def sort_selection(ntm: NTMTrace, priority: Array, answer: Array) -> SortSelection:
    """The heads that come closest to it. priority [K]; answer: the scored steps."""
    reads = ntm.reads.shape[1]
    places = ntm.weights.argmax(-1)  # [T, H]
    written = places[: len(priority), reads:]  # [K, Q]
    alone = (written[:, None] == written).sum(axis=0) == 1  # no other vector is there
    order = np.argsort(-priority, kind="stable")[: len(answer)]
    found = [
        SortSelection(
            q, r, lag,
            float((alone[order, q] & (places[answer - lag, r] == written[order, q])).mean()),
        )
        for q in range(written.shape[1])
        for r in range(reads)
        for lag in (0, 1)
    ]  # fmt: skip
    return max(found, key=lambda selection: selection.share)


@styled()
def sort_use(trace: Trace, title: str) -> StyledFigure:
    """Figure 17: how an NTM sorts.

    By location, as the paper's does: the slots that a linear function of priority gives, those
    written, those read. Or by content, where that explains more: the slots written, those of the
    vectors in order of priority, those read.
    """
    ntm = trace.ntm
    assert ntm is not None
    shown = int(np.argmax(trace.mask)) - 1
    priority, answer = trace.inputs[:shown, trace.targets.shape[1]], np.flatnonzero(trace.mask)
    linear = sort_locations(ntm, priority)
    selection = sort_selection(ntm, priority, answer)
    if selection.share > linear.r_squared:
        panels = _by_content(ntm, priority, answer, selection)
    else:
        panels = _by_location(ntm, priority, answer, linear)

    figure = StyledFigure(figsize=(12.5, 4.8), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    for axes, (name, values) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        show(axes, values, "Greys_r", (0, max(0.05, float(values.max()))))
        axes.set_title(name)
        axes.set_xlabel("time")
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.axes[0].set_ylabel("location")
    return figure


_Panel = tuple[str, Array]  # its title, and what it shows, [T, rows]


def _by_content(
    ntm: NTMTrace, priority: Array, answer: Array, found: SortSelection
) -> list[_Panel]:
    """The slots written, those of the vectors in order of priority, and the slots read."""
    weights, reads, slots = _in_use(ntm)
    order = np.argsort(-priority, kind="stable")[: len(answer)]
    guess = np.zeros((len(answer), slots))
    guess[np.arange(len(answer)), weights[order, reads + found.writer].argmax(-1)] = 1
    wrote, read = _names(ntm, found.writer, found.reader)
    agreed = f"{round(found.share * len(answer))} of {len(answer)} are read"
    return [
        (wrote, weights[: len(priority), reads + found.writer]),
        (f"Slots of the highest priorities: {agreed}", guess),
        (read, weights[answer - found.lag, found.reader]),
    ]


def _by_location(
    ntm: NTMTrace, priority: Array, answer: Array, found: SortLocations
) -> list[_Panel]:
    """The slots that a line through the priorities gives, the slots written, the slots read."""
    weights, reads, slots = _in_use(ntm)
    guess = np.zeros((len(priority), slots))
    nearest = np.clip(np.rint(found.fitted), 0, slots - 1).astype(int)
    guess[np.arange(len(priority)), nearest] = 1
    places = weights[answer, :reads].argmax(-1)  # [A, R]
    walks = [
        abs(float(np.corrcoef(np.arange(len(at)), at)[0, 1])) if np.ptp(at) and len(at) > 1 else 0.0
        for at in places.T
    ]
    reader = int(np.argmax(walks))  # the head that walks most steadily
    wrote, read = _names(ntm, found.head, reader)
    explained = f"R\N{SUPERSCRIPT TWO} {found.r_squared:.2f}"
    return [
        (f"Hypothesised: linear in the priority, {explained}", guess),
        (wrote, weights[: len(priority), reads + found.head]),
        (read, weights[answer, reader]),
    ]


def _in_use(ntm: NTMTrace) -> tuple[Array, int, int]:
    """The weightings over the slots in use [T, H, slots], the read heads, and those slots."""
    weights = ntm.weights[:, :, slots_in_use(ntm.weights)]
    return weights, ntm.reads.shape[1], weights.shape[-1]


def _names(ntm: NTMTrace, writer: int, reader: int) -> tuple[str, str]:
    """Titles of the panels of these two heads, which are named where there are others."""
    heads, reads = ntm.weights.shape[1], ntm.reads.shape[1]
    if heads <= 2:
        return "Write weightings", "Read weightings"
    return (
        f"Write weightings, head {writer + 1} of {heads - reads}",
        f"Read weightings, head {reader + 1} of {reads}",
    )
