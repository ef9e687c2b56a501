"""What an answer costs: one loss for all five tasks."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from tasks import Episode


class Cost(NamedTuple):
    """What a batch of sequences cost."""

    nats: Tensor  # [B]
    bit_errors: Tensor  # [B]


def nats(logits: Tensor, episode: Episode) -> Tensor:
    """[T, B, O] -> [B]: cross-entropy of the scored outputs, summed over a sequence."""
    cost = F.binary_cross_entropy_with_logits(logits, episode.targets, reduction="none")
    return (cost.sum(dim=-1) * episode.mask).sum(dim=0)


def bits(logits: Tensor, episode: Episode) -> Tensor:
    """[B]: the same in bits, the unit of the paper's figures."""
    return nats(logits, episode) / math.log(2)


def bit_errors(logits: Tensor, episode: Episode) -> Tensor:
    """[B]: scored outputs on the wrong side of one half; one that is no number is wrong."""
    wrong = ((logits > 0) != (episode.targets > 0.5)) | logits.isnan()
    return (wrong.sum(dim=-1) * episode.mask).sum(dim=0)
