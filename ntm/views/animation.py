"""GIFs: an episode step by step, and learning as the same episode along the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import matplotlib
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ntm.analysis.trace import Array, NTMTrace, Trace
from ntm.files import write_file
from ntm.views.comparison import LOWEST, Curve
from ntm.views.drawing import ACCENT, ERROR, MUTED, PALE, StyledFigure, log_scale, styled
from ntm.views.plots import slots_in_use

#: Repetitions of the last frame of learning.
HELD = 6


@styled()
def _animate(trace: Trace, title: str) -> FuncAnimation:
    """The figure, a frame for each step: input, target and output above, the memory below.

    Beside the memory stands the weighting of every head; a baseline has the upper half only.
    Of the memory only the slots that a head visits are drawn.
    """
    ntm = trace.ntm
    figure = StyledFigure(figsize=(8, 7.2 if ntm else 3.4), layout="constrained")
    upper: Figure | SubFigure = figure
    update: Callable[[int], None] | None = None
    if ntm:
        upper, lower = cast("list[SubFigure]", figure.subfigures(2, height_ratios=(1, 1.25)))
    strips, markers = _strips(upper, trace)
    heading = strips[0].set_title(title, fontsize=12, fontweight="bold")
    if ntm:
        update = _memory(lower, ntm)

    def draw(t: int) -> list[Line2D]:
        for marker in markers:
            marker.set_xdata([t, t])
        heading.set_text(f"{title}, step {t}")
        if update:
            update(t)
        return markers

    return FuncAnimation(figure, draw, frames=len(trace.inputs), blit=False)


def _strips(figure: Figure | SubFigure, trace: Trace) -> tuple[list[Axes], list[Line2D]]:
    """Input, target and output over time, each with a marker of the current step."""
    scored = trace.mask > 0
    rows = [("Input", trace.inputs), ("Target", _only(trace.targets, scored)),
            ("Output", _only(trace.outputs, scored))]  # fmt: skip
    low, high = min(0.0, float(trace.inputs.min())), max(1.0, float(trace.inputs.max()))
    heights = [values.shape[1] for _, values in rows]
    every = list(figure.subplots(3, 1, sharex=True, height_ratios=heights))
    markers = []
    for axes, (name, values) in zip(every, rows, strict=True):
        _image(axes, values.T, "Greys", (low, high) if name == "Input" else (0.0, 1.0))
        axes.set_ylabel(name)
        axes.set_yticks([])
        markers.append(axes.axvline(0, color=ACCENT, linewidth=2.5, alpha=0.75))
    every[-1].set_xlabel("time step")
    every[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return every, markers


def _memory(figure: SubFigure, ntm: NTMTrace) -> Callable[[int], None]:
    """Draws the memory beside the weighting of every head; returns what moves them to a step."""
    heads, reads = ntm.weights.shape[1], ntm.reads.shape[1]
    slots = slots_in_use(ntm.weights)
    peak = float(np.abs(ntm.memory).max())
    first, *others = figure.subplots(1, 1 + heads, sharey=True, width_ratios=[8] + [1] * heads)
    memory = _image(first, ntm.memory[0][slots], "RdBu_r", (-peak, peak))
    first.set_title("Memory")
    first.set_ylabel("slot")
    first.set_xlabel("width")
    first.xaxis.set_major_locator(MaxNLocator(integer=True))
    ticks = range(0, len(slots), max(1, len(slots) // 8))
    first.set_yticks(list(ticks), [str(slots[i]) for i in ticks])
    weights = []
    for head, axes in enumerate(others):
        weights.append(_image(axes, ntm.weights[0, head][slots, None], "magma", (0, 1)))
        name = "read" if head < reads else "write"
        axes.set_title(name if heads <= 4 else name[0])
        axes.set_xticks([])

    def update(t: int) -> None:
        memory.set_data(ntm.memory[t][slots])
        for head, image in enumerate(weights):
            image.set_data(ntm.weights[t, head][slots, None])

    return update


@styled()
def _learn(traces: Mapping[int, Trace], curve: Curve, title: str, label: str) -> FuncAnimation:
    """The same episode after more and more sequences of training, a frame for each.

    Target and output, and of an NTM the weightings of its first heads; below them the run's
    validation curve, with the frame's place on it. The last frame stays for a while.
    """
    moments, last = list(traces), list(traces.values())[-1]
    ntm = last.ntm
    figure = StyledFigure(figsize=(9, 6.4 if ntm else 4.6), layout="constrained")
    upper, lower = cast(
        "list[SubFigure]", figure.subfigures(2, height_ratios=(2.1 if ntm else 1, 1))
    )
    scored = last.mask > 0
    names = ["Target", "Output"]
    heads: dict[str, int] = {}
    if ntm:
        heads = {"Write weighting": ntm.reads.shape[1], "Read weighting": 0}
        names += heads
    grid = upper.subplots(len(names) // 2, 2, sharex=True, squeeze=False)
    slots = slots_in_use(ntm.weights) if ntm else np.arange(0)
    images = {}
    for axes, name in zip(grid.flat, names, strict=True):
        values = _panel(last, name, heads, slots, scored)
        images[name] = _image(axes, values, "magma" if name in heads else "Greys", (0, 1))
        axes.set_title(name)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in grid[-1]:
        axes.set_xlabel("time step")
    heading = upper.suptitle(title, fontsize=12, fontweight="bold")

    place = _validation(lower, curve, label)

    def draw(frame: int) -> list[AxesImage]:
        moment = moments[min(frame, len(moments) - 1)]
        for name, image in images.items():
            image.set_data(_panel(traces[moment], name, heads, slots, scored))
        heading.set_text(f"{title}, after {moment:,} sequences")
        place.set_xdata([moment, moment])
        return list(images.values())

    return FuncAnimation(figure, draw, frames=len(moments) + HELD, blit=False)


def _validation(figure: SubFigure, curve: Curve, label: str) -> Line2D:
    """Draws the run's validation; returns the line that marks a place on it."""
    axes = figure.subplots()
    axes.plot(curve.x, np.maximum(curve.bits, LOWEST), color=ACCENT)
    log_scale(axes, "y")
    axes.set_ylim(bottom=LOWEST)
    axes.set_xlim(0, curve.x[-1])
    axes.set_xlabel("sequences seen")
    axes.set_ylabel("bits")
    axes.set_title(f"Validation: {label}")
    axes.grid(axis="y", color=PALE)
    axes.spines[["top", "right"]].set_visible(False)
    return axes.axvline(0, color=ERROR, linewidth=2)


