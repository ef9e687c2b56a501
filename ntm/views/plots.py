"""Pictures of one run: its learning curve and its memory at work (the paper's figures 3 and 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ntm.errors import NTMError
from ntm.machine.trace import Array, Trace

INK, MUTED, PALE, ACCENT, WRONG = "#222222", "#9a9a9a", "#ececec", "#2a6f97", "#e4572e"
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as PNG."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, facecolor="white")
    except OSError as error:
        raise NTMError(f"{path}: cannot be written: {error.strerror}") from None


@matplotlib.rc_context(STYLE)
def learning_curve(
    metrics: list[dict[str, float]],
    validation: list[dict[str, float]],
    title: str,
    solved_bits: float,
) -> Figure:
    """Bits per sequence against sequences seen: training, validation, where solved begins.

    Logarithmic where the best possible is 0 bits; an exact 0 is drawn at the lower edge.
    """
    figure = Figure(figsize=(7.5, 4.0), layout="constrained")
    axes = figure.add_subplot()
    floor = validation[-1]["floor"] if validation else 0.0
    lowest = 1e-3

    def points(rows: list[dict[str, float]]) -> tuple[Array, Array]:
        x = np.array([row["sequences"] for row in rows]) / 1000
        y = np.array([row["bits"] for row in rows])
        return x, y if floor else np.maximum(y, lowest)

    axes.plot(*points(metrics), color=MUTED, linewidth=0.9, label="training")
    axes.plot(*points(validation), "o-", color=ACCENT, markersize=3.5, label="validation")
    if floor:
        axes.axhline(floor, color=INK, linewidth=1, linestyle="--", label="best possible")
    else:
        axes.set_yscale("log")
        axes.set_ylim(bottom=lowest)
    if solved_bits:
        axes.axhline(floor + solved_bits, color=WRONG, linewidth=1.2, linestyle=":", label="solved")
    axes.set_xlim(left=0)
    axes.set_xlabel("sequences seen (thousands)")
    axes.set_ylabel("bits per sequence")
    axes.set_title(title, fontsize=12, fontweight="bold")
    axes.grid(axis="y", color=PALE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


class _Panel(NamedTuple):
    title: str
    values: Array  # [T, rows]
    ylabel: str
    colours: str
    limits: tuple[float, float]
    height: float


@matplotlib.rc_context(STYLE)
def memory_figure(trace: Trace, title: str) -> Figure:
    """An episode as in the paper's figure 6: what is put in and written; what is read and said.

    The dashed line is where the answer begins; wrong bits of it are outlined. Of the memory only
    the slots that a head visits are drawn. A baseline shows its inputs and outputs alone.
    """
    scored = trace.mask > 0
    targets, outputs = (
        np.where(scored[:, None], x, np.nan) for x in (trace.targets, trace.outputs)
    )
    wrong = np.argwhere(((trace.outputs > 0.5) != (trace.targets > 0.5)) & scored[:, None])
    said = f"Outputs, {len(wrong)} wrong bits outlined" if len(wrong) else "Outputs"

    low = min(0.0, float(trace.inputs.min()))
    left = [_Panel("Inputs", trace.inputs, "channel", "Greys", (low, 1), 2.3)]
    right = [
        _Panel("Targets", targets, "channel", "Greys", (0, 1), 1),
        _Panel(said, outputs, "channel", "Greys", (0, 1), 1),
    ]
    slots = np.arange(0)
    if machine := trace.machine:
        reads, adds = machine.reads.shape[1], machine.add.shape[1]
        slots = _slots_in_use(machine.weights)
        weights = machine.weights[:, :, slots]
        peak = max(float(np.abs(machine.add).max()), float(np.abs(machine.reads).max()))
        for q in range(adds):
            left.append(
                _Panel(
                    _head("Adds", q, adds), machine.add[:, q], "width", "RdBu_r", (-peak, peak), 1.5
                )
            )
        for r in range(reads):
            right.append(
                _Panel(
                    _head("Reads", r, reads),
                    machine.reads[:, r],
                    "width",
                    "RdBu_r",
                    (-peak, peak),
                    1.5,
                )
            )
        for q in range(adds):
            left.append(
                _Panel(
                    _head("Write weighting", q, adds),
                    weights[:, reads + q],
                    "slot",
                    "magma",
                    (0, 1),
                    2.4,
                )
            )
        for r in range(reads):
            right.append(
                _Panel(
                    _head("Read weighting", r, reads), weights[:, r], "slot", "magma", (0, 1), 2.4
                )
            )

    height = 0.9 + 0.85 * max(sum(p.height for p in column) for column in (left, right))
    figure = Figure(figsize=(12, height), layout="constrained")
    figure.suptitle(title, x=0.008, ha="left", fontsize=13, fontweight="bold")
    answer = int(np.argmax(scored)) - 0.5
    halves: Any = figure.subfigures(1, 2)
    for column, half in zip((left, right), halves, strict=True):
        ratios = [p.height for p in column]
        grid = half.subplots(len(column), 1, sharex=True, squeeze=False, height_ratios=ratios)
        for axes, panel in zip(grid[:, 0], column, strict=True):
            _draw(axes, panel, slots)
            axes.axvline(answer, color=ACCENT, linewidth=1, linestyle=(0, (4, 3)))
            if panel.title == said and len(wrong):
                axes.scatter(*wrong.T, marker="s", s=30, facecolors="none", edgecolors=WRONG)
        grid[-1, 0].set_xlabel("time step")
    return figure


def _draw(axes: Axes, panel: _Panel, slots: Array) -> None:
    colours: Colormap = matplotlib.colormaps[panel.colours].with_extremes(bad=PALE)
    image = axes.imshow(
        panel.values.T, aspect="auto", interpolation="nearest", cmap=colours,
        vmin=panel.limits[0], vmax=panel.limits[1],
    )  # fmt: skip
    axes.set_title(panel.title)
    axes.set_ylabel(panel.ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5 if panel.height > 2 else 3, integer=True))
    if panel.ylabel == "slot":

        def name(row: float, _: object) -> str:
            return str(slots[int(row)]) if 0 <= row < len(slots) else ""

        axes.yaxis.set_major_formatter(FuncFormatter(name))
    axes.figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03, aspect=12)


def _head(what: str, index: int, heads: int) -> str:
    return what if heads == 1 else f"{what}, head {index + 1}"


def _slots_in_use(weights: Array, threshold: float = 0.05, margin: int = 1) -> Array:
    """The slots that some head ever gives weight to, as one stretch around the ring of slots.

    weights [T, H, N] -> indices; the stretch leaves out the widest gap.
    """
    slots = weights.shape[-1]
    used = np.flatnonzero(weights.max(axis=(0, 1)) > threshold)
    if not len(used):
        return np.arange(slots)
    gaps = np.diff(used, append=used[0] + slots)
    widest = int(np.argmax(gaps))
    if gaps[widest] <= 2 * margin + 1:
        return np.arange(slots)
    first = used[(widest + 1) % len(used)] - margin
    stretch: Array = (first + np.arange(slots - gaps[widest] + 1 + 2 * margin)) % slots
    return stretch
