"""A batch of sequences, as a task draws it and a model sees it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Episode(NamedTuple):
    """A batch of sequences. T time, B batch, I and O the task's input and output sizes."""

    inputs: Tensor  # [T, B, I]
    targets: Tensor  # [T, B, O] 0 or 1; or [T, B, 1] classes: the task's loss decides
    mask: Tensor  # [T, B]     1 where the outputs are scored, else 0
    conditions: dict[str, Tensor]  # [B] each: by which scores are broken down; may be empty

    @property
    def begin(self) -> Tensor:
        """[B]: the first scored step of each sequence, at which its answer begins."""
        return (self.mask.cumsum(dim=0) == 0).sum(dim=0)

    def to(self, device: torch.device | str) -> Episode:
        """The episode on a device; the conditions stay on the CPU."""
        if self.inputs.device == torch.device(device):
            return self
        return Episode(
            self.inputs.to(device), self.targets.to(device), self.mask.to(device), self.conditions
        )

    def select(self, start: int, stop: int) -> Episode:
        """Sequences start ... stop - 1 of the batch, cut behind their last scored step."""
        conditions = {name: values[start:stop] for name, values in self.conditions.items()}
        scored = torch.nonzero(self.mask[:, start:stop].any(dim=1))
        end = int(scored[-1]) + 1 if len(scored) else 1  # a model needs a step
        inputs, targets, mask = (field[:end, start:stop] for field in self[:3])
        return Episode(inputs, targets, mask, conditions)


def episode(
    inputs: np.ndarray, targets: np.ndarray, mask: np.ndarray, **conditions: np.ndarray
) -> Episode:
    """An :class:`Episode` from NumPy arrays."""
    return Episode(
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        torch.from_numpy(mask),
        {name: torch.from_numpy(values) for name, values in conditions.items()},
    )
