"""A whole sequence forward, and a whole sequence backward, for some samples of a batch.

Samples are worked on in groups, so that each weight is fetched once for several of them; the
samples b0 ... b1 of one call are one thread's. Arrays over time have T + 1 places where they
hold states and T where they hold what happens between them. A mask of -1 keeps them all; with
a mask of 1 there are two places in turn, and no history. Of the memory, by far the largest, only
one in ``EVERY`` is kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ntm.kernels.numba.heads import (
    Addressing,
    Scratch,
    activate,
    activate_backward,
    address,
    address_backward,
    read,
    read_backward,
    write,
    write_backward,
)
from ntm.kernels.numba.jit import inlined, kernel, part
from ntm.kernels.numba.products import add_dots, add_product, at
from ntm.kernels.numba.steps import (
    enter,
    enter_backward,
    leave,
    leave_backward,
    step,
    step_backward,
)

#: Samples that share one pass over the weights.
GROUP = 8

#: One memory in so many is kept for the backward pass, which writes the others again: writing
#: takes a third of the time that it takes to store a memory and to fetch it back.
EVERY = 4

#: Rows of a weight gradient's operands that are taken together: so few that the columns of v that
#: a tile needs stay in the first cache (on AVX2 a third faster than 512).
STRIP = 128

#: The columns of ``Machine.layers``, which has a row for every product: one a layer, but for a
#: nested LSTM, which has one for every depth. Places are -1 where there is no such part.
KIND, UNITS, V_SIZE, Z_SIZE = 0, 1, 2, 3  # number of the step; n, K, J of controllers.py
V, Z, WEIGHT, H_AT, C_AT = 4, 5, 6, 7, 8  # where its part begins in v, z, weights, h, c
IN_X, IN_READS, IN_BELOW, IN_H = 9, 10, 11, 12  # where each source begins in its v
OUT, BELOW = 13, 14  # where it begins in the output; units of the layer below
Z_ALL, OWN = 15, 16  # J and the vectors behind it; where h_{t-1} of the layer begins in all of v
LEVEL, LEVELS = 17, 18  # which of how many products, from the outermost inwards
COLUMNS = 19


class Machine(NamedTuple):
    """Sizes and parameters. J, K, n are summed over the layers."""

    layers: Any  # [L, COLUMNS] int64, L products
    weights: Any  # every layer's W^T [K, J], end to end
    bias: Any  # [J]
    interface: Any  # [E, C]
    interface_bias: Any  # [E]


class States(NamedTuple):
    """What is carried from step to step."""

    v: Any  # [T + 1, B, K]  every layer's v; holds the reads and h
    c: Any  # [T + 1, B, n]  of the layers that have one
    memory: Any  # [T // EVERY + 1, B, W, N]  M_0, M_EVERY, ...
    recent: Any  # [P, EVERY, GROUP, W, N]  those between, of the group at work; P threads
    last: Any  # [B, W, N]  M_T
    weights: Any  # [T + 1, B, H, N]


class Adjoint(NamedTuple):
    """Derivatives of the loss by the state, carried back from step to step."""

    reads: Any  # [B, R W]
    h: Any  # [B, n]  of every layer
    c: Any  # [B, n]
    memory: Any  # [B, W, N]
    weights: Any  # [B, H, N]
    v: Any  # [B, K]  work space
    output: Any  # [B, C]  work space


@kernel
def transpose(W: Any, turned: Any) -> None:
    """W [J, K] -> turned [K, J], in strips that stay in cache: twice as fast as torch here."""
    J, K = W.shape
    whole = J - J % 16
    for first in range(0, whole, 16):
        for k in range(K):
            row = turned[k, first : first + 16]
            for i in range(16):
                row[i] = W[first + i, k]
    for k in range(K):
        for j in range(whole, J):
            turned[k, j] = W[j, k]


@part
def controllers_forward(
    machine: Any, v: Any, v_next: Any, c: Any, c_next: Any, z: Any, out: Any, g0: Any, g1: Any
) -> None:
    """All layers of the controller, for one step of the samples g0 ... g1."""
    one = z.dtype.type(1)
    layers = machine.layers
    Kv, Jz = v.shape[1], z.shape[1]
    for n in range(layers.shape[0]):
        layer = layers[n]
        K, J, z0, n0 = layer[V_SIZE], layer[Z_SIZE], layer[Z], layer[UNITS]
        all_z, c0 = layer[Z_ALL], max(layer[C_AT], 0)
        for b in range(g0, g1):
            row, bias = z[b, z0 : z0 + all_z], machine.bias[z0 : z0 + all_z]
            for j in range(all_z):
                row[j] = bias[j]
        add_product(
            one, at(z, g0 * Jz + z0), Jz, at(v, g0 * Kv + layer[V]), Kv, 1,
            at(machine.weights, layer[WEIGHT]), J, g1 - g0, K, J,
        )  # fmt: skip
        if layer[LEVEL] + 1 < layer[LEVELS]:
            inside = layers[n + 1, V]
            for b in range(g0, g1):
                enter(z[b, z0 : z0 + J], c[b, c0 : c0 + n0], v[b, inside : inside + 2 * n0])
            continue
        for b in range(g0, g1):
            # A layer that does not see its own h is written to the work space behind all v.
            own = layer[OWN] if layer[OWN] >= 0 else Kv - n0
            h = v_next[b, own : own + n0]
            step(
                layer[KIND], z[b, z0 : z0 + all_z], v[b, own : own + n0],
                c[b, c0 : c0 + n0], c_next[b, c0 : c0 + n0], h,
            )  # fmt: skip
            for k in range(1, layer[LEVELS]):
                around, c1 = layers[n - k, Z], layers[n - k, C_AT]
                leave(z[b, around : around + J], c_next[b, c1 : c1 + n0], h)
            if layer[OUT] >= 0:
                target = out[b, layer[OUT] : layer[OUT] + n0]
                for i in range(n0):
                    target[i] = h[i]
            if n + 1 < layers.shape[0]:
                above = layers[n + 1, V] + layers[n + 1, IN_BELOW]
                target = v[b, above : above + n0]
                for i in range(n0):
                    target[i] = h[i]


@inlined
def memory_at(states: Any, t: Any, mask: Any, thread: Any, b: Any, g0: Any) -> Any:
    """Where M_t [W, N] of sample b, in the group that begins with g0, is kept."""
    if t % EVERY == 0:
        return states.memory[(t // EVERY) & mask, b]
    return states.recent[thread, t % EVERY, b - g0]


@part
def see(layers: Any, column: Any, values: Any, v: Any) -> None:
    """Put x, or the reads, into the v of every layer that sees them."""
    for n in range(layers.shape[0]):
        if layers[n, column] >= 0:
            start = layers[n, V] + layers[n, column]
            target = v[start : start + values.shape[0]]
            for i in range(values.shape[0]):
                target[i] = values[i]


@kernel
def forward(
    machine: Any, xs: Any, states: Any, z: Any, steps: Any, outputs: Any, scratch: Any,
    R: Any, writer: Any, before: Any, S: Any, floor: Any, tiny: Any, mask: Any,
    b0: Any, b1: Any, thread: Any,
) -> None:  # fmt: skip
    """Outputs [T, B, C + R W], and in ``states`` and ``steps`` what the backward pass needs."""
    T, C = xs.shape[0], machine.interface.shape[1]
    E, row = machine.interface_bias.shape[0], steps.interface.shape[2]
    H, W = states.weights.shape[2], states.memory.shape[2]
    Q = H - writer
    first_gate = (H + 2 * Q) * W
    one = xs.dtype.type(1)
    for g0 in range(b0, b1, GROUP):
        g1 = min(g0 + GROUP, b1)
        for t in range(T):
            now, after = t & mask, (t + 1) & mask
            v, v_next, out = states.v[now], states.v[after], outputs[t]
            for b in range(g0, g1):
                see(machine.layers, IN_X, xs[t, b], v[b])
            controllers_forward(
                machine, v, v_next, states.c[now], states.c[after], z[now], out, g0, g1
            )
            interface = steps.interface[now]
            for b in range(g0, g1):
                e = interface[b, :E]
                for i in range(E):
                    e[i] = machine.interface_bias[i]
            add_dots(
                one, at(interface, g0 * row), row, at(out, g0 * (C + R * W)), C + R * W,
                at(machine.interface, 0), C, g1 - g0, C, E,
            )  # fmt: skip
            for b in range(g0, g1):
                e, weights = interface[b], states.weights[after, b]
                memory = memory_at(states, t, mask >> 1, thread, b, g0)
                new = memory_at(states, t + 1, mask >> 1, thread, b, g0)
                reads = out[b, C:]
                activate(e, H, Q, W, S)
                address(
                    memory, states.weights[now, b], e, first_gate, S, floor, tiny,
                    scratch.keys[thread], scratch.padded[thread], steps.inverse[now, b],
                    steps.cosine[now, b], steps.content[now, b], steps.logs[now, b], weights,
                )  # fmt: skip
                write(memory, weights, e, writer, scratch.keep[thread], new)
                read(memory if before else new, weights, R, reads)
                see(machine.layers, IN_READS, reads, v_next[b])
        for b in range(g0, g1):
            memory, last = memory_at(states, T, mask >> 1, thread, b, g0), states.last[b]
            for j in range(W):
                for i in range(memory.shape[1]):
                    last[j, i] = memory[j, i]


@part
def controllers_backward(
    machine: Any, v: Any, c: Any, c_next: Any, z: Any, dz: Any, adjoint: Any, dx: Any,
    g0: Any, g1: Any,
) -> None:  # fmt: skip
    """From the derivatives by h_t (in ``adjoint.h``) to those by x, h_{t-1} and the reads."""
    one = z.dtype.type(1)
    layers = machine.layers
    Kv, Jz, inputs = v.shape[1], z.shape[1], dx.shape[1]
    for done in range(layers.shape[0]):
        n = layers.shape[0] - 1 - done
        layer = layers[n]
        K, J, z0, v0, n0 = layer[V_SIZE], layer[Z_SIZE], layer[Z], layer[V], layer[UNITS]
        all_z, c0 = layer[Z_ALL], max(layer[C_AT], 0)
        own = layer[OWN] if layer[OWN] >= 0 else Kv - n0
        for b in range(g0, g1):
            dh, dc = adjoint.h[b, layer[H_AT] : layer[H_AT] + n0], adjoint.c[b, c0 : c0 + n0]
            if layer[LEVEL] + 1 < layer[LEVELS]:
                inside = layers[n + 1, V]
                enter_backward(
                    z[b, z0 : z0 + J], c[b, c0 : c0 + n0],
                    adjoint.v[b, inside : inside + 2 * n0], dc, dz[b, z0 : z0 + J],
                )  # fmt: skip
            else:
                for k in range(layer[LEVELS] - 1, 0, -1):
                    around, c1 = layers[n - k, Z], layers[n - k, C_AT]
                    leave_backward(
                        z[b, around : around + J], c_next[b, c1 : c1 + n0], dh,
                        adjoint.c[b, c1 : c1 + n0], dz[b, around : around + J],
                    )  # fmt: skip
                step_backward(
                    layer[KIND], z[b, z0 : z0 + all_z], v[b, own : own + n0],
                    c[b, c0 : c0 + n0], c_next[b, c0 : c0 + n0], dh, dc, dz[b, z0 : z0 + all_z],
                )  # fmt: skip
            adjoint.v[b, v0 : v0 + K] = 0
        add_dots(
            one, at(adjoint.v, g0 * Kv + v0), Kv, at(dz, g0 * Jz + z0), Jz,
            at(machine.weights, layer[WEIGHT]), J, g1 - g0, J, K,
        )  # fmt: skip
        for b in range(g0, g1):
            dv = adjoint.v[b, v0 : v0 + K]
            if layer[IN_X] >= 0:
                add(dv[layer[IN_X] : layer[IN_X] + inputs], dx[b])
            if layer[IN_READS] >= 0:
                add(
                    dv[layer[IN_READS] : layer[IN_READS] + adjoint.reads.shape[1]], adjoint.reads[b]
                )
            if layer[IN_BELOW] >= 0:
                start = layers[n - 1, H_AT]
                below = adjoint.h[b, start : start + layer[BELOW]]
                add(dv[layer[IN_BELOW] : layer[IN_BELOW] + layer[BELOW]], below)
            if layer[IN_H] >= 0:
                add(dv[layer[IN_H] :], adjoint.h[b, layer[H_AT] : layer[H_AT] + n0])


@part
def clip(x: Any, limit: Any) -> None:
    """To (-limit, limit); what is no number stays none."""
    for i in range(x.shape[0]):
        low = -limit if x[i] < -limit else x[i]
        x[i] = limit if low > limit else low


@part
def add(x: Any, y: Any) -> None:
    for i in range(x.shape[0]):
        y[i] += x[i]


@kernel
def backward(
    machine: Any, states: Any, z: Any, steps: Any, doutputs: Any, adjoint: Any,
    dxs: Any, dz: Any, dinterface: Any, scratch: Any,
    R: Any, writer: Any, before: Any, S: Any, floor: Any, tiny: Any, limit: Any,
    b0: Any, b1: Any, thread: Any,
) -> None:  # fmt: skip
    """Derivatives by xs, by z and by the interface, and through ``adjoint`` by the state.

    Those by the weights are clipped to (-limit, limit) at every step.
    """
    T, C = doutputs.shape[0], machine.interface.shape[1]
    E = machine.interface_bias.shape[0]
    H, W = states.weights.shape[2], states.memory.shape[2]
    Q = H - writer
    first_gate = (H + 2 * Q) * W
    layers = machine.layers
    one = z.dtype.type(1)
    for g0 in range(b0, b1, GROUP):
        g1 = min(g0 + GROUP, b1)
        for done in range(T):
            t = T - 1 - done
            for b in range(g0, g1):
                dreads, dweights, dmemory = (
                    adjoint.reads[b], adjoint.weights[b], adjoint.memory[b],
                )  # fmt: skip
                e, de = steps.interface[t, b], dinterface[t, b]
                if done == 0 or (t + 1) % EVERY == 0:
                    for u in range(t - t % EVERY, t):
                        write(
                            memory_at(states, u, -1, thread, b, g0), states.weights[u + 1, b],
                            steps.interface[u, b], writer, scratch.keep[thread],
                            memory_at(states, u + 1, -1, thread, b, g0),
                        )  # fmt: skip
                memory = memory_at(states, t, -1, thread, b, g0)
                new = states.last[b] if done == 0 else memory_at(states, t + 1, -1, thread, b, g0)
                weights = states.weights[t + 1, b]
                add(doutputs[t, b, C:], dreads)
                # What was done last comes first. (A loop, so that each is compiled once.)
                for turn in range(2):
                    if turn == before:
                        seen = memory if before else new
                        read_backward(dreads, seen, weights, dmemory, dweights)
                    if turn == 0:
                        write_backward(
                            memory, weights, e, writer, scratch.memory[thread],
                            scratch.keep[thread], dmemory, dweights, de,
                        )  # fmt: skip
                for h in range(H):
                    clip(dweights[h], limit)
                address_backward(
                    memory, states.weights[t, b], weights, e, first_gate, S, floor, tiny,
                    steps.inverse[t, b], steps.cosine[t, b], steps.content[t, b],
                    steps.logs[t, b], scratch.keys[thread], scratch.dkeys[thread],
                    scratch.padded[thread], scratch.dpadded[thread], scratch.slots[thread],
                    scratch.heads[thread], dmemory, dweights, de,
                )  # fmt: skip
                activate_backward(e, H, Q, W, S, de)
                dreads[:] = 0
                dout, source = adjoint.output[b], doutputs[t, b]
                for i in range(C):
                    dout[i] = source[i]
                dxs[t, b, :] = 0
            add_product(
                one, at(adjoint.output, g0 * C), C, at(dinterface, (t * z.shape[1] + g0) * E), E,
                1, at(machine.interface, 0), C, g1 - g0, E, C,
            )  # fmt: skip
            for b in range(g0, g1):
                for n in range(layers.shape[0]):
                    start, units, place = layers[n, OUT], layers[n, UNITS], layers[n, H_AT]
                    if start >= 0:
                        add(
                            adjoint.output[b, start : start + units],
                            adjoint.h[b, place : place + units],
                        )
            controllers_backward(
                machine, states.v[t], states.c[t], states.c[t + 1], z[t], dz[t], adjoint,
                dxs[t], g0, g1,
            )  # fmt: skip


@kernel
def forward_alone(
    machine: Any, xs: Any, v: Any, c: Any, z: Any, outputs: Any, mask: Any,
    b0: Any, b1: Any, thread: Any,
) -> None:  # fmt: skip
    """A controller without a memory: outputs [T, B, C], and in v, c and z what led to them."""
    for g0 in range(b0, b1, GROUP):
        g1 = min(g0 + GROUP, b1)
        for t in range(xs.shape[0]):
            now, after = t & mask, (t + 1) & mask
            for b in range(g0, g1):
                see(machine.layers, IN_X, xs[t, b], v[now, b])
            controllers_forward(
                machine, v[now], v[after], c[now], c[after], z[now], outputs[t], g0, g1
            )


@kernel
def backward_alone(
    machine: Any, v: Any, c: Any, z: Any, doutputs: Any, adjoint: Any, dxs: Any, dz: Any,
    b0: Any, b1: Any, thread: Any,
) -> None:  # fmt: skip
    """Derivatives by xs and z, and through ``adjoint`` by the state."""
    layers = machine.layers
    T = doutputs.shape[0]
    for g0 in range(b0, b1, GROUP):
        g1 = min(g0 + GROUP, b1)
        for done in range(T):
            t = T - 1 - done
            for b in range(g0, g1):
                dxs[t, b, :] = 0
                for n in range(layers.shape[0]):
                    start, units, place = layers[n, OUT], layers[n, UNITS], layers[n, H_AT]
                    if start >= 0:
                        add(
                            doutputs[t, b, start : start + units],
                            adjoint.h[b, place : place + units],
                        )
            controllers_backward(
                machine, v[t], c[t], c[t + 1], z[t], dz[t], adjoint, dxs[t], g0, g1
            )


@kernel
def gradient(dz: Any, z0: Any, v: Any, v0: Any, dW: Any, db: Any, j0: Any, j1: Any, _: Any) -> None:
    """Rows j0 ... j1 of dW [J, K] += dz^T v and db [J] += dz^T 1, over n steps and samples.

    dz [n, .] holds its J columns from z0 on, v [n, .] its K from v0 on.
    """
    n, K = dz.shape[0], dW.shape[1]
    one = dW.dtype.type(1)
    for i in range(n):
        row, target = dz[i, z0 + j0 : z0 + j1], db[j0:j1]
        for j in range(j1 - j0):
            target[j] += row[j]
    for i in range(0, n, STRIP):  # a strip of v stays in cache while all of dW passes by
        add_product(
            one, at(dW, j0 * K), K, at(dz, i * dz.shape[1] + z0 + j0), 1, dz.shape[1],
            at(v, i * v.shape[1] + v0), v.shape[1], j1 - j0, min(n - i, STRIP), K,
        )  # fmt: skip


__all__ = [
    "Addressing",
    "Adjoint",
    "Machine",
    "Scratch",
    "States",
    "backward",
    "backward_alone",
    "forward",
    "forward_alone",
]
