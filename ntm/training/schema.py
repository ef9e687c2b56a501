"""The settings of a run, typed and frozen: the keys of a config."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass, rebuild_dataclass

from ntm import registry
from ntm.kernels.dispatch import Engine
from ntm.model import ModelConfig
from ntm.training.curriculum_settings import AnyCurriculum
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
    """:class:`ntm.training.optim.Ridge`: ridge regression of the readout of an echo state network.

    penalty: of the squared weights, relative to the sum of squared errors over all scored steps.
    """

    kind: Literal["ridge"]
    penalty: Positive = 0.01

    lr: ClassVar[float] = 1.0  # a step goes all the way to the solution


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClipConfig:
    """Gradient clipping, either elementwise to (-value, value) or by the total norm.

    weighting_grad: also clips the gradients of the heads' weightings, elementwise, at every time
        step of the backward pass. Sharpening amplifies small differences between weightings from
        step to step, so it is these gradients that explode.
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
    """The learning rate: a linear warm-up, then constant, or decaying to ``final``.

    linear, cosine and exponential decay over the budget. cooldown waits until the task is learned:
    once validation is less than ``trigger_bits`` above the floor, the learning rate decays linearly
    over ``decay_sequences``. Training then ends if any validation was below ``solved_bits``;
    otherwise the learning rate is restored.

    warmup: sequences of the warm-up. final: a fraction of ``lr``.
    """

    kind: Literal["constant", "linear", "cosine", "exponential", "cooldown"] = "constant"
    warmup: int = Field(default=0, ge=0)
    final: float = Field(default=0.0, ge=0, le=1)
    trigger_bits: Positive | None = None
    decay_sequences: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _cooldown_is_whole(self) -> ScheduleConfig:
        for name in ("trigger_bits", "decay_sequences"):
            given = getattr(self, name) is not None
            if given != (self.kind == "cooldown"):
                word = "belongs to" if given else "is missing for"
                raise ValueError(f"{name}: {word} the kind cooldown")
        if self.kind == "exponential" and not self.final:
            raise ValueError("final: should be above 0, such as 0.01, which exponential needs")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """How a model is trained. Intervals count sequences, whatever the batch size.

    rollback_factor: restores the best weights when the validation loss exceeds the best validation
        loss, or ``solved_bits`` if that is higher, by this factor. The learning rate, the optimiser
        and the curriculum are kept. None never rolls back.
    init: the folder of a run whose best weights training begins with: those that this model has
        too, by name and shape. The others are drawn as usual.
    batch: sequences in a batch.
    sequences: the budget, after which training ends.
    solved_bits: the task is solved once validation is less than this above the floor, in bits per
        sequence, or per character or guess; with 0 it never is.
    slots: the range of the number of slots in training, drawn log-uniformly for every batch, so
        that the model does not come to depend on one number. Validation has ``model.memory.slots``.
    recompute_every: gradient checkpointing, which trades time for memory on long sequences. Only
        the state of every so many steps is kept for the backward pass, which recomputes the steps
        in between. The gradients are the same.
    report_every: sequences between two rows of metrics.csv.
    checkpoint_every: sequences between two checkpoints.
    snapshots: keeps weights of at most this many validations, evenly spaced, for
        ``ntm plot --learning``.
    """

    optimizer: Annotated[
        GravesRMSpropConfig | RMSpropConfig | AdamConfig | RidgeConfig, Field(discriminator="kind")
    ]
    clip: ClipConfig | None = None
    schedule: ScheduleConfig = ScheduleConfig()
    curriculum: AnyCurriculum | None = None
    rollback_factor: Annotated[float, Field(gt=1, le=1e6)] | None = None
    init: str | None = None
    batch: int = Field(default=1, ge=1)
    sequences: int = Field(default=100_000, ge=1)
    solved_bits: float = Field(default=0.1, ge=0)
    slots: tuple[Count, Count] | None = None
    recompute_every: int | None = Field(default=None, ge=1)
    report_every: int = Field(default=100, ge=1)
    checkpoint_every: int = Field(default=1000, ge=1)
    snapshots: int = Field(default=0, ge=0, le=1000)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ValidationConfig:
    """The fixed episodes that decide whether the task is solved, and which weights are the best.

    every: sequences of training between two validations.
    task: settings that differ from those of training.
    """

    every: int = Field(default=500, ge=1)
    episodes: int = Field(default=100, ge=1, le=100_000)
    task: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Everything that defines a run."""

    task: AnyTask
    model: ModelConfig
    train: TrainConfig
    validation: ValidationConfig = ValidationConfig()
    engine: Engine = "auto"
    seed: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _clips_weightings_of_a_memory(self) -> Config:
        if self.train.clip is None or self.train.clip.weighting_grad is None:
            return self
        if self.model.memory is None:
            raise ValueError("train.clip.weighting_grad: a baseline has no heads")
        if not self.model.memory.has_weightings:
            raise ValueError(
                "train.clip.weighting_grad: a memory of the kind "
                f"{self.model.memory.kind} has no weightings"
            )
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
                "controller without a memory, which has no other parameters"
            )
        if isinstance(self.train.optimizer, RidgeConfig) and self.task.loss is not BITS:
            raise ValueError(
                "train.optimizer.kind: ridge fits outputs that are bits, and "
                f"{self.task.kind} has classes"
            )
        if isinstance(self.train.optimizer, RidgeConfig) and self.train.schedule.kind != "constant":
            raise ValueError(
                "train.schedule.kind: should be constant with ridge, which has no learning rate"
            )
        return self

    @model_validator(mode="after")
    def _can_roll_back(self) -> Config:
        if self.train.rollback_factor is not None:
            if isinstance(self.train.optimizer, RidgeConfig):
                raise ValueError(
                    "train.rollback_factor: ridge takes no gradient steps that could be too large"
                )
            if not self.train.solved_bits:
                raise ValueError(
                    "train.rollback_factor: needs a train.solved_bits above 0 to compare with"
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
        if self.train.curriculum is not None:
            self.train.curriculum.check(self.task)
        return self

    @property
    def validation_task(self) -> Task:
        """The task of validation."""
        return with_settings(self.task, self.validation.task, "validation.task").held_out(
            "validation"
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Member(Config):
    """A config of a family, whose controller has its own size or the largest in the budget.

    parameters: the budget of trained parameters.
    """

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
