"""A sequence of sparse accesses in one memory, written in place (Rae et al. 2016, section 3.4).

A forward pass keeps what each write overwrites, K + 1 rows of a head, instead of a memory for every
step: N + T K rows in all. A backward pass undoes the writes, the last first, so that at every step
the memory is what it was there; afterwards it is the first one again, bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ntm.memory.sparse_access import (
    access_,
    least_recent,
    nearest,
    read,
    rows_of,
    write_,
    write_weighting,
)


class Interface(NamedTuple):
    """What the heads are told in a step."""

    query: Tensor  # [B, H, W]  q_t
    beta: Tensor  # [B, H]     strength of the query, > 0
    add: Tensor  # [B, H, W]  a_t
    alpha: Tensor  # [B, H]     how much is written, in (0, 1)
    gamma: Tensor  # [B, H]     where: 1 to the slots last read, 0 to the least recently used


class Tape:
    """The memory of a sequence, at one step of it, and what leads to the others.

    memory: [B, N, W], a copy, which is written to.
    accessed: [B, N], likewise.
    reach: slots from this one on are alike, and were never accessed.
    keeps: whether there may be a backward pass.

    Slots that are alike are taken in the order of their numbers. So a step need only look at those
    below ``reach``, and at as many after them as the heads can take.
    """

    def __init__(self, memory: Tensor, accessed: Tensor, reach: int, keeps: bool) -> None:
        self.memory, self.accessed, self.reach, self._keeps = memory, accessed, reach, keeps
        self.at = 0  # steps done and not undone
        self._changes: list[tuple[Tensor, Tensor]] = []  # of each step: slots [B, E], rows
        self._time = accessed.amax(1, keepdim=True)
        self._gradient = memory

    def access(
        self, told: Interface, slots: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step. Returns the slots written [B, H, K + 1], those read, their weights, the reads.

        slots, weights [B, H, K]: what was read in the step before.
        """
        N, H, K = self.memory.shape[1], *slots.shape[1:]
        lru = least_recent(self.accessed[:, : self.reach + H], H)
        written = torch.cat([lru.unsqueeze(-1), slots], dim=-1)
        write_weights = write_weighting(told.alpha, told.gamma, weights)
        if self._keeps:
            self._changes.append((written.flatten(1), rows_of(self.memory, written.flatten(1))))
        write_(self.memory, written, write_weights, told.add)

        near = nearest(told.query, self.memory[:, : self.reach + H + K], K)
        weights, reads = read(told.query, told.beta, rows_of(self.memory, near))

        self.at += 1
        self._time = self._time + 1
        touched = torch.cat([written.flatten(1), near.flatten(1)], dim=1)
        values = torch.cat([write_weights.flatten(1), weights.flatten(1)], dim=1)
        access_(self.accessed, self._time, touched, values)
        if self.reach < N:
            self.reach = max(self.reach, int(touched.max()) + 1)
        return written, near, weights, reads

    def seek(self, step: int) -> None:
        """Takes the memory to what it was after so many steps."""
        while self.at > step:
            self.at -= 1
            self._exchange(*self._changes[self.at])
        while self.at < step:
            self._exchange(*self._changes[self.at])
            self.at += 1

    def _exchange(self, slots: Tensor, rows: Tensor) -> None:
        """What is in the memory for what is not."""
        index = slots.unsqueeze(-1).expand_as(rows)
        there = self.memory.gather(1, index)
        self.memory.scatter_(1, index, rows)
        rows.copy_(there)

    def gradient(self, goes_on: bool) -> Tensor:
        """What a backward pass adds up: the derivatives by the rows below ``reach``.

        They are 0 at its beginning; it goes on where a later step has been there before.
        """
        if not goes_on:
            B, _, W = self.memory.shape
            self._gradient = self.memory.new_zeros(B, self.reach, W)
        return self._gradient

    def begin_gradient(self, last: Tensor) -> None:
        """Begins a backward pass from the derivatives by the last memory."""
        self._gradient = last.clone()


# Autograd's side. A token, of no value, leads from each step to the next, so that a backward pass
# takes them in turn; its derivative only says that a later step came before.


