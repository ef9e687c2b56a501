"""The interface of every task: a distribution over episodes, and the lowest possible cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from torch import Tensor

from tasks.episode import Episode
from tasks.losses import BITS, Loss

#: For a task: a frozen dataclass, whose fields are its block in a config.
STRICT = ConfigDict(extra="forbid", strict=True)


class TaskError(Exception):
    """A task lacks its data. The message names the setting, and what would be right."""


#: What held-out episodes are for: to select weights, or to score the selected ones.
HeldOut: TypeAlias = Literal["validation", "test"]


class Task(ABC):
    """A distribution over episodes. Subclasses are frozen pydantic dataclasses; see ``tasks.copy``.

    They set ``kind``, which selects them in a config.
    """

    kind: str
    #: Unit of its cost, for axes and tables.
    unit: ClassVar[str] = "bits per sequence"
    #: Name of ``floor``, above which bits are shown; "0" where there is no such bound.
    bound: ClassVar[str] = "the best possible"
    #: Where inputs are one-hot: the character that each channel stands for.
    symbols: ClassVar[str] = ""

    @property
    def axis_label(self) -> str:
        """The label of an axis of bits above ``floor``."""
        return self.unit if self.bound == "0" else f"excess {self.unit}"

    @property
    @abstractmethod
    def input_size(self) -> int:
        """I: channels of the input."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """O: channels of the output, the logits of O bits or of O classes."""

    @property
    def loss(self) -> Loss:
        """The loss, on bits or on classes."""
        return BITS

    @property
    @abstractmethod
    def steps(self) -> int:
        """Steps of the longest possible episode."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        """Draws ``batch`` sequences with the generator. Raises TaskError where data are missing."""

    @property
    def answers_last(self) -> bool:
        """Whether all inputs come before the answer begins."""
        return False

    def held_out(self, part: HeldOut) -> Task:
        """The task as validation or the test has it: without what only helps training.

        A task that draws from data then draws from the split for that purpose.
        """
        return self

    #: Whether the meaning of its classes depends on the data, as a vocabulary does.
    tied: ClassVar[bool] = False

    def data(self) -> str | None:
        """Identifies the content of the data that it draws from; None where there are no data."""
        return None

    def positions(self, episode: Episode) -> dict[str, Tensor]:
        """Integer labels of steps [T, B], by name, by which scores of steps are broken down."""
        return {}

    def floor(self, episode: Episode) -> Tensor:
        """[B] bits: the cost of the best possible predictor, 0 where targets are determined."""
        return episode.mask.new_zeros(episode.mask.shape[1])


#: The upper limit of ranges: beyond any computer, and far from overflow.
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


#: Between 0 and 1.
Share = Annotated[float, Field(ge=0, le=1)]


def draw(rng: np.random.Generator, bounds: Range, batch: int, mixed: bool) -> np.ndarray:
    """[B] integers, uniform over the range, both ends included.

    mixed: draws one for each sequence of the batch, instead of one for all.
    """
    low, high = bounds
    if mixed:
        return rng.integers(low, high, size=batch, endpoint=True)
    return np.full(batch, rng.integers(low, high, endpoint=True))


def random_bits(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Fair random bits, as float32 zeros and ones."""
    return rng.integers(0, 2, size=shape, dtype=np.int8).astype(np.float32)


def nearly_empty(rng: np.random.Generator, vectors: np.ndarray, fraction: float) -> np.ndarray:
    """Vectors [..., W] of bits, in a fraction of which each bit is kept with probability 1 / W.

    With W = 8, six in ten of these are zero, which a model also sees where there is no input.
    """
    if not fraction:
        return vectors
    chosen = rng.random(vectors.shape[:-1]) < fraction
    kept = rng.random(vectors.shape) * vectors.shape[-1] < 1
    return np.where(chosen[..., None], vectors * kept, vectors)
