"""What a study has found: a table of its variants, learning curves, and generalisation."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ntm.files import write_file
from ntm.runs.study import Study, read_table
from ntm.training.load import load_config
from ntm.views.comparison import Curve, Point, generalisation, learning_curves
from ntm.views.plots import save

Rows = Sequence[Mapping[str, str]]


def write(study: Study, out: Path) -> list[Path]:
    """results.md, curves.png and, where the study asks for it, sizes.png; from its tables in out.

    Without curves.csv, curves.png is left as it is. Returns what was written.
    """
    rows, written = read_table(out / "results.csv"), [out / "results.md"]
    title = study.name.replace("_", " ")
    write_file(written[0], f"# Study: {title}\n\n{_READING}\n\n{table(rows)}\n")
    if curves := curves_of(read_table(out / "curves.csv"), study.settings.curves or study.variants):
        solved = load_config(study.settings.config).train.solved_bits  # where variants differ, too
        save(learning_curves(curves, title, solved_bits=solved), out / "curves.png")
        written.append(out / "curves.png")
    about = study.settings.sizes
    if about is not None and (sizes := sizes_of(rows, about.variants or study.variants)):
        points = [Point(*point) for point in about.points]
        figure = generalisation(sizes, title, about.name, about.trained, points)
        save(figure, out / "sizes.png")
        written.append(out / "sizes.png")
    return written


_READING = (
    "Medians over seeds, from least to most in brackets. *Sequences* and *seconds* are until "
    "solved, *seconds in all* of the solved seeds until the end of training. *Bits* are excess "
    "bits per sequence; *exact* counts seeds with every sequence of the test right."
)


def table(rows: Rows) -> str:
    """A Markdown table with a row for each variant: medians, and from least to most."""
    suffix = ": sequence accuracy"
    keys = dict.fromkeys(key for row in rows for key in row if key.endswith(suffix))
    tests = [key.removesuffix(suffix) for key in keys]
    heads = ["variant", "solved", "sequences", "seconds", "seconds in all"]
    heads += [f"{what} at {test}" for test in tests for what in ("bits", "exact")]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == variant]
        solved = [row for row in mine if row["status"] == "solved"]
        cells = [variant, f"{len(solved)} of {len(mine)}"]
        cells += [_spread(_numbers(solved, name)) for name in heads[2:5]]
        for test in tests:
            accuracies = _numbers(mine, f"{test}{suffix}")
            cells.append(_spread(_numbers(mine, f"{test}: bits")))
            cells.append(f"{accuracies.count(1)} of {len(accuracies)}" if accuracies else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _numbers(rows: Rows, key: str) -> list[float]:
    return [float(row[key]) for row in rows if row.get(key)]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, middle, high = (_number(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({low}-{high})"


def _number(value: float) -> str:
    """Three significant digits, and more of a large number."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def curves_of(rows: Rows, variants: Sequence[str] | Mapping[str, object]) -> dict[str, list[Curve]]:
    """Validation of every seed of these variants, in their order; those without rows left out."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in variants}
    for row in rows:
        if row["variant"] in found:
            points = found[row["variant"]].setdefault(row["seed"], [])
            points.append((float(row["sequences"]), float(row["bits"])))
    curves = {
        name: [Curve(*np.array(points).T) for points in seeds.values()]
        for name, seeds in found.items()
    }
    return {name: each for name, each in curves.items() if each}


def sizes_of(
    rows: Rows, variants: Sequence[str] | Mapping[str, object]
) -> dict[str, dict[float, list[float]]]:
    """Excess bits of every seed at the tests whose labels are numbers, by variant and size."""
    found: dict[str, dict[float, list[float]]] = {name: defaultdict(list) for name in variants}
    for row in rows:
        if row["variant"] not in found:
            continue
        for key, value in row.items():
            label = key.removesuffix(": bits")
            if label != key and label.isdigit() and value:
                found[row["variant"]][float(label)].append(float(value))
    return {name: dict(sizes) for name, sizes in found.items() if sizes}
