"""Dynamic n-grams (section 4.4): learn the statistics of a source within one sequence."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from tasks.base import STRICT, HeldOut, Task
from tasks.episode import Episode, episode

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
#: The two parameters of a Beta distribution.
Beta = Annotated[
    tuple[Positive, Positive], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NGram(Task):
    """Every sequence has its own table of the probability of a 1 after each of the 2^(order-1)
    contexts, drawn from Beta(beta). The first order - 1 bits are fair coin flips.

    At step t the input is bit t - 1 (0 at the first step) and the target is bit t:

        input     0 b0 b1 b2 ...
        target   b0 b1 b2 b3 ...
        scored    x  x  x  x ...

    All ``length`` bits are scored, including the coin flips; in this convention the paper's optimum
    is 133 bits. Over the bits with a full context it is 5 bits lower, at order 6.

    order: bits in an n-gram: the context is order - 1 bits.
    length: bits in a sequence.
    beta: parameters of the Beta distribution; 1/2, 1/2, as in the paper, is Jeffreys' prior.
    targets: ``drawn``, the bits themselves; or ``optimal``, the Bayes-optimal probability of a 1 at
        each step. The expected gradient is the same, without the noise of drawing the bit, which is
        most of the noise. Only in training: validation and tests always use the bits.
    """

    kind: Literal["ngram"] = "ngram"
    order: int = Field(default=6, ge=2, le=16)
    length: int = Field(default=200, ge=1)
    beta: Beta = (0.5, 0.5)
    targets: Literal["drawn", "optimal"] = "drawn"

    @property
    def input_size(self) -> int:
        return 1

    @property
    def output_size(self) -> int:
        return 1

    @property
    def steps(self) -> int:
        return self.length

    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        contexts = 2 ** (self.order - 1)
        table = rng.beta(*self.beta, size=(batch, contexts))  # [B, C]
        coins = rng.random((self.length, batch))  # [T, B]
        bits = np.empty((self.length, batch), np.int64)
        context, b = np.zeros(batch, np.int64), np.arange(batch)
        for t in range(self.length):
            probability = table[b, context] if t >= self.order - 1 else 0.5
            bits[t] = coins[t] < probability
            context = (2 * context + bits[t]) % contexts

        inputs = np.zeros((self.length, batch, 1), np.float32)
        inputs[1:, :, 0] = bits[:-1]
        targets = bits if self.targets == "drawn" else self.bayes(torch.from_numpy(bits)).numpy()
        length = np.full(batch, self.length)
        return episode(
            inputs,
            targets[..., None].astype(np.float32),
            np.ones(bits.shape, np.float32),
            length=length,
        )

    def held_out(self, part: HeldOut) -> NGram:
        return dataclasses.replace(self, targets="drawn")

    def floor(self, episode: Episode) -> Tensor:
        """[B] bits: the cost of the Bayes-optimal predictor on these sequences."""
        y = episode.targets[..., 0].double()  # in float32 a p near 1 would leave 1 - p = 0
        bits = torch.zeros_like(y)  # the last one predicts nothing
        bits[:-1] = episode.inputs[1:, :, 0]
        p = self.bayes(bits)
        cost: Tensor = -(torch.xlogy(y, p) + torch.xlogy(1 - y, 1 - p)) / math.log(2)
        return (cost * episode.mask).sum(dim=0).to(episode.mask)

    def bayes(self, bits: Tensor) -> Tensor:
        """Equation 10, for any Beta prior (a, b): P(1) = (N1 + a) / (N1 + N0 + a + b).

        bits [T, B] -> the optimal probability [T, B] that each bit is a 1, given those before it,
        in float64. N1 and N0 count the ones and zeros that have followed the current context so
        far.
        """
        a, b = self.beta
        n = self.order - 1
        known = bits.long()
        p = torch.full(known.shape, 0.5, dtype=torch.float64, device=bits.device)
        if len(known) <= n:
            return p
        context = torch.zeros_like(known[n:])
        for k in range(1, n + 1):
            context += known[n - k : len(known) - k] << (k - 1)
        # Each context of each sequence is a group; a stable sort keeps its bits in time order.
        sequence = torch.arange(known.shape[1], device=bits.device)
        group, order = (context + (sequence << n)).flatten().sort(stable=True)
        ones = known[n:].flatten()[order]
        start = torch.searchsorted(group, group)
        N1 = (ones.cumsum(0) - ones).double()
        N1 -= N1[start].clone()
        N = (torch.arange(len(group), device=bits.device) - start).double()  # N1 + N0
        found = torch.empty_like(N1)
        found[order] = (N1 + a) / (N + a + b)
        p[n:] = found.view_as(context)
        return p
