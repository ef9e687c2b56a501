"""Pictures of one run: its learning curve and its memory at work (the paper's figures 3 and 6)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ntm.analysis.trace import Array, Trace
from ntm.files import write_file

#: In an episode of more steps, a frame around a wrong bit would hide its neighbours.
OUTLINED = 150
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
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=160, facecolor="white")
    write_file(path, stream.getvalue())


@matplotlib.rc_context(STYLE)
def learning_curve(
    metrics: list[dict[str, float]],
    validation: list[dict[str, float]],
    title: str,
    solved_bits: float,
    unit: str = "bits per sequence",
    curriculum: bool = False,
) -> Figure:
    """Bits against sequences seen: training, validation, where solved begins.

    curriculum: whether training began with easier tasks, which cost less.

    Logarithmic where the best possible is 0 bits, and bits come near it; an exact 0 is drawn at
    the lower edge.
    """
    figure = Figure(figsize=(7.5, 4.0), layout="constrained")
    axes = figure.add_subplot()
    floor = validation[-1]["floor"] if validation else 0.0
    lowest = 1e-3
    training = "training, on easier tasks at first" if curriculum else "training"

    def points(rows: list[dict[str, float]]) -> tuple[Array, Array]:
        x = np.array([row["sequences"] for row in rows]) / 1000
        y = np.array([row["bits"] for row in rows])
        return x, y if floor else np.maximum(y, lowest)

    axes.plot(*points(metrics), color=MUTED, linewidth=0.9, label=training)
    axes.plot(*points(validation), "o-", color=ACCENT, markersize=3.5, label="validation")
    if floor:
        axes.axhline(floor, color=INK, linewidth=1, linestyle="--", label="best possible")
    elif far_from_zero([row["bits"] for row in [*metrics, *validation]]):
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")
        bits = [row["bits"] for row in [*metrics, *validation]]
        axes.set_ylim(bottom=decade_below([*bits, solved_bits or math.inf], lowest))
    if solved_bits:
        axes.axhline(floor + solved_bits, color=WRONG, linewidth=1.2, linestyle=":", label="solved")
    axes.set_xlim(left=0)
    axes.set_xlabel("sequences seen (thousands)")
    axes.set_ylabel(unit)
    axes.set_title(title, fontsize=12, fontweight="bold")
    axes.grid(axis="y", color=PALE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def decade_below(bits: Sequence[float], lowest: float) -> float:
    """Where a logarithmic axis ends: at the decade below all bits, and not below ``lowest``."""
    least = min(bits)
    return lowest if math.isinf(least) else 10 ** math.floor(math.log10(max(0.9 * least, lowest)))


def far_from_zero(bits: Sequence[float]) -> bool:
    """Whether all that was reached is within a factor of ten, as the bits of a text are."""
    return bool(bits) and min(bits) > max(bits) / 10


@matplotlib.rc_context(STYLE)
def memory_figure(trace: Trace, title: str, symbols: str = "") -> Figure:
    """An episode as in the paper's figure 6: what is put in and written; what is read and said.

    The dashed line is where the answer begins; wrong bits of it are outlined, where there is room.
    Of the memory only the slots that a head visits are drawn. A baseline shows its inputs and
    outputs alone. symbols: what the inputs' channels stand for, of a task on text; its outputs are
    the probabilities that were given to what came.
    """
    scored = trace.mask > 0
    targets, outputs = (
        np.where(scored[:, None], x, np.nan) for x in (trace.targets, trace.outputs)
    )
    wrong = np.argwhere(((trace.outputs > 0.5) != (trace.targets > 0.5)) & scored[:, None])
    visible = len(trace.inputs) <= OUTLINED
    said = f"Outputs, {len(wrong)} wrong bits" + " outlined" * visible if len(wrong) else "Outputs"
    if symbols:  # less than a half is not wrong there, where it is the most
        visible, said = False, "Outputs: the probability of what came"
    bits = trace.inputs.min() >= 0 and trace.inputs.max() <= 1
    reach = float(np.abs(trace.inputs).max())

    rows = [
        _Row(
            2.2 if max(trace.inputs.shape[1], trace.targets.shape[1]) > 1 else 1.1,
            [_Panel("Inputs", trace.inputs)],
            [_Panel(said, outputs)]
            if symbols
            else [_Panel("Targets", targets), _Panel(said, outputs)],
            _Look("channel", "Greys", (0.0, 1.0)),
            # Priorities and counts fall below 0, or rise above 1.
            None if bits else _Look("channel", "RdBu_r", (-reach, reach)),
        )
    ]
    slots = np.arange(0)
    if machine := trace.machine:
        reads, adds = machine.reads.shape[1], machine.add.shape[1]
        slots = slots_in_use(machine.weights)
        weights = machine.weights[:, :, slots]
        peak = max(float(np.abs(machine.add).max()), float(np.abs(machine.reads).max()))
        rows += [
            _Row(
                1.4 * max(reads, adds),
                _heads("Adds", machine.add),
                _heads("Reads", machine.reads),
                _Look("width", "RdBu_r", (-peak, peak), bar=True),
            ),
            _Row(
                2.2 * max(reads, adds),
                _heads("Write weighting", weights[:, reads:]),
                _heads("Read weighting", weights[:, :reads]),
                _Look("slot", "magma", (0.0, 1.0), bar=True),
            ),
        ]

    # Placed by hand, in inches, so that time runs at the same scale everywhere.
    width, panel, left, gap, top, bottom = 12.8, 5.3, (0.65, 6.6), 0.42, 0.75, 0.6
    height = top + sum(row.height for row in rows) + gap * (len(rows) - 1) + bottom
    figure = Figure(figsize=(width, height))
    figure.text(0.2 / width, 1 - 0.28 / height, title, va="center", fontsize=13, weight="bold")
    answer = int(np.argmax(scored)) - 0.5
    y = height - top
    for row in rows:
        for x, panels in zip(left, (row.left, row.right), strict=True):
            each = (row.height - gap * (len(panels) - 1)) / len(panels)
            for i, (name, values) in enumerate(panels):
                low_edge = y - each - i * (each + gap)
                box = (x / width, low_edge / height, panel / width, each / height)
                axes = figure.add_axes(box)
                look = row.left_look if row.left_look and x == left[0] else row.look
                image = _draw(axes, name, values, look, slots)
                if name == "Inputs" and symbols:
                    axes.set_yticks(range(len(symbols)), symbols.replace(" ", "_"), fontsize=5.5)
                    axes.set_ylabel("character")
                axes.axvline(answer, color=ACCENT, linewidth=1, linestyle=(0, (4, 3)))
                if name == said and visible:
                    _outline(axes, wrong)
                last = row is rows[-1] and i == len(panels) - 1
                axes.tick_params(labelbottom=last)
                axes.set_xlabel("time step" if last else "")
        if row.look.bar:
            bar = figure.add_axes(
                ((left[1] + panel + 0.08) / width, (y - row.height) / height, 0.1 / width,
                 row.height / height)
            )  # fmt: skip
            figure.colorbar(image, cax=bar)
        y -= row.height + gap
    return figure


class _Panel(NamedTuple):
    title: str
    values: Array  # [T, rows]


class _Look(NamedTuple):
    ylabel: str
    colours: str
    limits: tuple[float, float]
    bar: bool = False  # whether the colours need a key


class _Row(NamedTuple):
    height: float
    left: list[_Panel]
    right: list[_Panel]
    look: _Look
    left_look: _Look | None = None  # where it is another


def _heads(what: str, values: Array) -> list[_Panel]:
    """A panel a head. values [T, heads, rows]."""
    heads = values.shape[1]
    return [
        _Panel(what if heads == 1 else f"{what}, head {i + 1}", values[:, i]) for i in range(heads)
    ]


def _draw(axes: Axes, title: str, values: Array, look: _Look, slots: Array) -> AxesImage:
    colours = matplotlib.colormaps[look.colours].with_extremes(bad=PALE)
    image = axes.imshow(
        values.T, aspect="auto", interpolation="nearest", cmap=colours,
        vmin=look.limits[0], vmax=look.limits[1],
    )  # fmt: skip
    axes.set_title(title)
    axes.set_ylabel(look.ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    if values.shape[1] == 1:
        axes.set_yticks([0])
    if look.ylabel == "slot":

        def name(row: float, _: object) -> str:
            return str(slots[int(row)]) if 0 <= row < len(slots) else ""

        axes.yaxis.set_major_formatter(FuncFormatter(name))
    return image


def _outline(axes: Axes, wrong: Array) -> None:
    """Frames around single cells. wrong [n, 2]: time step and channel."""
    frames = [Rectangle((t - 0.5, channel - 0.5), 1, 1) for t, channel in wrong]
    axes.add_collection(PatchCollection(frames, facecolor="none", edgecolor=WRONG, linewidth=1.6))


def slots_in_use(weights: Array, threshold: float = 0.05, margin: int = 1) -> Array:
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
