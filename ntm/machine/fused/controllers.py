"""What a controller gives the kernels: its step, the step's derivative, and its matrix.

Every layer here is one matrix product and then an elementwise step. The product is
z = W v + b, where v [K] holds, in this order and as far as the layer has them, the input x,
the reads, the output of the layer below, and its own h_{t-1}; the step turns z [J] into h [n],
and into c [n] where there is one. What the step will need again is left in z.

To add a controller: write its two functions, give them a number in :func:`step` and
:func:`step_backward`, and enter it in ``KINDS``.
"""

# ruff: noqa: D103
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from controllers.base import Core
from controllers.feedforward import FeedForward
from controllers.gru import GRU
from controllers.lstm import LSTM
from controllers.rnn import RNN
from ntm.machine.fused.jit import part
from ntm.machine.fused.math import sigmoid, tanh

Array: TypeAlias = "np.ndarray[Any, Any]"


@part
def tanh_step(z: Any, h: Any) -> None:
    """Feedforward and RNN: h = tanh(z)."""
    for i in range(h.shape[0]):
        h[i] = z[i] = tanh(z[i])


@part
def tanh_backward(h: Any, dh: Any, dz: Any) -> None:
    one = h.dtype.type(1)
    for i in range(dh.shape[0]):
        dz[i] = dh[i] * (one - h[i] * h[i])
        dh[i] = 0


@part
def lstm_step(z: Any, c_old: Any, c: Any, h: Any) -> None:
    """c_t = f c_{t-1} + i j, h_t = o tanh(c_t)."""
    n = h.shape[0]
    i, f, j, o = z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n :]
    gates = z[: 2 * n]
    for u in range(2 * n):
        gates[u] = sigmoid(gates[u])
    for u in range(n):
        j[u] = tanh(j[u])
    for u in range(n):
        o[u] = sigmoid(o[u])
    for u in range(n):
        c[u] = f[u] * c_old[u] + i[u] * j[u]
    for u in range(n):
        h[u] = o[u] * tanh(c[u])


@part
def lstm_backward(z: Any, c_old: Any, c: Any, dh: Any, dc: Any, dz: Any) -> None:
    n, one = dh.shape[0], z.dtype.type(1)
    i, f, j, o = z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n :]
    di, df, dj, do = dz[:n], dz[n : 2 * n], dz[2 * n : 3 * n], dz[3 * n :]
    for u in range(n):
        y = tanh(c[u])
        do[u] = dh[u] * y
        dc[u] += dh[u] * o[u] * (one - y * y)
        dh[u] = 0
    for u in range(n):
        do[u] *= o[u] * (one - o[u])
    for u in range(n):
        di[u] = dc[u] * j[u] * i[u] * (one - i[u])
    for u in range(n):
        dj[u] = dc[u] * i[u] * (one - j[u] * j[u])
    for u in range(n):
        df[u] = dc[u] * c_old[u] * f[u] * (one - f[u])
    for u in range(n):
        dc[u] *= f[u]


@part
def gru_step(z: Any, h_old: Any, h: Any) -> None:
    """Z holds r, z, W_n x + b_n, U_n h + d_n; the third is replaced by n."""
    m, one = h.shape[0], z.dtype.type(1)
    gates, r, k, n, u = z[: 2 * m], z[:m], z[m : 2 * m], z[2 * m : 3 * m], z[3 * m :]
    for i in range(2 * m):
        gates[i] = sigmoid(gates[i])
    for i in range(m):
        n[i] = tanh(n[i] + r[i] * u[i])
    for i in range(m):
        h[i] = (one - k[i]) * n[i] + k[i] * h_old[i]


