"""Pictures of one run: its learning curve and its memory at work, as in figures 3 and 6."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ntm.analysis.trace import Array, NTMTrace, Trace
from ntm.files import write_file
from ntm.views.drawing import ACCENT, ERROR, INK, MUTED, PALE, StyledFigure, log_scale, styled

#: In a longer episode the frame around a bit error would hide its neighbours.
OUTLINED = 150


def save(figure: StyledFigure, path: Path) -> None:
    """Writes the figure as PNG."""
    write_file(path, figure.image(dpi=160))


@styled()
def learning_curve(
    metrics: list[dict[str, float]],
    validation: list[dict[str, float]],
    title: str,
    solved_bits: float,
    unit: str = "bits per sequence",
    curriculum: bool = False,
) -> StyledFigure:
    """Bits against sequences seen: training, validation, and the threshold of solved.

    curriculum: whether training began with easier tasks, which cost less.

    The axis of bits is logarithmic where the best possible is 0 bits and the curves come near it;
    0 itself is drawn at the lower edge.
    """
    figure = StyledFigure(figsize=(7.5, 4.0), layout="constrained")
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
        log_scale(axes, "y")
        bits = [row["bits"] for row in [*metrics, *validation]]
        axes.set_ylim(bottom=decade_below([*bits, solved_bits or math.inf], lowest))
    if solved_bits:
        axes.axhline(floor + solved_bits, color=ERROR, linewidth=1.2, linestyle=":", label="solved")
    axes.set_xlim(left=0)
    axes.set_xlabel("sequences seen (thousands)")
    axes.set_ylabel(unit)
    axes.set_title(title, fontsize=12, fontweight="bold")
    axes.grid(axis="y", color=PALE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def decade_below(bits: Sequence[float], lowest: float) -> float:
    """The lower end of a logarithmic axis: the decade below all bits, but at least ``lowest``."""
    least = min(bits)
    return lowest if math.isinf(least) else 10 ** math.floor(math.log10(max(0.9 * least, lowest)))


def far_from_zero(bits: Sequence[float]) -> bool:
    """Whether all bits are within a factor of ten of one another, as those of a text are."""
    return bool(bits) and min(bits) > max(bits) / 10


@styled()
def memory_figure(trace: Trace, title: str, symbols: str = "") -> StyledFigure:
    """An episode as in the paper's figure 6: inputs and writes left, reads and outputs right.

    The dashed line is where the answer begins; its bit errors are outlined, where there is room.
    Of the memory only the slots that a head visits are drawn. A baseline shows its inputs and
    outputs alone. symbols: the characters that the inputs' channels stand for, in a task on text;
    the outputs are then the probabilities of the characters that came.
    """
    errors = np.argwhere(
        ((trace.outputs > 0.5) != (trace.targets > 0.5)) & (trace.mask[:, None] > 0)
    )
    # A character's probability below a half is no error: it may still be the largest.
    outlined = len(trace.inputs) <= OUTLINED and not symbols
    outputs = _outputs_title(len(errors), outlined, symbols)
    slots = slots_in_use(trace.ntm.weights) if trace.ntm else np.arange(0)
    rows = [_episode_row(trace, outputs, symbols), *_memory_rows(trace.ntm, slots)]

    height = _TOP + sum(row.height for row in rows) + _GAP * (len(rows) - 1) + _BOTTOM
    figure = StyledFigure(figsize=(_WIDTH, height))
    figure.text(0.2 / _WIDTH, 1 - 0.28 / height, title, va="center", fontsize=13, weight="bold")
    answer = int(np.argmax(trace.mask > 0)) - 0.5
    y = height - _TOP
    for row in rows:
        for x, panels, look in zip(_LEFT, (row.left, row.right), row.looks, strict=True):
            each = (row.height - _GAP * (len(panels) - 1)) / len(panels)
            for i, (name, values) in enumerate(panels):
                axes = _add_axes(figure, x, y - each - i * (each + _GAP), _PANEL, each)
                image = _draw(axes, name, values, look, slots)
                if name == "Inputs" and symbols:
                    axes.set_yticks(range(len(symbols)), symbols.replace(" ", "_"), fontsize=5.5)
                    axes.set_ylabel("character")
                axes.axvline(answer, color=ACCENT, linewidth=1, linestyle=(0, (4, 3)))
                if name == outputs and outlined:
                    _outline(axes, errors)
                last = row is rows[-1] and i == len(panels) - 1
                axes.tick_params(labelbottom=last)
                axes.set_xlabel("time step" if last else "")
        if row.looks[1].bar:
            bar = _add_axes(figure, _LEFT[1] + _PANEL + 0.08, y - row.height, 0.1, row.height)
            figure.colorbar(image, cax=bar)
        y -= row.height + _GAP
    return figure


# The panels of a memory figure are placed by hand, in inches, so that time has one scale.
_WIDTH, _PANEL, _LEFT, _GAP, _TOP, _BOTTOM = 12.8, 5.3, (0.65, 6.6), 0.42, 0.75, 0.6


def _add_axes(figure: StyledFigure, x: float, y: float, width: float, height: float) -> Axes:
    """Axes whose lower left corner is at x, y. All in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((x / across, y / up, width / across, height / up))


