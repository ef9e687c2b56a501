"""One sequence on its way through a core, forward and backward: between NumPy and the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np

from ntm.kernels.kinds import Array
from ntm.kernels.layout import Heads, Layout
from ntm.kernels.numba import kernel
from ntm.kernels.numba.parameters import add_gradients
from ntm.kernels.numba.records import Gradients, HeadSizes, Parameters
from ntm.kernels.numba.threads import run, shares
from ntm.kernels.numba.workspace import Demand, Lease, Workspace


@lru_cache(maxsize=256)
def _head_sizes(heads: Heads, dtype: Any, weighting_grad: float | None) -> HeadSizes:
    number, tiny = dtype.type, np.finfo(dtype).tiny
    limit = np.inf if weighting_grad is None else weighting_grad
    R, Q, H, W, S, reads_before = heads
    return HeadSizes(
        R, Q, H, W, S, int(reads_before), H - Q, number(tiny**0.25), tiny, number(limit)
    )


class Rollout:
    """One sequence: what its forward pass found out is what its backward pass goes by.

    All arrays are NumPy's. States and their derivatives are lists, as :meth:`Layout.flatten` has
    them: memory [B, N, W], weights [B, H, N] and reads [B, R, W], where there are heads, then the
    controller's [B, n]. A first state's batch may be 1, and then serves every sample.

    The layout and the number of threads are those of the moment it was made, whatever becomes of
    the module, or of the process's threads, before the backward pass.
    """

    def __init__(
        self, layout: Layout, parameters: Parameters, xs: Array, slots: int, *,
        recompute_every: int | None = None, weighting_grad: float | None = None, threads: int = 1,
    ) -> None:  # fmt: skip
        self.layout, self.parameters, self.xs = layout, parameters, xs
        self.steps, self.batch = xs.shape[:2]
        self.slots, self.threads = slots, threads
        self.shares = shares(self.batch, threads)
        self.lease: Lease | None = None
        self.recompute_every = min(recompute_every or self.steps, self.steps)
        self.heads = _head_sizes(layout.heads, xs.dtype, weighting_grad)

    def infer(self, start: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Outputs and the last state, without any history."""
        outputs = self._new_outputs()
        end = self._run(self._borrow(0), start, self.xs, outputs)
        self.close()
        return outputs, end

    def forward(self, start: Sequence[Array], wants_end: bool = True) -> tuple[Array, list[Array]]:
        """Outputs and, if wanted, the last state; keeps what :meth:`backward` needs.

        That is the whole history, or with ``recompute_every`` one state in so many steps.
        """
        self.start = start
        outputs = self._new_outputs()
        self.between: list[Sequence[Array]] = []
        if self.recompute_every == self.steps:
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
        None in ``dend`` stands for 0.
        """
        # The history of the forward pass, if nothing has been written over it since.
        ready = self.lease is not None and self.lease.workspace is not None
        workspace = self._borrow(self.recompute_every) if not ready else self._borrowed()
        derivatives = self._put_adjoint(workspace, dend)
        for n, span in reversed(list(enumerate(self._spans()))):
            if not ready:
                start = self.between[n] if self.between else self.start
                again = np.empty_like(outputs[span])
                self._run(workspace, start, self.xs[span], again, wants_end=False)
            arguments = (
                self.parameters, self.heads, workspace.tape, doutputs[span], workspace.adjoint,
                workspace.gradients, workspace.scratch,
            )  # fmt: skip
            run(kernel.backward, arguments, self.shares)
            steps = span.stop - span.start
            found = Gradients(*(array[:steps] for array in workspace.gradients))
            if dxs is not None:
                dxs[span] = found.xs
            v = workspace.tape.v[:steps]
            add_gradients(self.layout, found, v, outputs[span], sinks, self.threads)
        return derivatives

    def close(self) -> None:
        """Hand the history back."""
        if self.lease is not None:
            self.lease.end()
        self.lease = None

    def _spans(self) -> list[slice]:
        every = self.recompute_every
        return [slice(t, min(t + every, self.steps)) for t in range(0, self.steps, every)]

    def _new_outputs(self) -> Array:
        return np.empty((self.steps, self.batch, self.layout.output_size), self.xs.dtype)

    def _borrow(self, steps: int) -> Workspace:
        self.lease = Lease(
            Demand(
                self.layout.sizes, self.batch, self.slots, steps, len(self.shares), self.xs.dtype
            )
        )
        return self._borrowed()

    def _borrowed(self) -> Workspace:
        assert self.lease is not None
        assert self.lease.workspace is not None
        return self.lease.workspace

    def _run(
        self, at: Workspace, start: Sequence[Array], xs: Array, outputs: Array,
        wants_end: bool = True,
    ) -> list[Array]:  # fmt: skip
        """Fills ``outputs``; returns a copy of the last state, if it is wanted."""
        self._put(at, start)
        arguments = (self.parameters, self.heads, xs, at.tape, outputs, at.scratch)
        run(kernel.forward, arguments, self.shares)
        return self._take(at, len(xs) & at.tape.mask) if wants_end else []

    def _put(self, to: Workspace, state: Sequence[Array]) -> None:
        """Write the state that the first step finds."""
        tape, places = to.tape, self.layout.places
        v, c = tape.v[0], tape.c[0]
        if self.heads.H:
            memory, weights, reads, *state = state
            tape.memory[0] = memory.swapaxes(1, 2)
            tape.weights[0] = weights
            for columns in places.reads:
                v[:, columns] = reads.reshape(len(reads), -1)
        for array, (is_c, columns, _) in zip(state, places.state, strict=True):
            (c if is_c else v)[:, columns] = array

    def _take(self, source: Workspace, at: int) -> list[Array]:
        """A copy of the last state, which is at that place of the tape."""
        tape, heads, places = source.tape, self.heads, self.layout.places
        v, c, found = tape.v[at], tape.c[at], []
        if heads.H:
            reads = v[:, places.reads[0]].reshape(self.batch, heads.R, heads.W)
            found = [tape.last.swapaxes(1, 2), tape.weights[at], reads]
        found += [(c if is_c else v)[:, columns] for is_c, columns, _ in places.state]
        return [array.copy() for array in found]

    def _put_adjoint(self, to: Workspace, dend: Sequence[Array | None]) -> list[Array]:
        """Write the derivatives by the last state. Returns where they are."""
        d, heads = to.adjoint, self.heads
        for array in (d.reads, d.h, d.c, d.memory, d.weights):
            array.fill(0)
        found = []
        if heads.H:
            reads = d.reads.reshape(self.batch, heads.R, heads.W)
            found = [d.memory.swapaxes(1, 2), d.weights, reads]
        places = self.layout.places.state
        found += [(d.c if is_c else d.h)[:, columns] for is_c, _, columns in places]
        for place, given in zip_longest(found, dend):
            if given is not None:
                place[...] = given
        return found
