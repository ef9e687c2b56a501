"""A core with a linear readout: what is trained, saved and scored."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import torch
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from controllers import AnyController, Core, State, build_controller
from controllers.base import each, linear, typed
from ntm.kernels.border import check_begin, check_inputs
from ntm.kernels.dispatch import Engine, unroll
from ntm.memory.base import MemoryConfig
from ntm.registry import MEMORIES, Kinds
from ntm.whole_input import Bidirectional, EncoderDecoder, WholeInput

#: The memory block of a config: ``kind`` chooses the class, an NTM's where it is left out.
AnyMemory: TypeAlias = Annotated[MemoryConfig, Kinds(MEMORIES, default="ntm")]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class ModelConfig:
    """A controller with a memory around it, or without one: a baseline.

    direction: ``causal`` answers step by step. The others read the whole input first
        (:mod:`ntm.whole_input`), with two controllers; they are baselines.
    """

    controller: AnyController
    memory: AnyMemory | None = None
    direction: Literal["causal", "bidirectional", "encoder_decoder"] = "causal"

    @model_validator(mode="after")
    def _memory_is_causal(self) -> ModelConfig:
        if self.memory is not None and self.direction != "causal":
            raise ValueError(
                f"direction: {self.direction} is for baselines, so memory should be null"
            )
        return self


class Model(nn.Module):
    """[T, B, I] -> logits [T, B, O]; the outputs of the paper are their logistic sigmoids."""

    #: Whether ``forward`` takes and gives the batch before time.
    batch_first: bool = False

    def __init__(
        self, core: Core | WholeInput, output_size: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.core = core
        self.readout = linear(core.output_size, output_size, generator)

    def forward(
        self,
        inputs: Tensor,
        state: State | None = None,
        begin: Tensor | None = None,
        *,
        engine: Engine = "auto",
        recompute_every: int | None = None,
        weighting_grad: float | None = None,
        wants_state: bool = True,
    ) -> tuple[Tensor, State]:
        """Logits, and the last state; see :meth:`run`."""
        outputs, state = self.run(
            inputs,
            state,
            begin,
            engine=engine,
            recompute_every=recompute_every,
            weighting_grad=weighting_grad,
            wants_state=wants_state,
        )
        return self.readout(outputs), state

    def initial_state(self, batch: int) -> State:
        """The state before the first step of ``batch`` sequences."""
        return typed(each(torch.clone, self._causal().initial_state(batch)))

    def step(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One step in plain torch: x [B, I] -> logits [B, O] and the next state.

        Without a state, an episode begins.
        """
        core = self._causal()
        y, state = core(x, core.initial_state(len(x)) if state is None else state)
        return self.readout(y), typed(state)

    def _causal(self) -> Core:
        if isinstance(self.core, WholeInput):
            raise ValueError("this model reads the whole input before it answers: it has no steps")
        return self.core

    def run(
        self,
        inputs: Tensor,
        state: State | None = None,
        begin: Tensor | None = None,
        *,
        engine: Engine = "auto",
        recompute_every: int | None = None,
        weighting_grad: float | None = None,
        wants_state: bool = True,
    ) -> tuple[Tensor, State]:
        """What the readout sees, [T, B, C], and the last state. Without one, an episode begins.

        begin [B]: the step at which each answer begins, for models that read the input first.
        The others are those of :func:`ntm.kernels.dispatch.unroll`, and so are the errors.
        """
        options: dict[str, Any] = {
            "engine": engine,
            "recompute_every": recompute_every,
            "weighting_grad": weighting_grad,
        }
        if not isinstance(self.core, WholeInput):
            return unroll(self.core, inputs, state, wants_state=wants_state, **options)
        if begin is None:
            raise ValueError("begin: this model reads the whole input before it answers")
        check_inputs(self.core, inputs)
        check_begin(inputs, begin)
        if state is None:
            state = self.core.initial_state(inputs.shape[1])
        return self.core.unroll(inputs, state, begin, **options)


def build_model(
    config: ModelConfig, input_size: int, output_size: int, generator: torch.Generator
) -> Model:
    """The model that the config describes: the only place that asks "memory or none?"."""

    def controller(inputs: int) -> Core:
        return build_controller(config.controller, inputs, generator)

    core: Core | WholeInput
    if config.memory is not None:
        core = config.memory.core(controller(input_size + config.memory.reads_size), generator)
    elif config.direction == "bidirectional":
        core = Bidirectional(controller(input_size), controller(input_size))
    elif config.direction == "encoder_decoder":
        core = EncoderDecoder(controller(input_size), controller(input_size))
    else:
        core = controller(input_size)
    return Model(core, output_size, generator)
