"""The fused engine: a whole sequence of an NTM in one call, and its backward pass in another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from controllers.base import Core
from ntm.kernels.numba import kernel
from ntm.kernels.numba.controllers import Array
from ntm.kernels.numba.kernel import Machine
from ntm.kernels.numba.plan import Plan, plan_of
from ntm.kernels.numba.threads import run, shares
from ntm.kernels.numba.workspace import Lease, Workspace

if TYPE_CHECKING:
    from ntm.memory.ntm import NTMCell, NTMState


def unroll_ntm(
    cell: NTMCell,
    xs: Tensor,
    state: NTMState,
    segment: int | None = None,
    limit: float | None = None,
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
            plan, segment, limit, xs, *start, *parameters
        )
    else:
        with torch.no_grad():
            x, *others = arrays([xs, *start, *parameters])
            machine = plan.machine(others[len(start) :], x.dtype)
            rollout = Rollout(plan, machine, x, state.memory.shape[1])
            found, last = rollout.infer(others[: len(start)])
            outputs, *end = map(torch.from_numpy, [found, *last])
    memory, weights, reads, *flat = end
    return outputs, type(state)(memory, weights, reads, plan.unflatten(flat))


class Rollout:
    """One sequence on its way through a machine: the moves between torch's layout and the kernels'.

    All arrays are NumPy's. States and their derivatives are lists: memory [B, N, W], weights
    [B, H, N], reads [B, R, W], then the controller's [B, n] as :meth:`Plan.flatten` has them. A
    first state's batch may be 1, and then serves every sample.
    """

    def __init__(
        self, plan: Plan, machine: Machine, xs: Array, slots: int,
        limit: float | None = None, segment: int | None = None, parallel: bool = True,
    ) -> None:  # fmt: skip
        self.plan, self.machine, self.xs, self.slots = plan, machine, xs, slots
        self.steps, self.batch = xs.shape[:2]
        self.parallel, self.threads = parallel, len(shares(self.batch)) if parallel else 1
        self.lease: Lease | None = None
        tiny = np.finfo(xs.dtype).tiny
        #: As in addressing.py: the shortest vector with a direction, the smallest logarithm.
        self.sizes = (
            plan.read_heads, plan.writer, int(plan.reads_before), plan.shifts,
            xs.dtype.type(tiny**0.25), tiny,
        )  # fmt: skip
        self.segment = min(segment or self.steps, self.steps)
        #: Of derivatives by the weights, at every step.
        self.limit = xs.dtype.type(np.inf if limit is None else limit)

    def infer(self, start: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Outputs and the last state, without any history."""
        outputs = self._new_outputs()
        end = self._run(self._borrow(0), start, self.xs, outputs)
        self.close()
        return outputs, end

    def forward(self, start: Sequence[Array], wants_end: bool = True) -> tuple[Array, list[Array]]:
        """Outputs and, if wanted, the last state; keeps what :meth:`backward` needs.

        That is the whole history, or with ``segment`` the states between segments.
        """
        self.start = start
        outputs = self._new_outputs()
        self.between: list[Sequence[Array]] = []
        if self.segment == self.steps:
            workspace = self._borrow(self.steps)
            return outputs, self._run(workspace, start, self.xs, outputs, wants_end)
        workspace, end = self._borrow(0), start
        for span in self._spans():
            self.between.append(end)
            end = self._run(workspace, end, self.xs[span], outputs[span])
        self.close()
        return outputs, list(end)

    def backward(
        self, outputs: Array, doutputs: Array, dend: Sequence[Array | None],
        sinks: Sequence[Array], dxs: Array | None = None,
    ) -> list[Array]:  # fmt: skip
        """The derivatives by the first state, [B, ...], which are there until :meth:`close`.

        Those by the parameters are added to ``sinks``, those by the inputs written to ``dxs``.
        """
        # The history of the forward pass, if nothing has been written over it since.
        ready = self.lease is not None
        if not ready:
            self._borrow(self.segment)
        assert self.lease is not None
        workspace = self.lease.workspace
        assert workspace is not None
        derivatives = self._put_adjoint(workspace, dend)
        for n, span in reversed(list(enumerate(self._spans()))):
            if not ready:
                start = self.between[n] if self.between else self.start
                again = np.empty_like(outputs[span])
                self._run(workspace, start, self.xs[span], again, wants_end=False)
            arguments = (
                self.machine, workspace.states, workspace.z, workspace.addressing,
                doutputs[span], workspace.adjoint, *workspace.derivatives, workspace.scratch,
                *self.sizes, self.limit,
            )  # fmt: skip
            run(kernel.backward, arguments, self.batch, self.parallel, self.threads)
            steps = span.stop - span.start
            dx, dz, dinterface = (array[:steps] for array in workspace.derivatives)
            if dxs is not None:
                dxs[span] = dx
            operands = (dz, workspace.states.v[:steps], dinterface, outputs[span])
            z, v, interface, out = (rows(array) for array in operands)
            self.plan.gradients(z, v, interface, out, sinks, parallel=self.parallel)
        return derivatives

    def close(self) -> None:
        """Hand the history back."""
        if self.lease is not None:
            self.lease.end()
        self.lease = None

    def _spans(self) -> list[slice]:
        starts = range(0, self.steps, self.segment)
        return [slice(t, min(t + self.segment, self.steps)) for t in starts]

    def _new_outputs(self) -> Array:
        return np.empty((self.steps, self.batch, self.plan.output_size), self.xs.dtype)

    def _borrow(self, steps: int) -> Workspace:
        self.lease = Lease(self.plan, self.batch, self.slots, steps, self.threads, self.xs.dtype)
        workspace = self.lease.workspace
        assert workspace is not None
        return workspace

    def _run(
        self, at: Workspace, start: Sequence[Array], xs: Array, outputs: Array,
        wants_end: bool = True,
    ) -> list[Array]:  # fmt: skip
        """Fills ``outputs``; returns a copy of the last state, if it is wanted."""
        self._put(at, start)
        arguments = (
            self.machine, xs, at.states, at.z, at.addressing, outputs, at.scratch,
            *self.sizes, -1 if at.steps else 1,
        )  # fmt: skip
        run(kernel.forward, arguments, self.batch, self.parallel, self.threads)
        return self._take(at, len(xs) if at.steps else len(xs) & 1) if wants_end else []

    def _put(self, to: Workspace, state: Sequence[Array]) -> None:
        """Write the state in which the first step finds the machine."""
        memory, weights, reads, *flat = state
        to.states.memory[0] = memory.swapaxes(1, 2)
        to.states.weights[0] = weights
        v, c = to.states.v[0], to.states.c[0]
        for columns in self.plan.reads_in_v:
            v[:, columns] = reads.reshape(len(reads), -1)
        for array, (is_c, columns, _) in zip(flat, self.plan.places, strict=True):
            (c if is_c else v)[:, columns] = array

    def _take(self, source: Workspace, place: int) -> list[Array]:
        """A copy of the last state, which is at that place of the workspace."""
        plan, v, c = self.plan, source.states.v[place], source.states.c[place]
        reads = v[:, plan.reads_in_v[0]].reshape(self.batch, plan.read_heads, plan.width)
        found = [source.states.last.swapaxes(1, 2), source.states.weights[place], reads]
        found += [(c if is_c else v)[:, columns] for is_c, columns, _ in plan.places]
        return [array.copy() for array in found]

    def _put_adjoint(self, to: Workspace, dend: Sequence[Array | None]) -> list[Array]:
        """Write the derivatives by the last state; None stands for 0. Returns where they are."""
        d, plan = to.adjoint, self.plan
        for part in (d.memory, d.weights, d.reads, d.h, d.c):
            part.fill(0)
        reads = d.reads.reshape(self.batch, plan.read_heads, plan.width)
        places = [d.memory.swapaxes(1, 2), d.weights, reads]
        places += [(d.c if is_c else d.h)[:, columns] for is_c, _, columns in plan.places]
        for place, array in zip(places, dend or [None] * len(places), strict=True):
            if array is not None:
                place[...] = array
        return places


