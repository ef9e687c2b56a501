"""GRUs with fewer parameters in their gates (Dey & Salem 2017)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from controllers.base import STRICT, ControllerConfig, Core, State, linear


class ReducedGRU(Core):
    """One layer of a GRU whose gates do not see the input, with a learned initial state h_0.

    GRU1: r = sigmoid(U_r h_{t-1} + b_r)        z: the same
    GRU2: r = sigmoid(U_r h_{t-1})
    GRU3: r = sigmoid(b_r)

    n = tanh(W_n x_t + b_n + r * (U_n h_{t-1} + d_n))
    h_t = (1 - z) * n + z * h_{t-1}

    Everything but the gates is as in :class:`controllers.gru.GRU`: the reset gate acts after the
    recurrent product (in the article before it), and z weighs the old state (in the article the new
    one). The state is h [B, H].
    """

    def __init__(
        self, input_size: int, size: int, generator: torch.Generator, variant: Literal[1, 2, 3]
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, size
        drawn = linear(size, 2 * size, generator)  # U and b, for r z
        self.gates_weight = drawn.weight if variant < 3 else None
        self.gates_bias = drawn.bias if variant != 2 else None
        self.candidate_x = linear(input_size, size, generator)  # W_n and b_n
        self.candidate_h = linear(size, size, generator)  # U_n and d_n
        self.h0 = nn.Parameter(torch.zeros(size))

    def initial_state(self, batch: int) -> State:
        return self.h0.expand(batch, -1)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = state
        gates = h.new_zeros(()) if self.gates_weight is None else h @ self.gates_weight.T
        if self.gates_bias is not None:
            gates = gates + self.gates_bias
        r, z = torch.sigmoid(gates).chunk(2, dim=-1)
        n = torch.tanh(self.candidate_x(x) + r * self.candidate_h(h))
        h = (1 - z) * n + z * h
        return h, h


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GRU1Config(ControllerConfig):
    """The settings of a GRU whose gates see h and a bias."""

    name: ClassVar[str] = "GRU1"
    kind: Literal["gru1"] = "gru1"

    def layer(self, input_size: int, generator: torch.Generator) -> ReducedGRU:
        return ReducedGRU(input_size, self.size, generator, variant=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GRU2Config(ControllerConfig):
    """The settings of a GRU whose gates see h alone."""

    name: ClassVar[str] = "GRU2"
    kind: Literal["gru2"] = "gru2"

    def layer(self, input_size: int, generator: torch.Generator) -> ReducedGRU:
        return ReducedGRU(input_size, self.size, generator, variant=2)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GRU3Config(ControllerConfig):
    """The settings of a GRU whose gates are biases."""

    name: ClassVar[str] = "GRU3"
    kind: Literal["gru3"] = "gru3"

    def layer(self, input_size: int, generator: torch.Generator) -> ReducedGRU:
        return ReducedGRU(input_size, self.size, generator, variant=3)
