"""How a run stands."""

from __future__ import annotations

from enum import Enum


class Status(str, Enum):
    """How a run stands; the values are what its manifest holds."""

    RUNNING = "running"  # or ended without a word: the process was killed
    SOLVED = "solved"
    BUDGET = "budget"  # used up, and not solved
    INTERRUPTED = "interrupted"  # on request; saved
    KILLED = "killed"  # on request, at once; the last checkpoint is kept
    FAILED = "failed"  # the loss or the gradient was not finite
    ERROR = "stopped by an error"  # memory, a disk, missing data: nothing about the model

    def __str__(self) -> str:
        return self.value

    @property
    def is_complete(self) -> bool:
        """Whether training has come to its end."""
        return self in (Status.SOLVED, Status.BUDGET)

    @property
    def has_result(self) -> bool:
        """Whether the run can be compared with others: complete, or failed by itself."""
        return self.is_complete or self is Status.FAILED
