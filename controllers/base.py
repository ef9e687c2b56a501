"""The interface of every recurrent core: a map (input, state) -> (output, state)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import torch
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs
from torch import Tensor, nn
from torch.utils import _pytree as pytree

#: A nested tuple of tensors, batch first; ``()`` for a core without memory of its own.
State: TypeAlias = Any


class States(tuple[Any, ...]):
    """A tuple of tensors, or of such tuples, that can be detached and moved as one tensor can."""

    __slots__ = ()

    def detach(self) -> States:
        """The same numbers without the graph that led to them: for truncated backpropagation."""
        return each(Tensor.detach, self)

    def to(self, *args: Any, **kwargs: Any) -> States:
        """On another device or in another type, as :meth:`torch.Tensor.to` takes them."""
        return each(lambda tensor: tensor.to(*args, **kwargs), self)


pytree.register_pytree_node(
    States,
    lambda states: (list(states), None),
    lambda parts, _: States(parts),
    serialized_type_name="ntm.States",
    flatten_with_keys_fn=lambda states: (
        [(pytree.SequenceKey(n), part) for n, part in enumerate(states)],
        None,
    ),
)

torch.serialization.add_safe_globals([States])  # torch.load executes nothing, and reads states

S = TypeVar("S")


def each(function: Callable[..., Any], *states: S) -> S:
    """The state in which every tensor is what ``function`` makes of it, or of those of several."""
    found: S = pytree.tree_map(function, *states)
    return found


def typed(state: State) -> State:
    """The same state, in which every plain tuple is a :class:`States`."""
    if not isinstance(state, tuple):
        return state
    parts = [typed(part) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else States(parts)


class Core(nn.Module, ABC):
    """A recurrent core. Controllers, stacks of controllers and the NTM are all cores.

    A core stores nothing between calls. Everything it remembers is in the state that it takes and
    returns, so no episode can leak into another.
    """

    input_size: int
    output_size: int

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """The state before the first step of ``batch`` sequences."""

    @abstractmethod
    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: x [B, I] and a state -> the output [B, output_size] and the next state."""

    def unroll(self, xs: Tensor, state: State) -> tuple[Tensor, State]:
        """A sequence: xs [T, B, I] and a state -> ys [T, B, output_size] and the last state."""
        outputs = []
        for x in xs:
            y, state = self(x, state)
            outputs.append(y)
        return torch.stack(outputs), state


def plain_numbers(given: Any) -> Any:
    """The arguments of settings, with NumPy's numbers as Python's: a validator."""
    if not isinstance(given, ArgsKwargs):  # read from a file
        return given
    plain = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in (given.kwargs or {}).items()
    }
    return ArgsKwargs(given.args, plain)


#: For the settings of a controller: a frozen dataclass, whose fields are its block in a config.
STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ControllerConfig(ABC):
    """The settings of a controller.

    Subclasses are frozen pydantic dataclasses. They set ``kind``, which selects them in a config,
    and ``name``, and add settings of their own.

    size: units in a layer.
    layers: number of layers.
    skip: skip connections, as in :class:`controllers.stack.Stack`.
    """

    #: Its name in reports and figures.
    name: ClassVar[str]

    _numpy = model_validator(mode="before")(plain_numbers)

    kind: str
    size: int = Field(default=100, ge=1)
    layers: int = Field(default=1, ge=1, le=100)
    skip: bool = False

    @abstractmethod
    def layer(self, input_size: int, generator: torch.Generator) -> Core:
        """One layer, with parameters drawn from the generator."""


def linear(inputs: int, outputs: int, generator: torch.Generator, bias: bool = True) -> nn.Linear:
    """A linear layer, its weights and biases drawn from U(-1/sqrt(inputs), 1/sqrt(inputs))."""
    # Not skip_init, which imports sympy: 0.6 s of every start.
    layer = nn.Linear(inputs, outputs, bias=bias, device="meta")
    bound = 1 / math.sqrt(inputs)
    for name, parameter in list(layer.named_parameters()):
        drawn = uniform(-bound, bound, parameter.shape, generator)
        setattr(layer, name, nn.Parameter(drawn))
    return layer


def uniform(low: float, high: float, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draws from U(low, high): the same numbers whatever torch's default device is."""
    device = torch.get_default_device()
    if device.type == "meta":  # where parameters are only counted
        return torch.empty(*shape)
    drawn = torch.empty(*shape, device=generator.device).uniform_(low, high, generator=generator)
    return drawn.to(device)
