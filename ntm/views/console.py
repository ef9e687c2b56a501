"""What a person sees while a run trains: a progress bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column, Table
from rich.text import Text

from ntm.runs.jobs import Job
from ntm.runs.sweep import SweepState


class TrainingConsole:
    """A :class:`ntm.training.loop.Watcher` that writes to standard error."""

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
            text += f", {speed:,.0f}/s, {left} at most"
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


class SweepConsole:
    """A :class:`ntm.runs.sweep.SweepWatcher`: a table on a terminal, a line per run elsewhere."""

    def __init__(self, console: Console, workers: int) -> None:
        self._console, self._workers = console, workers
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn = 0.0

    def __enter__(self) -> SweepConsole:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def changed(self, state: SweepState) -> None:
        """Draws where the sweep stands, at most twice a second."""
        if self._console.is_terminal and time.monotonic() - self._drawn > 0.5:
            self._drawn = time.monotonic()
            self._live.update(self._table(state), refresh=True)

    def ended(self, job: Job, error: str | None) -> None:
        """Says that a run is done, or has failed."""
        word = "done" if error is None else "failed"
        text = f"{word}: {job.folder}" + (f": {error}" if error else "")
        self._console.print(Text(text), soft_wrap=True)

    def _table(self, state: SweepState) -> Group:
        table = Table("running", box=None, pad_edge=False)
        for name in ("sequences", "bits", "time"):
            table.add_column(name, justify="right")
        for job, since in state.running.values():
            row = job.progress()
            seen = f"{row.get('sequences', 0):,.0f} of {job.resolved.train.sequences:,}"
            bits = f"{row['bits']:.3f}" if "bits" in row else ""
            table.add_row(Text(str(job.folder)), seen, bits, _clock(time.monotonic() - since))
        count = (
            f"{len(state.done)} done, {len(state.running)} running, {len(state.waiting)} waiting"
        )
        count += f", {len(state.failed)} failed" if state.failed else ""
        left = state.left(self._workers)
        return Group(table, Text(count + (f", about {_clock(left)} left" if left else "")))


def _clock(seconds: float) -> str:
    """Until the budget is used up; a run that is solved stops before."""
    hours, minutes = int(seconds) // 3600, int(seconds) // 60 % 60
    rest = f"{minutes:02}:{int(seconds) % 60:02}" if hours else f"{minutes}:{int(seconds) % 60:02}"
    return f"{hours}:{rest}" if hours else rest
