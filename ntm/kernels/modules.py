"""What the kernels need to know of the modules whose place they take.

Kernels are written for what a class computes. Python lets anyone change one module of it: put
another layer in, hang a hook on it, set a method of its own. Here is asked whether that happened,
of the module as it is now: nothing is remembered from call to call, so nothing can go stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from controllers.base import Core
from controllers.echo_state import EchoState
from controllers.feedforward import FeedForward
from controllers.gru import GRU
from controllers.leaky import Leaky
from controllers.lstm import LSTM
from controllers.nested_lstm import NestedLSTM
from controllers.peephole_lstm import PeepholeLSTM
from controllers.reduced_gru import ReducedGRU
from controllers.rnn import RNN
from controllers.stack import Stack
from ntm.memory.ntm import NTMCell


class Changed(Exception):
    """A module is not, or not only, what its class is. The message says in what."""


#: A parameter or a buffer, and the shape that it should have.
Fit: TypeAlias = tuple["Tensor | None", tuple[int, ...]]


def _linear(layer: nn.Module, rows: int, columns: int) -> list[Fit]:
    if type(layer) is not nn.Linear:
        raise Changed(f"a {type(layer).__name__} is in the place of a Linear")
    return [(layer.weight, (rows, columns)), (layer.bias, (rows,))]


def _leaky(m: Leaky, i: int, n: int) -> list[Fit]:
    leak: list[Fit] = [] if m.leak_logit is None else [(m.leak_logit, (n,))]
    return [*_linear(m.hidden, n, i + n), *leak]


def _nested(m: NestedLSTM, i: int, n: int) -> list[Fit]:
    sizes = [i, *[n] * (len(m.gates) - 1)]
    return [
        fit
        for gates, size in zip(m.gates, sizes, strict=True)
        for fit in _linear(gates, 4 * n, size + n)
    ]


def _gru(m: GRU, i: int, n: int) -> list[Fit]:
    return [*_linear(m.gates, 2 * n, i + n), *_candidate(m, i, n)]


def _reduced_gru(m: ReducedGRU, i: int, n: int) -> list[Fit]:
    own: list[Fit] = [] if m.gates_weight is None else [(m.gates_weight, (2 * n, n))]
    own += [] if m.gates_bias is None else [(m.gates_bias, (2 * n,))]
    return [*own, *_candidate(m, i, n)]


def _candidate(m: GRU | ReducedGRU, i: int, n: int) -> list[Fit]:
    return [*_linear(m.candidate_x, n, i), *_linear(m.candidate_h, n, n)]


#: A layer's class -> what it computes with, for I inputs and n units.
FITS: dict[type[Core], Callable[[Any, int, int], list[Fit]]] = {
    FeedForward: lambda m, i, n: _linear(m.hidden, n, i),
    RNN: lambda m, i, n: _linear(m.hidden, n, i + n),
    Leaky: _leaky,
    EchoState: lambda m, i, n: [(m.weight, (n, i + n)), (m.bias, (n,))],
    LSTM: lambda m, i, n: _linear(m.gates, 4 * n, i + n),
    PeepholeLSTM: lambda m, i, n: [*_linear(m.gates, 4 * n, i + n), (m.peepholes, (3 * n,))],
    NestedLSTM: _nested,
    GRU: _gru,
    ReducedGRU: _reduced_gru,
}


def vectors_carried(layer: Core) -> int | None:
    """Vectors [B, n] in the state of a layer; None where only its own class knows."""
    kind = type(layer)
    if kind is FeedForward:
        return 0
    if kind in (LSTM, PeepholeLSTM):
        return 2
    if kind is NestedLSTM:
        return 1 + len(layer.gates)  # type: ignore[arg-type]
    return 1 if kind in FITS else None


def layers_of(core: nn.Module) -> list[Core]:
    """The layers of a core's controller, or of all the cores of a model that has several."""
    if isinstance(core, NTMCell):
        return layers_of(core.controller)
    if isinstance(core, Core) and not isinstance(core, Stack):
        return [core]
    parts = core.layers if isinstance(core, Stack) else core
    return [layer for part in parts.children() for layer in layers_of(part)]


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """All parameters and buffers; as ``parameters()`` and ``buffers()``, but ten times as fast."""
    for own in (module._parameters, module._buffers):
        for tensor in own.values():
            if tensor is not None:
                yield tensor
    for child in module._modules.values():
        if child is not None:
            yield from tensors_of(child)


# Has it been changed?


def check_untouched(core: nn.Module) -> None:
    """Raises :class:`Changed` where a hook listens, or a method was set on one module."""
    if (
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    ):
        raise Changed("a hook on all modules wants to be called")
    _check_untouched(core, core)


