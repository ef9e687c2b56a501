"""What the heads do in one step, for one sample: equations 2-9 and their derivatives.

Memory is laid out [W, N] here, so that the inner loops run over slots and vectorise. Names as
in ``addressing.py`` and ``access.py``, which compute the same for whole batches. A leading d marks
the derivative of the loss with respect to what follows it. R read heads come before Q write
heads, H = R + Q, unless they are shared, H = R = Q; ``writer`` is the first that writes.

A function takes ``step``, an :class:`Access`; ``heads``, the sizes; ``scratch``, one thread's; and
``d``, an :class:`AccessAdjoint`, which the derivatives go through on their way back in time. All of
them are in ``records.py``.

One row e of the interface holds what the heads are told, as ``NTMCell.interface_sizes`` lays it
out, k a | e g | beta gamma | s, and behind it the derivatives of beta and gamma with respect to
what went into their softplus.
"""

# ruff: noqa: D103
from __future__ import annotations

from typing import Any

import numpy as np

from ntm.kernels.numba.jit import device_function
from ntm.kernels.numba.math import exp, larger, log, sigmoid, softplus, softplus_slope, tanh
from ntm.kernels.numba.products import Matrix, add_dots, add_product, at


@device_function
def largest(x: Any) -> Any:
    top = x[0]
    for i in range(x.shape[0]):
        top = larger(top, x[i])
    return top


@device_function
def dot(x: Any, y: Any) -> Any:
    total = x.dtype.type(0)
    for i in range(x.shape[0]):
        total += x[i] * y[i]
    return total


@device_function
def wrap(padded: Any, half: Any, N: Any) -> None:
    """Continue x = padded[half : half + N] on both sides: padded[p] = x[(p - half) mod N]."""
    for p in range(half):
        padded[p] = padded[half + (p - half) % N]
        padded[half + N + p] = padded[half + p % N]


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
def activate(e: Any, heads: Any) -> None:
    """The interface layer's output becomes k, a, e, g, beta, gamma, s, in place."""
    H, Q, W, S = heads.H, heads.Q, heads.W, heads.S
    one = e.dtype.type(1)
    c = (H + Q) * W
    bounded, gates = e[:c], e[c : c + Q * W + H]
    for i in range(bounded.shape[0]):
        bounded[i] = tanh(bounded[i])
    for i in range(gates.shape[0]):
        gates[i] = sigmoid(gates[i])
    c += Q * W + H
    strengths, slopes = e[c : c + 2 * H], e[c + 2 * H + H * S :]
    for i in range(2 * H):
        slopes[i] = softplus_slope(strengths[i], one)
        strengths[i] = softplus(strengths[i])
    for h in range(H):
        strengths[H + h] += one
        s = e[c + 2 * H + h * S : c + 2 * H + (h + 1) * S]
        top, total = largest(s), e.dtype.type(0)
        for j in range(S):
            s[j] = exp(s[j] - top)
            total += s[j]
        for j in range(S):
            s[j] /= total


@device_function
def normalise(e: Any, floor: Any, keys: Any) -> None:
    """Keys [H, W] = k / max(|k|, floor)."""
    H, W = keys.shape
    for h in range(H):
        k, unit = e[h * W : (h + 1) * W], keys[h]
        scale = e.dtype.type(1) / max(np.sqrt(dot(k, k)), floor)
        for i in range(W):
            unit[i] = k[i] * scale


@device_function
def inverse_norms(memory: Any, floor: Any, inverse: Any) -> None:
    W, N = memory.shape
    one = memory.dtype.type(1)
    for i in range(N):
        inverse[i] = 0
    whole = W - W % 4
    for w in range(0, whole, 4):
        m0, m1, m2, m3 = memory[w], memory[w + 1], memory[w + 2], memory[w + 3]
        for i in range(N):
            inverse[i] += m0[i] * m0[i] + m1[i] * m1[i] + (m2[i] * m2[i] + m3[i] * m3[i])
    for w in range(whole, W):
        m0 = memory[w]
        for i in range(N):
            inverse[i] += m0[i] * m0[i]
    for i in range(N):
        inverse[i] = one / max(np.sqrt(inverse[i]), floor)


