"""Priority sort (section 4.5): say the vectors of highest priority, in order of priority."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from tasks.base import STRICT, Episode, Task, episode, random_bits


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

    The paper does not state its width; the parameter counts of its baseline fit 10 inputs and 8
    outputs: 8 bits, the priority and a delimiter.

    width: bits in a vector.
    items: vectors shown, each with a priority uniform in [-1, 1].
    sorted: how many of them are to be said, from the highest priority down.
    """

    kind: Literal["priority_sort"] = "priority_sort"
    width: int = Field(default=8, ge=1)
    items: int = Field(default=20, ge=1)
    sorted: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> PrioritySort:
        if self.sorted > self.items:
            raise ValueError(f"sorted: cannot be more than items: {self.sorted} of {self.items}")
        return self

    @property
    def input_size(self) -> int:
        return self.width + 2

    @property
    def output_size(self) -> int:
        return self.width

    @property
    def steps(self) -> int:
        return self.items + 1 + self.sorted

    @property
    def answers_last(self) -> bool:
        return True

    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        K, W = self.items, self.width
        vectors = random_bits(rng, K, batch, W)
        priority = rng.uniform(-1, 1, size=(K, batch)).astype(np.float32)
        order = np.argsort(-priority, axis=0, kind="stable")[: self.sorted]  # [sorted, B]

        steps = K + 1 + self.sorted
        inputs = np.zeros((steps, batch, self.input_size), np.float32)
        inputs[:K, :, :W] = vectors
        inputs[:K, :, W] = priority
        inputs[K, :, W + 1] = 1
        targets = np.zeros((steps, batch, W), np.float32)
        targets[K + 1 :] = vectors[order, np.arange(batch)]
        mask = np.zeros((steps, batch), np.float32)
        mask[K + 1 :] = 1
        return episode(inputs, targets, mask, items=np.full(batch, K))
