"""Copy (section 4.1): read a sequence of random vectors, then output it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.base import STRICT, HeldOut, Range, Share, Task, draw, nearly_empty, random_bits
from tasks.episode import Episode, episode


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Copy(Task):
    """One episode with width 3 and length 2; a row is a channel, time runs to the right.

                  vectors   |  answer
        bits      1 0       .  . .
                  0 1       .  . .
                  1 1       .  . .
        delimiter . .       1  . .
        target    . .       .  1 0
                  . .       .  0 1
                  . .       .  1 1
        scored    . .       .  x x

    width: bits in a vector.
    length: vectors in a sequence.
    mixed: draws a length for every sequence of a batch, padding and masking the end; otherwise a
        batch shares one. Mixed is the default, as batches of any size are then drawn from the same
        distribution as single sequences.
    hard_fraction: in training, the fraction of vectors that are nearly all zeros. These resemble
        steps without input, and are otherwise too rare to be learned well.
    """

    kind: Literal["copy"] = "copy"
    width: int = Field(default=8, ge=1)
    length: Range = (1, 20)
    mixed: bool = True
    hard_fraction: Share = 0.0

    @property
    def input_size(self) -> int:
        return self.width + 1

    @property
    def output_size(self) -> int:
        return self.width

    @property
    def steps(self) -> int:
        return 2 * self.length[1] + 1

    @property
    def answers_last(self) -> bool:
        return True

    def held_out(self, part: HeldOut) -> Copy:
        return replace(self, hard_fraction=0.0)

    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        length = draw(rng, self.length, batch, self.mixed)  # [B]
        longest = length.max()
        t, b = np.arange(longest)[:, None], np.arange(batch)
        present = t < length  # [L, B]
        vectors = random_bits(rng, longest, batch, self.width)
        vectors = nearly_empty(rng, vectors, self.hard_fraction) * present[..., None]

        inputs = np.zeros((2 * longest + 1, batch, self.input_size), np.float32)
        inputs[:longest, :, : self.width] = vectors
        inputs[length, b, self.width] = 1
        targets = np.zeros((2 * longest + 1, batch, self.width), np.float32)
        targets[length + 1 + t, b] = vectors
        mask = np.zeros((2 * longest + 1, batch), np.float32)
        mask[length + 1 + t, b] = present
        return episode(inputs, targets, mask, length=length)
