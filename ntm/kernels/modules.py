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


class ChangedError(Exception):
    """A module is not, or not only, what its class is. The message says in what."""


#: A parameter or a buffer, and the shape that it should have.
Fit: TypeAlias = tuple["Tensor | None", tuple[int, ...]]

# Below, modules and tensors are taken out of ``_modules`` and ``_parameters``: ``module.name`` goes
# through ``Module.__getattr__``, ten times as slow, and this is asked at every call.


def _linear(m: nn.Module, name: str, rows: int, columns: int) -> list[Fit]:
    layer = m._modules.get(name)
    if type(layer) is not nn.Linear:
        raise ChangedError(f"{name} is a {type(layer).__name__}, not exactly a torch.nn.Linear")
    weight, bias = map(layer._parameters.get, ("weight", "bias"))
    return [(weight, (rows, columns)), (bias, (rows,))]


def _optional(m: nn.Module, name: str, *shape: int) -> list[Fit]:
    """Of a parameter that may be None."""
    own = m._parameters.get(name)
    return [] if own is None else [(own, shape)]


def _nested(m: NestedLSTM, i: int, n: int) -> list[Fit]:
    gates = m._modules["gates"]
    if type(gates) is not nn.ModuleList:
        raise ChangedError(f"gates is a {type(gates).__name__}, not a ModuleList")
    depths = range(len(gates))
    return [fit for k in depths for fit in _linear(gates, str(k), 4 * n, (n if k else i) + n)]


def _candidate(m: nn.Module, i: int, n: int) -> list[Fit]:
    return [*_linear(m, "candidate_x", n, i), *_linear(m, "candidate_h", n, n)]


#: A layer's class -> what it computes with, for I inputs and n units.
FITS: dict[type[Core], Callable[[Any, int, int], list[Fit]]] = {
    FeedForward: lambda m, i, n: _linear(m, "hidden", n, i),
    RNN: lambda m, i, n: _linear(m, "hidden", n, i + n),
    Leaky: lambda m, i, n: [*_linear(m, "hidden", n, i + n), *_optional(m, "leak_logit", n)],
    EchoState: lambda m, i, n: [
        (m._buffers.get("weight"), (n, i + n)),
        (m._buffers.get("bias"), (n,)),
    ],
    LSTM: lambda m, i, n: _linear(m, "gates", 4 * n, i + n),
    PeepholeLSTM: lambda m, i, n: [
        *_linear(m, "gates", 4 * n, i + n),
        (m._parameters.get("peepholes"), (3 * n,)),
    ],
    NestedLSTM: _nested,
    GRU: lambda m, i, n: [*_linear(m, "gates", 2 * n, i + n), *_candidate(m, i, n)],
    ReducedGRU: lambda m, i, n: [
        *_optional(m, "gates_weight", 2 * n, n),
        *_optional(m, "gates_bias", 2 * n),
        *_candidate(m, i, n),
    ],
}


def vectors_carried(layer: nn.Module) -> int | None:
    """Vectors [B, n] in the state of a layer; None where only its own class knows."""
    kind = type(layer)
    if kind is LSTM or kind is PeepholeLSTM:
        return 2
    if kind is FeedForward:
        return 0
    if kind is NestedLSTM:
        return 1 + len(layer._modules["gates"])  # type: ignore[arg-type]
    return 1 if kind in FITS else None


def controller_of(core: nn.Module) -> nn.Module:
    """The controller that an NTM has now; any other core is its own."""
    return core._modules["controller"] if isinstance(core, NTMCell) else core  # type: ignore[return-value]


def layers_of(core: nn.Module) -> list[Core]:
    """The layers of a core's controller, or of all the cores of a model that has several."""
    core = controller_of(core)
    if isinstance(core, Stack):
        return list(core._modules["layers"]._modules.values())  # type: ignore[union-attr, arg-type]
    if isinstance(core, Core):
        return [core]
    return [layer for part in core.children() for layer in layers_of(part)]


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """All parameters and buffers; as ``parameters()`` and ``buffers()``, but ten times as fast."""
    for one in _tree(module):
        for own in (one._parameters, one._buffers):
            if own:
                for tensor in own.values():
                    if tensor is not None:
                        yield tensor


def parameters_of(module: nn.Module) -> Iterator[nn.Parameter]:
    """All parameters; as ``parameters()``, but several times as fast."""
    for one in _tree(module):
        for parameter in one._parameters.values():
            if parameter is not None:
                yield parameter


