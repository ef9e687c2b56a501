"""Text as data: a file, folded to 27 symbols, split by position, and its words counted."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

from tasks.base import HeldOut, Task, TaskError
from tasks.losses import CLASSES, Loss

#: The alphabet of text8; a symbol's index is its position here.
SYMBOLS = " abcdefghijklmnopqrstuvwxyz"
Part: TypeAlias = Literal["train"] | HeldOut
#: By position: the first 90% of the characters, the next 5%, and the last 5%.
PARTS: tuple[Part, ...] = ("train", "validation", "test")

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
#: Byte -> symbol of any ASCII, and byte -> symbol of the alphabet alone.
_FOLDED = bytes(max(0, SYMBOLS.find(chr(byte).lower())) for byte in range(128)) + bytes(128)
_PLAIN = bytes(SYMBOLS.find(chr(byte)) % 256 for byte in range(256))
_LETTERS = SYMBOLS.encode() + bytes(256 - len(SYMBOLS))  # symbol -> byte
#: Words that are counted at a time.
_CHUNK = 2**16

HOW = (
    "any plain text will do; text8 is at http://mattmahoney.net/dc/text8.zip, to be unpacked: "
    "--set task.path=FILE"
)


def fold(raw: bytes) -> np.ndarray:
    """Symbols [n] of a text, as uint8.

    A text of the 27 symbols alone stays as it is. Any other is processed as text8 was: lower-cased,
    with accents removed, digits spelled out, and everything else replaced by single spaces.
    """
    known = np.frombuffer(raw.translate(_PLAIN), np.uint8)
    if not len(raw) or known.max() < len(SYMBOLS):
        return known
    if not raw.isascii():
        text = unicodedata.normalize("NFKD", raw.decode("utf-8", "replace"))
        raw = re.sub("[\u0300-\u036f]+", "", text).encode("ascii", "replace")
    for digit, name in enumerate(DIGITS):
        raw = raw.replace(b"%d" % digit, f" {name} ".encode())
    symbols = np.frombuffer(raw.translate(_FOLDED), np.uint8)
    kept = symbols > 0
    kept[1:] |= symbols[:-1] > 0
    kept[:1] = True
    return symbols[kept]


def unfold(symbols: np.ndarray) -> str:
    """The text of symbols [n]."""
    return symbols.astype(np.uint8).tobytes().translate(_LETTERS).decode()


def bounds(size: int, part: Part) -> tuple[int, int]:
    """Where a split of a text of ``size`` characters begins and ends."""
    marks = (0, size * 9 // 10, size * 19 // 20, size)
    index = PARTS.index(part)
    return marks[index], marks[index + 1]


def load(path: str) -> np.ndarray:
    """The symbols [n] of a file, cached until it changes. Raises TaskError."""
    return _load(*_identity(path))


class Words(NamedTuple):
    """The n words of a text: runs of letters."""

    starts: np.ndarray  # [n] the first letter
    ends: np.ndarray  # [n] after the last one
    classes: np.ndarray  # [n] index in the vocabulary, or -1
    vocabulary: list[str]  # by falling frequency, then by alphabet


def load_words(path: str, count: int) -> Words:
    """The words of a file, and as vocabulary the ``count`` most frequent of its training split."""
    return _load_words(*_identity(path), count)


def within(words: Words, low: int, high: int) -> tuple[int, int]:
    """The range of the words that lie entirely within a section of the text."""
    first, last = np.searchsorted(words.starts, low), np.searchsorted(words.ends, high, "right")
    return int(first), int(last)


def _identity(path: str) -> tuple[str, int, int]:
    """Identifies the content of a file by its size and time of change."""
    path = os.path.expanduser(path)
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:  # ValueError: a name that no file system takes
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise TaskError(f"task.path: {path!r}: {reason}; {HOW}") from None
    if not stat.S_ISREG(found.st_mode):
        raise TaskError(f"task.path: {path!r}: is not a file; {HOW}")
    return path, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4)
def _load(path: str, size: int, changed: int) -> np.ndarray:
    try:
        symbols = fold(Path(path).read_bytes())
    except OSError as error:
        raise TaskError(f"task.path: {path!r}: {error.strerror}; {HOW}") from None
    symbols.setflags(write=False)
    return symbols


@lru_cache(maxsize=2)
def _load_words(path: str, size: int, changed: int, count: int) -> Words:
    text = _load(path, size, changed)
    letter = np.concatenate([[False], text > 0, [False]])
    edges = np.flatnonzero(letter[1:] != letter[:-1])
    starts, ends = edges[::2], edges[1::2]
    whole = Words(starts, ends, np.empty(0, np.int32), [])
    first, last = within(whole, *bounds(len(text), "train"))
    numbers: defaultdict[bytes, int] = defaultdict()  # each new word gets the next number
    numbers.default_factory = numbers.__len__
    found = np.empty(len(starts), np.int32)
    done = 0
    for words in _each(text, starts, ends):
        found[done : done + len(words)] = [numbers[word] for word in words]
        done += len(words)
    counts = np.bincount(found[first:last], minlength=len(numbers)).tolist()
    used = (word for word, number in numbers.items() if counts[number])
    ranked = sorted(used, key=lambda word: (-counts[numbers[word]], word))[:count]
    places = np.full(len(numbers), -1, np.int32)
    places[[numbers[word] for word in ranked]] = np.arange(len(ranked))
    classes = places[found]
    for array in (starts, ends, classes):
        array.setflags(write=False)
    return Words(starts, ends, classes, [word.decode() for word in ranked])


def _each(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[list[bytes]]:
    """The words in chunks: a list of all would be far larger than the text."""
    for i in range(0, len(starts), _CHUNK):
        low, high = starts[i], ends[min(i + _CHUNK, len(ends)) - 1]
        yield text[low:high].tobytes().translate(_LETTERS).split()


T = TypeVar("T", bound="TextTask")


class TextTask(Task):
    """A task that draws from a text: training, validation and test each from a split of it."""

    path: str
    part: ClassVar[Part] = "train"  # not a setting: nobody should train on held-out text
    bound: ClassVar[str] = "0"  # the entropy of a text is unknown

    @property
    def loss(self) -> Loss:
        return CLASSES

    def held_out(self: T, part: HeldOut) -> T:
        other = copy.copy(self)
        object.__setattr__(other, "part", part)
        return other

    def data(self) -> str:
        text = load(self.path)
        return f"{len(text):,} characters, sha256 {hashlib.sha256(text.data).hexdigest()[:16]}"

    def too_short(self, found: str) -> TaskError:
        """The error for a text that is too short."""
        return TaskError(f"task.path: {self.path!r}: is too short: {found}; {HOW}")
