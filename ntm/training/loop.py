"""The training loop, the same for every task and every model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch.optim import Optimizer

from ntm.analysis.evaluate import evaluate
from ntm.errors import NotFiniteError, UsageError
from ntm.model import Model
from ntm.runs.folder import RunDir
from ntm.runs.models import choose_engine, load_weights
from ntm.runs.status import Status
from ntm.training.curriculum import stages, task_at
from ntm.training.episodes import draw
from ntm.training.optim import flatten
from ntm.training.saving import diagnosis, keep_snapshot, restore, save_checkpoint
from ntm.training.schedule import (
    Progress,
    advance_curriculum,
    has_cooled,
    is_over,
    learning_rate,
    must_roll_back,
    start_cooldown,
    thinning,
    verdict,
)
from ntm.training.schema import Config
from ntm.training.step import build_optimizer, clip, differentiation
from ntm.training.streams import Stream, numpy_generator
from tasks import Episode

#: A gradient may overflow while the loss is finite: a backward pass through a hundred sharpenings
#: can multiply by more than 10^38. Such a step is skipped; this many in a row end training.
OVERFLOWS = 10


@runtime_checkable
class Watcher(Protocol):
    """Is shown the rows of training as they are written: a progress bar, an experiment tracker.

    Any object with these two methods is one. Their names are the columns of metrics.csv and of
    eval.csv; ``sequences`` counts the steps. What a watcher raises ends training.
    """

    def reported(self, row: dict[str, float]) -> None:
        """A row of metrics: sequences, seconds, bits, bit_errors, grad_norm, lr, skipped."""

    def validated(self, row: dict[str, float]) -> None:
        """A row of validation: sequences, seconds, bits, floor, bit_errors, sequence_accuracy."""


class Watchers:
    """Several watchers as one."""

    def __init__(self, *watchers: Watcher | None) -> None:
        self._watchers = [watcher for watcher in watchers if watcher is not None]

    def reported(self, row: dict[str, float]) -> None:
        for watcher in self._watchers:
            watcher.reported({**row})

    def validated(self, row: dict[str, float]) -> None:
        for watcher in self._watchers:
            watcher.validated({**row})


def check_watcher(watcher: object) -> None:
    """Raises UsageError where something else than a watcher, or None, was given."""
    if watcher is not None and not isinstance(watcher, Watcher):
        raise UsageError(
            f"watcher: should have the methods reported(row) and validated(row), which "
            f"{watcher!r} has not"
        )


def train(
    run: RunDir,
    config: Config,
    model: Model,
    watcher: Watcher,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Trains until solved, until the budget is used up, or until ``should_stop()``.

    model: as ``new_model(config, device)`` initialises it; it is trained in place.
    resume: continues from the last checkpoint, bit for bit as if training had never stopped.

    Raises NotFiniteError where the loss, or gradients in a row, are not finite.
    """
    task, settings = config.task, config.train
    parameters = flatten(model)
    gradient = parameters.grad
    assert gradient is not None
    fused = choose_engine(config, model).engine == "fused"
    optimizer = build_optimizer(config, parameters, fused)
    differentiate = differentiation(model, parameters, config, optimizer)
    rng = numpy_generator(config.seed, Stream.TRAINING)
    progress = _begin(run, config, model, optimizer, rng, resume)
    if progress.status is not Status.RUNNING:
        return progress
    started = time.perf_counter() - progress.seconds
    save, overflows, saved = False, 0, progress.sequences

    over = is_over(config, progress)
    while not over:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, progress)

        stop = should_stop()  # asked before the draw: a checkpoint holds the generator before it
        if stop and progress.sequences == saved:  # before a first step, which may compile
            progress.status = Status.INTERRUPTED
            return progress
        generator = rng.bit_generator.state if save or stop else None
        episode, slots = _draw(config, progress, rng, gradient.device)
        cost = differentiate(episode, slots)
        norm = torch.linalg.vector_norm(gradient)
        nats, norm_value = cost.nats.sum().item(), norm.item()
        overflows = 0 if math.isfinite(norm_value) else overflows + 1
        if not math.isfinite(nats) or overflows == OVERFLOWS:
            raise NotFiniteError(diagnosis(run, model, task, episode, cost.nats, slots))
        # Saved here: the weights have just proved good, and are not changed yet.
        if stop:
            progress.status = Status.INTERRUPTED
        if (save and not overflows) or stop:
            save_checkpoint(run, model, optimizer, generator, progress)
            save = False
        if stop:
            return progress

        if not overflows:
            clip(parameters, settings.clip, norm)
            optimizer.step()

        progress.sequences += settings.batch
        progress.seconds = time.perf_counter() - started
        errors = cost.errors.sum().item()
        _count(config, progress, episode, nats, errors, None if overflows else norm_value)

        if _due(config, progress, settings.report_every * thinning(config, progress.sequences)):
            watcher.reported(_report(run, progress, optimizer.param_groups[0]["lr"]))
        if (
            _due(config, progress, config.validation.every)
            or progress.sequences >= settings.sequences
        ):
            _validate(run, config, model, progress, watcher)
            keep_snapshot(run, config, model, progress)
            over = is_over(config, progress)
            if not over:
                start_cooldown(config, progress)
            if must_roll_back(config, progress):
                _roll_back(run, model, progress)
                # Before other weights become the best, so that a killed run resumes alike.
                save_checkpoint(run, model, optimizer, rng.bit_generator.state, progress)
                overflows = 0  # as in a run that is resumed here
        save = save or _due(config, progress, settings.checkpoint_every)

    progress.status = verdict(config, progress)
    save_checkpoint(run, model, optimizer, rng.bit_generator.state, progress)
    return progress


