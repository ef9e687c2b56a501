"""Equation 8, the circular convolution by which heads shift, and its derivative.

A weighting lies in the middle of ``padded``, which continues it on both sides: around the circle,
or, beside a run of columns, with slots like its first (see ``alike.py``).
"""

from __future__ import annotations

from typing import Any

from ntm.kernels.numba.jit import device_function


@device_function
def surround(padded: Any, half: Any, rows: Any) -> None:
    """Continue x = padded[half : half + N] on both sides: around the circle, or with its first."""
    N = rows.count
    for p in range(half):
        if rows.circular:
            padded[p] = padded[half + (p - half) % N]
            padded[half + N + p] = padded[half + p % N]
        else:
            padded[p] = padded[half + N + p] = padded[half]


@device_function
def convolve(padded: Any, s: Any, reverse: Any, out: Any) -> None:
    """Equation 8: out(i) = sum over j of padded[i + 2 half - j] s(j); reversed, of [i + j]."""
    N, S = out.shape[0], s.shape[0]
    if S == 3:
        a, c = (s[0], s[2]) if reverse else (s[2], s[0])
        b, low, middle, high = s[1], padded[:N], padded[1 : N + 1], padded[2 : N + 2]
        for i in range(N):
            out[i] = a * low[i] + b * middle[i] + c * high[i]
        return
    for i in range(N):
        out[i] = 0
    for j in range(S):
        start = j if reverse else S - 1 - j
        moved, share = padded[start : start + N], s[j]
        for i in range(N):
            out[i] += share * moved[i]


@device_function
def convolve_backward(dpadded: Any, s: Any, rows: Any, dgated: Any) -> None:
    """The derivatives by w^g, from those by w~, dpadded[half : half + N].

    Beside a run of columns lie slots like its first, whose neighbours are such slots as well.
    """
    N, S, half = rows.count, s.shape[0], s.shape[0] // 2
    if rows.circular:
        surround(dpadded, half, rows)
        convolve(dpadded, s, True, dgated)
        return
    alike = dpadded[half]  # a sum over all of them
    beside = alike - alike
    each = alike / rows.like if rows.settled else beside
    dpadded[half] = each
    for p in range(half):
        dpadded[p] = dpadded[half + N + p] = each
    convolve(dpadded, s, True, dgated)
    for p in range(half):
        for j in range(S):  # w~(i) has padded[i + 2 half - j], here those of p and of half + N + p
            left, right = p - 2 * half + j, N - half + p + j
            if left >= 0:
                beside += s[j] * dpadded[half + left]
            if right < N:
                beside += s[j] * dpadded[half + right]
    # Sums have what others of the run hand to one of them. Where all of those have the same
    # derivative that is as much as they hand to others.
    own = dgated[0] + beside
    dgated[0] = alike - alike if rows.settled else own
    for j in range(S):
        dgated[0] += s[j] * alike
