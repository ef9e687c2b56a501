"""The paper's figures and tables: which runs each needs, and what is drawn from them."""

from __future__ import annotations

import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ntm.analysis.evaluate import evaluate
from ntm.analysis.results import (
    TWICE,
    Group,
    Result,
    Trouble,
    find_runs,
    group,
    model_name,
    read_results,
)
from ntm.analysis.trace import Array, Trace, record
from ntm.errors import NTMError, UsageError
from ntm.files import write_file
from ntm.runs.folder import RunDir
from ntm.runs.models import load_model, new_model
from ntm.training.load import load_config
from ntm.training.schema import Config
from ntm.training.streams import Stream, numpy_generator
from ntm.training.task_settings import with_settings
from ntm.views import figures, paper
from ntm.views.comparison import Curve
from ntm.views.plots import save
from ntm.views.report import markdown
from tasks import Task

#: Configs of the paper's three models: ``copy/ntm-ff``; its own row is ``copy/paper-ntm-ff``.
CONFIGS = {paper.LSTM: "lstm", paper.LSTM_NTM: "ntm-lstm", paper.FF: "ntm-ff"}
#: Where a figure shows one Neural Turing Machine, either of the paper's controllers will do;
#: trained is the one with LSTM, but for the tasks that the other learns better.
NTM = "NTM"
BETTER = {"priority_sort": paper.FF}

#: Where ``--quick`` trains the small versions.
SMALL = Path("runs/quick")
#: Small versions, for ``--quick``: seconds of training each. By task: settings of every model, and
#: the sequences that the LSTM alone is given.
QUICK: dict[str, tuple[list[str], int]] = {
    "copy": (["task.length=[1,10]", "validation.task={length: 10}"], 64_000),
    "repeat_copy": (
        ["task.length=[1,4]", "task.repeats=[1,4]", "task.width=4",
         "validation.task={length: 4, repeats: 4}", "train.schedule.decay_sequences=10000"], 64_000,
    ),
    "associative_recall": (
        ["task.items=[2,3]", "task.width=4", "task.item_length=2", "validation.task={items: 3}",
         "train.batch=4", "train.schedule.decay_sequences=20000", "train.sequences=160000"], 64_000,
    ),
    "ngram": (
        ["task.order=4", "task.length=100", "train.schedule.decay_sequences=16000",
         "train.sequences=40000"],
        32_000,
    ),
    "priority_sort": (
        ["task.items=10", "task.sorted=8", "validation.task={sorted: 8}",
         "train.schedule={kind: linear}", "train.sequences=120000"], 64_000,
    ),
}  # fmt: skip


class Wanted(NamedTuple):
    """A model trained on a task: what a figure is drawn from."""

    task: str
    model: str
    quick: bool

    @property
    def settings(self) -> list[str]:
        """Of its config: none, but for a small version."""
        if not self.quick:
            return []
        settings, alone = QUICK[self.task]
        if self.model != paper.LSTM:
            return settings
        easier = [s for s in settings if not s.startswith("train.")]
        return [*easier, f"train.sequences={alone}"]

    @property
    def name(self) -> str:
        """Its config's."""
        either = BETTER.get(self.task, paper.LSTM_NTM)
        return f"{self.task}/{CONFIGS[either if self.model == NTM else self.model]}"

    @property
    def config(self) -> Config:
        """How it is trained by the command."""
        return load_config(self.name, self.settings)

    def command(self, folder: Path | None = None) -> list[str]:
        """What trains it: the words after ``ntm``."""
        words = ["train", self.name]
        words += [word for setting in self.settings for word in ("--set", setting)]
        return [*words, "--run", str(folder / self.name)] if folder else words

    def fits(self, result: Result) -> bool:
        """Whether a run is of this model on this task, however it was trained."""
        config = result.config
        controller, memory = config.model.controller, config.model.memory
        if config.model.direction != "causal":  # it has an advantage that the paper's did not have
            return False
        tasks = [self.config.task.held_out("test")]
        if not self.quick:  # the paper's repeat copy has vectors of 6 bits, ours of 8
            tasks.append(load_config(f"{self.task}/paper-ntm-lstm").task.held_out("test"))
        if config.task.held_out("test") not in tasks:
            return False
        if self.model == paper.LSTM:
            return memory is None and controller.kind == "lstm"
        either = ("lstm", "feedforward")
        kinds = {paper.LSTM_NTM: ("lstm",), paper.FF: ("feedforward",), NTM: either}
        return memory is not None and controller.kind in kinds[self.model]


