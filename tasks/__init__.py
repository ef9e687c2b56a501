"""The five tasks of the paper.

To add one: write its class in a file here, name it in ``TASKS`` and ``AnyTask``, ship a config.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.associative_recall import AssociativeRecall
from tasks.base import Episode, Task
from tasks.copy import Copy
from tasks.ngram import NGram
from tasks.priority_sort import PrioritySort
from tasks.repeat_copy import RepeatCopy

__all__ = ["TASKS", "AnyTask", "Episode", "Task"]

#: The value of ``kind:`` in a config -> the class whose fields are the rest of the block.
TASKS: dict[str, type[Task]] = {
    "copy": Copy,
    "repeat_copy": RepeatCopy,
    "associative_recall": AssociativeRecall,
    "ngram": NGram,
    "priority_sort": PrioritySort,
}

AnyTask = Annotated[
    Copy | RepeatCopy | AssociativeRecall | NGram | PrioritySort, Field(discriminator="kind")
]
