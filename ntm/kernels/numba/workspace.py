"""The arrays that the kernels work in, kept from call to call.

Fresh memory of this size costs a page fault for every 4 KiB, which takes longer than filling
it, so a block is handed on once nothing needs it: see :class:`Lease`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from ntm.kernels.kinds import Array
from ntm.kernels.layout import Sizes, places
from ntm.kernels.numba.kernel import EVERY, GROUP
from ntm.kernels.numba.records import Adjoint, Gradients, Scratch, Tape

#: Idle blocks that are kept, and the bytes that they may take in all.
KEEP, KEEP_BYTES = 4, 2**30

#: Workspaces that are kept in each of them.
WORKSPACES = 256

#: Bytes of a cache line, and of the longest vector.
LINE = 64


class Demand(NamedTuple):
    """What a workspace is for: up to ``steps`` steps of history, or, if 0, 2 places in turn."""

    sizes: Sizes
    batch: int
    columns: int  # of the memory
    steps: int
    threads: int
    dtype: Any


class Workspace:
    """All arrays that one call works in.

    They lie in one block: see :func:`in_one_block`. ``block``: one to use again, if it is large
    enough.
    """

    def __init__(self, demand: Demand, block: Array | None = None) -> None:
        self.steps, self.threads = demand.steps, demand.threads
        shapes: list[tuple[int, ...]] = []
        self._lay_out(lambda *shape: shapes.append(shape), demand)
        self.block, arrays = in_one_block(shapes, demand.dtype, block)
        rest = iter(arrays)
        self._lay_out(lambda *_: next(rest), demand)

    def _lay_out(self, new: Callable[..., Any], demand: Demand) -> None:
        at, heads, steps = places(demand.sizes), demand.sizes.heads, demand.steps
        B, N, P, W, H = demand.batch, demand.columns, demand.threads, heads.W, heads.H
        inner, outer = (steps, steps + 1) if steps else (2, 2)
        self.tape = Tape(
            v=new(outer, B, at.v_size),
            c=new(outer, B, at.c_size),
            memory=new(steps // EVERY + 1, B, W, N),
            recent=new(P, EVERY, min(GROUP, B), W, N),
            last=new(B, W, N),
            weights=new(outer, B, H, N),
            z=new(inner, B, at.z_size),
            interface=new(inner, B, heads.interface + 2 * H),
            inverse=new(inner, B, N),
            cosine=new(inner, B, H, N),
            content=new(inner, B, H, N),
            logs=new(inner, B, H, N),
            mask=-1 if steps else 1,
        )
        halo = N + 2 * (heads.S // 2)
        self.scratch = Scratch(
            new(P, H, W), new(P, H, W), new(P, halo), new(P, halo), new(P, N),
            new(P, H, N), new(P, W, N), new(P, heads.Q + 1, N),
        )  # fmt: skip
        if not steps:
            return
        self.gradients = Gradients(
            new(steps, B, demand.sizes.inputs),
            new(steps, B, at.z_size),
            new(steps, B, heads.interface),
        )
        self.adjoint = Adjoint(
            new(B, heads.R * W), new(B, at.h_size), new(B, at.c_size), new(B, W, N),
            new(B, H, N), new(B, at.v_size), new(B, at.controller_size),
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


def _stride(columns: int, line: int) -> int:
    """From row to row of a memory with so many columns: whole lines, of so many numbers.

    Long rows take an odd number of them, or all that lies in one column would share a place in the
    cache; and one of eight lengths, so that few are laid out.
    """
    lines = -(-columns // line)
    if lines <= 16:
        return lines * line
    step = (1 << lines.bit_length()) // 16
    return (-(-lines // step) * step | 1) * line


class _Block:
    """Memory that workspaces of many sizes take in turn, and how each of them lies in it.

    To lay one out takes 0.1 ms, which counts where every batch has another size.
    """

    def __init__(self) -> None:
        self.memory: Array = np.empty(0, np.uint8)
        self.workspaces: dict[Demand, Workspace] = {}

    def workspace(self, demand: Demand) -> Workspace:
        # One that has room for more steps, or more threads, serves as well, and for a few more
        # columns.
        sizes, batch, columns, steps, _, dtype = demand
        columns = _stride(columns, LINE // dtype.itemsize)
        demand = demand._replace(columns=columns)
        key = Demand(sizes, batch, columns, min(steps, 1), 0, dtype)
        found = self.workspaces.pop(key, None)
        if found is None or found.steps < demand.steps or found.threads < demand.threads:
            found = Workspace(demand, self.memory)
            if found.block is not self.memory:  # which was too small
                self.memory = found.block
                self.workspaces.clear()
            elif len(self.workspaces) >= WORKSPACES:
                del self.workspaces[next(iter(self.workspaces))]
        self.workspaces[key] = found  # the last one, as the latest
        return found


_idle: list[_Block] = []
#: Reentrant: what is made under it can start a collection of garbage, and that end a lease.
_lock = threading.RLock()


class Lease:
    """A workspace on loan. It goes back when the lease is dropped or ended."""

    def __init__(self, demand: Demand) -> None:
        with _lock:  # the block that was used last is still in the cache
            block = _idle.pop() if _idle else _Block()
        self._block: _Block | None = block
        self.workspace: Workspace | None = block.workspace(demand)

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
