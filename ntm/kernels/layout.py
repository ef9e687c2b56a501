"""The structure of a core, as kernels need it: sizes, and where everything lies.

Nothing here needs Numba: kernels for another device would read the same records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from controllers.base import Core, State
from controllers.stack import Stack
from ntm.kernels.kinds import KINDS, Array, Kind
from ntm.memory.ntm import NTMCell, NTMState


class Layer(NamedTuple):
    """One matrix product [J, K] and the step behind it.

    A layer has one of them, but a nested LSTM, which has one for every depth. Where something lies
    is counted in elements; -1 where there is no such thing.
    """

    step: int  # the number of its step, as in kinds.py
    level: int  # which of how many products of its layer, from the outermost inwards
    levels: int
    units: int  # n
    K: int
    J: int
    J_all: int  # J and the vectors behind it
    # Where its part begins in v, z, the matrices, the derivatives by h, and c.
    v_at: int
    z_at: int
    weight_at: int
    h_at: int
    c_at: int
    # The columns of v that hold the input, the reads, the layer below and its own h_{t-1}.
    x_in: int
    reads_in: int
    below_in: int
    h_in: int
    recurrent: int  # 1 where the product sees h_{t-1}; elsewhere h_in is room that nobody reads
    below: int  # units of the layer below
    out_at: int  # where its h begins in the outputs


#: The same as a record of NumPy's, which is what kernels read.
LAYER = np.dtype([(name, np.int64) for name in Layer._fields])


class Heads(NamedTuple):
    """How many heads there are and what they can do; of a controller alone, nothing at all."""

    R: int = 0  # read heads
    Q: int = 0  # write heads
    H: int = 0  # weightings: R + Q, or, of shared heads, R = Q
    W: int = 0  # the width of a slot
    S: int = 0  # shifts
    reads_before: bool = False  # read heads see M_{t-1}, not M_t

    @property
    def interface(self) -> int:
        """E: how many numbers tell the heads what to do."""
        return self.H * (self.W + 3 + self.S) + 2 * self.Q * self.W


class LayerSizes(NamedTuple):
    """What of one layer decides where everything lies."""

    step: int
    units: int
    gates: int
    recurrent: bool
    cells: int
    vectors: int
    levels: int


class Sizes(NamedTuple):
    """What of a core decides where everything lies; hashable, so the key of what is kept."""

    layers: tuple[LayerSizes, ...]
    skip: bool
    inputs: int
    heads: Heads


class StatePlace(NamedTuple):
    """Where one tensor [B, n] of a controller's state lies."""

    is_c: bool
    state: slice  # its columns in c, or, of an h, in v
    adjoint: slice  # its columns in the derivatives by c, or by h


class Places:
    """Where everything lies: a function of the sizes and of nothing else."""

    def __init__(self, sizes: Sizes) -> None:
        self.layers: list[list[Layer]] = []
        v = z = weight = h = c = out = 0
        for n, size in enumerate(sizes.layers):
            units, K, columns = size.units, *_columns(sizes, n, v)
            products = []
            for level in range(size.levels):
                J = size.gates * units
                product = Layer(
                    size.step, level, size.levels, units, K, J, J + size.vectors * units,
                    v, z, weight, h, c if size.cells else 0,
                    *columns, recurrent=int(columns[-1] >= 0),
                    below=sizes.layers[n - 1].units if columns[-2] >= 0 else 0, out_at=-1,
                )  # fmt: skip
                products.append(product)
                v, z, weight = v + K, z + product.J_all, weight + K * J
                c += units if size.cells else 0
                K, columns = 2 * units, (-1, -1, -1, -1)  # inside: [i j, f c_{t-1}]
            own = products[0].h_in
            products = [product._replace(h_in=own) for product in products]
            if sizes.skip or n == len(sizes.layers) - 1:
                products[-1] = products[-1]._replace(out_at=out)
                out += units
            self.layers.append(products)
            h += units
        largest = max(size.units for size in sizes.layers)
        self.layers = [
            [p if p.h_in >= 0 else p._replace(h_in=v) for p in products] for products in self.layers
        ]
        self.table = np.array([tuple(p) for products in self.layers for p in products], LAYER)
        #: K, J and n, summed over the layers; in v and c with room for a layer that keeps none.
        self.v_size, self.z_size, self.weights_size = v + largest, z, weight
        self.h_size, self.c_size = h, max(c, largest)
        self.controller_size = out
        #: For every tensor of the controller's state.
        self.state: list[StatePlace] = []
        for size, products in zip(sizes.layers, self.layers, strict=True):
            if size.recurrent:
                first = products[0]
                places = _span(first.h_in, size.units), _span(first.h_at, size.units)
                self.state.append(StatePlace(False, *places))
            for product in products[: size.cells]:
                span = _span(product.c_at, size.units)
                self.state.append(StatePlace(True, span, span))
        #: The columns of v that hold the reads.
        self.reads = [
            _span(products[0].reads_in, sizes.heads.R * sizes.heads.W)
            for products in self.layers
            if products[0].reads_in >= 0
        ]


