"""Scores on fixed episodes, per condition, at any size of the task and of the memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ntm.kernels.dispatch import Engine, slots_carried
from ntm.model import Model
from ntm.training.episodes import draw
from ntm.training.limits import check_inputs
from ntm.training.streams import Stream, numpy_generator
from tasks import Episode, Task
from tasks.losses import Loss

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
    answers: Tensor | None = None  # how many were asked, where they are not bits of one answer
    steps: list[dict[str, float]] = field(default_factory=list)  # by the task's label of steps

    def summary(self) -> dict[str, Any]:
        """Means over the episodes, and the same for each combination of conditions.

        Where answers are asked one by one also ``accuracy``, the share of right ones, and by the
        task's label of steps, such as characters seen, ``steps``.
        """
        means = self._means(torch.ones_like(self.bits, dtype=torch.bool))
        found = {**means, "conditions": self.by_condition(list(self.conditions))}
        if self.answers is not None:
            found["accuracy"] = _accuracy(float(self.bit_errors.sum()), float(self.answers.sum()))
        return {**found, "steps": self.steps} if self.steps else found

    def by_condition(self, names: list[str]) -> list[dict[str, Any]]:
        """Means over the episodes of each combination of these conditions that occurs."""
        if not names:  # a task need not have conditions
            return []
        table = torch.stack([self.conditions[name] for name in names], dim=1)
        combinations, member = torch.unique(table, dim=0, return_inverse=True)
        return [
            {**dict(zip(names, values, strict=True)), **self._means(member == i)}
            for i, values in enumerate(combinations.tolist())
        ]

    def _means(self, which: Tensor) -> dict[str, Any]:
        if self.answers is not None:  # where nothing was asked there is nothing to be right about
            which = which & (self.answers > 0)
        if not which.any():
            return {
                "episodes": 0,
                "bits": 0.0,
                "floor": 0.0,
                "bit_errors": 0.0,
                "sequence_accuracy": 0.0,
            }
        return {
            "episodes": int(which.sum()),
            "bits": self.bits[which].mean().item(),
            "floor": self.floor[which].mean().item(),
            "bit_errors": self.bit_errors[which].mean().item(),
            "sequence_accuracy": (self.bit_errors[which] == 0).double().mean().item(),
        }


@torch.no_grad()
def evaluate(
    model: Model,
    task: Task,
    episodes: int,
    seed: int = 0,
    stream: Stream = Stream.EVALUATION,
    engine: Engine = "auto",
) -> Scores:
    """Scores a model on episodes that depend on nothing but the task, their number and the seed."""
    task = task.held_out("validation" if stream == Stream.VALIDATION else "test")
    loss = task.loss
    check_inputs(task, PART)
    device = next(model.parameters()).device
    slots = slots_carried(model.core, task.steps, engine)
    floats = max(1, state_size(model, slots), task.steps * task.output_size)
    at_once = max(1, min(PART, STATE_FLOATS // floats))
    parts: list[tuple[Episode, Tensor, Tensor, Tensor]] = []
    asked: list[Tensor] = []
    steps = _Steps()
    for first in range(0, episodes, PART):
        rng = numpy_generator(seed, stream, first // PART)
        drawn = draw(task, rng, PART)
        count = min(PART, episodes - first)
        for start in range(0, count, at_once):
            part = drawn.select(start, min(start + at_once, count))
            on_device = part.to(device)
            hidden, _ = model.run(
                on_device.inputs, begin=on_device.begin, engine=engine, wants_state=False
            )
            logits = model.readout(hidden)
            bits = loss.bits(logits, on_device).cpu().double()
            errors = loss.errors(logits, on_device).cpu().double()
            parts.append((part, bits, task.floor(part).double(), errors))
            if (answers := loss.answers(part)) is not None:
                asked.append(answers.double())
            for name, labels in task.positions(part).items():
                steps.add(name, labels, part.mask, *_by_step(loss, logits, on_device))

    names = parts[0][0].conditions
    return Scores(
        bits=torch.cat([bits for _, bits, _, _ in parts]),
        floor=torch.cat([floor for _, _, floor, _ in parts]),
        bit_errors=torch.cat([errors for _, _, _, errors in parts]),
        conditions={n: torch.cat([part.conditions[n] for part, *_ in parts]) for n in names},
        answers=torch.cat(asked) if asked else None,
        steps=steps.rows(),
    )


class _Steps:
    """Sums over scored steps with the same label."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, int], Tensor] = {}  # of steps, wrong answers, bits

    def add(self, name: str, labels: Tensor, mask: Tensor, bits: Tensor, errors: Tensor) -> None:
        """Adds steps: [T, B] each."""
        for label in labels[mask > 0].unique().tolist():
            here = (labels == label) & (mask > 0)
            sums = torch.stack([here.sum().double(), errors[here].sum(), bits[here].sum()])
            self._sums[name, label] = self._sums.get((name, label), torch.zeros_like(sums)) + sums

    def rows(self) -> list[dict[str, float]]:
        """A row for each label, in order: its value, how many steps were scored, their means."""
        return [
            {name: label, "scored": int(n), "accuracy": _accuracy(wrong, n), "bits": bits / n}
            for (name, label), sums in sorted(self._sums.items())
            for n, wrong, bits in [sums.tolist()]
        ]


def _by_step(loss: Loss, logits: Tensor, episode: Episode) -> tuple[Tensor, Tensor]:
    """Bits and wrong answers of each step, [T, B]."""
    bits = loss.step_nats(logits, episode).cpu().double() / math.log(2)
    return bits, loss.step_errors(logits, episode).cpu().double()


def _accuracy(wrong: float, asked: float) -> float:
    """The share of right answers; 0 of none."""
    return 1 - wrong / asked if asked else 0.0


def state_size(model: Model, slots: int | None = None) -> int:
    """Numbers that the model carries from one step to the next, for one sequence.

    slots: of its memory, if not as many as it has.
    """
    core: Any = model.core
    # Only a memory has slots, and is given others.
    start = core.initial_state(1) if slots is None else core.initial_state(1, slots)
    return sum(leaf.numel() for leaf in _leaves(start))


def _leaves(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [leaf for part in state for leaf in _leaves(part)]
