"""A language of a few words whose entropy is known: each word depends on the one before it.

A text is spaces and words in turn, so it and its words say the same. A word has the entropy of its
row, and takes its letters and a space: over the stationary distribution that gives the entropy
rate per character, below which no predictor can come.
"""

from __future__ import annotations

import atexit
import math
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

#: word -> the words that may follow, and their probabilities.
FOLLOWERS: dict[str, dict[str, float]] = {
    "the": {"ox": 0.5, "otter": 0.25, "cat": 0.25},
    "ox": {"sat": 0.75, "saw": 0.25},
    "otter": {"sat": 0.5, "saw": 0.5},
    "cat": {"saw": 0.9, "the": 0.1},
    "sat": {"the": 1.0},
    "saw": {"the": 0.8, "cat": 0.2},
}
WORDS = list(FOLLOWERS)


def stationary() -> dict[str, float]:
    """How often each word is used, by iteration until nothing changes."""
    share = dict.fromkeys(WORDS, 1 / len(WORDS))
    for _ in range(10_000):
        after = dict.fromkeys(WORDS, 0.0)
        for word, p in share.items():
            for other, q in FOLLOWERS[word].items():
                after[other] += p * q
        # The mean of two steps does not go round in circles.
        share = {word: (share[word] + after[word]) / 2 for word in WORDS}
    return share


def entropy() -> float:
    """Bits per character."""
    share = stationary()
    bits = sum(
        p * -sum(q * math.log2(q) for q in FOLLOWERS[word].values()) for word, p in share.items()
    )
    return bits / sum(p * (1 + len(word)) for word, p in share.items())


def words(count: int, seed: int = 1) -> list[str]:
    rng = np.random.default_rng(seed)
    found = ["the"]
    while len(found) < count:
        after = FOLLOWERS[found[-1]]
        found.append(str(rng.choice(list(after), p=list(after.values()))))
    return found


def write(path: Path, count: int = 5000, seed: int = 1) -> Path:
    """A file with a text of so many words, as text8 has it: a space before each."""
    path.write_text("".join(f" {word}" for word in words(count, seed)))
    return path


@cache
def shared_file() -> str:
    """The path of a text for tests that only need one."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(write(Path(folder) / "text"))
