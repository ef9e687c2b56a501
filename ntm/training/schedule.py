"""Where training stands, and what follows from it: learning rate, cooldown, curriculum, end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ntm.runs.status import Status
from ntm.training.schema import Config

#: This many rows of metrics are written every ``report_every`` sequences; later ones are means over
#: longer and longer intervals, so that a very long run does not fill a disk.
ROWS = 10_000


@dataclass
class Progress:
    """Where training stands: with weights, optimiser and generator, all that resuming needs."""

    sequences: int = 0
    seconds: float = 0.0
    best_bits: float | None = None  # excess bits of the best validation, whose weights are kept
    last_bits: float | None = None  # excess bits of the last validation
    cooling: int | None = None  # sequences at which the present cooldown began
    status: Status = Status.RUNNING
    interval: dict[str, float] = field(default_factory=dict)  # sums since the last report
    stage: int = 0  # of the curriculum
    lesson: dict[str, float] = field(default_factory=dict)  # sums since its last decision
    rollbacks: int = 0  # to the best weights


def learning_rate(config: Config, progress: Progress) -> float:
    """The learning rate for the next sequences."""
    schedule, lr = config.train.schedule, config.train.optimizer.lr
    sequences = progress.sequences
    if sequences < schedule.warmup:
        return lr * min(1.0, (sequences + config.train.batch) / schedule.warmup)
    if schedule.kind == "constant" or (schedule.kind == "cooldown" and progress.cooling is None):
        return lr
    if schedule.decay_sequences is not None and progress.cooling is not None:
        left = max(0.0, 1 - (sequences - progress.cooling) / schedule.decay_sequences)
    else:
        left = 1 - (sequences - schedule.warmup) / max(1, config.train.sequences - schedule.warmup)
    if schedule.kind == "exponential":
        return lr * math.pow(schedule.final, 1 - left)
    share = (1 - math.cos(math.pi * left)) / 2 if schedule.kind == "cosine" else left
    return lr * (schedule.final + (1 - schedule.final) * share)


def advance_curriculum(config: Config, progress: Progress) -> None:
    """Enters the next stage of the curriculum if the last ``every`` sequences cost little."""
    curriculum, sums = config.train.curriculum, progress.lesson
    if curriculum is not None and sums["sequences"] >= curriculum.every:
        progress.stage += sums["bits"] < curriculum.advance_bits * sums["scored"]
        progress.lesson = {}


def has_cooled(config: Config, progress: Progress) -> bool:
    """Whether a cooldown has ended."""
    over = config.train.schedule.decay_sequences
    return (
        over is not None
        and progress.cooling is not None
        and progress.sequences >= progress.cooling + over
    )


def is_solved(config: Config, progress: Progress) -> bool:
    """Whether some validation was below ``solved_bits``."""
    return progress.best_bits is not None and progress.best_bits < config.train.solved_bits


def verdict(config: Config, progress: Progress) -> Status:
    """The status of a run that is over."""
    return Status.SOLVED if is_solved(config, progress) else Status.BUDGET


def is_over(config: Config, progress: Progress) -> bool:
    """Whether the budget is used up; or the task is solved, and any cooldown has ended."""
    if progress.sequences >= config.train.sequences:
        return True
    cooled = config.train.schedule.kind != "cooldown" or has_cooled(config, progress)
    return is_solved(config, progress) and cooled


def must_roll_back(config: Config, progress: Progress) -> bool:
    """Whether the last validation was so bad that training returns to the best weights.

    A step that is too large breaks sharp weightings, and the smaller steps that follow hardly
    restore them.
    """
    factor, best, last = config.train.rollback_factor, progress.best_bits, progress.last_bits
    if factor is None or best is None or last is None:
        return False
    return last > factor * max(best, config.train.solved_bits)


def start_cooldown(config: Config, progress: Progress) -> None:
    """Begins a cooldown once validation is below ``trigger_bits``; ends one that did not solve."""
    below, last = config.train.schedule.trigger_bits, progress.last_bits
    if has_cooled(config, progress):
        progress.cooling = None
    elif below is not None and last is not None and last < below and progress.cooling is None:
        progress.cooling = progress.sequences


def thinning(config: Config, sequences: int) -> int:
    """1, and after ``ROWS`` rows 2, 4, 8 ...: half of ROWS further rows as a run doubles."""
    return 1 << (max(0, sequences - 1) // (config.train.report_every * ROWS)).bit_length()
