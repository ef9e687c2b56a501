"""One training loop for every task and every model; it names none of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from controllers.base import Core
from ntm.analysis.evaluate import evaluate
from ntm.analysis.trace import first_non_finite, record
from ntm.errors import NotFiniteError, NTMError
from ntm.model import Model
from ntm.runs.folder import Checkpoint, RunDir
from ntm.runs.models import load_weights, new_model
from ntm.training.config import AdamConfig, ClipConfig, Config, RidgeConfig, RMSpropConfig
from ntm.training.curriculum import stages, task_at
from ntm.training.episodes import draw
from ntm.training.optim import GravesRMSprop, Ridge, flatten
from ntm.training.streams import Stream, numpy_generator
from tasks import Episode, Task
from tasks.losses import BITS, Bits, Loss

if TYPE_CHECKING:
    from ntm.memory.ntm import NTMCell

#: A gradient may overflow while the loss is finite: the way back through a hundred steps of
#: sharpening can multiply by more than 10^38. Such a step is left out; so many in a row are an end.
OVERFLOWS = 10

#: So many rows of metrics are written every ``report_every`` sequences; later ones are means of
#: more and more, so that a very long run does not fill a disk.
ROWS = 10_000


class Watcher(Protocol):
    """Somebody who watches training: a progress bar, a log."""

    def reported(self, row: dict[str, float]) -> None:
        """A row of metrics was written."""

    def validated(self, row: dict[str, float]) -> None:
        """A row of validation was written."""


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
    went_back: int = 0  # how often, to the best weights


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
    optimizer = build_optimizer(config, parameters, uses_fused(model))
    differentiate = differentiation(model, parameters, task.loss)
    if isinstance(optimizer, Ridge) and isinstance(task.loss, Bits):
        differentiate = observation(model, optimizer, task.loss)
    rng = numpy_generator(config.seed, Stream.TRAINING)
    progress = Progress()
    if resume and run.has_started():
        progress = _restore(run, model, optimizer, rng)
        if _is_over(config, progress):
            progress.status = _verdict(config, progress)
            return progress
        if _cooled(config, progress):
            progress.cooling = None  # it is not solved by what solved means now
    else:
        _save(run, model, optimizer, rng.bit_generator.state, progress)
        _keep(run, config, model, progress)
    started = time.perf_counter() - progress.seconds
    progress.status = "running"
    save, overflows, last_stage = False, 0, stages(config)

    over = _is_over(config, progress)
    while not over:
        for group in optimizer.param_groups:
            group["lr"] = step_size(config, progress)

        stop = should_stop()  # asked before the draw: the state is taken only where it is needed
        generator = rng.bit_generator.state if save or stop else None
        episode = draw(task_at(config, progress.stage), rng, settings.batch).to(device)
        slots = None if settings.slots is None else _log_uniform(rng, *settings.slots)
        cost = differentiate(episode, slots)
        norm = torch.linalg.vector_norm(gradient)
        total, norm_value = cost.nats.sum().item(), norm.item()
        overflows = 0 if math.isfinite(norm_value) else overflows + 1
        if not math.isfinite(total) or overflows == OVERFLOWS:
            about = _diagnosis(run, model, task, episode, cost.nats, slots)
            raise NotFiniteError(about)
        # Saved here: the weights have just proved good, and are not changed yet.
        if stop:
            progress.status = "interrupted"
        if (save and not overflows) or stop:
            _save(run, model, optimizer, generator, progress)
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
            _grow(config, progress)

        def due(every: int) -> bool:
            return progress.sequences // every > (progress.sequences - settings.batch) // every

        if due(settings.report_every * _thinning(config, progress.sequences)):
            watcher.reported(_report(run, progress, optimizer.param_groups[0]["lr"]))
        if due(config.validation.every) or progress.sequences >= settings.sequences:
            _validate(run, config, model, progress, watcher)
            _keep(run, config, model, progress)
            over = _is_over(config, progress)
            if not over:
                _cool(config, progress)
            if _is_lost(config, progress):
                load_weights(model, run.load_best(), run.best_file)
                progress.went_back += 1
                run.update_manifest(went_back=progress.went_back)
                # Before other weights become the best, so that a run that is killed goes on alike.
                _save(run, model, optimizer, rng.bit_generator.state, progress)
                overflows = 0  # as in a run that is resumed here
        save = save or due(settings.checkpoint_every)

    progress.status = _verdict(config, progress)
    _save(run, model, optimizer, rng.bit_generator.state, progress)
    return progress


def build_optimizer(config: Config, parameters: nn.Parameter, fused: bool = False) -> Optimizer:
    """The optimiser that the config names, for the flattened parameters.

    ``fused`` takes a compiled step; it is for the fused engine, so for the CPU.
    """
    o = config.train.optimizer
    if isinstance(o, RMSpropConfig):
        return torch.optim.RMSprop(
            [parameters], o.lr, o.alpha, o.eps, momentum=o.momentum, centered=o.centered
        )
    if isinstance(o, AdamConfig):
        kind = torch.optim.AdamW if o.kind == "adamw" else torch.optim.Adam
        return kind([parameters], o.lr, o.betas, o.eps, o.weight_decay)
    if isinstance(o, RidgeConfig):
        return Ridge(parameters, config.task.output_size, o.penalty)
    return GravesRMSprop([parameters], o.lr, o.momentum, o.decay, o.eps, fused)


class Cost(NamedTuple):
    """What a batch of sequences cost."""

    nats: Tensor  # [B]
    errors: Tensor  # [B] wrong bits, or wrong answers


#: Takes episodes, and the slots of the memory if it is to have others, and gives their cost.
Differentiate = Callable[[Episode, int | None], Cost]


def differentiation(model: Model, parameters: nn.Parameter, loss: Loss) -> Differentiate:
    """What puts the gradients of the mean cost of a sequence, in nats, into ``parameters.grad``.

    ``parameters`` is the flattened model.
    """
    gradient = parameters.grad
    assert gradient is not None
    learner = None
    # A core with the loss on bits is compiled in; what reads the whole input first is no core.
    if uses_fused(model) and isinstance(model.core, Core) and loss is BITS:
        from ntm.kernels.numba import Learner  # imports Numba

        learner = Learner(model)

    def differentiate(episode: Episode, slots: int | None) -> Cost:
        gradient.zero_()
        if learner is not None:
            return Cost(*learner(episode.inputs, episode.targets, episode.mask, slots=slots))
        state = None
        if slots is not None:  # so there is a memory
            state = cast("NTMCell", model.core).initial_state(episode.inputs.shape[1], slots)
        logits, _ = model(episode.inputs, state, begin=episode.begin)
        nats = loss.nats(logits, episode)
        nats.mean().backward()
        return Cost(nats.detach(), loss.errors(logits.detach(), episode))

    return differentiate


def observation(model: Model, optimizer: Ridge, loss: Bits) -> Differentiate:
    """What shows episodes to an optimiser that needs no gradients, and gives their cost."""

    @torch.no_grad()
    def observe(episode: Episode, slots: int | None) -> Cost:
        h, _ = model.run(episode.inputs, begin=episode.begin)
        logits = model.readout(h)
        optimizer.see(h, loss.goals(episode), episode.mask)
        return Cost(loss.nats(logits, episode), loss.errors(logits, episode))

    return observe


def _log_uniform(rng: np.random.Generator, low: int, high: int) -> int:
    return round(low * math.pow(high / low, rng.random()))


def uses_fused(model: Model) -> bool:
    """Whether the model runs on the fused engine."""
    return model.core.engine == "fused"


def step_size(config: Config, progress: Progress) -> float:
    """The step size for the next sequences."""
    schedule, lr = config.train.schedule, config.train.optimizer.lr
    sequences = progress.sequences
    if sequences < schedule.warmup:
        return lr * min(1.0, (sequences + config.train.batch) / schedule.warmup)
    if schedule.kind == "constant" or (schedule.kind == "cooldown" and progress.cooling is None):
        return lr
    if schedule.over is not None and progress.cooling is not None:
        left = max(0.0, 1 - (sequences - progress.cooling) / schedule.over)
    else:
        left = 1 - (sequences - schedule.warmup) / max(1, config.train.sequences - schedule.warmup)
    if schedule.kind == "exponential":
        return lr * math.pow(schedule.final, 1 - left)
    share = (1 - math.cos(math.pi * left)) / 2 if schedule.kind == "cosine" else left
    return lr * (schedule.final + (1 - schedule.final) * share)


def _grow(config: Config, progress: Progress) -> None:
    """Goes on to the next stage of the curriculum, if the last ``every`` sequences were cheap."""
    curriculum, sums = config.train.curriculum, progress.lesson
    if curriculum is not None and sums["sequences"] >= curriculum.every:
        progress.stage += sums["bits"] < curriculum.below * sums["scored"]
        progress.lesson = {}


def _cooled(config: Config, progress: Progress) -> bool:
    """Whether a cooldown has come to its end."""
    over = config.train.schedule.over
    return (
        over is not None
        and progress.cooling is not None
        and progress.sequences >= progress.cooling + over
    )


def _is_solved(config: Config, progress: Progress) -> bool:
    return progress.best_bits is not None and progress.best_bits < config.train.solved_bits


def _verdict(config: Config, progress: Progress) -> str:
    """The status of a run that is over."""
    return "solved" if _is_solved(config, progress) else "budget"


def _is_over(config: Config, progress: Progress) -> bool:
    """Whether the budget is used up; or it is solved, and has cooled down where it should."""
    if progress.sequences >= config.train.sequences:
        return True
    cooled = config.train.schedule.kind != "cooldown" or _cooled(config, progress)
    return _is_solved(config, progress) and cooled


def _is_lost(config: Config, progress: Progress) -> bool:
    """Whether the machine has just been lost, so that training goes back to the best weights.

    What is sharp breaks at a step that is too large, and hardly mends at the smaller ones to come.
    """
    lost, best, last = config.train.lost, progress.best_bits, progress.last_bits
    if lost is None or best is None or last is None:
        return False
    return last > lost * max(best, config.train.solved_bits)


def _cool(config: Config, progress: Progress) -> None:
    """Begins a cooldown when the last validation asks for it; ends one that has not solved."""
    below, last = config.train.schedule.below, progress.last_bits
    if _cooled(config, progress):
        progress.cooling = None
    elif below is not None and last is not None and last < below and progress.cooling is None:
        progress.cooling = progress.sequences


def clip(parameters: nn.Parameter, config: ClipConfig | None, norm: Tensor) -> None:
    """Clips the gradient in place; ``norm`` is its norm."""
    if config is None:
        return
    assert parameters.grad is not None
    if config.value is not None:
        parameters.grad.clamp_(-config.value, config.value)
    if config.norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, config.norm, norm)


def _validate(
    run: RunDir, config: Config, model: Model, progress: Progress, watcher: Watcher
) -> None:
    """Scores the model on the fixed validation episodes, and keeps it if it is the best so far."""
    # Seed 0 whatever the run's: all runs are validated, and stopped, on the same episodes.
    scores = evaluate(
        model, config.validation_task, config.validation.episodes, 0, Stream.VALIDATION
    ).summary()
    if not math.isfinite(scores["bits"]):
        task = config.validation_task
        episode = task.sample(numpy_generator(0, Stream.VALIDATION), 1)
        nats = torch.full((1,), math.nan)
        device = model.readout.weight.device
        raise NotFiniteError(_diagnosis(run, model, task, episode.to(device), nats))
    row = {"sequences": progress.sequences, "seconds": round(progress.seconds, 3)}
    row |= {name: scores[name] for name in ("bits", "floor", "bit_errors", "exact")}
    run.append(run.validation_file, row)
    progress.last_bits = above = scores["bits"] - scores["floor"]
    if progress.best_bits is None or above < progress.best_bits:
        progress.best_bits = above
        run.save_best(model.state_dict(), asdict(progress))
    watcher.validated(row)


def _keep(run: RunDir, config: Config, model: Model, progress: Progress) -> None:
    """Keeps the weights of every validation, or of every second, fourth ... as they become many."""
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


def _report(run: RunDir, progress: Progress, lr: float) -> dict[str, float]:
    sums = progress.interval
    row = {"sequences": progress.sequences, "seconds": round(progress.seconds, 3)}
    row |= {n: sums[n] / sums["sequences"] for n in ("bits", "bit_errors")}
    row["grad_norm"] = sums["grad_norm"] / max(1, sums["sequences"] - sums["skipped"])
    row |= {"lr": lr, "skipped": sums["skipped"]}
    run.append(run.metrics_file, row)
    progress.interval = {}
    return row


def _thinning(config: Config, sequences: int) -> int:
    """1, and after ``ROWS`` rows 2, 4, 8 ...: a table grows by half of ROWS as a run doubles."""
    return 1 << (max(0, sequences - 1) // (config.train.report_every * ROWS)).bit_length()


def _add(sums: dict[str, float], **values: float) -> None:
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value


def _save(
    run: RunDir, model: Model, optimizer: Optimizer, generator: Any, progress: Progress
) -> None:
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


def _restore(run: RunDir, model: Model, optimizer: Optimizer, rng: Any) -> Progress:
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
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NTMError(f"{run.last_file}: not a readable checkpoint, damaged: {error}") from None
    run.truncate(progress.sequences)
    return progress


def _diagnosis(
    run: RunDir, model: Model, task: Task, episode: Episode, nats: Tensor, slots: int | None = None
) -> str:
    """Where numbers first stopped being finite, and what is left of the run."""
    bad = torch.nonzero(~nats.isfinite()).flatten().tolist()
    what = "the loss" if bad else "the gradient"
    for index in bad or range(min(len(nats), 8)):  # a gradient may break on a finite loss
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
