"""The Neural Turing Machine: a controller, heads, and a memory (section 3 of the paper)."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from controllers.base import Core, State, each, linear, plain_numbers, uniform
from ntm.memory import addressing
from ntm.memory.access import INITIAL_MEMORY, read, write
from ntm.memory.base import STRICT, MemoryConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NTMConfig(MemoryConfig):
    """``slots`` x ``width`` of memory, and heads that shift by up to ``shift_range`` slots a step.

    initial: the memory at the start of every episode. ``constant`` is 1e-6 everywhere: no
        parameter depends on the number of slots, so a trained model runs with any. ``learned``, as
        in the paper, gives every slot a learned row, so that content can find it before any write.
    read: the memory that read heads see, either ``after`` the step's write, M_t, as in the paper's
        notation, or ``before`` it, M_{t-1}.
    shared: every head both reads and writes at one weighting; needs as many ``read_heads`` as
        ``write_heads``.
    shift_bias: added to the initial bias of every head's shift to the next slot. With 0, heads
        start by spreading over both neighbours; with 2 they start by moving on, with about 0.79 of
        s_t on the next slot (of three shifts).
    erase_bias: added to the initial bias of every write head's erase vector. With 0, a write starts
        by erasing half of a slot, so that slots can be added to; with 3 it replaces it, 0.95.
    """

    name: ClassVar[str] = "NTM"
    has_weightings: ClassVar[bool] = True

    _numpy = model_validator(mode="before")(plain_numbers)

    kind: Literal["ntm"] = "ntm"
    slots: int = Field(default=128, ge=1)
    width: int = Field(default=20, ge=1)
    read_heads: int = Field(default=1, ge=1)
    write_heads: int = Field(default=1, ge=1)
    shift_range: int = Field(default=1, ge=0)
    initial: Literal["constant", "learned"] = "constant"
    read: Literal["after", "before"] = "after"
    shared: bool = False
    shift_bias: float = Field(default=0.0, ge=0, le=100)
    erase_bias: float = Field(default=0.0, ge=0, le=100)

    @model_validator(mode="after")
    def _biased_heads_can_shift(self) -> NTMConfig:
        if self.shift_bias and not self.shift_range:
            raise ValueError("shift_bias: should be 0 where heads cannot shift, shift_range: 0")
        return self

    @model_validator(mode="after")
    def _shared_heads_pair_up(self) -> NTMConfig:
        if self.shared and self.read_heads != self.write_heads:
            raise ValueError(
                "shared: every head reads and writes, so there must be as many read_heads as "
                f"write_heads: {self.read_heads} and {self.write_heads}"
            )
        return self

    @property
    def heads(self) -> int:
        """H, the number of weightings: R + Q, or R = Q where heads are shared."""
        return self.read_heads + (0 if self.shared else self.write_heads)

    @property
    def reads_size(self) -> int:
        """R W."""
        return self.read_heads * self.width

    def core(self, controller: Core, generator: torch.Generator) -> NTMCell:
        return NTMCell(controller, self, generator)

    def state_floats(self) -> int:
        """At least: N W of memory, H N of weightings, and a row for each head."""
        N, W, H = self.slots, self.width, self.heads
        return N * W + H * N + H * W

    def history_floats(self, steps: int) -> int:
        """At least: slots that no head can have reached are kept as one, where they begin alike."""
        N, W, H = self.slots, self.width, self.heads
        if self.initial == "constant":
            N = distinct_slots(N, self.shift_range, steps)
        return steps * (N * W + H * N + H * W)

    def least_parameters(self, hidden: int) -> int:
        W, H = self.width, self.heads
        emitted = H * (W + 2 * self.shift_range + 4)
        return hidden * emitted + hidden * H * W // 2

    def with_slots(self, slots: int) -> NTMConfig:
        if self.initial == "learned" and slots != self.slots:
            raise ValueError(
                f"the initial memory is learned, a row for each of its {self.slots} slots; only "
                "with model.memory.initial constant can their number change"
            )
        return dataclasses.replace(self, slots=slots)

    def describe(self, controller: str) -> str:
        """NTM with LSTM 100, 2+1 heads, reading first."""
        heads = ""
        if self.shared:
            heads = f", {self.read_heads} shared head" + "s" * (self.read_heads > 1)
        elif (self.read_heads, self.write_heads) != (1, 1):
            heads = f", {self.read_heads}+{self.write_heads} heads"
        before = ", reading first" if self.read == "before" else ""
        return f"{self.name} with {controller}{heads}{before}"


def distinct_slots(slots: int, shift_range: int, steps: int) -> int:
    """Slots that may differ after so many steps of an episode, and one for all others.

    Where all begin alike, only those differ that the heads have reached from slot 0.
    """
    return min(slots, 2 * shift_range * steps + 2)


class NTMState(NamedTuple):
    """Everything that the machine carries from one step to the next."""

    memory: Tensor  # [B, N, W]  M_t
    weights: Tensor  # [B, H, N]  w_t, read heads first, then write heads; shared ones once
    reads: Tensor  # [B, R, W]  r_t
    controller: State

    def detach(self) -> NTMState:
        """The same numbers without the graph that led to them: for truncated backpropagation."""
        return each(Tensor.detach, self)

    def to(self, *args: Any, **kwargs: Any) -> NTMState:
        """On another device or in another type, as :meth:`torch.Tensor.to` takes them."""
        return each(lambda tensor: tensor.to(*args, **kwargs), self)


torch.serialization.add_safe_globals([NTMState])  # torch.load executes nothing, and reads states
pytree._register_namedtuple(NTMState, serialized_type_name="ntm.NTMState")  # for torch.export.save


class Step(NamedTuple):
    """One step of the machine with every intermediate.

    H = R + Q heads, reads first, or, where they are shared, H = R = Q.
    """

    output: Tensor  # [B, output_size]
    state: NTMState
    key: Tensor  # [B, H, W]  k_t
    beta: Tensor  # [B, H]     key strength, > 0
    gate: Tensor  # [B, H]     g_t, in (0, 1)
    shift: Tensor  # [B, H, S]  s_t, a distribution
    gamma: Tensor  # [B, H]     sharpening, >= 1
    erase: Tensor  # [B, Q, W]  e_t, in (0, 1)
    add: Tensor  # [B, Q, W]  a_t


class NTMCell(Core):
    """A Neural Turing Machine as a core: [B, I] -> [B, controller.output_size + R W].

    One step: the controller sees the input and what was read last; every head addresses the
    memory M_{t-1}; the write heads turn it into M_t; the read heads read M_t, as in the paper's
    notation (equations 2-4), or M_{t-1}, where they are told to. The output holds the controller's
    output and the new reads.

    The heads start focused on slot 0, and the first reads are learned. Where every slot starts as
    the constant 1e-6, no parameter depends on the number of slots, so that a trained machine runs
    with any memory; a learned first memory is tied to its slots.
    """

    def __init__(self, controller: Core, memory: NTMConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.slots, self.width = memory.slots, memory.width
        self.read_heads, self.write_heads = memory.read_heads, memory.write_heads
        #: Among all heads, where the write heads begin.
        self.writer = memory.heads - self.write_heads
        self.heads = memory.heads
        self.reads_before = memory.read == "before"
        self.shifts = 2 * memory.shift_range + 1

        R, Q, H, W, S = self.read_heads, self.write_heads, self.heads, self.width, self.shifts
        self.input_size = controller.input_size - R * W
        self.output_size = controller.output_size + R * W
        self.controller = controller
        #: All heads in one layer; the rows are, in this order: k a | e g | beta gamma | s.
        self.interface_sizes = [H * W, Q * W, Q * W, H, H, H, H * S]
        self.interface = linear(controller.output_size, sum(self.interface_sizes), generator)
        with torch.no_grad():
            _, _, e, *_, s = self.interface.bias.split(self.interface_sizes)
            e += memory.erase_bias
            if memory.shift_bias:
                s.view(H, S)[:, memory.shift_range + 1] += memory.shift_bias
        self.r0 = nn.Parameter(torch.zeros(R, W))
        #: The learned first memory [N, W], or None.
        self.M0: nn.Parameter | None = None
        if memory.initial == "learned":
            self.M0 = nn.Parameter(uniform(-0.5, 0.5, (self.slots, W), generator))

    def initial_state(self, batch: int, slots: int | None = None) -> NTMState:
        """M_0, w_0, r_0 and the controller's; for once with another number of ``slots`` N."""
        N = self.slots if slots is None else slots
        reads = self.r0.expand(batch, -1, -1)
        return NTMState(
            self.initial_memory(batch, N),
            self.initial_weights(batch, N),
            reads,
            self.controller.initial_state(batch),
        )

    def initial_memory(self, batch: int, slots: int) -> Tensor:
        """M_0 [B, N, W]; a learned one has the slots that it has."""
        if self.M0 is not None:
            if slots != self.slots:
                raise ValueError(f"slots: the first memory is learned, for {self.slots} slots")
            return self.M0.expand(batch, -1, -1)
        return self.r0.new_full((1, 1, 1), INITIAL_MEMORY).expand(batch, slots, self.width)

    def initial_weights(self, batch: int, slots: int) -> Tensor:
        """w_0 [B, H, N], all on slot 0."""
        weights = self.r0.new_zeros(1, 1, slots)
        weights[..., 0] = 1
        return weights.expand(batch, self.heads, -1)

    def forward(
        self, x: Tensor, state: State, weighting_grad: float | None = None
    ) -> tuple[Tensor, State]:
        return self.step(x, state, weighting_grad)[:2]

    def step(self, x: Tensor, state: NTMState, weighting_grad: float | None = None) -> Step:
        """One step with every intermediate; ``forward`` is its first two fields.

        weighting_grad: what the derivatives by the weightings w_t are clipped to on their way back.
        """
        h, controller = self.controller(
            torch.cat([x, state.reads.flatten(1)], dim=-1), state.controller
        )
        key, beta, gate, s, gamma, erase, add = self.emit(h)

        content = addressing.content_weighting(key, beta, state.memory)
        gated = addressing.interpolate(content, state.weights, gate)
        weights = addressing.sharpen(addressing.shift(gated, s), gamma)

        if weighting_grad is not None and weights.requires_grad:
            weights.register_hook(lambda d: d.clamp(-weighting_grad, weighting_grad))

        memory = write(state.memory, weights[:, self.writer :], erase, add)
        seen = state.memory if self.reads_before else memory
        reads = read(seen, weights[:, : self.read_heads])

        output = torch.cat([h, reads.flatten(1)], dim=-1)
        new_state = NTMState(memory, weights, reads, controller)
        return Step(output, new_state, key, beta, gate, s, gamma, erase, add)

    def unroll(
        self, xs: Tensor, state: State, weighting_grad: float | None = None
    ) -> tuple[Tensor, State]:
        """As of every core; weighting_grad: see :meth:`step`."""
        if weighting_grad is None:
            return super().unroll(xs, state)
        outputs = []
        for x in xs:
            y, state = self(x, state, weighting_grad)
            outputs.append(y)
        return torch.stack(outputs), state

    def emit(self, h: Tensor) -> tuple[Tensor, ...]:
        """The controller's output [B, C] -> (k, beta, g, s, gamma, e, a) of every head.

        The paper fixes the ranges and leaves the nonlinearities open, but for the softmax of s.
        Keys and adds pass through tanh, which keeps the memory bounded by the number of steps.
        """
        H, Q, W, S = self.heads, self.write_heads, self.width, self.shifts
        emitted = self.interface(h).to(self.r0.dtype)  # autocast computes products in half of it
        k, a, e, g, beta, gamma, s = emitted.split(self.interface_sizes, dim=-1)
        return (
            torch.tanh(k).unflatten(-1, (H, W)),
            F.softplus(beta),
            torch.sigmoid(g),
            torch.softmax(s.unflatten(-1, (H, S)), dim=-1),
            1 + F.softplus(gamma),
            torch.sigmoid(e).unflatten(-1, (Q, W)),
            torch.tanh(a).unflatten(-1, (Q, W)),
        )
