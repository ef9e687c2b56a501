"""What would not fit into this machine's memory is refused before anything is made."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from ntm.errors import UsageError
from ntm.model import ModelConfig
from tasks import Task

FLOAT = 4


def check(
    task: Task,
    model: ModelConfig,
    batch: int,
    segment: int | None = None,
    history: bool = True,
    slots: int | None = None,
) -> None:
    """Refuses what is certain not to fit.

    batch: sequences at a time. history: whether the states of all steps are kept, as for the way
    back, or one; segment: as in training, steps between the states that are kept; slots: the most
    that ``train.slots`` asks for.
    """
    for what, needed in estimate(task, model, batch, segment, history, slots).items():
        _refuse(what, needed, batch)


def check_inputs(task: Task, batch: int) -> None:
    """Refuses episodes that are certain not to fit, whatever the model."""
    width = task.input_size + task.loss.target_size(task.output_size)
    _refuse("task", FLOAT * batch * task.steps * width, batch)


def estimate(
    task: Task,
    model: ModelConfig,
    batch: int,
    segment: int | None = None,
    history: bool = True,
    slots: int | None = None,
) -> dict[str, int]:
    """Bytes that are needed at least, by the setting that asks for them.

    Lower bounds: parameters of the largest matrices alone, a batch of inputs and targets, and one
    float for each number of the states that are kept.
    """
    T, I, O = task.steps, task.input_size, task.output_size  # noqa: E741
    controller, memory = model.controller, model.memory
    S = controller.size
    layers = controller.layers * getattr(controller, "depth", 1)  # LSTMs within an LSTM
    kept = T if segment is None else min(T, segment + T // segment)
    kept = kept if history else 1
    recurrent = controller.kind != "feedforward"
    parameters = layers * S * ((S if recurrent else 1) + 1) + S * (I + O)
    # In training there are gradients, too, and at least one vector of the optimiser.
    copies = 3 if history and controller.kind != "echo_state" else 1
    found = {
        "task": _episode(task, batch) if history else 0,
        "model.controller": copies * parameters + batch * kept * layers * S,
    }
    if memory is not None:
        N, W, H = slots or memory.slots, memory.width, memory.heads
        emitted = H * (W + 2 * memory.shift_range + 4)
        found["train.slots" if slots else "model.memory"] = (
            (batch * kept + 1) * (N * W + H * N + H * W) + S * emitted + S * H * W // 2
        )
    return {what: FLOAT * floats for what, floats in found.items()}


def _episode(task: Task, batch: int) -> int:
    """Floats of a batch: inputs, targets and outputs."""
    O = task.output_size  # noqa: E741
    return batch * task.steps * (task.input_size + task.loss.target_size(O) + O)


def _refuse(what: str, needed: int, batch: int) -> None:
    if needed > (limit := physical_memory()):
        raise UsageError(
            f"{what}: for a batch of {batch:,} would need at least {_gib(needed)} GiB of memory, "
            f"and this machine has {_gib(limit)}"
        )


@contextlib.contextmanager
def capped_memory() -> Iterator[None]:
    """Within it, this process gets an error where it would take more memory than there is.

    Estimates are lower bounds, and a system that has promised more than it has kills some process,
    not always the one that asked. Without effect where the system has no such limit.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    cap = physical_memory() * 9 // 10
    if soft == resource.RLIM_INFINITY or soft > cap:
        with contextlib.suppress(ValueError, OSError):  # not allowed to
            resource.setrlimit(resource.RLIMIT_DATA, (cap, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def physical_memory() -> int:
    """Bytes of this machine; a terabyte where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**40


def _gib(size: int) -> str:
    return f"{size / 2**30:,.3g}" if size < 2**50 else f"{size / 2**30:.0e}"