def _reported(result: Result) -> bool:
    """Whether it was long enough to have a row of training, which the curves are drawn from."""
    return bool(result.run.rows(result.run.metrics_file))


def choose(wanted: Wanted, results: Iterable[Result]) -> Group | None:
    """Of the configs whose runs fit: solved on most seeds, then of most seeds, then the best."""
    fitting = [result for result in results if wanted.fits(result)]
    groups = group(fitting).get(wanted.task, [])

    def rank(g: Group) -> tuple[float, int, float]:
        solved = sum(r.solved is not None for r in g.results) / len(g.results)
        return (-solved, -len(g.results), statistics.median(g.final_bits))

    return min(groups, key=rank, default=None)


Found = Mapping[str, Group]  # by model


@dataclass(frozen=True)
class Plan:
    """A figure: what it shows, the models it needs, and how it is drawn.

    partly: whether it is worth drawing with some of its models.
    """

    title: str
    task: str
    models: tuple[str, ...]
    draw: Callable[[str, Task, Found], Figure]
    partly: bool = False

    def needs(self, quick: bool) -> list[Wanted]:
        """The models that it is drawn from."""
        return [Wanted(self.task, model, quick) for model in self.models]


# What is drawn


def _learning(top: tuple[float, float], title: str, task: Task, found: Found) -> Figure:
    """Training cost as the paper has it, on the task as it is trained, or else validation."""
    validated = [model for model, g in found.items() if _other_cost(g.median.config)]
    curves = {model: [_training(r) for r in g.results] for model, g in found.items()}
    full = task == Wanted(task.kind, NTM, quick=False).config.validation_task
    optimum = None
    if task.kind == "ngram":
        floors = [r.validation[-1]["floor"] for g in found.values() for r in g.results]
        optimum = statistics.fmean(floors)
    readings = paper.LEARNING.get(task.kind, []) if full else []
    if full and task.kind == "repeat_copy":
        widths = {g.results[0].config.task.output_size - 1 for g in found.values()}
        bits = " and ".join(map(str, sorted(widths)))
        title += f"\n(vectors of {bits} bits; the paper's readings fit 6)"
    return figures.learning(curves, title, readings, top if full else None, optimum, validated)


def _other_cost(config: Config) -> bool:
    """Whether training costs what the task does not: it begins easier, or has hard cases."""
    return config.train.curriculum is not None or getattr(config.task, "hard_fraction", 0) > 0


def _training(result: Result) -> Curve:
    if _other_cost(result.config):
        rows = result.validation
        return Curve(np.array([r["sequences"] for r in rows]), np.array([r["bits"] for r in rows]))
    rows = result.run.rows(result.run.metrics_file)
    if not rows:
        raise NTMError(f"{result.run.metrics_file}: holds no row of training")
    return Curve(np.array([r["sequences"] for r in rows]), np.array([r["bits"] for r in rows]))


def _trace(g: Group, **settings: Any) -> Trace:
    """The median seed at work on one episode, of the task as it is trained but for the settings."""
    model, config = load_model(g.median.run)
    task = with_settings(config.validation_task, settings)
    return record(model, task.sample(numpy_generator(0, Stream.EVALUATION), 1), task.loss)


def _largest(task: Task, name: str) -> int:
    value = getattr(task, name)
    return int(value[1] if isinstance(value, tuple) else value)


def _copies(title: str, task: Task, found: Found) -> Figure:
    """At 0.5, 1, 1.5, 2.5 and 6 times the longest in training: 10, 20, 30, 50 and 120."""
    (g,) = found.values()
    trained = _largest(task, "length")
    lengths = [max(1, round(trained * share)) for share in (0.5, 1, 1.5, 2.5, 6)]
    each = [(f"length {n}", _trace(g, length=n)) for n in lengths]
    return figures.answers([each[:4], each[4:]], f"{title}: {label(g)}, trained on up to {trained}")


