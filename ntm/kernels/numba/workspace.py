"""The arrays that the kernels work in, kept from call to call.

Fresh memory of this size costs a page fault for every 4 KiB, which takes longer than filling
it, so a block is handed on once nothing needs it: see :class:`Lease`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ntm.kernels.numba.controllers import Array
from ntm.kernels.numba.heads import Addressing, Scratch
from ntm.kernels.numba.kernel import EVERY, GROUP, Adjoint, States
from ntm.kernels.numba.plan import Plan

#: Idle blocks that are kept, and the bytes that they may take in all.
KEEP, KEEP_BYTES = 4, 2**30

#: Layouts that are kept of each.
LAYOUTS = 256

#: Bytes of a cache line, and of the longest vector.
LINE = 64


class Workspace:
    """All arrays for up to ``steps`` steps of history; 2 places in turn if 0.

    They lie in one block: see :func:`in_one_block`. ``block``: one to use again, if it is large
    enough.
    """

    def __init__(
        self, plan: Plan, batch: int, slots: int, steps: int, threads: int, dtype: Any,
        block: Array | None = None,
    ) -> None:  # fmt: skip
        self.steps, self.threads = steps, threads
        shapes: list[tuple[int, ...]] = []
        self._lay_out(lambda *shape: shapes.append(shape), plan, batch, slots, steps, threads)
        self.block, arrays = in_one_block(shapes, dtype, block)
        rest = iter(arrays)
        self._lay_out(lambda *_: next(rest), plan, batch, slots, steps, threads)

    def _lay_out(
        self, new: Callable[..., Any], plan: Plan, B: int, N: int, steps: int, threads: int
    ) -> None:
        W, H, Q = plan.width, plan.heads, plan.write_heads
        inner, outer = (steps, steps + 1) if steps else (2, 2)
        self.states = States(
            new(outer, B, plan.v_size),
            new(outer, B, plan.c_size),
            new(steps // EVERY + 1, B, W, N),
            new(threads, EVERY, min(GROUP, B), W, N),
            new(B, W, N),
            new(outer, B, H, N),
        )
        self.z = new(inner, B, plan.z_size)
        self.addressing = Addressing(
            new(inner, B, plan.interface_size + 2 * H),
            new(inner, B, N),
            *[new(inner, B, H, N) for _ in range(3)],
        )
        halo = N + 2 * (plan.shifts // 2)
        shapes = [(H, W), (H, W), (halo,), (halo,), (N,), (H, N), (W, N), (Q + 1, N)]
        self.scratch = Scratch(*[new(threads, *shape) for shape in shapes])
        if steps:
            #: Derivatives by x, z and the interface, for every step.
            self.derivatives = [
                new(steps, B, size) for size in (plan.inputs, plan.z_size, plan.interface_size)
            ]
            self.adjoint = Adjoint(
                new(B, plan.reads), new(B, plan.h_size), new(B, plan.c_size), new(B, W, N),
                new(B, H, N), new(B, plan.v_size), new(B, plan.controller_size),
            )  # fmt: skip


def in_one_block(
    shapes: Sequence[tuple[int, ...]], dtype: Any, block: Array | None = None
) -> tuple[Array, list[Array]]:
    """A block of bytes, and arrays in it, each from the beginning of a cache line.

    Their distances are then always the same: compiled loops look at distances to find out whether
    arrays overlap, and sum in another order where they might. The block is a new one, unless the
    one that is given is large enough.
    """
    line: int = LINE // dtype.itemsize
    sizes = [math.prod(shape) for shape in shapes]
    starts = [0, *accumulate(-(-size // line) * line for size in sizes)]
    needed = starts[-1] * dtype.itemsize
    if block is None or block.nbytes < needed + LINE:
        block = np.empty(needed + LINE, np.uint8)
    first = -block.ctypes.data % LINE
    numbers = block[first : first + needed].view(dtype)
    return block, [
        numbers[start : start + size].reshape(shape)
        for start, size, shape in zip(starts, sizes, shapes, strict=False)
    ]


Key = tuple[Any, ...]


class _Block:
    """Memory that workspaces of many sizes take in turn, and how each of them lies in it.

    To lay one out takes 0.1 ms, which counts where every batch has another size.
    """

    def __init__(self) -> None:
        self.memory: Array = np.empty(0, np.uint8)
        self.layouts: dict[Key, Workspace] = {}

    def workspace(
        self, plan: Plan, batch: int, slots: int, steps: int, threads: int, dtype: Any
    ) -> Workspace:
        key: Key = (
            plan.table.tobytes(), plan.heads, plan.width, plan.read_heads, plan.shifts,
            plan.inputs, batch, slots, steps > 0, dtype,
        )  # fmt: skip
        found = self.layouts.pop(key, None)
        if found is None or found.steps < steps or found.threads < threads:
            found = Workspace(plan, batch, slots, steps, threads, dtype, self.memory)
            if found.block is not self.memory:  # which was too small
                self.memory = found.block
                self.layouts.clear()
            elif len(self.layouts) >= LAYOUTS:
                del self.layouts[next(iter(self.layouts))]
        self.layouts[key] = found  # the last one, as the latest
        return found


_idle: list[_Block] = []
#: Reentrant: what is made under it can start a collection of garbage, and that end a lease.
_lock = threading.RLock()


class Lease:
    """A workspace on loan. It goes back when the lease is dropped or ended."""

    def __init__(
        self, plan: Plan, batch: int, slots: int, steps: int, threads: int, dtype: Any
    ) -> None:
        with _lock:  # the block that was used last is still in the cache
            block = _idle.pop() if _idle else _Block()
        self._block: _Block | None = block
        self.workspace: Workspace | None = block.workspace(
            plan, batch, slots, steps, threads, dtype
        )

    def end(self) -> None:
        """Hand the workspace back: its contents are lost."""
        block, self._block, self.workspace = self._block, None, None
        if block is None or block.memory.nbytes > KEEP_BYTES:
            return
        with _lock:
            _idle.append(block)
            while len(_idle) > KEEP or sum(b.memory.nbytes for b in _idle) > KEEP_BYTES:
                del _idle[0]

    def __del__(self) -> None:
        self.end()
