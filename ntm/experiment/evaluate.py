"""Scores on fixed episodes, per condition, at any size of the task and of the memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ntm.experiment import score
from ntm.experiment.limits import check_inputs
from ntm.experiment.streams import Stream, numpy_generator
from ntm.machine.model import Model
from tasks import Episode, Task

#: Episodes are drawn in parts of this size, each with a generator of its own, so that the first
#: 100 of 1000 are the same as of 100, and do not depend on how many run at a time.
PART = 50

#: Floats of state that run at a time: keeps large memories within a few hundred megabytes.
STATE_FLOATS = 2**24


@dataclass(frozen=True)
class Scores:
    """One number per episode: [E] each."""

    bits: Tensor
    floor: Tensor
    bit_errors: Tensor
    conditions: dict[str, Tensor]

    def summary(self) -> dict[str, Any]:
        """Means over the episodes, and the same for each combination of conditions."""
        means = self._means(torch.ones_like(self.bits, dtype=torch.bool))
        return {**means, "conditions": self.by_condition(list(self.conditions))}

    def by_condition(self, names: list[str]) -> list[dict[str, Any]]:
        """Means over the episodes of each combination of these conditions that occurs."""
        table = torch.stack([self.conditions[name] for name in names], dim=1)
        combinations, member = torch.unique(table, dim=0, return_inverse=True)
        return [
            {**dict(zip(names, values, strict=True)), **self._means(member == i)}
            for i, values in enumerate(combinations.tolist())
        ]

    def _means(self, which: Tensor) -> dict[str, Any]:
        return {
            "episodes": int(which.sum()),
            "bits": self.bits[which].mean().item(),
            "floor": self.floor[which].mean().item(),
            "bit_errors": self.bit_errors[which].mean().item(),
            "exact": (self.bit_errors[which] == 0).double().mean().item(),
        }


@torch.no_grad()
def evaluate(
    model: Model,
    task: Task,
    episodes: int,
    seed: int = 0,
    stream: Stream = Stream.EVALUATION,
) -> Scores:
    """Scores a model on episodes that depend on nothing but the task, their number and the seed."""
    task = task.scored()
    check_inputs(task, PART)
    device = next(model.parameters()).device
    at_once = max(1, min(PART, STATE_FLOATS // max(1, state_size(model))))
    parts: list[tuple[Episode, Tensor, Tensor, Tensor]] = []
    for first in range(0, episodes, PART):
        rng = numpy_generator(seed, stream, first // PART)
        drawn = task.sample(rng, PART)
        count = min(PART, episodes - first)
        for start in range(0, count, at_once):
            part = drawn.select(start, min(start + at_once, count))
            on_device = part.to(device)
            logits, _ = model(on_device.inputs, begin=on_device.begin)
            bits = score.bits(logits, on_device).double().cpu()
            errors = score.bit_errors(logits, on_device).double().cpu()
            parts.append((part, bits, task.floor(part).double(), errors))

    names = parts[0][0].conditions
    return Scores(
        bits=torch.cat([bits for _, bits, _, _ in parts]),
        floor=torch.cat([floor for _, _, floor, _ in parts]),
        bit_errors=torch.cat([errors for _, _, _, errors in parts]),
        conditions={n: torch.cat([part.conditions[n] for part, *_ in parts]) for n in names},
    )


def state_size(model: Model) -> int:
    """Numbers that the model carries from one step to the next, for one sequence."""
    return sum(leaf.numel() for leaf in _leaves(model.core.initial_state(1)))


def _leaves(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [leaf for part in state for leaf in _leaves(part)]
