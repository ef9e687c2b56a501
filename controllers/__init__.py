"""Recurrent cores: controllers of a Neural Turing Machine, and baselines on their own.

To add one: write its classes in a file here, name it in ``AnyController``, ship a config.
"""

from __future__ import annotations

from typing import Annotated, Any, cast, get_args

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

#: The controller block of a config: ``kind`` chooses the class, whose fields are the rest.
AnyController = Annotated[
    FeedForwardConfig
    | RNNConfig
    | LeakyConfig
    | EchoStateConfig
    | LSTMConfig
    | PeepholeLSTMConfig
    | NestedLSTMConfig
    | GRUConfig
    | GRU1Config
    | GRU2Config
    | GRU3Config,
    Field(discriminator="kind"),
]

#: The value of ``kind`` -> the class.
CONTROLLERS: dict[str, type[ControllerConfig]] = {
    config.kind: config for config in get_args(get_args(AnyController)[0])
}


def configure(kind: str, **settings: Any) -> AnyController:
    """The settings of a controller by the name of its kind.

    Raises ValueError for a kind that there is not, pydantic's for settings that cannot be.
    """
    if kind not in CONTROLLERS:
        raise ValueError(f"{kind!r} is not one of {', '.join(CONTROLLERS)}")
    return cast("AnyController", CONTROLLERS[kind](**settings))


def build_controller(config: ControllerConfig, input_size: int, generator: torch.Generator) -> Core:
    """The controller that the config describes, its parameters drawn from the generator."""
    if config.layers == 1:
        return config.layer(input_size, generator)
    above = config.size + (input_size if config.skip else 0)
    sizes = [input_size] + [above] * (config.layers - 1)
    return Stack([config.layer(n, generator) for n in sizes], config.skip)