def _repeats(title: str, task: Task, found: Found) -> Figure:
    length, repeats = _largest(task, "length"), _largest(task, "repeats")
    sizes = [(length, 2 * repeats), (2 * length, repeats)]
    rows = [
        [(f"{label(g)}, length {n}, repeat {m}", _trace(g, length=n, repeats=m))]
        for g in found.values()
        for n, m in sizes
    ]
    most = f"{length} \N{MULTIPLICATION SIGN} {repeats}"
    return figures.answers(rows, f"{title}, trained on up to {most}")


def _memory(title: str, task: Task, found: Found) -> Figure:
    (g,) = found.values()
    trace = _trace(g)
    spans: list[figures.Span] = []
    contexts: dict[str, Array] = {}
    if task.kind == "associative_recall":
        spans = _query(trace, getattr(task, "item_length", 3), getattr(task, "width", 6))
    if task.kind == "ngram":
        contexts = figures.repeated_contexts(trace.inputs[:, 0], getattr(task, "order", 6))
    return figures.memory_use(trace, f"{title} ({label(g)})", spans, contexts)


def _query(trace: Trace, length: int, width: int) -> list[figures.Span]:
    """Where the queried item and the one after it were shown, and where that was to be said."""
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


def _items(title: str, task: Task, found: Found) -> Figure:
    trained = _largest(task, "items")
    full = trained == 6
    at = range(6, 21, 2) if full else range(trained, 3 * trained + 1, max(1, trained // 2))
    sizes: dict[str, dict[int, list[float]]] = {model: {} for model in found}
    for model, g in found.items():
        for result in g.results:
            trained_model, config = load_model(result.run)
            for n in at:
                other = with_settings(config.validation_task, {"items": n})
                bits = float(evaluate(trained_model, other, episodes=100).bits.mean())
                sizes[model].setdefault(n, []).append(bits)
    readings = {m: paper.RECALL_BY_ITEMS[m] for m in found} if full else {}
    return figures.by_items(sizes, readings, trained, title)


def _predictions(title: str, task: Task, found: Found) -> Figure:
    traces = {model: _trace(g) for model, g in found.items()}
    first = next(iter(traces.values()))
    episode = task.sample(numpy_generator(0, Stream.EVALUATION), 1)
    bits = first.targets[:, 0]
    assert np.array_equal(bits, episode.targets[:, 0, 0].numpy())
    optimal = task.bayes(episode.targets[..., 0])[:, 0].numpy()  # type: ignore[attr-defined]
    lines = {"optimal": optimal, **{m: trace.outputs[:, 0] for m, trace in traces.items()}}
    return figures.predictions(bits, lines, title, start=len(bits) // 2)


def _sort_example(title: str, task: Task, found: Found) -> Figure:
    episode = task.sample(numpy_generator(0, Stream.EVALUATION), 1)
    inputs, targets, mask = (x[:, 0].numpy() for x in episode[:3])
    return figures.sort_example(Trace(inputs, targets, mask, targets, None), title)


def _sort_use(title: str, task: Task, found: Found) -> Figure:
    (g,) = found.values()
    return figures.sort_use(_trace(g), f"{title} ({label(g)})")


_ALL = (paper.LSTM, paper.LSTM_NTM, paper.FF)

FIGURES: dict[str, Plan] = {
    "fig3": Plan("Copy, learning curves", "copy", _ALL, partial(_learning, (0, 10)), partly=True),
    "fig4": Plan("NTM generalisation on copy", "copy", (NTM,), _copies),
    "fig5": Plan("LSTM generalisation on copy", "copy", (paper.LSTM,), _copies),
    "fig6": Plan("Memory use in copy", "copy", (NTM,), _memory),
    "fig7": Plan(
        "Repeat copy, learning curves", "repeat_copy", _ALL, partial(_learning, (0, 200)),
        partly=True,
    ),
    "fig8": Plan(
        "Generalisation on repeat copy", "repeat_copy", (NTM, paper.LSTM), _repeats, partly=True
    ),
    "fig9": Plan("Memory use in repeat copy", "repeat_copy", (NTM,), _memory),
    "fig10": Plan(
        "Associative recall, learning curves", "associative_recall", _ALL,
        partial(_learning, (0, 20)), partly=True,
    ),
    "fig11": Plan(
        "Generalisation on associative recall", "associative_recall", _ALL, _items, partly=True
    ),
    "fig12": Plan("Memory use in associative recall", "associative_recall", (NTM,), _memory),
    "fig13": Plan(
        "Dynamic n-grams, learning curves", "ngram", _ALL, partial(_learning, (130, 160)),
        partly=True,
    ),
    "fig14": Plan(
        "Dynamic n-grams, predictions", "ngram", (paper.LSTM_NTM, paper.LSTM), _predictions,
        partly=True,
    ),
    "fig15": Plan("Memory use in dynamic n-grams", "ngram", (NTM,), _memory),
    "fig16": Plan("An example of priority sort", "priority_sort", (), _sort_example),
    "fig17": Plan("Memory use in priority sort", "priority_sort", (NTM,), _sort_use),
    "fig18": Plan(
        "Priority sort, learning curves", "priority_sort", _ALL, partial(_learning, (0, 140)),
        partly=True,
    ),
}  # fmt: skip

TABLES = {"table1": paper.FF, "table2": paper.LSTM_NTM, "table3": paper.LSTM}


def names(asked: Sequence[str]) -> list[str]:
    """What is asked for, each once, in the paper's order; ``all`` is everything."""
    known = [*FIGURES, *TABLES]
    for name in asked:
        if name != "all" and name not in known:
            raise UsageError(f"{name}: should be fig3 to fig18, table1 to table3, or all")
    return [name for name in known if name in asked or "all" in asked]


def needs(asked: Iterable[str]) -> list[Wanted]:
    """The small versions that these figures are drawn from, each once."""
    every: dict[str, Wanted] = {}
    for name in asked:
        for wanted in FIGURES[name].needs(quick=True) if name in FIGURES else ():
            every.setdefault(wanted.name, wanted)
    return list(every.values())


class Drawing(NamedTuple):
    """A figure with what it was drawn from, and what is missing."""

    figure: Figure | None
    sources: list[str]
    missing: list[Wanted]


def draw(name: str, results: Sequence[Result], quick: bool = False) -> Drawing:
    """Draws a figure from runs that are there."""
    plan = FIGURES[name]
    found: dict[str, Group] = {}
    missing = []
    if plan.partly:
        results = [result for result in results if _reported(result)]
    for wanted in plan.needs(quick):
        if (g := choose(wanted, results)) is None:
            missing.append(wanted)
        else:
            found[wanted.model] = g
    sources = [source(g) for g in found.values()]
    if missing and not (plan.partly and found):
        return Drawing(None, sources, missing)
    task = Wanted(plan.task, NTM, quick).config.validation_task
    number = name.removeprefix("fig")
    title = f"Figure {number}{', in small' if quick else ''}. {plan.title}"
    return Drawing(plan.draw(title, task, found), sources, missing)


def label(g: Group) -> str:
    """The model in a few words; in a figure there is one of its kind."""
    return model_name(g.results[0].config)


def source(g: Group) -> str:
    """From which runs a model's part of a figure is."""
    seeds = ", ".join(str(r.config.seed) for r in g.results)
    if len(g.results) == 1:
        return f"{label(g)}: {g.median.run.path}"
    return f"{label(g)}: seeds {seeds}, median {g.median.run.path}"


def table(name: str) -> str:
    """A table of the paper's settings in Markdown, with the parameters that they have here."""
    model = TABLES[name]
    heads = ["task", *(["heads"] if model != paper.LSTM else []), "size", "learning rate"]
    heads += ["the paper's parameters", "parameters here", "config"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in paper.TABLES[model]:
        config = f"{row.task}/paper-{CONFIGS[model]}"
        ours = sum(p.numel() for p in new_model(load_config(config)).parameters())
        cells = [row.task.replace("_", " "), *([str(row.heads)] if row.heads else []), row.size]
        lines.append(
            f"| {' | '.join([*cells, row.lr, f'{row.parameters:,}', f'{ours:,}', config])} |"
        )
    return "\n".join(lines)


def train_missing(wanted: Wanted, folder: Path) -> None:
    """Trains a small version, or goes on with it, as a user would from the command line."""
    run = RunDir(folder / wanted.name)
    if run.config_file.exists() and run.manifest().get("status") in ("solved", "budget"):
        return
    words = wanted.command(folder) + (["--resume"] if run.config_file.exists() else [])
    print("$", shlex.join(["ntm", *words]), file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "ntm.cli", *words], check=False)  # noqa: S603
    if done.returncode:
        raise NTMError(f"{run.path}: was not trained to its end", exit_code=done.returncode)


_HEAD = """# The paper's figures, from our own runs

Graves, Wayne and Danihelka, Neural Turing Machines (2014), arXiv 1410.5401. Hollow marks are
readings off the paper's plots, so rough.
"""


def gallery(written: Mapping[str, Sequence[str]], quick: bool, before: str = "") -> str:
    """A page of Markdown with every figure and what it was drawn from.

    written: the sources of each. before: the page as it was, of which the other figures stay.
    """
    parts = {}
    for part in re.split(r"\n(?=## )", before)[1:]:
        if heading := re.match(r"## (Figure|Table) (\d+)", part):
            parts[{"Figure": "fig", "Table": "table"}[heading[1]] + heading[2]] = part.strip()
    for name, sources in written.items():
        lines: list[str] = []
        if name in TABLES:
            memory = "" if name == "table3" else ", memory 128 x 20"
            parts[name] = f"## Table {name[-1]}. {TABLES[name]}{memory}\n\n{table(name)}"
            continue
        small = ", in small" if quick else ""
        lines += [f"## Figure {name.removeprefix('fig')}{small}. {FIGURES[name].title}"]
        lines += ["", f"![{FIGURES[name].title}]({name}.png)", ""]
        lines += [f"- {markdown(text)}" for text in sources]
        parts[name] = "\n".join(lines).strip()
    known = [name for name in [*FIGURES, *TABLES] if name in parts]
    return "\n\n".join([_HEAD.strip(), *(parts[name] for name in known)]) + "\n"


def command(wanted: Wanted) -> str:
    """What a user types to have the run, or to have it whole."""
    begun = (Path("runs") / wanted.name / "seed-1" / "config.yaml").exists()
    return shlex.join(["ntm", *wanted.command(), *(["--resume"] if begun else [])])


@dataclass
class Reproduction:
    """The paper's figures and tables, as far as there are runs to draw them from."""

    files: list[Path] = field(default_factory=list)
    tables: dict[str, str] = field(default_factory=dict)  # Markdown, by name
    missing: list[str] = field(default_factory=list)  # per missing run, the command that trains it
    not_drawn: list[str] = field(default_factory=list)
    left_out: list[Trouble] = field(default_factory=list)


def read_runs(
    asked: Sequence[str], folders: Sequence[Path], quick: bool
) -> tuple[list[Result], list[Trouble]]:
    """The runs to draw from, and those that cannot be read or have not ended.

    folders: by default ``runs``, if it holds any. quick: the small versions alone; otherwise they
    are left out, since they would pass for the paper's where only their training was shorter.
    """
    places = [SMALL] if quick else list(folders) or [Path("runs")]
    there = [folder for folder in places if folders or any(folder.rglob("config.yaml"))]
    needed = any(FIGURES[name].models for name in asked if name in FIGURES)
    found, troubles = read_results(find_runs(there) if there and (needed or folders) else [])
    if not quick:
        found = [r for r in found if SMALL.resolve() not in r.run.path.resolve().parents]
    return found, [t for t in troubles if not t.problem.startswith(TWICE)]


def make(
    asked: Sequence[str],
    found: Sequence[Result],
    left_out: list[Trouble],
    out: Path,
    quick: bool,
) -> Reproduction:
    """Draws figures and tables into a folder, with a page that shows them all."""
    done = Reproduction(left_out=left_out)
    written: dict[str, list[str]] = {}
    for name in asked:
        if name in TABLES:
            done.tables[name], written[name] = table(name), []
            done.files.append(out / f"{name}.md")
            write_file(done.files[-1], done.tables[name] + "\n")
            continue
        drawing = draw(name, found, quick)
        without = "not drawn" if drawing.figure is None else "drawn without it"
        done.missing += [f"{name}: {without}: {command(wanted)}" for wanted in drawing.missing]
        if drawing.figure is None:
            done.not_drawn.append(name)
            continue
        written[name] = drawing.sources
        done.files.append(out / f"{name}.png")
        save(drawing.figure, done.files[-1])
    if written:
        page = out / "figures.md"
        before = page.read_text("utf-8") if page.is_file() else ""
        write_file(page, gallery(written, quick, before))
        done.files.append(page)
    return done
