"""What a task is: it draws episodes, and knows what the best possible predictor would pay."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from torch import Tensor

from tasks.losses import BITS, Loss

#: Every task is a frozen dataclass whose fields are its block in a config.
STRICT = ConfigDict(extra="forbid", strict=True)


class Episode(NamedTuple):
    """A batch of sequences. T time, B batch, I and O the task's input and output sizes."""

    inputs: Tensor  # [T, B, I]
    targets: Tensor  # [T, B, O] 0 or 1; or [T, B, 1] classes, as the task's loss wants them
    mask: Tensor  # [T, B]     1 where the outputs are scored, else 0
    conditions: dict[str, Tensor]  # [B] each: what a score is broken down by

    @property
    def begin(self) -> Tensor:
        """[B]: the step at which each answer begins, the first that is scored."""
        return (self.mask.cumsum(dim=0) == 0).sum(dim=0)

    def to(self, device: torch.device | str) -> Episode:
        """The same episode on a device; the conditions stay where they are."""
        if self.inputs.device == torch.device(device):
            return self
        return Episode(
            self.inputs.to(device), self.targets.to(device), self.mask.to(device), self.conditions
        )

    def select(self, start: int, stop: int) -> Episode:
        """Sequences start ... stop - 1 of the batch, cut to the longest of them that is left."""
        conditions = {name: values[start:stop] for name, values in self.conditions.items()}
        scored = torch.nonzero(self.mask[:, start:stop].any(dim=1))
        end = int(scored[-1]) + 1 if len(scored) else 1  # a model needs a step
        inputs, targets, mask = (field[:end, start:stop] for field in self[:3])
        return Episode(inputs, targets, mask, conditions)


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


def episode(
    inputs: np.ndarray, targets: np.ndarray, mask: np.ndarray, **conditions: np.ndarray
) -> Episode:
    """An :class:`Episode` of NumPy arrays."""
    return Episode(
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        torch.from_numpy(mask),
        {name: torch.from_numpy(values) for name, values in conditions.items()},
    )
