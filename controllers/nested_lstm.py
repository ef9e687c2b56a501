"""The nested LSTM (Moniz & Krueger 2018): an LSTM whose memory cell is another LSTM."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from controllers.base import STRICT, ControllerConfig, Core, State, linear


class NestedLSTM(Core):
    """One layer, with a learned initial state: h_0, and a cell for every depth.

    At the outermost depth, k = 0, x^0 = x_t and h^0 = h_{t-1}. At every depth

    i = sigmoid(W_i x^k + U_i h^k + b_i)        f, o: the same
    j = tanh(W_j x^k + U_j h^k + b_j)

    and where an LSTM adds i * j to f * c, both are the inputs of the next depth:

    x^{k+1} = i * j        h^{k+1} = f * c^k_{t-1}        c^k_t = the output of depth k + 1

    The innermost depth is an LSTM: c_t = f * c_{t-1} + i * j. The output of every depth is
    o * tanh(c_t). With ``depth`` 1 it is an LSTM; the article uses 2. The inner candidate passes
    through tanh as the outer one does, so that the inner unit is a standard LSTM; some
    presentations leave it linear.

    The state is (h, c^0, c^1, ...), [B, H] each. The initial bias of every forget gate is 1 higher
    than the others'.
    """

    def __init__(
        self, input_size: int, size: int, generator: torch.Generator, depth: int = 2
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, size
        # [W U] and b, for i f j o, from the outermost depth inwards
        layers = [
            linear((input_size if k == 0 else size) + size, 4 * size, generator)
            for k in range(depth)
        ]
        with torch.no_grad():
            for layer in layers:
                layer.bias[size : 2 * size] += 1  # remember by default
        self.gates = nn.ModuleList(layers)
        self.h0 = nn.Parameter(torch.zeros(size))
        self.c0 = nn.ParameterList(torch.zeros(size) for _ in range(depth))

    def initial_state(self, batch: int) -> State:
        return tuple(first.expand(batch, -1) for first in (self.h0, *self.c0))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, *cells = state
        outer = []  # the output gates of all depths
        for depth, gates in enumerate(self.gates):
            i, f, j, o = gates(torch.cat([x, h], dim=-1)).chunk(4, dim=-1)
            x, h = torch.sigmoid(i) * torch.tanh(j), torch.sigmoid(f) * cells[depth]
            outer.append(torch.sigmoid(o))
        c = x + h  # the innermost cell
        for depth in reversed(range(len(cells))):
            cells[depth] = c
            c = outer[depth] * torch.tanh(c)  # the output of this depth
        return c, (c, *cells)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NestedLSTMConfig(ControllerConfig):
    """The settings of a :class:`NestedLSTM`; ``depth`` is the number of LSTMs, all included."""

    name: ClassVar[str] = "nested LSTM"
    kind: Literal["nested_lstm"] = "nested_lstm"
    depth: int = Field(default=2, ge=1, le=100)

    def layer(self, input_size: int, generator: torch.Generator) -> NestedLSTM:
        return NestedLSTM(input_size, self.size, generator, self.depth)
