"""What the kernels need to know of a controller and of a machine: sizes, places and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor, nn

from controllers.base import Core, State
from controllers.stack import Stack
from ntm.kernels.numba import kernel as k
from ntm.kernels.numba.controllers import KINDS, Array, Kind
from ntm.kernels.numba.kernel import Machine
from ntm.kernels.numba.threads import run

if TYPE_CHECKING:
    from ntm.memory.ntm import NTMCell


def layers_of(controller: Core) -> tuple[list[Core], bool]:
    """The controller's layers, and whether skip connections join them."""
    if type(controller) is Stack:
        return list(controller.layers), controller.skip  # type: ignore[arg-type]
    return [controller], False


def add_gradient(
    z: Array, z0: int, v: Array, v0: int, dW: Array, db: Array, *, parallel: bool
) -> None:
    """Adds: dW [J, K] += z^T v and db [J] += z^T 1, over the rows of z [n, ...] and v [n, ...].

    Where db is longer than J, the columns of z behind the product are summed up, too.
    """
    # Below a few million products, a second thread would be longer in coming.
    run(k.gradient, (z, z0, v, v0, dW, db), len(dW), parallel and dW.size * len(z) > 8e6)
    if len(db) > len(dW):
        db[len(dW) :] += z[:, z0 + len(dW) : z0 + len(db)].sum(axis=0)


def _span(start: int, size: int) -> slice:
    return slice(start, start + size)


class Layout:
    """The structure of one controller: everything but its numbers, B and T.

    It sees ``inputs`` numbers from outside and, in a machine, ``reads`` from the memory.
    """

    def __init__(self, controller: Core, inputs: int, reads: int) -> None:
        self.inputs, self.reads = inputs, reads
        self.stacked = type(controller) is Stack
        self.layers, self.skip = layers_of(controller)
        self.kinds = self._look()
        self.units = [layer.output_size for layer in self.layers]
        self.controller_size = controller.output_size

        table = np.full((sum(kind.levels for kind in self.kinds), k.COLUMNS), -1, dtype=np.int64)
        #: The rows of the table that belong to each layer.
        self.rows: list[list[Any]] = []
        v = z = weight = h = c = out = at = 0
        for n, (kind, units) in enumerate(zip(self.kinds, self.units, strict=True)):
            own = -1
            for level in range(kind.levels):
                row, size = table[at + level], 2 * units
                if level == 0:
                    size = self._see(row, n, kind)
                    own = v + int(row[k.IN_H]) if kind.recurrent else -1
                if kind.cells:
                    row[k.C_AT] = c
                    c += units
                J = kind.gates * units
                everything = J + kind.vectors * units
                row[[k.KIND, k.UNITS, k.V_SIZE, k.Z_SIZE]] = kind.number, units, size, J
                row[[k.V, k.Z, k.WEIGHT, k.H_AT]] = v, z, weight, h
                row[[k.Z_ALL, k.OWN, k.LEVEL, k.LEVELS]] = everything, own, level, kind.levels
                v, z, weight = v + size, z + everything, weight + size * J
            if self.skip or n == len(self.layers) - 1:
                table[at + kind.levels - 1, k.OUT] = out
                out += units
            self.rows.append(table[at : at + kind.levels].tolist())
            at, h = at + kind.levels, h + units
        self.table = table
        self.weights_size = weight
        #: Behind every layer's v lies room for the h of a layer that keeps none.
        self.v_size, self.z_size = v + max(self.units), z
        self.h_size, self.c_size = h, max(c, max(self.units))
        #: For every tensor of :meth:`flatten`: is it a c; its columns in v or c, and in h or c.
        self.places: list[tuple[bool, slice, slice]] = []
        for kind, rows, units in zip(self.kinds, self.rows, self.units, strict=True):
            if kind.recurrent:
                h_at = _span(rows[0][k.H_AT], units)
                self.places.append((False, _span(rows[0][k.OWN], units), h_at))
            for row in rows[: kind.cells]:
                self.places.append((True, _span(row[k.C_AT], units), _span(row[k.C_AT], units)))
        #: The columns of v that hold the reads.
        self.reads_in_v = [
            _span(rows[0][k.V] + rows[0][k.IN_READS], reads)
            for rows in self.rows
            if rows[0][k.IN_READS] >= 0
        ]

    def _see(self, row: Array, n: int, kind: Kind) -> int:
        """Lays out what layer n sees; returns how much that is."""
        size = 0
        if n == 0 or self.skip:
            row[k.IN_X] = 0
            size = self.inputs
            if self.reads:
                row[k.IN_READS] = size
                size += self.reads
        if n > 0:
            row[k.IN_BELOW], row[k.BELOW] = size, self.units[n - 1]
            size += self.units[n - 1]
        if kind.recurrent:
            row[k.IN_H] = size
            size += self.units[n]
        return size

    def _look(self) -> list[Kind]:
        """The layers as they are now: a buffer that was moved is another tensor."""
        return [KINDS[type(layer)](layer) for layer in self.layers]

    def parameters(self) -> list[Tensor]:
        """Every layer's parameters."""
        return [p for kind in self._look() for p in kind.parameters]

    def starts(self) -> list[Tensor | None]:
        """What the first state is learned as, as :meth:`flatten` has it, [n] each; None for 0."""
        return [start for kind in self._look() for start in kind.start]

    def pack(
        self, parameters: Sequence[Array], dtype: Any, packed: Array | None = None
    ) -> tuple[Array, Array]:
        """All matrices turned, W^T [K, J] end to end, and all that is added.

        ``packed`` holds the matrices of an earlier call, and takes those of this one. What is not
        trained is not turned again.
        """
        fresh = packed is None
        if packed is None:
            packed = np.empty(self.weights_size, dtype)
        biases = []
        for kind, rows, own in self._shared_out(parameters):
            for row, (W, b) in zip(rows, kind.pack(own), strict=True):
                J, K = W.shape
                if fresh or own:
                    k.transpose(W, packed[row[k.WEIGHT] : row[k.WEIGHT] + J * K].reshape(K, J))
                biases.append(b)
        return packed, biases[0] if len(biases) == 1 else np.concatenate(biases)

    def machine(
        self, parameters: Sequence[Array], dtype: Any, packed: Array | None = None
    ) -> Machine:
        """The parameters as the kernels want them; ``packed`` as in :meth:`pack`."""
        none = np.empty(0, dtype)
        return Machine(self.table, *self.pack(parameters, dtype, packed), none.reshape(0, 0), none)

    def layer_gradients(
        self, z: Array, v: Array, sinks: Sequence[Array], *, parallel: bool
    ) -> None:
        """Adds the parameters' gradients, each from one product over all steps and samples.

        z [T B, J] are derivatives, v [T B, K] what the matrices were multiplied with. ``sinks`` are
        laid out as :meth:`parameters`.
        """
        for kind, rows, own in self._shared_out(sinks):
            if not own:
                continue  # nothing to learn
            if kind.unpack is None:
                products = kind.pack(own)
            else:
                products = [
                    (np.zeros((r[k.Z_SIZE], r[k.V_SIZE]), z.dtype), np.zeros(r[k.Z_ALL], z.dtype))
                    for r in rows
                ]
            for row, (dW, db) in zip(rows, products, strict=True):
                add_gradient(z, row[k.Z], v, row[k.V], dW, db, parallel=parallel)
            if kind.unpack is not None:
                for total, part in zip(own, kind.unpack(products), strict=True):
                    total += part

    def _shared_out(self, arrays: Sequence[Array]) -> list[tuple[Kind, list[Any], list[Array]]]:
        """Every layer with its rows of the table and its part of the arrays."""
        found, at = [], 0
        for kind, rows in zip(self.kinds, self.rows, strict=True):
            count = len(kind.parameters)
            found.append((kind, rows, list(arrays[at : at + count])))
            at += count
        return found

    def flatten(self, state: State) -> list[Tensor]:
        """The controller's state as a list: for every layer h, then c, as far as it has them."""
        flat: list[Tensor] = []
        for kind, s in zip(self.kinds, state if self.stacked else [state], strict=True):
            flat += list(s) if kind.cells else [s] if kind.recurrent else []
        return flat

    def unflatten(self, flat: Sequence[Tensor]) -> State:
        """Undoes :meth:`flatten`."""
        states: list[Any] = []
        rest = iter(flat)
        for kind in self.kinds:
            if kind.cells:
                states.append(tuple(next(rest) for _ in range(1 + kind.cells)))
            else:
                states.append(next(rest) if kind.recurrent else ())
        return tuple(states) if self.stacked else states[0]


