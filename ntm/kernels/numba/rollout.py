"""One sequence on its way through a core, forward and backward: between NumPy and the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ntm.kernels.kinds import Array
from ntm.kernels.layout import Heads, Layout
from ntm.kernels.numba import kernel
from ntm.kernels.numba.alike import columns_at, fold, place_slots, stands_for, start
from ntm.kernels.numba.parameters import add_gradients
from ntm.kernels.numba.records import Gradients, HeadSizes, Parameters, Slots
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

    slots: N.
    alike: all slots of the first state but the first are alike, in the memory and in the
        weightings; so two are enough of each, [B, 2, W] and [B, H, 2]: see ``alike.py``.

    The layout and the number of threads are those of the moment it was made, whatever becomes of
    the module, or of the process's threads, before the backward pass.
    """

    def __init__(
        self, layout: Layout, parameters: Parameters, xs: Array, slots: int, alike: bool = False, *,
        recompute_every: int | None = None, weighting_grad: float | None = None, threads: int = 1,
    ) -> None:  # fmt: skip
        self.layout, self.parameters, self.xs = layout, parameters, xs
        self.steps, self.batch = xs.shape[:2]
        #: Where the slots lie, forward and backward.
        self.slots, self.kept, self.columns = place_slots(
            slots, layout.heads.S // 2, alike, self.steps, weighting_grad is not None
        )
        self.threads = threads
        self.shares = shares(self.batch, threads)
        self.lease: Lease | None = None
        self.recompute_every = min(recompute_every or self.steps, self.steps)
        self.heads = _head_sizes(layout.heads, xs.dtype, weighting_grad)

    def infer(self, first: Sequence[Array], wants_end: bool = True) -> tuple[Array, list[Array]]:
        """Outputs and, if wanted, the last state, without any history."""
        outputs = self._new_outputs()
        workspace, every = self._borrow(0), slice(0, self.steps)
        self._run(workspace, self._carried(first), every, outputs)
        end = self._spread(self._take(workspace, every)) if wants_end else []
        self.close()
        return outputs, end

    def forward(self, first: Sequence[Array], wants_end: bool = True) -> tuple[Array, list[Array]]:
        """Outputs and, if wanted, the last state; keeps what :meth:`backward` needs.

        That is the whole history, or with ``recompute_every`` one state in so many steps.
        """
        outputs, spans = self._new_outputs(), self._spans()
        #: The state, as it is carried, before each span.
        self.before = [self._carried(first)]
        workspace = self._borrow(self.steps if len(spans) == 1 else 0)
        for span in spans:
            self._run(workspace, self.before[-1], span, outputs[span])
            if wants_end or span is not spans[-1]:
                self.before.append(self._take(workspace, span))
        if len(spans) > 1:
            self.close()
        return outputs, self._spread(self.before.pop()) if wants_end else []

    def backward(
        self, outputs: Array, doutputs: Array, dend: Sequence[Array | None],
        sinks: Sequence[Array], dxs: Array | None = None,
    ) -> list[Array]:  # fmt: skip
        """The derivatives by the first state, [B, ...], which are there until :meth:`close`.

        Where slots are alike, those by the memory and by the weightings have no meaning.

        Those by the parameters are added to ``sinks``, those by the inputs written to ``dxs``.
        None in ``dend`` stands for 0.
        """
        # The history of the forward pass, if nothing has been written over it since.
        ready = self.lease is not None and self.lease.workspace is not None
        workspace = self._borrow(self.recompute_every) if not ready else self._borrowed()
        derivatives = self._put_adjoint(workspace, dend)
        for n, span in reversed(list(enumerate(self._spans()))):
            if not ready:
                self._run(workspace, self.before[n], span, np.empty_like(outputs[span]))
            arguments = (
                self.parameters, self.heads, self._since(span.start)[1], workspace.tape,
                doutputs[span], workspace.adjoint, workspace.gradients, workspace.scratch,
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
                self.layout.sizes,
                self.batch,
                self.columns,
                steps,
                len(self.shares),
                self.xs.dtype,
            )
        )
        return self._borrowed()

    def _borrowed(self) -> Workspace:
        assert self.lease is not None
        assert self.lease.workspace is not None
        return self.lease.workspace

    def _since(self, step: int) -> tuple[Slots, Slots]:
        """Of a call that begins there, forward and backward."""
        if step == 0 or self.slots.begun < 0:
            return self.slots, self.kept
        return self.slots._replace(begun=step), self.kept._replace(begun=step)

    def _run(self, at: Workspace, start: Sequence[Array], span: slice, outputs: Array) -> None:
        """Fills ``outputs`` with the steps of a span, from a state as it is carried."""
        slots, kept = self._since(span.start)
        self._put(at, start, slots, kept)
        arguments = (
            self.parameters, self.heads, slots, kept, self.xs[span], at.tape, outputs, at.scratch,
        )  # fmt: skip
        run(kernel.forward, arguments, self.shares)

    def _carried(self, state: Sequence[Array]) -> list[Array]:
        """A first state, as the kernels carry it: the memory [B, n, W] and the weights [B, H, n].

        The first of n rows stands for all that are alike.
        """
        if not self.heads.H or (self.slots.begun < 0 and state[0].shape[1] == self.slots.count):
            return list(state)
        memory, weights, *rest = state
        which = start(self.slots)
        return [memory[:, which], weights[..., which], *rest]

    def _spread(self, state: list[Array]) -> list[Array]:
        """The last state, with a row for every slot."""
        if not self.heads.H or self.slots.begun < 0:
            return state
        memory, weights, *rest = state
        which = stands_for(self.slots, self.steps)
        return [memory[:, which], weights[..., which], *rest]

    def _put(self, to: Workspace, state: Sequence[Array], slots: Slots, kept: Slots) -> None:
        """Write the state that the first step finds."""
        tape, places = to.tape, self.layout.places
        v, c = tape.v[0], tape.c[0]
        if self.heads.H:
            memory, weights, reads, *state = state
            first, wider = columns_at(slots, 0), columns_at(kept, 1)
            for array, given in (
                (tape.memory[0], memory.swapaxes(1, 2)),
                (tape.weights[0], weights),
            ):
                array[..., first] = given
                if wider != first:
                    array[..., wider.start : first.start] = given[..., :1]
                    array[..., first.stop : wider.stop] = given[..., :1]
            for place in places.reads:
                v[:, place] = reads.reshape(len(reads), -1)
        for array, (is_c, place, _) in zip(state, places.state, strict=True):
            (c if is_c else v)[:, place] = array

    def _take(self, source: Workspace, span: slice) -> list[Array]:
        """A copy of the state after a span, as it is carried."""
        tape, heads, places = source.tape, self.heads, self.layout.places
        at = (span.stop - span.start) & tape.mask
        v, c, found = tape.v[at], tape.c[at], []
        if heads.H:
            carried = columns_at(self.slots, span.stop)
            reads = v[:, places.reads[0]].reshape(self.batch, heads.R, heads.W)
            found = [tape.last[..., carried].swapaxes(1, 2), tape.weights[at][..., carried], reads]
        found += [(c if is_c else v)[:, place] for is_c, place, _ in places.state]
        return [array.copy() for array in found]

    def _put_adjoint(self, to: Workspace, dend: Sequence[Array | None]) -> list[Array]:
        """Write the derivatives by the last state. Returns where those by the first will be."""
        d, heads = to.adjoint, self.heads
        for array in (d.reads, d.h, d.c, d.memory, d.weights):
            array.fill(0)
        found, rest = [], list(dend)
        if heads.H:
            last, first = (columns_at(self.kept, step) for step in (self.steps, 0))
            if dend:
                memory, weights, *rest = dend
                if memory is not None:
                    d.memory[..., last] = fold(memory.swapaxes(1, 2), self.kept, self.steps)
                if weights is not None:
                    d.weights[..., last] = fold(weights, self.kept, self.steps)
            reads = d.reads.reshape(self.batch, heads.R, heads.W)
            found = [d.memory[..., first].swapaxes(1, 2), d.weights[..., first], reads]
        places = self.layout.places.state
        by_vector = [(d.c if is_c else d.h)[:, span] for is_c, _, span in places]
        for place, given in zip([*found[2:], *by_vector], rest, strict=False):
            if given is not None:
                place[...] = given
        return found + by_vector
