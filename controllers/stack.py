"""Stacked layers, with or without skip connections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from controllers.base import Core, State


class Stack(Core):
    """The first layer sees the input, and every other layer the output of the one below.

    With ``skip``, every layer sees the input as well, and the output is the concatenated outputs of
    all layers (Graves 2013, section 2.1), as in the deep LSTM that the paper compares with. Without
    it, the output is that of the top layer. The state is a tuple of the layers' states.
    """

    def __init__(self, layers: Sequence[Core], skip: bool) -> None:
        super().__init__()
        self.layers: nn.ModuleList = nn.ModuleList(layers)
        self.skip = skip
        self.input_size = layers[0].input_size
        sizes = [layer.output_size for layer in layers]
        self.output_size = sum(sizes) if skip else sizes[-1]

    def initial_state(self, batch: int) -> State:
        return tuple(layer.initial_state(batch) for layer in self._cores())

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        outputs: list[Tensor] = []
        states = []
        for layer, s in zip(self._cores(), state, strict=True):
            y, s = layer(self._feed(x, outputs), s)
            outputs.append(y)
            states.append(s)
        return self._emit(outputs), tuple(states)

    def unroll(self, xs: Tensor, state: State) -> tuple[Tensor, State]:
        """Layer by layer instead of step by step: the same numbers, in fewer and larger calls."""
        outputs: list[Tensor] = []
        states = []
        for layer, s in zip(self._cores(), state, strict=True):
            ys, s = layer.unroll(self._feed(xs, outputs), s)
            outputs.append(ys)
            states.append(s)
        return self._emit(outputs), tuple(states)

    def _cores(self) -> list[Core]:
        return list(self.layers)  # type: ignore[arg-type]

    def _feed(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        if not outputs:
            return x
        return torch.cat([x, outputs[-1]], dim=-1) if self.skip else outputs[-1]

    def _emit(self, outputs: list[Tensor]) -> Tensor:
        return torch.cat(outputs, dim=-1) if self.skip else outputs[-1]
