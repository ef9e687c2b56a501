"""Texts: how they are read, folded, split and counted, against plain Python."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.autocomplete import Autocomplete
from tasks.base import TaskError
from tasks.charlm import CharLM
from tasks.text import SYMBOLS, bounds, fold, load, load_words, unfold
from tests.tasks import grammar

NAMES = "zero one two three four five six seven eight nine".split()  # noqa: SIM905


def folded(text: str) -> str:
    """As text8 was made, a character at a time."""
    if set(text) <= set(SYMBOLS):
        return text
    out = ""
    for character in unicodedata.normalize("NFKD", text):
        if "\u0300" <= character <= "\u036f":
            continue
        if character in "0123456789":
            out += f" {NAMES[int(character)]} "
        elif character in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            out += character.lower()
        else:
            out += character if character in SYMBOLS else " "
    return re.sub(" +", " ", out)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  as it  is ", "  as it  is "),
        ("It's 42!\n", "it s four two "),
        ("Caf\u00e9  \u00c5ngstr\u00f6m, na\u00efve", "cafe angstrom naive"),
        ("1999-12", " one nine nine nine one two "),
        ("x\u00b2 \u6f22\u5b57 y", "x two y"),
        ("", ""),
        ("\n", " "),
    ],
)
def test_folding_by_hand(text: str, expected: str) -> None:
    assert unfold(fold(text.encode())) == expected == folded(text)


ODD = "abzAZ 019.\n\t-\u00e9\u00c9\u0130\u00df\u2167\u00bd\ufffd"


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from(ODD), max_size=12) | st.text())
def test_folding_like_plain_python(text: str) -> None:
    try:
        raw = text.encode()
    except UnicodeEncodeError:  # half of a pair
        return
    assert unfold(fold(raw)) == folded(text)


def test_what_is_no_text_is_folded_too() -> None:
    assert unfold(fold(b"a\xff\xfeb\x00c")) == "a b c"


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("one")
    assert unfold(load(str(file))) == "one"
    assert load(str(file)) is load(str(file))
    file.write_text("other")
    assert unfold(load(str(file))) == "other"
    with pytest.raises(ValueError, match="read-only"):
        load(str(file))[0] = 1


def test_ninety_five_five() -> None:
    for size in (0, 1, 19, 20, 99, 1234567):
        parts = [bounds(size, part) for part in ("train", "validation", "test")]
        assert parts[0][0] == 0
        assert parts[2][1] == size
        assert parts[0][1] == parts[1][0]
        assert parts[1][1] == parts[2][0]
    assert [bounds(1000, p) for p in ("train", "validation", "test")] == [
        (0, 900), (900, 950), (950, 1000),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [3, 5, 100])
def test_words_like_plain_python(count: int, tmp_path: Path) -> None:
    file = tmp_path / "text"
    text = "".join(f" {word}" for word in grammar.words(300)) + "  pig pig  ant ant "
    file.write_text(text)
    found = load_words(str(file), count)
    spans = [match.span() for match in re.finditer("[a-z]+", text)]
    assert list(zip(found.starts.tolist(), found.ends.tolist(), strict=True)) == spans
    limit = len(text) * 9 // 10
    counts = Counter(text[a:b] for a, b in spans if b <= limit)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[:count]
    assert found.vocabulary == ranked
    assert "pig" not in ranked  # it is held out
    expected = [ranked.index(text[a:b]) if text[a:b] in ranked else -1 for a, b in spans]
    assert found.classes.tolist() == expected


def test_equally_frequent_words_are_in_order(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text(" d c b a" * 10)
    assert load_words(str(file), 3).vocabulary == ["a", "b", "c"]


@pytest.mark.parametrize("task", [CharLM, Autocomplete])
def test_a_text_that_is_not_there(task: type[CharLM | Autocomplete], tmp_path: Path) -> None:
    """One line: the setting, the path, and how to get a text."""
    rng = np.random.default_rng(1)
    empty, short = tmp_path / "empty", tmp_path / "short"
    empty.write_text("")
    short.write_text("a few words")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, problem in (
        (tmp_path / "nothing", "No such file"), (tmp_path, "is not a file"),
        (empty, "is too short: it has 0"), (short, "is too short: it has"),
        (pipe, "is not a file"), ("\x00", "null byte"), ("x" * 5000, "too long"),
    ):  # fmt: skip
        with pytest.raises(TaskError, match=problem) as caught:
            task(path=str(path)).sample(rng, 2)
        message = str(caught.value)
        assert message.startswith(f"task.path: {str(path)!r}: ")
        assert "http://mattmahoney.net/dc/text8.zip" in message
        assert "\n" not in message


def test_every_part_must_hold_a_window(tmp_path: Path) -> None:
    file = tmp_path / "text"
    rng = np.random.default_rng(1)
    file.write_text("ab" * 200)  # 20 characters are validation
    assert CharLM(path=str(file), length=19).sample(rng, 3).inputs.shape == (19, 3, 27)
    with pytest.raises(TaskError, match="it has 400 characters, of which 5% are validation"):
        CharLM(path=str(file), length=20).sample(rng, 3)


def test_the_grammar_has_the_entropy_that_its_words_have() -> None:
    """Against the mean cost of each word given the one before it, over a long text."""
    text = grammar.words(40_000, seed=2)
    pairs = Counter(pairwise(text))
    bits = -sum(n * np.log2(grammar.FOLLOWERS[a][b]) for (a, b), n in pairs.items())
    characters = sum(1 + len(word) for word in text[1:])
    assert bits / characters == pytest.approx(grammar.entropy(), rel=0.02)
    assert sum(grammar.stationary().values()) == pytest.approx(1)
