"""Episodes as images: figures 4, 5, 6, 8, 9, 12 and 15 of the paper. White focus on black."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ntm.analysis.trace import Array, Trace
from ntm.views.drawing import StyledFigure, styled
from ntm.views.figures.style import GREEN, RED, show
from ntm.views.plots import slots_in_use


@styled()
def answers(rows: Sequence[Sequence[tuple[str, Trace]]], title: str) -> StyledFigure:
    """Figures 4, 5 and 8: targets above outputs, for growing episodes.

    The episodes of a row share its width by their lengths. Vectors with a bit error are marked.
    """
    figure = StyledFigure(figsize=(12.5, 0.55 + 2.15 * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    parts = cast("Sequence[SubFigure]", figure.subfigures(len(rows), 1, squeeze=False)[:, 0])
    for part, row in zip(parts, rows, strict=True):
        spans = [np.flatnonzero(trace.mask) for _, trace in row]
        widths = [max(len(span), 0.26 * max(map(len, spans))) for span in spans]
        grid = part.subplots(2, len(row), squeeze=False, sharex="col", width_ratios=widths)
        for i, ((label, trace), span) in enumerate(zip(row, spans, strict=True)):
            errors = (trace.outputs[span] > 0.5) != (trace.targets[span] > 0.5)
            count = int(errors.sum())
            score = "no bit errors" if not count else f"{count} bit error{'s' * (count > 1)}"
            for axes, values in zip(grid[:, i], (trace.targets, trace.outputs), strict=True):
                show(axes, values[span], "viridis", (0, 1))
                axes.set_yticks([])
                axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            grid[0, i].set_title(f"{label}: {score}")
            if count > 0:
                at = np.flatnonzero(errors.any(axis=1))
                grid[1, i].plot(at, np.full(len(at), trace.targets.shape[1] + 0.1), "^",
                                color=RED, markersize=3.5, clip_on=False)  # fmt: skip
        grid[0, 0].set_ylabel("targets")
        grid[1, 0].set_ylabel("outputs")
    return figure


class Span(NamedTuple):
    """Steps of an episode to be framed."""

    start: int
    stop: int
    colour: str
    label: str


@styled()
def memory_use(
    trace: Trace,
    title: str,
    spans: Sequence[Span] = (),
    contexts: Mapping[str, Array] | None = None,
) -> StyledFigure:
    """Figures 6, 9, 12 and 15: inputs, adds, write weightings; outputs, reads, read weightings.

    spans: framed in every panel. contexts: the steps at which each has just been read, marked by
    arrows above the weightings. Every head has its own panels.
    """
    columns = _panels(trace)
    height = max(sum(panel.height + 0.35 for panel in column) for column in columns)
    figure = StyledFigure(figsize=(12, height + 0.7), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold", x=0.01, ha="left")
    halves = cast("Sequence[SubFigure]", figure.subfigures(1, 2))
    for half, panels in zip(halves, columns, strict=True):
        every = half.subplots(len(panels), 1, sharex=True, squeeze=False,
                              height_ratios=[p.height for p in panels])[:, 0]  # fmt: skip
        for axes, (name, values, limits, _) in zip(every, panels, strict=True):
            signed = name.startswith(("Adds", "Reads"))
            show(axes, values, "cividis" if signed else "Greys_r", limits)
            axes.set_title(name)
            axes.set_yticks([])
            weighting = "weighting" in name
            axes.set_ylabel("location" if weighting else "")
            for span in spans:
                _frame(axes, span, values.shape[1], name == "Inputs")
            if weighting and contexts:
                axes.set_title(name, pad=12)
                _arrows(axes, contexts)
        every[-1].set_xlabel("time")
        every[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


class _Panel(NamedTuple):
    title: str
    values: Array  # [T, rows]
    limits: tuple[float, float]
    height: float


def _panels(trace: Trace) -> tuple[list[_Panel], list[_Panel]]:
    """What goes into the memory on the left, what comes out of it on the right."""
    ntm = trace.ntm
    assert ntm is not None
    reads = ntm.reads.shape[1]
    weights = ntm.weights[:, :, slots_in_use(ntm.weights)]
    scored = np.where(trace.mask[:, None] > 0, trace.outputs, np.nan)
    bits = max(trace.inputs.shape[1], trace.outputs.shape[1])
    flat, lowest = 1.0 if bits == 1 else 1.7, min(0.0, float(trace.inputs.min()))
    added, read = (float(np.abs(values).max()) for values in (ntm.add, ntm.reads))
    left = [_Panel("Inputs", trace.inputs, (lowest, 1.0), flat)]  # a count above 1 is as white as 1
    left += _each("Adds", ntm.add, (-added, added), 1.6)
    left += _each("Write weightings", weights[:, reads:], (0, 1), 2.4)
    right = [_Panel("Outputs", scored, (0.0, 1.0), flat)]
    right += _each("Reads", ntm.reads, (-read, read), 1.6)
    right += _each("Read weightings", weights[:, :reads], (0, 1), 2.4)
    return left, right


def _each(name: str, values: Array, limits: tuple[float, float], height: float) -> list[_Panel]:
    """A panel for each head. values [T, heads, rows]."""
    heads = values.shape[1]
    return [
        _Panel(name if heads == 1 else f"{name}, head {i + 1}", values[:, i], limits, height)
        for i in range(heads)
    ]


def _arrows(axes: Axes, contexts: Mapping[str, Array]) -> None:
    """Above the panel, the steps at which each context has just been read."""
    for (context, steps), colour in zip(contexts.items(), (GREEN, RED), strict=False):
        axes.plot(steps, np.full(len(steps), 1.0), "v", color=colour, markersize=5, clip_on=False,
                  transform=axes.get_xaxis_transform(), label=context)  # fmt: skip
    axes.legend(ncols=2, frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 1.0),
                handletextpad=0.2)  # fmt: skip


def _frame(axes: Axes, span: Span, rows: int, inputs: bool) -> None:
    width = span.stop - span.start
    box = Rectangle((span.start - 0.5, -0.5), width, rows, fill=False, edgecolor=span.colour,
                    linewidth=2.2 if inputs else 1.4)  # fmt: skip
    axes.add_patch(box)
    if inputs and span.label:
        axes.annotate(span.label, (span.start + width / 2 - 0.5, -0.5), (0, 3), ha="center",
                      textcoords="offset points", color=span.colour, fontsize=9)  # fmt: skip


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