@device_function
def address(step: Any, heads: Any, scratch: Any) -> None:
    """Equations 5-9: where every head looks."""
    memory, e, padded = step.memory, step.interface, scratch.padded
    W, N = memory.shape
    H, S, half = step.weights.shape[0], heads.S, heads.S // 2
    c = (H + 2 * heads.Q) * W  # where g begins
    one = memory.dtype.type(1)

    normalise(e, heads.floor, scratch.keys)
    inverse_norms(memory, heads.floor, step.inverse)
    inverse = step.inverse
    step.cosine[:] = 0
    keys = Matrix(at(scratch.keys, 0), W, 1)
    add_product(Matrix(at(step.cosine, 0), N, 1), keys, Matrix(at(memory, 0), N, 1), H, N, W)
    for h in range(H):
        gate, beta, gamma = e[c + h], e[c + H + h], e[c + 2 * H + h]
        s = e[c + 3 * H + h * S : c + 3 * H + (h + 1) * S]
        K, wc, logw, w = step.cosine[h], step.content[h], step.logs[h], step.weights[h]

        top = -one
        for i in range(N):  # equation 6
            K[i] *= inverse[i]
            top = larger(top, K[i])
        total = memory.dtype.type(0)  # equation 5
        for i in range(N):
            wc[i] = exp(beta * (K[i] - top))
            total += wc[i]
        # ``larger`` may turn what is no number into one: here it is put where it stays.
        doubt = total + gate + gamma + s[0]
        scale = one / total
        before, gated = step.previous[h], padded[half : half + N]  # equation 7
        for i in range(N):
            wc[i] *= scale
            gated[i] = before[i] + gate * (wc[i] - before[i])
        wrap(padded, half, N)
        convolve(padded, s, False, logw)  # equation 8
        for i in range(N):  # equation 9, as softmax(gamma log w~)
            logw[i] = log(larger(logw[i], heads.tiny))
        top, total = largest(logw), memory.dtype.type(0)
        for i in range(N):
            logw[i] -= top
            w[i] = exp(gamma * logw[i])
            total += w[i]
        scale = one / total + (doubt - doubt)
        for i in range(N):
            w[i] *= scale


@device_function
def write(step: Any, writer: Any) -> None:
    """Equations 3 and 4: M_{t-1} becomes M_t, by all erases, then all adds."""
    memory, new, weights, e = step.memory, step.new, step.weights, step.interface
    W, N = memory.shape
    H = weights.shape[0]
    Q = H - writer
    one = memory.dtype.type(1)
    adds, erases = e[H * W : (H + Q) * W], e[(H + Q) * W : (H + 2 * Q) * W]
    w = weights[writer]
    for j in range(W):
        old, row = memory[j], new[j]
        erase = erases[j]
        if Q == 1:
            add = adds[j]
            for i in range(N):
                row[i] = old[i] * (one - w[i] * erase) + w[i] * add
        else:
            for i in range(N):
                row[i] = old[i] * (one - w[i] * erase)
            for q in range(1, Q):
                wq, erase = weights[writer + q], erases[q * W + j]
                for i in range(row.shape[0]):
                    row[i] *= one - wq[i] * erase
    if Q > 1:
        write_heads = Matrix(at(weights, writer * N), N, 1)
        add_product(Matrix(at(new, 0), N, 1), Matrix(at(adds, 0), 1, W), write_heads, W, N, Q)


@device_function
def read(memory: Any, weights: Any, R: Any, reads: Any) -> None:
    """Equation 2: reads [R W] = w M."""
    W, N = memory.shape
    reads[:] = 0
    w, M = Matrix(at(weights, 0), N, 1), Matrix(at(memory, 0), N, 1)
    add_dots(Matrix(at(reads, 0), W, 1), w, M, R, W, N)