def _begin(
    run: RunDir,
    config: Config,
    model: Model,
    optimizer: Optimizer,
    rng: np.random.Generator,
    resume: bool,
) -> Progress:
    """Where training begins: at the last checkpoint, or with a first one.

    The status is RUNNING, or the verdict where there is nothing left to train.
    """
    progress = Progress()
    if resume and run.has_started():
        progress = restore(run, model, optimizer, rng)
        if is_over(config, progress):
            progress.status = verdict(config, progress)
            return progress
        if has_cooled(config, progress):
            progress.cooling = None  # solved_bits has changed, and it is not solved any more
    else:
        save_checkpoint(run, model, optimizer, rng.bit_generator.state, progress)
        keep_snapshot(run, config, model, progress)
    progress.status = Status.RUNNING
    return progress


def _draw(
    config: Config, progress: Progress, rng: np.random.Generator, device: torch.device
) -> tuple[Episode, int | None]:
    """The next batch, and the memory's slots where training varies their number."""
    task, settings = task_at(config, progress.stage), config.train
    episode = draw(task, rng, settings.batch).to(device)
    return episode, None if settings.slots is None else _log_uniform(rng, *settings.slots)


def _log_uniform(rng: np.random.Generator, low: int, high: int) -> int:
    return round(low * math.pow(high / low, rng.random()))


def _count(
    config: Config,
    progress: Progress,
    episode: Episode,
    nats: float,
    errors: float,
    norm: float | None,
) -> None:
    """Adds a step to the sums of the present row, and to those that the curriculum decides by.

    norm: of the gradient; None where the step was skipped.
    """
    batch, bits = config.train.batch, nats / math.log(2)
    _add(
        progress.interval,
        bits=bits,
        bit_errors=errors,
        grad_norm=0 if norm is None else norm * batch,
        skipped=batch if norm is None else 0,
        sequences=batch,
    )
    if progress.stage < stages(config):
        scored = episode.mask.sum().item()
        _add(progress.lesson, bits=bits, scored=scored, sequences=batch)
        advance_curriculum(config, progress)


def _due(config: Config, progress: Progress, every: int) -> bool:
    """Whether the last step has completed another ``every`` sequences."""
    return progress.sequences // every > (progress.sequences - config.train.batch) // every


def _roll_back(run: RunDir, model: Model, progress: Progress) -> None:
    """Returns to the best weights; the optimiser's averages and the generator stay as they are."""
    load_weights(model, run.load_best(), run.best_file)
    progress.rollbacks += 1
    run.manifest().rolled_back(progress.rollbacks)


def _validate(
    run: RunDir, config: Config, model: Model, progress: Progress, watcher: Watcher
) -> None:
    """Scores the model on the fixed validation episodes, and keeps it if it is the best so far."""
    # Seed 0 whatever the run's: all runs are validated, and stopped, on the same episodes.
    scores = evaluate(
        model,
        config.validation_task,
        config.validation.episodes,
        0,
        Stream.VALIDATION,
        config.engine,
    ).summary()
    if not math.isfinite(scores["bits"]):
        task = config.validation_task
        episode = task.sample(numpy_generator(0, Stream.VALIDATION), 1)
        nats = torch.full((1,), math.nan, device="cpu")
        device = model.readout.weight.device
        raise NotFiniteError(diagnosis(run, model, task, episode.to(device), nats))
    row = {"sequences": progress.sequences, "seconds": round(progress.seconds, 3)}
    row |= {name: scores[name] for name in ("bits", "floor", "bit_errors", "sequence_accuracy")}
    run.append(run.validation_file, row)
    progress.last_bits = above = scores["bits"] - scores["floor"]
    if progress.best_bits is None or above < progress.best_bits:
        progress.best_bits = above
        run.save_best(model.state_dict(), asdict(progress))
    watcher.validated(row)


def _report(run: RunDir, progress: Progress, lr: float) -> dict[str, float]:
    sums = progress.interval
    row = {"sequences": progress.sequences, "seconds": round(progress.seconds, 3)}
    row |= {n: sums[n] / sums["sequences"] for n in ("bits", "bit_errors")}
    row["grad_norm"] = sums["grad_norm"] / max(1, sums["sequences"] - sums["skipped"])
    row |= {"lr": lr, "skipped": sums["skipped"]}
    run.append(run.metrics_file, row)
    progress.interval = {}
    return row


def _add(sums: dict[str, float], **values: float) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value
