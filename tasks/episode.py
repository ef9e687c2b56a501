"""A batch of sequences, as a task draws it and a model sees it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Episode(NamedTuple):
    """A batch of sequences. T time, B batch, I and O the task's input and output sizes."""

    inputs: Tensor  # [T, B, I]
    targets: Tensor  # [T, B, O] 0 or 1; or [T, B, 1] classes, as the task's loss wants them
    mask: Tensor  # [T, B]     1 where the outputs are scored, else 0
    conditions: dict[str, Tensor]  # [B] each: what a score is broken down by

    @property
    def begin(self) -> Tensor:
        """[B]: the step at which each answer begins, the first that is scored."""
        return (self.mask.cumsum(dim=0) == 0).sum(dim=0)

    def to(self, device: torch.device | str) -> Episode:
        """The same episode on a device; the conditions stay where they are."""
        if self.inputs.device == torch.device(device):
            return self
        return Episode(
            self.inputs.to(device), self.targets.to(device), self.mask.to(device), self.conditions
        )

    def select(self, start: int, stop: int) -> Episode:
        """Sequences start ... stop - 1 of the batch, cut to the longest of them that is left."""
        conditions = {name: values[start:stop] for name, values in self.conditions.items()}
        scored = torch.nonzero(self.mask[:, start:stop].any(dim=1))
        end = int(scored[-1]) + 1 if len(scored) else 1  # a model needs a step
        inputs, targets, mask = (field[:end, start:stop] for field in self[:3])
        return Episode(inputs, targets, mask, conditions)


def episode(
    inputs: np.ndarray, targets: np.ndarray, mask: np.ndarray, **conditions: np.ndarray
) -> Episode:
    """An :class:`Episode` of NumPy arrays."""
    return Episode(
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        torch.from_numpy(mask),
        {name: torch.from_numpy(values) for name, values in conditions.items()},
    )
