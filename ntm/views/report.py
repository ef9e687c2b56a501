"""A report on many runs: one page that opens offline, the same in Markdown, and a table."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ntm.analysis.results import (
    Comparison,
    Group,
    Result,
    Spread,
    Trouble,
    compare,
    effort,
    median_interval,
    spread,
    unlike,
)
from ntm.analysis.trace import Trace
from ntm.files import write_file
from ntm.runs.folder import Evaluation
from ntm.views import paper
from ntm.views.comparison import (
    MANY,
    Point,
    accuracy,
    curve_of,
    generalisation,
    learning_curves,
    ranking,
)
from ntm.views.heatmap import by_condition, conditions_of, pairwise
from ntm.views.plots import STYLE, memory_figure

#: Of many models, so many are told of and have their memories drawn: the best.
FEW = 3


class Cell(NamedTuple):
    """A cell of a table: what it says, and what it is sorted by."""

    text: str
    key: float | str


class Picture(NamedTuple):
    """A figure of the report, as it is shown and as files beside it."""

    name: str
    caption: str
    figure: Figure

    @property
    def wide(self) -> bool:
        """Whether its letters need the whole width of the page."""
        return self.figure.get_figwidth() > 9


class Section(NamedTuple):
    """What the report says of one task."""

    task: str
    summary: list[str]
    heads: list[tuple[str, str]]  # a column's name, and what it means
    rows: list[list[Cell]]
    runs: list[dict[str, Any]]  # a row of results.csv for each
    pictures: list[Picture]
    paper: list[paper.Reading]
    comparisons: list[tuple[str, str, Comparison]]
    commands: list[tuple[str, list[str]]]  # a model, and how its runs were made


def section(task: str, groups: list[Group], traces: dict[str, Trace]) -> Section:
    """One task's part. ``traces``: an episode of the median seed, by the name of its group."""
    label = task.replace("_", " ")
    if len(groups) > MANY:
        groups = sorted(groups, key=lambda group: group.standing)
    comparisons = _comparisons(groups)
    return Section(
        task=task,
        summary=[*_summaries(groups), *_terms(groups)],
        heads=_heads(groups),
        rows=[_row(group, _tests(groups), any(map(_right, groups))) for group in groups],
        runs=[_record(task, g.name, r) for g in groups for r in g.results],
        pictures=_pictures(task, label, groups, traces, comparisons),
        paper=_readings(task, groups),
        comparisons=_told(comparisons, groups),
        commands=[
            (g.name, [r.manifest.get("command", "unknown") for r in g.results]) for g in groups
        ],
    )


def write(
    out: Path, sections: Sequence[Section], troubles: Sequence[Trouble], versions: str
) -> list[Path]:
    """report.html, report.md, results.csv, and every figure as SVG and PNG."""
    shown: dict[str, str] = {}
    for part in sections:
        for picture in part.pictures:
            shown[picture.name] = _save(picture, out / "figures")
    written = {
        "report.html": _render("report.html.jinja", sections, troubles, versions, shown),
        "report.md": _render("report.md.jinja", sections, troubles, versions, shown),
        "results.csv": _table(sections),
    }
    for name, text in written.items():
        write_file(out / name, text)
    return [out / name for name in written]


# Words and numbers


def number(value: float | None, digits: int = 3) -> str:
    """So many significant digits, with commas."""
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


def _spread(values: Sequence[float], digits: int = 3) -> Cell:
    found = spread([v for v in values if math.isfinite(v)])
    if found is None:
        return Cell("\N{EN DASH}", math.inf)
    return Cell(_range(found, digits), found.median)


def _range(found: Spread, digits: int = 3) -> str:
    middle, low, high = (number(value, digits) for value in found)
    return middle if low == high else f"{middle} ({low}\N{EN DASH}{high})"


def _solved(group: Group) -> list[Result]:
    return [result for result in group.results if result.solved]


def _summaries(groups: Sequence[Group]) -> list[str]:
    """A sentence for each; of many models for the best ones, and the table has them all."""
    if len(groups) <= MANY:
        return [*map(_summary, groups)]
    return [*map(_summary, groups[:FEW]), f"{len(groups) - FEW} more are in the table."]


def _summary(group: Group) -> str:
    solved = _solved(group)
    seeds = len(group.results)
    text = f"{group.name}: solved on {len(solved)} of {seeds} seed{'s' * (seeds != 1)}"
    if solved:
        median = spread([effort(result) for result in solved])
        assert median is not None
        text += f", after {number(median.median)} sequences in the median of those"
    final = spread(group.final_bits)
    assert final is not None
    text += (
        f"; best validation {number(final.median)} bits above {group.results[0].config.task.bound}."
    )
    failed = sum(result.manifest["status"] == "failed" for result in group.results)
    text += f" {failed} stopped on numbers that are not finite." if failed else ""
    return f"{text} Settings: {group.details}." if group.details else text


