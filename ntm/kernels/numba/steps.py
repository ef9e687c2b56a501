"""The elementwise steps of the controllers, and their derivatives.

A step turns z [J], the layer's matrix product, into h [n], and into c [n] where there is one, and
leaves in z what its derivative will need. The derivative turns dh and dc, the derivatives at time
t, into dz and into what bypasses the product on the way to t - 1.
"""

# ruff: noqa: D103
from __future__ import annotations

from typing import Any

from ntm.kernels.kinds import GRU_STEP, LEAKY_STEP, LSTM_STEP, NESTED_STEP, PEEPHOLE_STEP, RELU_STEP
from ntm.kernels.numba.jit import device_function
from ntm.kernels.numba.math import sigmoid, tanh


@device_function
def tanh_step(z: Any, h: Any) -> None:
    """Feedforward and RNN: h = tanh(z)."""
    for i in range(h.shape[0]):
        h[i] = z[i] = tanh(z[i])


@device_function
def tanh_backward(h: Any, dh: Any, dz: Any) -> None:
    one = h.dtype.type(1)
    for i in range(dh.shape[0]):
        dz[i] = dh[i] * (one - h[i] * h[i])
        dh[i] = 0


@device_function
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


@device_function
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


@device_function
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


@device_function
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


@device_function
def relu_step(z: Any, h: Any) -> None:
    zero = z.dtype.type(0)
    for i in range(h.shape[0]):
        h[i] = z[i] = zero if z[i] <= zero else z[i]  # what is no number stays none


@device_function
def relu_backward(h: Any, dh: Any, dz: Any) -> None:
    zero = h.dtype.type(0)
    for i in range(dh.shape[0]):
        dz[i] = zero if h[i] <= zero else dh[i]
        dh[i] = 0


@device_function
def leaky_step(z: Any, h_old: Any, h: Any) -> None:
    """Z holds W v + b and the logit of alpha."""
    n, one = h.shape[0], z.dtype.type(1)
    y, alpha = z[:n], z[n:]
    for i in range(n):
        y[i] = tanh(y[i])
    for i in range(n):
        alpha[i] = sigmoid(alpha[i])
    for i in range(n):
        h[i] = (one - alpha[i]) * h_old[i] + alpha[i] * y[i]


@device_function
def leaky_backward(z: Any, h_old: Any, dh: Any, dz: Any) -> None:
    n, one = dh.shape[0], z.dtype.type(1)
    y, alpha, dy, dalpha = z[:n], z[n:], dz[:n], dz[n:]
    for i in range(n):
        dy[i] = dh[i] * alpha[i] * (one - y[i] * y[i])
    for i in range(n):
        dalpha[i] = dh[i] * (y[i] - h_old[i]) * alpha[i] * (one - alpha[i])
    for i in range(n):
        dh[i] *= one - alpha[i]


@device_function
def peephole_step(z: Any, c_old: Any, c: Any, h: Any) -> None:
    """Z holds i f j o and the peepholes of i f o."""
    n = h.shape[0]
    i, f, j, o = z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n : 4 * n]
    p_i, p_f, p_o = z[4 * n : 5 * n], z[5 * n : 6 * n], z[6 * n :]
    for u in range(n):
        i[u] = sigmoid(i[u] + p_i[u] * c_old[u])
    for u in range(n):
        f[u] = sigmoid(f[u] + p_f[u] * c_old[u])
    for u in range(n):
        j[u] = tanh(j[u])
    for u in range(n):
        c[u] = f[u] * c_old[u] + i[u] * j[u]
    for u in range(n):
        o[u] = sigmoid(o[u] + p_o[u] * c[u])
    for u in range(n):
        h[u] = o[u] * tanh(c[u])


@device_function
def peephole_backward(z: Any, c_old: Any, c: Any, dh: Any, dc: Any, dz: Any) -> None:
    n, one = dh.shape[0], z.dtype.type(1)
    i, f, j, o = z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n : 4 * n]
    p_i, p_f, p_o = z[4 * n : 5 * n], z[5 * n : 6 * n], z[6 * n :]
    di, df, dj, do = dz[:n], dz[n : 2 * n], dz[2 * n : 3 * n], dz[3 * n : 4 * n]
    dp_i, dp_f, dp_o = dz[4 * n : 5 * n], dz[5 * n : 6 * n], dz[6 * n :]
    for u in range(n):
        y = tanh(c[u])
        do[u] = dh[u] * y * o[u] * (one - o[u])
        dc[u] += dh[u] * o[u] * (one - y * y) + do[u] * p_o[u]
        dh[u] = 0
    for u in range(n):
        dp_o[u] = do[u] * c[u]
    for u in range(n):
        di[u] = dc[u] * j[u] * i[u] * (one - i[u])
    for u in range(n):
        dp_i[u] = di[u] * c_old[u]
    for u in range(n):
        dj[u] = dc[u] * i[u] * (one - j[u] * j[u])
    for u in range(n):
        df[u] = dc[u] * c_old[u] * f[u] * (one - f[u])
    for u in range(n):
        dp_f[u] = df[u] * c_old[u]
    for u in range(n):
        dc[u] = dc[u] * f[u] + di[u] * p_i[u] + df[u] * p_f[u]


