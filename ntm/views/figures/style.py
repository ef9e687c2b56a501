"""What the paper's figures share: the colours of its models, and arrays as images."""

from __future__ import annotations

import matplotlib
from matplotlib.axes import Axes

from ntm.analysis.trace import Array
from ntm.views import paper
from ntm.views.drawing import MUTED, PALE

#: The paper's three models, in colours that the colour-blind can tell apart.
COLOURS = {paper.LSTM: "#0072B2", paper.LSTM_NTM: "#009E73", paper.FF: "#D55E00"}
GREEN, RED = "#009E73", "#D55E00"


def show(axes: Axes, values: Array, colours: str, limits: tuple[float, float]) -> None:
    """Draws values [T, rows], time to the right."""
    table = matplotlib.colormaps[colours].with_extremes(bad=PALE)
    axes.imshow(values.T, aspect="auto", interpolation="nearest", cmap=table,
                vmin=limits[0], vmax=limits[1])  # fmt: skip
    axes.spines[:].set_edgecolor(MUTED)
