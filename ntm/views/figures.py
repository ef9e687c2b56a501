"""The paper's figures, drawn as its readers know them: white focus on black, time to the right."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ntm.analysis.trace import Array, MachineTrace, Trace
from ntm.views import paper
from ntm.views.comparison import Curve
from ntm.views.plots import INK, MUTED, PALE, STYLE, slots_in_use

#: The paper's three models, in colours that the colour-blind can tell apart.
COLOURS = {paper.LSTM: "#0072B2", paper.LSTM_NTM: "#009E73", paper.FF: "#D55E00"}
GREEN, RED = "#009E73", "#D55E00"
#: A curve is averaged over this share of itself: at batch 1 a cost jumps from sequence to sequence.
SMOOTH = 0.02


@matplotlib.rc_context(STYLE)
def learning(
    curves: Mapping[str, Sequence[Curve]],
    title: str,
    readings: Sequence[paper.Reading] = (),
    top: tuple[float, float] | None = None,
    optimum: float | None = None,
    validated: Collection[str] = (),
) -> Figure:
    """Figures 3, 7, 10, 13 and 18: cost per sequence in training, against sequences in thousands.

    curves: training cost of every seed of each model; the line is the median seed's, a band the
    middle half of the seeds. The paper's readings are hollow. Of those that are validated, curves
    are of validation, and the legend says so. Where one model takes more than
    three times as long as another, the quick ones are shown once more beside it, enlarged.
    """
    lengths = {name: max(c.x[-1] for c in each) for name, each in curves.items()}
    longest, shortest = max(lengths.values()), min(lengths.values())
    panels = [longest]
    if longest > 3 * shortest:
        panels.append(1.15 * max(n for n in lengths.values() if 3 * n < longest))
    figure = Figure(figsize=(8.4 if len(panels) == 1 else 13, 4.4), layout="constrained")
    every = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    smooth = {name: [_smooth(curve) for curve in each] for name, each in curves.items()}
    bottom, peak = top or (0.0, max(float(c.bits.max()) for each in smooth.values() for c in each))
    # One that never comes down as far as the paper's is not left out of the picture.
    ends = [float(np.median([c.bits[-1] for c in each])) for each in smooth.values()]
    limits = bottom, max(peak, bottom + 1.2 * (max(ends) - bottom))
    for axes, end in zip(every, panels, strict=True):
        for name, each in smooth.items():
            _line(axes, name, each, ", validation" if name in validated else "")
        shown = [r for r in readings if r.sequences <= end]
        for name in dict.fromkeys(r.model for r in shown):
            mine = [r for r in shown if r.model == name]
            axes.plot([r.sequences / 1000 for r in mine], [r.bits for r in mine], "D",
                      color=COLOURS[name], fillstyle="none", markersize=7, markeredgewidth=1.6,
                      clip_on=False, zorder=4, label=f"the paper's {name}")  # fmt: skip
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


@matplotlib.rc_context(STYLE)
def answers(rows: Sequence[Sequence[tuple[str, Trace]]], title: str) -> Figure:
    """Figures 4, 5 and 8: what should have been said above what was, for growing episodes.

    Each row of episodes shares the width, the longer ones more of it. Wrong vectors are marked.
    """
    figure = Figure(figsize=(12.5, 0.55 + 2.15 * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    parts = cast("Sequence[SubFigure]", figure.subfigures(len(rows), 1, squeeze=False)[:, 0])
    for part, row in zip(parts, rows, strict=True):
        spans = [np.flatnonzero(trace.mask) for _, trace in row]
        widths = [max(len(span), 0.26 * max(map(len, spans))) for span in spans]
        grid = part.subplots(2, len(row), squeeze=False, sharex="col", width_ratios=widths)
        for i, ((label, trace), span) in enumerate(zip(row, spans, strict=True)):
            wrong = (trace.outputs[span] > 0.5) != (trace.targets[span] > 0.5)
            count = int(wrong.sum())
            said = "exact" if not count else f"{count} wrong bit{'s' * (count > 1)}"
            for axes, values in zip(grid[:, i], (trace.targets, trace.outputs), strict=True):
                _show(axes, values[span], "viridis", (0, 1))
                axes.set_yticks([])
                axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            grid[0, i].set_title(f"{label}: {said}")
            if count > 0:
                at = np.flatnonzero(wrong.any(axis=1))
                grid[1, i].plot(at, np.full(len(at), trace.targets.shape[1] + 0.1), "^",
                                color=RED, markersize=3.5, clip_on=False)  # fmt: skip
        grid[0, 0].set_ylabel("targets")
        grid[1, 0].set_ylabel("outputs")
    return figure


class Span(NamedTuple):
    """Steps of an episode that are pointed out."""

    start: int
    stop: int
    colour: str
    label: str


@matplotlib.rc_context(STYLE)
def memory_use(
    trace: Trace,
    title: str,
    spans: Sequence[Span] = (),
    contexts: Mapping[str, Array] | None = None,
) -> Figure:
    """Figures 6, 9, 12 and 15: inputs, adds, write weightings; outputs, reads, read weightings.

    spans are framed in every panel; contexts are the steps at which each has just been read, which
    arrows above the weightings mark. Every head has its panels.
    """
    machine = trace.machine
    assert machine is not None
    reads = machine.reads.shape[1]
    slots = slots_in_use(machine.weights)
    weights = machine.weights[:, :, slots]
    scored = np.where(trace.mask[:, None] > 0, trace.outputs, np.nan)
    bits = max(trace.inputs.shape[1], trace.outputs.shape[1])
    flat, lowest = 1.0 if bits == 1 else 1.7, min(0.0, float(trace.inputs.min()))
    added, read = (float(np.abs(values).max()) for values in (machine.add, machine.reads))
    left = [("Inputs", trace.inputs, (lowest, 1.0), flat)]  # a count above 1 is as white as a 1
    left += _each("Adds", machine.add, (-added, added), 1.6)
    left += _each("Write weightings", weights[:, reads:], (0, 1), 2.4)
    right = [("Outputs", scored, (0.0, 1.0), flat)]
    right += _each("Reads", machine.reads, (-read, read), 1.6)
    right += _each("Read weightings", weights[:, :reads], (0, 1), 2.4)

    height = max(sum(panel[3] + 0.35 for panel in column) for column in (left, right))
    figure = Figure(figsize=(12, height + 0.7), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    for part, panels in zip(_columns(figure), (left, right), strict=True):
        every = part.subplots(len(panels), 1, sharex=True, squeeze=False,
                              height_ratios=[p[3] for p in panels])[:, 0]  # fmt: skip
        for axes, (name, values, limits, _) in zip(every, panels, strict=True):
            _show(
                axes, values, "cividis" if name.startswith(("Adds", "Reads")) else "Greys_r", limits
            )
            axes.set_title(name)
            axes.set_yticks([])
            weighting = "weighting" in name
            axes.set_ylabel("location" if weighting else "")
            for span in spans:
                _frame(axes, span, values.shape[1], name == "Inputs")
            arrows = (contexts or {}).items() if weighting else ()
            for (context, steps), colour in zip(arrows, (GREEN, RED), strict=False):
                axes.plot(
                    steps,
                    np.full(len(steps), 1.0),
                    "v",
                    color=colour,
                    markersize=5,
                    clip_on=False,
                    transform=axes.get_xaxis_transform(),
                    label=context,
                )
            if weighting and contexts:
                axes.set_title(name, pad=12)
                axes.legend(
                    ncols=2,
                    frameon=False,
                    fontsize=9,
                    loc="lower right",
                    bbox_to_anchor=(1, 1.0),
                    handletextpad=0.2,
                )
        every[-1].set_xlabel("time")
        every[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _columns(figure: Figure) -> Sequence[SubFigure]:
    return cast("Sequence[SubFigure]", figure.subfigures(1, 2))


def _each(
    name: str, values: Array, limits: tuple[float, float], height: float
) -> list[tuple[str, Array, tuple[float, float], float]]:
    heads = values.shape[1]
    return [
        (name if heads == 1 else f"{name}, head {i + 1}", values[:, i], limits, height)
        for i in range(heads)
    ]


def _frame(axes: Axes, span: Span, rows: int, inputs: bool) -> None:
    width = span.stop - span.start
    box = Rectangle((span.start - 0.5, -0.5), width, rows, fill=False, edgecolor=span.colour,
                    linewidth=2.2 if inputs else 1.4)  # fmt: skip
    axes.add_patch(box)
    if inputs and span.label:
        axes.annotate(span.label, (span.start + width / 2 - 0.5, -0.5), (0, 3), ha="center",
                      textcoords="offset points", color=span.colour, fontsize=9)  # fmt: skip


@matplotlib.rc_context(STYLE)
def by_items(
    groups: Mapping[str, Mapping[int, Sequence[float]]],
    readings: Mapping[str, Mapping[int, float]],
    trained: int,
    title: str,
) -> Figure:
    """Figure 11: cost of recall against items. groups: bits of every seed, by model and items."""
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
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


@matplotlib.rc_context(STYLE)
def predictions(bits: Array, lines: Mapping[str, Array], title: str, start: int) -> Figure:
    """Figure 14: the probability of a 1 at each step, optimal and predicted, above the bits.

    bits [T]; lines: probabilities [T]. Steps from ``start`` on are shown.
    """
    figure = Figure(figsize=(12.5, 1.2 + 1.75 * (len(lines) - 1)), layout="constrained")
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
    _show(rows[-1], bits[:, None], "Greys", (0, 1))
    rows[-1].set_yticks([])
    rows[-1].set_ylabel("bits", rotation=0, ha="right", va="center")
    rows[-1].set_xlim(start - 0.5, len(bits) - 0.5)
    rows[-1].set_xlabel("time")
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    return figure


@matplotlib.rc_context(STYLE)
def sort_example(trace: Trace, title: str) -> Figure:
    """Figure 16: the vectors with their priorities, and the sorted answer. Needs no model."""
    shown, answer = int(np.argmax(trace.mask)) - 1, np.flatnonzero(trace.mask)
    width = trace.targets.shape[1]
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    grid = figure.subplots(2, 2, sharex="col", width_ratios=[shown, len(answer)],
                           height_ratios=[4, 1])  # fmt: skip
    (left, right), (below, sorted_below) = grid
    _show(left, trace.inputs[:shown, :width], "Greys", (0, 1))
    left.set_title("Inputs")
    priority = trace.inputs[:shown, width]
    said = np.sort(priority)[::-1][: len(answer)]
    for axes, values in ((below, priority), (sorted_below, said)):
        colours = [RED if p < 0 else COLOURS[paper.LSTM] for p in values]
        axes.bar(np.arange(len(values)), values, color=colours)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set_ylim(-1.05, 1.05)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel("time")
    below.set_ylabel("priority")
    _show(right, trace.targets[answer], "Greys", (0, 1))
    right.set_title("Targets: from the highest priority down")
    for axes in (left, right):
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


class SortLocations(NamedTuple):
    """Where a machine writes the vectors to be sorted, and whether priority decides it."""

    head: int  # of the write heads: the one whose locations a line fits best
    fitted: Array  # [K] locations that the linear fit gives, among the slots in use
    r_squared: float


def sort_locations(machine: MachineTrace, priority: Array) -> SortLocations:
    """A linear fit of the written location by priority, [K], as in the paper's figure 17."""
    reads = machine.reads.shape[1]
    places = machine.weights[: len(priority), reads:, slots_in_use(machine.weights)].argmax(-1)
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
    """Whether a machine reads, in order of priority, the very slots that it wrote."""

    writer: int  # of the write heads
    reader: int  # of the read heads
    lag: int  # steps between a read and the answer that it is for: 0, or 1
    share: float  # of the answers whose slot was read


