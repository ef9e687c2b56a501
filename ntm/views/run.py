"""The pictures of one run: its learning curve, and one episode at work."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntm.analysis.trace import Trace, record
from ntm.arguments import whole
from ntm.errors import NTMError
from ntm.files import legible
from ntm.runs.folder import RunDir
from ntm.runs.models import load_model
from ntm.training import limits
from ntm.training.episodes import draw
from ntm.training.schema import Config
from ntm.training.streams import Stream, numpy_generator
from ntm.training.task_settings import as_tested
from ntm.views import animation, explorer, plots
from ntm.views.comparison import accuracy, curve_of
from tasks import Episode, Task

log = logging.getLogger("ntm")


class Pictures:
    """Writes the pictures of a run, and remembers which in ``written``.

    config: of the model as it is shown. task: what the episode was drawn from. options: the
    settings other than usual, which file names carry. out: a folder other than the run's.
    """

    def __init__(
        self, run: RunDir, config: Config, task: Task, episode: Episode, options: dict[str, int],
        out: Path | None,
    ) -> None:  # fmt: skip
        self.run, self.config, self.task = run, config, task
        conditions = {name: int(values[0]) for name, values in episode.conditions.items()}
        self.caption = f"{config.task.kind}: "
        self.caption += ", ".join(f"{name} {value}" for name, value in conditions.items())
        self.options = {**conditions, **options}
        self.name = legible(str(run.path))
        self.trace_file = run.trace_file if out is None else out / run.trace_file.name
        self._out = out
        self.written: list[Path] = []

    @property
    def title(self) -> str:
        """What is shown, with which memory, and of which run."""
        memory = self.config.model.memory
        slots = f", {memory.slots} slots" if memory and memory.slots else ""
        return f"{self.caption}{slots} ({self.name})"

    def learning_curve(self) -> None:
        """Training and validation over sequences."""
        figure = plots.learning_curve(
            self.run.rows(self.run.metrics_file),
            self.run.rows(self.run.validation_file),
            self.name,
            self.config.train.solved_bits,
            self.task.unit,
            self.config.train.curriculum is not None,
        )
        self.written.append(self._file("learning_curve", {}))
        plots.save(figure, self.written[-1])

    def memory(self, trace: Trace) -> None:
        """The memory and the heads over one episode, and the trace itself."""
        self.written.append(self._file("memory", self.options))
        plots.save(plots.memory_figure(trace, self.title, self.task.symbols), self.written[-1])
        trace.save(self.trace_file)
        self.written.append(self.trace_file)

    def accuracy(self) -> None:
        """Accuracy by step, from the last evaluation of the present weights that has it."""
        kept = self.run.evaluations() if self.config.task.symbols else []
        weights = self.run.load_best().state.get("sequences")
        by_step = [e.steps for e in kept if e.steps and not e.task and e.sequences == weights]
        if by_step:
            figure = accuracy({self.config.task.kind: by_step[-1:]}, f"{self.name}: right answers")
            self.written.append(self._file("accuracy", {}))
            plots.save(figure, self.written[-1])

    def explorer(self, trace: Trace) -> None:
        """A page to step through the episode."""
        self.written.append(self._file("explorer", self.options, ".html"))
        explorer.write(trace, self.title, self.written[-1], self.task.symbols)

    def episode(self, trace: Trace) -> None:
        """The episode as a GIF."""
        self.written.append(self._file("episode", self.options, ".gif"))
        animation.write(trace, self.caption, self.written[-1])

    def learning(self, traces: Mapping[int, Trace]) -> None:
        """The episode over training as a GIF. traces: by sequences."""
        curve = curve_of(self.run.rows(self.run.validation_file))
        self.written.append(self._file("learning", self.options, ".gif"))
        animation.write_learning(
            dict(traces), curve, self.caption, self.task.axis_label, self.written[-1]
        )

    def _file(self, name: str, options: dict[str, int], suffix: str = ".png") -> Path:
        file = self.run.picture(name, options).with_suffix(suffix)
        return file if self._out is None else self._out / file.name


def draw_run(
    run: RunDir,
    settings: Mapping[str, Any],
    slots: int | None,
    seed: int,
    explore: bool,
    animate: bool,
    learning: bool,
    out: str | os.PathLike[str] | None,
) -> list[Path]:
    """Draws a run, as :func:`ntm.api.plot` describes it; returns the files written."""
    if out is None and (obstacle := run.obstacle()) is not None:
        out = Path("plots")
        log.warning("%s: the pictures go to %s, or to --out FOLDER", obstacle, out)
    model, config = load_model(run, slots=slots)
    shown, episode = held_out_episode(config, settings, seed)
    moments = _snapshots(run) if learning else []
    options = {name: value for name, value in (("slots", slots), ("seed", seed)) if value}
    pictures = Pictures(run, config, shown, episode, options, None if out is None else Path(out))
    found = record(model, episode, shown.loss)
    pictures.learning_curve()
    pictures.memory(found)
    pictures.accuracy()
    if explore:
        pictures.explorer(found)
    if animate:
        pictures.episode(found)
    if moments:
        models = {n: load_model(run, slots=slots, snapshot=n)[0] for n in moments}
        pictures.learning({n: record(m, episode, shown.loss) for n, m in models.items()})
    return pictures.written


def held_out_episode(
    config: Config, settings: Mapping[str, Any], seed: int
) -> tuple[Task, Episode]:
    """A held-out task, by default of the size in validation, and one episode of it."""
    seed = whole("seed", seed)
    task = as_tested(config.task, dict(settings) or config.validation.task).held_out("test")
    limits.check(task, config.model, batch=1, history=False)
    return task, draw(task, numpy_generator(seed, Stream.EVALUATION), 1)


def _snapshots(run: RunDir) -> list[int]:
    """The sequences after which a run kept snapshots. Raises NTMError where there are none."""
    if not (moments := run.snapshots()):
        raise NTMError(
            f"{run.path}: no snapshots were kept; ntm train --set train.snapshots=24 keeps some"
        )
    if not run.rows(run.validation_file):
        raise NTMError(f"{run.validation_file}: holds no row of validation")
    return moments
