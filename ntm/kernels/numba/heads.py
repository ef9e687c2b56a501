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

from ntm.kernels.numba.alike import extend
from ntm.kernels.numba.jit import device_function
from ntm.kernels.numba.math import exp, larger, log, sigmoid, softplus, softplus_slope, tanh
from ntm.kernels.numba.products import Matrix, add_dots, add_product, at
from ntm.kernels.numba.shift import convolve, convolve_backward, surround


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
def inverse_norms(memory: Any, rows: Any, floor: Any, inverse: Any) -> None:
    W, N, lo, hi = memory.shape[0], rows.count, rows.first, rows.first + rows.count
    one = memory.dtype.type(1)
    for i in range(N):
        inverse[i] = 0
    whole = W - W % 4
    for w in range(0, whole, 4):
        m0, m1 = memory[w, lo:hi], memory[w + 1, lo:hi]
        m2, m3 = memory[w + 2, lo:hi], memory[w + 3, lo:hi]
        for i in range(N):
            inverse[i] += m0[i] * m0[i] + m1[i] * m1[i] + (m2[i] * m2[i] + m3[i] * m3[i])
    for w in range(whole, W):
        m0 = memory[w, lo:hi]
        for i in range(N):
            inverse[i] += m0[i] * m0[i]
    for i in range(N):
        inverse[i] = one / max(np.sqrt(inverse[i]), floor)


@device_function
def address(step: Any, heads: Any, scratch: Any) -> None:
    """Equations 5-9: where every head looks."""
    memory, e, padded, rows = step.memory, step.interface, scratch.padded, step.rows
    W, ld = memory.shape
    N, lo, hi = rows.count, rows.first, rows.first + rows.count
    H, S, half = step.weights.shape[0], heads.S, heads.S // 2
    c = (H + 2 * heads.Q) * W  # where g begins
    one = memory.dtype.type(1)
    others = memory.dtype.type(rows.like - 1)  # beside the first row

    normalise(e, heads.floor, scratch.keys)
    inverse = step.inverse[lo:hi]
    inverse_norms(memory, rows, heads.floor, inverse)
    for h in range(H):
        step.cosine[h, lo:hi] = 0
    keys, M = Matrix(at(scratch.keys, 0), W, 1), Matrix(at(memory, lo), ld, 1)
    add_product(Matrix(at(step.cosine, lo), ld, 1), keys, M, H, N, W)
    for h in range(H):
        gate, beta, gamma = e[c + h], e[c + H + h], e[c + 2 * H + h]
        s = e[c + 3 * H + h * S : c + 3 * H + (h + 1) * S]
        K, wc = step.cosine[h, lo:hi], step.content[h, lo:hi]
        logw, w = step.logs[h, lo:hi], step.weights[h, lo:hi]

        top = -one
        for i in range(N):  # equation 6
            K[i] *= inverse[i]
            top = larger(top, K[i])
        total = memory.dtype.type(0)  # equation 5
        for i in range(N):
            wc[i] = exp(beta * (K[i] - top))
            total += wc[i]
        total += others * wc[0]
        # ``larger`` may turn what is no number into one: here it is put where it stays.
        doubt = total + gate + gamma + s[0]
        scale = one / total
        before, gated = step.previous[h, lo:hi], padded[half : half + N]  # equation 7
        for i in range(N):
            wc[i] *= scale
            gated[i] = before[i] + gate * (wc[i] - before[i])
        surround(padded, half, rows)
        convolve(padded, s, False, logw)  # equation 8
        for i in range(N):  # equation 9, as softmax(gamma log w~)
            logw[i] = log(larger(logw[i], heads.tiny))
        top, total = largest(logw), memory.dtype.type(0)
        for i in range(N):
            logw[i] -= top
            w[i] = exp(gamma * logw[i])
            total += w[i]
        total += others * w[0]
        scale = one / total + (doubt - doubt)
        for i in range(N):
            w[i] *= scale
    extend(step.weights, rows, step.wider)


