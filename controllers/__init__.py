"""Recurrent cores: controllers of a Neural Turing Machine, and baselines on their own.

To add one: write its classes in a file here, import its settings below, ship a config.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

import torch
from pydantic import Field

from controllers.base import ControllerConfig, Core, State
from controllers.echo_state import EchoStateConfig
from controllers.feedforward import FeedForwardConfig
from controllers.gru import GRUConfig
from controllers.leaky import LeakyConfig
from controllers.lstm import LSTMConfig
from controllers.nested_lstm import NestedLSTMConfig
from controllers.peephole_lstm import PeepholeLSTMConfig
from controllers.reduced_gru import GRU1Config, GRU2Config, GRU3Config
from controllers.rnn import RNNConfig
from controllers.stack import Stack

__all__ = [
    "CONTROLLERS",
    "AnyController",
    "ControllerConfig",
    "Core",
    "State",
    "build_controller",
    "configure",
]

#: The value of ``kind`` -> the class: every one that is imported above.
CONTROLLERS: dict[str, type[ControllerConfig]] = {
    config.kind: config
    for config in sorted(ControllerConfig.__subclasses__(), key=lambda config: config.kind)
}

#: The controller block of a config: ``kind`` chooses the class, whose fields are the rest.
AnyController: TypeAlias = ControllerConfig
if not TYPE_CHECKING:
    AnyController = Annotated[Union[tuple(CONTROLLERS.values())], Field(discriminator="kind")]  # noqa: UP007


def configure(kind: str, **settings: Any) -> ControllerConfig:
    """The settings of a controller by the name of its kind.

    Raises ValueError for a kind that there is not, pydantic's for settings that cannot be.
    """
    if kind not in CONTROLLERS:
        raise ValueError(f"{kind!r} is not one of {', '.join(CONTROLLERS)}")
    return CONTROLLERS[kind](**settings)


def build_controller(config: ControllerConfig, input_size: int, generator: torch.Generator) -> Core:
    """The controller that the config describes, its parameters drawn from the generator."""
    if config.layers == 1:
        return config.layer(input_size, generator)
    above = config.size + (input_size if config.skip else 0)
    sizes = [input_size] + [above] * (config.layers - 1)
    return Stack([config.layer(n, generator) for n in sizes], config.skip)
