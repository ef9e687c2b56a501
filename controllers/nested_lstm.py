"""The nested LSTM (Moniz & Krueger 2018): an LSTM whose cell is an LSTM, and so on inwards."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from controllers.base import STRICT, ControllerConfig, Core, State, linear


class NestedLSTM(Core):
    """One layer, from a learned h_0 and a learned first cell at every depth.

    At depth k = 0, the outermost, x^0 = x_t and h^0 = h_{t-1}; at every depth

    i = sigmoid(W_i x^k + U_i h^k + b_i)        f, o: the same
    j = tanh(W_j x^k + U_j h^k + b_j)

    and where an LSTM would add i * j to f * c, both are handed to the LSTM inside:

    x^{k+1} = i * j        h^{k+1} = f * c^k_{t-1}        c^k_t = what it returns

    The innermost is an LSTM: c_t = f * c_{t-1} + i * j. Every depth returns o * tanh(c_t). Depth 1
    is the LSTM; the paper's has depth 2. The inner candidate goes through tanh like the outer one,
    so that the inner unit is an LSTM as it is known; some presentations leave it linear.

    The state is (h, c^0, c^1, ...), [B, H] each. Every forget gate's bias starts 1 higher.
    """

    def __init__(
        self, input_size: int, size: int, generator: torch.Generator, depth: int = 2
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, size
        # [W U] and b, for i f j o, from the outermost inwards.
        layers = [
            linear((input_size if k == 0 else size) + size, 4 * size, generator)
            for k in range(depth)
        ]
        with torch.no_grad():
            for layer in layers:
                layer.bias[size : 2 * size] += 1  # remember, until taught to forget
        self.gates = nn.ModuleList(layers)
        self.h0 = nn.Parameter(torch.zeros(size))
        self.c0 = nn.ParameterList(torch.zeros(size) for _ in range(depth))

    def initial_state(self, batch: int) -> State:
        return tuple(first.expand(batch, -1) for first in (self.h0, *self.c0))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, *cells = state
        outer = []  # the output gate of every depth
        for depth, gates in enumerate(self.gates):
            i, f, j, o = gates(torch.cat([x, h], dim=-1)).chunk(4, dim=-1)
            x, h = torch.sigmoid(i) * torch.tanh(j), torch.sigmoid(f) * cells[depth]
            outer.append(torch.sigmoid(o))
        c = x + h  # of the innermost
        for depth in reversed(range(len(cells))):
            cells[depth] = c
            c = outer[depth] * torch.tanh(c)  # returned to the LSTM around it
        return c, (c, *cells)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NestedLSTMConfig(ControllerConfig):
    """The settings of a :class:`NestedLSTM`; ``depth`` counts the LSTMs, the outermost too."""

    name: ClassVar[str] = "nested LSTM"
    kind: Literal["nested_lstm"] = "nested_lstm"
    depth: int = Field(default=2, ge=1, le=100)

    def layer(self, input_size: int, generator: torch.Generator) -> NestedLSTM:
        return NestedLSTM(input_size, self.size, generator, self.depth)
