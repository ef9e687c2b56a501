"""Autocomplete: predict the word that is being typed, after every character."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from tasks.base import LONGEST, STRICT
from tasks.episode import Episode, episode
from tasks.text import PARTS, SYMBOLS, TextTask, bounds, load, load_words, within

#: The input symbol after the end of an observation.
PADDING = len(SYMBOLS)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Autocomplete(TextTask):
    """One episode of length 16, from "... on the ox sat down ...", where "ox" is a rare word.

        input     _ t h e _ o x _ s a t . .      one-hot; . is padding
        target    ---the- --ox- ---sat-          for each character the word that it belongs to
        scored    x x x x       x x x x          neither rare words nor padding
        seen      0 1 2 3       0 1 2 3          characters of the word, the space not counted

    An observation begins with any word of its split of the text, and holds as many whole words as
    fit, each with the space before it.

    path: a text file: text8, or any plain text, which is folded to the same 27 symbols.
    length: maximum number of characters in an observation.
    words: size of the vocabulary, the most frequent words of the training split.
    """

    kind: Literal["autocomplete"] = "autocomplete"
    path: str = Field(default="text8", min_length=1)
    length: int = Field(default=200, ge=2, le=LONGEST)
    words: int = Field(default=2**14, ge=1, le=LONGEST)

    unit: ClassVar[str] = "bits per guess"
    tied: ClassVar[bool] = True
    symbols: ClassVar[str] = f"{SYMBOLS}."

    @property
    def input_size(self) -> int:
        return len(SYMBOLS) + 1

    @property
    def output_size(self) -> int:
        return self.words

    @property
    def steps(self) -> int:
        return self.length

    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        text, words = load(self.path), load_words(self.path, self.words)
        for part in PARTS:
            first, last = within(words, *bounds(len(text), part))
            if first >= last:
                raise self.too_short(f"it has {len(words.starts):,} words, and none for {part}")
        first, last = within(words, *bounds(len(text), self.part))

        # [B, K] the words that follow, their lengths, and where they end if they fit
        word = rng.integers(first, last, size=batch)[:, None] + np.arange(max(1, self.length // 2))
        there, word = word < last, np.minimum(word, last - 1)
        size = np.where(there, 1 + words.ends[word] - words.starts[word], self.length + 1)
        end = size.cumsum(axis=1)
        b, k = np.nonzero(end <= self.length)
        word, size, end = word[b, k], size[b, k], end[b, k]

        # For each character of these: its sequence, its step, its place in its word
        b, word = np.repeat(b, size), np.repeat(word, size)
        place = np.arange(len(b)) - np.repeat(size.cumsum() - size, size)
        t = np.repeat(end - size, size) + place
        steps = int(end.max(initial=1))
        symbols = np.full((steps, batch), PADDING)
        # Not looked up: the space may be many, or the beginning of the text.
        symbols[t, b] = np.where(place > 0, text[words.starts[word] + place - 1], 0)
        targets = np.zeros((steps, batch, 1), np.int64)
        targets[t, b, 0] = np.maximum(words.classes[word], 0)
        mask = np.zeros((steps, batch), np.float32)
        mask[t, b] = words.classes[word] >= 0
        inputs = np.eye(self.input_size, dtype=np.float32)[symbols]
        return episode(inputs, targets, mask, length=np.full(batch, self.length))

    def positions(self, episode: Episode) -> dict[str, Tensor]:
        """``seen``: characters of the word so far; 0 at the space before it."""
        spaces = episode.inputs[..., 0] > 0
        t = torch.arange(len(spaces), device=spaces.device)[:, None]
        return {"seen": t - torch.where(spaces, t, 0).cummax(dim=0).values}
