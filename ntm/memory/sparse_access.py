"""Sparse access (Rae et al. 2016, sections 2 and 3): reads and writes of a few slots, as functions.

B batch, H heads, N slots, W slot width, K reads of a head. A sparse weighting is a list of slots
and of their weights; all other weights are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ntm.memory.addressing import cosine_similarity

#: A slot counts as accessed in a step in which it is written and read with more weight than this.
DELTA = 0.005


def rows_of(memory: Tensor, slots: Tensor) -> Tensor:
    """M(s) of the slots: memory [B, N, W], slots [B, ...] -> [B, ..., W]."""
    index = slots.flatten(1).unsqueeze(-1).expand(-1, -1, memory.shape[-1])
    rows: Tensor = memory.gather(1, index).unflatten(1, slots.shape[1:])
    return rows


def least_recent(accessed: Tensor, heads: int) -> Tensor:
    """The slots whose indicator 1_lru is 1: those with the largest U, one for each head.

    U(i) = T - max{t : w^W_t(i) + w^R_t(i) > delta}: the slot accessed the longest time ago is
    overwritten. Slots accessed in the same step, or never, come in the order of their numbers.

    accessed [B, N]: the last step in which each slot was, 0 for never -> [B, H].
    """
    N = accessed.shape[1]
    order = accessed * N + torch.arange(N, device=accessed.device)
    return order.topk(heads, largest=False, sorted=True).indices


def write_weighting(alpha: Tensor, gamma: Tensor, weights: Tensor) -> Tensor:
    """w^W_t = alpha_t (gamma_t w^R_{t-1} + (1 - gamma_t) 1_lru).

    alpha and gamma [B, H] in (0, 1), weights w^R_{t-1} [B, H, K] -> [B, H, K + 1], the least
    recently used slot first, then the slots read in the step before.
    """
    lru, last = (alpha * (1 - gamma)).unsqueeze(-1), (alpha * gamma).unsqueeze(-1) * weights
    return torch.cat([lru, last], dim=-1)


def write(memory: Tensor, slots: Tensor, weights: Tensor, add: Tensor) -> Tensor:
    """M_t = (1 - R_t) M_{t-1} + A_t, with R_t = 1_lru 1^T and A_t = w^W_t a_t^T.

    All heads erase their least recently used slot, then all add, so that their order is irrelevant.

    memory [B, N, W], slots [B, H, K + 1] and their weights w^W_t, the least recently used one
    first, add a_t [B, H, W] -> memory [B, N, W].
    """
    return write_(memory.clone(), slots, weights, add)


def write_(memory: Tensor, slots: Tensor, weights: Tensor, add: Tensor) -> Tensor:
    """As :func:`write`, in place."""

    def index(slots: Tensor) -> Tensor:
        return slots.flatten(1).unsqueeze(-1).expand(-1, -1, memory.shape[-1])

    memory.scatter_(1, index(slots[..., 0]), 0.0)
    added = (weights.unsqueeze(-1) * add.unsqueeze(2)).flatten(1, 2)
    return memory.scatter_add_(1, index(slots), added)


@torch.no_grad()
def nearest(query: Tensor, memory: Tensor, reads: int) -> Tensor:
    """The slots s_1 ... s_K whose rows are nearest to q_t by the cosine, the nearest first.

    Equally near ones come in the order of their numbers. The cosine is computed row by row:
    in a product of matrices equal rows may come to differ by a rounding error.

    query [B, H, W], memory [B, N, W], reads K -> [B, H, K]. The choice passes no gradient.
    """
    rows, queries = memory.unsqueeze(1), query.unsqueeze(2)
    floor = torch.finfo(memory.dtype).tiny ** 0.25  # as in cosine_similarity
    norm = torch.linalg.vector_norm(rows, dim=-1).clamp_min(floor)
    similarity = (queries * rows).sum(-1) / norm  # times |q|, which changes no order
    nearest_first: Tensor = similarity.sort(dim=-1, descending=True, stable=True).indices
    return nearest_first[..., :reads]


def read(query: Tensor, beta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """w^R_t(s_k) = softmax of beta_t cos(q_t, M_t(s_k)); r_t = sum of w^R_t(s_k) M_t(s_k), k <= K.

    The softmax is over the K chosen rows alone, so neither depends on how many others there are.

    query [B, H, W], beta [B, H] > 0, rows M_t(s_k) [B, H, K, W] -> weights [B, H, K] and reads
    [B, H, W].
    """
    similarity = cosine_similarity(query.flatten(0, 1).unsqueeze(1), rows.flatten(0, 1))
    weights = torch.softmax(beta.unsqueeze(-1) * similarity.view(rows.shape[:3]), dim=-1)
    return weights, (weights.unsqueeze(2) @ rows).squeeze(2)


def access(accessed: Tensor, step: Tensor, slots: Tensor, weights: Tensor) -> Tensor:
    """The usage after a step: its number, where w^W_t + w^R_t > delta, added up over all heads.

    accessed [B, N], step [B, 1], slots [B, E] written or read and their weights -> [B, N].
    """
    return access_(accessed.clone(), step, slots, weights)


@torch.no_grad()
def access_(accessed: Tensor, step: Tensor, slots: Tensor, weights: Tensor) -> Tensor:
    """As :func:`access`, in place."""
    same = slots.unsqueeze(-1) == slots.unsqueeze(-2)  # [B, E, E]
    total = (same * weights.unsqueeze(-2)).sum(-1)
    last = accessed.gather(1, slots)
    return accessed.scatter_(1, slots, torch.where(total > DELTA, step, last))
