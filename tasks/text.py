"""Text as data: a file, folded to 27 symbols, split by position, and its words counted."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import os
import re
import shlex
import stat
import unicodedata
from collections import Counter, defaultdict
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
_KNOWN = bytes(SYMBOLS.find(chr(byte)) % 256 for byte in range(256))
_NO_LETTER = bytes(byte for byte in range(256) if not (byte < 128 and chr(byte).isalnum()))
_LETTERS = SYMBOLS.encode() + bytes(256 - len(SYMBOLS))  # symbol -> byte
#: Latin letters that Unicode does not take apart.
SPELLED = {
    "\u00df": "ss", "\u1e9e": "SS", "\u00e6": "ae", "\u00c6": "AE", "\u0153": "oe", "\u0152": "OE",
    "\u00f8": "o", "\u00d8": "O", "\u0111": "d", "\u0110": "D", "\u00f0": "d", "\u00d0": "D",
    "\u0142": "l", "\u0141": "L", "\u00fe": "th", "\u00de": "TH", "\u0127": "h", "\u0126": "H",
    "\u0167": "t", "\u0166": "T", "\u014b": "ng", "\u014a": "NG", "\u0131": "i",
}  # fmt: skip
#: The first bytes of encodings that are not UTF-8; the longer ones first.
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}  # fmt: skip
#: Words that are counted at a time.
_CHUNK = 2**16

log = logging.getLogger("ntm")

HOW = (
    "any plain text will do; text8 is at http://mattmahoney.net/dc/text8.zip, to be unpacked: "
    "--set task.path=FILE"
)


def fold(raw: bytes) -> np.ndarray:
    """Symbols [n] of a text, as uint8.

    A text of the 27 symbols alone stays as it is. Any other is processed as text8 was: lower-cased,
    with accents removed, digits spelled out, and everything else replaced by single spaces. Latin
    letters that are no others with an accent become those of ``SPELLED``.
    """
    known = _plain(raw)
    return _fold(_latin(raw)) if known is None else known


def _plain(raw: bytes) -> np.ndarray | None:
    """Symbols [n] of a text of the 27 symbols alone; None of any other."""
    known = np.frombuffer(raw.translate(_KNOWN), np.uint8)
    return known if not len(raw) or known.max() < len(SYMBOLS) else None


def _latin(raw: bytes) -> str:
    """The text without accents, and with the letters of ``SPELLED`` in others."""
    if raw.isascii():
        return raw.decode("ascii")
    text = unicodedata.normalize("NFKD", raw.decode("utf-8", "replace"))
    text = re.sub("[\u0300-\u036f]+", "", text)
    for letter, spelling in SPELLED.items():
        text = text.replace(letter, spelling)
    return text


def _fold(text: str) -> np.ndarray:
    raw = text.encode("ascii", "replace")
    for digit, name in enumerate(DIGITS):
        raw = raw.replace(b"%d" % digit, f" {name} ".encode())
    symbols = np.frombuffer(raw.translate(_FOLDED), np.uint8)
    kept = symbols > 0
    kept[1:] |= symbols[:-1] > 0
    kept[:1] = True
    return symbols[kept]


class Kept(NamedTuple):
    """How much of a text is left when it is folded."""

    share: float  # of its letters and digits; 1 where there are none
    others: str  # what most of the others are, such as Cyrillic; "" where there are none


def kept(raw: bytes) -> Kept:
    """How much of a text is left when it is folded: its encoding or its alphabet may be another."""
    return _kept(_latin(raw))


def _kept(text: str) -> Kept:
    letters = len(text.encode("ascii", "replace").translate(None, _NO_LETTER))
    lost: Counter[str] = Counter()
    for character, count in Counter(re.sub("[\t-\r -~]+", "", text)).items():
        lost[_kind(character)] += count
    del lost[""]
    if not lost:
        return Kept(1.0, "")
    return Kept(letters / (letters + lost.total()), lost.most_common(1)[0][0])


def _kind(character: str) -> str:
    """What a character is that has no symbol: its script; "" for signs, which none should have."""
    if character == "\N{REPLACEMENT CHARACTER}":
        return "bytes that are not UTF-8"
    category = unicodedata.category(character)
    if category == "Cc":
        return "control characters"
    script = unicodedata.name(character, "unknown").split()[0]
    return (script if script == "CJK" else script.title()) if category[0] in "LMN" else ""


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
        raw = Path(path).read_bytes()
    except OSError as error:
        raise TaskError(f"task.path: {path!r}: {error.strerror}; {HOW}") from None
    symbols = _plain(raw)
    if symbols is None:
        text = _latin(raw)
        _say_what_is_lost(path, raw, _kept(text))
        symbols = _fold(text)
    symbols.setflags(write=False)
    return symbols


def _say_what_is_lost(path: str, raw: bytes, found: Kept) -> None:
    """Logs a line where letters are lost. Raises TaskError where most of them are."""
    wide = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), None)
    if wide is None and raw.count(0) > len(raw) // 4:
        wide = "UTF-16"
    if wide is not None:
        command = f"iconv -f {wide} -t UTF-8 {shlex.quote(path)} > NEW"
        raise TaskError(f"task.path: {path!r}: is {wide}, and should be UTF-8: {command}")
    share = f"{math.floor(1e4 * found.share) / 100:g}%"
    if found.share < 0.5:
        raise TaskError(
            f"task.path: {path!r}: only {share} of its letters and digits are in the alphabet, "
            f"a to z; most of the others are {found.others}"
        )
    if found.share < 1:
        log.warning(
            "%s: %s of its letters and digits are kept; the others, mostly %s, become spaces",
            path, share, found.others,
        )  # fmt: skip


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
