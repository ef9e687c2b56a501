"""The paper's figures and tables: which runs each needs, and where they come from."""

from __future__ import annotations

import re
import shlex
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ntm.analysis.results import TWICE, Group, Result, Trouble, find_runs, group, read_results
from ntm.errors import NTMError, UsageError
from ntm.files import write_file
from ntm.runs.executor import LocalExecutor
from ntm.runs.jobs import Job
from ntm.runs.launcher import INTERRUPTED
from ntm.runs.models import new_model
from ntm.runs.sweep import Attempts, SweepWatcher, lock, sweep
from ntm.training.load import load_config
from ntm.training.schema import Config
from ntm.views import paper
from ntm.views.drawing import StyledFigure
from ntm.views.paper_figures import FIGURES, NTM, Context, label
from ntm.views.plots import save
from ntm.views.report import markdown

#: Configs of the paper's three models: ``copy/ntm-ff``; its own row is ``copy/paper-ntm-ff``.
CONFIGS = {paper.LSTM: "lstm", paper.LSTM_NTM: "ntm-lstm", paper.FF: "ntm-ff"}
#: The Neural Turing Machine to train for a figure of one has an LSTM, but for these tasks.
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

    def job(self, folder: Path) -> Job:
        """What trains it, below the folder."""
        config = self.config
        return Job(self.name, tuple(self.settings), config.seed, folder / self.name, config)

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


TABLES = {"table1": paper.FF, "table2": paper.LSTM_NTM, "table3": paper.LSTM}


def names(asked: Sequence[str]) -> list[str]:
    """What is asked for, each once, in the paper's order; ``all`` is everything."""
    known = [*FIGURES, *TABLES]
    for name in asked:
        if name != "all" and name not in known:
            raise UsageError(f"{name}: should be fig3 to fig18, table1 to table3, or all")
    return [name for name in known if name in asked or "all" in asked]


def wanted_by(name: str, quick: bool) -> list[Wanted]:
    """The models that a figure is drawn from."""
    spec = FIGURES[name]
    return [Wanted(spec.task, model, quick) for model in spec.models]


def needs(asked: Iterable[str]) -> list[Wanted]:
    """The small versions that these figures are drawn from, each once; none of some."""
    every: dict[str, Wanted] = {}
    for name in asked:
        for wanted in wanted_by(name, quick=True) if name in FIGURES else ():
            every.setdefault(wanted.name, wanted)
    return list(every.values())


class Drawing(NamedTuple):
    """A figure with what it was drawn from, and what is missing."""

    figure: StyledFigure | None
    sources: list[str]
    missing: list[Wanted]


def draw(name: str, results: Sequence[Result], quick: bool = False) -> Drawing:
    """Draws a figure from runs that are there."""
    spec = FIGURES[name]
    found: dict[str, Group] = {}
    missing = []
    if spec.partly:
        results = [result for result in results if _reported(result)]
    for wanted in wanted_by(name, quick):
        if (g := choose(wanted, results)) is None:
            missing.append(wanted)
        else:
            found[wanted.model] = g
    sources = [source(g) for g in found.values()]
    if missing and not (spec.partly and found):
        return Drawing(None, sources, missing)
    whole = Wanted(spec.task, NTM, quick=False).config.validation_task
    task = Wanted(spec.task, NTM, quick=True).config.validation_task if quick else whole
    number = name.removeprefix("fig")
    title = f"Figure {number}{', in small' if quick else ''}. {spec.title}"
    return Drawing(spec.draw(Context(title, task, task == whole, found)), sources, missing)


def source(g: Group) -> str:
    """The runs that a model's curve or trace in a figure comes from."""
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


def train_missing(
    asked: Iterable[str],
    folder: Path,
    watcher: SweepWatcher,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Trains the small versions that these figures need, those that are missing, as a sweep.

    Raises NTMError where one could not be trained, or was interrupted.
    """
    jobs = [wanted.job(folder) for wanted in needs(asked)]
    executor = LocalExecutor(1)
    with lock(folder):
        attempts = Attempts(folder)
        for job in jobs:  # what failed in an earlier call is tried again
            attempts.forget(job)
        try:
            state = sweep(jobs, folder, executor, watcher, retries=0, should_stop=should_stop)
        finally:
            executor.stop()
    if state.failed:
        job, error = state.failed[0]
        raise NTMError(f"{job.folder}: {error}")
    if len(state.done) < len(jobs):
        raise NTMError(f"{folder}: interrupted; the same command goes on", exit_code=INTERRUPTED)


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
    words = ["train", wanted.name]
    words += [word for setting in wanted.settings for word in ("--set", setting)]
    begun = (Path("runs") / wanted.name / "seed-1" / "config.yaml").exists()
    return shlex.join(["ntm", *words, *(["--resume"] if begun else [])])


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
    needed = bool(needs(asked))
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
