"""The settings of a curriculum, ``train.curriculum``: with which task training begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from ntm.training.task_settings import upper_end, with_settings
from tasks import Task

STRICT = ConfigDict(extra="forbid", strict=True)
_WHERE = "train.curriculum"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CurriculumConfig(ABC):
    """Training starts with the settings in ``task``, which grow while they cost little.

    advance_bits: bits per scored step. The task grows whenever the mean loss of the last ``every``
        sequences is below it.
    """

    kind: str
    task: dict[str, Any]
    advance_bits: float = Field(gt=0, le=1e6)
    every: int = Field(default=1000, ge=1)

    @abstractmethod
    def check(self, task: Task) -> None:
        """Raises UsageError or ValueError, which name the key, where the task cannot grow so."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GradualConfig(CurriculumConfig):
    """The settings grow to the task's own: the integer that has furthest to go by 1 each time.

    Other integers and fractions grow in proportion. Fractions alone grow in one step. Of a range,
    the upper end grows, and the lower end stays until the curriculum is over.
    """

    kind: Literal["gradual"] = "gradual"

    def check(self, task: Task) -> None:
        first = with_settings(task, self.task, f"{_WHERE}.task")
        for name in self.task:
            ends = getattr(first, name), getattr(task, name)
            numbers = [n for end in ends for n in (end if isinstance(end, tuple) else [end])]
            kinds = {type(n) for n in numbers}
            if kinds != {int} and (kinds != {float} or len(numbers) > 2):
                raise ValueError(
                    f"{_WHERE}.task.{name}: only numbers, and ranges of whole ones, can grow"
                )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DoublingConfig(CurriculumConfig):
    """Sizes are drawn uniformly up to a level, which doubles each time (Rae et al. 2016).

    task: the first level of each size that grows, such as ``{items: 6}``. At least one of them has
        to be a range, from which every sequence draws: between the smallest size that is named,
        here or in the task itself, and the level. An integer that is no range is the level.
    limit: the last levels, such as ``{items: 10000}``; without one, the task's own upper end. A
        level may go beyond the task, which validation keeps to.

    Small sizes are drawn to the end of training.
    """

    kind: Literal["doubling"] = "doubling"
    limit: dict[str, Any] = Field(default_factory=dict)

    def check(self, task: Task) -> None:
        first = with_settings(task, self.task, f"{_WHERE}.task")
        last = with_settings(task, self.limit, f"{_WHERE}.limit")
        for name in self.limit:
            if name not in self.task:
                raise ValueError(
                    f"{_WHERE}.limit.{name}: does not double, as it is not in {_WHERE}.task"
                )
        for name in self.task:
            key = f"{_WHERE}.task.{name}"
            start, end = (upper_end(getattr(one, name)) for one in (first, last))
            if not type(start) is type(end) is int:
                raise ValueError(f"{key}: only whole numbers, and ranges of them, can double")
            if not 1 <= start <= end:
                raise ValueError(
                    f"{key}: should be from 1 to {end}, where doubling ends, not {start}; "
                    f"{_WHERE}.limit.{name} may end it later"
                )
        if not any(isinstance(getattr(first, name), tuple) for name in self.task):
            raise ValueError(
                f"{_WHERE}.task: should hold a range, such as the length of copy: "
                "doubling draws sizes from it"
            )


def _with_kind(value: Any) -> Any:
    return {"kind": "gradual", **value} if isinstance(value, dict) else value


def _say_default(schema: dict[str, Any]) -> None:
    schema["discriminator"]["default"] = "gradual"


#: The block of a curriculum: ``kind`` chooses the class, the gradual one where it is left out.
AnyCurriculum: TypeAlias = Annotated[
    GradualConfig | DoublingConfig,
    Field(discriminator="kind", json_schema_extra=_say_default),
    BeforeValidator(_with_kind),
]
