"""One step of all layers of a controller, for a group of samples, and its derivative."""

# ruff: noqa: D103
from __future__ import annotations

from typing import Any

from ntm.kernels.numba.jit import device_function
from ntm.kernels.numba.products import Matrix, add_dots, add_product, at
from ntm.kernels.numba.steps import (
    enter,
    enter_backward,
    leave,
    leave_backward,
    step,
    step_backward,
)


@device_function
def copy(x: Any, y: Any) -> None:
    for i in range(x.shape[0]):
        y[i] = x[i]


@device_function
def add(x: Any, y: Any) -> None:
    """Y += x."""
    for i in range(x.shape[0]):
        y[i] += x[i]


@device_function
def see_input(layers: Any, x: Any, v: Any) -> None:
    """Put x into the v of every layer that sees it."""
    for n in range(layers.shape[0]):
        start = layers[n].x_in
        if start >= 0:
            copy(x, v[start : start + x.shape[0]])


@device_function
def see_reads(layers: Any, reads: Any, v: Any) -> None:
    """Put what was read into the v of every layer that sees it."""
    for n in range(layers.shape[0]):
        start = layers[n].reads_in
        if start >= 0:
            copy(reads, v[start : start + reads.shape[0]])


@device_function
def controller_forward(p: Any, tape: Any, now: Any, after: Any, out: Any, group: Any) -> None:
    """From v and c at place ``now`` to out [B, C], and h and c at place ``after``."""
    layers = p.layers
    v, v_next, c, c_next, z = tape.v[now], tape.v[after], tape.c[now], tape.c[after], tape.z[now]
    Kv, Jz = v.shape[1], z.shape[1]
    for n in range(layers.shape[0]):
        layer = layers[n]
        J, z0, n0 = layer.J, layer.z_at, layer.units
        all_z, c0 = layer.J_all, layer.c_at
        for b in range(group.start, group.stop):
            copy(p.bias[z0 : z0 + all_z], z[b, z0 : z0 + all_z])
        add_product(
            Matrix(at(z, group.start * Jz + z0), Jz, 1),
            Matrix(at(v, group.start * Kv + layer.v_at), Kv, 1),
            Matrix(at(p.weights, layer.weight_at), J, 1),
            group.stop - group.start, J, layer.K,
        )  # fmt: skip
        if layer.level + 1 < layer.levels:
            inside = layers[n + 1].v_at
            for b in range(group.start, group.stop):
                enter(z[b, z0 : z0 + J], c[b, c0 : c0 + n0], v[b, inside : inside + 2 * n0])
            continue
        own = layer.h_in
        for b in range(group.start, group.stop):
            h = v_next[b, own : own + n0]
            step(
                layer.step, z[b, z0 : z0 + all_z], v[b, own : own + n0],
                c[b, c0 : c0 + n0], c_next[b, c0 : c0 + n0], h,
            )  # fmt: skip
            for k in range(1, layer.levels):
                around, c1 = layers[n - k].z_at, layers[n - k].c_at
                leave(z[b, around : around + J], c_next[b, c1 : c1 + n0], h)
            if layer.out_at >= 0:
                copy(h, out[b, layer.out_at : layer.out_at + n0])
            if n + 1 < layers.shape[0]:
                above = layers[n + 1].below_in
                copy(h, v[b, above : above + n0])


@device_function
def controller_backward(
    p: Any, tape: Any, t: Any, adjoint: Any, gradients: Any, group: Any
) -> None:
    """From the derivatives by h_t (in ``adjoint.h``) to those by x, h_{t-1} and the reads."""
    layers = p.layers
    dz, dv = gradients.z[t], adjoint.v
    Kv, Jz = dv.shape[1], dz.shape[1]
    for done in range(layers.shape[0]):
        n = layers.shape[0] - 1 - done
        layer = layers[n]
        K, J, v0 = layer.K, layer.J, layer.v_at
        for b in range(group.start, group.stop):
            layer_backward(layers, n, tape, t, adjoint, dz, b)
            dv[b, v0 : v0 + K] = 0
        add_dots(
            Matrix(at(dv, group.start * Kv + v0), Kv, 1),
            Matrix(at(dz, group.start * Jz + layer.z_at), Jz, 1),
            Matrix(at(p.weights, layer.weight_at), J, 1),
            group.stop - group.start, K, J,
        )  # fmt: skip
        for b in range(group.start, group.stop):
            pass_on(layers, n, dv[b], adjoint, gradients.xs[t, b], b)


@device_function
def layer_backward(layers: Any, n: Any, tape: Any, t: Any, adjoint: Any, dz: Any, b: Any) -> None:
    """The step of layer n, for one sample: from dh and dc to dz and dc."""
    v, c, c_next, z = tape.v[t], tape.c[t], tape.c[t + 1], tape.z[t]
    layer = layers[n]
    J, z0, n0, all_z, c0 = layer.J, layer.z_at, layer.units, layer.J_all, layer.c_at
    own = layer.h_in
    dh, dc = adjoint.h[b, layer.h_at : layer.h_at + n0], adjoint.c[b, c0 : c0 + n0]
    if layer.level + 1 < layer.levels:
        inside = layers[n + 1].v_at
        enter_backward(
            z[b, z0 : z0 + J], c[b, c0 : c0 + n0],
            adjoint.v[b, inside : inside + 2 * n0], dc, dz[b, z0 : z0 + J],
        )  # fmt: skip
        return
    for k in range(layer.levels - 1, 0, -1):
        around, c1 = layers[n - k].z_at, layers[n - k].c_at
        leave_backward(
            z[b, around : around + J], c_next[b, c1 : c1 + n0], dh,
            adjoint.c[b, c1 : c1 + n0], dz[b, around : around + J],
        )  # fmt: skip
    step_backward(
        layer.step, z[b, z0 : z0 + all_z], v[b, own : own + n0],
        c[b, c0 : c0 + n0], c_next[b, c0 : c0 + n0], dh, dc, dz[b, z0 : z0 + all_z],
    )  # fmt: skip


@device_function
def pass_on(layers: Any, n: Any, dv: Any, adjoint: Any, dx: Any, b: Any) -> None:
    """Adds the derivatives by what layer n saw to those by where it came from."""
    layer = layers[n]
    if layer.x_in >= 0:
        add(dv[layer.x_in : layer.x_in + dx.shape[0]], dx)
    if layer.reads_in >= 0:
        dreads = adjoint.reads[b]
        add(dv[layer.reads_in : layer.reads_in + dreads.shape[0]], dreads)
    if layer.below_in >= 0:
        start, size = layers[n - 1].h_at, layer.below
        add(dv[layer.below_in : layer.below_in + size], adjoint.h[b, start : start + size])
    if layer.recurrent:
        start, size = layer.h_at, layer.units
        add(dv[layer.h_in : layer.h_in + size], adjoint.h[b, start : start + size])
