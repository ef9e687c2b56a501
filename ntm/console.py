"""What a person sees while a run trains: a progress bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column


class TrainingConsole:
    """A :class:`ntm.experiment.train.Watcher` that writes to standard error."""

    def __init__(self, console: Console, budget: int, quiet: bool = False) -> None:
        self._console = console
        self._live = console.is_terminal and not quiet
        self._quiet = quiet
        self._budget = budget
        self._validation = ""
        self._previous: tuple[float, float] | None = None
        self._last_line = 0.0
        bar = [BarColumn(bar_width=20)] if console.width >= 110 else []
        self._progress = Progress(
            TextColumn("{task.completed:,.0f} sequences"),
            *bar,
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=budget)

    def __enter__(self) -> TrainingConsole:
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._progress.stop()

    def reported(self, row: dict[str, float]) -> None:
        if self._quiet:
            return
        text = f"{row['bits']:.3f} bits, {row['bit_errors']:.1f} wrong{self._validation}"
        if speed := self._speed(row):
            left = _clock((self._budget - row["sequences"]) / speed)
            text += f", {speed:,.0f}/s, {left} left"
        if self._live:
            self._progress.update(
                self._task, completed=row["sequences"], description=text, refresh=True
            )
        elif time.monotonic() - self._last_line > 1:  # a line per interval, at most one a second
            self._last_line = time.monotonic()
            self._console.print(f"{row['sequences']:,.0f} sequences: {text}", soft_wrap=True)

    def validated(self, row: dict[str, float]) -> None:
        self._validation = f", validation {row['bits']:.3f}"

    def _speed(self, row: dict[str, float]) -> float:
        """Sequences per second since the last report; of a resumed run's first one unknown."""
        previous, self._previous = self._previous, (row["sequences"], row["seconds"])
        if previous is None:
            return 0.0
        return (row["sequences"] - previous[0]) / max(row["seconds"] - previous[1], 1e-9)


def _clock(seconds: float) -> str:
    """Until the budget is used up; a run that is solved stops before."""
    hours, minutes = int(seconds) // 3600, int(seconds) // 60 % 60
    rest = f"{minutes:02}:{int(seconds) % 60:02}" if hours else f"{minutes}:{int(seconds) % 60:02}"
    return f"{hours}:{rest}" if hours else rest
