"""What every recurrent core is: a map (input, state) -> (output, state)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeAlias

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

#: A nested tuple of tensors, batch first; ``()`` for a core that remembers nothing.
State: TypeAlias = Any


class Core(nn.Module, ABC):
    """A recurrent core. Controllers, stacks of them and the NTM are all cores.

    A core keeps nothing between calls: whatever it remembers is in the state that it is
    handed and hands back, so that no episode can leak into another.
    """

    input_size: int
    output_size: int

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """The state before the first step, for ``batch`` sequences."""

    @abstractmethod
    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: x [B, I] and a state -> output [B, output_size] and the next state."""

    def unroll(self, xs: Tensor, state: State) -> tuple[Tensor, State]:
        """A whole sequence: xs [T, B, I] -> outputs [T, B, output_size] and the last state."""
        outputs = []
        for x in xs:
            y, state = self(x, state)
            outputs.append(y)
        return torch.stack(outputs), state


#: Every controller's settings are a frozen dataclass: its block in a config.
STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ControllerConfig(ABC):
    """``layers`` layers of ``size`` units each; ``skip`` as in :class:`controllers.stack.Stack`.

    Subclasses set ``kind``, which chooses them in a config, and add what is theirs alone.
    """

    #: What people call it.
    name: ClassVar[str]

    kind: str
    size: int = Field(default=100, ge=1)
    layers: int = Field(default=1, ge=1, le=100)
    skip: bool = False

    @abstractmethod
    def layer(self, input_size: int, generator: torch.Generator) -> Core:
        """One layer, its parameters drawn from the generator."""


def linear(inputs: int, outputs: int, generator: torch.Generator, bias: bool = True) -> nn.Linear:
    """A linear layer with weights and biases drawn from U(-1/sqrt(inputs), 1/sqrt(inputs))."""
    device = torch.get_default_device()  # meta, where a model is only counted
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias, device=device)
    bound = 1 / math.sqrt(inputs)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
