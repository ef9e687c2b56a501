"""Which engine runs a core: the readable reference, or the fused kernels, and why."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from controllers.base import Core, State
from controllers.feedforward import FeedForward
from controllers.stack import Stack
from ntm.memory.ntm import NTMCell

Engine: TypeAlias = Literal["auto", "reference", "fused"]


class EngineError(Exception):
    """The engine that was asked for cannot run."""


def use_threads(count: int | None = None) -> int:
    """Gives the fused engine ``count`` threads, and torch one; says how many.

    Without a count: OMP_NUM_THREADS where it is set, else every core that this process may use.
    Torch's own threads only wait for one another on operations as small as a machine's: measured
    on two cores, a training step at batch 1 takes twice as long with two of them as with one.
    """
    global _threads
    wish = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    _threads = count or (int(wish) if wish.isdigit() and int(wish) else _cores())
    torch.set_num_threads(1)
    return _threads


def threads() -> int:
    """Threads of the fused engine: as many as torch has, until ``use_threads`` says otherwise."""
    return _threads or torch.get_num_threads()


_threads: int | None = None


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def unroll(core: Core, xs: Tensor, state: State) -> tuple[Tensor, State]:
    """``core.unroll``, on the core's engine."""
    if core.engine == "fused" and not isinstance(core, NTMCell):
        from ntm.kernels.numba import unroll_alone  # imports Numba

        return unroll_alone(core, xs, state)
    return core.unroll(xs, state)


def select(
    requested: Engine, core: nn.Module, device: str, dtype: torch.dtype
) -> tuple[Literal["reference", "fused"], str]:
    """The engine to run this core, or these cores of a form, with, and the reason in one line.

    ``auto`` takes the fused one wherever it can run. An explicit ``fused`` that cannot run
    raises :class:`EngineError`, with the same reason.
    """
    if requested == "reference":
        return "reference", "asked for"
    obstacle = _obstacle(core, device, dtype)
    if obstacle is None:
        return "fused", "asked for" if requested == "fused" else "it applies, and is the fastest"
    if requested == "fused":
        raise EngineError(f"the fused engine cannot run: {obstacle}")
    return "reference", f"no fused engine: {obstacle}"


def _obstacle(core: nn.Module, device: str, dtype: torch.dtype) -> str | None:
    """Why the fused engine cannot run this core; None if it can. The cheap questions first."""
    layers = _layers(core)
    if not isinstance(core, NTMCell) and all(type(layer) is FeedForward for layer in layers):
        return "without a memory no step waits for another, and one product does them all"
    if torch.device(device).type != "cpu":
        return f"it runs on the CPU, not on {device}"
    if dtype not in (torch.float32, torch.float64):
        return f"it computes in float32 and float64, not in {str(dtype).removeprefix('torch.')}"
    if find_spec("numba") is None:
        return "Numba is not installed"
    try:
        from ntm.kernels.numba import KINDS
    except Exception as error:  # whatever keeps Numba from working here is the reason
        return f"Numba does not work here: {str(error).strip().splitlines()[0] or repr(error)}"
    for layer in layers:
        if type(layer) not in KINDS:
            return f"{type(layer).__name__} has no fused step"
    return None


def has_torch_kernels(core: nn.Module) -> bool:
    """Whether torch runs whole sequences of the core by itself, on any device."""
    own = [type(layer).unroll is not Core.unroll for layer in _layers(core)]
    return all(own) and not isinstance(core, NTMCell)


def _layers(core: nn.Module) -> list[Core]:
    """The layers of a core's controller, or of all the cores of a form."""
    if isinstance(core, NTMCell):
        return _layers(core.controller)
    if isinstance(core, Core) and not isinstance(core, Stack):
        return [core]
    parts = core.layers if isinstance(core, Stack) else core
    return [layer for part in parts.children() for layer in _layers(part)]
