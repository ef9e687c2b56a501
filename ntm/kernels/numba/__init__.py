"""Whole-sequence kernels for the CPU: what the reference computes, many times faster.

Importing this package imports Numba. ``ntm.kernels.dispatch`` decides whether it is used.

    math.py         exp, log, tanh that vectorise
    products.py     the two small matrix products
    heads.py        the memory part of a step, equations 2-9, and its derivative
    steps.py        the elementwise steps of the controllers, and their derivatives
    controllers.py  what each controller gives: its step, its matrices, its first state
    kernel.py       the loop over time, forward and backward
    plan.py         a machine's sizes, places and parameters
    workspace.py    the arrays, kept from call to call
    threads.py      the batch shared out among threads
    sequence.py     whole sequences, and the autograd function
    alone.py        the same for a controller without a memory
    cost.py         a training step's cost and gradients without autograd
"""

from ntm.kernels.numba.alone import unroll
from ntm.kernels.numba.controllers import KINDS
from ntm.kernels.numba.cost import Learner

__all__ = ["KINDS", "Learner", "unroll"]
