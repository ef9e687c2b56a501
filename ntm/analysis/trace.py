"""One episode of a model at work, with every intermediate, to and from .npz."""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntm.errors import NTMError
from ntm.files import user_path, write_file
from ntm.memory.ntm import NTMCell, Step
from ntm.memory.sparse import SparseCell, SparseStep
from ntm.model import Model
from tasks.episode import Episode
from tasks.losses import Loss

Array = np.ndarray

#: What a file that is damaged, or no trace, can raise.
_DAMAGED = (
    OSError, EOFError, TypeError, ValueError, KeyError, NotImplementedError, RuntimeError,
    SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
#: Bytes of all arrays of a trace: far more than any, and less than would harm.
_LARGEST = 2**31
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class NTMTrace:
    """What an NTM did at each step t. H = R + Q heads, read heads first; shared ones are twice.

    A sparse memory is shown as the NTM that would do the same. Its reads go by content alone: gate
    1, no shift, no sharpening. Its writes, which do not, are two heads each: those that erase the
    slots used least recently, then those that add.
    """

    memory: Array  # [T, N, W] M_t, after the write of step t
    weights: Array  # [T, H, N] w_t
    reads: Array  # [T, R, W] r_t
    key: Array  # [T, H, W] k_t
    beta: Array  # [T, H]
    gate: Array  # [T, H]    g_t
    shift: Array  # [T, H, S] s_t
    gamma: Array  # [T, H]
    erase: Array  # [T, Q, W] e_t
    add: Array  # [T, Q, W] a_t


@dataclass(frozen=True)
class Trace:
    """One sequence, what was answered, and how the model came to it (None for a baseline)."""

    inputs: Array  # [T, I]
    targets: Array  # [T, O]; of classes [T, 1], ones
    mask: Array  # [T]
    outputs: Array  # [T, O] probabilities of a 1; of classes [T, 1], of what came
    ntm: NTMTrace | None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an .npz that holds plain arrays."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "ntm"}
        if self.ntm is not None:
            arrays |= {f"ntm.{f.name}": getattr(self.ntm, f.name) for f in fields(NTMTrace)}
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        write_file(user_path(path), stream.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trace:
        """Reads what ``save`` wrote."""
        path = user_path(path)
        try:
            with zipfile.ZipFile(path) as archive:
                data = _arrays(archive)
                top = {f.name: data[f.name] for f in fields(cls) if f.name != "ntm"}
                ntm = None
                if "ntm.memory" in data:
                    ntm = NTMTrace(**{f.name: data[f"ntm.{f.name}"] for f in fields(NTMTrace)})
                return cls(**top, ntm=ntm)
        except _DAMAGED as error:
            raise NTMError(f"{path}: not a readable trace: {error}") from None


def _arrays(archive: zipfile.ZipFile) -> dict[str, Array]:
    """The arrays of an .npz from a stranger: nothing is executed, nor allocated beyond a limit."""
    members = archive.infolist()
    if sum(member.file_size for member in members) > _LARGEST:
        raise ValueError(f"it holds more than {_LARGEST / 2**30:g} GiB")
    found = {}
    for member in members:
        content = archive.read(member)  # all of it, so that its checksum is looked at
        stream = io.BytesIO(content)
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename} is of version {version}")
        shape, _, dtype = _HEADERS[version](stream)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
            raise ValueError(f"{member.filename} is not as long as it says")
        stream.seek(0)
        array = np.lib.format.read_array(stream, allow_pickle=False)
        found[member.filename.removesuffix(".npy")] = array
    return found


@torch.no_grad()
def record(
    model: Model, episode: Episode, loss: Loss, index: int = 0, slots: int | None = None
) -> Trace:
    """Runs sequence ``index`` of the episode, step by step. loss: the task's.

    slots: of the memory, if it is to have another number of them.
    """
    one = episode.select(index, index + 1)
    device = next(model.parameters()).device
    inputs = one.inputs.to(device)
    if not isinstance(model.core, NTMCell | SparseCell):
        outputs, _ = model.run(inputs, begin=one.begin.to(device))
        return _trace(one, model.readout(outputs), loss, ntm=None)

    core: Any = model.core
    sparse = isinstance(core, SparseCell)
    state = core.initial_state(1, slots)
    logits, rows = [], []
    for x in inputs:
        step = core.step(x, state)
        state = step.state
        logits.append(model.readout(step.output))
        rows.append(_sparse_row(step) if sparse else _row(step, shared=core.writer == 0))
    ntm = NTMTrace(*(_array(torch.cat(column)) for column in zip(*rows, strict=True)))
    return _trace(one, torch.stack(logits), loss, ntm)


def _row(step: Step, *, shared: bool) -> tuple[Tensor, ...]:
    """One step as :class:`NTMTrace` has it."""

    def each(x: Tensor) -> Tensor:
        return torch.cat([x, x], dim=1) if shared else x

    s = step.state
    heads = (each(x) for x in (step.key, step.beta, step.gate, step.shift, step.gamma))
    return (s.memory, each(s.weights), s.reads, *heads, step.erase, step.add)


def _sparse_row(step: SparseStep) -> tuple[Tensor, ...]:
    """One step as :class:`NTMTrace` has it."""
    s, told = step.state, step.told
    N = s.memory.shape[1]
    lru = step.written[..., :1]

    def dense(slots: Tensor, weights: Tensor) -> Tensor:
        return weights.new_zeros(*slots.shape[:2], N).scatter_add(2, slots, weights)

    erased, zero = torch.ones_like(told.add), torch.zeros_like(told.add)
    weightings = [
        dense(s.slots, s.weights),
        dense(lru, torch.ones_like(step.write_weights[..., :1])),
        dense(step.written, step.write_weights),
    ]
    none = torch.zeros_like(told.beta)
    gate = torch.cat([torch.ones_like(none), none, none], dim=1)
    one = torch.ones_like(gate)
    return (
        s.memory,
        torch.cat(weightings, dim=1),
        s.reads,
        torch.cat([told.query, zero, zero], dim=1),
        torch.cat([told.beta, none, none], dim=1),
        gate,
        one.unsqueeze(-1),
        one,
        torch.cat([erased, zero], dim=1),
        torch.cat([zero, told.add], dim=1),
    )


def first_non_finite(trace: Trace) -> str | None:
    """Which quantity first stopped being a number, and when; None when all are finite."""
    columns = {"outputs": trace.outputs}
    if trace.ntm is not None:
        # In the order in which a step computes them.
        order = (
            "key",
            "beta",
            "gate",
            "shift",
            "gamma",
            "erase",
            "add",
            "weights",
            "memory",
            "reads",
        )
        columns = {name: getattr(trace.ntm, name) for name in order} | columns
    found = [
        (int(np.argmax(bad)), name)
        for name, values in columns.items()
        if (bad := ~np.isfinite(values).reshape(len(values), -1).all(axis=1)).any()
    ]
    if not found:
        return None
    step, name = min(found, key=lambda item: item[0])
    return f"{name} at time step {step}"


def _trace(one: Episode, logits: Tensor, loss: Loss, ntm: NTMTrace | None) -> Trace:
    one = one.to("cpu")
    targets, outputs = loss.shown(logits.cpu(), one)
    inputs, mask = one.inputs, one.mask
    xs, ys, scored, answers = (_array(x[:, 0]) for x in (inputs, targets, mask, outputs))
    return Trace(xs, ys, scored, answers, ntm)


def _array(tensor: Tensor) -> Array:
    return tensor.cpu().numpy()