def _terms(groups: Sequence[Group]) -> list[str]:
    """What must be known before these groups are compared."""
    found = unlike(groups)
    if not found:
        return []
    each = [f"{key} ({', '.join(map(str, values))})" for key, values in found.items()]
    return [f"Not on the same terms: {'; '.join(each)}."]


def _tests(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Every test at other settings than training's that some run has been given, in order."""
    found = {}
    for group in groups:
        for result in group.results:
            for e in result.evaluations:
                if e.task:
                    size = tuple(str(v).rjust(12) for _, v in sorted(e.task.items()))
                    found[_test(e, result)] = (sorted(e.task), size)
    return [(test, f"bits at {test}") for test in sorted(found, key=lambda test: found[test])]


def _test(e: Evaluation, result: Result) -> str:
    """What was tested; the memory, too, where it is not that of training."""
    words = [f"{key} {value}" for key, value in sorted(e.task.items())]
    memory = result.config.model.memory
    if memory is not None and e.slots != memory.slots:
        words.append(f"{e.slots} slots")
    return ", ".join(words)


def _heads(groups: Sequence[Group]) -> list[tuple[str, str]]:
    heads = [
        ("model", "Runs that differ in nothing but their seed."),
        ("parameters", "All that is trained."),
        ("state", "Numbers carried from one step to the next, for one sequence."),
        ("engine", "What computed it: our fused kernels, or PyTorch."),
        ("seeds", "Runs."),
        ("solved", "Seeds whose validation fell below solved_bits above the floor."),
        ("sequences to solved", "Median of the seeds that solved, with quartiles."),
        ("seconds to solved", "The same in seconds, validation included."),
        ("final bits", "Best validation: median; from six seeds on a 95% bootstrap interval."),
        ("above best possible", "The same, less what the best possible predictor pays."),
        (
            "sequence_accuracy",
            "Share of validation sequences without a wrong bit: median of the seeds.",
        ),
    ]
    if any(_right(group) for group in groups):
        heads.append(("right answers", "Share in tests on the task as trained: median of seeds."))
    heads += [
        (name, "Bits above the best possible: median, with quartiles.")
        for _, name in _tests(groups)
    ]
    heads += [
        ("sequences/s", "Seen in training, for each second of training and validation."),
        ("peak memory, MiB", "Of the whole process, at its highest."),
    ]
    return heads


def _right(group: Group) -> list[float]:
    """The share of right answers of each seed that was tested as it was trained."""
    tested = [e for r in group.results for e in r.evaluations if not e.task]
    return [e.accuracy for e in tested if e.accuracy is not None]


def _row(group: Group, tests: list[tuple[str, str]], any_right: bool) -> list[Cell]:
    first, results, solved = group.results[0], group.results, _solved(group)
    bits = [result.best["bits"] for result in results]
    middle, above = float(np.median(bits)), float(np.median(group.final_bits))
    interval = median_interval(bits)
    text = number(middle, 4)
    if interval and interval[0] != interval[1]:
        text += f" [{number(interval[0], 4)}, {number(interval[1], 4)}]"
    exact = float(np.median([result.best["sequence_accuracy"] for result in results]))
    cells = [
        Cell(group.name, group.name),
        _count(first.manifest.get("parameters")),
        _count(first.manifest.get("state_size")),
        Cell(*[", ".join(sorted({str(r.manifest.get("engine", "?")) for r in results}))] * 2),
        Cell(str(len(results)), len(results)),
        Cell(f"{len(solved)} of {len(results)}", -len(solved) / len(results)),
        _spread([effort(result) for result in solved]),
        _spread([effort(result, "seconds") for result in solved]),
        Cell(text, middle),
        Cell(number(above), above),
        Cell(_share(exact), -exact),
    ]
    if any_right:
        right = _right(group)
        share = float(np.median(right)) if right else math.nan
        cells.append(Cell(f"{share:.2%}", -share) if right else Cell(number(None), math.inf))
    for test, _ in tests:
        values = [
            e.bits - e.floor
            for r in results
            for e in r.evaluations
            if e.task and _test(e, r) == test
        ]
        cells.append(_spread(values))
    ends = [result.validation[-1] for result in results]
    cells.append(_spread([end["sequences"] / max(end["seconds"], 1e-9) for end in ends]))
    memory = [r.manifest.get("peak_memory_mib") for r in results]
    cells.append(_spread([m for m in memory if isinstance(m, int | float)]))
    return cells


def _share(value: float) -> str:
    """A percentage that says 100 only of all."""
    return "100%" if value == 1 else f"{min(value, 0.9999):.2%}"


def _count(value: Any) -> Cell:
    return Cell(f"{value:,}", value) if isinstance(value, int) else Cell("\N{EN DASH}", math.inf)


def _comparisons(groups: Sequence[Group]) -> list[tuple[str, str, Comparison]]:
    """Each pair once, by what it took until solved, or by bits where nothing was solved.

    Only where solved means the same for both, on the same episodes.
    """
    found = []
    for i, a in enumerate(groups):
        for b in groups[i + 1 :]:
            if unlike([a, b]).keys() & {
                "validation.task",
                "validation.episodes",
                "train.solved_bits",
            }:
                continue
            if any(map(_solved, (a, b))):
                scores = [[effort(r) for r in g.results] for g in (a, b)]
            else:
                scores = [a.final_bits, b.final_bits]
            if (comparison := compare(*scores)) is not None:
                found.append((a.name, b.name, comparison))
    return found


def _readings(task: str, groups: Sequence[Group]) -> list[paper.Reading]:
    """What the paper reads on this task, if it is the paper's: as large, and as long."""
    sizes = ("length", "repeats", "items", "item_length", "sorted", "order")
    for trained in {group.results[0].config.task for group in groups}:
        usual = type(trained)()
        if any(getattr(trained, key, None) != getattr(usual, key, None) for key in sizes):
            return []
    return paper.LEARNING.get(task, [])


def _told(
    comparisons: list[tuple[str, str, Comparison]], groups: Sequence[Group]
) -> list[tuple[str, str, Comparison]]:
    """Those that have a line each: of many models, the best one's with every other."""
    if len(groups) <= MANY:
        return comparisons
    best = min(groups, key=lambda group: group.standing).name
    return [pair for pair in comparisons if best in pair[:2]]


# Pictures


def _pictures(
    task: str, label: str, groups: Sequence[Group], traces: dict[str, Trace],
    comparisons: Sequence[tuple[str, str, Comparison]],
) -> list[Picture]:  # fmt: skip
    solved_bits = max(r.config.train.solved_bits for g in groups for r in g.results)
    pictures = []
    if len(groups) > MANY:
        bits = {g.name: g.final_bits for g in groups}
        figure = ranking(bits, f"{label}: best validation of every seed", ylabel(groups))
        caption = (
            "Best validation: a dot for every seed, a bar for the median, the best model on top."
        )
        pictures.append(Picture(f"{task}-ranking", caption, figure))
    for metric, xlabel in (("sequences", "sequences seen"), ("seconds", "seconds")):
        curves = {g.name: [curve_of(r.validation, metric) for r in g.results] for g in groups}
        readings = _readings(task, groups) if metric == "sequences" else []
        floor = paper.NGRAM_OPTIMUM if task == "ngram" else 0
        furthest = max(r.validation[-1]["sequences"] for g in groups for r in g.results)
        points = [
            Point(f"paper: {r.model}", r.sequences, r.bits - floor)
            for r in readings
            if r.sequences <= 1.5 * furthest
        ]
        figure = learning_curves(
            curves, f"{label}: learning", xlabel, solved_bits, points, ylabel(groups)
        )
        caption = "Validation while training: the median seed, the middle half, and every seed"
        pictures.append(Picture(f"{task}-curve-{metric}", f"{caption}, over {xlabel}.", figure))
    pictures += _sizes(task, label, groups) + _steps(task, label, groups)
    for n, group in enumerate(groups):
        pictures += _conditions(task, n, group)
    if comparisons:
        figure = pairwise([g.name for g in groups], comparisons, f"{label}: who is better")
        caption = (
            "How likely a seed of the row needs less than a seed of the column (95% interval)."
        )
        pictures.append(Picture(f"{task}-pairs", caption, figure))
    drawn = [group for group in groups if group.name in traces]
    for n, group in enumerate(drawn[:FEW] if len(groups) > MANY else drawn):
        symbols = group.median.config.task.symbols
        figure = memory_figure(traces[group.name], f"{label}: {group.name}, median seed", symbols)
        caption = f"{group.name}: one episode of seed {group.median.config.seed}."
        pictures.append(Picture(f"{task}-memory-{n}", caption, figure))
    return pictures


def _sizes(task: str, label: str, groups: Sequence[Group]) -> list[Picture]:
    """A generalisation curve for each setting that was tested alone, at more than one size."""
    pictures = []
    tested: dict[str, dict[str, dict[float, list[float]]]] = {}
    for g in groups:
        for r in g.results:
            largest: dict[tuple[str, int], Evaluation] = {}  # of two memories the larger
            for e in sorted(r.evaluations, key=lambda e: e.slots or 0):
                for key, value in e.task.items():
                    if len(e.task) == 1 and isinstance(value, int):
                        largest[key, value] = e
            for (key, value), e in largest.items():
                sizes = tested.setdefault(key, {}).setdefault(g.name, {})
                sizes.setdefault(float(value), []).append(e.bits - e.floor)
    for key, by_model in tested.items():
        if max(map(len, by_model.values())) < 2:
            continue
        trained = getattr(groups[0].results[0].config.task, key)
        points = []
        if (task, key) == ("associative_recall", "items"):
            points = [
                Point(f"paper: {model}", items, bits)
                for model, row in paper.RECALL_BY_ITEMS.items()
                for items, bits in row.items()
            ]
        figure = generalisation(
            by_model, f"{label}: beyond what was trained", key,
            float(trained[1] if isinstance(trained, tuple) else trained), points, ylabel(groups),
        )  # fmt: skip
        pictures.append(Picture(f"{task}-{key}", f"Bits by {key}, each seed a dot.", figure))
    return pictures


def _steps(task: str, label: str, groups: Sequence[Group]) -> list[Picture]:
    """Right answers by the task's label of steps, of what was evaluated as it was trained."""
    found = {
        g.name: [e.steps for r in g.results for e in r.evaluations if e.steps and not e.task]
        for g in groups
    }
    found = {name: seeds for name, seeds in found.items() if seeds}
    if not found:
        return []
    caption = "Right answers, by how much had been seen: the median seed, and every seed."
    return [Picture(f"{task}-accuracy", caption, accuracy(found, f"{label}: right answers"))]


def ylabel(groups: Sequence[Group]) -> str:
    """What the bits of these groups are, in words."""
    return groups[0].results[0].config.task.axis_label


def _conditions(task: str, n: int, group: Group) -> list[Picture]:
    """The score by condition, over the seeds that were evaluated on what they were trained on."""
    tables = [e.conditions for r in group.results for e in r.evaluations if not e.task]
    if not tables or len(tables[0]) < 2 or not conditions_of(tables[0]):
        return []
    figure = by_condition(tables, f"{task.replace('_', ' ')}: {group.name}")
    caption = f"{group.name}: bits by condition, mean of {len(tables)} seeds."
    return [Picture(f"{task}-conditions-{n}", caption, figure)]


# Files


def _save(picture: Picture, folder: Path) -> str:
    """Saves a figure as SVG and PNG; returns the SVG as a data address."""
    stream, pixels = io.BytesIO(), io.BytesIO()
    # The same bytes every time: no date, and identifiers that do not depend on chance.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": picture.name}):
        picture.figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None})
        picture.figure.savefig(pixels, format="png", dpi=130, facecolor="white")
    write_file(folder / f"{picture.name}.svg", stream.getvalue())
    write_file(folder / f"{picture.name}.png", pixels.getvalue())
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()