def rows(array: Array) -> Array:
    """[T, B, ...] -> [T B, ...]."""
    return array.reshape(-1, array.shape[-1])


def arrays(tensors: Iterable[Tensor | None]) -> list[Any]:
    """The tensors' memory, as contiguous NumPy arrays; None for None."""
    return [None if t is None else t.detach().contiguous().numpy() for t in tensors]


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, segment: int | None, limit: float | None, xs: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.states = states = 3 + len(plan.places)
        x, *others = arrays([xs, *rest])
        machine = plan.machine(others[states:], x.dtype)
        ctx.rollout = Rollout(plan, machine, x, rest[0].shape[1], limit, segment)
        out, end_ = ctx.rollout.forward(others[:states])
        outputs, *end = map(torch.from_numpy, [out, *end_])
        ctx.save_for_backward(xs, outputs, *rest)
        return outputs, *end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, doutputs: Tensor | None, *dend: Tensor | None) -> Any:
        xs, outputs, *rest = ctx.saved_tensors
        if doutputs is None:
            doutputs = torch.zeros_like(outputs)
        dxs = torch.empty(xs.shape, dtype=xs.dtype) if ctx.needs_input_grad[3] else None
        sinks = [torch.zeros(p.shape, dtype=p.dtype) for p in rest[ctx.states :]]
        out, dout, dx, *others = arrays([outputs, doutputs, dxs, *dend, *sinks])
        places = ctx.rollout.backward(out, dout, others[: len(dend)], others[len(dend) :], dx)
        wanted = ctx.needs_input_grad[4 : 4 + ctx.states]
        dstart = [
            torch.from_numpy(place.copy()) if want else None
            for place, want in zip(places, wanted, strict=True)
        ]
        ctx.rollout.close()
        return None, None, None, dxs, *dstart, *sinks
