"""What a head does there: equations 2-4 of the paper, as pure functions.

B batch, R read heads, Q write heads, N slots, W slot width.
"""

from __future__ import annotations

from torch import Tensor

#: Every slot starts as this constant: of the starts tried by Collier & Beel (2018) the one that
#: converges soonest. Not 0, which has no direction for the cosine to compare.
INITIAL_MEMORY = 1e-6


def read(memory: Tensor, weights: Tensor) -> Tensor:
    """Equation 2: r = sum over i of w(i) M(i).

    memory [B, N, W], weights [B, R, N] -> reads [B, R, W].
    """
    return weights @ memory


def write(memory: Tensor, weights: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """Equations 3 and 4: M~(i) = M(i) (1 - w(i) e), then M(i) = M~(i) + w(i) a.

    memory [B, N, W], weights [B, Q, N], erase [B, Q, W] in (0, 1), add [B, Q, W]
    -> memory [B, N, W]. With several heads all erases come before all adds, so that the
    order of the heads is irrelevant (the paper, section 3.2).
    """
    keep = 1 - weights[:, 0, :, None] * erase[:, 0, None, :]
    for q in range(1, weights.shape[1]):
        keep = keep * (1 - weights[:, q, :, None] * erase[:, q, None, :])
    return (memory * keep).baddbmm(weights.mT, add)
