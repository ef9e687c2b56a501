"""Associative recall (section 4.3): queried with an item of a list, output the next item."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from tasks.base import STRICT, HeldOut, Range, Share, Task, draw, random_bits
from tasks.episode import Episode, episode


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AssociativeRecall(Task):
    """One episode with width 2, item_length 2 and 3 items A B C, queried with A.

                  item A   item B   item C  |  query A   |  answer
        bits      . 1 0    . 1 1    . 0 0      . 1 0 .      . .
                  . 0 0    . 0 1    . 1 0      . 0 0 .      . .
        item      1 . .    1 . .    1 . .      . . . .      . .
        query     . . .    . . .    . . .      1 . . 1      . .
        target    . . .    . . .    . . .      . . . .      1 1
                  . . .    . . .    . . .      . . . .      0 1
        scored    . . .    . . .    . . .      . . . .      x x

    width: bits in a vector.
    item_length: vectors in an item.
    items: items in a list, at least two. The query is any item but the last. The items of a list
        are distinct, so that every query has one answer.
    mixed: as in :class:`tasks.copy.Copy`.
    hard_fraction: in training, the fraction of items that differ in only a few bits from an earlier
        item of their list. Random items rarely do, so that a few of their bits suffice to tell
        them apart. Has no effect where a list holds most of the possible items.
    """

    kind: Literal["associative_recall"] = "associative_recall"
    width: int = Field(default=6, ge=1)
    item_length: int = Field(default=3, ge=1)
    items: Range = (2, 6)
    mixed: bool = True
    hard_fraction: Share = 0.0

    @model_validator(mode="after")
    def _possible(self) -> AssociativeRecall:
        if self.items[0] < 2:
            raise ValueError(
                f"items: should be at least 2, not {self.items[0]}: a query has a successor"
            )
        bits = self.width * self.item_length
        if self.items[1] > 2**bits:
            raise ValueError(
                f"items: {self.items[1]} distinct items of {bits} bits do not exist; "
                f"at most {2**bits} (2 to the power of width x item_length)"
            )
        return self

    @property
    def input_size(self) -> int:
        return self.width + 2

    @property
    def output_size(self) -> int:
        return self.width

    @property
    def steps(self) -> int:
        return self.items[1] * (self.item_length + 1) + 2 * self.item_length + 2

    @property
    def answers_last(self) -> bool:
        return True

    def held_out(self, part: HeldOut) -> AssociativeRecall:
        return replace(self, hard_fraction=0.0)

    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        items = draw(rng, self.items, batch, self.mixed)  # [B]
        most, L, W = items.max(), self.item_length, self.width
        contents = self._distinct_items(rng, batch, most)  # [B, K, L, W]
        query = rng.integers(0, items - 1)  # [B], one of the first K - 1
        b = np.arange(batch)

        steps = most * (L + 1) + 2 + 2 * L
        present = np.arange(most) < items[:, None]  # [B, K]
        listed = np.zeros((batch, most, L + 1, self.input_size), np.float32)
        listed[:, :, 0, W] = present
        listed[:, :, 1:, :W] = contents * present[..., None, None]
        inputs = np.zeros((steps, batch, self.input_size), np.float32)
        inputs[: most * (L + 1)] = listed.reshape(batch, -1, self.input_size).swapaxes(0, 1)

        start = items * (L + 1)  # [B] the step of the first query delimiter
        t = np.arange(L)[:, None]
        inputs[start, b, W + 1] = 1
        inputs[start + 1 + t, b, :W] = contents[b, query].swapaxes(0, 1)
        inputs[start + 1 + L, b, W + 1] = 1
        targets = np.zeros((steps, batch, W), np.float32)
        targets[start + 2 + L + t, b] = contents[b, query + 1].swapaxes(0, 1)
        mask = np.zeros((steps, batch), np.float32)
        mask[start + 2 + L + t, b] = 1
        return episode(inputs, targets, mask, items=items)

    def _distinct_items(self, rng: np.random.Generator, batch: int, items: int) -> np.ndarray:
        """[B, K, L, W] bits; an item that repeats an earlier one of its list is drawn again.

        Where a list holds more than half of all possible items, these are shuffled instead, as
        drawing the last ones would take long.
        """
        bits = self.item_length * self.width
        if 2 * items > 2**bits:
            codes = rng.permuted(np.tile(np.arange(2**bits), (batch, 1)), axis=1)[:, :items]
            drawn = codes[..., None] >> np.arange(bits) & 1
            shape = (batch, items, self.item_length, self.width)
            return drawn.astype(np.float32).reshape(shape)
        contents = random_bits(rng, batch, items, self.item_length, self.width)
        if self.hard_fraction:
            self._make_alike(rng, contents)
        while True:
            packed = np.packbits(contents.reshape(batch, items, -1).astype(bool), axis=-1)
            codes = packed.view(np.dtype((np.void, packed.shape[-1])))[
                ..., 0
            ]  # [B, K] one per item
            order = np.argsort(codes, axis=1, kind="stable")
            in_order = np.take_along_axis(codes, order, axis=1)
            b, k = np.nonzero(in_order[:, 1:] == in_order[:, :-1])
            if not len(b):
                return contents
            contents[b, order[b, k + 1]] = random_bits(rng, len(b), self.item_length, self.width)

    def _make_alike(self, rng: np.random.Generator, contents: np.ndarray) -> None:
        """Turns items of [B, K, L, W] into earlier ones, bits flipped with probability 1/6."""
        batch, items = contents.shape[:2]
        for k in range(1, items):
            earlier = contents[np.arange(batch), rng.integers(0, k, size=batch)]
            alike = np.abs(earlier - (rng.random(earlier.shape) < 1 / 6))
            hard = rng.random(batch) < self.hard_fraction
            contents[hard, k] = alike[hard]
