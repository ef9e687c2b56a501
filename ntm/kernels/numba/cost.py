"""A training step's cost and all its gradients, without a graph.

Autograd takes as long to note and to walk the dozen operations around one sequence as the
kernels take to compute it. So where the model is a fused core with a linear readout and the cost
is the tasks' cross-entropy of bits, the chain is written out here.
"""

from __future__ import annotations

from itertools import compress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from controllers.base import Core
from ntm.kernels.numba.alone import RolloutAlone
from ntm.kernels.numba.controllers import Array
from ntm.kernels.numba.jit import kernel as compiled
from ntm.kernels.numba.kernel import GROUP, Machine
from ntm.kernels.numba.math import exp, larger, log1p
from ntm.kernels.numba.plan import Layout, Plan, add_gradient, plan_of
from ntm.kernels.numba.products import add_dots, add_product, at
from ntm.kernels.numba.sequence import Rollout, arrays, rows
from ntm.kernels.numba.threads import run, shares
from ntm.memory.ntm import NTMCell

#: First states that a learner keeps, by the number of slots.
FIRSTS = 256


class Learner:
    """Costs and gradients of one model, whose parameters each have a ``.grad``.

    It looks up once where parameters and gradients lie, so it serves as long as they stay there.
    What is not trained, a reservoir, is taken as the first call finds it.
    A thread takes its samples all the way, a group at a time: the history of a group is still in
    the cache when its backward pass wants it.
    """

    def __init__(
        self,
        core: Core,
        readout_: nn.Linear,
        *,
        recompute_every: int | None = None,
        weighting_grad: float | None = None,
    ) -> None:
        self.core, self.segment, self.limit = core, recompute_every, weighting_grad
        first = core.initial_state(1)
        learned: list[Tensor | None] = []
        self.plan: Layout
        if isinstance(core, NTMCell):
            self.plan = plan_of(core)
            learned = [core.M0, None]
            start = [*first[:3], *self.plan.flatten(first.controller)]
        else:
            self.plan = Layout(core, core.input_size, 0)
            start = self.plan.flatten(first)
        learned += self.plan.starts()
        readout = [readout_.weight, readout_.bias]
        own = self.plan.parameters()
        self.parameters, self.readout = arrays(own), arrays(readout)
        self.dtype = self.readout[0].dtype
        #: The matrices that the last call turned.
        self.packed: Array | None = None
        self.first = arrays(start)
        #: The first memory and weights, by the number of slots.
        self.firsts: dict[int, list[Array]] = {}
        #: Which of the first state's parts are learned.
        self.learned = [part is not None for part in learned]
        #: Whether there is anything to learn but the readout.
        self.trains = bool(own) or any(self.learned)
        #: For each thread, where it adds its gradients: of the readout, the core, the start.
        self.sinks: list[list[Array]] = [[]]
        for parameter in [*readout, *own, *(part for part in learned if part is not None)]:
            assert parameter.grad is not None
            assert parameter.grad.is_contiguous()
            self.sinks[0].append(parameter.grad.numpy())

    def __call__(
        self, inputs: Tensor, targets: Tensor, mask: Tensor, *, slots: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Adds the gradients of the mean cost of a sequence to every ``.grad``.

        inputs [T, B, I], targets [T, B, O] of 0 and 1, mask [T, B]. ``slots``: of the memory, for
        once, if not as many as the machine has. Returns for each sequence [B] its cost, the
        cross-entropy of its scored outputs in nats, and how many of them are on the wrong side of
        one half.
        """
        if isinstance(self.core, NTMCell):
            slots = self.core.slots if slots is None else slots
            if slots not in self.firsts:
                if len(self.firsts) >= FIRSTS:
                    self.firsts.clear()
                first = self.core.initial_memory(1, slots), self.core.initial_weights(1, slots)
                # Not made contiguous: a constant memory is one number, however many slots it has.
                self.firsts[slots] = [part.detach().numpy() for part in first]
            self.first[:2] = self.firsts[slots]
        machine = self.plan.machine(self.parameters, self.dtype, self.packed)
        self.packed = machine.weights
        episode = arrays([inputs, targets, mask])
        B = inputs.shape[1]
        found = np.zeros((2, B), self.dtype)
        used = len(shares(B))
        while len(self.sinks) < used:
            self.sinks.append([np.empty_like(sink) for sink in self.sinks[0]])
        for sinks in self.sinks[1:used]:
            for sink in sinks:
                sink.fill(0)
        run(self._learn, (machine, episode, found), B)
        for sinks in self.sinks[1:used]:
            for total, sink in zip(self.sinks[0], sinks, strict=True):
                total += sink
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    def _learn(
        self, machine: Machine, episode: list[Array], found: Array, b0: int, b1: int, thread: int
    ) -> None:
        """The samples b0 ... b1: one thread's work."""
        B, count = found.shape[1], len(self.parameters)
        W, b, *sinks = self.sinks[thread]
        for g0 in range(b0, b1, GROUP):
            g1 = min(g0 + GROUP, b1)
            xs, ys, mask = (np.ascontiguousarray(array[:, g0:g1]) for array in episode)
            rollout = self._rollout(machine, xs)
            if self.trains:
                outputs, _ = rollout.forward(self.first, wants_end=False)
            else:
                outputs, _ = rollout.infer(self.first)
            dlogits, doutputs = np.empty_like(ys), np.empty_like(outputs)
            share = xs.dtype.type(1 / B)
            readout, bias = self.readout
            nats, wrong = found[:, g0:g1]
            cross_entropy(outputs, readout, bias, ys, mask, share, dlogits, doutputs, nats, wrong)
            add_gradient(rows(dlogits), 0, rows(outputs), 0, W, b, parallel=False)
            if self.trains:
                places = rollout.backward(outputs, doutputs, (), sinks[:count])
                learned = compress(places, self.learned)
                for sink, place in zip(sinks[count:], learned, strict=True):
                    sink += np.add.reduce(place, axis=0)
            rollout.close()

    def _rollout(self, machine: Machine, xs: Array) -> Rollout | RolloutAlone:
        if isinstance(self.plan, Plan):
            slots = self.first[0].shape[1]
            return Rollout(self.plan, machine, xs, slots, self.limit, self.segment, parallel=False)
        return RolloutAlone(self.plan, machine, xs, parallel=False)


@compiled
def cross_entropy(
    outputs: Any, readout: Any, bias: Any, targets: Any, mask: Any, share: Any,
    dlogits: Any, doutputs: Any, nats: Any, wrong: Any,
) -> None:  # fmt: skip
    """Readout and cost, and the derivatives of ``share`` of the cost by logits and outputs."""
    T, B, C = outputs.shape
    O, one = bias.shape[0], outputs.dtype.type(1)  # noqa: E741
    zero, half = one - one, one / (one + one)
    for t in range(T):
        for b in range(B):
            row = dlogits[t, b]
            for o in range(O):
                row[o] = bias[o]
        add_dots(
            one, at(dlogits, t * B * O), O, at(outputs, t * B * C), C, at(readout, 0), C, B, C, O
        )
        for b in range(B):
            row, target, scored = dlogits[t, b], targets[t, b], mask[t, b]
            total, errors = zero, zero
            for o in range(O):
                x, y = row[o], target[o]
                total += larger(x, zero) - x * y + log1p(exp(-abs(x)))
                errors += one if (x > zero) != (y > half) or x != x else zero
            for o in range(O):  # of its own: sums beside stores depend on where arrays lie
                x, y = row[o], target[o]
                small = exp(-abs(x))
                p = one / (one + small)
                row[o] = ((p if x >= zero else small * p) - y) * scored * share
            nats[b] += total * scored
            wrong[b] += errors * scored
            doutputs[t, b] = 0
        add_product(
            one, at(doutputs, t * B * C), C, at(dlogits, t * B * O), O, 1,
            at(readout, 0), C, B, O, C,
        )  # fmt: skip
