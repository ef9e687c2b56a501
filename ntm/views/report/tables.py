"""The tables of a report: a row for each model, and for each run."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ntm.analysis.results import Group, Result, effort, median_interval
from ntm.runs.evaluations import Evaluation
from ntm.views.report.words import Cell, count, number, plain, share, spread_cell


class Column(NamedTuple):
    """A column of the table of models."""

    name: str
    meaning: str
    cell: Callable[[Group], Cell]


def columns(groups: Sequence[Group]) -> list[Column]:
    """The columns for these models: accuracy and tests only where some run has them."""
    found = [
        Column("model", "Runs that differ only in their seed.", lambda g: Cell(g.name, g.name)),
        Column("parameters", "Trained parameters.", partial(_manifest_count, "parameters")),
        Column(
            "state",
            "Numbers carried from one step to the next, for one sequence.",
            partial(_manifest_count, "state_size"),
        ),
        Column("engine", "Fused kernels, or the reference in PyTorch.", _engine),
        Column("seeds", "Runs.", lambda g: Cell(str(len(g.results)), len(g.results))),
        Column("solved", "Seeds whose validation fell below solved_bits above the floor.", _solved),
        Column(
            "sequences to solved",
            "Median of the seeds that solved, with quartiles.",
            lambda g: spread_cell([effort(r) for r in solved(g)]),
        ),
        Column(
            "seconds to solved",
            "The same in seconds, validation included.",
            lambda g: spread_cell([effort(r, "seconds") for r in solved(g)]),
        ),
        Column(
            "final bits",
            "Best validation: median; from six seeds on with a 95% bootstrap interval.",
            _final_bits,
        ),
        Column("excess bits", "The same, less what the best possible predictor pays.", _excess),
        Column(
            "sequence accuracy",
            "Validation sequences without a bit error: median of the seeds.",
            _sequence_accuracy,
        ),
    ]
    if any(_accuracies(group) for group in groups):
        meaning = "Share of right answers in tests on the task as trained: median of the seeds."
        found.append(Column("accuracy", meaning, _accuracy))
    found += [
        Column(f"bits at {test}", "Excess bits: median, with quartiles.", partial(_at, test))
        for test in _tests(groups)
    ]
    found += [
        Column("sequences/s", "Sequences per second of training and validation.", _speed),
        Column("peak memory, MiB", "Of the whole process.", _peak_memory),
    ]
    return found


def solved(group: Group) -> list[Result]:
    """The runs that solved their task."""
    return [result for result in group.results if result.solved]


def _manifest_count(key: str, group: Group) -> Cell:
    return count(group.results[0].manifest.get(key))


def _engine(group: Group) -> Cell:
    engines = ", ".join(sorted({str(r.manifest.get("engine", "?")) for r in group.results}))
    return Cell(engines, engines)


def _solved(group: Group) -> Cell:
    some, every = len(solved(group)), len(group.results)
    return Cell(f"{some} of {every}", -some / every)


def _final_bits(group: Group) -> Cell:
    bits = [result.best["bits"] for result in group.results]
    middle, interval = float(np.median(bits)), median_interval(bits)
    text = number(middle, 4)
    if interval and interval[0] != interval[1]:
        text += f" [{number(interval[0], 4)}, {number(interval[1], 4)}]"
    return Cell(text, middle)


def _excess(group: Group) -> Cell:
    middle = float(np.median(group.final_bits))
    return Cell(number(middle), middle)


def _sequence_accuracy(group: Group) -> Cell:
    middle = float(np.median([result.best["sequence_accuracy"] for result in group.results]))
    return Cell(share(middle), -middle)


def _accuracies(group: Group) -> list[float]:
    """The accuracy of each seed that was tested as it was trained."""
    tested = [e for r in group.results for e in r.evaluations if not e.task]
    return [e.accuracy for e in tested if e.accuracy is not None]


def _accuracy(group: Group) -> Cell:
    found = _accuracies(group)
    if not found:
        return Cell(number(None), math.inf)
    middle = float(np.median(found))
    return Cell(f"{middle:.2%}", -middle)


def _at(test: str, group: Group) -> Cell:
    """Excess bits of one test."""
    return spread_cell(
        [
            e.bits - e.floor
            for r in group.results
            for e in r.evaluations
            if e.task and _test(e, r) == test
        ]
    )


def _speed(group: Group) -> Cell:
    ends = [result.validation[-1] for result in group.results]
    return spread_cell([end["sequences"] / max(end["seconds"], 1e-9) for end in ends])


def _peak_memory(group: Group) -> Cell:
    found = [r.manifest.get("peak_memory_mib") for r in group.results]
    return spread_cell([m for m in found if isinstance(m, int | float)])


def _tests(groups: Sequence[Group]) -> list[str]:
    """Every test of any run at settings other than those of its training, in order of size."""
    found = {}
    for group in groups:
        for result in group.results:
            for e in result.evaluations:
                if e.task:
                    size = tuple(str(v).rjust(12) for _, v in sorted(e.task.items()))
                    found[_test(e, result)] = (sorted(e.task), size)
    return sorted(found, key=lambda test: found[test])


def _test(e: Evaluation, result: Result) -> str:
    """What was tested; the memory, too, where it is not that of training."""
    words = [f"{key} {value}" for key, value in sorted(e.task.items())]
    memory = result.config.model.memory
    if memory is not None and e.slots != memory.slots:
        words.append(f"{e.slots} slots")
    return ", ".join(words)


def record(task: str, model: str, result: Result) -> dict[str, Any]:
    """A run as a row of results.csv."""
    best, first, manifest = result.best, result.solved, result.manifest
    row = {"task": task, "model": model, "seed": result.config.seed, "run": str(result.run.path)}
    row |= {k: manifest.get(k, "") for k in ("status", "engine", "parameters", "state_size")}
    for metric in ("sequences", "seconds"):
        row[f"{metric}_to_solved"] = first[metric] if first else ""
        row[metric] = result.validation[-1][metric]
    row |= {name: best[name] for name in ("bits", "floor", "sequence_accuracy")}
    row["peak_memory_mib"] = manifest.get("peak_memory_mib", "")
    for e in result.evaluations:
        label = _test(e, result) or "as trained"
        if e.accuracy is not None:
            row[f"{label}: accuracy"] = e.accuracy
        row |= {
            f"{label}: bits": e.bits,
            f"{label}: floor": e.floor,
            f"{label}: sequence accuracy": e.sequence_accuracy,
        }
    return row


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """One row for each run, in plain numbers."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([plain(name) for name in names])
    for row in rows:
        values = [row.get(name, "") for name in names]
        writer.writerow([plain(v) if isinstance(v, str) else v for v in values])
    return stream.getvalue()
