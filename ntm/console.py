"""What a person sees while a run trains: a progress bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text


class _TimeLeft(ProgressColumn):
    """To the end of the budget, at the present speed; a solved run stops before."""

    def render(self, task: Task) -> Text:
        speed = task.fields["speed"]
        if not speed or task.total is None:
            return Text("budget ends in -:--")
        left = int((task.total - task.completed) / speed)
        hours, minutes = left // 3600, left // 60 % 60
        clock = f"{hours}:{minutes:02}:{left % 60:02}" if hours else f"{minutes}:{left % 60:02}"
        return Text(f"budget ends in {clock}")


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
        self._progress = Progress(
            TextColumn("{task.completed:,.0f} sequences"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            _TimeLeft(),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=budget, speed=0.0)

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
        speed = self._speed(row)
        text = (
            f"{row['bits']:.3f} bits, {row['bit_errors']:.2f} wrong, {speed:,.0f} sequences/s"
            f"{self._validation}"
        )
        if self._live:
            self._progress.update(
                self._task, completed=row["sequences"], description=text, speed=speed, refresh=True
            )
        elif time.monotonic() - self._last_line > 1:  # a line per interval, at most one a second
            self._last_line = time.monotonic()
            self._console.print(f"{row['sequences']:,.0f} sequences: {text}", soft_wrap=True)

    def validated(self, row: dict[str, float]) -> None:
        self._validation = f", validation {row['bits']:.3f} bits"

    def _speed(self, row: dict[str, float]) -> float:
        """Sequences per second since the last report; a resumed run starts afresh."""
        previous = self._previous or (0.0, 0.0)
        self._previous = (row["sequences"], row["seconds"])
        return (row["sequences"] - previous[0]) / max(row["seconds"] - previous[1], 1e-9)
