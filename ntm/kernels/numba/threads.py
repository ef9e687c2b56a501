"""Independent work, samples of a batch or rows of a matrix, shared out among threads.

Numba's own parallel loops are not used: its default threading layer aborts the process when two
Python threads enter it. The kernels release the GIL, so plain threads do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from ntm.kernels.numba.records import Share, plain

_pool: ThreadPoolExecutor | None = None


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def shares(count: int, threads: int) -> list[Share]:
    """``range(count)`` cut into one piece for each thread, as far as it goes round."""
    pieces = min(threads, count)
    if pieces <= 1:
        return [Share(0, count, 0)]
    bounds = [count * i // pieces for i in range(pieces + 1)]
    return [Share(start, stop, i) for i, (start, stop) in enumerate(pairwise(bounds))]


def run(kernel: Callable[..., None], arguments: tuple[Any, ...], shares: Sequence[Share]) -> None:
    """A kernel with a share of the work, on a thread each; records come as plain tuples."""
    hand_out(kernel, plain(*arguments), plain(*shares))


def hand_out(
    function: Callable[..., None], arguments: tuple[Any, ...], shares: Sequence[Any]
) -> None:
    """``function(*arguments, share)`` for every share; this thread takes the first.

    To hand out one to another thread takes about 50 us.
    """
    global _pool
    first, *others = shares
    futures = []
    if others:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="ntm-fused")
        futures = [_pool.submit(function, *arguments, share) for share in others]
    try:
        function(*arguments, first)
    finally:
        for future in futures:
            future.result()
