"""The fused engine: a whole sequence of a core in one call, and its backward pass in another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from controllers.base import Core, State
from ntm.kernels.layout import Layout
from ntm.kernels.numba.parameters import pack
from ntm.kernels.numba.rollout import Rollout
from ntm.kernels.threads import threads


def unroll(
    core: Core, xs: Tensor, state: State, *,
    recompute_every: int | None = None, weighting_grad: float | None = None,
    wants_state: bool = True,
) -> tuple[Tensor, State]:  # fmt: skip
    """``core.unroll``: xs [T, B, I] and a state -> outputs [T, B, output_size], the last state.

    core: an :class:`NTMCell`, or a controller alone. Where no gradient is asked for there is no
    history. Training keeps the whole of it, T copies of the memory.

    recompute_every: keep the state only every so many steps, and run those between forward again
        in the backward pass: the same gradients for half as much work again, in memory for
        T / recompute_every + recompute_every steps.
    weighting_grad: what derivatives by the weights w_t are clipped to, at every step.

    Sizes, types and options are taken to be right: ``ntm.kernels.border`` has looked at them.
    """
    if len(xs) == 0 or xs.shape[1] == 0:
        return Core.unroll(core, xs, state)
    layout = Layout(core)
    start, parameters = layout.flatten(state), layout.parameters()
    options = {"recompute_every": recompute_every, "weighting_grad": weighting_grad}
    slots, alike = 0, False
    if layout.heads.H:
        slots, alike = start[0].shape[1], are_alike(*start[:2])
        # Derivatives by the last weightings need not be alike: then they are clipped one by one.
        if weighting_grad is not None and torch.is_grad_enabled():
            alike = False
        if alike:
            start[:2] = start[0][:, :2], start[1][..., :2]
    memory = slots, alike
    if torch.is_grad_enabled() and any(t.requires_grad for t in [xs, *start, *parameters]):
        outputs, *end = _Unroll.apply(layout, memory, options, xs, *start, *parameters)  # type: ignore[no-untyped-call]
    else:
        with torch.no_grad():
            rollout, first = _rollout(layout, memory, options, [xs, *start, *parameters])
            outputs, *end = map(torch.from_numpy, _flat(rollout.infer(first, wants_state)))
    return outputs, layout.unflatten(end) if wants_state else None


def are_alike(memory: Tensor, weights: Tensor) -> bool:
    """Whether slots 1 ... N - 1 are, in a memory [B, N, W] and weightings [B, H, N].

    A memory says so by being one row, expanded; and nobody wants its derivatives one by one.
    """
    if memory.stride(1) != 0 or memory.requires_grad or weights.requires_grad:
        return False
    one = weights[:1] if weights.stride(0) == 0 else weights
    one = one[:, :1] if one.stride(1) == 0 else one
    return bool((one[..., 1:] == one[..., 1:2]).all())


def _rollout(
    layout: Layout, memory: tuple[int, bool], options: dict[str, Any], tensors: list[Tensor]
) -> tuple[Rollout, list[Any]]:
    """Of the inputs, the first state and the parameters: the rollout, and the first state.

    memory: its slots, and whether they are alike.
    """
    x, *others = arrays(tensors)
    states = len(layout.places.state) + (3 if layout.heads.H else 0)
    start, parameters = others[:states], others[states:]
    packed = pack(layout, parameters, x.dtype)
    return Rollout(layout, packed, x, *memory, threads=threads(), **options), start


def _flat(found: tuple[Any, list[Any]]) -> list[Any]:
    outputs, end = found
    return [outputs, *end]


def arrays(tensors: Iterable[Tensor | None]) -> list[Any]:
    """The tensors' memory, as contiguous NumPy arrays; None for None."""
    return [None if t is None else t.detach().contiguous().numpy() for t in tensors]


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, layout: Layout, memory: tuple[int, bool], options: dict[str, Any], xs: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        ctx.set_materialize_grads(False)
        ctx.rollout, start = _rollout(layout, memory, options, [xs, *rest])
        ctx.states = len(start)
        outputs, *end = map(torch.from_numpy, _flat(ctx.rollout.forward(start)))
        ctx.shape = outputs.shape
        # The interface's gradient needs the outputs; without it they may change in place.
        ctx.save_for_backward(xs, *rest, *([outputs] if layout.heads.H else []))
        return outputs, *end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, doutputs: Tensor | None, *dend: Tensor | None) -> Any:
        xs, *rest = ctx.saved_tensors  # which says so if one of them has changed
        outputs = rest.pop() if ctx.rollout.heads.H else xs.new_empty(ctx.shape)
        if doutputs is None:
            doutputs = xs.new_zeros(ctx.shape)
        wanted = ctx.needs_input_grad[3:]
        dxs = torch.empty_like(xs, memory_format=torch.contiguous_format) if wanted[0] else None
        sinks = [torch.zeros(p.shape, dtype=p.dtype, device="cpu") for p in rest[ctx.states :]]
        out, dout, dx, *others = arrays([outputs, doutputs, dxs, *dend, *sinks])
        places = ctx.rollout.backward(out, dout, others[: len(dend)], others[len(dend) :], dx)
        dstart = [
            torch.from_numpy(np.array(place)) if want else None
            for place, want in zip(places, wanted[1:], strict=False)
        ]
        ctx.rollout.close()
        return None, None, None, dxs, *dstart, *sinks
