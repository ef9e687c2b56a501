"""Networks that read the whole input before they answer: baselines with an advantage.

They are for tasks in which nothing is put in any more once the answer has begun
(``Task.answers_last``), and they are told where it begins. An NTM is not: it answers as it goes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from controllers.base import Core, State
from ntm.kernels.border import check
from ntm.kernels.dispatch import unroll


class WholeInput(nn.Module, ABC):
    """Two cores that between them read an input and answer."""

    input_size: int
    output_size: int

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """The state before the first step, for ``batch`` sequences."""

    @abstractmethod
    def unroll(
        self, xs: Tensor, state: State, begin: Tensor, **options: Any
    ) -> tuple[Tensor, State]:
        """A whole sequence: xs [T, B, I] -> outputs [T, B, output_size] and the last state.

        begin [B]: the step at which each answer begins. Up to there is the input.
        options: how each of the two cores is run, as :func:`ntm.kernels.dispatch.unroll` takes it.
        """


class Bidirectional(WholeInput):
    """A core that reads the input forwards, and one that reads it backwards.

    (Schuster & Paliwal 1997.) Their outputs stand side by side: at a step of the input, what was up
    to there and what comes from there on. When both have read it all they go on through the answer.
    The state is a pair.
    """

    def __init__(self, forwards: Core, backwards: Core) -> None:
        super().__init__()
        self.forwards, self.backwards = forwards, backwards
        self.input_size = forwards.input_size
        self.output_size = forwards.output_size + backwards.output_size

    def initial_state(self, batch: int) -> State:
        return self.forwards.initial_state(batch), self.backwards.initial_state(batch)

    def unroll(
        self, xs: Tensor, state: State, begin: Tensor, **options: Any
    ) -> tuple[Tensor, State]:
        t = torch.arange(len(xs), device=xs.device).unsqueeze(1)
        reversed_ = torch.where(t < begin, begin - 1 - t, t)  # [T, B]; its own inverse
        one, other = state
        ys, one = unroll(self.forwards, xs, one, **options)
        zs, other = unroll(self.backwards, _pick(xs, reversed_), other, **options)
        return torch.cat([ys, _pick(zs, reversed_)], dim=-1), (one, other)


def _pick(xs: Tensor, steps: Tensor) -> Tensor:
    """Xs [T, B, n] in another order of time, [T, B], for each sequence."""
    return xs.gather(0, steps.unsqueeze(-1).expand(-1, -1, xs.shape[-1]))


class EncoderDecoder(WholeInput):
    """A core that reads the input, and another that answers (Sutskever et al. 2014).

    The decoder goes on from the encoder's last state, to which its own learned first state is
    added: what of it is the same for every input. The state is that of the one at work.
    """

    def __init__(self, encoder: Core, decoder: Core) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.input_size, self.output_size = encoder.input_size, encoder.output_size

    def initial_state(self, batch: int) -> State:
        return self.encoder.initial_state(batch)

    def unroll(
        self, xs: Tensor, state: State, begin: Tensor, **options: Any
    ) -> tuple[Tensor, State]:
        state = check(self.encoder, xs, state)
        outputs, states, order = [], [], []
        for n in begin.unique().tolist():  # those that change over at the same step go together
            which = (begin == n).nonzero().flatten()
            part = xs[:, which]
            here = pytree.tree_map(lambda s, which=which: s[which], state)
            ys = xs.new_empty(0, len(which), self.output_size)
            if n:
                ys, here = unroll(self.encoder, part[:n], here, **options)
            own = self.decoder.initial_state(len(which))
            here = pytree.tree_map(torch.add, here, own)
            if n < len(xs):
                answer, here = unroll(self.decoder, part[n:], here, **options)
                ys = torch.cat([ys, answer])
            outputs.append(ys)
            states.append(here)
            order.append(which)
        inverse = torch.cat(order).argsort()
        together = pytree.tree_map(lambda *s: torch.cat(s)[inverse], *states)
        return torch.cat(outputs, dim=1)[:, inverse], together
