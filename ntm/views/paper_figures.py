"""The paper's figures 3 to 18: the models that each shows, and how it is drawn from their runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ntm.analysis.probe import bits_at, trace_at
from ntm.analysis.results import Group, Result, model_name
from ntm.analysis.trace import Array, Trace
from ntm.errors import NTMError
from ntm.training.episodes import draw
from ntm.training.schema import Config
from ntm.training.streams import Stream, numpy_generator
from ntm.views import figures, paper
from ntm.views.comparison import Curve
from ntm.views.drawing import StyledFigure
from tasks import Task

#: Where a figure shows one Neural Turing Machine, either of the paper's controllers will do.
NTM = "NTM"

Found = Mapping[str, Group]  # by model


@dataclass(frozen=True)
class Context:
    """What a figure is drawn from.

    task: as it is validated. full: whether that is the paper's task, so that its readings apply.
    found: the seeds of each model.
    """

    title: str
    task: Task
    full: bool
    found: Found


@dataclass(frozen=True)
class FigureSpec:
    """A figure: what it shows, the models it needs, and how it is drawn.

    partly: whether it is worth drawing with some of its models.
    """

    title: str
    task: str
    models: tuple[str, ...]
    draw: Callable[[Context], StyledFigure]
    partly: bool = False


def label(group: Group) -> str:
    """The model in a few words; in a figure there is one of its kind."""
    return model_name(group.results[0].config)


def _learning(top: tuple[float, float], given: Context) -> StyledFigure:
    """Training cost as in the paper, on the task as it is trained, or else validation."""
    found, kind, title = given.found, given.task.kind, given.title
    validated = [model for model, g in found.items() if _costs_otherwise(g.median.config)]
    curves = {model: [_training(r) for r in g.results] for model, g in found.items()}
    optimum = None
    if kind == "ngram":
        floors = [r.validation[-1]["floor"] for g in found.values() for r in g.results]
        optimum = statistics.fmean(floors)
    readings = paper.LEARNING.get(kind, []) if given.full else []
    if given.full and kind == "repeat_copy":
        widths = {g.results[0].config.task.output_size - 1 for g in found.values()}
        bits = " and ".join(map(str, sorted(widths)))
        title += f"\n(vectors of {bits} bits; the paper's readings fit 6)"
    limits = top if given.full else None
    return figures.learning(curves, title, readings, limits, optimum, validated)


def _costs_otherwise(config: Config) -> bool:
    """Whether training costs what the task does not: it begins easier, or has hard cases."""
    return config.train.curriculum is not None or getattr(config.task, "hard_fraction", 0) > 0


def _training(result: Result) -> Curve:
    rows = result.validation
    if not _costs_otherwise(result.config):
        rows = result.run.rows(result.run.metrics_file)
        if not rows:
            raise NTMError(f"{result.run.metrics_file}: holds no row of training")
    return Curve(np.array([r["sequences"] for r in rows]), np.array([r["bits"] for r in rows]))


def _largest(task: Task, name: str) -> int:
    value = getattr(task, name)
    return int(value[1] if isinstance(value, tuple) else value)


def _copies(given: Context) -> StyledFigure:
    """At 0.5, 1, 1.5, 2.5 and 6 times the longest in training: 10, 20, 30, 50 and 120."""
    (g,) = given.found.values()
    trained = _largest(given.task, "length")
    lengths = [max(1, round(trained * share)) for share in (0.5, 1, 1.5, 2.5, 6)]
    each = [(f"length {n}", trace_at(g.median, length=n)) for n in lengths]
    title = f"{given.title}: {label(g)}, trained on up to {trained}"
    return figures.answers([each[:4], each[4:]], title)


def _repeats(given: Context) -> StyledFigure:
    length, repeats = _largest(given.task, "length"), _largest(given.task, "repeats")
    sizes = [(length, 2 * repeats), (2 * length, repeats)]
    rows = [
        [(f"{label(g)}, length {n}, repeat {m}", trace_at(g.median, length=n, repeats=m))]
        for g in given.found.values()
        for n, m in sizes
    ]
    most = f"{length} \N{MULTIPLICATION SIGN} {repeats}"
    return figures.answers(rows, f"{given.title}, trained on up to {most}")


def _memory(given: Context) -> StyledFigure:
    (g,) = given.found.values()
    trace, task = trace_at(g.median), given.task
    spans: list[figures.Span] = []
    contexts: dict[str, Array] = {}
    if task.kind == "associative_recall":
        spans = _query(trace, getattr(task, "item_length", 3), getattr(task, "width", 6))
    if task.kind == "ngram":
        contexts = figures.repeated_contexts(trace.inputs[:, 0], getattr(task, "order", 6))
    return figures.memory_use(trace, f"{given.title} ({label(g)})", spans, contexts)


def _query(trace: Trace, length: int, width: int) -> list[figures.Span]:
    """Where the queried item and the next one were shown, the query, and the answer's place."""
    answer = int(np.argmax(trace.mask))
    query = trace.inputs[answer - 1 - length : answer - 1, :width]
    step = length + 1
    for start in range(1, answer - step, step):
        if np.array_equal(trace.inputs[start : start + length, :width], query):
            following = start + step
            return [
                figures.Span(start, start + length, figures.RED, "queried"),
                figures.Span(following, following + length, figures.GREEN, "answer"),
                figures.Span(answer - 1 - length, answer - 1, figures.RED, "query"),
                figures.Span(answer, answer + length, figures.GREEN, ""),
            ]
    return []