class _Begin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, memory: Tensor, tape: Tape) -> Tensor:
        ctx.tape, ctx.shape = tape, memory.shape
        return memory.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, None]:
        gradient = ctx.tape.gradient(goes_on=True)
        whole = gradient.new_zeros(ctx.shape)
        whole[:, : gradient.shape[1]] = gradient
        return whole, None


class _Access(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, token: Tensor, tape: Tape, slots: Tensor, weights: Tensor, *told: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        written, near, new_weights, reads = tape.access(Interface(*told), slots, weights)
        ctx.tape, ctx.step = tape, tape.at
        ctx.save_for_backward(written, near, weights, *told)
        ctx.mark_non_differentiable(near)
        ctx.set_materialize_grads(False)
        return token.clone(), near, new_weights, reads

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, later: Tensor | None, _: None, d_weights: Tensor | None, d_reads: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        tape: Tape = ctx.tape
        written, near, weights, *saved = ctx.saved_tensors
        told = Interface(*saved)
        tape.seek(ctx.step)
        d_memory = tape.gradient(goes_on=later is not None)
        index = (
            slots.flatten(1).unsqueeze(-1).expand(-1, -1, d_memory.shape[-1])
            for slots in (near, written, written[..., 0])
        )
        at_near, at_written, at_lru = index

        # The read of M_t.
        rows = rows_of(tape.memory, near)
        d_query, d_beta, d_rows = _pull_back(
            read, (told.query, told.beta, rows), (d_weights, d_reads)
        )
        d_memory.scatter_add_(1, at_near, d_rows.flatten(1, 2))

        # The write, from M_{t-1} to M_t.
        d_written = d_memory.gather(1, at_written).view(*written.shape, -1)
        write_weights = write_weighting(told.alpha, told.gamma, weights)
        d_add = (write_weights.unsqueeze(-1) * d_written).sum(2)
        d_write_weights = (d_written * told.add.unsqueeze(2)).sum(-1)
        d_alpha, d_gamma, d_last = _pull_back(
            lambda *given: (write_weighting(*given),),
            (told.alpha, told.gamma, weights),
            (d_write_weights,),
        )
        d_memory.scatter_(1, at_lru, 0.0)
        tape.seek(ctx.step - 1)
        d_token = d_memory.new_zeros(())
        return d_token, None, None, d_last, d_query, d_beta, d_add, d_alpha, d_gamma


class _End(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, token: Tensor, tape: Tape, rest: Tensor) -> Tensor:
        ctx.tape = tape
        return torch.cat([tape.memory, rest], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_memory: Tensor) -> tuple[Tensor, None, None]:
        ctx.tape.begin_gradient(d_memory)
        return d_memory.new_zeros(()), None, None


def begin(memory: Tensor, tape: Tape) -> Tensor:
    """The first token, from M_0 [B, N, W]."""
    token: Tensor = _Begin.apply(memory, tape)  # type: ignore[no-untyped-call]
    return token


def access_on(
    tape: Tape, token: Tensor, slots: Tensor, weights: Tensor, told: Interface
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step: its token, the slots read [B, H, K], their weights w^R_t, and r_t [B, H, W].

    slots, weights: those of the step before.
    """
    found: tuple[Tensor, Tensor, Tensor, Tensor]
    found = _Access.apply(token, tape, slots, weights, *told)  # type: ignore[no-untyped-call]
    return found


def end(token: Tensor, tape: Tape, rest: Tensor) -> Tensor:
    """M_T [B, N, W], a copy. rest: the rows after those of the tape."""
    memory: Tensor = _End.apply(token, tape, rest)  # type: ignore[no-untyped-call]
    return memory


def _pull_back(
    function: Any, given: tuple[Tensor, ...], derivatives: tuple[Tensor | None, ...]
) -> tuple[Tensor, ...]:
    """The derivatives by what a function is given, from those by what it returns."""
    with torch.enable_grad():
        given = tuple(x.detach().requires_grad_() for x in given)
        results = function(*given)
    pairs = [(r, d) for r, d in zip(results, derivatives, strict=True) if d is not None]
    if not pairs:
        return tuple(torch.zeros_like(x) for x in given)
    found = torch.autograd.grad(
        [r for r, _ in pairs], given, [d for _, d in pairs], materialize_grads=True
    )
    return tuple(found)
