"""Character-level language modelling: predict the next character of a text."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.base import LONGEST, STRICT
from tasks.episode import Episode, episode
from tasks.text import PARTS, SYMBOLS, TextTask, bounds, load


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CharLM(TextTask):
    """One episode of length 5, from a text with "... the cat ..."; inputs are one-hot.

        input     h e _ c a
        target    e _ c a t
        scored    x x x x x

    A window begins anywhere in its split of the text, and shows one character before the first
    target, so the first characters of a window are predicted from little context.

    path: a text file: text8, or any plain text, which is folded to the same 27 symbols.
    length: scored characters in a window.
    """

    kind: Literal["charlm"] = "charlm"
    path: str = Field(default="text8", min_length=1)
    length: int = Field(default=200, ge=1, le=LONGEST)

    unit: ClassVar[str] = "bits per character"
    symbols: ClassVar[str] = SYMBOLS

    @property
    def input_size(self) -> int:
        return len(SYMBOLS)

    @property
    def output_size(self) -> int:
        return len(SYMBOLS)

    @property
    def steps(self) -> int:
        return self.length

    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        text, L = load(self.path), self.length
        if any(high - low <= L for low, high in (bounds(len(text), part) for part in PARTS)):
            raise self.too_short(
                f"it has {len(text):,} characters, of which 5% are validation and 5% test, "
                f"and a window takes {L + 1:,}"
            )
        low, high = bounds(len(text), self.part)
        start = rng.integers(low, high - L, size=batch)
        window = text[np.arange(L + 1)[:, None] + start].astype(np.int64)  # [L + 1, B]
        return episode(
            np.eye(self.input_size, dtype=np.float32)[window[:-1]],
            window[1:, :, None],
            np.ones((L, batch), np.float32),
            length=np.full(batch, L),
        )
