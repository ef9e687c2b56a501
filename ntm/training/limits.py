"""Refuses what cannot fit into the memory of this computer, before anything is allocated."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ntm.errors import UsageError
from ntm.model import ModelConfig
from tasks import Task

FLOAT = 4


def check(
    task: Task,
    model: ModelConfig,
    batch: int,
    recompute_every: int | None = None,
    history: bool = True,
    slots: int | None = None,
) -> None:
    """Refuses what is certain not to fit.

    batch: sequences at a time. history: whether the states of all steps are kept for a backward
    pass, or one; recompute_every: as in training, steps between the states that are kept; slots:
    the most that ``train.slots`` asks for.
    """
    for what, needed in estimate(task, model, batch, recompute_every, history, slots).items():
        _refuse(what, needed, batch)


def check_inputs(task: Task, batch: int) -> None:
    """Refuses episodes that are certain not to fit, whatever the model."""
    width = task.input_size + task.loss.target_size(task.output_size)
    _refuse("task", FLOAT * batch * task.steps * width, batch)


def estimate(
    task: Task,
    model: ModelConfig,
    batch: int,
    recompute_every: int | None = None,
    history: bool = True,
    slots: int | None = None,
) -> dict[str, int]:
    """Lower bounds of the bytes needed, by the setting that asks for them.

    Counted are the parameters of the largest matrices, a batch of inputs and targets, and the
    numbers of the states that are kept.
    """
    T, I, O = task.steps, task.input_size, task.output_size  # noqa: E741
    controller, memory = model.controller, model.memory
    S = controller.size
    layers = controller.layers * getattr(controller, "depth", 1)  # LSTMs within an LSTM
    kept = T
    if recompute_every is not None:
        kept = min(T, recompute_every + T // recompute_every)
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
        memory = memory.with_slots(slots) if slots else memory
        states = batch * memory.history_floats(kept) + memory.state_floats()
        found["train.slots" if slots else "model.memory"] = states + memory.least_parameters(S)
    return {what: FLOAT * floats for what, floats in found.items()}


def _episode(task: Task, batch: int) -> int:
    """Floats of a batch: inputs, targets and outputs."""
    O = task.output_size  # noqa: E741
    return batch * task.steps * (task.input_size + task.loss.target_size(O) + O)


def _refuse(what: str, needed: int, batch: int) -> None:
    if needed > (limit := physical_memory()):
        raise UsageError(
            f"{what}: for a batch of {batch:,} would need at least {_gib(needed)} GiB of memory, "
            f"and there are {_gib(limit)} here"
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
    """Bytes of memory that this process may have: of this computer, or of its container.

    A terabyte where the system does not tell.
    """
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        installed = 2**40
    return min([installed, *_group_limits()])


def _group_limits(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """The limits of this process's control groups and of those above them, versions 1 and 2."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in groups.read_text(encoding="utf-8").splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                folder, name = root, "memory.max"
            elif "memory" in controllers.split(","):
                folder, name = root / "memory", "memory.limit_in_bytes"
            else:
                continue
            here = PurePosixPath(path.lstrip("/"))
            for group in (here, *here.parents):  # a container sees its own group as the root
                with contextlib.suppress(OSError, ValueError):  # "max": no limit
                    yield int((folder / group / name).read_text(encoding="utf-8"))


def _gib(size: int) -> str:
    return f"{size / 2**30:,.3g}" if size < 2**50 else f"{size / 2**30:.0e}"
