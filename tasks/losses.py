"""The losses of tasks: cross-entropy on bits, or on classes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.episode import Episode


class Loss(ABC):
    """Cross-entropy between logits [T, B, O] and the targets of an episode, at scored steps."""

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
        """[T, B] nats; 0 at steps that are not scored."""

    @abstractmethod
    def step_errors(self, logits: Tensor, episode: Episode) -> Tensor:
        """[T, B] errors, bits or classes; NaN is an error. 0 at steps that are not scored."""

    @abstractmethod
    def nats(self, logits: Tensor, episode: Episode) -> Tensor:
        """[B] nats: the training loss of each sequence."""

    def bits(self, logits: Tensor, episode: Episode) -> Tensor:
        """[B]: the loss in bits, the unit of the paper's figures."""
        return self.nats(logits, episode) / math.log(2)

    def errors(self, logits: Tensor, episode: Episode) -> Tensor:
        """[B] errors of each sequence."""
        return self.step_errors(logits, episode).sum(dim=0)

    @abstractmethod
    def answers(self, episode: Episode) -> Tensor | None:
        """[B]: the number of scored classes, of which accuracy is a fraction; None for bits."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """[T, B, O]: the probability of a 1 in each channel, or of each class."""

    @abstractmethod
    def shown(self, logits: Tensor, episode: Episode) -> tuple[Tensor, Tensor]:
        """Targets and outputs for figures: [T, B, C] each, between 0 and 1."""


class Bits(Loss):
    """Binary cross-entropy, summed over a sequence. targets [T, B, O] are 0 or 1."""

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
        """Bit errors: outputs on the wrong side of 1/2."""
        wrong = ((logits > 0) != (episode.targets > 0.5)) | logits.isnan()
        return wrong.sum(dim=-1) * episode.mask

    def nats(self, logits: Tensor, episode: Episode) -> Tensor:
        return self.step_nats(logits, episode).sum(dim=0)

    def answers(self, episode: Episode) -> None:
        return None

    def goals(self, episode: Episode) -> Tensor:
        """[T, B, O]: target logits, for a readout that is fitted by least squares.

        Around x = 0, sigmoid(x) = 1/2 + x/4 to first order, which is 1 at 2, and 0 at -2.
        """
        return 4 * episode.targets - 2

    def probabilities(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)

    def shown(self, logits: Tensor, episode: Episode) -> tuple[Tensor, Tensor]:
        """The bits, and the probabilities of a 1."""
        return episode.targets, self.probabilities(logits)


class Classes(Loss):
    """Cross-entropy with a softmax over O classes, averaged over the scored steps.

    targets [T, B, 1] are class indices, int64. With the mean, bits are bits per character whatever
    the length. The loss of a sequence without scored steps is 0.
    """

    target_dtype = torch.int64
    target_axis = "1"

    def target_size(self, output_size: int) -> int:
        return 1

    def largest_target(self, output_size: int) -> int:
        return output_size - 1

    def step_nats(self, logits: Tensor, episode: Episode) -> Tensor:
        ignored = -100  # not a class
        targets = episode.targets[..., 0].masked_fill(episode.mask == 0, ignored)
        cost = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=ignored
        )
        return cost.view_as(targets)

    def step_errors(self, logits: Tensor, episode: Episode) -> Tensor:
        """Steps at which the most likely class is not the target."""
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
        """1, and the probability of the target class: a figure cannot show thousands of rows."""
        given = self.probabilities(logits).gather(-1, episode.targets)
        return torch.ones_like(given), given


BITS, CLASSES = Bits(), Classes()
