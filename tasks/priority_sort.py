"""Priority sort (section 4.5): output the vectors of highest priority, in that order."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from tasks.base import STRICT, HeldOut, Range, Share, Task, draw, nearly_empty, random_bits
from tasks.episode import Episode, episode

#: Least and greatest distance of a hard priority from an earlier one of its list, log-uniform, so
#: that priorities must be told apart at every scale.
NEAR = (2e-4, 5e-3)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PrioritySort(Task):
    """One episode with width 2, 3 items and the highest 2 of them sorted.

                   items              |  answer
        bits       1    0    1        .  . .
                   1    0    0        .  . .
        priority   0.1 -0.7  0.9      .  . .
        delimiter  .    .    .        1  . .
        target     .    .    .        .  1 1
                   .    .    .        .  0 1
        scored     .    .    .        .  x x

    The paper does not state the width. The parameter counts of its baseline imply 10 inputs and 8
    outputs: 8 bits, the priority and a delimiter.

    width: bits in a vector.
    items: vectors shown, each with a priority uniform in [-1, 1].
    sorted: how many of them are output, from the highest priority down; all of them, if fewer.
    mixed: as in :class:`tasks.copy.Copy`.
    hard_fraction: in training, the fraction of vectors that are nearly all zeros, and of priorities
        that are close to an earlier one of their list (``NEAR``).
    """

    kind: Literal["priority_sort"] = "priority_sort"
    width: int = Field(default=8, ge=1)
    items: Range = (20, 20)
    sorted: int = Field(default=16, ge=1)
    mixed: bool = True
    hard_fraction: Share = 0.0

    @model_validator(mode="after")
    def _possible(self) -> PrioritySort:
        if self.sorted > self.items[1]:
            raise ValueError(f"sorted: cannot be more than items: {self.sorted} of {self.items[1]}")
        return self

    @property
    def input_size(self) -> int:
        return self.width + 2

    @property
    def output_size(self) -> int:
        return self.width

    @property
    def steps(self) -> int:
        return self.items[1] + 1 + self.sorted

    @property
    def answers_last(self) -> bool:
        return True

    def held_out(self, part: HeldOut) -> PrioritySort:
        return replace(self, mixed=True, hard_fraction=0.0)

    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        items = draw(rng, self.items, batch, self.mixed)  # [B]
        K, W, b = items.max(), self.width, np.arange(batch)
        count = np.minimum(items, self.sorted)  # [B]
        A = count.max()
        present = np.arange(K)[:, None] < items  # [K, B]
        vectors = (
            nearly_empty(rng, random_bits(rng, K, batch, W), self.hard_fraction)
            * present[..., None]
        )
        priority = self._priorities(rng, K, batch)
        rank = np.where(present, -priority, np.inf)  # absent items come last
        order = np.argsort(rank, axis=0, kind="stable")[:A]  # [A, B]

        steps = (items + count).max() + 1
        inputs = np.zeros((steps, batch, self.input_size), np.float32)
        inputs[:K, :, :W] = vectors
        inputs[:K, :, W] = priority * present
        inputs[items, b, W + 1] = 1
        k = np.arange(A)[:, None]
        place, kept = items + 1 + np.minimum(k, count - 1), k < count  # [A, B]
        targets = np.zeros((steps, batch, W), np.float32)
        mask = np.zeros((steps, batch), np.float32)
        answer = np.where(kept, order, order[count - 1, b])  # the last again, beyond it
        targets[place, b] = vectors[answer, b]
        mask[place, b] = 1
        return episode(inputs, targets, mask, items=items)

    def _priorities(self, rng: np.random.Generator, items: int, batch: int) -> np.ndarray:
        """[K, B] uniform in [-1, 1]; hard ones are close to an earlier one of their list."""
        priority = rng.uniform(-1, 1, size=(items, batch)).astype(np.float32)
        if self.hard_fraction:
            hard = rng.random((items, batch)) < self.hard_fraction
            least, most = NEAR
            away = least * (most / least) ** rng.random((items, batch))
            away = (away * rng.choice([-1, 1], size=(items, batch))).astype(np.float32)
            for k in range(1, items):
                earlier = priority[rng.integers(0, k, size=batch), np.arange(batch)]
                priority[k] = np.where(hard[k], np.clip(earlier + away[k], -1, 1), priority[k])
        return priority
