"""What every kind of memory is: settings that build a core around a controller."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from pydantic import ConfigDict

from controllers.base import Core

#: Every memory's settings are a frozen dataclass: its block in a config.
STRICT = ConfigDict(extra="forbid", strict=True)


class MemoryConfig(ABC):
    """The settings of a memory. At every step the controller sees the input and what was read last.

    Subclasses are frozen pydantic dataclasses. They set ``kind``, which chooses them in a config,
    and ``name``, which reports call the model by.
    """

    name: ClassVar[str]
    kind: str

    #: N, the rows that a step can address, where the memory has such; else None.
    slots: int | None = None
    #: Whether ``train.clip.weighting_grad`` means something to it.
    has_weightings: ClassVar[bool] = False

    @property
    @abstractmethod
    def reads_size(self) -> int:
        """Numbers that a step reads, which the controller sees beside the next input."""

    @abstractmethod
    def core(self, controller: Core, generator: torch.Generator) -> Core:
        """The memory around a controller, its own parameters drawn from the generator.

        controller: takes the input and ``reads_size`` numbers more.
        """

    @abstractmethod
    def state_floats(self) -> int:
        """Numbers in its state for one sequence, the controller's state not counted."""

    def history_floats(self, steps: int) -> int:
        """Numbers that a backward pass over so many steps of one sequence keeps."""
        return steps * self.state_floats()

    def least_parameters(self, hidden: int) -> int:
        """A lower bound of its parameters, around a controller of ``hidden`` outputs."""
        return 0

    def with_slots(self, slots: int) -> MemoryConfig:
        """The same memory with another number of slots, for the same weights.

        Where this works, ``initial_state`` of the core takes ``slots`` as well. Raises ValueError
        where the number of slots is fixed, or where there are none.
        """
        raise ValueError(f"a memory of the kind {self.kind} has no slots")

    def describe(self, controller: str) -> str:
        """The whole model in a few words, given the controller in a few words."""
        return f"{self.name} with {controller}"
