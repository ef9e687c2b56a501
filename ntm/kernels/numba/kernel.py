"""A whole sequence forward, and a whole sequence backward, for some samples of a batch.

Samples are worked on in groups, so that each weight is fetched once for several of them; the
samples of one call are one thread's. A controller alone is a model with zero heads. All records,
``p`` for the :class:`Parameters`, are in ``records.py``.
"""

from __future__ import annotations

from typing import Any

from ntm.kernels.numba.alike import extend, gather, rows_at
from ntm.kernels.numba.controllers import (
    add,
    controller_backward,
    controller_forward,
    copy,
    see_input,
    see_reads,
)
from ntm.kernels.numba.heads import (
    activate,
    activate_backward,
    address,
    address_backward,
    read,
    read_backward,
    write,
    write_backward,
)
from ntm.kernels.numba.jit import device_function, inlined, kernel
from ntm.kernels.numba.products import Matrix, add_dots, add_product, at
from ntm.kernels.numba.records import (
    Access,
    AccessAdjoint,
    Adjoint,
    Gradients,
    HeadSizes,
    Parameters,
    Scratch,
    Share,
    Slots,
    Tape,
)

#: Samples that share one pass over the weights.
GROUP = 8

#: One memory in so many is kept for the backward pass, which writes the others again: writing
#: takes a third of the time that it takes to store a memory and to fetch it back.
EVERY = 4

#: Rows of a weight gradient's operands that are taken together: so few that the columns of v that
#: a tile needs stay in the first cache (on AVX2 a third faster than 512).
STRIP = 128


