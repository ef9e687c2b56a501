"""Where a head looks: equations 5-9 of the paper, as pure functions.

B batch, H heads, N slots, W slot width, S shifts. A weighting is a distribution over slots.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cosine_similarity(key: Tensor, memory: Tensor) -> Tensor:
    """Equation 6: K[k, M(i)] = k . M(i) / (|k| |M(i)|).

    key [B, H, W], memory [B, N, W] -> [B, H, N], each in [-1, 1].

    A vector shorter than the floor counts as orthogonal to everything, instead of dividing by
    zero. The floor, the fourth root of the smallest normal number, is where squares are still
    safe from underflow in the backward pass too: 3e-10 in float32, far below the 1e-6 that
    memory starts at, so there the result is exact.
    """
    floor = torch.finfo(memory.dtype).tiny ** 0.25
    k = key / torch.linalg.vector_norm(key, dim=-1, keepdim=True).clamp_min(floor)
    norm = torch.linalg.vector_norm(memory, dim=-1).clamp_min(floor)
    similarity: Tensor = k @ memory.mT / norm.unsqueeze(-2)
    return similarity


def content_weighting(key: Tensor, beta: Tensor, memory: Tensor) -> Tensor:
    """Equation 5: w^c(i) = softmax over i of beta K[k, M(i)].

    key [B, H, W], beta [B, H] > 0, memory [B, N, W] -> [B, H, N].
    """
    return torch.softmax(beta.unsqueeze(-1) * cosine_similarity(key, memory), dim=-1)


def interpolate(content: Tensor, previous: Tensor, gate: Tensor) -> Tensor:
    """Equation 7: w^g = g w^c + (1 - g) w_{t-1}.

    content and previous [B, H, N], gate [B, H] in (0, 1) -> [B, H, N].
    """
    return torch.lerp(previous, content, gate.unsqueeze(-1))


def shift(gated: Tensor, shifts: Tensor) -> Tensor:
    """Equation 8: w~(i) = sum over j of w^g(j) s(i - j), indices modulo N.

    gated [B, H, N], shifts [B, H, S] with S odd, a distribution -> [B, H, N].
    ``shifts[..., j]`` moves the focus by j - S // 2 slots: the middle one stays, the last one
    moves towards higher slots.
    """
    half = shifts.shape[-1] // 2
    slots = gated.shape[-1]
    if half > slots:  # shifts that differ by a multiple of N are the same: more than one lap
        rolls = [gated.roll(j, dims=-1) for j in range(-half, half + 1)]
        return (torch.stack(rolls, dim=-1) @ shifts.unsqueeze(-1)).squeeze(-1)
    wrapped = torch.cat([gated[..., slots - half :], gated, gated[..., :half]], dim=-1)
    windows = wrapped.unfold(-1, 2 * half + 1, 1)  # [B, H, N, S]: slots i - half ... i + half
    return (windows @ shifts.flip(-1).unsqueeze(-1)).squeeze(-1)


def sharpen(shifted: Tensor, gamma: Tensor) -> Tensor:
    """Equation 9: w(i) = w~(i)^gamma / sum over j of w~(j)^gamma.

    shifted [B, H, N] >= 0, not all 0; gamma [B, H] >= 1 -> [B, H, N].

    Computed as softmax(gamma log w~): the largest weight is scaled to 1 before the power, so
    the sum cannot underflow, whatever gamma is. Weights of 0 stay 0 (at most the
    smallest normal number) and pass no gradient.
    """
    log = torch.log(shifted.clamp_min(torch.finfo(shifted.dtype).tiny))
    log = log - log.amax(dim=-1, keepdim=True).detach()
    return torch.softmax(gamma.unsqueeze(-1) * log, dim=-1)
