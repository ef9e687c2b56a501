"""How pictures are drawn: in a style of our own, on Agg, whatever the user's matplotlibrc says."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation

INK, MUTED, PALE, ACCENT, ERROR = "#222222", "#9a9a9a", "#ececec", "#2a6f97", "#e4572e"
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,  # two $ in a path or a name are no formula
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "ntm",  # identifiers that do not depend on chance
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Within it, matplotlib has its defaults and our style; afterwards the user's settings again.

    It is also a decorator.
    """
    usual: dict[Any, Any] = {**matplotlib.rcParamsDefault, **_STYLE}
    del usual["backend"]  # the user's stays
    with matplotlib.rc_context(usual):
        yield


class StyledFigure(Figure):
    """A figure that is drawn and saved in our style, and shows itself in a notebook.

    It is made without pyplot, so that it needs neither a backend nor to be closed.
    """

    def draw(self, renderer: RendererBase) -> None:
        with styled():  # labels of ticks are made when they are drawn
            super().draw(renderer)

    def savefig(self, *args: Any, **options: Any) -> None:
        """As matplotlib's, in our style."""
        with styled():
            super().savefig(*args, **options)

    def image(self, kind: str = "png", **options: Any) -> bytes:
        """The content of a file of this kind, png or svg, on white."""
        stream = io.BytesIO()
        self.savefig(stream, format=kind, facecolor="white", **options)
        return stream.getvalue()

    def _repr_png_(self) -> bytes:
        """The picture, for IPython."""
        return self.image(dpi=100)


class Decades(LogFormatterSciNotation):
    """Labels such as 10⁻³ for a logarithmic axis, as text: matplotlib's own are formulas."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        label = str(super().__call__(x, pos)).removeprefix(r"$\mathdefault{").removesuffix("}$")
        label = label.replace(r"\times", "\N{MULTIPLICATION SIGN}")
        return re.sub(r"\^\{(-?\d+)\}", lambda found: found[1].translate(_RAISED), label)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def log_scale(axes: Axes, axis: Literal["x", "y"]) -> None:
    """Makes an axis logarithmic, with :class:`Decades` as its labels."""
    axes.set(**{f"{axis}scale": "log"})
    label_decades(axes.xaxis if axis == "x" else axes.yaxis)


def label_decades(axis: Axis) -> None:
    """Labels a logarithmic axis by powers of ten, and by smaller steps where there are few."""
    axis.set_major_formatter(Decades())
    axis.set_minor_formatter(Decades())