def _render(
    template: str, sections: Sequence[Section], troubles: Sequence[Trouble], versions: str,
    shown: dict[str, str],
) -> str:  # fmt: skip
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ntm.views"),
        autoescape=template.endswith(".html.jinja"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    environment.filters["markdown"] = markdown
    environment.filters["line"] = line
    return environment.get_template(template).render(
        sections=sections, troubles=troubles, versions=versions, shown=shown, today=date.today()
    )


def markdown(text: object) -> str:
    """Text that means nothing else in Markdown, nor in the HTML that it may become."""
    escaped = line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "\\|`*_[]#" else c for c in escaped)


def line(text: object) -> str:
    """Text without any line break."""
    return " ".join(str(text).splitlines())


def _table(sections: Sequence[Section]) -> str:
    """One row for each run, in plain numbers."""
    rows = [row for part in sections for row in part.runs]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([_plain(name) for name in columns])
    for row in rows:
        values = [row.get(name, "") for name in columns]
        writer.writerow([_plain(v) if isinstance(v, str) else v for v in values])
    return stream.getvalue()


def _record(task: str, model: str, result: Result) -> dict[str, Any]:
    """A run as a row of results.csv."""
    best, solved, manifest = result.best, result.solved, result.manifest
    row = {"task": task, "model": model, "seed": result.config.seed, "run": str(result.run.path)}
    row |= {k: manifest.get(k, "") for k in ("status", "engine", "parameters", "state_size")}
    for metric in ("sequences", "seconds"):
        row[f"{metric}_to_solved"] = solved[metric] if solved else ""
        row[metric] = result.validation[-1][metric]
    row |= {name: best[name] for name in ("bits", "floor", "sequence_accuracy")}
    row["peak_memory_mib"] = manifest.get("peak_memory_mib", "")
    for e in result.evaluations:
        label = _test(e, result) or "as trained"
        if e.accuracy is not None:
            row[f"{label}: right answers"] = e.accuracy
        row |= {
            f"{label}: bits": e.bits,
            f"{label}: floor": e.floor,
            f"{label}: sequence accuracy": e.sequence_accuracy,
        }
    return row


def _plain(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = line(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text
