"""The vanilla recurrent network (Elman 1990)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from controllers.base import STRICT, ControllerConfig, Core, State, linear


class RNN(Core):
    """h_t = tanh(W x_t + U h_{t-1} + b), with a learned initial state h_0. The state is h [B, H].

    nonlinearity: ``tanh``, or ``relu`` in its place.
    """

    def __init__(
        self,
        input_size: int,
        size: int,
        generator: torch.Generator,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, size
        self.nonlinearity = nonlinearity
        self.hidden = linear(input_size + size, size, generator)  # [W U] and b
        self.h0 = nn.Parameter(torch.zeros(size))

    def initial_state(self, batch: int) -> State:
        return self.h0.expand(batch, -1)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        z = self.hidden(torch.cat([x, state], dim=-1))
        h = torch.tanh(z) if self.nonlinearity == "tanh" else torch.relu(z)
        return h, h

    def unroll(self, xs: Tensor, state: State) -> tuple[Tensor, State]:
        """The whole sequence in one call of torch.rnn_tanh or rnn_relu; its second bias is 0."""
        h = state.unsqueeze(0).contiguous()
        W, U = (w.contiguous() for w in self.hidden.weight.split([self.input_size, h.shape[-1]], 1))
        b = self.hidden.bias
        layer = [W, U, b, torch.zeros_like(b)]
        run = torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu
        ys, h = run(xs, h, layer, True, 1, 0.0, self.training, False, False)
        return ys, h[0]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RNNConfig(ControllerConfig):
    """The settings of an :class:`RNN`."""

    name: ClassVar[str] = "RNN"
    kind: Literal["rnn"] = "rnn"
    nonlinearity: Literal["tanh", "relu"] = "tanh"

    def layer(self, input_size: int, generator: torch.Generator) -> RNN:
        return RNN(input_size, self.size, generator, self.nonlinearity)
