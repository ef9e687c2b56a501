"""Threads and memory of this process, as training and evaluation need them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ntm.arguments import whole
from ntm.errors import out_of_memory
from ntm.kernels.threads import use_threads
from ntm.training import limits


@contextlib.contextmanager
def fused_threads(count: int | None) -> Iterator[None]:
    """Gives the fused engine its threads; within it, torch's own operations have one."""
    before = torch.get_num_threads()
    use_threads(None if count is None else whole("threads", count, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def plain_defaults() -> Iterator[None]:
    """Within it, torch makes float32 on the CPU, whatever its default dtype and device are."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def guarded_memory(device: torch.device) -> Iterator[None]:
    """Within it, running out of memory raises OutOfMemoryError, and kills no process.

    Neither do torch's defaults matter there, which its optimisers, too, would follow.
    """
    cap = limits.capped_memory() if device.type == "cpu" else contextlib.nullcontext()
    try:
        with cap, plain_defaults():
            yield
    except (MemoryError, RuntimeError) as error:
        if (found := out_of_memory(error)) is None:
            raise
        raise found from None
