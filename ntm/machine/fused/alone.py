"""Whole sequences of a controller without a memory, for the units that torch has no kernel of."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from controllers.base import Core, State
from ntm.machine.fused import kernel
from ntm.machine.fused.controllers import Array
from ntm.machine.fused.kernel import Adjoint, Machine
from ntm.machine.fused.plan import Layout
from ntm.machine.fused.sequence import arrays, rows
from ntm.machine.fused.threads import run
from ntm.machine.fused.workspace import in_one_block


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
            found = _Rollout(layout, history=False, arguments=arrays([xs, *start, *parameters]))
            outputs, *end = map(torch.from_numpy, [found.outputs, *found.end()])
    return outputs, layout.unflatten(end)


class _Rollout:
    """One sequence: its arrays, and what is in them after the forward pass."""

    def __init__(self, layout: Layout, history: bool, arguments: list[Array]) -> None:
        xs, *others = arguments
        start, parameters = others[: len(layout.places)], others[len(layout.places) :]
        self.layout = layout
        self.steps, self.batch = T, B = xs.shape[:2]
        none = np.empty(0, xs.dtype)
        self.machine = Machine(
            layout.table, *layout.pack(parameters, xs.dtype), none.reshape(0, 0), none
        )
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
        self.v, self.c, self.z, *self.derivatives = in_one_block(sizes, xs.dtype)
        for array, (is_c, columns, _) in zip(start, layout.places, strict=True):
            (self.c if is_c else self.v)[0, :, columns] = array
        self.outputs = np.empty((T, B, layout.controller_size), xs.dtype)
        mask = -1 if history else 1
        self.last = T & mask
        arguments_ = (self.machine, xs, self.v, self.c, self.z, self.outputs, mask)
        run(kernel.forward_alone, arguments_, B)

    def end(self) -> list[Array]:
        """A copy of the last state."""
        return [
            (self.c if is_c else self.v)[self.last, :, columns].copy()
            for is_c, columns, _ in self.layout.places
        ]

    def backward(
        self, doutputs: Array, dend: list[Array | None]
    ) -> tuple[Array, list[Array], Array]:
        """The derivatives by xs, by the first state, and by z."""
        dxs, dz, dh, dc, dv = self.derivatives
        dh.fill(0)
        dc.fill(0)
        places = [(dc if is_c else dh)[:, columns] for is_c, _, columns in self.layout.places]
        for place, array in zip(places, dend, strict=True):
            if array is not None:
                place[...] = array
        none = np.empty((self.batch, 0), dxs.dtype)
        memory = none.reshape(self.batch, 0, 0)
        adjoint = Adjoint(none, dh, dc, memory, memory, dv, none)
        arguments = (self.machine, self.v, self.c, self.z, doutputs, adjoint, dxs, dz)
        run(kernel.backward_alone, arguments, self.batch)
        return dxs, places, dz


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, layout: Layout, xs: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.rollout = rollout = _Rollout(layout, history=True, arguments=arrays([xs, *rest]))
        ctx.shapes = [t.shape for t in rest]
        return tuple(map(torch.from_numpy, [rollout.outputs, *rollout.end()]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, doutputs: Tensor | None, *dend: Tensor | None) -> Any:
        rollout: _Rollout = ctx.rollout
        layout = rollout.layout
        if doutputs is None:
            doutputs = torch.zeros(rollout.outputs.shape, dtype=torch.from_numpy(rollout.v).dtype)
        dout, *dend_ = arrays([doutputs, *dend])
        dxs, dstart, dz = rollout.backward(dout, dend_)
        shapes = ctx.shapes[len(layout.places) :]
        sinks = [np.zeros(shape, dz.dtype) for shape in shapes]
        layout.layer_gradients(rows(dz), rows(rollout.v[: rollout.steps]), sinks, parallel=True)
        # Copies: the block is the rollout's, and a second backward pass would write over it.
        found = [dxs.copy(), *(place.copy() for place in dstart), *sinks]
        return None, *map(torch.from_numpy, found)
