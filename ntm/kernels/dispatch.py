"""Which engine runs a core: the readable reference, or the fused kernels, and why.

The one place that knows modules and kernels. The kernels run where, and only where, they compute
what the modules would: so that is asked at every use, of the modules as they are then. Numba is
imported when it is first needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from controllers.base import Core, State
from controllers.feedforward import FeedForward
from ntm.errors import UsageError
from ntm.kernels import border, modules
from ntm.memory.ntm import NTMCell, distinct_slots
from ntm.memory.sparse import SparseCell

Engine: TypeAlias = Literal["auto", "reference", "fused"]

#: A :class:`ntm.kernels.numba.Learner`: (inputs, targets, mask, slots=None) -> (nats, bit errors),
#: after which every ``.grad`` holds the gradient of the mean cost of a sequence.
TrainingStep: TypeAlias = Callable[..., tuple[Tensor, Tensor]]

log = logging.getLogger("ntm")


class EngineError(UsageError):
    """The engine that was asked for cannot run."""


class Choice(NamedTuple):
    """An engine, and why it is this one, in one line."""

    engine: Literal["reference", "fused"]
    reason: str


def select(core: nn.Module, engine: Engine = "auto") -> Choice:
    """The engine that runs this core, or these cores of a model with several, as they are now.

    ``auto`` takes the fused one wherever it can run. An explicit ``fused`` that cannot run
    raises :class:`EngineError`, with the same reason.
    """
    if engine == "reference":
        return Choice("reference", "asked for")
    obstacle = _needless(core) or _obstacle(core)
    if obstacle is None:
        reason = "asked for" if engine == "fused" else "it applies, and is the fastest"
        return Choice("fused", reason)
    if engine == "fused":
        raise EngineError(f"the fused engine cannot run: {obstacle}")
    return Choice("reference", f"no fused engine: {obstacle}")


def unroll(
    core: Core,
    xs: Tensor,
    state: State | None = None,
    *,
    engine: Engine = "auto",
    recompute_every: int | None = None,
    weighting_grad: float | None = None,
    wants_state: bool = True,
) -> tuple[Tensor, State]:
    """A whole sequence: xs [T, B, I] -> outputs [T, B, output_size] and the last state.

    state: the one to go on from, its tuples plain ones or not; None begins an episode.
    engine: see :func:`select`. Where ``auto`` finds an obstacle it says so once, as a warning.
    recompute_every: keep the state every so many steps for the backward pass, and compute what
        lies between again: the same gradients, in less memory.
    weighting_grad: clip the derivatives by an NTM's weightings w_t to this, at every step.
    wants_state: if not, the last state may be left out, and None returned for it: to give every
        slot of a large memory its row may take longer than the sequence.

    Raises ValueError and TypeError for sizes, types and devices that do not fit the core,
    :class:`EngineError` for ``engine="fused"`` where the kernels cannot run.
    """
    border.check_options(core, recompute_every, weighting_grad)
    around = modules.circumstance()
    if not modules.is_tracing():  # to compare sizes would be recorded
        state = border.check(core, xs, state)
    elif state is None:
        state = core.initial_state(xs.shape[1])
    if engine != "reference" and (around is not None or 0 not in xs.shape[:2]):
        needless = _needless(core)
        obstacle = needless or around or _obstacle(core) or _of_tensors(xs, state)
        if obstacle is None:
            from ntm.kernels import numba

            return numba.unroll(
                core, xs, state, recompute_every=recompute_every, weighting_grad=weighting_grad,
                wants_state=wants_state,
            )  # fmt: skip
        if engine == "fused":
            raise EngineError(f"the fused engine cannot run: {obstacle}")
        if needless is None and not torch.compiler.is_compiling():
            _log_once(obstacle)
    return _reference(
        core, xs, state, around is not None, recompute_every, weighting_grad, wants_state
    )


def learner(
    model: nn.Module,
    *,
    engine: Engine = "auto",
    recompute_every: int | None = None,
    weighting_grad: float | None = None,
) -> TrainingStep | None:
    """The compiled training step of a ``model.core`` with a linear ``model.readout``.

    None where autograd has to do it: on the reference, or where somebody listens to it. It goes
    by where parameters and their ``.grad`` lie now, so they may not be moved.
    """
    border.check_options(model.core, recompute_every, weighting_grad)  # type: ignore[arg-type]
    if not has_learner(model, engine):
        return None
    from ntm.kernels.numba import Learner

    options = {"recompute_every": recompute_every, "weighting_grad": weighting_grad}
    return Learner(model.core, model.readout, **options)  # type: ignore[arg-type]


def has_learner(model: nn.Module, engine: Engine = "auto") -> bool:
    """Whether there is a :func:`learner` of the model as it is now."""
    core, readout = model.core, model.readout
    if not isinstance(core, Core) or select(core, engine).engine != "fused":
        return False
    return modules.circumstance() is None and _is_plain(model, core, readout)  # type: ignore[arg-type]


def _is_plain(model: nn.Module, core: Core, readout: nn.Module) -> bool:
    """Whether a training step of the model is one of its core and a linear readout, no more."""
    try:
        modules.check_untouched(model)
    except modules.ChangedError:
        return False
    if type(readout) is not nn.Linear or readout.in_features != core.output_size:
        return False
    dtype = next(modules.tensors_of(core)).dtype
    return readout._parameters["bias"] is not None and all(
        p.grad is not None
        and p.requires_grad
        and p.dtype is dtype
        and p.is_cpu
        and not p._backward_hooks
        and not p._post_accumulate_grad_hooks
        for p in modules.parameters_of(model)
    )


def slots_carried(core: nn.Module, steps: int, engine: Engine = "auto") -> int | None:
    """Slots that a sequence of so many steps takes room for; None without an NTM's memory."""
    if not isinstance(core, NTMCell):
        return None
    if core.M0 is not None or select(core, engine).engine == "reference":
        return core.slots
    return distinct_slots(core.slots, core.shifts // 2, steps)


def has_torch_kernels(core: nn.Module) -> bool:
    """Whether torch runs whole sequences of the core by itself, on any device."""
    own = [type(layer).unroll is not Core.unroll for layer in modules.layers_of(core)]
    return all(own) and not isinstance(core, NTMCell)


# The reference


def _reference(
    core: Core,
    xs: Tensor,
    state: State,
    step_by_step: bool,
    recompute_every: int | None,
    weighting_grad: float | None,
    wants_state: bool,
) -> tuple[Tensor, State]:
    run: Callable[..., tuple[Tensor, State]] = core.unroll
    if weighting_grad is not None:
        run = partial(run, weighting_grad=weighting_grad)
    elif step_by_step or not modules.unrolls_as_it_steps(core):
        run = partial(Core.unroll, core)
    elif recompute_every is None and getattr(run, "__func__", None) is SparseCell.unroll:
        run = partial(run, wants_state=wants_state)
    if recompute_every is None or not torch.is_grad_enabled() or len(xs) == 0:
        return run(xs, state)
    outputs = []
    for span in xs.split(recompute_every):
        ys, state = checkpoint(run, span, state, use_reentrant=False)
        outputs.append(ys)
    return torch.cat(outputs), state


# What keeps the kernels from running


def _needless(core: nn.Module) -> str | None:
    """Why there is nothing to gain from them."""
    if isinstance(core, NTMCell):
        return None
    if all(type(layer) is FeedForward for layer in modules.layers_of(core)):
        return "without a memory no step waits for another, and one product does them all"
    return None


def _obstacle(core: nn.Module) -> str | None:
    """Why they would not compute what this core, or these cores, would; None if they would."""
    dtype, strided = None, torch.strided
    for tensor in modules.tensors_of(core):
        if not tensor.is_cpu:
            return f"it runs on the CPU, not on {tensor.device}"
        if dtype is None:
            dtype = tensor.dtype
            if dtype not in (torch.float32, torch.float64):
                name = str(dtype).removeprefix("torch.")
                return f"it computes in float32 and float64, not in {name}"
        elif tensor.dtype is not dtype:
            return "its parameters are of several types"
        if type(tensor) not in _PLAIN or tensor.layout is not strided:
            return f"one of its parameters is a {type(tensor).__name__} of layout {tensor.layout}"
    try:
        modules.check_untouched(core)
        for one in [core] if isinstance(core, Core) else core.children():
            modules.check_fits(one)  # type: ignore[arg-type]
    except modules.ChangedError as change:
        return str(change)
    return "Numba is not installed" if find_spec("numba") is None else _numba()


_PLAIN = (Tensor, nn.Parameter)


def _of_tensors(*tensors: Any) -> str | None:
    """Why they cannot take these inputs and this state."""
    for tensor in tensors:
        if type(tensor) is Tensor:
            if tensor.layout is not torch.strided:
                return f"it takes no tensors of layout {tensor.layout}"
        elif isinstance(tensor, tuple):
            if (obstacle := _of_tensors(*tensor)) is not None:
                return obstacle
        elif type(tensor) is not nn.Parameter:
            return f"a {type(tensor).__name__} may compute in ways of its own"
    return None


@cache
def _numba() -> str | None:
    """Why Numba does not work here."""
    try:
        import_module("ntm.kernels.numba")
    except Exception as error:  # whatever keeps Numba from working here is the reason
        return f"Numba does not work here: {str(error).strip().splitlines()[0] or repr(error)}"
    return None


_logged: set[str] = set()


def _log_once(obstacle: str) -> None:
    if obstacle not in _logged:
        _logged.add(obstacle)
        log.warning("no fused engine, the reference runs: %s", obstacle)
