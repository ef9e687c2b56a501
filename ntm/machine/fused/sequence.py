"""The fused engine: a whole sequence of an NTM in one call, and its backward pass in another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from controllers.base import Core
from ntm.machine.fused import kernel
from ntm.machine.fused.plan import Plan, plan_of
from ntm.machine.fused.threads import run, shares
from ntm.machine.fused.workspace import Lease, Workspace

if TYPE_CHECKING:
    from ntm.machine.cell import NTMCell, NTMState

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def unroll(
    cell: NTMCell, xs: Tensor, state: NTMState, segment: int | None = None
) -> tuple[Tensor, NTMState]:
    """``cell.unroll``: xs [T, B, I] and a state -> outputs [T, B, output_size], the last state.

    Without ``segment``, training keeps the whole history, T copies of the memory. With it, the
    state is kept every ``segment`` steps, and the backward pass runs each segment forward again:
    the same gradients for half as much work again, in memory for T / segment + segment steps.
    Where no gradient is asked for there is no history at all.
    """
    if segment is not None and segment < 1:
        raise ValueError(f"segment must be at least 1, not {segment}")
    if len(xs) == 0 or xs.shape[1] == 0:
        return Core.unroll(cell, xs, state)
    plan = plan_of(cell)
    start = [state.memory, state.weights, state.reads, *plan.flatten(state.controller)]
    parameters = plan.parameters()
    if torch.is_grad_enabled() and any(t.requires_grad for t in [xs, *start, *parameters]):
        outputs, *end = _Unroll.apply(  # type: ignore[no-untyped-call]
            plan, segment, xs, *start, *parameters
        )
    else:
        with torch.no_grad():
            run_ = _Run(plan, xs, start, parameters)
            lease = run_.lease(0)
            workspace = lease.workspace
            assert workspace is not None
            outputs = run_.new_outputs(len(xs))
            run_.put(workspace, start)
            run_.forward(workspace, xs, outputs)
            end = run_.take(workspace, len(xs) & 1)
    memory, weights, reads, *flat = end
    return outputs, type(state)(memory, weights, reads, plan.unflatten(flat))


class _Run:
    """One call's machine, sizes and the moves between torch's layout and the kernels'."""

    def __init__(
        self, plan: Plan, xs: Tensor, start: Sequence[Tensor], parameters: Sequence[Tensor]
    ) -> None:
        self.plan, self.dtype = plan, xs.dtype
        self.batch, self.slots = xs.shape[1], start[0].shape[1]
        self.machine = plan.machine([p.detach() for p in parameters])
        self.reads_shape = (self.batch, plan.read_heads, plan.width)
        self.threads = len(shares(self.batch))
        tiny = torch.finfo(self.dtype).tiny
        scalar = _NUMPY[self.dtype]
        #: As in addressing.py: the shortest vector with a direction, the smallest logarithm.
        self.sizes = (plan.read_heads, plan.shifts, scalar(tiny**0.25), scalar(tiny))

    def lease(self, steps: int) -> Lease:
        return Lease(self.plan, self.batch, self.slots, steps, self.threads, self.dtype)

    def new_outputs(self, steps: int) -> Tensor:
        return torch.empty(steps, self.batch, self.plan.output_size, dtype=self.dtype)

    def put(self, to: Workspace, state: Sequence[Tensor]) -> None:
        """Write the state in which the first step finds the machine."""
        memory, weights, reads, *flat = (tensor.detach().numpy() for tensor in state)
        to.states.memory[0] = memory.swapaxes(1, 2)
        to.states.weights[0] = weights
        v, c = to.states.v[0], to.states.c[0]
        for columns in self.plan.reads_in_v:
            v[:, columns] = reads.reshape(self.batch, -1)
        for array, (is_c, columns, _) in zip(flat, self.plan.places, strict=True):
            (c if is_c else v)[:, columns] = array

    def take(self, source: Workspace, place: int) -> list[Tensor]:
        """A copy of the last state, which is at that place of the workspace."""
        v, c = source.states.v[place], source.states.c[place]
        reads = v[:, self.plan.reads_in_v[0]].reshape(self.reads_shape)
        found = [source.states.last.swapaxes(1, 2), source.states.weights[place], reads]
        found += [(c if is_c else v)[:, columns] for is_c, columns, _ in self.plan.places]
        return [torch.from_numpy(array.copy()) for array in found]

    def forward(self, at: Workspace, xs: Tensor, outputs: Tensor) -> None:
        mask = -1 if at.steps else 1
        arguments = (
            self.machine, xs.detach().contiguous().numpy(), at.states, at.z_array, at.addressing,
            outputs.numpy(), at.scratch, *self.sizes, mask,
        )  # fmt: skip
        run(kernel.forward, arguments, self.batch)

    def start_adjoint(self, at: Workspace, gradients: Sequence[Tensor | None]) -> None:
        """Write the derivatives by the last state; None stands for 0."""
        d = at.adjoint
        memory, weights, reads, *flat = gradients
        d.memory[:] = 0 if memory is None else memory.detach().numpy().swapaxes(1, 2)
        d.weights[:] = 0 if weights is None else weights.detach().numpy()
        d.reads[:] = 0 if reads is None else reads.detach().numpy().reshape(self.batch, -1)
        d.h[:] = d.c[:] = 0
        for tensor, (is_c, _, columns) in zip(flat, self.plan.places, strict=True):
            if tensor is not None:
                (d.c if is_c else d.h)[:, columns] = tensor.detach().numpy()

    def backward(self, at: Workspace, doutputs: Tensor) -> None:
        arguments = (
            self.machine, at.states, at.z_array, at.addressing,
            doutputs.detach().contiguous().numpy(), at.adjoint, *at.backward_arrays, at.scratch,
            *self.sizes,
        )  # fmt: skip
        run(kernel.backward, arguments, self.batch)

    def end_adjoint(self, at: Workspace, wanted: Sequence[bool]) -> list[Tensor | None]:
        """The derivatives by the first state, those that are wanted."""
        d = at.adjoint
        found = [d.memory.swapaxes(1, 2), d.weights, d.reads.reshape(self.reads_shape)]
        found += [(d.c if is_c else d.h)[:, columns] for is_c, _, columns in self.plan.places]
        return [
            torch.from_numpy(array.copy()) if want else None
            for array, want in zip(found, wanted, strict=True)
        ]


