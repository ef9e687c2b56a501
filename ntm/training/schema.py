"""The settings of a run, typed and frozen: what a config may say."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass, rebuild_dataclass

from ntm import registry
from ntm.kernels.dispatch import Engine
from ntm.model import ModelConfig
from ntm.training.task_settings import as_tested, with_settings
from tasks import AnyTask, Task
from tasks.losses import BITS

STRICT = ConfigDict(extra="forbid", strict=True)

Positive = Annotated[float, Field(gt=0, le=1e6)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GravesRMSpropConfig:
    """:class:`ntm.training.optim.GravesRMSprop`, with the paper's constants."""

    kind: Literal["graves_rmsprop"]
    lr: Positive = 1e-4
    momentum: Fraction = 0.9
    decay: Fraction = 0.95
    eps: Positive = 1e-4


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RMSpropConfig:
    """torch.optim.RMSprop."""

    kind: Literal["rmsprop"]
    lr: Positive = 1e-4
    momentum: Fraction = 0.9
    alpha: Fraction = 0.95
    eps: Positive = 1e-8
    centered: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdamConfig:
    """torch.optim.Adam or AdamW."""

    kind: Literal["adam", "adamw"]
    lr: Positive = 1e-3
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: float = Field(default=0.0, ge=0, le=1e6)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RidgeConfig:
    """:class:`ntm.training.optim.Ridge`: the readout in closed form, for an echo state network.

    penalty: of the squared weights, against the sum of squared errors over all scored steps.
    """

    kind: Literal["ridge"]
    penalty: Positive = 0.01

    lr: ClassVar[float] = 1.0  # all the way to the solution


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClipConfig:
    """Gradients clipped elementwise to (-value, value), or scaled down to a total norm.

    weighting_grad: clips the gradients of the heads' weightings as well, elementwise, at every time
        step of the backward pass. Sharpening makes small differences between weightings grow from
        step to step, so these gradients are the ones that explode.
    """

    value: Positive | None = None
    norm: Positive | None = None
    weighting_grad: Positive | None = None

    @model_validator(mode="after")
    def _one(self) -> ClipConfig:
        if (self.value is None) == (self.norm is None):
            raise ValueError("should be either {value: ...} or {norm: ...}")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScheduleConfig:
    """The step size: a linear warm-up, then constant, or falling to ``final``.

    linear, cosine and exponential fall over the budget. A cooldown waits for the task to be
    understood: once validation is less than ``trigger_bits`` above the floor, the step size falls
    linearly over ``decay_sequences``, and then training ends, if some validation was below
    ``solved_bits``; if none was, the step size returns.
    """

    kind: Literal["constant", "linear", "cosine", "exponential", "cooldown"] = "constant"
    warmup: int = Field(default=0, ge=0)  # sequences
    final: float = Field(default=0.0, ge=0, le=1)  # as a share of lr
    trigger_bits: Positive | None = None  # bits
    decay_sequences: int | None = Field(default=None, ge=1)  # sequences

    @model_validator(mode="after")
    def _cooldown_is_whole(self) -> ScheduleConfig:
        for name in ("trigger_bits", "decay_sequences"):
            given = getattr(self, name) is not None
            if given != (self.kind == "cooldown"):
                word = "belongs to" if given else "is missing for"
                raise ValueError(f"{name}: {word} the kind cooldown")
        if self.kind == "exponential" and not self.final:
            raise ValueError("final: an exponential never comes to 0: should be more, such as 0.01")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CurriculumConfig:
    """Training begins with the settings ``task``, which grow to the task's own as they are learned.

    advance_bits: bits per scored step. Whenever the mean cost of the last ``every`` sequences is
        below it, the task grows: the whole number that has furthest to go by 1, the other numbers
        and fractions in proportion. Where only fractions are named, they grow in one step. The
        upper end of a range grows; its lower end stays until the curriculum is over.
    """

    task: dict[str, Any]
    advance_bits: Positive
    every: int = Field(default=1000, ge=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """How a model is trained. Everything is counted in sequences, whatever the batch.

    rollback_factor: training goes back to the best weights when validation costs more than this
        many times the best validation, or ``solved_bits`` if that is higher. The learning rate, the
        optimiser and the curriculum stay as they are. None never goes back.
    slots: from how few to how many the memory has in training, drawn for every batch, as often few
        as many on a logarithmic scale. A machine that has met memories of many sizes does not come
        to depend on that of one. Validation has ``model.memory.slots``.
    recompute_every: trades time for memory on long sequences (gradient checkpointing). Without it
        the history of a whole sequence is kept for the backward pass; with it, only the state every
        ``recompute_every`` steps, from which the backward pass runs forward again. The gradients
        are the same.
    snapshots: weights to keep along the way, at most so many, evenly spaced over the validations:
        for ``ntm plot --learning``.
    """

    optimizer: Annotated[
        GravesRMSpropConfig | RMSpropConfig | AdamConfig | RidgeConfig, Field(discriminator="kind")
    ]
    clip: ClipConfig | None = None
    schedule: ScheduleConfig = ScheduleConfig()
    curriculum: CurriculumConfig | None = None
    rollback_factor: Annotated[float, Field(gt=1, le=1e6)] | None = None
    batch: int = Field(default=1, ge=1)
    sequences: int = Field(default=100_000, ge=1)  # the budget
    solved_bits: float = Field(default=0.1, ge=0)  # above the floor; 0 is never solved
    slots: tuple[Count, Count] | None = None
    recompute_every: int | None = Field(
        default=None, ge=1
    )  # steps between the states that are kept
    report_every: int = Field(default=100, ge=1)
    checkpoint_every: int = Field(default=1000, ge=1)
    snapshots: int = Field(default=0, ge=0, le=1000)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ValidationConfig:
    """The fixed episodes that decide when training is solved, and which weights are kept."""

    every: int = Field(default=500, ge=1)  # sequences
    episodes: int = Field(default=100, ge=1, le=100_000)
    task: dict[str, Any] = Field(default_factory=dict)  # settings that differ from training's


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """A whole run."""

    task: AnyTask
    model: ModelConfig
    train: TrainConfig
    validation: ValidationConfig = ValidationConfig()
    engine: Engine = "auto"
    seed: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _clips_what_is_there(self) -> Config:
        if (
            self.model.memory is None
            and self.train.clip
            and self.train.clip.weighting_grad is not None
        ):
            raise ValueError("train.clip.weighting_grad: a baseline has no heads")
        return self

    @model_validator(mode="after")
    def _memory_can_grow(self) -> Config:
        if self.train.slots is not None:
            if self.model.memory is None:
                raise ValueError("train.slots: a baseline has no memory")
            try:
                for slots in self.train.slots:
                    self.model.memory.with_slots(slots)
            except ValueError as error:
                raise ValueError(f"train.slots: {error}") from None
            if self.train.slots[0] > self.train.slots[1]:
                raise ValueError("train.slots: should be [fewest, most]")
        return self

    @model_validator(mode="after")
    def _ridge_fits_readouts(self) -> Config:
        fixed = self.model.controller.kind == "echo_state" and self.model.memory is None
        if isinstance(self.train.optimizer, RidgeConfig) and not fixed:
            raise ValueError(
                "train.optimizer.kind: ridge fits the readout alone, so it is for an echo_state "
                "controller without a memory, which has nothing else to learn"
            )
        if isinstance(self.train.optimizer, RidgeConfig) and self.task.loss is not BITS:
            raise ValueError(
                "train.optimizer.kind: ridge fits outputs that are bits, and "
                f"{self.task.kind} asks for one of many classes"
            )
        if isinstance(self.train.optimizer, RidgeConfig) and self.train.schedule.kind != "constant":
            raise ValueError(
                "train.schedule.kind: should be constant with ridge, which has no step size"
            )
        return self

    @model_validator(mode="after")
    def _can_go_back(self) -> Config:
        if self.train.rollback_factor is not None:
            if isinstance(self.train.optimizer, RidgeConfig):
                raise ValueError(
                    "train.rollback_factor: ridge takes no steps that could be too large"
                )
            if not self.train.solved_bits:
                raise ValueError(
                    "train.rollback_factor: needs a train.solved_bits above 0, to be measured by"
                )
        return self

    @model_validator(mode="after")
    def _the_whole_input_is_there(self) -> Config:
        if self.model.direction != "causal" and not self.task.answers_last:
            raise ValueError(
                f"model.direction: {self.model.direction} reads the whole input before it answers, "
                f"and {self.task.kind} answers as it goes"
            )
        return self

    @model_validator(mode="after")
    def _cooldown_can_begin(self) -> Config:
        below = self.train.schedule.trigger_bits
        if below is not None and below < self.train.solved_bits:
            raise ValueError(
                "train.schedule.trigger_bits: a cooldown begins before the task is solved, so "
                f"it should be at least train.solved_bits, {self.train.solved_bits:g}"
            )
        return self

    @model_validator(mode="after")
    def _validation_fits(self) -> Config:
        as_tested(self.task, self.validation.task, "validation.task")
        return self

    @model_validator(mode="after")
    def _curriculum_grows(self) -> Config:
        if self.train.curriculum is None:
            return self
        where = "train.curriculum.task"
        first = with_settings(self.task, self.train.curriculum.task, where)
        for name in self.train.curriculum.task:
            ends = getattr(first, name), getattr(self.task, name)
            numbers = [n for end in ends for n in (end if isinstance(end, tuple) else [end])]
            kinds = {type(n) for n in numbers}
            if kinds != {int} and (kinds != {float} or len(numbers) > 2):
                raise ValueError(
                    f"{where}.{name}: only numbers, and ranges of whole ones, can grow"
                )
        return self

    @property
    def validation_task(self) -> Task:
        """The task that validation draws from."""
        return with_settings(self.task, self.validation.task, "validation.task").held_out(
            "validation"
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Member(Config):
    """A config of a family: its controller is as large as the budget allows, or as it says."""

    parameters: int | None = Field(default=None, ge=1, le=10**12)


def config_adapter() -> TypeAdapter[Config]:
    """Validates configs in which every registered kind can be chosen, of other packages too."""
    return _adapters(registry.load_plugins())[0]


def member_adapter() -> TypeAdapter[Member]:
    """The same for configs of a family."""
    return _adapters(registry.load_plugins())[1]


@lru_cache(maxsize=1)
def _adapters(version: int) -> tuple[TypeAdapter[Config], TypeAdapter[Member]]:
    if version:  # the registries have changed since these classes were made
        for cls in (ModelConfig, Config, Member):
            rebuild_dataclass(cls, force=True)  # type: ignore[arg-type]
    return TypeAdapter(Config), TypeAdapter(Member)
