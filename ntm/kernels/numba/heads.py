"""The memory part of one step, for one sample: equations 2-9 and their derivatives.

Memory is laid out [W, N] here, so that the inner loops run over slots and vectorise. Names as
in ``addressing.py`` and ``memory.py``, which say the same for whole batches. A leading d marks
the derivative of the loss with respect to what follows it. R read heads come before Q write
heads, H = R + Q, unless they are shared, H = R = Q; ``writer`` is the first that writes.

One row of the interface holds what the heads are told, as ``NTMCell.interface_sizes`` lays it
out, k a | e g | beta gamma | s, and behind it the derivatives of beta and gamma with respect to
what went into their softplus.
"""

# ruff: noqa: D103
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ntm.kernels.numba.jit import part
from ntm.kernels.numba.math import exp, larger, log, sigmoid, softplus, softplus_slope, tanh
from ntm.kernels.numba.products import add_dots, add_product, at


class Addressing(NamedTuple):
    """What the heads compute on the way to their weights, for every step and sample."""

    interface: Any  # [T, B, E + 2 H]
    inverse: Any  # [T, B, N]     1 / max(|M(i)|, floor)
    cosine: Any  # [T, B, H, N]  K[k, M(i)]
    content: Any  # [T, B, H, N]  w^c
    logs: Any  # [T, B, H, N]  log w~, the largest at 0


class Scratch(NamedTuple):
    """Room for one sample's work; the first index is the thread's."""

    keys: Any  # [P, H, W]
    dkeys: Any  # [P, H, W]
    padded: Any  # [P, N + 2 (S // 2)]
    dpadded: Any  # [P, N + 2 (S // 2)]
    slots: Any  # [P, N]
    heads: Any  # [P, H, N]
    memory: Any  # [P, W, N]
    keep: Any  # [P, Q + 1, N]


@part
def largest(x: Any) -> Any:
    top = x[0]
    for i in range(x.shape[0]):
        top = larger(top, x[i])
    return top


@part
def dot(x: Any, y: Any) -> Any:
    total = x.dtype.type(0)
    for i in range(x.shape[0]):
        total += x[i] * y[i]
    return total


@part
def wrap(padded: Any, half: Any, N: Any) -> None:
    """Continue x = padded[half : half + N] on both sides: padded[p] = x[(p - half) mod N]."""
    for p in range(half):
        padded[p] = padded[half + (p - half) % N]
        padded[half + N + p] = padded[half + p % N]


@part
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


@part
def activate(e: Any, H: Any, Q: Any, W: Any, S: Any) -> None:
    """The interface layer's output becomes k, a, e, g, beta, gamma, s, in place."""
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


@part
def normalise(e: Any, floor: Any, keys: Any) -> None:
    """Keys [H, W] = k / max(|k|, floor)."""
    H, W = keys.shape
    for h in range(H):
        k, unit = e[h * W : (h + 1) * W], keys[h]
        scale = e.dtype.type(1) / max(np.sqrt(dot(k, k)), floor)
        for i in range(W):
            unit[i] = k[i] * scale


@part
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


@part
def address(
    memory: Any, previous: Any, e: Any, c: Any, S: Any, floor: Any, tiny: Any,
    keys: Any, padded: Any, inverse: Any, cosine: Any, content: Any, logs: Any, weights: Any,
) -> None:  # fmt: skip
    """Equations 5-9: where every head looks. ``c`` is where g begins in the interface row."""
    W, N = memory.shape
    H, half = weights.shape[0], S // 2
    one = memory.dtype.type(1)

    normalise(e, floor, keys)
    inverse_norms(memory, floor, inverse)
    cosine[:] = 0
    add_product(one, at(cosine, 0), N, at(keys, 0), W, 1, at(memory, 0), N, H, W, N)
    for h in range(H):
        gate, beta, gamma = e[c + h], e[c + H + h], e[c + 2 * H + h]
        s = e[c + 3 * H + h * S : c + 3 * H + (h + 1) * S]
        K, wc, logw, w = cosine[h], content[h], logs[h], weights[h]

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
        before, gated = previous[h], padded[half : half + N]  # equation 7
        for i in range(N):
            wc[i] *= scale
            gated[i] = before[i] + gate * (wc[i] - before[i])
        wrap(padded, half, N)
        convolve(padded, s, False, logw)  # equation 8
        for i in range(N):  # equation 9, as softmax(gamma log w~)
            logw[i] = log(larger(logw[i], tiny))
        top, total = largest(logw), memory.dtype.type(0)
        for i in range(N):
            logw[i] -= top
            w[i] = exp(gamma * logw[i])
            total += w[i]
        scale = one / total + (doubt - doubt)
        for i in range(N):
            w[i] *= scale


@part
def write(memory: Any, weights: Any, e: Any, writer: Any, keep: Any, new: Any) -> None:
    """Equations 3 and 4: all erases, then all adds. memory [W, N] -> new [W, N]."""
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
        add_product(one, at(new, 0), N, at(adds, 0), 1, W, at(weights, writer * N), N, W, Q, N)


@part
def read(memory: Any, weights: Any, R: Any, reads: Any) -> None:
    """Equation 2: reads [R W] = w M."""
    W, N = memory.shape
    reads[:] = 0
    add_dots(memory.dtype.type(1), at(reads, 0), W, at(weights, 0), N, at(memory, 0), N, R, N, W)


