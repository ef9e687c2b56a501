"""What tests of training share."""

from collections.abc import Callable
from typing import Any

import torch

CPU = torch.device("cpu")


def stop_after(steps: int) -> Callable[[], bool]:
    left = iter([False] * steps + [True])
    return lambda: next(left)


def without_seconds(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


RIDGE: dict[str, Any] = {"optimizer": {"kind": "ridge", "penalty": 0.1}, "clip": None}


OPTIMIZERS: list[dict[str, Any]] = [
    {"kind": "graves_rmsprop", "lr": 1e-3},
    {"kind": "rmsprop", "lr": 1e-3, "centered": True},
    {"kind": "adam", "lr": 1e-3},
    {"kind": "adamw", "lr": 1e-3, "weight_decay": 0.1},
]