class _Panel(NamedTuple):
    title: str
    values: Array  # [T, rows]


class _Look(NamedTuple):
    ylabel: str
    colours: str
    limits: tuple[float, float]
    bar: bool = False  # whether it has a colour bar


class _Row(NamedTuple):
    height: float
    left: list[_Panel]
    right: list[_Panel]
    looks: tuple[_Look, _Look]  # of the left and of the right panels


def _outputs_title(errors: int, outlined: bool, symbols: str) -> str:
    if symbols:
        return "Outputs: probability of the character that came"
    if not errors:
        return "Outputs"
    return f"Outputs, {errors} bit error{'s' * (errors > 1)}" + " outlined" * outlined


def _episode_row(trace: Trace, title: str, symbols: str) -> _Row:
    """Inputs on the left; targets above outputs on the right. title: that of the outputs."""
    targets, outputs = (
        np.where(trace.mask[:, None] > 0, x, np.nan) for x in (trace.targets, trace.outputs)
    )
    right = [_Panel(title, outputs)]
    if not symbols:
        right.insert(0, _Panel("Targets", targets))
    look = left_look = _Look("channel", "Greys", (0.0, 1.0))
    if trace.inputs.min() < 0 or trace.inputs.max() > 1:  # priorities, or counts
        reach = float(np.abs(trace.inputs).max())
        left_look = _Look("channel", "RdBu_r", (-reach, reach))
    height = 2.2 if max(trace.inputs.shape[1], trace.targets.shape[1]) > 1 else 1.1
    return _Row(height, [_Panel("Inputs", trace.inputs)], right, (left_look, look))


def _memory_rows(ntm: NTMTrace | None, slots: Array) -> list[_Row]:
    """What is written and where, on the left; what is read and where, on the right."""
    if ntm is None:
        return []
    reads = ntm.reads.shape[1]
    adding = ntm.add.any(axis=(0, 2))  # heads that only erase, as of a sparse memory, are left out
    adding |= not adding.any()
    added = ntm.add[:, adding]
    adds = added.shape[1]
    weights = ntm.weights[:, :, slots]
    peak = max(float(np.abs(ntm.add).max()), float(np.abs(ntm.reads).max()))
    vectors = _Look("width", "RdBu_r", (-peak, peak), bar=True)
    weightings = _Look("slot", "magma", (0.0, 1.0), bar=True)
    return [
        _Row(
            1.4 * max(reads, adds),
            _heads("Adds", added),
            _heads("Reads", ntm.reads),
            (vectors, vectors),
        ),
        _Row(
            2.2 * max(reads, adds),
            _heads("Write weighting", weights[:, reads:][:, adding]),
            _heads("Read weighting", weights[:, :reads]),
            (weightings, weightings),
        ),
    ]


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


def _outline(axes: Axes, errors: Array) -> None:
    """Frames around single cells. errors [n, 2]: time step and channel."""
    frames = [Rectangle((t - 0.5, channel - 0.5), 1, 1) for t, channel in errors]
    axes.add_collection(PatchCollection(frames, facecolor="none", edgecolor=ERROR, linewidth=1.6))


def slots_in_use(weights: Array, threshold: float = 0.05, margin: int = 1) -> Array:
    """The slots to which some head ever gives weight, as one stretch of the ring of slots.

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
