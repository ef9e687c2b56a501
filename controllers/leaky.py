"""Leaky integrator units: a recurrent network with a leak rate (Jaeger et al. 2007)."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from controllers.base import STRICT, ControllerConfig, Core, State, linear


class Leaky(Core):
    """One layer, with a learned initial state h_0.

    h_t = (1 - alpha) h_{t-1} + alpha tanh(W x_t + U h_{t-1} + b)

    The leak rate alpha is a constant in (0, 1]; 1 gives a vanilla RNN. With ``learned``, every unit
    learns its own, as the logistic sigmoid of a parameter, starting from that constant. The state
    is h [B, H].
    """

    def __init__(
        self,
        input_size: int,
        size: int,
        generator: torch.Generator,
        leak: float = 0.5,
        learned: bool = False,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, size
        self.hidden = linear(input_size + size, size, generator)  # [W U] and b
        self.h0 = nn.Parameter(torch.zeros(size))
        self.leak = leak
        #: logit(alpha) [H], or None where alpha is fixed.
        self.leak_logit = nn.Parameter(torch.full((size,), logit(leak))) if learned else None

    def initial_state(self, batch: int) -> State:
        return self.h0.expand(batch, -1)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y = torch.tanh(self.hidden(torch.cat([x, state], dim=-1)))
        alpha = self.leak if self.leak_logit is None else torch.sigmoid(self.leak_logit)
        h = (1 - alpha) * state + alpha * y
        return h, h


def logit(p: float) -> float:
    """The inverse of the logistic sigmoid, infinite at 1."""
    return math.inf if p == 1 else math.log(p / (1 - p))


#: (0, 1]
Leak = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LeakyConfig(ControllerConfig):
    """The settings of :class:`Leaky` units: the leak rate, and whether it is learned."""

    name: ClassVar[str] = "leaky RNN"
    kind: Literal["leaky"] = "leaky"
    leak: Leak = 0.5
    learned: bool = False

    @model_validator(mode="after")
    def _can_be_learned(self) -> LeakyConfig:
        if self.learned and self.leak == 1:
            raise ValueError("leak: should be less than 1 if it is learned")
        return self

    def layer(self, input_size: int, generator: torch.Generator) -> Leaky:
        return Leaky(input_size, self.size, generator, self.leak, self.learned)