class Plan(Layout):
    """The structure of one machine: everything but its numbers, N, B and T."""

    def __init__(self, cell: NTMCell) -> None:
        super().__init__(cell.controller, cell.input_size, cell.read_heads * cell.width)
        self.read_heads, self.heads, self.shifts = cell.read_heads, cell.heads, cell.shifts
        self.write_heads, self.width = cell.write_heads, cell.width
        self.writer, self.reads_before = cell.writer, cell.reads_before
        self.output_size = cell.output_size
        self.interface: nn.Linear = cell.interface
        self.r0 = cell.r0
        self.interface_size = sum(cell.interface_sizes)

    def is_of(self, cell: NTMCell) -> bool:
        """Whether the cell is still made of what this was made from."""
        layers, skip = layers_of(cell.controller)
        sizes = (cell.read_heads, cell.heads, cell.shifts, cell.write_heads, cell.width)
        mine = (self.read_heads, self.heads, self.shifts, self.write_heads, self.width)
        return (
            self.interface is cell.interface
            and self.r0 is cell.r0
            and len(layers) == len(self.layers)
            and all(a is b for a, b in zip(layers, self.layers, strict=True))
            and self.units == [layer.output_size for layer in layers]
            and (skip, cell.input_size, cell.writer) == (self.skip, self.inputs, self.writer)
            and (sizes, cell.reads_before) == (mine, self.reads_before)
        )

    def parameters(self) -> list[Tensor]:
        """The interface's weight and bias, then every layer's parameters."""
        return [self.interface.weight, self.interface.bias, *super().parameters()]

    def starts(self) -> list[Tensor | None]:
        """The first reads [R, W], then those of the controller."""
        return [self.r0, *super().starts()]

    def machine(
        self, parameters: Sequence[Array], dtype: Any, packed: Array | None = None
    ) -> Machine:
        """As :meth:`Layout.machine`, with the interface."""
        weight, bias, *rest = parameters
        return Machine(self.table, *self.pack(rest, dtype, packed), weight, bias)

    def gradients(
        self, z: Array, v: Array, interface: Array, outputs: Array, sinks: Sequence[Array],
        *, parallel: bool,
    ) -> None:  # fmt: skip
        """As :meth:`layer_gradients`, with those of the interface.

        interface [T B, E] are derivatives, outputs [T B, C + R W] what it was multiplied with.
        """
        weight, bias, *rest = sinks
        add_gradient(interface, 0, outputs, 0, weight, bias, parallel=parallel)
        self.layer_gradients(z, v, rest, parallel=parallel)


_plans: WeakKeyDictionary[NTMCell, Plan] = WeakKeyDictionary()


def plan_of(cell: NTMCell) -> Plan:
    """The cell's plan, made once."""
    plan = _plans.get(cell)
    if plan is None or not plan.is_of(cell):
        plan = _plans[cell] = Plan(cell)
    return plan
