"""Equations 2-9 of the paper in plain loops: what the machine is tested against.

Everything is a NumPy array of one sequence, without a batch; N slots, W width, S shifts.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


def cosine(key: Array, memory: Array) -> Array:
    """Equation 6; key [W], memory [N, W] -> [N]."""
    N, W = memory.shape
    out = np.zeros(N)
    for i in range(N):
        dot = sum(float(key[m]) * float(memory[i, m]) for m in range(W))
        key_norm = math.sqrt(sum(float(key[m]) ** 2 for m in range(W)))
        row_norm = math.sqrt(sum(float(memory[i, m]) ** 2 for m in range(W)))
        out[i] = dot / (key_norm * row_norm)
    return out


def content(key: Array, beta: float, memory: Array) -> Array:
    """Equation 5."""
    similarity = cosine(key, memory)
    powers = [math.exp(beta * (s - similarity.max())) for s in similarity]
    return np.array([p / sum(powers) for p in powers])


def interpolate(content: Array, previous: Array, gate: float) -> Array:
    """Equation 7."""
    return np.array([gate * c + (1 - gate) * p for c, p in zip(content, previous, strict=True)])


def shift(gated: Array, shifts: Array) -> Array:
    """Equation 8; the shift j - S // 2 has the probability shifts[j]."""
    N, S = len(gated), len(shifts)
    out = np.zeros(N)
    for source in range(N):
        for j in range(S):
            out[(source + j - S // 2) % N] += gated[source] * shifts[j]
    return out


def sharpen(shifted: Array, gamma: float) -> Array:
    """Equation 9."""
    powers = [float(w) ** gamma for w in shifted]
    return np.array([p / sum(powers) for p in powers])


def read(memory: Array, weights: Array) -> Array:
    """Equation 2."""
    N, W = memory.shape
    out = np.zeros(W)
    for i in range(N):
        for m in range(W):
            out[m] += weights[i] * memory[i, m]
    return out


def write(memory: Array, weights: Array, erase: Array, add: Array) -> Array:
    """Equations 3 and 4; weights [Q, N], erase and add [Q, W]: all erases, then all adds."""
    N, W = memory.shape
    out = memory.copy()
    for q in range(len(weights)):
        for i in range(N):
            for m in range(W):
                out[i, m] *= 1 - weights[q, i] * erase[q, m]
    for q in range(len(weights)):
        for i in range(N):
            for m in range(W):
                out[i, m] += weights[q, i] * add[q, m]
    return out


def address(
    memory: Array,
    previous: Array,
    key: Array,
    beta: float,
    gate: float,
    shifts: Array,
    gamma: float,
) -> Array:
    """Equations 5-9 in a row, for one head."""
    gated = interpolate(content(key, beta, memory), previous, gate)
    return sharpen(shift(gated, shifts), gamma)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def emit(h: Array, weight: Array, bias: Array, R: int, Q: int, W: int, S: int) -> dict[str, Any]:
    """What each head emits for the controller's output h [C], from the one linear layer.

    The rows are, in this order: every head's key, every write head's add and erase, then every
    head's gate, key strength, sharpening and shifts; read heads come first.
    """
    rows = [sum(float(w) * float(c) for w, c in zip(row, h, strict=True)) for row in weight]
    todo = [r + float(b) for r, b in zip(rows, bias, strict=True)]

    def take(count: int) -> list[float]:
        taken, todo[:count] = todo[:count], []
        return taken

    H = R + Q
    out: dict[str, Any] = {}
    out["key"] = np.array([[math.tanh(x) for x in take(W)] for _ in range(H)])
    out["add"] = np.array([[math.tanh(x) for x in take(W)] for _ in range(Q)])
    out["erase"] = np.array([[sigmoid(x) for x in take(W)] for _ in range(Q)])
    out["gate"] = np.array([sigmoid(x) for x in take(H)])
    out["beta"] = np.array([softplus(x) for x in take(H)])
    out["gamma"] = np.array([1 + softplus(x) for x in take(H)])
    powers = np.array([[math.exp(x) for x in take(S)] for _ in range(H)])
    out["shift"] = powers / powers.sum(axis=1, keepdims=True)
    assert not todo
    return out