def _panel(trace: Trace, name: str, heads: Mapping[str, int], slots: Array, scored: Array) -> Array:
    """The values of a panel, [rows, T]."""
    if name in heads:
        assert trace.ntm is not None
        return trace.ntm.weights[:, heads[name]][:, slots].T
    return _only(trace.targets if name == "Target" else trace.outputs, scored).T


def write(trace: Trace, title: str, path: Path) -> None:
    """Writes an episode as a GIF, four steps a second."""
    _save(_animate(trace, title), path, 4)


def write_learning(
    traces: Mapping[int, Trace], curve: Curve, title: str, label: str, path: Path
) -> None:
    """Writes learning as a GIF. traces: the same episode, by the sequences seen in training.

    label: what the bits of the curve are, in words.
    """
    _save(_learn(traces, curve, title, label), path, 3)


def _save(animation: FuncAnimation, path: Path, frames_per_second: int) -> None:
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn.gif"
        animation.save(drawn, writer=PillowWriter(fps=frames_per_second), dpi=80)
        write_file(path, drawn.read_bytes())


def _only(values: Array, scored: Array) -> Array:
    return np.where(scored[:, None], values, np.nan)


def _image(axes: Axes, values: Array, colours: str, limits: tuple[float, float]) -> AxesImage:
    table = matplotlib.colormaps[colours].with_extremes(bad=PALE)
    axes.spines[:].set_edgecolor(MUTED)
    return axes.imshow(
        values, aspect="auto", interpolation="nearest", cmap=table, vmin=limits[0], vmax=limits[1]
    )