@part
def read_backward(dreads: Any, memory: Any, weights: Any, dmemory: Any, dweights: Any) -> None:
    W, N = memory.shape
    R = dreads.shape[0] // W
    one = memory.dtype.type(1)
    add_product(one, at(dweights, 0), N, at(dreads, 0), W, 1, at(memory, 0), N, R, W, N)
    add_product(one, at(dmemory, 0), N, at(dreads, 0), 1, W, at(weights, 0), N, W, R, N)


@part
def write_backward(
    memory: Any, weights: Any, e: Any, writer: Any, product: Any, keep: Any,
    dmemory: Any, dweights: Any, de: Any,
) -> None:  # fmt: skip
    """``dmemory`` turns from the derivative by the new memory into that by the old one."""
    W, N = memory.shape
    H = weights.shape[0]
    Q = H - writer
    one = memory.dtype.type(1)
    a, b = H * W, (H + Q) * W
    de[a : b + Q * W] = 0
    writers, dwriters = at(weights, writer * N), at(dweights, writer * N)

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
    add_dots(one, at(de, a), W, writers, N, at(dmemory, 0), N, Q, N, W)
    add_product(one, dwriters, N, at(e, a), W, 1, at(dmemory, 0), N, Q, W, N)
    # Each head's factor is left out of the product in turn: those before it are kept in
    # ``keep``, those after it gathered in ``p``. Dividing instead would fail at a factor of 0.
    for j in range(W):
        old, dm, p = memory[j], dmemory[j], product[j]
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


@part
def address_backward(
    memory: Any, previous: Any, weights: Any, e: Any, c: Any, S: Any, floor: Any, tiny: Any,
    inverse: Any, cosine: Any, content: Any, logs: Any,
    keys: Any, dkeys: Any, padded: Any, dpadded: Any, slots: Any, dcosine: Any,
    dmemory: Any, dweights: Any, de: Any,
) -> None:  # fmt: skip
    """``dweights`` turns from the derivative by w_t into that by w_{t-1}; adds to dmemory."""
    W, N = memory.shape
    H = weights.shape[0]
    half = S // 2
    zero, one = memory.dtype.type(0), memory.dtype.type(1)
    for i in range(N):
        slots[i] = 0
    for h in range(H):
        gate, beta, gamma = e[c + h], e[c + H + h], e[c + 2 * H + h]
        s = e[c + 3 * H + h * S : c + 3 * H + (h + 1) * S]
        ds = de[c + 3 * H + h * S : c + 3 * H + (h + 1) * S]
        K, wc, logw, w = cosine[h], content[h], logs[h], weights[h]
        before, dw, d = previous[h], dweights[h], dcosine[h]

        gated = padded[half : half + N]
        for i in range(N):  # equation 7 again, for w^g, and 8, for w~
            gated[i] = before[i] + gate * (wc[i] - before[i])
        wrap(padded, half, N)
        convolve(padded, s, False, d)
        mean, total, dshifted = dot(w, dw), zero, dpadded[half : half + N]  # equation 9
        for i in range(N):
            share = w[i] * (dw[i] - mean)
            total += share * logw[i]
            dshifted[i] = gamma * share / larger(d[i], tiny) if d[i] >= tiny else zero
        de[c + 2 * H + h] = total
        wrap(dpadded, half, N)  # equation 8
        for j in range(S):
            ds[j] = dot(dshifted, padded[S - 1 - j : S - 1 - j + N])
        convolve(dpadded, s, True, d)
        total, mean = zero, zero  # equation 7
        for i in range(N):
            total += d[i] * (wc[i] - before[i])
            mean += d[i] * wc[i]
            dw[i] = (one - gate) * d[i]
        de[c + h] = total
        mean, total = mean * gate, zero  # equation 5
        for i in range(N):
            share = wc[i] * (gate * d[i] - mean)
            total += share * K[i]
            d[i] = share * beta * inverse[i]
            slots[i] -= d[i] * K[i]
        de[c + H + h] = total
    # Equation 6. What goes through |M(i)| is M(i) times a number for each slot.
    for i in range(N):
        slots[i] = slots[i] * inverse[i] if inverse[i] * floor < one else zero
    for j in range(W):
        old, dm = memory[j], dmemory[j]
        for i in range(N):
            dm[i] += slots[i] * old[i]
    normalise(e, floor, keys)
    add_product(one, at(dmemory, 0), N, at(keys, 0), 1, W, at(dcosine, 0), N, W, H, N)
    dkeys[:] = 0
    add_dots(one, at(dkeys, 0), W, at(dcosine, 0), N, at(memory, 0), N, H, N, W)
    for h in range(H):
        k, unit, dunit, dk = e[h * W : (h + 1) * W], keys[h], dkeys[h], de[h * W : (h + 1) * W]
        length = np.sqrt(dot(k, k))
        along = dot(unit, dunit) if length >= floor else zero
        length = max(length, floor)
        for i in range(W):
            dk[i] = (dunit[i] - along * unit[i]) / length


@part
def activate_backward(e: Any, H: Any, Q: Any, W: Any, S: Any, de: Any) -> None:
    """``de`` turns from derivatives by k, a, ... into those by the interface layer's output."""
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
