"""Independent work, samples of a batch or rows of a matrix, shared out among threads.

Numba's own parallel loops are not used: its default threading layer aborts the process when two
Python threads enter it. The kernels release the GIL, so plain threads do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from ntm.kernels.threads import threads

_pool: ThreadPoolExecutor | None = None


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def shares(count: int, pieces: int | None = None) -> list[tuple[int, int]]:
    """``range(count)`` cut into one piece for each of the engine's threads, or into ``pieces``."""
    pieces = max(1, min(pieces or threads(), count))
    bounds = [count * i // pieces for i in range(pieces + 1)]
    return list(pairwise(bounds))


def run(
    kernel: Callable[..., None],
    arguments: tuple[Any, ...],
    count: int,
    worth: bool = True,
    pieces: int | None = None,
) -> None:
    """``kernel(*arguments, start, stop, thread)`` on every piece; this thread takes the first.

    All of it on this thread where handing out is not worth the trouble (about 50 us).
    """
    global _pool
    first, *others = shares(count, pieces) if worth else [(0, count)]
    futures = []
    if others:
        if _pool is None:
            _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="ntm-fused")
        futures = [
            _pool.submit(kernel, *arguments, *share, i) for i, share in enumerate(others, start=1)
        ]
    try:
        kernel(*arguments, *first, 0)
    finally:
        for future in futures:
            future.result()
