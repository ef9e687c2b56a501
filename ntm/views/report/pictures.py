"""The pictures of a report, of one task: learning, generalisation, conditions, memories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ntm.analysis.results import Comparison, Group
from ntm.analysis.trace import Trace
from ntm.runs.evaluations import Evaluation
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
from ntm.views.drawing import StyledFigure
from ntm.views.heatmap import by_condition, conditions_of, pairwise
from ntm.views.plots import memory_figure

#: Of many models, this many, the best, have a summary and a picture of their memory.
FEW = 3


class Picture(NamedTuple):
    """A figure of the report: in the page, and as files beside it."""

    name: str
    caption: str
    figure: StyledFigure

    @property
    def wide(self) -> bool:
        """Whether its text needs the full width of the page."""
        return self.figure.get_figwidth() > 9


def pictures(
    task: str, groups: Sequence[Group], traces: dict[str, Trace],
    comparisons: Sequence[tuple[str, str, Comparison]],
) -> list[Picture]:  # fmt: skip
    """All pictures of a task. traces: an episode of the median seed, by the name of its group."""
    label = task.replace("_", " ")
    found = _ranking(task, label, groups)
    found += [_learning(task, label, groups, metric) for metric in ("sequences", "seconds")]
    found += _sizes(task, label, groups) + _steps(task, label, groups)
    for n, group in enumerate(groups):
        found += _conditions(task, n, group)
    if comparisons:
        figure = pairwise([g.name for g in groups], comparisons, f"{label}: pairs of models")
        caption = (
            "Probability that a seed of the row needs less than one of the column; 95% interval."
        )
        found.append(Picture(f"{task}-pairs", caption, figure))
    return found + _memories(task, label, groups, traces)


def ylabel(groups: Sequence[Group]) -> str:
    """What the bits of these groups are, in words."""
    return groups[0].results[0].config.task.axis_label


def readings(task: str, groups: Sequence[Group]) -> list[paper.Reading]:
    """The paper's results on this task, if the task is the paper's: as large, and as long."""
    sizes = ("length", "repeats", "items", "item_length", "sorted", "order")
    for trained in {group.results[0].config.task for group in groups}:
        usual = type(trained)()
        if any(getattr(trained, key, None) != getattr(usual, key, None) for key in sizes):
            return []
    return paper.LEARNING.get(task, [])


def _ranking(task: str, label: str, groups: Sequence[Group]) -> list[Picture]:
    """Every seed's best validation, where there are too many models for curves alone."""
    if len(groups) <= MANY:
        return []
    bits = {g.name: g.final_bits for g in groups}
    figure = ranking(bits, f"{label}: best validation of every seed", ylabel(groups))
    caption = "Best validation: a dot for every seed, a bar for the median, the best model on top."
    return [Picture(f"{task}-ranking", caption, figure)]


def _learning(task: str, label: str, groups: Sequence[Group], metric: str) -> Picture:
    """Validation over sequences or seconds, the paper's readings beside it."""
    xlabel = {"sequences": "sequences seen"}.get(metric, metric)
    curves = {g.name: [curve_of(r.validation, metric) for r in g.results] for g in groups}
    floor = paper.NGRAM_OPTIMUM if task == "ngram" else 0
    furthest = max(r.validation[-1]["sequences"] for g in groups for r in g.results)
    points = [
        Point(f"paper: {r.model}", r.sequences, r.bits - floor)
        for r in (readings(task, groups) if metric == "sequences" else [])
        if r.sequences <= 1.5 * furthest
    ]
    solved_bits = max(r.config.train.solved_bits for g in groups for r in g.results)
    title = f"{label}: learning"
    figure = learning_curves(curves, title, xlabel, solved_bits, points, ylabel(groups))
    caption = "Validation during training: the median seed, the middle half, and every seed"
    return Picture(f"{task}-curve-{metric}", f"{caption}, over {xlabel}.", figure)


def _memories(
    task: str, label: str, groups: Sequence[Group], traces: dict[str, Trace]
) -> list[Picture]:
    """The memory of each model's median seed at work; of many models, of the best ones."""
    drawn = [group for group in groups if group.name in traces]
    found = []
    for n, group in enumerate(drawn[:FEW] if len(groups) > MANY else drawn):
        symbols = group.median.config.task.symbols
        figure = memory_figure(traces[group.name], f"{label}: {group.name}, median seed", symbols)
        caption = f"{group.name}: one episode of seed {group.median.config.seed}."
        found.append(Picture(f"{task}-memory-{n}", caption, figure))
    return found


def _sizes(task: str, label: str, groups: Sequence[Group]) -> list[Picture]:
    """A generalisation curve for each setting that was tested alone, at more than one size."""
    pictures = []
    for key, by_model in _tested(groups).items():
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
            by_model, f"{label}: beyond the sizes of training", key,
            float(trained[1] if isinstance(trained, tuple) else trained), points, ylabel(groups),
        )  # fmt: skip
        pictures.append(
            Picture(f"{task}-{key}", f"Excess bits by {key}; each dot is a seed.", figure)
        )
    return pictures


def _tested(groups: Sequence[Group]) -> dict[str, dict[str, dict[float, list[float]]]]:
    """Excess bits of every seed, by the setting that was tested alone, by model and by size."""
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
    return tested


def _steps(task: str, label: str, groups: Sequence[Group]) -> list[Picture]:
    """Accuracy by the task's label of steps, in evaluations on the task as trained."""
    found = {
        g.name: [e.steps for r in g.results for e in r.evaluations if e.steps and not e.task]
        for g in groups
    }
    found = {name: seeds for name, seeds in found.items() if seeds}
    if not found:
        return []
    caption = "Accuracy by how much had been seen: the median seed, and every seed."
    return [Picture(f"{task}-accuracy", caption, accuracy(found, f"{label}: accuracy"))]


def _conditions(task: str, n: int, group: Group) -> list[Picture]:
    """The score by condition, over the seeds that were evaluated on the task as trained."""
    tables = [e.conditions for r in group.results for e in r.evaluations if not e.task]
    if not tables or len(tables[0]) < 2 or not conditions_of(tables[0]):
        return []
    figure = by_condition(tables, f"{task.replace('_', ' ')}: {group.name}")
    caption = f"{group.name}: excess bits by condition, mean of {len(tables)} seeds."
    return [Picture(f"{task}-conditions-{n}", caption, figure)]
