"""The echo state network (Jaeger 2001): a random recurrent network that is never trained."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from controllers.base import STRICT, ControllerConfig, Core, State
from controllers.leaky import Leak


class EchoState(Core):
    """A reservoir, starting from h_0 = 0.

    h_t = (1 - alpha) h_{t-1} + alpha tanh(W_in [1; x_t] + U h_{t-1})

    The elements of W_in are uniform in (-scaling, scaling). A fraction ``density`` of the elements
    of U is uniform in (-1, 1) and the others are 0; U is then scaled to the spectral radius
    ``radius``. Below 1, the reservoir usually forgets its initial state. (A small and sparse U may
    be nilpotent; it stays as drawn.) alpha is the ``leak`` rate. The state is h [B, H].

    The reservoir has no parameters: only the readout, and the heads of an NTM, are trained. W_in
    and U are buffers, and are saved with the weights.
    """

    weight: Tensor  # [H, I + H]  W_in and U
    bias: Tensor  # [H]  the first column of W_in

    def __init__(
        self,
        input_size: int,
        size: int,
        generator: torch.Generator,
        radius: float = 0.9,
        leak: float = 1.0,
        density: float = 0.1,
        scaling: float = 1.0,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size, self.leak = input_size, size, leak

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=generator.device)

        W_in = scaling * (2 * rand(size, 1 + input_size) - 1)
        U = 2 * rand(size, size) - 1
        U *= rand(size, size) < density
        largest = torch.linalg.eigvals(U.double()).abs().max().item()
        if largest > 0:
            U *= radius / largest
        device = torch.get_default_device()
        self.register_buffer("weight", torch.cat([W_in[:, 1:], U], dim=1).to(device))
        self.register_buffer("bias", W_in[:, 0].clone().to(device))

    def initial_state(self, batch: int) -> State:
        return self.bias.new_zeros(batch, self.output_size)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        z = torch.nn.functional.linear(torch.cat([x, state], dim=-1), self.weight, self.bias)
        h = (1 - self.leak) * state + self.leak * torch.tanh(z)
        return h, h


Positive = Annotated[float, Field(gt=0, le=1e6)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EchoStateConfig(ControllerConfig):
    """The settings of an :class:`EchoState` network.

    The limit on ``size`` keeps the computation of its eigenvalues below a minute.
    """

    name: ClassVar[str] = "echo state"
    kind: Literal["echo_state"] = "echo_state"
    size: int = Field(default=100, ge=1, le=4000)
    radius: Positive = 0.9
    leak: Leak = 1.0
    density: Annotated[float, Field(gt=0, le=1)] = 0.1
    scaling: Positive = 1.0

    def layer(self, input_size: int, generator: torch.Generator) -> EchoState:
        return EchoState(
            input_size, self.size, generator, self.radius, self.leak, self.density, self.scaling
        )
