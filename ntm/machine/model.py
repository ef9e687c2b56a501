"""A core with a linear readout: what is trained, saved and scored."""

from __future__ import annotations

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from controllers import AnyController, Core, State, build_controller
from controllers.base import linear
from ntm.machine.cell import MemoryConfig, NTMCell


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class ModelConfig:
    """A controller and its memory; without memory, the controller alone: a baseline."""

    controller: AnyController
    memory: MemoryConfig | None = None


class Model(nn.Module):
    """[T, B, I] -> logits [T, B, O]; the outputs of the paper are their logistic sigmoids."""

    def __init__(self, core: Core, output_size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.core = core
        self.readout = linear(core.output_size, output_size, generator)

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Without a state, a new episode begins."""
        if state is None:
            state = self.core.initial_state(inputs.shape[1])
        outputs, state = self._unroll(inputs, state)
        return self.readout(outputs), state

    def _unroll(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        if self.core.engine == "fused" and not isinstance(self.core, NTMCell):
            from ntm.machine.fused import unroll_alone  # imports Numba

            return unroll_alone(self.core, inputs, state)
        return self.core.unroll(inputs, state)


def build_model(
    config: ModelConfig, input_size: int, output_size: int, generator: torch.Generator
) -> Model:
    """The model that the config describes: the only place that asks "memory or none?"."""
    core: Core
    if config.memory is None:
        core = build_controller(config.controller, input_size, generator)
    else:
        reads = config.memory.read_heads * config.memory.width
        controller = build_controller(config.controller, input_size + reads, generator)
        core = NTMCell(controller, config.memory, generator)
    return Model(core, output_size, generator)
