"""A core's parameters as the kernels want them, and the parameters' gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ntm.kernels.kinds import Array
from ntm.kernels.layout import Layout
from ntm.kernels.numba import kernel
from ntm.kernels.numba.records import Gradients, Parameters
from ntm.kernels.numba.threads import run, shares
from ntm.kernels.numba.workspace import in_one_block

#: Multiplications below which another thread would be longer in coming than it would help.
WORTH_A_THREAD = 8e6


def pack(
    layout: Layout, parameters: Sequence[Array], dtype: Any, packed: Array | None = None
) -> Parameters:
    """All matrices transposed, W^T [K, J], end to end, and all that is added.

    parameters: as :meth:`Layout.parameters`. packed: the matrices of an earlier call, which take
    those of this one; what is not trained is not transposed again.
    """
    fresh = packed is None
    if packed is None:  # from the beginning of a cache line: a tenth of a controller's time
        _, (packed,) = in_one_block([(layout.places.weights_size,)], np.dtype(dtype))
    biases = []
    for kind, records, own in layout.by_layer(parameters):
        for record, (W, b) in zip(records, kind.pack(own), strict=True):
            J, K = W.shape
            if fresh or own:
                at = record.weight_at
                kernel.transpose(W, packed[at : at + J * K].reshape(K, J))
            biases.append(b)
    bias = biases[0] if len(biases) == 1 else np.concatenate(biases)
    if layout.cell is not None:
        return Parameters(layout.places.table, packed, bias, *parameters[:2])
    none = np.empty(0, dtype)
    return Parameters(layout.places.table, packed, bias, none.reshape(0, 0), none)


def add_gradients(
    layout: Layout, gradients: Gradients, v: Array, outputs: Array, sinks: Sequence[Array],
    threads: int,
) -> None:  # fmt: skip
    """Adds the parameters' gradients, each from one product over all steps and samples.

    Of T steps: the derivatives; v [T, B, K], what the layers' matrices were multiplied with; and
    outputs [T, B, C + R W], what the interface was. sinks: as :meth:`Layout.parameters`.
    """
    z, v = rows(gradients.z), rows(v)
    if layout.cell is not None:
        add_gradient(rows(gradients.interface), 0, rows(outputs), 0, sinks[:2], threads)
    for kind, records, own in layout.by_layer(sinks):
        if not own:
            continue  # nothing to learn
        if kind.unpack is None:
            products = kind.pack(own)
        else:
            products = [
                (np.zeros((r.J, r.K), z.dtype), np.zeros(r.J_all, z.dtype)) for r in records
            ]
        for record, product in zip(records, products, strict=True):
            add_gradient(z, record.z_at, v, record.v_at, product, threads)
        if kind.unpack is not None:
            for sink, found in zip(own, kind.unpack(products), strict=True):
                sink += found


def add_gradient(
    z: Array, z0: int, v: Array, v0: int, sinks: Sequence[Array], threads: int = 1
) -> None:
    """Adds to sinks dW and db: dW [J, K] += z^T v and db [J] += z^T 1, over n steps and samples.

    z [n, .] holds its columns from z0 on, v [n, .] from v0 on. Where db is longer than J, the
    columns of z behind the product are summed up, too.
    """
    dW, db = sinks
    J = len(dW)
    worth = dW.size * len(z) > WORTH_A_THREAD
    run(kernel.gradient, (z, z0, v, v0, dW, db), shares(J, threads if worth else 1))
    if len(db) > J:
        db[J:] += z[:, z0 + J : z0 + len(db)].sum(axis=0)


def rows(array: Array) -> Array:
    """[T, B, ...] -> [T B, ...]."""
    return array.reshape(-1, array.shape[-1])
