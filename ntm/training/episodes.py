"""Episodes of a task, for whatever an experiment does with them."""

from __future__ import annotations

import numpy as np

from ntm.errors import UsageError
from tasks import Episode, Task
from tasks.base import TaskError


def draw(task: Task, rng: np.random.Generator, batch: int) -> Episode:
    """``batch`` sequences; a task without its data, such as a text, is a mistake of the user's."""
    try:
        return task.sample(rng, batch)
    except TaskError as error:
        raise UsageError(str(error)) from None
