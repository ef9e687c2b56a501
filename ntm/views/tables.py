"""Results as text for a terminal: how a run or a sweep ended, scores, the speed of the engines."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from ntm.analysis.bench import Row
from ntm.outcomes import Run, Sweep
from ntm.runs.evaluations import Evaluation
from ntm.runs.folder import RunDir
from ntm.runs.status import Status
from ntm.views.grid import Grid

_COLUMNS = ("bits", "floor", "bit_errors", "sequence_accuracy")


_ENDINGS = {
    Status.SOLVED: "solved",
    Status.BUDGET: "budget used up, not solved,",
    Status.INTERRUPTED: "interrupted and saved; --resume continues it;",
}


def ending(run: Run) -> str:
    """How training ended, and where."""
    word = _ENDINGS.get(run.status, str(run.status)) if run.status else "of unknown status"
    text = f"{word} after {run.sequences:,} sequences and {run.seconds:,.0f} s"
    if run.best_bits is not None:
        text += f"; best validation {run.best_bits:.4f} {run.config.task.axis_label}"
    return f"{text}\n{run.path}"


def what_next(run: Run) -> str:
    """Lines to copy: what can be done with a run that has ended."""
    if run.status is None or not run.status.is_complete:
        return ""
    folder = shlex.quote(str(run.path))
    commands = [f"ntm {command} {folder}" for command in ("evaluate", "plot", "report")]
    return "\n".join(["", "next:", *(f"  {command}" for command in commands)])


def swept(found: Sweep) -> str:
    """What a sweep has done, which runs failed, and what is left to do."""
    text = f"{len(found.done)} of {found.total} runs done ({found.before} of them before)"
    text += f", {len(found.failed)} failed" if found.failed else ""
    text += f", {found.left} to do; the same command continues" if found.left else ""
    lines = [text, *(f"failed: {path}: {error}" for path, error in found.failed.items())]
    if found.failed:
        lines.append("a larger --retries tries failed runs again")
    return "\n".join(lines)


def title(run: str | os.PathLike[str], found: Evaluation) -> str:
    """Which weights of a run were evaluated, with which memory, in which unit."""
    directory = RunDir.open(run)
    status = directory.manifest().status or "of unknown status"
    memory = f", {found.slots} slots" if found.slots is not None else ""
    weights = f"weights of {found.sequences:,} sequences{memory}"
    return f"{directory.path} ({status}), {weights}; {directory.config().task.unit}"


def show(*tables: Grid | Text) -> None:
    """Prints tables to standard output; a file has room for all their columns."""
    for table in tables:
        console = Console()
        if isinstance(table, Grid) and not console.is_terminal:
            console.width = max(console.width, table.width(console))
        console.print(table)


def scores(found: Evaluation) -> Iterator[Grid | Text]:
    """The means by condition and over all episodes; where a task labels steps, also by label."""
    table = Grid(["condition", "episodes", *_COLUMNS])
    for name in found.condition_names():
        for row in found.by_condition(name):
            table.add(f"{name} {row[name]:g}", *_score(row))
        table.add_line()
    table.add("all", *_score({n: getattr(found, n) for n in ("episodes", *_COLUMNS)}))
    yield table
    if found.accuracy is not None:
        yield Text(f"accuracy: {found.accuracy:.2%}")
    if found.steps:
        table = Grid(list(found.steps[0]))
        for step in found.steps:
            label, scored, share, bits = step.values()
            table.add(str(label), f"{scored:,}", f"{share:.2%}", f"{bits:.4f}")
        yield table


def _score(row: Mapping[str, float]) -> list[str]:
    numbers = [f"{row[name]:.4f}" for name in ("bits", "floor", "bit_errors")]
    return [f"{row['episodes']:.0f}", *numbers, f"{row['sequence_accuracy']:.1%}"]


def bench(about: Mapping[str, Any], rows: Iterable[Row]) -> Grid:
    """Sequences a second of each side, and their ratios."""
    sides = ("batch", "steps", "reference", "fused", "ratio", "LSTM", "fused to LSTM")
    caption = (
        "Sequences a second in whole training steps, medians; torch.nn.LSTM alone, of the "
        "controller's size."
    )
    title = ", ".join(f"{k} {v}" for k, v in about.items())
    table = Grid(["config", *sides], title=title, caption=caption)
    for row in rows:
        table.add(
            row.config, str(row.batch), str(row.steps), _speed(row.batch, row.reference),
            _speed(row.batch, row.fused), _ratio(row.times_reference),
            _speed(row.batch, row.lstm), _ratio(row.times_lstm),
        )  # fmt: skip
    return table


def _speed(batch: int, seconds: float | None) -> str:
    return "-" if seconds is None else f"{batch / seconds:,.0f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