def _check_untouched(module: nn.Module, core: nn.Module) -> None:
    if (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    ):
        raise Changed(f"a hook on {_name(module, core)} wants to be called")
    if not _methods(type(module)).isdisjoint(module.__dict__):
        own = sorted(_methods(type(module)).intersection(module.__dict__))
        raise Changed(f"{_name(module, core)} has a method of its own, {own[0]}")
    for child in module._modules.values():
        if child is not None:
            _check_untouched(child, core)


@lru_cache(maxsize=256)
def _methods(kind: type) -> frozenset[str]:
    """Names of all methods of a class; a compiled call is torch's way to set one."""
    names = {name for name in dir(kind) if callable(getattr(kind, name, None))}
    return frozenset(names | {"_compiled_call_impl"})


def _name(module: nn.Module, core: nn.Module) -> str:
    names = [name for name, one in core.named_modules() if one is module and name]
    return names[0] if names else f"the {type(core).__name__}"


def check_fits(core: Core) -> None:
    """Raises :class:`Changed` where an NTM or a controller is not made of what its class puts in.

    That is: of exactly these classes, all of sizes that go together.
    """
    if isinstance(core, NTMCell):
        _check_cell(core)
        core = core.controller
    if isinstance(core, Stack):
        _check_stack(core)
    for layer in layers_of(core):
        fits = FITS.get(type(layer))
        if fits is None:
            raise Changed(f"{type(layer).__name__} has no fused step")
        _check_shapes(type(layer), fits(layer, layer.input_size, layer.output_size))


def _check_shapes(kind: type, fits: list[Fit]) -> None:
    for tensor, shape in fits:
        if tensor is None or tensor.shape != shape:
            found = "missing" if tensor is None else list(tensor.shape)
            raise Changed(f"of its {kind.__name__} one parameter is {found}, not {list(shape)}")


def _check_cell(cell: NTMCell) -> None:
    if type(cell) is not NTMCell:
        raise Changed(f"{type(cell).__name__} is a class of its own")
    R, Q, H, W = cell.read_heads, cell.write_heads, cell.heads, cell.width
    controller = cell.controller
    if not isinstance(controller, Core):
        raise Changed(f"{type(controller).__name__} is no controller")
    C, E = controller.output_size, H * W + 2 * Q * W + 3 * H + H * cell.shifts
    if (controller.input_size, C) != (cell.input_size + R * W, cell.output_size - R * W):
        raise Changed(
            f"its controller takes {controller.input_size} and gives {C}, and it was made for "
            f"one that takes {cell.input_size + R * W} and gives {cell.output_size - R * W}"
        )
    _check_shapes(NTMCell, _linear(cell.interface, E, C))


def _check_stack(stack: Stack) -> None:
    if type(stack) is not Stack or type(stack.layers) is not nn.ModuleList:
        raise Changed(f"{type(stack).__name__} is a class of its own")
    layers = layers_of(stack)
    below = [layer.output_size for layer in layers]
    inputs = [stack.input_size]
    inputs += [size + (stack.input_size if stack.skip else 0) for size in below[:-1]]
    outputs = sum(below) if stack.skip else below[-1]
    if [layer.input_size for layer in layers] != inputs or stack.output_size != outputs:
        raise Changed("the sizes of its layers do not go together")


# Whole sequences


def unrolls_as_it_steps(core: Core) -> bool:
    """Whether ``core.unroll`` is sure to compute what one ``forward`` after another does.

    The layers that have torch's kernels take their weights out of the modules inside them, past
    everything that was put in or hung on; and who overrides ``forward`` alone inherits an
    ``unroll`` that knows nothing of it.
    """
    try:
        check_untouched(core)
    except Changed:
        return "unroll" in core.__dict__
    for module in core.modules():
        if isinstance(module, tuple(FITS)) and any(
            type(child) not in (nn.Linear, nn.ModuleList, nn.ParameterList)
            for child in module.modules()
            if child is not module
        ):
            return False
        if isinstance(module, Core) and _owner(module, "forward") < _owner(module, "unroll"):
            return False
    return True


def _owner(core: Core, method: str) -> int:
    """How far up among its classes a method is defined."""
    return next(n for n, kind in enumerate(type(core).__mro__) if method in vars(kind))


# What torch is doing around it


def circumstance() -> str | None:
    """What torch is doing that has to see every operation; None if nothing."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "torch is tracing"
    if torch.is_autocast_enabled("cpu"):
        return "autocast chooses the type of every operation"
    if torch._C._functorch.maybe_current_level() is not None:
        return "torch.func transforms every operation"
    if torch.autograd.forward_ad._current_level >= 0:
        return "it has no derivatives in forward mode"
    if torch._C._len_torch_dispatch_stack() > 0:
        return "a dispatch mode wants to see every operation"
    return None