@part
def gru_backward(z: Any, h_old: Any, dh: Any, dz: Any) -> None:
    m, one = dh.shape[0], z.dtype.type(1)
    r, k, n, u = z[:m], z[m : 2 * m], z[2 * m : 3 * m], z[3 * m :]
    dr, dk, dn, du = dz[:m], dz[m : 2 * m], dz[2 * m : 3 * m], dz[3 * m :]
    for i in range(m):
        dk[i] = dh[i] * (h_old[i] - n[i]) * k[i] * (one - k[i])
    for i in range(m):
        dn[i] = dh[i] * (one - k[i]) * (one - n[i] * n[i])
    for i in range(m):
        dr[i] = dn[i] * u[i] * r[i] * (one - r[i])
    for i in range(m):
        du[i] = dn[i] * r[i]
    for i in range(m):
        dh[i] *= k[i]


FEEDFORWARD, ELMAN, LSTM_, GRU_ = 0, 1, 2, 3


@part
def step(kind: Any, z: Any, h_old: Any, c_old: Any, c: Any, h: Any) -> None:
    if kind == LSTM_:
        lstm_step(z, c_old, c, h)
    elif kind == GRU_:
        gru_step(z, h_old, h)
    else:
        tanh_step(z, h)


@part
def step_backward(
    kind: Any, z: Any, h_old: Any, c_old: Any, c: Any, dh: Any, dc: Any, dz: Any
) -> None:
    """Dh and dc turn from derivatives at t into what bypasses the product on the way to t-1."""
    if kind == LSTM_:
        lstm_backward(z, c_old, c, dh, dc, dz)
    elif kind == GRU_:
        gru_backward(z, h_old, dh, dz)
    else:
        tanh_backward(z, dh, dz)


@dataclass(frozen=True)
class Kind:
    """A controller's place in the kernels, and its matrix."""

    number: int
    gates: int  # J = gates n
    recurrent: bool  # v holds h_{t-1}
    cell: bool  # there is a c
    parameters: Callable[[Any], list[Tensor]]
    start: Callable[[Any], list[Tensor]]  # the first h, then c, as far as it has them, [n] each
    #: parameters -> W [J, K], b [J], and dW, db -> their gradients; None where they are W, b
    pack: Callable[[Sequence[Array]], tuple[Array, Array]] | None = None
    unpack: Callable[[Array, Array], list[Array]] | None = None


def _gru_pack(parameters: Sequence[Array]) -> tuple[Array, Array]:
    gates, b_gates, x, b_x, h, b_h = parameters
    n, inputs = x.shape
    W = np.zeros((4 * n, inputs + n), gates.dtype)
    W[: 2 * n] = gates
    W[2 * n : 3 * n, :inputs] = x
    W[3 * n :, inputs:] = h
    return W, np.concatenate([b_gates, b_x, b_h])


def _gru_unpack(dW: Array, db: Array) -> list[Array]:
    n = len(db) // 4
    inputs = dW.shape[1] - n
    dx, dh = dW[2 * n : 3 * n, :inputs], dW[3 * n :, inputs:]
    return [dW[: 2 * n], db[: 2 * n], dx, db[2 * n : 3 * n], dh, db[3 * n :]]


KINDS: dict[type[Core], Kind] = {
    FeedForward: Kind(
        FEEDFORWARD, 1, False, False, lambda m: [m.hidden.weight, m.hidden.bias], lambda m: []
    ),
    RNN: Kind(ELMAN, 1, True, False, lambda m: [m.hidden.weight, m.hidden.bias], lambda m: [m.h0]),
    LSTM: Kind(
        LSTM_, 4, True, True, lambda m: [m.gates.weight, m.gates.bias], lambda m: [m.h0, m.c0]
    ),
    GRU: Kind(
        GRU_,
        4,
        True,
        False,
        lambda m: [
            m.gates.weight, m.gates.bias, m.candidate_x.weight, m.candidate_x.bias,
            m.candidate_h.weight, m.candidate_h.bias,
        ],
        lambda m: [m.h0],
        _gru_pack,
        _gru_unpack,
    ),
}  # fmt: skip
