"""The gated recurrent unit (Cho et al. 2014)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from controllers.base import STRICT, ControllerConfig, Core, State, linear


class GRU(Core):
    """One layer, with a learned initial state h_0.

    r = sigmoid(W_r x_t + U_r h_{t-1} + b_r)        z: the same
    n = tanh(W_n x_t + b_n + r * (U_n h_{t-1} + d_n))
    h_t = (1 - z) * n + z * h_{t-1}

    The reset gate acts after the recurrent product, as in cuDNN and in torch.nn.GRU.
    The state is h [B, H].
    """

    def __init__(self, input_size: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, size
        self.gates = linear(input_size + size, 2 * size, generator)  # [W U] and b, for r z
        self.candidate_x = linear(input_size, size, generator)  # W_n and b_n
        self.candidate_h = linear(size, size, generator)  # U_n and d_n
        self.h0 = nn.Parameter(torch.zeros(size))

    def initial_state(self, batch: int) -> State:
        return self.h0.expand(batch, -1)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h = state
        r, z = torch.sigmoid(self.gates(torch.cat([x, h], dim=-1))).chunk(2, dim=-1)
        n = torch.tanh(self.candidate_x(x) + r * self.candidate_h(h))
        h = (1 - z) * n + z * h
        return h, h

    def unroll(self, xs: Tensor, state: State) -> tuple[Tensor, State]:
        """The whole sequence in one call of torch.gru, which has r, z and n in one matrix."""
        h = state.unsqueeze(0).contiguous()
        W, U = self.gates.weight.split([self.input_size, h.shape[-1]], 1)
        b = self.gates.bias
        layer = [
            torch.cat([W, self.candidate_x.weight]),
            torch.cat([U, self.candidate_h.weight]),
            torch.cat([b, self.candidate_x.bias]),
            torch.cat([torch.zeros_like(b), self.candidate_h.bias]),
        ]
        ys, h = torch.gru(xs, h, layer, True, 1, 0.0, self.training, False, False)
        return ys, h[0]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GRUConfig(ControllerConfig):
    """The settings of a :class:`GRU`."""

    name: ClassVar[str] = "GRU"
    kind: Literal["gru"] = "gru"

    def layer(self, input_size: int, generator: torch.Generator) -> GRU:
        return GRU(input_size, self.size, generator)
