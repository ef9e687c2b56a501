from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.autocomplete import Autocomplete
from tasks.base import HeldOut
from tasks.losses import CLASSES
from tasks.text import SYMBOLS
from tests.tasks import grammar


@pytest.fixture
def text(tmp_path: Path) -> tuple[str, str]:
    """The grammar, a rare word, one that is too long for anything, and more than one space."""
    content = "".join(f" {word}" for word in grammar.words(700))
    content = content[:200] + " rare" + "  " + "x" * 61 + content[200:]
    (tmp_path / "text").write_text(content)
    return str(tmp_path / "text"), content


PARTS: list[HeldOut | None] = [None, "validation", "test"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("length", "words"), [(40, 5), (17, 3), (2, 100), (90, 100)])
def test_observations_like_plain_python(
    length: int, words: int, part: HeldOut | None, text: tuple[str, str]
) -> None:
    """Each is what a loop over the words of its part makes of some first word."""
    path, content = text
    n = len(content)
    low, high = {None: (0, n * 9 // 10), "validation": (n * 9 // 10, n * 19 // 20),
                 "test": (n * 19 // 20, n)}[part]  # fmt: skip
    spans = [m.span() for m in re.finditer("[a-z]+", content)]
    counts = Counter(content[a:b] for a, b in spans if b <= n * 9 // 10)
    vocabulary = sorted(counts, key=lambda word: (-counts[word], word))[:words]
    mine = [content[a:b] for a, b in spans if low <= a and b <= high]
    possible = set()
    for first in range(len(mine)):
        steps: list[tuple[int, int, int]] = []  # symbol, class or -1, characters seen
        for word in mine[first:]:
            if len(steps) + 1 + len(word) > length:
                break
            known = vocabulary.index(word) if word in vocabulary else -1
            steps += [(SYMBOLS.index(c), known, i) for i, c in enumerate(f" {word}")]
        possible.add(tuple(steps))

    task = Autocomplete(path=path, length=length, words=words)
    drawn = task if part is None else task.held_out(part)
    B = 400
    episode = drawn.sample(np.random.default_rng(7), B)
    T = len(episode.inputs)
    assert episode.inputs.shape == (T, B, 28)
    assert episode.targets.shape == (T, B, 1)
    assert (task.input_size, task.output_size, task.steps) == (28, words, length)
    assert length >= T
    seen = task.positions(episode)["seen"]
    found = set()
    longest = 1
    for b in range(B):
        symbols = episode.inputs[:, b].argmax(dim=1).tolist()
        assert torch.equal(episode.inputs[:, b].sum(dim=1), torch.ones(T))
        size = symbols.index(27) if 27 in symbols else T
        assert symbols[size:] == [27] * (T - size)
        assert not episode.mask[size:, b].any()
        classes = [int(episode.targets[t, b, 0]) if episode.mask[t, b] else -1 for t in range(size)]
        found.add(tuple(zip(symbols, classes, seen[:, b].tolist(), strict=False))[:size])
        longest = max(longest, size)
    assert longest == T
    assert found <= possible
    assert len(found) > 0.5 * min(B, len(possible))
    assert task.loss is CLASSES


def test_an_observation_without_a_known_word_costs_nothing(text: tuple[str, str]) -> None:
    path, _ = text
    task = Autocomplete(path=path, length=2, words=1)  # no word has one letter
    episode = task.sample(np.random.default_rng(8), 5)
    assert episode.inputs.shape == (1, 5, 28)
    assert not episode.mask.any()
    logits = torch.zeros(1, 5, 1)
    assert CLASSES.nats(logits, episode).tolist() == [0] * 5
    part = episode.select(1, 3)
    assert part.inputs.shape == (1, 2, 28)
    assert part.targets.shape == (1, 2, 1)
