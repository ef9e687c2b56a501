"""A feedforward controller, without memory of its own."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from controllers.base import STRICT, ControllerConfig, Core, State, linear


class FeedForward(Core):
    """h = tanh(W x + b). The state is ``()``, so an NTM with it can only remember in its memory.

    The paper (section 3.4) uses a feedforward controller without naming its nonlinearity.
    """

    def __init__(self, input_size: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, size
        self.hidden = linear(input_size, size, generator)

    def initial_state(self, batch: int) -> State:
        return ()

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return torch.tanh(self.hidden(x)), ()

    def unroll(self, xs: Tensor, state: State) -> tuple[Tensor, State]:
        """All steps at once, since none depends on another."""
        return torch.tanh(self.hidden(xs)), ()


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FeedForwardConfig(ControllerConfig):
    """The settings of a :class:`FeedForward`."""

    name: ClassVar[str] = "feedforward"
    kind: Literal["feedforward"] = "feedforward"

    def layer(self, input_size: int, generator: torch.Generator) -> FeedForward:
        return FeedForward(input_size, self.size, generator)
