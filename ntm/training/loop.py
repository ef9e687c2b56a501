"""One training loop for every task and every model; it names none of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

import numpy as np
import torch

from ntm.analysis.evaluate import evaluate
from ntm.errors import NotFiniteError
from ntm.model import Model
from ntm.runs.folder import RunDir
from ntm.runs.models import choose_engine, load_weights, new_model
from ntm.training.curriculum import stages, task_at
from ntm.training.episodes import draw
from ntm.training.optim import Ridge, flatten
from ntm.training.saving import diagnosis, keep_snapshot, restore, save_checkpoint
from ntm.training.schedule import (
    Progress,
    advance_curriculum,
    has_cooled,
    is_lost,
    is_over,
    learning_rate,
    start_cooldown,
    thinning,
    verdict,
)
from ntm.training.schema import Config
from ntm.training.step import build_optimizer, clip, differentiation, observation
from ntm.training.streams import Stream, numpy_generator
from tasks.losses import Bits

#: A gradient may overflow while the loss is finite: the backward pass through a hundred steps of
#: sharpening can multiply by more than 10^38. Such a step is left out; so many in a row are an end.
OVERFLOWS = 10


class Watcher(Protocol):
    """Somebody who watches training: a progress bar, a log."""

    def reported(self, row: dict[str, float]) -> None:
        """A row of metrics was written."""

    def validated(self, row: dict[str, float]) -> None:
        """A row of validation was written."""


def train(
    run: RunDir,
    config: Config,
    device: torch.device,
    watcher: Watcher,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Trains until solved, or until the budget is used up; or until ``should_stop()``.

    A resumed run goes on bit for bit as if it had never stopped.
    """
    task, settings = config.task, config.train
    model = new_model(config, device)
    parameters = flatten(model)
    gradient = parameters.grad
    assert gradient is not None
    fused = choose_engine(config, model).engine == "fused"
    optimizer = build_optimizer(config, parameters, fused)
    differentiate = differentiation(model, parameters, config)
    if isinstance(optimizer, Ridge) and isinstance(task.loss, Bits):
        differentiate = observation(model, optimizer, task.loss, config.engine)
    rng = numpy_generator(config.seed, Stream.TRAINING)
    progress = Progress()
    if resume and run.has_started():
        progress = restore(run, model, optimizer, rng)
        if is_over(config, progress):
            progress.status = verdict(config, progress)
            return progress
        if has_cooled(config, progress):
            progress.cooling = None  # it is not solved by what solved means now
    else:
        save_checkpoint(run, model, optimizer, rng.bit_generator.state, progress)
        keep_snapshot(run, config, model, progress)
    started = time.perf_counter() - progress.seconds
    progress.status = "running"
    save, overflows, last_stage = False, 0, stages(config)

    over = is_over(config, progress)
    while not over:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, progress)

        stop = should_stop()  # asked before the draw: the state is taken only where it is needed
        generator = rng.bit_generator.state if save or stop else None
        episode = draw(task_at(config, progress.stage), rng, settings.batch).to(device)
        slots = None if settings.slots is None else _log_uniform(rng, *settings.slots)
        cost = differentiate(episode, slots)
        norm = torch.linalg.vector_norm(gradient)
        total, norm_value = cost.nats.sum().item(), norm.item()
        overflows = 0 if math.isfinite(norm_value) else overflows + 1
        if not math.isfinite(total) or overflows == OVERFLOWS:
            about = diagnosis(run, model, task, episode, cost.nats, slots)
            raise NotFiniteError(about)
        # Saved here: the weights have just proved good, and are not changed yet.
        if stop:
            progress.status = "interrupted"
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
        _add(
            progress.interval,
            bits=total / math.log(2),
            bit_errors=cost.errors.sum().item(),
            grad_norm=0 if overflows else norm_value * settings.batch,
            skipped=settings.batch if overflows else 0,
            sequences=settings.batch,
        )
        if progress.stage < last_stage:
            scored = episode.mask.sum().item()
            _add(progress.lesson, bits=total / math.log(2), scored=scored, sequences=settings.batch)
            advance_curriculum(config, progress)

        def due(every: int) -> bool:
            return progress.sequences // every > (progress.sequences - settings.batch) // every

        if due(settings.report_every * thinning(config, progress.sequences)):
            watcher.reported(_report(run, progress, optimizer.param_groups[0]["lr"]))
        if due(config.validation.every) or progress.sequences >= settings.sequences:
            _validate(run, config, model, progress, watcher)
            keep_snapshot(run, config, model, progress)
            over = is_over(config, progress)
            if not over:
                start_cooldown(config, progress)
            if is_lost(config, progress):
                load_weights(model, run.load_best(), run.best_file)
                progress.rollbacks += 1
                run.update_manifest(rollbacks=progress.rollbacks)
                # Before other weights become the best, so that a run that is killed goes on alike.
                save_checkpoint(run, model, optimizer, rng.bit_generator.state, progress)
                overflows = 0  # as in a run that is resumed here
        save = save or due(settings.checkpoint_every)

    progress.status = verdict(config, progress)
    save_checkpoint(run, model, optimizer, rng.bit_generator.state, progress)
    return progress


def _log_uniform(rng: np.random.Generator, low: int, high: int) -> int:
    return round(low * math.pow(high / low, rng.random()))


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
        nats = torch.full((1,), math.nan)
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
