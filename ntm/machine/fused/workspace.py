"""The arrays that the kernels work in, kept from call to call.

Fresh memory of this size costs a page fault for every 4 KiB, which takes longer than filling
it, so a workspace is handed on once nothing needs it: see :class:`Lease`.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from ntm.machine.fused.heads import Addressing, Scratch
from ntm.machine.fused.kernel import EVERY, GROUP, Adjoint, States
from ntm.machine.fused.plan import Plan

#: Idle workspaces that are kept, and the bytes that they may take in all.
KEEP, KEEP_BYTES = 4, 2**30


class Workspace:
    """All arrays for up to ``steps`` steps of history; 2 places in turn if 0."""

    def __init__(
        self, plan: Plan, batch: int, slots: int, steps: int, threads: int, dtype: torch.dtype
    ) -> None:
        B, N, W, H, Q = batch, slots, plan.width, plan.heads, plan.write_heads
        self.bytes = 0
        self.steps, self.threads = steps, threads
        inner, outer = (steps, steps + 1) if steps else (2, 2)

        def new(*shape: int) -> Tensor:
            tensor = torch.empty(shape, dtype=dtype)
            self.bytes += tensor.nbytes
            return tensor

        self.v, self.c = new(outer, B, plan.v_size), new(outer, B, plan.c_size)
        self.memory = new(steps // EVERY + 1, B, W, N)
        self.recent = new(threads, EVERY, min(GROUP, B), W, N)
        self.last, self.weights = new(B, W, N), new(outer, B, H, N)
        self.z = new(inner, B, plan.z_size)
        self.steps_ = [
            new(inner, B, plan.interface_size + 2 * H),
            new(inner, B, N),
            *[new(inner, B, H, N) for _ in range(3)],
        ]
        halo = N + 2 * (plan.shifts // 2)
        self.scratch = Scratch(*[
            new(threads, *shape).numpy()
            for shape in [
                (H, W), (H, W), (halo,), (halo,), (N,), (H, N), (W, N), (Q + 1, N),
            ]
        ])  # fmt: skip
        self.states = States(
            *[
                t.numpy()
                for t in (self.v, self.c, self.memory, self.recent, self.last, self.weights)
            ]
        )
        self.z_array = self.z.numpy()
        self.addressing = Addressing(*[t.numpy() for t in self.steps_])
        if steps:
            self.dz = new(steps, B, plan.z_size)
            self.dinterface = new(steps, B, plan.interface_size)
            self.dx = new(steps, B, plan.inputs)
            self.backward_arrays = [t.numpy() for t in (self.dx, self.dz, self.dinterface)]
            self.adjoint_tensors = [
                new(B, plan.reads), new(B, plan.h_size), new(B, plan.c_size), new(B, W, N),
                new(B, H, N), new(B, plan.v_size), new(B, plan.controller_size),
            ]  # fmt: skip
            self.adjoint = Adjoint(*[t.numpy() for t in self.adjoint_tensors])


Key = tuple[Any, ...]
_idle: list[tuple[Key, Workspace]] = []
_lock = threading.Lock()


class Lease:
    """A workspace on loan. It goes back when the lease is dropped or ended."""

    def __init__(
        self, plan: Plan, batch: int, slots: int, steps: int, threads: int, dtype: torch.dtype
    ) -> None:
        self.key: Key = (
            plan.table.tobytes(), plan.heads, plan.width, plan.read_heads, plan.shifts,
            plan.inputs, batch, slots, steps > 0, dtype,
        )  # fmt: skip
        found = None
        with _lock:
            for i in range(len(_idle) - 1, -1, -1):
                key, workspace = _idle[i]
                if key == self.key and workspace.steps >= steps and workspace.threads >= threads:
                    found = workspace
                    del _idle[i]
                    break
        self.workspace: Workspace | None = found or Workspace(
            plan, batch, slots, steps, threads, dtype
        )

    def end(self) -> None:
        """Hand the workspace back: its contents are lost."""
        workspace, self.workspace = self.workspace, None
        if workspace is None or workspace.bytes > KEEP_BYTES:
            return
        with _lock:
            _idle.append((self.key, workspace))
            while len(_idle) > KEEP or sum(w.bytes for _, w in _idle) > KEEP_BYTES:
                del _idle[0]

    def __del__(self) -> None:
        self.end()