def _tree(module: nn.Module) -> list[nn.Module]:
    """The module and all inside it."""
    found = [module]
    for one in found:  # which grows on the way
        if one._modules:
            found += [child for child in one._modules.values() if child is not None]
    return found


# Has it been changed?


def check_untouched(core: nn.Module) -> None:
    """Raises :class:`ChangedError` where a hook listens, or a method was set on one module."""
    if (
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    ):
        raise ChangedError("a hook on all modules wants to be called")
    for module in _tree(core):
        own = module.__dict__
        if (
            own["_forward_hooks"]
            or own["_forward_pre_hooks"]
            or own["_backward_hooks"]
            or own["_backward_pre_hooks"]
        ):
            raise ChangedError(f"a hook on {_name(module, core)} wants to be called")
        methods = _methods(type(module))  # type: ignore[arg-type]
        if not methods.isdisjoint(own):
            name = sorted(methods.intersection(own))[0]
            raise ChangedError(f"{_name(module, core)} has a method of its own, {name}")


@lru_cache(maxsize=256)
def _methods(kind: Any) -> frozenset[str]:
    """Names of all methods of a class; a compiled call is torch's way to set one."""
    names = {name for name in dir(kind) if callable(getattr(kind, name, None))}
    return frozenset(names | {"_compiled_call_impl"})


def _name(module: nn.Module, core: nn.Module) -> str:
    names = [name for name, one in core.named_modules() if one is module and name]
    return names[0] if names else f"the {type(core).__name__}"


def check_fits(core: Core) -> None:
    """Raises :class:`ChangedError` where a core is not made of what its class puts in.

    That is: of exactly these classes, all of sizes that go together.
    """
    controller = controller_of(core)
    if isinstance(core, NTMCell):
        _check_cell(core, controller)
    layers = layers_of(core)
    if isinstance(controller, Stack):
        _check_stack(controller, layers)
    for layer in layers:
        fits = FITS.get(type(layer))
        if fits is None:
            raise ChangedError(f"{type(layer).__name__} has no fused step")
        _check_shapes(layer, fits(layer, layer.input_size, layer.output_size))


def _check_shapes(module: nn.Module, fits: list[Fit]) -> None:
    for tensor, shape in fits:
        if tensor is None or tensor.shape != shape:
            found = "missing" if tensor is None else list(tensor.shape)
            raise ChangedError(
                f"of its {type(module).__name__} a parameter is {found}, not {list(shape)}"
            )


def _check_cell(cell: NTMCell, controller: nn.Module) -> None:
    if type(cell) is not NTMCell:
        raise ChangedError(f"{type(cell).__name__} has no fused step")
    if not isinstance(controller, Core):
        raise ChangedError(f"{type(controller).__name__} has no fused step")
    Q, H, W, C = cell.write_heads, cell.heads, cell.width, controller.output_size
    reads = cell.read_heads * W
    takes, gives = cell.input_size + reads, cell.output_size - reads
    if (controller.input_size, C) != (takes, gives):
        raise ChangedError(
            f"its controller takes {controller.input_size} and gives {C}, "
            f"in the place of one that takes {takes} and gives {gives}"
        )
    E = H * W + 2 * Q * W + 3 * H + H * cell.shifts
    _check_shapes(cell, _linear(cell, "interface", E, C))


def _check_stack(stack: Stack, layers: list[Core]) -> None:
    if type(stack) is not Stack or type(stack._modules["layers"]) is not nn.ModuleList:
        raise ChangedError(f"{type(stack).__name__} has no fused step")
    I = stack.input_size  # noqa: E741
    sizes = [layer.output_size for layer in layers]
    inputs = [I, *(size + (I if stack.skip else 0) for size in sizes[:-1])]
    outputs = sum(sizes) if stack.skip else sizes[-1]
    if [layer.input_size for layer in layers] != inputs or stack.output_size != outputs:
        raise ChangedError("the sizes of its layers do not go together")


# Whole sequences


def unrolls_as_it_steps(core: Core) -> bool:
    """Whether ``core.unroll`` is sure to compute what one ``forward`` after another does.

    The layers that have torch's kernels take their weights out of the modules inside them, past
    everything that was put in or hung on; and who overrides ``forward`` alone inherits an
    ``unroll`` that knows nothing of it.
    """
    try:
        check_untouched(core)
    except ChangedError:
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


def is_tracing() -> bool:
    """Whether torch.jit records what is done."""
    return bool(torch._C._get_tracing_state())


def circumstance() -> str | None:
    """What torch is doing that has to see every operation; None if nothing."""
    if torch.compiler.is_compiling() or is_tracing():
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
