"""Whole-sequence kernels for the CPU: what the reference computes, many times faster.

Importing this package imports Numba. ``ntm.kernels.dispatch`` decides whether it is used.

    jit.py          how kernels are compiled and kept
    inlining.py     what they call is compiled inside them
    math.py         exp, log, tanh that vectorise
    products.py     the two small matrix products
    records.py      what the kernels are given, as named records of arrays
    alike.py        slots that are alike are carried as one
    shift.py        equation 8, and its derivative
    heads.py        what the heads do in a step, equations 2-9, and its derivative
    steps.py        the elementwise steps of the controllers, and their derivatives
    controllers.py  one step of all layers of a controller
    kernel.py       the loop over time, forward and backward
    parameters.py   a core's parameters for the kernels, and their gradients
    workspace.py    the arrays, kept from call to call
    threads.py      the batch shared out among threads
    rollout.py      one sequence, forward and backward
    sequence.py     whole sequences, and the autograd function
    cost.py         a training step's cost and gradients without autograd
    optimizer.py    the optimiser's step

What needs no Numba is beside it: ``ntm.kernels.kinds``, what each controller gives, and
``ntm.kernels.layout``, where everything lies.
"""

from ntm.kernels.kinds import KINDS
from ntm.kernels.numba.cost import Learner
from ntm.kernels.numba.sequence import unroll

__all__ = ["KINDS", "Learner", "unroll"]
