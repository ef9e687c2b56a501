"""Sparse access memory (Rae et al. 2016): a step reads and writes a few slots of any number."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from controllers.base import Core, State, each, linear, plain_numbers
from ntm.memory.access import INITIAL_MEMORY
from ntm.memory.base import STRICT, MemoryConfig
from ntm.memory.sparse_access import (
    access,
    least_recent,
    nearest,
    read,
    rows_of,
    write,
    write_weighting,
)
from ntm.memory.undo import Interface, Tape, access_on, begin, end


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SparseConfig(MemoryConfig):
    """``slots`` x ``width`` of memory, and ``heads`` that read and write ``reads`` slots a step.

    heads: each reads, and writes to the slots it read last or to the least recently used one.
    reads: K, how many slots a head reads. The paper takes 4, and finds 8 and 16 no better.
    """

    name: ClassVar[str] = "SAM"

    _numpy = model_validator(mode="before")(plain_numbers)

    kind: Literal["sparse"] = "sparse"
    slots: int = Field(default=128, ge=1)
    width: int = Field(default=20, ge=1)
    heads: int = Field(default=1, ge=1)
    reads: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _slots_for_all(self) -> SparseConfig:
        if problem := too_few(self.slots, self.heads, self.reads):
            raise ValueError(problem)
        return self

    @property
    def reads_size(self) -> int:
        """H W."""
        return self.heads * self.width

    def core(self, controller: Core, generator: torch.Generator) -> SparseCell:
        return SparseCell(controller, self, generator)

    def state_floats(self) -> int:
        """N W of memory and N of usage, and for each head a row, K slots and their weights."""
        N, W, H, K = self.slots, self.width, self.heads, self.reads
        return N * W + N + H * (W + 2 * K)

    def history_floats(self, steps: int) -> int:
        """One memory, and of every step the K + 1 rows of a head that it wrote over."""
        return self.state_floats() + steps * self.heads * (self.reads + 1) * (self.width + 1)

    def least_parameters(self, hidden: int) -> int:
        W, H = self.width, self.heads
        return hidden * H * (2 * W + 3) + hidden * H * W // 2

    def with_slots(self, slots: int) -> SparseConfig:
        if problem := too_few(slots, self.heads, self.reads):
            raise ValueError(problem)
        return dataclasses.replace(self, slots=slots)

    def describe(self, controller: str) -> str:
        """SAM with LSTM 100, 4 heads, 8 reads each."""
        heads = f", {self.heads} heads" if self.heads > 1 else ""
        reads = f", {self.reads} read" + "s" * (self.reads > 1) if self.reads != 4 else ""
        return f"{self.name} with {controller}{heads}{reads and reads + ' each'}"


def too_few(slots: int, heads: int, reads: int) -> str | None:
    """Why there are too few slots for what a step takes, as one line; None if there are not."""
    if reads > slots:
        return f"reads: should be at most as many as the slots, {slots}, not {reads}"
    if heads > slots:
        return f"heads: should be at most as many as the slots, {slots}, not {heads}"
    return None


class SparseState(NamedTuple):
    """Everything that the machine carries from one step to the next."""

    memory: Tensor  # [B, N, W]  M_t
    accessed: Tensor  # [B, N]     the last step in which each slot was accessed, int64; 0: never
    slots: Tensor  # [B, H, K]  s_1 ... s_K, the slots read, int64
    weights: Tensor  # [B, H, K]  w^R_t of these; of all others it is 0
    reads: Tensor  # [B, H, W]  r_t
    controller: State

    def detach(self) -> SparseState:
        """The same numbers without the graph that led to them: for truncated backpropagation."""
        return each(Tensor.detach, self)

    def to(self, *args: Any, **kwargs: Any) -> SparseState:
        """On another device or in another type, as :meth:`torch.Tensor.to` takes them.

        Numbers of slots and steps stay integers.
        """
        moved: SparseState = each(lambda tensor: tensor.to(*args, **kwargs), self)
        device = moved.memory.device
        return moved._replace(accessed=self.accessed.to(device), slots=self.slots.to(device))


torch.serialization.add_safe_globals([SparseState])
pytree._register_namedtuple(SparseState, serialized_type_name="ntm.SparseState")


class SparseStep(NamedTuple):
    """One step of the machine with every intermediate."""

    output: Tensor  # [B, output_size]
    state: SparseState
    told: Interface
    written: Tensor  # [B, H, K + 1]  the least recently used slot, then those read before
    write_weights: Tensor  # [B, H, K + 1]  w^W_t of these; of all others it is 0


class SparseCell(Core):
    """A sparse access memory as a core: [B, I] -> [B, controller.output_size + H W].

    One step: the controller sees the input and what was read last; every head erases its least
    recently used slot, then adds to it and to the K slots that it read last, which makes M_t of
    M_{t-1}; then it reads the K slots of M_t nearest to its query. The output holds the
    controller's output and the new reads.

    Every slot starts as the same constant, no slot has been accessed, the first weights are 0, and
    the first reads are learned. No parameter depends on the number of slots, nor does a softmax,
    so a trained machine runs with any memory.

    ``forward`` is one step in plain torch; it copies the memory. ``unroll`` writes in place, and
    undoes the writes in the backward pass (:mod:`ntm.memory.undo`), with the same results.
    """

    def __init__(self, controller: Core, memory: SparseConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.slots, self.width = memory.slots, memory.width
        self.heads, self.reads = memory.heads, memory.reads
        H, W = self.heads, self.width
        self.input_size = controller.input_size - H * W
        self.output_size = controller.output_size + H * W
        self.controller = controller
        #: All heads in one layer; the rows are, in this order: q | a | beta | alpha | gamma.
        self.interface_sizes = [H * W, H * W, H, H, H]
        self.interface = linear(controller.output_size, sum(self.interface_sizes), generator)
        self.r0 = nn.Parameter(torch.zeros(H, W))

    def initial_state(self, batch: int, slots: int | None = None) -> SparseState:
        """M_0, w_0, r_0 and the controller's; for once with another number of ``slots`` N.

        Raises ValueError where these are fewer than a step takes.
        """
        N = self.slots if slots is None else slots
        if problem := too_few(N, self.heads, self.reads):
            raise ValueError(problem)
        H, K = self.heads, self.reads
        first = torch.arange(K, device=self.r0.device)
        return SparseState(
            self.r0.new_full((1, 1, 1), INITIAL_MEMORY).expand(batch, N, self.width),
            first.new_zeros(1, 1).expand(batch, N),
            first.expand(batch, H, K),
            self.r0.new_zeros(1, 1, 1).expand(batch, H, K),
            self.r0.expand(batch, -1, -1),
            self.controller.initial_state(batch),
        )

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.step(x, state)[:2]

    def step(self, x: Tensor, state: SparseState) -> SparseStep:
        """One step with every intermediate; ``forward`` is its first two fields."""
        h, controller = self._control(x, state.reads, state.controller)
        told = self.emit(h)

        lru = least_recent(state.accessed, self.heads)
        written = torch.cat([lru.unsqueeze(-1), state.slots], dim=-1)
        write_weights = write_weighting(told.alpha, told.gamma, state.weights)
        memory = write(state.memory, written, write_weights, told.add)

        slots = nearest(told.query, memory, self.reads)
        weights, reads = read(told.query, told.beta, rows_of(memory, slots))

        now = state.accessed.amax(1, keepdim=True) + 1
        touched = torch.cat([written.flatten(1), slots.flatten(1)], dim=1)
        values = torch.cat([write_weights.flatten(1), weights.flatten(1)], dim=1)
        accessed = access(state.accessed, now, touched, values)

        new_state = SparseState(memory, accessed, slots, weights, reads, controller)
        output = torch.cat([h, reads.flatten(1)], dim=-1)
        return SparseStep(output, new_state, told, written, write_weights)

    def unroll(self, xs: Tensor, state: State, wants_state: bool = True) -> tuple[Tensor, State]:
        """As of every core. The last state has a row for every slot: if not wanted, it is None."""
        return self.unroll_on(self.tape(state, len(xs)), xs, state, wants_state)

    def tape(self, state: SparseState, steps: int) -> Tape:
        """A copy of the memory to write to: of as many slots as so many steps can reach.

        In a first memory the slots after these are alike, and unless all those before them are
        taken, no head takes one.
        """
        memory, accessed = state.memory, state.accessed
        N = reach = memory.shape[1]
        if memory.stride(1) == accessed.stride(1) == 0 and not memory.is_meta:  # one row for all
            reach = int(state.slots.max()) + 1
            N = min(N, reach + (steps + 1) * self.heads * (self.reads + 1))
        memory, accessed = (x.detach()[:, :N].contiguous().clone() for x in (memory, accessed))
        return Tape(memory, accessed, reach, keeps=torch.is_grad_enabled())

    def unroll_on(
        self, tape: Tape, xs: Tensor, state: SparseState, wants_state: bool = True
    ) -> tuple[Tensor, State]:
        """As ``unroll``, on a tape of :meth:`tape` that has not been used."""
        N = tape.memory.shape[1]
        slots, weights, reads, controller = state[2:]
        token = begin(state.memory, tape)
        outputs = []
        for x in xs:
            h, controller = self._control(x, reads, controller)
            token, slots, weights, reads = access_on(tape, token, slots, weights, self.emit(h))
            outputs.append(torch.cat([h, reads.flatten(1)], dim=-1))
        if not wants_state:
            return torch.stack(outputs), None
        memory = end(token, tape, state.memory.detach()[:, N:])
        accessed = torch.cat([tape.accessed, state.accessed[:, N:]], dim=1)
        last = SparseState(memory, accessed, slots, weights, reads, controller)
        return torch.stack(outputs), last

    def _control(self, x: Tensor, reads: Tensor, controller: State) -> tuple[Tensor, State]:
        found: tuple[Tensor, State] = self.controller(
            torch.cat([x, reads.flatten(1)], dim=-1), controller
        )
        return found

    def emit(self, h: Tensor) -> Interface:
        """The controller's output [B, C] -> (q, beta, a, alpha, gamma) of every head.

        The paper has one linear layer, and gates alpha and gamma. The rest is as in an NTM: tanh
        of queries and of what is added, softplus of the strength.
        """
        emitted = self.interface(h).to(self.r0.dtype)  # autocast computes products in half of it
        q, a, beta, alpha, gamma = emitted.split(self.interface_sizes, dim=-1)
        return Interface(
            torch.tanh(q).unflatten(-1, (self.heads, self.width)),
            F.softplus(beta),
            torch.tanh(a).unflatten(-1, (self.heads, self.width)),
            torch.sigmoid(alpha),
            torch.sigmoid(gamma),
        )
