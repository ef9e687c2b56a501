"""An episode as a moving picture: the memory as it is written and read, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import matplotlib
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from ntm.errors import NTMError
from ntm.machine.trace import Array, Trace
from ntm.views.plots import ACCENT, MUTED, PALE, STYLE, slots_in_use


@matplotlib.rc_context(STYLE)
def _animate(trace: Trace, title: str) -> FuncAnimation:
    """The figure, a frame for each step: input, target and output above, the memory below.

    Beside the memory stand the weights of every head; of a baseline there is only the upper part.
    Of the memory only the slots that a head visits are drawn.
    """
    steps, machine = len(trace.inputs), trace.machine
    figure = Figure(figsize=(8, 7.2 if machine else 3.4), layout="constrained")
    scored = trace.mask > 0
    rows = [("Input", trace.inputs), ("Target", _only(trace.targets, scored)),
            ("Output", _only(trace.outputs, scored))]  # fmt: skip
    low, high = min(0.0, float(trace.inputs.min())), max(1.0, float(trace.inputs.max()))
    heights = [trace.inputs.shape[1], trace.targets.shape[1], trace.outputs.shape[1]]
    upper: Figure | SubFigure = figure
    lower: SubFigure | None = None
    if machine:
        upper, lower = cast("list[SubFigure]", figure.subfigures(2, height_ratios=(1, 1.25)))
    markers = []
    every = upper.subplots(3, 1, sharex=True, height_ratios=heights)
    for axes, (name, values) in zip(every, rows, strict=True):
        limits = (low, high) if name == "Input" else (0.0, 1.0)
        _image(axes, values.T, "Greys", limits)
        axes.set_ylabel(name)
        axes.set_yticks([])
        markers.append(axes.axvline(0, color=ACCENT, linewidth=2.5, alpha=0.75))
    every[-1].set_xlabel("time step")
    every[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    heading = every[0].set_title(title, fontsize=12, fontweight="bold")

    memory: AxesImage | None = None
    weights: list[AxesImage] = []
    slots = np.arange(0)
    if machine and lower is not None:
        heads, reads = machine.weights.shape[1], machine.reads.shape[1]
        slots = slots_in_use(machine.weights)
        peak = float(np.abs(machine.memory).max())
        axes_of = lower.subplots(1, 1 + heads, sharey=True, width_ratios=[8] + [1] * heads)
        memory = _image(axes_of[0], machine.memory[0][slots], "RdBu_r", (-peak, peak))
        axes_of[0].set_title("Memory")
        axes_of[0].set_ylabel("slot")
        axes_of[0].set_xlabel("width")
        axes_of[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        ticks = range(0, len(slots), max(1, len(slots) // 8))
        axes_of[0].set_yticks(list(ticks), [str(slots[i]) for i in ticks])
        for head, axes in enumerate(axes_of[1:]):
            weights.append(_image(axes, machine.weights[0, head][slots, None], "magma", (0, 1)))
            name = "read" if head < reads else "write"
            axes.set_title(name if heads <= 4 else name[0])
            axes.set_xticks([])

    def draw(t: int) -> list[AxesImage]:
        for marker in markers:
            marker.set_xdata([t, t])
        heading.set_text(f"{title}, step {t}")
        if machine and memory is not None:
            memory.set_data(machine.memory[t][slots])
            for head, image in enumerate(weights):
                image.set_data(machine.weights[t, head][slots, None])
        return weights

    return FuncAnimation(figure, draw, frames=steps, blit=False)


def write(trace: Trace, title: str, path: Path, steps_per_second: int = 4) -> None:
    """Writes a GIF."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = PillowWriter(fps=steps_per_second)
        _animate(trace, title).save(path, writer=writer, dpi=80)
    except OSError as error:
        raise NTMError(f"{path}: cannot be written: {error.strerror}") from None


def _only(values: Array, scored: Array) -> Array:
    return np.where(scored[:, None], values, np.nan)


def _image(axes: Axes, values: Array, colours: str, limits: tuple[float, float]) -> AxesImage:
    table = matplotlib.colormaps[colours].with_extremes(bad=PALE)
    axes.spines[:].set_edgecolor(MUTED)
    return axes.imshow(
        values, aspect="auto", interpolation="nearest", cmap=table, vmin=limits[0], vmax=limits[1]
    )
