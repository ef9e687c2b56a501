"""The five tasks of the paper, and two on texts.

To add one: write its class in a file here, name it in ``AnyTask``, ship a config.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from tasks.associative_recall import AssociativeRecall
from tasks.autocomplete import Autocomplete
from tasks.base import Episode, Task
from tasks.charlm import CharLM
from tasks.copy import Copy
from tasks.ngram import NGram
from tasks.priority_sort import PrioritySort
from tasks.repeat_copy import RepeatCopy

__all__ = ["TASKS", "AnyTask", "Episode", "Task"]

#: The task block of a config: ``kind`` chooses the class, whose fields are the rest.
AnyTask = Annotated[
    Copy | RepeatCopy | AssociativeRecall | NGram | PrioritySort | CharLM | Autocomplete,
    Field(discriminator="kind"),
]

#: The value of ``kind`` -> the class.
TASKS: dict[str, type[Task]] = {task.kind: task for task in get_args(get_args(AnyTask)[0])}
