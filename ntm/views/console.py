"""What a person sees while models train: live on a terminal and in notebooks, lines elsewhere."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from ntm.runs.jobs import Job
from ntm.runs.sweep import SweepState
from ntm.views.grid import Grid


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_T = TypeVar("_T", bound=_Named)


def standard_error() -> Console:
    """The console that progress goes to; in a notebook, the output of its cell."""
    return Console(stderr=True, highlight=False)


class Display:
    """An area that is drawn over and over: rich's on a terminal, an output's in a notebook.

    ``live`` is False where nothing can be drawn over, as in a file.
    """

    def __init__(self, console: Console) -> None:
        self.live = console.is_terminal or console.is_jupyter
        self._notebook = console.is_jupyter
        self._rich = Live(console=console, auto_refresh=False, transient=True)
        self._handle: Any = None  # of IPython

    def __enter__(self) -> Display:
        if self.live and not self._notebook:
            self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rich.stop()

    def show(self, content: RenderableType) -> None:
        """Draws the content in place of what was there."""
        if not self.live:
            return
        if not self._notebook:
            self._rich.update(content, refresh=True)
            return
        from IPython.display import display

        page = io.StringIO()
        Console(file=page, width=100, force_jupyter=False).print(content)
        bundle = {"text/plain": page.getvalue().rstrip()}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def measured(rows: Iterable[_T], quiet: bool) -> list[_T]:
    """All rows of a measurement; while they come, says by ``name`` which one is there."""
    found = []
    with Display(standard_error()) as display:
        for row in rows:
            found.append(row)
            if not quiet:
                display.show(Text(f"measured {row.name}"))
    return found


class TrainingConsole:
    """A :class:`ntm.training.loop.Watcher` that shows how training goes.

    budget: sequences at most.
    """

    def __init__(self, console: Console, budget: int, quiet: bool = False) -> None:
        self._console = console
        self._display = Display(console)
        self._quiet = quiet
        self._budget = budget
        self._validation = ""
        self._previous: tuple[float, float] | None = None
        self._last_line = 0.0
        bar = [BarColumn(bar_width=20)] if console.width >= 110 or console.is_jupyter else []
        self._progress = Progress(
            TextColumn("{task.completed:,.0f} sequences"),
            *bar,
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            console=console,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("starting", total=budget)

    def __enter__(self) -> TrainingConsole:
        if not self._quiet:
            self._display.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._display.__exit__()

    def starts(self, manifest: Mapping[str, Any]) -> None:
        """Shows the engine that a run is trained on, and why."""
        if not self._quiet:
            self._console.print(f"{manifest['engine']} engine: {manifest['engine_reason']}")

    def reported(self, row: dict[str, float]) -> None:
        if self._quiet:
            return
        text = f"{row['bits']:.3f} bits, {row['bit_errors']:.1f} errors{self._validation}"
        if speed := self._speed(row):
            left = _clock((self._budget - row["sequences"]) / speed)
            text += f", {speed:,.0f}/s, {left} at most"
        line = f"{row['sequences']:,.0f} sequences: {text}"
        if self._display.live:
            self._progress.update(self._task, completed=row["sequences"], description=text)
            shown = self._progress.get_renderable()
            boundless = self._console.options.update(max_width=10**5)
            fits = Measurement.get(self._console, boundless, shown).maximum <= self._console.width
            self._display.show(shown if fits or self._console.is_jupyter else Text(line))
        elif time.monotonic() - self._last_line > 1:  # a line per interval, at most one a second
            self._last_line = time.monotonic()
            self._console.print(line, soft_wrap=True)

    def validated(self, row: dict[str, float]) -> None:
        self._validation = f", validation {row['bits']:.3f}"

    def _speed(self, row: dict[str, float]) -> float:
        """Sequences per second since the last report; 0 at a resumed run's first one."""
        previous, self._previous = self._previous, (row["sequences"], row["seconds"])
        if previous is None:
            return 0.0
        return (row["sequences"] - previous[0]) / max(row["seconds"] - previous[1], 1e-9)


class SweepConsole:
    """A :class:`ntm.runs.sweep.SweepWatcher`: a live table of the runs, or a line per run."""

    def __init__(self, console: Console, workers: int, quiet: bool = False) -> None:
        self._console, self._workers = console, workers
        self._display = Display(console)
        self._quiet = quiet
        self._drawn = 0.0

    def __enter__(self) -> SweepConsole:
        if not self._quiet:
            self._display.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._display.__exit__()

    def changed(self, state: SweepState) -> None:
        """Draws where the sweep stands, at most twice a second."""
        if self._display.live and not self._quiet and time.monotonic() - self._drawn > 0.5:
            self._drawn = time.monotonic()
            self._display.show(self._table(state))

    def ended(self, job: Job, error: str | None) -> None:
        """Prints that a run is done, or has failed."""
        if self._quiet:
            return
        word = "done" if error is None else "failed"
        text = f"{word}: {job.folder}" + (f": {error}" if error else "")
        self._console.print(Text(text), soft_wrap=True)

    def _table(self, state: SweepState) -> Group:
        table = Grid(["running", "sequences", "bits", "time"], framed=False)
        for job, since in state.running.values():
            row = job.progress()
            seen = f"{row.get('sequences', 0):,.0f} of {job.resolved.train.sequences:,}"
            bits = f"{row['bits']:.3f}" if "bits" in row else ""
            table.add(str(job.folder), seen, bits, _clock(time.monotonic() - since))
        count = (
            f"{len(state.done)} done, {len(state.running)} running, {len(state.waiting)} waiting"
        )
        count += f", {len(state.failed)} failed" if state.failed else ""
        left = state.left(self._workers)
        return Group(table, Text(count + (f", about {_clock(left)} left" if left else "")))


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds: 4:02, or 1:04:02."""
    hours, minutes = int(seconds) // 3600, int(seconds) // 60 % 60
    rest = f"{minutes:02}:{int(seconds) % 60:02}" if hours else f"{minutes}:{int(seconds) % 60:02}"
    return f"{hours}:{rest}" if hours else rest