@inlined
def memory_at(tape: Any, t: Any, b: Any, group: Any) -> Any:
    """Where M_t [W, N] of sample b of a group is kept."""
    if t % EVERY == 0:
        return tape.memory[(t // EVERY) & (tape.mask >> 1), b]
    return tape.recent[group.thread, t % EVERY, b - group.start]


@inlined
def access_at(tape: Any, slots: Any, kept: Any, t: Any, b: Any, group: Any, last: Any) -> Any:
    """What step t of sample b of a group has on the tape; ``last``: of the last step, M_T.

    slots, kept: where they lie for this pass, and for what it leaves.
    """
    now, after = t & tape.mask, (t + 1) & tape.mask
    memory = memory_at(tape, t, b, group)
    new = tape.last[b] if last else memory_at(tape, t + 1, b, group)
    return Access(
        rows_at(slots, t + 1), rows_at(kept, t + 2), memory, new,
        tape.weights[now, b], tape.weights[after, b], tape.interface[now, b],
        tape.inverse[now, b], tape.cosine[now, b], tape.content[now, b], tape.logs[now, b],
    )  # fmt: skip


@inlined
def scratch_of(scratch: Any, thread: Any) -> Any:
    """A thread's part of it."""
    return Scratch(
        scratch.keys[thread], scratch.dkeys[thread], scratch.padded[thread],
        scratch.dpadded[thread], scratch.dnorms[thread], scratch.dcosine[thread],
        scratch.products[thread], scratch.keep[thread],
    )  # fmt: skip


@kernel
def forward(
    p: Any, heads: Any, slots: Any, kept: Any, xs: Any, tape: Any, outputs: Any, scratch: Any,
    share: Any,
) -> None:  # fmt: skip
    """Outputs [T, B, C + R W], and on the tape what the backward pass needs."""
    p, heads, tape = Parameters(*p), HeadSizes(*heads), Tape(*tape)
    slots, kept = Slots(*slots), Slots(*kept)
    scratch, share = Scratch(*scratch), Share(*share)
    T = xs.shape[0]
    for g0 in range(share.start, share.stop, GROUP):
        group = Share(g0, min(g0 + GROUP, share.stop), share.thread)
        for t in range(T):
            now, after = t & tape.mask, (t + 1) & tape.mask
            for b in range(group.start, group.stop):
                see_input(p.layers, xs[t, b], tape.v[now, b])
            controller_forward(p, tape, now, after, outputs[t], group)
            if heads.H:
                emit(p, tape.interface[now], outputs[t], group)
                for b in range(group.start, group.stop):
                    reads = outputs[t, b, p.interface.shape[1] :]
                    step = access_at(tape, slots, kept, t, b, group, t + 1 == T)
                    use_heads(step, heads, scratch_of(scratch, group.thread), reads)
                    if kept.least > slots.least:
                        keep(step)
                    see_reads(p.layers, reads, tape.v[after, b])


@device_function
def emit(p: Any, interface: Any, out: Any, group: Any) -> None:
    """The linear layer that tells the heads what to do: [B, C] -> [B, E]."""
    E, C = p.interface.shape
    for b in range(group.start, group.stop):
        copy(p.interface_bias, interface[b])
    add_dots(
        Matrix(at(interface, group.start * interface.shape[1]), interface.shape[1], 1),
        Matrix(at(out, group.start * out.shape[1]), out.shape[1], 1),
        Matrix(at(p.interface, 0), C, 1),
        group.stop - group.start, E, C,
    )  # fmt: skip


@device_function
def use_heads(step: Any, heads: Any, scratch: Any, reads: Any) -> None:
    """Address, write, read."""
    activate(step.interface, heads)
    address(step, heads, scratch)
    write(step, heads.writer)
    seen = step.memory if heads.reads_before else step.new
    read(seen, step.weights, step.rows, heads.R, reads)


@device_function
def keep(step: Any) -> None:
    """What else a step leaves, for all columns of the backward pass."""
    extend(step.cosine, step.rows, step.wider)
    extend(step.content, step.rows, step.wider)
    extend(step.logs, step.rows, step.wider)
    lo, hi = step.rows.first, step.rows.first + step.rows.count
    step.inverse[step.wider.first : lo] = step.inverse[lo]
    step.inverse[hi : step.wider.first + step.wider.count] = step.inverse[lo]


@kernel
def backward(
    p: Any, heads: Any, slots: Any, tape: Any, doutputs: Any, adjoint: Any, gradients: Any,
    scratch: Any, share: Any,
) -> None:  # fmt: skip
    """Derivatives by what happened at every step and, through ``adjoint``, by the first state."""
    p, heads, slots, tape = Parameters(*p), HeadSizes(*heads), Slots(*slots), Tape(*tape)
    share = Share(*share)
    adjoint, gradients, scratch = Adjoint(*adjoint), Gradients(*gradients), Scratch(*scratch)
    T, layers = doutputs.shape[0], p.layers
    for g0 in range(share.start, share.stop, GROUP):
        group = Share(g0, min(g0 + GROUP, share.stop), share.thread)
        for done in range(T):
            t = T - 1 - done
            for b in range(group.start, group.stop):
                if heads.H:
                    if done == 0 or (t + 1) % EVERY == 0:
                        write_again(tape, slots, heads.writer, t, b, group)
                    d = AccessAdjoint(
                        adjoint.reads[b], adjoint.memory[b], adjoint.weights[b],
                        gradients.interface[t, b],
                    )  # fmt: skip
                    add(doutputs[t, b, p.interface.shape[1] :], d.reads)
                    step = access_at(tape, slots, slots, t, b, group, done == 0)
                    use_heads_backward(step, heads, scratch_of(scratch, group.thread), d)
                    gather(d.memory, rows_at(slots, t), step.rows)
                    gather(d.weights, rows_at(slots, t), step.rows)
                copy(doutputs[t, b, : adjoint.output.shape[1]], adjoint.output[b])
                gradients.xs[t, b, :] = 0
            if heads.H:
                emit_backward(p, gradients.interface[t], adjoint.output, group)
            for b in range(group.start, group.stop):
                for n in range(layers.shape[0]):
                    start, units, place = layers[n].out_at, layers[n].units, layers[n].h_at
                    if start >= 0:
                        dout = adjoint.output[b, start : start + units]
                        add(dout, adjoint.h[b, place : place + units])
            controller_backward(p, tape, t, adjoint, gradients, group)


@inlined
def write_again(tape: Any, slots: Any, writer: Any, t: Any, b: Any, group: Any) -> None:
    """The memories of sample b between the last one that was kept and M_t."""
    for u in range(t - t % EVERY, t):
        write(access_at(tape, slots, slots, u, b, group, False), writer)


@inlined
def use_heads_backward(step: Any, heads: Any, scratch: Any, d: Any) -> None:
    """From the derivatives by r_t, M_t and w_t to those by the interface, M_{t-1} and w_{t-1}."""
    # What was done last comes first. (A loop, so that each is compiled once.)
    for turn in range(2):
        if turn == heads.reads_before:
            seen = step.memory if heads.reads_before else step.new
            read_backward(seen, step.weights, step.rows, heads.R, d)
        if turn == 0:
            write_backward(step, heads.writer, scratch, d)
    lo, hi = step.rows.first, step.rows.first + step.rows.count
    for h in range(heads.H):
        clip(d.weights[h, lo : lo + 1], heads.weighting_grad * step.rows.like)  # a sum of so many
        clip(d.weights[h, lo + 1 : hi], heads.weighting_grad)
    address_backward(step, heads, scratch, d)
    activate_backward(step.interface, heads, d.interface)
    d.reads[:] = 0


@device_function
def emit_backward(p: Any, dinterface: Any, dout: Any, group: Any) -> None:
    """Adds to the derivatives by the controller's output, [B, C]."""
    E, C = p.interface.shape
    add_product(
        Matrix(at(dout, group.start * C), C, 1),
        Matrix(at(dinterface, group.start * E), E, 1),
        Matrix(at(p.interface, 0), C, 1),
        group.stop - group.start, C, E,
    )  # fmt: skip


@device_function
def clip(x: Any, limit: Any) -> None:
    """To (-limit, limit); what is no number stays none."""
    for i in range(x.shape[0]):
        low = -limit if x[i] < -limit else x[i]
        x[i] = limit if low > limit else low


@kernel
def gradient(dz: Any, z0: Any, v: Any, v0: Any, dW: Any, db: Any, share: Any) -> None:
    """Rows ``share`` of dW [J, K] += dz^T v and db [J] += dz^T 1, over n steps and samples.

    dz [n, .] holds its J columns from z0 on, v [n, .] its K from v0 on.
    """
    share = Share(*share)
    n, K, rows = dz.shape[0], dW.shape[1], share.stop - share.start
    first = z0 + share.start
    for i in range(n):
        add(dz[i, first : first + rows], db[share.start : share.stop])
    for i in range(0, n, STRIP):  # a strip of v stays in cache while all of dW passes by
        add_product(
            Matrix(at(dW, share.start * K), K, 1),
            Matrix(at(dz, i * dz.shape[1] + first), 1, dz.shape[1]),
            Matrix(at(v, i * v.shape[1] + v0), v.shape[1], 1),
            rows, K, min(n - i, STRIP),
        )  # fmt: skip


@kernel
def transpose(W: Any, transposed: Any) -> None:
    """W [J, K] -> [K, J], in strips that stay in cache: twice as fast as torch here."""
    J, K = W.shape
    whole = J - J % 16
    for first in range(0, whole, 16):
        for k in range(K):
            row = transposed[k, first : first + 16]
            for i in range(16):
                row[i] = W[first + i, k]
    for k in range(K):
        for j in range(whole, J):
            transposed[k, j] = W[j, k]