@device_function
def read_backward(memory: Any, weights: Any, R: Any, d: Any) -> None:
    """Adds to the derivatives by the memory that was read and by w: dw = dr M^T, dM = w^T dr."""
    W, N = memory.shape
    w, M = Matrix(at(weights, 0), N, 1), Matrix(at(memory, 0), N, 1)
    dreads = at(d.reads, 0)
    add_product(Matrix(at(d.weights, 0), N, 1), Matrix(dreads, W, 1), M, R, N, W)
    add_product(Matrix(at(d.memory, 0), N, 1), Matrix(dreads, 1, W), w, W, N, R)


@device_function
def write_backward(step: Any, writer: Any, scratch: Any, d: Any) -> None:
    """``d.memory`` turns from the derivative by M_t into that by M_{t-1}."""
    memory, weights, e = step.memory, step.weights, step.interface
    dmemory, dweights, de = d.memory, d.weights, d.interface
    W, N = memory.shape
    H = weights.shape[0]
    Q = H - writer
    one = memory.dtype.type(1)
    a, b = H * W, (H + Q) * W
    de[a : b + Q * W] = 0

    if Q == 1:
        w, dw = weights[writer], dweights[writer]
        for j in range(W):
            old, dm, add, erase = memory[j], dmemory[j], e[a + j], e[b + j]
            dadd, derase = one - one, one - one
            for i in range(N):
                kept, gone = dm[i], dm[i] * old[i]
                dadd += w[i] * kept
                derase -= w[i] * gone
                dw[i] += add * kept - erase * gone
                dm[i] = kept - erase * w[i] * kept
            de[a + j], de[b + j] = dadd, derase
        return
    dM = Matrix(at(dmemory, 0), N, 1)
    add_dots(Matrix(at(de, a), W, 1), Matrix(at(weights, writer * N), N, 1), dM, Q, W, N)
    add_product(Matrix(at(dweights, writer * N), N, 1), Matrix(at(e, a), W, 1), dM, Q, N, W)
    # Each head's factor is left out of the product in turn: those before it are kept in
    # ``keep``, those after it gathered in ``p``. Dividing instead would fail at a factor of 0.
    keep = scratch.keep
    for j in range(W):
        old, dm, p = memory[j], dmemory[j], scratch.products[j]
        keep[0] = one
        for q in range(Q):
            w, erase = weights[writer + q], e[b + q * W + j]
            before, after = keep[q], keep[q + 1]
            for i in range(after.shape[0]):  # of its own, or LLVM does not vectorise this
                after[i] = before[i] * (one - w[i] * erase)
        for i in range(N):
            p[i] = -dm[i] * old[i]
        for i in range(N):
            dm[i] *= keep[Q, i]
        for done in range(Q):  # from the last to the first; counted up, so that it vectorises
            q = Q - 1 - done
            w, dw, share = weights[writer + q], dweights[writer + q], keep[q]
            erase, total = e[b + q * W + j], one - one
            for i in range(share.shape[0]):
                share[i] *= p[i]
                p[i] *= one - w[i] * erase
            for i in range(share.shape[0]):
                total += share[i] * w[i]
                dw[i] += share[i] * erase
            de[b + q * W + j] = total


