"""A training step's cost and all its gradients, without a graph.

Autograd takes as long to note and to walk the dozen operations around one sequence as the
kernels take to compute it. So where the model is a fused core with a linear readout and the cost
is the tasks' cross-entropy of bits, the chain is written out here.
"""

from __future__ import annotations

from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from controllers.base import Core
from ntm.kernels import border
from ntm.kernels.kinds import Array
from ntm.kernels.layout import Layout
from ntm.kernels.numba.jit import kernel
from ntm.kernels.numba.kernel import GROUP
from ntm.kernels.numba.math import exp, larger, log1p
from ntm.kernels.numba.parameters import add_gradient, pack, rows
from ntm.kernels.numba.products import Matrix, add_dots, add_product, at
from ntm.kernels.numba.records import Parameters, Share, plain
from ntm.kernels.numba.rollout import Rollout
from ntm.kernels.numba.sequence import arrays
from ntm.kernels.numba.threads import hand_out, shares
from ntm.kernels.threads import threads


class Learner:
    """Costs and gradients of a core with a linear readout, whose parameters each have a ``.grad``.

    core: an :class:`NTMCell`, or a controller alone. ``recompute_every`` and ``weighting_grad``: as
    :func:`ntm.kernels.numba.unroll`.

    It looks up once where parameters and gradients lie, so it serves as long as they stay there.
    What is not trained, a reservoir, is taken as the first call finds it.
    A thread takes its samples all the way, a group at a time: the history of a group is still in
    the cache when its backward pass wants it.
    """

    def __init__(
        self, core: Core, readout: nn.Linear, *,
        recompute_every: int | None = None, weighting_grad: float | None = None,
    ) -> None:  # fmt: skip
        self.core = core
        self.layout = layout = Layout(core)
        self.options: dict[str, Any] = {
            "recompute_every": recompute_every, "weighting_grad": weighting_grad,
        }  # fmt: skip
        parameters, own, starts = (
            [readout.weight, readout.bias],
            layout.parameters(),
            layout.starts(),
        )
        self.parameters, self.readout = arrays(own), arrays(parameters)
        self.dtype, self.type = self.readout[0].dtype, readout.weight.dtype
        #: The shape of one sample of a step.
        self.takes = (layout.inputs,)
        #: The matrices that the last call transposed.
        self.packed: Array | None = None
        #: Whether all slots begin alike, so that two show what any number of them are.
        self.alike = layout.cell is not None and layout.cell.M0 is None
        few = {"slots": 2} if self.alike else {}
        self.first = arrays(layout.flatten(core.initial_state(1, **few)))
        #: Which tensors of the first state are learned.
        self.learned = [start is not None for start in starts]
        #: Whether there is anything to learn but the readout.
        self.trains = bool(own) or any(self.learned)
        #: For each thread, where it adds its gradients: of the readout, the core, the start.
        self.sinks: list[list[Array]] = [[]]
        for parameter in [*parameters, *own, *(start for start in starts if start is not None)]:
            assert parameter.grad is not None
            assert parameter.grad.is_contiguous()
            self.sinks[0].append(parameter.grad.numpy())

    def __call__(
        self, inputs: Tensor, targets: Tensor, mask: Tensor, *, slots: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Adds the gradients of the mean cost of a sequence to every ``.grad``.

        inputs [T, B, I], targets [T, B, O] of 0 and 1, mask [T, B], all of them of the parameters'
        type. ``slots``: of the memory, for once, if not as many as the model has. Returns for each
        sequence [B] its cost, the cross-entropy of its scored outputs in nats, and its bit errors,
        outputs on the wrong side of one half. Raises ValueError and TypeError for sizes, types and
        devices that are not the model's.
        """
        # The border finds out anew what the core takes, 13 us; here it is known.
        if type(inputs) is not Tensor or not (
            inputs.shape[2:] == self.takes and inputs.dtype is self.type and inputs.is_cpu
        ):
            border.check_inputs(self.core, inputs)
        border.check_targets(inputs, targets, mask, len(self.readout[0]), inputs.dtype)
        if 0 in inputs.shape[:2]:
            raise ValueError(f"inputs is {list(inputs.shape)}: there is nothing to learn from")
        N = self._slots(slots)
        parameters = pack(self.layout, self.parameters, self.dtype, self.packed)
        self.packed = parameters.weights
        episode = arrays([inputs, targets, mask])
        B = inputs.shape[1]
        found = np.zeros((2, B), self.dtype)
        shared = shares(B, threads())
        used = len(shared)
        while len(self.sinks) < used:
            self.sinks.append([np.empty_like(sink) for sink in self.sinks[0]])
        for sinks in self.sinks[1:used]:
            for sink in sinks:
                sink.fill(0)
        hand_out(self._learn, (parameters, N, episode, found), shared)
        for sinks in self.sinks[1:used]:
            for total, sink in zip(self.sinks[0], sinks, strict=True):
                total += sink
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    def _slots(self, wanted: int | None) -> int:
        """N, of this step's memory; 0 without one."""
        cell = self.layout.cell
        if cell is None:
            return 0
        if wanted is None or self.alike:
            return cell.slots if wanted is None else wanted
        return cell.initial_memory(1, wanted).shape[1]  # which refuses all but its own number

    def _learn(
        self, parameters: Parameters, slots: int, episode: list[Array], found: Array, share: Share
    ) -> None:
        """One thread's samples."""
        count, number = len(self.parameters), self.dtype.type
        readout, bias = self.readout
        readout_sinks, sinks = self.sinks[share.thread][:2], self.sinks[share.thread][2:]
        for g0 in range(share.start, share.stop, GROUP):
            group = slice(g0, min(g0 + GROUP, share.stop))
            xs, ys, mask = (np.ascontiguousarray(array[:, group]) for array in episode)
            rollout = Rollout(self.layout, parameters, xs, slots, self.alike, **self.options)
            if self.trains:
                outputs, _ = rollout.forward(self.first, wants_end=False)
            else:
                outputs, _ = rollout.infer(self.first, wants_end=False)
            dlogits, doutputs = np.empty_like(ys), np.empty_like(outputs)
            targets = Targets(ys, mask, number(1 / found.shape[1]))
            nats, errors = found[:, group]
            outcome = Outcome(nats, errors, dlogits, doutputs)
            cross_entropy(*plain(outputs, readout, bias, targets, outcome))
            add_gradient(rows(dlogits), 0, rows(outputs), 0, readout_sinks)
            if self.trains:
                places = rollout.backward(outputs, doutputs, (), sinks[:count])
                learned = compress(places, self.learned)
                for sink, place in zip(sinks[count:], learned, strict=True):
                    sink += np.add.reduce(place, axis=0)
            rollout.close()


class Targets(NamedTuple):
    """What the outputs should be, and what of it counts."""

    bits: Any  # [T, B, O]
    mask: Any  # [T, B]
    share: Any  # of a sequence's cost in what the derivatives are of


class Outcome(NamedTuple):
    """What the outputs cost, and the derivatives."""

    nats: Any  # [B]
    errors: Any  # [B]
    dlogits: Any  # [T, B, O]
    doutputs: Any  # [T, B, C]


@kernel
def cross_entropy(outputs: Any, readout: Any, bias: Any, targets: Any, outcome: Any) -> None:
    """Readout and cost, and the derivatives of a share of the cost by logits and outputs."""
    targets, outcome = Targets(*targets), Outcome(*outcome)
    T, B, C = outputs.shape
    O, one = bias.shape[0], outputs.dtype.type(1)  # noqa: E741
    zero, half = one - one, one / (one + one)
    for t in range(T):
        logits = outcome.dlogits[t]
        for b in range(B):
            row = logits[b]
            for o in range(O):
                row[o] = bias[o]
        W = Matrix(at(readout, 0), C, 1)
        dlogits = Matrix(at(outcome.dlogits, t * B * O), O, 1)
        add_dots(dlogits, Matrix(at(outputs, t * B * C), C, 1), W, B, O, C)
        for b in range(B):
            row, target, scored = logits[b], targets.bits[t, b], targets.mask[t, b]
            total, errors = zero, zero
            for o in range(O):
                x, y = row[o], target[o]
                total += larger(x, zero) - x * y + log1p(exp(-abs(x)))
                errors += one if (x > zero) != (y > half) or x != x else zero
            for o in range(O):  # of its own: sums beside stores depend on where arrays lie
                x, y = row[o], target[o]
                small = exp(-abs(x))
                p = one / (one + small)
                row[o] = ((p if x >= zero else small * p) - y) * scored * targets.share
            outcome.nats[b] += total * scored
            outcome.errors[b] += errors * scored
            outcome.doutputs[t, b] = 0
        add_product(Matrix(at(outcome.doutputs, t * B * C), C, 1), dlogits, W, B, C, O)