@device_function
def enter(z: Any, c_old: Any, v: Any) -> None:
    """A nested LSTM on its way inwards: what it hands to the LSTM inside, v = [i j, f c_{t-1}]."""
    n = c_old.shape[0]
    i, f, j = z[:n], z[n : 2 * n], z[2 * n : 3 * n]
    x, h = v[:n], v[n : 2 * n]
    gates = z[: 2 * n]
    for u in range(2 * n):
        gates[u] = sigmoid(gates[u])
    for u in range(n):
        j[u] = tanh(j[u])
    for u in range(n):
        x[u] = i[u] * j[u]
    for u in range(n):
        h[u] = f[u] * c_old[u]


@device_function
def enter_backward(z: Any, c_old: Any, dv: Any, dc: Any, dz: Any) -> None:
    """But for the output gate, whose derivative :func:`leave_backward` has written."""
    n, one = c_old.shape[0], z.dtype.type(1)
    i, f, j = z[:n], z[n : 2 * n], z[2 * n : 3 * n]
    di, df, dj = dz[:n], dz[n : 2 * n], dz[2 * n : 3 * n]
    dx, dh = dv[:n], dv[n : 2 * n]
    for u in range(n):
        di[u] = dx[u] * j[u] * i[u] * (one - i[u])
    for u in range(n):
        dj[u] = dx[u] * i[u] * (one - j[u] * j[u])
    for u in range(n):
        df[u] = dh[u] * c_old[u] * f[u] * (one - f[u])
    for u in range(n):
        dc[u] = dh[u] * f[u]


@device_function
def leave(z: Any, c: Any, h: Any) -> None:
    """And outwards again: h is what the LSTM inside returned, and becomes what this returns."""
    n = h.shape[0]
    o = z[3 * n : 4 * n]
    for u in range(n):
        o[u] = sigmoid(o[u])
    for u in range(n):
        c[u] = h[u]
    for u in range(n):
        h[u] = o[u] * tanh(c[u])


@device_function
def leave_backward(z: Any, c: Any, dh: Any, dc: Any, dz: Any) -> None:
    """Dh becomes the derivative by what the LSTM inside returned; dc is used up."""
    n, one = dh.shape[0], z.dtype.type(1)
    o, do = z[3 * n : 4 * n], dz[3 * n : 4 * n]
    for u in range(n):
        y = tanh(c[u])
        do[u] = dh[u] * y * o[u] * (one - o[u])
        dh[u] = dc[u] + dh[u] * o[u] * (one - y * y)


@device_function
def step(kind: Any, z: Any, h_old: Any, c_old: Any, c: Any, h: Any) -> None:
    if kind in (LSTM_STEP, NESTED_STEP):
        lstm_step(z, c_old, c, h)
    elif kind == GRU_STEP:
        gru_step(z, h_old, h)
    elif kind == LEAKY_STEP:
        leaky_step(z, h_old, h)
    elif kind == PEEPHOLE_STEP:
        peephole_step(z, c_old, c, h)
    elif kind == RELU_STEP:
        relu_step(z, h)
    else:
        tanh_step(z, h)


@device_function
def step_backward(
    kind: Any, z: Any, h_old: Any, c_old: Any, c: Any, dh: Any, dc: Any, dz: Any
) -> None:
    if kind in (LSTM_STEP, NESTED_STEP):
        lstm_backward(z, c_old, c, dh, dc, dz)
    elif kind == GRU_STEP:
        gru_backward(z, h_old, dh, dz)
    elif kind == LEAKY_STEP:
        leaky_backward(z, h_old, dh, dz)
    elif kind == PEEPHOLE_STEP:
        peephole_backward(z, c_old, c, dh, dc, dz)
    elif kind == RELU_STEP:
        relu_backward(z, dh, dz)
    else:
        tanh_backward(z, dh, dz)
