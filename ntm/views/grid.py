"""Numbers in rows for a terminal, of which none is ever cut off."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


class Grid:
    """A table of a label and numbers; where it is too wide, one number a line under each label.

    heads: of the columns. framed: whether lines are drawn. title, caption: above and below.
    """

    def __init__(
        self, heads: Sequence[str], framed: bool = True, title: str = "", caption: str = ""
    ) -> None:
        self.heads, self._title, self._caption = list(heads), title, caption
        self._rows: list[Sequence[str]] = []
        label, *numbers = heads
        self._table = Table(title=title or None, caption=caption or None)
        self._table.title_justify = self._table.caption_justify = "left"
        if not framed:
            self._table.box, self._table.pad_edge = None, False
        self._table.add_column(Text(label))
        for name in numbers:
            self._table.add_column(Text(name), justify="right", no_wrap=True)

    def add(self, *cells: str) -> None:
        """Adds a row, a cell for each head."""
        self._rows.append(cells)
        self._table.add_row(*map(Text, cells))

    def add_line(self) -> None:
        """Draws a line below the last row."""
        self._table.add_section()

    def width(self, console: Console) -> int:
        """The columns that the table needs."""
        boundless = console.options.update(max_width=10**5)
        return Measurement.get(console, boundless, self._table).maximum

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.width(console) <= options.max_width:
            yield self._table
            return
        lines = [self._title] if self._title else []
        for label, *numbers in self._rows:
            lines.append(f"{self.heads[0]} {label}")
            lines += [
                f"  {head} {cell}"
                for head, cell in zip(self.heads[1:], numbers, strict=True)
                if cell
            ]
        lines += [self._caption] if self._caption else []
        yield Text("\n".join(lines), overflow="fold")
