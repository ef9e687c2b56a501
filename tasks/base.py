"""What a task is: it draws episodes, and knows what the best possible predictor would pay."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from torch import Tensor

from tasks.episode import Episode
from tasks.losses import BITS, Loss

#: Every task is a frozen dataclass whose fields are its block in a config.
STRICT = ConfigDict(extra="forbid", strict=True)


class TaskError(Exception):
    """What a task needs is not there. The message names the setting, and what would be right."""


#: What held-out episodes are for: to choose weights, or to score those that were chosen.
HeldOut: TypeAlias = Literal["validation", "test"]


class Task(ABC):
    """A distribution over episodes. Subclasses are frozen dataclasses; see ``tasks.copy``."""

    kind: str
    #: What its bits are, for axes and tables.
    unit: ClassVar[str] = "bits per sequence"
    #: What ``floor`` is: bits are shown above it.
    bound: ClassVar[str] = "the best possible"
    #: What the input channels stand for, a character each, where they are one-hot.
    symbols: ClassVar[str] = ""

    @property
    def axis_label(self) -> str:
        """What its bits less ``floor`` are, for axes."""
        return self.unit if self.bound == "0" else f"excess {self.unit}"

    @property
    @abstractmethod
    def input_size(self) -> int:
        """I: channels of the input."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """O: channels of the output, each a probability of a 1, or the logits of O classes."""

    @property
    def loss(self) -> Loss:
        """What an answer costs."""
        return BITS

    @property
    @abstractmethod
    def steps(self) -> int:
        """Steps of the longest episode that can be drawn."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        """``batch`` sequences drawn with the generator. Raises TaskError without its data."""

    @property
    def answers_last(self) -> bool:
        """Whether nothing is put in any more once the answer has begun."""
        return False

    def held_out(self, part: HeldOut) -> Task:
        """The task without what only helps training: what validation and tests are on.

        Tasks that draw from data draw from a part of it that no other purpose sees.
        """
        return self

    #: Whether what an answer means depends on the data: as a word's number does, on its text.
    tied: ClassVar[bool] = False

    def data(self) -> str | None:
        """What it draws from, by its content; None of what is drawn from nothing but chance."""
        return None

    def positions(self, episode: Episode) -> dict[str, Tensor]:
        """Labels of steps [T, B], whole numbers, by which scored steps are broken down."""
        return {}

    def floor(self, episode: Episode) -> Tensor:
        """[B] bits that the best possible predictor still pays: 0 where targets are determined."""
        return torch.zeros(episode.mask.shape[1])


#: No range goes further: it is beyond any machine, and far from what overflows.
LONGEST = 10**9


def _as_range(value: Any) -> Any:
    """7 -> (7, 7), so that ``--set task.length=7`` means exactly 7; a YAML list -> a tuple."""
    whole = value if isinstance(value, list | tuple) else [value, value]
    if len(whole) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in whole):
        raise ValueError(f"should be a whole number or [low, high], not {value}")
    return tuple(whole)


def _check_range(value: tuple[int, int]) -> tuple[int, int]:
    low, high = value
    if not 1 <= low <= high <= LONGEST:
        raise ValueError(
            f"should be [low, high] with 1 <= low <= high <= {LONGEST:,}, not [{low}, {high}]"
        )
    return value


#: Inclusive at both ends.
Range = Annotated[tuple[int, int], BeforeValidator(_as_range), AfterValidator(_check_range)]


#: A part of a whole.
Share = Annotated[float, Field(ge=0, le=1)]


def draw(rng: np.random.Generator, bounds: Range, batch: int, mixed: bool) -> np.ndarray:
    """[B] integers uniform over the range, both ends included.

    ``mixed``: every sequence of the batch draws its own; otherwise all share one.
    """
    low, high = bounds
    if mixed:
        return rng.integers(low, high, size=batch, endpoint=True)
    return np.full(batch, rng.integers(low, high, endpoint=True))


def random_bits(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Fair coins, as float32 zeros and ones."""
    return rng.integers(0, 2, size=shape, dtype=np.int8).astype(np.float32)


def nearly_empty(rng: np.random.Generator, vectors: np.ndarray, share: float) -> np.ndarray:
    """The same vectors [..., W] of bits; of a share of them each bit is kept with chance 1 / W.

    With W of 8, six in ten of these are zero: what a machine also sees where nothing is put in.
    """
    if not share:
        return vectors
    chosen = rng.random(vectors.shape[:-1]) < share
    kept = rng.random(vectors.shape) * vectors.shape[-1] < 1
    return np.where(chosen[..., None], vectors * kept, vectors)