@device_function
def address_backward(step: Any, heads: Any, scratch: Any, d: Any) -> None:
    """``d.weights`` turns from the derivative by w_t into that by w_{t-1}; adds to ``d.memory``."""
    memory, e, de, inverse = step.memory, step.interface, d.interface, step.inverse
    padded, dpadded, slots = scratch.padded, scratch.dpadded, scratch.slots
    tiny = heads.tiny
    W, N = memory.shape
    H, S, half = step.weights.shape[0], heads.S, heads.S // 2
    c = (H + 2 * heads.Q) * W  # where g begins
    zero, one = memory.dtype.type(0), memory.dtype.type(1)
    for i in range(N):
        slots[i] = 0
    for h in range(H):
        gate, beta, gamma = e[c + h], e[c + H + h], e[c + 2 * H + h]
        s = e[c + 3 * H + h * S : c + 3 * H + (h + 1) * S]
        ds = de[c + 3 * H + h * S : c + 3 * H + (h + 1) * S]
        K, wc, logw, w = step.cosine[h], step.content[h], step.logs[h], step.weights[h]
        before, dw, x = step.previous[h], d.weights[h], scratch.dcosine[h]

        gated = padded[half : half + N]
        for i in range(N):  # equation 7 again, for w^g, and 8, for w~
            gated[i] = before[i] + gate * (wc[i] - before[i])
        wrap(padded, half, N)
        convolve(padded, s, False, x)
        mean, total, dshifted = dot(w, dw), zero, dpadded[half : half + N]  # equation 9
        for i in range(N):
            share = w[i] * (dw[i] - mean)
            total += share * logw[i]
            dshifted[i] = gamma * share / larger(x[i], tiny) if x[i] >= tiny else zero
        de[c + 2 * H + h] = total
        wrap(dpadded, half, N)  # equation 8
        for j in range(S):
            ds[j] = dot(dshifted, padded[S - 1 - j : S - 1 - j + N])
        convolve(dpadded, s, True, x)
        total, mean = zero, zero  # equation 7
        for i in range(N):
            total += x[i] * (wc[i] - before[i])
            mean += x[i] * wc[i]
            dw[i] = (one - gate) * x[i]
        de[c + h] = total
        mean, total = mean * gate, zero  # equation 5
        for i in range(N):
            share = wc[i] * (gate * x[i] - mean)
            total += share * K[i]
            x[i] = share * beta * inverse[i]
            slots[i] -= x[i] * K[i]
        de[c + H + h] = total
    content_backward(step, heads.floor, scratch, d)


@device_function
def content_backward(step: Any, floor: Any, scratch: Any, d: Any) -> None:
    """Equation 6: from the derivatives by the products k . M(i) to those by k and M.

    What goes through |M(i)| is M(i) times a number for each slot.
    """
    memory, e, de, inverse = step.memory, step.interface, d.interface, step.inverse
    keys, dkeys, slots = scratch.keys, scratch.dkeys, scratch.slots
    H, W = keys.shape
    N = memory.shape[1]
    zero, one = memory.dtype.type(0), memory.dtype.type(1)
    for i in range(N):
        slots[i] = slots[i] * inverse[i] if inverse[i] * floor < one else zero
    for j in range(W):
        old, dm = memory[j], d.memory[j]
        for i in range(N):
            dm[i] += slots[i] * old[i]
    normalise(e, floor, keys)
    dcosine, M = at(scratch.dcosine, 0), Matrix(at(memory, 0), N, 1)
    k = Matrix(at(keys, 0), 1, W)
    add_product(Matrix(at(d.memory, 0), N, 1), k, Matrix(dcosine, N, 1), W, N, H)
    dkeys[:] = 0
    add_dots(Matrix(at(dkeys, 0), W, 1), Matrix(dcosine, N, 1), M, H, W, N)
    for h in range(H):
        key, unit, dunit, dk = e[h * W : (h + 1) * W], keys[h], dkeys[h], de[h * W : (h + 1) * W]
        length = np.sqrt(dot(key, key))
        along = dot(unit, dunit) if length >= floor else zero
        length = max(length, floor)
        for i in range(W):
            dk[i] = (dunit[i] - along * unit[i]) / length


@device_function
def activate_backward(e: Any, heads: Any, de: Any) -> None:
    """``de`` turns from derivatives by k, a, ... into those by the interface layer's output."""
    H, Q, W, S = heads.H, heads.Q, heads.W, heads.S
    one = e.dtype.type(1)
    c = (H + Q) * W
    for i in range(c):
        de[i] *= one - e[i] * e[i]
    y, dy = e[c : c + Q * W + H], de[c : c + Q * W + H]
    for i in range(y.shape[0]):
        dy[i] *= y[i] * (one - y[i])
    c += Q * W + H
    for i in range(2 * H):
        de[c + i] *= e[c + 2 * H + H * S + i]
    c += 2 * H
    for h in range(H):
        s, ds = e[c + h * S : c + (h + 1) * S], de[c + h * S : c + (h + 1) * S]
        mean = dot(s, ds)
        for j in range(S):
            ds[j] = s[j] * (ds[j] - mean)
