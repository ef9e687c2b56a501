"""What the kernels are given and what they leave behind, as named records of arrays.

T steps, B samples, P threads. Sizes of the controller are summed over its layers: K of what the
matrix products see, J of what they give, n units. N columns for slots of width W, H heads, R of
which read and Q write, S shifts, E numbers for all heads; all of them 0 without a memory. A leading
d marks the derivative of the loss with respect to what follows it.
"""

from __future__ import annotations

from typing import Any, NamedTuple


def plain(*arguments: Any) -> tuple[Any, ...]:
    """Arguments of a kernel, with plain tuples for its records.

    Numba takes these in half the time, a microsecond less for each. The kernel names them again:
    ``tape = Tape(*tape)``.
    """
    return tuple([tuple(a) if isinstance(a, tuple) else a for a in arguments])


class Share(NamedTuple):
    """Samples, or rows, start ... stop: one thread's, or a group of them."""

    start: int
    stop: int
    thread: int


class Slots(NamedTuple):
    """Where the slots of a call lie: see ``alike.py``."""

    count: Any  # N
    home: Any  # the column of slot 0
    reach: Any  # how far a head shifts in a step
    begun: Any  # steps since all slots but the first were alike; -1: every slot has a column
    least: Any  # how far from slot 0 every step works, at least


class Rows(NamedTuple):
    """The columns of the memory, and of the weightings, that a step works on."""

    first: Any  # the first of them
    count: Any
    like: Any  # for how many slots the first one stands
    circular: Any  # 1 where every slot has a column, so that the last one's neighbour is the first
    settled: Any  # not 0 where those that the first one stands for have the same derivatives, too


class Parameters(NamedTuple):
    """All layers, and the interface of the heads."""

    layers: Any  # [L] records of ``layout.LAYER``, L products
    weights: Any  # every layer's W^T [K, J], end to end
    bias: Any  # [J]
    interface: Any  # [E, C]
    interface_bias: Any  # [E]


class HeadSizes(NamedTuple):
    """How many heads there are, and the numbers that they compute with."""

    R: Any
    Q: Any
    H: Any  # 0: there is no memory
    W: Any
    S: Any
    reads_before: Any  # 1 where read heads see M_{t-1}
    writer: Any  # the first of the heads that writes, H - Q
    floor: Any  # the shortest vector with a direction, as in addressing.py
    tiny: Any  # the smallest number with a logarithm
    weighting_grad: Any  # what derivatives by w_t are clipped to, at every step


class Tape(NamedTuple):
    """What the forward pass writes down and the backward pass reads.

    With a ``mask`` of -1 step t goes from place t to t + 1. With a mask of 1 there are two places
    in turn, and no history. Of the memory, by far the largest, only one in ``EVERY`` is kept.
    """

    v: Any  # [T + 1, B, K]  what every layer sees; holds the reads and h
    c: Any  # [T + 1, B, n]  of the layers that have one
    memory: Any  # [T // EVERY + 1, B, W, N]  M_0, M_EVERY, ...
    recent: Any  # [P, EVERY, GROUP, W, N]  those between, of the group at work
    last: Any  # [B, W, N]  M_T
    weights: Any  # [T + 1, B, H, N]  w_t
    z: Any  # [T, B, J]  what a layer's step leaves for its derivative
    interface: Any  # [T, B, E + 2 H]  what the heads are told
    inverse: Any  # [T, B, N]  1 / max(|M(i)|, floor)
    cosine: Any  # [T, B, H, N]  K[k, M(i)]
    content: Any  # [T, B, H, N]  w^c
    logs: Any  # [T, B, H, N]  log w~, the largest at 0
    mask: Any


class Access(NamedTuple):
    """One sample's step of the heads: its places on the tape."""

    rows: Any  # the columns that it works on
    wider: Any  # those that the next step, or the backward pass, works on
    memory: Any  # [W, N]  M_{t-1}
    new: Any  # [W, N]  M_t
    previous: Any  # [H, N]  w_{t-1}
    weights: Any  # [H, N]  w_t
    interface: Any  # [E + 2 H]
    inverse: Any  # [N]
    cosine: Any  # [H, N]
    content: Any  # [H, N]
    logs: Any  # [H, N]


class Scratch(NamedTuple):
    """Room for one sample's work; in front of these dimensions, for every thread, [P, ...]."""

    keys: Any  # [H, W]
    dkeys: Any  # [H, W]
    padded: Any  # [N + 2 (S // 2)]
    dpadded: Any  # [N + 2 (S // 2)]
    dnorms: Any  # [N]
    dcosine: Any  # [H, N]
    products: Any  # [W, N]
    keep: Any  # [Q + 1, N]


class Adjoint(NamedTuple):
    """Derivatives of the loss by the state, carried back from step to step."""

    reads: Any  # [B, R W]
    h: Any  # [B, n]  of every layer
    c: Any  # [B, n]
    memory: Any  # [B, W, N]
    weights: Any  # [B, H, N]
    v: Any  # [B, K]  work space
    output: Any  # [B, C]  work space


class AccessAdjoint(NamedTuple):
    """The same of one sample's step of the heads, which turns those by M_t and w_t into earlier."""

    reads: Any  # [R W]
    memory: Any  # [W, N]
    weights: Any  # [H, N]
    interface: Any  # [E]


class Gradients(NamedTuple):
    """Derivatives of the loss by what happened at every step."""

    xs: Any  # [T, B, I]
    z: Any  # [T, B, J]
    interface: Any  # [T, B, E]
