"""Repeat copy (section 4.2): output a sequence a given number of times, then an end marker."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.base import STRICT, HeldOut, Range, Share, Task, draw, nearly_empty, random_bits
from tasks.episode import Episode, episode


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RepeatCopy(Task):
    """One episode with width 2, length 2 and 3 repeats; n is the normalised count.

                  vectors   |    answer
        bits      1 0       . .  . . . . . . .
                  0 1       . .  . . . . . . .
        delimiter . .       1 .  . . . . . . .
        count     . .       . n  . . . . . . .
        target    . .       . .  1 0 1 0 1 0 .
                  . .       . .  0 1 0 1 0 1 .
        end       . .       . .  . . . . . . 1
        scored    . .       . .  x x x x x x x

    width: bits in a vector (the paper's text says 8; its curves and counts decode to 6).
    length: vectors in a sequence.
    repeats: how many times the sequence is output.
    count_range: the range of repeats over which the count is normalised to mean 0 and variance 1;
        by default ``repeats``. A test with more repeats keeps the range of training, so that a
        count has the same input value in both.
    count: ``scalar``, as in the paper: one step with the normalised count. A count outside the
        range of training is then an input value that the model has never seen. ``unary``: a 1 on
        that channel for as many steps as there are repeats, so that new counts need no new values.
    mixed, hard_fraction: as in :class:`tasks.copy.Copy`.
    """

    kind: Literal["repeat_copy"] = "repeat_copy"
    width: int = Field(default=8, ge=1)
    length: Range = (1, 10)
    repeats: Range = (1, 10)
    count_range: Range | None = None
    count: Literal["scalar", "unary"] = "scalar"
    mixed: bool = True
    hard_fraction: Share = 0.0

    def __post_init__(self) -> None:
        if self.count_range is None:
            object.__setattr__(self, "count_range", self.repeats)

    @property
    def input_size(self) -> int:
        return self.width + 2

    @property
    def output_size(self) -> int:
        return self.width + 1

    def normalise(self, repeats: np.ndarray) -> np.ndarray:
        """The count as an input: mean 0 and variance 1 over ``count_range``."""
        assert self.count_range is not None
        low, high = self.count_range
        deviation = np.sqrt(((high - low + 1) ** 2 - 1) / 12) if high > low else 1.0
        return ((repeats - (low + high) / 2) / deviation).astype(np.float32)

    @property
    def steps(self) -> int:
        length, repeats = self.length[1], self.repeats[1]
        counting = repeats if self.count == "unary" else 1
        return length + 1 + counting + length * repeats + 1

    @property
    def answers_last(self) -> bool:
        return True

    def held_out(self, part: HeldOut) -> RepeatCopy:
        return replace(self, hard_fraction=0.0)

    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        length = draw(rng, self.length, batch, self.mixed)  # [B]
        repeats = draw(rng, self.repeats, batch, self.mixed)  # [B]
        longest = length.max()
        t, b = np.arange(longest)[:, None], np.arange(batch)
        vectors = random_bits(rng, longest, batch, self.width)
        vectors = nearly_empty(rng, vectors, self.hard_fraction) * (t < length)[..., None]

        unary = self.count == "unary"
        answer = length + 1 + (repeats if unary else 1)  # [B] the step where it starts
        end = answer + length * repeats  # [B] the step of the end marker
        steps = end.max() + 1
        inputs = np.zeros((steps, batch, self.input_size), np.float32)
        inputs[:longest, :, : self.width] = vectors
        inputs[length, b, self.width] = 1
        t = np.arange(steps)[:, None]
        counted = (t > length) & (t < answer)
        inputs[..., self.width + 1] = np.where(counted, 1 if unary else self.normalise(repeats), 0)

        k = t - answer  # [T, B] position in the answer
        emitted = (k >= 0) & (t < end)
        targets = np.zeros((steps, batch, self.output_size), np.float32)
        targets[..., : self.width] = vectors[k % length, b] * emitted[..., None]
        targets[end, b, self.width] = 1
        mask = ((k >= 0) & (t <= end)).astype(np.float32)
        return episode(inputs, targets, mask, length=length, repeats=repeats)
