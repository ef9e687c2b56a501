"""The Neural Turing Machine as a torch module, for models of one's own."""

from __future__ import annotations

from typing import Literal

import torch

from controllers import ControllerConfig, build_controller, configure
from ntm.arguments import one_line
from ntm.memory.ntm import NTMCell, NTMConfig
from ntm.model import Model


class NTM(Model):
    """A Neural Turing Machine with a linear readout and the habits of torch.nn.LSTM.

        model = NTM(10, 8, controller="lstm", slots=128, width=20)
        output, state = model(x)         # x [T, B, 10] -> output [T, B, 8]; a new episode
        output, state = model(x, state)  # and on from there

    Time comes first. Without a state, an episode begins; the state that comes back holds the
    memory [B, N, W], the weights of all heads [B, H, N], the reads and the controller's state,
    and can be given to the next call. Outputs are logits; those of the paper are their sigmoids.
    It runs on the fused kernels where they apply (float32 or float64 on the CPU), and elsewhere in
    plain torch; ``model(x, engine="reference")`` asks for one of them.

    controller: the kind of a controller, such as lstm (``controllers.CONTROLLERS`` has all), of
        ``hidden_size`` units in each of its ``layers``; or its settings as a ControllerConfig.
    generator: draws the first parameters; without one, torch's global generator decides.
    """

    core: NTMCell

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        controller: str | ControllerConfig = "lstm",
        hidden_size: int = 100,
        layers: int = 1,
        slots: int = 128,
        width: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        shift_range: int = 1,
        initial: Literal["constant", "learned"] = "constant",
        read: Literal["after", "before"] = "after",
        shared: bool = False,
        shift_bias: float = 0.0,
        erase_bias: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        with one_line():
            memory = NTMConfig(
                slots=slots, width=width, read_heads=read_heads, write_heads=write_heads,
                shift_range=shift_range, initial=initial, read=read, shared=shared,
                shift_bias=shift_bias, erase_bias=erase_bias,
            )  # fmt: skip
            if isinstance(controller, str):
                controller = configure(controller, size=hidden_size, layers=layers)
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, (), device="cpu")))
        inner = build_controller(controller, input_size + memory.reads_size, generator)
        super().__init__(NTMCell(inner, memory, generator), output_size, generator)
