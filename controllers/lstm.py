"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from controllers.base import STRICT, ControllerConfig, Core, State, linear


class LSTM(Core):
    """One layer with one bias per gate, no peepholes, and a learned initial state h_0, c_0.

    i = sigmoid(W_i x_t + U_i h_{t-1} + b_i)        f, o: the same
    j = tanh(W_j x_t + U_j h_{t-1} + b_j)
    c_t = f * c_{t-1} + i * j
    h_t = o * tanh(c_t)

    The state is (h [B, H], c [B, H]); the output is h_t. The initial bias of the forget gate is 1
    higher than the others' (Gers et al. 2000; Jozefowicz et al. 2015).
    """

    def __init__(self, input_size: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, size
        self.gates = linear(input_size + size, 4 * size, generator)  # [W U] and b, for i f j o
        with torch.no_grad():
            self.gates.bias[size : 2 * size] += 1  # remember by default
        self.h0 = nn.Parameter(torch.zeros(size))
        self.c0 = nn.Parameter(torch.zeros(size))

    def initial_state(self, batch: int) -> State:
        return self.h0.expand(batch, -1), self.c0.expand(batch, -1)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = state
        i, f, j, o = self.gates(torch.cat([x, h], dim=-1)).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(j)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)

    def unroll(self, xs: Tensor, state: State) -> tuple[Tensor, State]:
        """The whole sequence in one call of torch.lstm; its second bias is 0."""
        h, c = (s.unsqueeze(0).contiguous() for s in state)
        W, U = (w.contiguous() for w in self.gates.weight.split([self.input_size, h.shape[-1]], 1))
        b = self.gates.bias
        layer = [W, U, b, torch.zeros_like(b)]
        ys, h, c = torch.lstm(xs, (h, c), layer, True, 1, 0.0, self.training, False, False)
        return ys, (h[0], c[0])


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LSTMConfig(ControllerConfig):
    """The settings of an :class:`LSTM`."""

    name: ClassVar[str] = "LSTM"
    kind: Literal["lstm"] = "lstm"

    def layer(self, input_size: int, generator: torch.Generator) -> LSTM:
        return LSTM(input_size, self.size, generator)
