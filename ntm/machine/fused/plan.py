"""What the kernels need to know of a machine: sizes, places and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor, nn

from controllers.base import Core, State
from controllers.stack import Stack
from ntm.machine.fused import kernel as k
from ntm.machine.fused.controllers import KINDS, Array, Kind
from ntm.machine.fused.kernel import Machine
from ntm.machine.fused.threads import run

if TYPE_CHECKING:
    from ntm.machine.cell import NTMCell


def layers_of(controller: Core) -> tuple[list[Core], bool]:
    """The controller's layers, and whether skip connections join them."""
    if type(controller) is Stack:
        return list(controller.layers), controller.skip  # type: ignore[arg-type]
    return [controller], False


def add_gradient(
    z: Array, z0: int, v: Array, v0: int, dW: Array, db: Array, *, parallel: bool
) -> None:
    """Adds: dW [J, K] += z^T v and db [J] += z^T 1, over the rows of z [n, ...] and v [n, ...]."""
    # Below a few million products, a second thread would be longer in coming.
    run(k.gradient, (z, z0, v, v0, dW, db), len(dW), parallel and dW.size * len(z) > 8e6)


def _span(start: int, size: int) -> slice:
    return slice(start, start + size)


class Plan:
    """The structure of one machine: everything but its numbers, N, B and T."""

    def __init__(self, cell: NTMCell) -> None:
        self.read_heads, self.heads, self.shifts = cell.read_heads, cell.heads, cell.shifts
        self.write_heads, self.width = cell.write_heads, cell.width
        self.inputs, self.reads = cell.input_size, cell.read_heads * cell.width
        self.stacked = type(cell.controller) is Stack
        self.layers, self.skip = layers_of(cell.controller)
        self.kinds: list[Kind] = [KINDS[type(layer)] for layer in self.layers]
        #: How many parameters each layer has.
        self.counts = [
            len(kind.parameters(layer)) for kind, layer in zip(self.kinds, self.layers, strict=True)
        ]
        self.units = [layer.output_size for layer in self.layers]
        self.controller_size = cell.controller.output_size
        self.output_size = cell.output_size
        self.interface: nn.Linear = cell.interface
        self.r0 = cell.r0
        self.interface_size = sum(cell.interface_sizes)

        table = np.full((len(self.layers), k.COLUMNS), -1, dtype=np.int64)
        v = z = weight = h = c = out = 0
        for n, (row, kind, units) in enumerate(zip(table, self.kinds, self.units, strict=True)):
            size = 0
            if n == 0 or self.skip:
                row[k.IN_X], row[k.IN_READS] = 0, self.inputs
                size = self.inputs + self.reads
            if n > 0:
                row[k.IN_BELOW], row[k.BELOW] = size, self.units[n - 1]
                size += self.units[n - 1]
            if kind.recurrent:
                row[k.IN_H] = size
                size += units
            if self.skip or n == len(self.layers) - 1:
                row[k.OUT] = out
                out += units
            if kind.cell:
                row[k.C_AT] = c
                c += units
            gates = kind.gates * units
            row[[k.KIND, k.UNITS, k.V_SIZE, k.Z_SIZE]] = kind.number, units, size, gates
            row[[k.V, k.Z, k.WEIGHT, k.H_AT]] = v, z, weight, h
            v, z, h, weight = v + size, z + gates, h + units, weight + size * gates
        self.table, self.rows = table, table.tolist()
        self.weights_size = weight
        #: Behind every layer's v lies room for the h of a layer that keeps none.
        self.v_size, self.z_size = v + max(self.units), z
        self.h_size, self.c_size = h, max(c, max(self.units))
        #: For every tensor of :meth:`flatten`: is it a c; its columns in v or c, and in h or c.
        self.places: list[tuple[bool, slice, slice]] = []
        for kind, places, units in zip(self.kinds, self.rows, self.units, strict=True):
            if kind.recurrent:
                in_v = _span(places[k.V] + places[k.IN_H], units)
                self.places.append((False, in_v, _span(places[k.H_AT], units)))
            if kind.cell:
                in_c = _span(places[k.C_AT], units)
                self.places.append((True, in_c, in_c))
        #: The columns of v that hold the reads.
        self.reads_in_v = [
            _span(row[k.V] + row[k.IN_READS], self.reads)
            for row in self.rows
            if row[k.IN_READS] >= 0
        ]

    def parameters(self) -> list[Tensor]:
        """The interface's weight and bias, then every layer's parameters."""
        parameters: list[Tensor] = [self.interface.weight, self.interface.bias]
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            parameters += kind.parameters(layer)
        return parameters

    def starts(self) -> list[Tensor]:
        """The learned part of the first state: the reads [R, W], then as :meth:`flatten`, [n]."""
        starts: list[Tensor] = [self.r0]
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            starts += kind.start(layer)
        return starts

    def machine(self, parameters: Sequence[Array], packed: Array | None = None) -> Machine:
        """The parameters as the kernels want them; ``packed`` takes the turned matrices."""
        weight, bias, *rest = parameters
        if packed is None:
            packed = np.empty(self.weights_size, weight.dtype)
        biases, at = [], 0
        for kind, count, row in zip(self.kinds, self.counts, self.rows, strict=True):
            own = rest[at : at + count]
            at += count
            W, b = kind.pack(own) if kind.pack else own
            J, K = W.shape
            k.transpose(W, packed[row[k.WEIGHT] : row[k.WEIGHT] + J * K].reshape(K, J))
            biases.append(b)
        together = biases[0] if len(biases) == 1 else np.concatenate(biases)
        return Machine(self.table, packed, together, weight, bias)

    def gradients(
        self, z: Array, v: Array, interface: Array, outputs: Array, sinks: Sequence[Array],
        *, parallel: bool,
    ) -> None:  # fmt: skip
        """Adds the parameters' gradients, each from one product over all steps and samples.

        z [T B, J] and interface [T B, E] are derivatives; v [T B, K] and outputs [T B, C + R W]
        are what the matrices were multiplied with. ``sinks`` are laid out as :meth:`parameters`.
        """
        weight, bias, *rest = sinks
        add_gradient(interface, 0, outputs, 0, weight, bias, parallel=parallel)
        at = 0
        for kind, count, row in zip(self.kinds, self.counts, self.rows, strict=True):
            own = rest[at : at + count]
            at += count
            if kind.unpack is None:
                add_gradient(z, row[k.Z], v, row[k.V], *own, parallel=parallel)
                continue
            dW = np.zeros((row[k.Z_SIZE], row[k.V_SIZE]), z.dtype)
            db = np.zeros(row[k.Z_SIZE], z.dtype)
            add_gradient(z, row[k.Z], v, row[k.V], dW, db, parallel=parallel)
            for total, part in zip(own, kind.unpack(dW, db), strict=True):
                total += part

    def flatten(self, state: State) -> list[Tensor]:
        """The controller's state as a list: for every layer h, then c, as far as it has them."""
        flat: list[Tensor] = []
        for kind, s in zip(self.kinds, state if self.stacked else [state], strict=True):
            flat += list(s) if kind.cell else [s] if kind.recurrent else []
        return flat

    def unflatten(self, flat: Sequence[Tensor]) -> State:
        """Undoes :meth:`flatten`."""
        states: list[Any] = []
        rest = iter(flat)
        for kind in self.kinds:
            if kind.cell:
                states.append((next(rest), next(rest)))
            else:
                states.append(next(rest) if kind.recurrent else ())
        return tuple(states) if self.stacked else states[0]


_plans: WeakKeyDictionary[NTMCell, Plan] = WeakKeyDictionary()


def plan_of(cell: NTMCell) -> Plan:
    """The cell's plan, made once."""
    plan = _plans.get(cell)
    if plan is None or plan.interface is not cell.interface:
        plan = _plans[cell] = Plan(cell)
    return plan
