"""The paper's five tasks, and two on text.

To add one, write its class in a file here, add a line to ``ntm.registry`` and ship a config. A
package of your own registers one through an entry point. CONTRIBUTING.md shows both.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from ntm.registry import TASKS, Kinds
from tasks.base import Task
from tasks.episode import Episode

__all__ = ["TASKS", "AnyTask", "Episode", "Task"]

#: The task block of a config: ``kind`` chooses the class, and the other keys are its fields.
AnyTask: TypeAlias = Annotated[Task, Kinds(TASKS)]