@device_function
def write(step: Any, writer: Any) -> None:
    """Equations 3 and 4: M_{t-1} becomes M_t, by all erases, then all adds."""
    memory, new, weights, e = step.memory, step.new, step.weights, step.interface
    W, ld = memory.shape
    N, lo, hi = step.rows.count, step.rows.first, step.rows.first + step.rows.count
    H = weights.shape[0]
    Q = H - writer
    one = memory.dtype.type(1)
    adds, erases = e[H * W : (H + Q) * W], e[(H + Q) * W : (H + 2 * Q) * W]
    w = weights[writer, lo:hi]
    for j in range(W):
        old, row = memory[j, lo:hi], new[j, lo:hi]
        erase = erases[j]
        if Q == 1:
            add = adds[j]
            for i in range(N):
                row[i] = old[i] * (one - w[i] * erase) + w[i] * add
        else:
            for i in range(N):
                row[i] = old[i] * (one - w[i] * erase)
            for q in range(1, Q):
                wq, erase = weights[writer + q, lo:hi], erases[q * W + j]
                for i in range(row.shape[0]):
                    row[i] *= one - wq[i] * erase
    if Q > 1:
        write_heads = Matrix(at(weights, writer * ld + lo), ld, 1)
        add_product(Matrix(at(new, lo), ld, 1), Matrix(at(adds, 0), 1, W), write_heads, W, N, Q)
    extend(new, step.rows, step.wider)


@device_function
def read(memory: Any, weights: Any, rows: Any, R: Any, reads: Any) -> None:
    """Equation 2: reads [R W] = w M."""
    W, ld = memory.shape
    lo, others = rows.first, memory.dtype.type(rows.like - 1)
    reads[:] = 0
    w, M = Matrix(at(weights, lo), ld, 1), Matrix(at(memory, lo), ld, 1)
    add_dots(Matrix(at(reads, 0), W, 1), w, M, R, W, rows.count)
    if rows.like > 1:
        for h in range(R):
            for j in range(W):
                reads[h * W + j] += others * weights[h, lo] * memory[j, lo]


@device_function
def read_backward(memory: Any, weights: Any, rows: Any, R: Any, d: Any) -> None:
    """Adds to the derivatives by the memory that was read and by w: dw = dr M^T, dM = w^T dr."""
    W, ld = memory.shape
    N, lo, others = rows.count, rows.first, memory.dtype.type(rows.like - 1)
    w, M = Matrix(at(weights, lo), ld, 1), Matrix(at(memory, lo), ld, 1)
    dreads = at(d.reads, 0)
    add_product(Matrix(at(d.weights, lo), ld, 1), Matrix(dreads, W, 1), M, R, N, W)
    add_product(Matrix(at(d.memory, lo), ld, 1), Matrix(dreads, 1, W), w, W, N, R)
    if rows.like > 1:
        for h in range(R):
            for j in range(W):
                share = others * d.reads[h * W + j]
                d.weights[h, lo] += share * memory[j, lo]
                d.memory[j, lo] += share * weights[h, lo]