def _rows(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[T, B, ...] -> [T B, ...]."""
    return array.reshape(-1, array.shape[-1])


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, segment: int | None, xs: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        states = 3 + len(plan.places)
        start, parameters = rest[:states], rest[states:]
        T = len(xs)
        run_ = _Run(plan, xs, start, parameters)
        outputs = run_.new_outputs(T)
        ctx.run, ctx.lease, ctx.starts = run_, None, []
        if segment is None or segment >= T:
            ctx.segment = T
            ctx.lease = run_.lease(T)
            run_.put(ctx.lease.workspace, start)
            run_.forward(ctx.lease.workspace, xs, outputs)
            end = run_.take(ctx.lease.workspace, T)
        else:
            ctx.segment = segment
            workspace = run_.lease(0).workspace
            assert workspace is not None
            end = list(start)
            for t in range(0, T, segment):
                ctx.starts += [end] if t else []
                run_.put(workspace, end)
                run_.forward(workspace, xs[t : t + segment], outputs[t : t + segment])
                end = run_.take(workspace, len(xs[t : t + segment]) & 1)
        ctx.states = states
        ctx.save_for_backward(xs, outputs, *rest)
        return outputs, *end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, doutputs: Tensor | None, *dend: Tensor | None) -> Any:
        xs, outputs, *rest = ctx.saved_tensors
        run_, segment, T = ctx.run, ctx.segment, len(xs)
        start = rest[: ctx.states]
        if doutputs is None:
            doutputs = torch.zeros_like(outputs)

        wanted = ctx.needs_input_grad[3 : 3 + ctx.states]
        dxs = torch.empty_like(xs) if ctx.needs_input_grad[2] else None
        dparameters: list[Tensor] = []
        gradients: Sequence[Tensor | None] = dend
        # The history of the forward pass, if nothing has been written over it since.
        lease, ctx.lease = ctx.lease, None
        ready = lease is not None
        if lease is None:
            lease = run_.lease(min(segment, T))
        workspace = lease.workspace
        for t in reversed(range(0, T, segment)):
            span = slice(t, min(t + segment, T))
            n = span.stop - t
            if not ready:
                again = outputs[span].clone()
                run_.put(workspace, ctx.starts[t // segment - 1] if t else start)
                run_.forward(workspace, xs[span], again)
            run_.start_adjoint(workspace, gradients)
            run_.backward(workspace, doutputs[span])
            gradients = run_.end_adjoint(workspace, [True] * ctx.states if t else wanted)
            dx, dz, dinterface = (array[:n] for array in workspace.backward_arrays)
            if dxs is not None:
                dxs[span] = torch.from_numpy(dx)
            found = run_.plan.gradients(
                *(_rows(array) for array in (dz, workspace.states.v[:n], dinterface)),
                _rows(outputs[span].detach().numpy()),
            )
            dparameters = (
                [a + b for a, b in zip(dparameters, found, strict=True)] if dparameters else found
            )
        lease.end()
        return None, None, dxs, *gradients, *dparameters
