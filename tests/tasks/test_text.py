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


#: Letters that are no others with an accent, in small and in capital letters.
LATIN = dict(zip("ßæœøđðłþħŧŋı", "ss ae oe o d d l th h t ng i".split(), strict=True))  # noqa: SIM905
LATIN |= {letter.upper(): spelling for letter, spelling in LATIN.items() if letter not in "ßı"}
LATIN["\u1e9e"] = "ss"


def folded(text: str) -> str:
    """As text8 was made, a character at a time."""
    if set(text) <= set(SYMBOLS):
        return text
    out = ""
    spelled = [LATIN.get(letter, letter) for letter in unicodedata.normalize("NFKD", text)]
    for character in "".join(spelled):
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
        ("Stra\u00dfe, S\u00f8ren \u00c6r\u00f8, \u0141\u00f3d\u017a", "strasse soren aero lodz"),
        ("", ""),
        ("\n", " "),
    ],
)
def test_folding_by_hand(text: str, expected: str) -> None:
    assert unfold(fold(text.encode())) == expected == folded(text)


ODD = "abzAZ 019.\n\t-\u00e9\u00c9\u0130\u00df\u1e9e\u01fd\u0142\u00de\u0131\u2167\u00bd\ufffd"


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


ENGLISH = "all happy families are alike. "
RUSSIAN = "\u0432\u0441\u0435 \u0441\u0447\u0430\u0441\u0442\u043b\u0438\u0432\u044b "


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ((RUSSIAN * 50 + ENGLISH * 9).encode(), "most of the others are Cyrillic"),
        ((RUSSIAN * 50).encode("koi8-r"), "bytes that are not UTF-8"),
        ((RUSSIAN * 50).encode("utf-16-le"), "control characters"),
        ((ENGLISH * 50).encode("utf-16"), "is UTF-16, and should be UTF-8: iconv -f UTF-16"),
        ((ENGLISH * 50).encode("utf-16-be"), "is UTF-16, and should be UTF-8"),
        ((ENGLISH * 50).encode("utf-32"), "is UTF-32, and should be UTF-8"),
    ],
)
def test_a_text_of_which_little_would_be_left_is_refused_in_one_line(
    tmp_path: Path, raw: bytes, named: str
) -> None:
    file = tmp_path / "a text"
    file.write_bytes(raw)
    with pytest.raises(TaskError, match=r"task\.path: ") as caught:
        load(str(file))
    assert named in str(caught.value)
    assert "any plain text will do" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_share_that_is_kept_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "text"
    file.write_text("abc \u00e9\u00df42! \u0434\u0430\u2014", encoding="utf-8")  # a-z: abcess42
    assert unfold(load(str(file))) == "abc ess four two "
    (line,) = caplog.messages
    assert "80% of its letters and digits are kept" in line  # 8 of 10
    assert "mostly Cyrillic" in line


@pytest.mark.parametrize(
    "text", ["as it is", "It's 42! \u201cCaf\u00e9\u201d \u2014 Stra\u00dfe\ufeff", "", "..."]
)
def test_nothing_is_said_where_no_letter_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    file = tmp_path / "text"
    file.write_text(text, encoding="utf-8")
    load(str(file))
    assert caplog.messages == []


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
