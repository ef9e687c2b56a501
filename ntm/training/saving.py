"""What training writes into its run: checkpoints, snapshots, and a diagnosis of a failure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ntm.analysis.trace import first_non_finite, record
from ntm.errors import NTMError
from ntm.model import Model
from ntm.runs.folder import Checkpoint, RunDir
from ntm.runs.models import load_weights
from ntm.runs.status import Status
from ntm.training.schedule import Progress
from ntm.training.schema import Config
from tasks import Episode, Task


def save_checkpoint(
    run: RunDir, model: Model, optimizer: Optimizer, generator: Any, progress: Progress
) -> None:
    """Writes everything that resuming needs to continue bit for bit."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{name}"] = value
            else:
                numbers[f"{index}/{name}"] = value
    state = {
        "progress": asdict(progress),
        "generator": generator,
        "optimizer": numbers,
    }
    run.save_checkpoint(Checkpoint(model.state_dict(), tensors, state))


def restore(run: RunDir, model: Model, optimizer: Optimizer, rng: Any) -> Progress:
    """Loads the last checkpoint into model, optimiser and generator; returns the progress then."""
    checkpoint = run.load_checkpoint()
    load_weights(model, checkpoint, run.last_file)
    try:
        entries: dict[int, dict[str, Any]] = {}
        for key, value in {**checkpoint.optimizer, **checkpoint.state["optimizer"]}.items():
            index, _, name = key.partition("/")
            entries.setdefault(int(index), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": entries, "param_groups": groups})
        rng.bit_generator.state = checkpoint.state["generator"]
        progress = Progress(**checkpoint.state["progress"])
        progress.status = Status(progress.status)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NTMError(f"{run.last_file}: not a readable checkpoint, damaged: {error}") from None
    run.truncate(progress.sequences)
    return progress


def diagnosis(
    run: RunDir, model: Model, task: Task, episode: Episode, nats: Tensor, slots: int | None = None
) -> str:
    """Where a number that is not finite first arose, and what is kept of the run."""
    bad = torch.nonzero(~nats.isfinite()).flatten().tolist()
    what = "the loss" if bad else "the gradient"
    for index in bad or range(min(len(nats), 8)):  # a finite loss can have an infinite gradient
        if origin := first_non_finite(record(model, episode, task.loss, index, slots)):
            break
    else:
        gradients = {name: p.grad for name, p in model.named_parameters()}
        broken = [n for n, g in gradients.items() if g is not None and not g.isfinite().all()]
        origin = "the cross-entropy" if bad else ", ".join(broken) or "its norm"
    saved = run.load_checkpoint().state["progress"]["sequences"]
    return (
        f"{run.path}: {what} is not finite; it arose in {origin}. Training stopped; "
        f"the checkpoint of {saved} sequences is kept. A smaller "
        "train.optimizer.lr or a train.clip usually helps"
    )


def keep_snapshot(run: RunDir, config: Config, model: Model, progress: Progress) -> None:
    """Keeps the weights at every validation, or at every second, fourth ... of a long run."""
    most, every = config.train.snapshots, config.validation.every
    if not most:
        return
    stride = 1
    while progress.sequences // every // stride >= most:
        stride *= 2
    number = progress.sequences // every
    if number % stride == 0:
        run.save_snapshot(model.state_dict(), progress.sequences)
    for sequences in run.snapshots():  # the last validation may follow soon after another
        superseded = sequences // every == number and sequences != progress.sequences
        if sequences // every % stride or superseded:
            run.drop_snapshot(sequences)