def sort_selection(machine: MachineTrace, priority: Array, answer: Array) -> SortSelection:
    """The heads that come closest to it; priority [K], answer: the steps that are scored."""
    reads = machine.reads.shape[1]
    places = machine.weights.argmax(-1)  # [T, H]
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


@matplotlib.rc_context(STYLE)
def sort_use(trace: Trace, title: str) -> Figure:
    """Figure 17: how a machine sorts.

    By location, as the paper's: those that a linear function of priority gives; those written;
    those read. Or by content, where that explains more: a slot for each vector; those of the
    vectors in order of priority; those read.
    """
    machine = trace.machine
    assert machine is not None
    reads, shown = machine.reads.shape[1], int(np.argmax(trace.mask)) - 1
    priority, answer = trace.inputs[:shown, trace.targets.shape[1]], np.flatnonzero(trace.mask)
    linear = sort_locations(machine, priority)
    selection = sort_selection(machine, priority, answer)
    slots = slots_in_use(machine.weights)
    weights = machine.weights[:, :, slots]
    order = np.argsort(-priority, kind="stable")[: len(answer)]
    by_content = selection.share > linear.r_squared
    if by_content:
        writer, reader, lag = selection.writer, selection.reader, selection.lag
        guess = np.zeros((len(answer), len(slots)))
        places = weights[order, reads + writer].argmax(-1)
        guess[np.arange(len(answer)), places] = 1
    else:
        writer, lag = linear.head, 0
        guess = np.zeros((shown, len(slots)))
        nearest = np.clip(np.rint(linear.fitted), 0, len(slots) - 1).astype(int)
        guess[np.arange(shown), nearest] = 1
        places = weights[answer, :reads].argmax(-1)  # [A, R]
        walks = [
            abs(float(np.corrcoef(np.arange(len(at)), at)[0, 1]))
            if np.ptp(at) and len(at) > 1
            else 0.0
            for at in places.T
        ]
        reader = int(np.argmax(walks))
    wrote, read = "Write weightings", "Read weightings"
    heads = machine.weights.shape[1]
    if heads > 2:
        wrote += f", head {writer + 1} of {heads - reads}"
        read += f", head {reader + 1} of {reads}"
    written = (wrote, weights[:shown, reads + writer])
    was_read = (read, weights[answer - lag, reader])
    if by_content:
        agreed = f"{round(selection.share * len(answer))} of {len(answer)} are read"
        panels = [written, (f"Slots of the highest priorities: {agreed}", guess), was_read]
    else:
        explained = f"R\N{SUPERSCRIPT TWO} {linear.r_squared:.2f}"
        panels = [
            (f"Hypothesised: linear in the priority, {explained}", guess), written, was_read,
        ]  # fmt: skip

    figure = Figure(figsize=(12.5, 4.8), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    for axes, (name, values) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        _show(axes, values, "Greys_r", (0, max(0.05, float(values.max()))))
        axes.set_title(name)
        axes.set_xlabel("time")
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.axes[0].set_ylabel("location")
    return figure


def _show(axes: Axes, values: Array, colours: str, limits: tuple[float, float]) -> None:
    """Draws values [T, rows], time to the right."""
    table = matplotlib.colormaps[colours].with_extremes(bad=PALE)
    axes.imshow(values.T, aspect="auto", interpolation="nearest", cmap=table,
                vmin=limits[0], vmax=limits[1])  # fmt: skip
    axes.spines[:].set_edgecolor(MUTED)


def repeated_contexts(bits: Array, order: int, most: int = 2) -> dict[str, Array]:
    """The contexts that recur most often in a sequence, and the steps at which they were just read.

    bits [T] as they are fed in, a 0 before the first one, so that a context ends at the step that
    is named. Those of one bit
    repeated overlap with themselves, and are left out, as are those that mostly overlap with one
    that is there already. For figure 15.
    """
    n = order - 1
    found: dict[tuple[int, ...], list[int]] = {}
    for t in range(n, len(bits)):
        context = tuple(int(b) for b in bits[t - n + 1 : t + 1])
        if len(set(context)) > 1:
            found.setdefault(context, []).append(t)
    chosen: dict[str, Array] = {}
    for context, at in sorted(found.items(), key=lambda item: -len(item[1])):
        steps = np.array(at)
        apart = (np.abs(steps[:, None] - other[None]).min(axis=1) >= n for other in chosen.values())
        if len(chosen) < most and all(2 * far.sum() > len(steps) for far in apart):
            chosen["".join(map(str, context))] = steps
    return chosen
