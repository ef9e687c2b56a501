"""Whole sequences of a controller without a memory: a baseline on the fused engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from controllers.base import Core, State
from ntm.kernels.numba import kernel
from ntm.kernels.numba.controllers import Array
from ntm.kernels.numba.kernel import Adjoint, Machine
from ntm.kernels.numba.plan import Layout
from ntm.kernels.numba.sequence import arrays, rows, unroll_ntm
from ntm.kernels.numba.threads import run
from ntm.kernels.numba.workspace import in_one_block
from ntm.memory.ntm import NTMCell


def unroll(
    core: Core,
    xs: Tensor,
    state: State,
    *,
    recompute_every: int | None = None,
    weighting_grad: float | None = None,
) -> tuple[Tensor, State]:
    """``core.unroll`` of an NTM or of a controller alone, as ``ntm.kernels.dispatch`` has it."""
    if isinstance(core, NTMCell):
        return unroll_ntm(core, xs, state, recompute_every, weighting_grad)
    return unroll_alone(core, xs, state)


def unroll_alone(core: Core, xs: Tensor, state: State) -> tuple[Tensor, State]:
    """``core.unroll``: xs [T, B, I] and a state -> outputs [T, B, output_size], the last state."""
    if len(xs) == 0 or xs.shape[1] == 0:
        return core.unroll(xs, state)
    layout = Layout(core, core.input_size, 0)
    start, parameters = layout.flatten(state), layout.parameters()
    if torch.is_grad_enabled() and any(t.requires_grad for t in [xs, *start, *parameters]):
        outputs, *end = _Unroll.apply(layout, xs, *start, *parameters)  # type: ignore[no-untyped-call]
    else:
        with torch.no_grad():
            x, *others = arrays([xs, *start, *parameters])
            rollout = RolloutAlone(layout, layout.machine(others[len(start) :], x.dtype), x)
            found, last = rollout.infer(others[: len(start)])
            outputs, *end = map(torch.from_numpy, [found, *last])
    return outputs, layout.unflatten(end)


class RolloutAlone:
    """One sequence on its way through a controller: as :class:`Rollout`, without a memory."""

    def __init__(self, layout: Layout, machine: Machine, xs: Array, parallel: bool = True) -> None:
        self.layout, self.machine, self.xs, self.parallel = layout, machine, xs, parallel
        self.steps, self.batch = xs.shape[:2]

    def infer(self, start: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Outputs and the last state, without any history."""
        return self._run(start, history=False), self._end()

    def forward(self, start: Sequence[Array], wants_end: bool = True) -> tuple[Array, list[Array]]:
        """Outputs and, if wanted, the last state; keeps what :meth:`backward` needs."""
        return self._run(start, history=True), self._end() if wants_end else []

    def backward(
        self, outputs: Array, doutputs: Array, dend: Sequence[Array | None],
        sinks: Sequence[Array], dxs: Array | None = None,
    ) -> list[Array]:  # fmt: skip
        """The derivatives by the first state, [B, n] each; None in ``dend`` stands for 0.

        Those by the parameters are added to ``sinks``, those by the inputs written to ``dxs``.
        ``outputs`` are what a machine asks for here, and not needed.
        """
        dx, dz, dh, dc, dv = self.derivatives
        dh.fill(0)
        dc.fill(0)
        places = [(dc if is_c else dh)[:, columns] for is_c, _, columns in self.layout.places]
        for place, array in zip(places, dend or [None] * len(places), strict=True):
            if array is not None:
                place[...] = array
        none = np.empty((self.batch, 0), dz.dtype)
        memory = none.reshape(self.batch, 0, 0)
        adjoint = Adjoint(none, dh, dc, memory, memory, dv, none)
        arguments = (self.machine, self.v, self.c, self.z, doutputs, adjoint, dx, dz)
        run(kernel.backward_alone, arguments, self.batch, self.parallel)
        seen = rows(self.v[: self.steps])
        self.layout.layer_gradients(rows(dz), seen, sinks, parallel=self.parallel)
        if dxs is not None:
            dxs[:] = dx
        return places

    def close(self) -> None:
        """As of a :class:`Rollout`; there is nothing to hand back."""

    def _end(self) -> list[Array]:
        """A copy of the last state."""
        return [
            (self.c if is_c else self.v)[self.last, :, columns].copy()
            for is_c, columns, _ in self.layout.places
        ]

    def _run(self, start: Sequence[Array], history: bool) -> Array:
        layout, T, B, dtype = self.layout, self.steps, self.batch, self.xs.dtype
        inner, outer = (T, T + 1) if history else (2, 2)
        sizes: list[tuple[int, ...]] = [
            (outer, B, layout.v_size),
            (outer, B, layout.c_size),
            (inner, B, layout.z_size),
        ]
        if history:
            sizes += [
                (T, B, layout.inputs), (T, B, layout.z_size),  # derivatives by x and z
                (B, layout.h_size), (B, layout.c_size), (B, layout.v_size),
            ]  # fmt: skip
        _, (self.v, self.c, self.z, *self.derivatives) = in_one_block(sizes, dtype)
        for array, (is_c, columns, _) in zip(start, layout.places, strict=True):
            (self.c if is_c else self.v)[0, :, columns] = array
        outputs = np.empty((T, B, layout.controller_size), dtype)
        mask = -1 if history else 1
        self.last = T & mask
        arguments = (self.machine, self.xs, self.v, self.c, self.z, outputs, mask)
        run(kernel.forward_alone, arguments, B, self.parallel)
        return outputs


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layout: Layout, xs: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        x, *others = arrays([xs, *rest])
        count = len(layout.places)
        ctx.rollout = RolloutAlone(layout, layout.machine(others[count:], x.dtype), x)
        outputs, end = ctx.rollout.forward(others[:count])
        ctx.outputs, ctx.shapes = outputs, [t.shape for t in rest[count:]]
        return tuple(map(torch.from_numpy, [outputs, *end]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, doutputs: Tensor | None, *dend: Tensor | None) -> Any:
        rollout: RolloutAlone = ctx.rollout
        sinks = [np.zeros(shape, rollout.xs.dtype) for shape in ctx.shapes]
        dout, *dend_ = arrays([doutputs, *dend])
        if dout is None:
            dout = np.zeros_like(ctx.outputs)
        dxs = np.empty_like(rollout.xs)
        places = rollout.backward(ctx.outputs, dout, dend_, sinks, dxs)
        # Copies: the block is the rollout's, and a second backward pass would write over it.
        found = [dxs, *(place.copy() for place in places), *sinks]
        return None, *map(torch.from_numpy, found)