@device_function
def write_backward(step: Any, writer: Any, scratch: Any, d: Any) -> None:
    """``d.memory`` turns from the derivative by M_t into that by M_{t-1}."""
    memory, weights, e = step.memory, step.weights, step.interface
    dmemory, dweights, de = d.memory, d.weights, d.interface
    W, ld = memory.shape
    N, lo, hi = step.rows.count, step.rows.first, step.rows.first + step.rows.count
    H = weights.shape[0]
    Q = H - writer
    one = memory.dtype.type(1)
    a, b = H * W, (H + Q) * W
    de[a : b + Q * W] = 0

    if Q == 1:
        w, dw = weights[writer, lo:hi], dweights[writer, lo:hi]
        for j in range(W):
            old, dm, add, erase = memory[j, lo:hi], dmemory[j, lo:hi], e[a + j], e[b + j]
            dadd, derase = one - one, one - one
            for i in range(N):
                kept, gone = dm[i], dm[i] * old[i]
                dadd += w[i] * kept
                derase -= w[i] * gone
                dw[i] += add * kept - erase * gone
                dm[i] = kept - erase * w[i] * kept
            de[a + j], de[b + j] = dadd, derase
        return
    dM, first = Matrix(at(dmemory, lo), ld, 1), writer * ld + lo
    add_dots(Matrix(at(de, a), W, 1), Matrix(at(weights, first), ld, 1), dM, Q, W, N)
    add_product(Matrix(at(dweights, first), ld, 1), Matrix(at(e, a), W, 1), dM, Q, N, W)
    # Each head's factor is left out of the product in turn: those before it are kept in
    # ``keep``, those after it gathered in ``p``. Dividing instead would fail at a factor of 0.
    keep = scratch.keep
    for j in range(W):
        old, dm, p = memory[j, lo:hi], dmemory[j, lo:hi], scratch.products[j, :N]
        keep[0, :N] = one
        for q in range(Q):
            w, erase = weights[writer + q, lo:hi], e[b + q * W + j]
            before, after = keep[q, :N], keep[q + 1, :N]
            for i in range(after.shape[0]):  # of its own, or LLVM does not vectorise this
                after[i] = before[i] * (one - w[i] * erase)
        for i in range(N):
            p[i] = -dm[i] * old[i]
        for i in range(N):
            dm[i] *= keep[Q, i]
        for done in range(Q):  # from the last to the first; counted up, so that it vectorises
            q = Q - 1 - done
            w, dw = weights[writer + q, lo:hi], dweights[writer + q, lo:hi]
            share = keep[q, :N]
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
    memory, e, de, rows = step.memory, step.interface, d.interface, step.rows
    padded, dpadded, tiny = scratch.padded, scratch.dpadded, heads.tiny
    W, N, lo, hi = memory.shape[0], rows.count, rows.first, rows.first + rows.count
    inverse, dnorms = step.inverse[lo:hi], scratch.dnorms[:N]
    H, S, half = step.weights.shape[0], heads.S, heads.S // 2
    c = (H + 2 * heads.Q) * W  # where g begins
    zero, one = memory.dtype.type(0), memory.dtype.type(1)
    others = memory.dtype.type(rows.like - 1)
    for i in range(N):
        dnorms[i] = 0
    for h in range(H):
        gate, beta, gamma = e[c + h], e[c + H + h], e[c + 2 * H + h]
        s = e[c + 3 * H + h * S : c + 3 * H + (h + 1) * S]
        ds = de[c + 3 * H + h * S : c + 3 * H + (h + 1) * S]
        K, wc = step.cosine[h, lo:hi], step.content[h, lo:hi]
        logw, w = step.logs[h, lo:hi], step.weights[h, lo:hi]
        before, dw, x = step.previous[h, lo:hi], d.weights[h, lo:hi], scratch.dcosine[h, :N]

        gated = padded[half : half + N]
        for i in range(N):  # equation 7 again, for w^g, and 8, for w~
            gated[i] = before[i] + gate * (wc[i] - before[i])
        surround(padded, half, rows)
        convolve(padded, s, False, x)
        mean, total, dshifted = dot(w, dw), zero, dpadded[half : half + N]  # equation 9
        dw[0] -= others * mean  # a sum over all that are like it: so is what it takes off
        for i in range(N):
            share = w[i] * (dw[i] - mean)
            total += share * logw[i]
            dshifted[i] = gamma * share / larger(x[i], tiny) if x[i] >= tiny else zero
        de[c + 2 * H + h] = total
        for j in range(S):  # equation 8
            ds[j] = dot(dshifted, padded[S - 1 - j : S - 1 - j + N])
        convolve_backward(dpadded, s, rows, x)
        total, mean = zero, zero  # equation 7
        for i in range(N):
            total += x[i] * (wc[i] - before[i])
            mean += x[i] * wc[i]
            dw[i] = (one - gate) * x[i]
        de[c + h] = total
        x[0] -= others * mean
        mean, total = mean * gate, zero  # equation 5
        for i in range(N):
            share = wc[i] * (gate * x[i] - mean)
            total += share * K[i]
            x[i] = share * beta * inverse[i]
            dnorms[i] -= x[i] * K[i]
        de[c + H + h] = total
    content_backward(step, heads.floor, scratch, d)


@device_function
def content_backward(step: Any, floor: Any, scratch: Any, d: Any) -> None:
    """Equation 6: from the derivatives by the products k . M(i) to those by k and M.

    What goes through |M(i)| is M(i) times a number for each slot.
    """
    memory, e, de = step.memory, step.interface, d.interface
    N, lo, hi = step.rows.count, step.rows.first, step.rows.first + step.rows.count
    keys, dkeys, dnorms, inverse = scratch.keys, scratch.dkeys, scratch.dnorms, step.inverse[lo:hi]
    H, W = keys.shape
    ld = memory.shape[1]
    zero, one = memory.dtype.type(0), memory.dtype.type(1)
    for i in range(N):
        dnorms[i] = dnorms[i] * inverse[i] if inverse[i] * floor < one else zero
    for j in range(W):
        old, dm = memory[j, lo:hi], d.memory[j, lo:hi]
        for i in range(N):
            dm[i] += dnorms[i] * old[i]
    normalise(e, floor, keys)
    dcosine, M = Matrix(at(scratch.dcosine, 0), ld, 1), Matrix(at(memory, lo), ld, 1)
    add_product(Matrix(at(d.memory, lo), ld, 1), Matrix(at(keys, 0), 1, W), dcosine, W, N, H)
    dkeys[:] = 0
    add_dots(Matrix(at(dkeys, 0), W, 1), dcosine, M, H, W, N)
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
