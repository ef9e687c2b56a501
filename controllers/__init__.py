"""Recurrent cores: controllers of a Neural Turing Machine, and baselines on their own.

To add one: write its class in a file here, name it in ``CONTROLLERS``, ship a config.
"""

from __future__ import annotations

import difflib
from typing import Annotated

import torch
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from controllers.base import Core, State
from controllers.feedforward import FeedForward
from controllers.gru import GRU
from controllers.lstm import LSTM
from controllers.rnn import RNN
from controllers.stack import Stack

__all__ = ["CONTROLLERS", "ControllerConfig", "Core", "State", "build_controller"]

#: The value of ``kind:`` in a config -> a class built as ``cls(input_size, size, generator)``.
CONTROLLERS: dict[str, type[FeedForward | RNN | LSTM | GRU]] = {
    "feedforward": FeedForward,
    "rnn": RNN,
    "lstm": LSTM,
    "gru": GRU,
}


def _known(kind: str) -> str:
    if kind not in CONTROLLERS:
        near = difflib.get_close_matches(kind, CONTROLLERS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{kind!r} is not one of {', '.join(CONTROLLERS)}{hint}")
    return kind


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class ControllerConfig:
    """``layers`` layers of ``size`` units each; ``skip`` as in :class:`controllers.stack.Stack`."""

    kind: Annotated[str, AfterValidator(_known)]
    size: int = Field(default=100, ge=1)
    layers: int = Field(default=1, ge=1)
    skip: bool = False


def build_controller(config: ControllerConfig, input_size: int, generator: torch.Generator) -> Core:
    """The controller that the config describes, its parameters drawn from the generator."""
    cls = CONTROLLERS[config.kind]
    if config.layers == 1:
        return cls(input_size, config.size, generator)
    above = config.size + (input_size if config.skip else 0)
    sizes = [input_size] + [above] * (config.layers - 1)
    return Stack([cls(n, config.size, generator) for n in sizes], config.skip)
