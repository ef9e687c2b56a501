"""The border: what sizes, types and devices must be, before any engine sees the numbers.

Kernels read memory where sizes say that it is. So every way in is checked here, for the reference
as well, that both refuse the same with the same line. A wrong size, type or device is a
ValueError that names what came and what would be right; what is no tensor at all, a TypeError.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from controllers.base import Core, State
from controllers.stack import Stack
from ntm.kernels.modules import controller_of, layers_of, tensors_of, vectors_carried
from ntm.memory.ntm import NTMCell, NTMState
from ntm.memory.sparse import SparseCell, SparseState, too_few


def check(core: Core, xs: Tensor, state: State | None) -> State:
    """Checks inputs [T, B, I] and a state of B sequences; without one, the first is taken.

    Returns the state as the core has it, for B sequences: a state may be given in plain tuples or
    lists, and a part of it for one sequence, which then serves all.
    """
    model = _model_tensor(core)
    _check_inputs(core, xs, model)
    B = xs.shape[1]
    return core.initial_state(B) if state is None else _State(B, model).take(core, state)


def check_inputs(core: nn.Module, xs: Tensor) -> None:
    """Checks inputs [T, B, I]."""
    _check_inputs(core, xs, _model_tensor(core))


def _check_inputs(core: nn.Module, xs: Tensor, model: Tensor | None) -> None:
    _is_tensor("inputs", xs)
    shape, size = xs.shape, _input_size(core)
    if len(shape) != 3:
        raise ValueError(f"inputs should be [T, B, I], not {list(shape)}")
    if shape[2] != size:
        raise ValueError(f"inputs has {shape[2]} channels, the model takes {size}")
    if model is not None:
        _goes_with("inputs", xs, model)


def check_targets(
    xs: Tensor, targets: Tensor, mask: Tensor, channels: int, dtype: torch.dtype | None = None
) -> None:
    """Checks targets [T, B, channels] and mask [T, B] beside inputs [T, B, I].

    dtype: that of the targets; None for any.
    """
    T, B = xs.shape[:2]
    _is_tensor("targets", targets)
    _is_tensor("mask", mask)
    if targets.dim() != 3:
        raise ValueError(f"targets should be [T, B, O], not {list(targets.shape)}")
    if targets.shape[2] != channels:
        raise ValueError(f"targets has {targets.shape[2]} channels, the model gives {channels}")
    if targets.shape[:2] != (T, B):
        raise ValueError(f"targets is {list(targets.shape)}, should be {[T, B, channels]}")
    if mask.shape != (T, B):
        raise ValueError(f"mask is {list(mask.shape)}, should be {[T, B]}")
    if dtype is not None:
        for name, tensor in (("targets", targets), ("mask", mask)):
            if tensor.dtype is not dtype:
                raise ValueError(f"{name} is {_dtype(tensor)}, inputs {_dtype(xs)}")
    for name, tensor in (("targets", targets), ("mask", mask)):
        if tensor.device != xs.device:
            raise ValueError(f"{name} is on {tensor.device}, inputs on {xs.device}")


def check_begin(xs: Tensor, begin: Tensor) -> None:
    """Checks begin [B], the step at which each answer begins, beside inputs [T, B, I]."""
    _is_tensor("begin", begin)
    if begin.shape != xs.shape[1:2]:
        raise ValueError(f"begin is {list(begin.shape)}, should be {[xs.shape[1]]}")


def check_options(
    core: nn.Module, recompute_every: int | None, weighting_grad: float | None
) -> None:
    """Checks how a core is to be run."""
    if recompute_every is not None and recompute_every < 1:
        raise ValueError(f"recompute_every should be at least 1, not {recompute_every}")
    if weighting_grad is not None:
        if not isinstance(core, NTMCell):
            raise ValueError("weighting_grad is for the weightings of an NTM, which this is not")
        if not weighting_grad > 0:
            raise ValueError(f"weighting_grad should be more than 0, not {weighting_grad:g}")


def _input_size(core: nn.Module) -> int:
    """I, of the controller that is there now."""
    controller = controller_of(core)
    if isinstance(core, NTMCell) and isinstance(controller, Core):
        return controller.input_size - core.read_heads * core.width
    return int(core.input_size)  # type: ignore[arg-type]


def _model_tensor(core: nn.Module) -> Tensor | None:
    """A tensor of the type and on the device of the model.

    None for a core of another package on its own, which may take what it likes.
    """
    layers = [] if isinstance(core, NTMCell | SparseCell) else layers_of(core)
    if any(vectors_carried(layer) is None for layer in layers):
        return None
    return next(tensors_of(core), None)


class _State:
    """Checks the parts of one state."""

    def __init__(self, batch: int, model: Tensor | None) -> None:
        self.batch, self.model = batch, model

    def take(self, core: Core, state: Any) -> State:
        if isinstance(core, NTMCell):
            return self._ntm(core, state)
        if isinstance(core, SparseCell):
            return self._sparse(core, state)
        return self._controller(core, state, "state")

    def _ntm(self, cell: NTMCell, state: Any) -> NTMState:
        memory, weights, reads, controller = _fields(state, NTMState._fields)
        N = _slots(memory)
        memory = self._part("state.memory", memory, (N or "N", cell.width))
        return NTMState(
            memory,
            self._part("state.weights", weights, (cell.heads, N)),
            self._part("state.reads", reads, (cell.read_heads, cell.width)),
            self._controller(controller_of(cell), controller, "state.controller"),
        )

    def _sparse(self, cell: SparseCell, state: Any) -> SparseState:
        memory, accessed, slots, weights, reads, controller = _fields(state, SparseState._fields)
        H, K, W, N = cell.heads, cell.reads, cell.width, _slots(memory)
        memory = self._part("state.memory", memory, (N or "N", W))
        if problem := too_few(N, H, K):
            raise ValueError(f"state.memory has too few slots: {problem}")
        return SparseState(
            memory,
            self._numbers("state.accessed", accessed, (N,)),
            self._numbers("state.slots", slots, (H, K)),
            self._part("state.weights", weights, (H, K)),
            self._part("state.reads", reads, (H, W)),
            self._controller(cell.controller, controller, "state.controller"),
        )

    def _controller(self, core: nn.Module, state: Any, where: str) -> State:
        if type(core) is not Stack:
            return self._layer(core, state, where)
        layers = layers_of(core)
        self._count(state, len(layers), where, "a tuple of its layers' states")
        return tuple(
            self._layer(layer, one, f"{where}[{n}]")
            for n, (layer, one) in enumerate(zip(layers, state, strict=True))
        )

    def _layer(self, layer: nn.Module, state: Any, where: str) -> State:
        count = vectors_carried(layer)
        if count is None:
            return state  # of a class that is not ours: what it carries is its own affair
        shape = (int(layer.output_size),)  # type: ignore[arg-type]
        if count == 1:
            return self._part(where, state, shape)
        self._count(state, count, where, f"a tuple of {count}")
        return tuple(self._part(f"{where}[{n}]", part, shape) for n, part in enumerate(state))

    def _count(self, state: Any, count: int, where: str, should: str) -> None:
        if not isinstance(state, tuple | list):
            raise TypeError(f"{where} should be {should}, not {_kind(state)}")
        if len(state) != count:
            raise ValueError(f"{where} has {len(state)} parts, should have {count}")

    def _part(self, where: str, tensor: Any, rest: tuple[int | str, ...]) -> Tensor:
        """One part, [B, *rest], or [1, *rest], which serves all; it comes back as the first."""
        _is_tensor(where, tensor)
        shape, B = tensor.shape, self.batch
        if shape != (B, *rest) and shape != (1, *rest):
            right = ", ".join(map(str, (B, *rest)))
            raise ValueError(f"{where} is {list(shape)}, should be [{right}]")
        if self.model is not None:
            _goes_with(where, tensor, self.model)
        found: Tensor = tensor if shape[0] == B else tensor.expand(B, *shape[1:])
        return found

    def _numbers(self, where: str, tensor: Any, rest: tuple[int | str, ...]) -> Tensor:
        """A part that holds integers."""
        found = _State(self.batch, None)._part(where, tensor, rest)
        if found.dtype is not torch.int64:
            raise ValueError(f"{where} is {_dtype(found)}, should be int64")
        if self.model is not None and found.device != self.model.device:
            raise ValueError(f"{where} is on {found.device}, the model on {self.model.device}")
        return found


def _fields(state: Any, names: tuple[str, ...]) -> Any:
    """A state of so many parts."""
    fields = ", ".join(names)
    if not isinstance(state, tuple | list):
        raise TypeError(f"state should be ({fields}), not {_kind(state)}")
    if len(state) != len(names):
        raise ValueError(f"state has {len(state)} parts, should have {len(names)}: ({fields})")
    return state


def _slots(memory: Any) -> int:
    """N of a memory [B, N, W]; 0 of what is none."""
    return memory.shape[1] if isinstance(memory, Tensor) and memory.dim() == 3 else 0


def _is_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} should be a tensor, not {_kind(value)}")


def _goes_with(name: str, tensor: Tensor, model: Tensor) -> None:
    """Of the model's type and on its device; autocast may have chosen another type."""
    if tensor.dtype is not model.dtype and not _autocast(model):
        raise ValueError(f"{name} is {_dtype(tensor)}, the model {_dtype(model)}")
    if tensor.is_cpu != model.is_cpu or (not model.is_cpu and tensor.device != model.device):
        raise ValueError(f"{name} is on {tensor.device}, the model on {model.device}")


def _autocast(model: Tensor) -> bool:
    device = model.device.type
    return device in ("cpu", "cuda") and torch.is_autocast_enabled(device)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
