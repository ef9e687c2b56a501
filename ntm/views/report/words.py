"""How a report writes numbers, and text that comes from configs and paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ntm.analysis.results import Spread, spread


class Cell(NamedTuple):
    """A cell of a table: its text, and the key it is sorted by."""

    text: str
    key: float | str


def number(value: float | None, digits: int = 3) -> str:
    """A number to so many significant digits, with commas."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    if math.isinf(value):
        return "\N{INFINITY}"
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.0e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def spread_cell(values: Sequence[float], digits: int = 3) -> Cell:
    """The median with its quartiles, of those values that are finite."""
    found = spread([v for v in values if math.isfinite(v)])
    if found is None:
        return Cell("\N{EN DASH}", math.inf)
    return Cell(_range(found, digits), found.median)


def _range(found: Spread, digits: int = 3) -> str:
    middle, low, high = (number(value, digits) for value in found)
    return middle if low == high else f"{middle} ({low}\N{EN DASH}{high})"


def share(value: float) -> str:
    """A percentage, 100% only where it is all."""
    return "100%" if value == 1 else f"{min(value, 0.9999):.2%}"


def count(value: object) -> Cell:
    """A whole number with commas; a dash where there is none."""
    return Cell(f"{value:,}", value) if isinstance(value, int) else Cell("\N{EN DASH}", math.inf)


def markdown(text: object) -> str:
    """Text escaped for Markdown, and for the HTML that it may become."""
    escaped = line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "\\|`*_[]#" else c for c in escaped)


def line(text: object) -> str:
    """Text on one line."""
    return " ".join(str(text).splitlines())


def plain(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = line(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text
