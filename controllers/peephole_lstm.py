"""The LSTM with peepholes (Gers & Schmidhuber 2000; Graves 2013, equations 7-11)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from controllers.base import STRICT, ControllerConfig, Core, State, linear


class PeepholeLSTM(Core):
    """One layer with one bias per gate and a learned initial state h_0, c_0.

    i = sigmoid(W_i x_t + U_i h_{t-1} + p_i * c_{t-1} + b_i)        f: the same
    j = tanh(W_j x_t + U_j h_{t-1} + b_j)
    c_t = f * c_{t-1} + i * j
    o = sigmoid(W_o x_t + U_o h_{t-1} + p_o * c_t + b_o)
    h_t = o * tanh(c_t)

    The peepholes p are vectors, initially 0, which makes it an LSTM. The output gate sees the new
    cell. The state is (h [B, H], c [B, H]). The initial bias of the forget gate is 1 higher than
    the others', as in :class:`controllers.lstm.LSTM`.
    """

    def __init__(self, input_size: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, size
        self.gates = linear(input_size + size, 4 * size, generator)  # [W U] and b, for i f j o
        with torch.no_grad():
            self.gates.bias[size : 2 * size] += 1  # remember by default
        self.peepholes = nn.Parameter(torch.zeros(3 * size))  # p_i p_f p_o
        self.h0 = nn.Parameter(torch.zeros(size))
        self.c0 = nn.Parameter(torch.zeros(size))

    def initial_state(self, batch: int) -> State:
        return self.h0.expand(batch, -1), self.c0.expand(batch, -1)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = state
        i, f, j, o = self.gates(torch.cat([x, h], dim=-1)).chunk(4, dim=-1)
        p_i, p_f, p_o = self.peepholes.chunk(3)
        c = torch.sigmoid(f + p_f * c) * c + torch.sigmoid(i + p_i * c) * torch.tanh(j)
        h = torch.sigmoid(o + p_o * c) * torch.tanh(c)
        return h, (h, c)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PeepholeLSTMConfig(ControllerConfig):
    """The settings of a :class:`PeepholeLSTM`."""

    name: ClassVar[str] = "peephole LSTM"
    kind: Literal["peephole_lstm"] = "peephole_lstm"

    def layer(self, input_size: int, generator: torch.Generator) -> PeepholeLSTM:
        return PeepholeLSTM(input_size, self.size, generator)