def _items(given: Context) -> StyledFigure:
    trained = _largest(given.task, "items")
    full = trained == 6
    at = list(range(6, 21, 2) if full else range(trained, 3 * trained + 1, max(1, trained // 2)))
    sizes: dict[str, dict[int, list[float]]] = {}
    for model, g in given.found.items():
        seeds = [bits_at(result, "items", at) for result in g.results]
        sizes[model] = {n: list(bits) for n, bits in zip(at, zip(*seeds, strict=True), strict=True)}
    readings = {m: paper.RECALL_BY_ITEMS[m] for m in given.found} if full else {}
    return figures.by_items(sizes, readings, trained, given.title)


def _predictions(given: Context) -> StyledFigure:
    task = given.task
    traces = {model: trace_at(g.median) for model, g in given.found.items()}
    first = next(iter(traces.values()))
    episode = draw(task, numpy_generator(0, Stream.EVALUATION), 1)
    bits = first.targets[:, 0]
    assert np.array_equal(bits, episode.targets[:, 0, 0].numpy())
    optimal = task.bayes(episode.targets[..., 0])[:, 0].numpy()  # type: ignore[attr-defined]
    lines = {"optimal": optimal, **{m: trace.outputs[:, 0] for m, trace in traces.items()}}
    return figures.predictions(bits, lines, given.title, start=len(bits) // 2)


def _sort_example(given: Context) -> StyledFigure:
    episode = draw(given.task, numpy_generator(0, Stream.EVALUATION), 1)
    inputs, targets, mask = (x[:, 0].numpy() for x in episode[:3])
    return figures.sort_example(Trace(inputs, targets, mask, targets, None), given.title)


def _sort_use(given: Context) -> StyledFigure:
    (g,) = given.found.values()
    return figures.sort_use(trace_at(g.median), f"{given.title} ({label(g)})")


_ALL = (paper.LSTM, paper.LSTM_NTM, paper.FF)

FIGURES: dict[str, FigureSpec] = {
    "fig3": FigureSpec(
        "Copy, learning curves", "copy", _ALL, partial(_learning, (0, 10)), partly=True
    ),
    "fig4": FigureSpec("NTM generalisation on copy", "copy", (NTM,), _copies),
    "fig5": FigureSpec("LSTM generalisation on copy", "copy", (paper.LSTM,), _copies),
    "fig6": FigureSpec("Memory use in copy", "copy", (NTM,), _memory),
    "fig7": FigureSpec(
        "Repeat copy, learning curves", "repeat_copy", _ALL, partial(_learning, (0, 200)),
        partly=True,
    ),
    "fig8": FigureSpec(
        "Generalisation on repeat copy", "repeat_copy", (NTM, paper.LSTM), _repeats, partly=True
    ),
    "fig9": FigureSpec("Memory use in repeat copy", "repeat_copy", (NTM,), _memory),
    "fig10": FigureSpec(
        "Associative recall, learning curves", "associative_recall", _ALL,
        partial(_learning, (0, 20)), partly=True,
    ),
    "fig11": FigureSpec(
        "Generalisation on associative recall", "associative_recall", _ALL, _items, partly=True
    ),
    "fig12": FigureSpec("Memory use in associative recall", "associative_recall", (NTM,), _memory),
    "fig13": FigureSpec(
        "Dynamic n-grams, learning curves", "ngram", _ALL, partial(_learning, (130, 160)),
        partly=True,
    ),
    "fig14": FigureSpec(
        "Dynamic n-grams, predictions", "ngram", (paper.LSTM_NTM, paper.LSTM), _predictions,
        partly=True,
    ),
    "fig15": FigureSpec("Memory use in dynamic n-grams", "ngram", (NTM,), _memory),
    "fig16": FigureSpec("An example of priority sort", "priority_sort", (), _sort_example),
    "fig17": FigureSpec("Memory use in priority sort", "priority_sort", (NTM,), _sort_use),
    "fig18": FigureSpec(
        "Priority sort, learning curves", "priority_sort", _ALL, partial(_learning, (0, 140)),
        partly=True,
    ),
}  # fmt: skip
