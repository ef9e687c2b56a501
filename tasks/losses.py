"""What an answer costs. A task has one of two losses: on bits, or on classes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.episode import Episode


class Loss(ABC):
    """Cross-entropy of logits [T, B, O] with the targets of an episode, where they are scored."""

    #: Of an episode's targets, and what its last axis is.
    target_dtype: ClassVar[torch.dtype]
    target_axis: ClassVar[str]

    @abstractmethod
    def target_size(self, output_size: int) -> int:
        """Size of the last axis of the targets, for O outputs."""

    @abstractmethod
    def largest_target(self, output_size: int) -> int:
        """The largest target there is, for O outputs; the smallest is 0."""

    @abstractmethod
    def step_nats(self, logits: Tensor, episode: Episode) -> Tensor:
        """[T, B] nats; 0 where nothing is scored."""

    @abstractmethod
    def step_errors(self, logits: Tensor, episode: Episode) -> Tensor:
        """[T, B] wrong answers; one that is no number is wrong. 0 where nothing is scored."""

    @abstractmethod
    def nats(self, logits: Tensor, episode: Episode) -> Tensor:
        """[B] nats: what is trained on, and in bits reported."""

    def bits(self, logits: Tensor, episode: Episode) -> Tensor:
        """[B]: the same in bits, the unit of the paper's figures."""
        return self.nats(logits, episode) / math.log(2)

    def errors(self, logits: Tensor, episode: Episode) -> Tensor:
        """[B] wrong answers of a sequence."""
        return self.step_errors(logits, episode).sum(dim=0)

    @abstractmethod
    def answers(self, episode: Episode) -> Tensor | None:
        """[B] how many answers are asked, where the share of right ones is a score; else None."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """[T, B, O]: of a 1 each, or of each class."""

    @abstractmethod
    def shown(self, logits: Tensor, episode: Episode) -> tuple[Tensor, Tensor]:
        """Targets and outputs as pictures show them: [T, B, C] each, between 0 and 1."""


class Bits(Loss):
    """Each output is the probability of a 1; summed over a sequence. targets [T, B, O] of 0, 1."""

    target_dtype = torch.float32
    target_axis = "output_size"

    def target_size(self, output_size: int) -> int:
        return output_size

    def largest_target(self, output_size: int) -> int:
        return 1

    def step_nats(self, logits: Tensor, episode: Episode) -> Tensor:
        cost = F.binary_cross_entropy_with_logits(logits, episode.targets, reduction="none")
        return cost.sum(dim=-1) * episode.mask

    def step_errors(self, logits: Tensor, episode: Episode) -> Tensor:
        """Bits on the wrong side of one half."""
        wrong = ((logits > 0) != (episode.targets > 0.5)) | logits.isnan()
        return wrong.sum(dim=-1) * episode.mask

    def nats(self, logits: Tensor, episode: Episode) -> Tensor:
        return self.step_nats(logits, episode).sum(dim=0)

    def answers(self, episode: Episode) -> None:
        return None

    def goals(self, episode: Episode) -> Tensor:
        """[T, B, O] what logits should be, for a readout that is fitted by least squares.

        At even odds the logit of a probability is linear in it, to first order, sigmoid(x) =
        1/2 + x/4; these are where that line puts a 1 and a 0.
        """
        return 4 * episode.targets - 2

    def probabilities(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)

    def shown(self, logits: Tensor, episode: Episode) -> tuple[Tensor, Tensor]:
        """The bits, and the probabilities of a 1."""
        return episode.targets, self.probabilities(logits)


class Classes(Loss):
    """The outputs' softmax is the distribution of one class; a mean over the scored steps.

    targets [T, B, 1] are the classes' numbers, int64. A mean, so that bits are bits per character
    however long the sequences are; one in which nothing is scored costs nothing.
    """

    target_dtype = torch.int64
    target_axis = "1"

    def target_size(self, output_size: int) -> int:
        return 1

    def largest_target(self, output_size: int) -> int:
        return output_size - 1

    def step_nats(self, logits: Tensor, episode: Episode) -> Tensor:
        nowhere = -100  # a class that cross_entropy leaves out
        targets = episode.targets[..., 0].masked_fill(episode.mask == 0, nowhere)
        cost = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=nowhere
        )
        return cost.view_as(targets)

    def step_errors(self, logits: Tensor, episode: Episode) -> Tensor:
        """Steps whose most likely class is not what came."""
        most, at = logits.max(dim=-1)
        return ((at != episode.targets[..., 0]) | most.isnan()) * episode.mask

    def nats(self, logits: Tensor, episode: Episode) -> Tensor:
        steps = episode.mask.sum(dim=0).clamp(min=1)
        return self.step_nats(logits, episode).sum(dim=0) / steps

    def answers(self, episode: Episode) -> Tensor:
        return episode.mask.sum(dim=0)

    def probabilities(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, dim=-1)

    def shown(self, logits: Tensor, episode: Episode) -> tuple[Tensor, Tensor]:
        """1, and the probability that was given to what came: thousands of rows show nothing."""
        given = self.probabilities(logits).gather(-1, episode.targets)
        return torch.ones_like(given), given


BITS, CLASSES = Bits(), Classes()
