"""Where training stands, and what follows from it: learning rate, cooldown, curriculum, end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ntm.training.schema import Config

#: So many rows of metrics are written every ``report_every`` sequences; later ones are means of
#: more and more, so that a very long run does not fill a disk.
ROWS = 10_000


@dataclass
class Progress:
    """Where training stands: with weights, optimiser and generator, all that a resume needs."""

    sequences: int = 0
    seconds: float = 0.0
    best_bits: float | None = None  # of the weights that are kept, in validation, above the floor
    last_bits: float | None = None  # of the last one
    cooling: int | None = None  # sequences when the cooldown that is under way began
    status: str = "running"  # running, solved, budget (used up), interrupted, failed
    interval: dict[str, float] = field(default_factory=dict)  # sums since the last report
    stage: int = 0  # of the curriculum
    lesson: dict[str, float] = field(default_factory=dict)  # sums since its last examination
    rollbacks: int = 0  # how often, to the best weights


def learning_rate(config: Config, progress: Progress) -> float:
    """The step size for the next sequences."""
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
    """Goes on to the next stage of the curriculum, if the last ``every`` sequences were cheap."""
    curriculum, sums = config.train.curriculum, progress.lesson
    if curriculum is not None and sums["sequences"] >= curriculum.every:
        progress.stage += sums["bits"] < curriculum.advance_bits * sums["scored"]
        progress.lesson = {}


def has_cooled(config: Config, progress: Progress) -> bool:
    """Whether a cooldown has come to its end."""
    over = config.train.schedule.decay_sequences
    return (
        over is not None
        and progress.cooling is not None
        and progress.sequences >= progress.cooling + over
    )


def is_solved(config: Config, progress: Progress) -> bool:
    """Whether some validation was below ``solved_bits``."""
    return progress.best_bits is not None and progress.best_bits < config.train.solved_bits


def verdict(config: Config, progress: Progress) -> str:
    """The status of a run that is over."""
    return "solved" if is_solved(config, progress) else "budget"


def is_over(config: Config, progress: Progress) -> bool:
    """Whether the budget is used up; or it is solved, and has cooled down where it should."""
    if progress.sequences >= config.train.sequences:
        return True
    cooled = config.train.schedule.kind != "cooldown" or has_cooled(config, progress)
    return is_solved(config, progress) and cooled


def is_lost(config: Config, progress: Progress) -> bool:
    """Whether the machine has just been lost, so that training goes back to the best weights.

    What is sharp breaks at a step that is too large, and hardly mends at the smaller ones to come.
    """
    lost, best, last = config.train.rollback_factor, progress.best_bits, progress.last_bits
    if lost is None or best is None or last is None:
        return False
    return last > lost * max(best, config.train.solved_bits)


def start_cooldown(config: Config, progress: Progress) -> None:
    """Begins a cooldown when the last validation asks for it; ends one that has not solved."""
    below, last = config.train.schedule.trigger_bits, progress.last_bits
    if has_cooled(config, progress):
        progress.cooling = None
    elif below is not None and last is not None and last < below and progress.cooling is None:
        progress.cooling = progress.sequences


def thinning(config: Config, sequences: int) -> int:
    """1, and after ``ROWS`` rows 2, 4, 8 ...: a table grows by half of ROWS as a run doubles."""
    return 1 << (max(0, sequences - 1) // (config.train.report_every * ROWS)).bit_length()
