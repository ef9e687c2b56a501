"""Recurrent cores: controllers of a Neural Turing Machine, and baselines on their own.

To add one, write its classes in a file here, add a line to ``ntm.registry`` and ship a config. A
package of your own registers one through an entry point. CONTRIBUTING.md shows both.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import torch

from controllers.base import ControllerConfig, Core, State
from controllers.stack import Stack
from ntm.registry import CONTROLLERS, Kinds, unknown_kind

__all__ = [
    "CONTROLLERS",
    "AnyController",
    "ControllerConfig",
    "Core",
    "State",
    "build_controller",
    "configure",
]

#: The controller block of a config: ``kind`` chooses the class, and the other keys are its fields.
AnyController: TypeAlias = Annotated[ControllerConfig, Kinds(CONTROLLERS)]


def configure(kind: str, **settings: Any) -> ControllerConfig:
    """The settings of a controller, given its kind: ``configure("lstm", size=100)``.

    Raises ValueError for an unknown kind, and pydantic's ValidationError for invalid settings.
    """
    if kind not in CONTROLLERS:
        raise ValueError(unknown_kind(kind, CONTROLLERS))
    config: ControllerConfig = CONTROLLERS[kind](**settings)
    return config


def build_controller(config: ControllerConfig, input_size: int, generator: torch.Generator) -> Core:
    """The controller that the config describes, with parameters drawn from the generator."""
    if config.layers == 1:
        return config.layer(input_size, generator)
    above = config.size + (input_size if config.skip else 0)
    sizes = [input_size] + [above] * (config.layers - 1)
    return Stack([config.layer(n, generator) for n in sizes], config.skip)
