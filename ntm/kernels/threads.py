"""How many threads the fused engine shares a batch among."""

from __future__ import annotations

import os

import torch

_threads: int | None = None


def use_threads(count: int | None = None) -> int:
    """Gives the fused engine ``count`` threads, and torch one; returns how many it got.

    Without a count: OMP_NUM_THREADS where it is set, else every core that this process may use.
    Torch's own threads only wait for one another on operations as small as an NTM's: measured on
    two cores, a training step at batch 1 takes twice as long with two of them as with one.
    """
    global _threads
    wish = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    _threads = count or (int(wish) if wish.isdigit() and int(wish) else _cores())
    torch.set_num_threads(1)
    return _threads


def threads() -> int:
    """Threads of the fused engine: as many as torch has, until ``use_threads`` says otherwise."""
    return _threads or torch.get_num_threads()


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