def _span(start: int, size: int) -> slice:
    return slice(start, start + size)


def _columns(sizes: Sizes, n: int, v: int) -> tuple[int, tuple[int, int, int, int]]:
    """K of layer n, and where its x, reads, layer below and h_{t-1} are, if its v begins at v."""
    first, heads = n == 0 or sizes.skip, sizes.heads
    seen = [
        sizes.inputs if first else 0,
        heads.R * heads.W if first else 0,
        sizes.layers[n - 1].units if n else 0,
        sizes.layers[n].units if sizes.layers[n].recurrent else 0,
    ]
    x, reads, below, h = (v + sum(seen[:i]) if size else -1 for i, size in enumerate(seen))
    return sum(seen), (x, reads, below, h)


places = lru_cache(maxsize=256)(Places)


class Layout:
    """The structure of a core and its tensors, as they are now: made anew for every use.

    What takes long, :class:`Places`, is kept under the sizes, so it cannot be out of date.
    """

    def __init__(self, core: Core) -> None:
        self.cell = core if isinstance(core, NTMCell) else None
        controller: Core = core if self.cell is None else self.cell.controller
        self.stacked, skip = False, False
        layers: list[Any] = [controller]
        if isinstance(controller, Stack):
            self.stacked, skip, layers = True, controller.skip, list(controller.layers)
        self.kinds: list[Kind] = [KINDS[type(layer)](layer) for layer in layers]
        self.heads = Heads() if self.cell is None else _heads(self.cell)
        self.sizes = Sizes(
            tuple(_sizes(*each) for each in zip(self.kinds, layers, strict=True)),
            skip, core.input_size, self.heads,
        )  # fmt: skip
        self.places = places(self.sizes)
        self.inputs = core.input_size
        self.output_size = self.places.controller_size + self.heads.R * self.heads.W

    def parameters(self) -> list[Tensor]:
        """The interface's weight and bias, if there are heads, then every layer's parameters."""
        own = [p for kind in self.kinds for p in kind.parameters]
        if self.cell is None:
            return own
        return [self.cell.interface.weight, self.cell.interface.bias, *own]

    def starts(self) -> list[Tensor | None]:
        """What the first state is learned as, in the order of :meth:`flatten`; None for a constant.

        Without a batch: M_0 [N, W], r_0 [R, W], the controller's [n].
        """
        own = [start for kind in self.kinds for start in kind.start]
        return own if self.cell is None else [self.cell.M0, None, self.cell.r0, *own]

    def flatten(self, state: State) -> list[Tensor]:
        """A state as a list: M, w and r, if there are heads; then for every layer h and its cs."""
        flat: list[Tensor] = []
        if self.cell is not None:
            *flat, state = state
        for kind, s in zip(self.kinds, state if self.stacked else [state], strict=True):
            flat += list(s) if kind.cells else [s] if kind.recurrent else []
        return flat

    def unflatten(self, flat: Sequence[Tensor]) -> State:
        """Undoes :meth:`flatten`."""
        rest = iter(flat)
        memory = () if self.cell is None else (next(rest), next(rest), next(rest))
        states: list[Any] = []
        for kind in self.kinds:
            if kind.cells:
                states.append(tuple(next(rest) for _ in range(1 + kind.cells)))
            else:
                states.append(next(rest) if kind.recurrent else ())
        controller = tuple(states) if self.stacked else states[0]
        return NTMState(*memory, controller) if memory else controller

    def by_layer(self, arrays: Sequence[Array]) -> Iterator[tuple[Kind, list[Layer], list[Array]]]:
        """Every layer with its records and its part of arrays laid out as :meth:`parameters`."""
        at = 0 if self.cell is None else 2
        for kind, records in zip(self.kinds, self.places.layers, strict=True):
            yield kind, records, list(arrays[at : at + len(kind.parameters)])
            at += len(kind.parameters)


def _sizes(kind: Kind, layer: Core) -> LayerSizes:
    units = layer.output_size
    return LayerSizes(
        kind.step, units, kind.gates, kind.recurrent, kind.cells, kind.vectors, kind.levels
    )


def _heads(cell: NTMCell) -> Heads:
    R, Q, H = cell.read_heads, cell.write_heads, cell.heads
    return Heads(R, Q, H, cell.width, cell.shifts, cell.reads_before)
