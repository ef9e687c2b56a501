"""Random models for the kernels, and how two unrolls of one are compared."""

import functools
from typing import Any, Literal, NamedTuple

import pytest
import torch
from torch import Tensor

from controllers import CONTROLLERS, ControllerConfig, Core, build_controller, configure
from ntm.memory.ntm import NTMCell, NTMConfig, NTMState

numba = pytest.importorskip("numba")

from ntm.kernels import numba as fused  # noqa: E402


class Case(NamedTuple):
    kind: str = "lstm"
    layers: int = 1
    skip: bool = False
    T: int = 5
    B: int = 3
    I: int = 4  # noqa: E741
    size: int = 7
    N: int = 11
    W: int = 6
    R: int = 1
    Q: int = 1
    shift: int = 1
    spread: float = 0.5  # of the parameters
    dtype: torch.dtype = torch.float64
    initial: Literal["constant", "learned"] = "constant"
    read: Literal["after", "before"] = "after"
    shared: bool = False
    settings: tuple[tuple[str, Any], ...] = ()  # of the controller's kind


class Result(NamedTuple):
    values: list[Tensor]  # the outputs and every field of the last state
    gradients: list[Tensor]  # by xs, every field of the first state, every parameter


def leaves(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [t for part in state for t in leaves(part)]


def like(state: Any, tensors: Any) -> Any:
    """The state's structure around other tensors, taken from an iterator."""
    if isinstance(state, Tensor):
        return next(tensors)
    parts = [like(part, tensors) for part in state]
    return NTMState(*parts) if isinstance(state, NTMState) else tuple(parts)


def config_of(case: Case) -> ControllerConfig:
    own = dict(case.settings)
    return configure(case.kind, size=case.size, layers=case.layers, skip=case.skip, **own)


def make(case: Case, seed: int = 0) -> tuple[NTMCell, Tensor, list[Tensor]]:
    """A cell with random parameters, inputs, and a random first state as a list."""
    g = torch.Generator().manual_seed(seed)
    controller = build_controller(config_of(case), case.I + case.R * case.W, g)
    memory = NTMConfig(
        slots=case.N, width=case.W, read_heads=case.R, write_heads=case.Q, shift_range=case.shift,
        initial=case.initial, read=case.read, shared=case.shared,
    )  # fmt: skip
    cell = NTMCell(controller, memory, g).double()
    with torch.no_grad():
        for p in cell.parameters():
            p.normal_(generator=g).mul_(case.spread)
    xs = torch.randn(case.T, case.B, case.I, generator=g, dtype=torch.float64)
    start = [
        torch.randn(t.shape, generator=g, dtype=torch.float64)
        for t in leaves(cell.initial_state(case.B))
    ]
    start[1] = torch.softmax(3 * start[1], dim=-1)
    return cell.to(case.dtype), xs.to(case.dtype), [t.to(case.dtype) for t in start]


def measure(unroll: Any, cell: Core, xs: Tensor, start: list[Tensor]) -> Result:
    """Values, and the gradients of a random combination of all of them."""
    xs = xs.clone().requires_grad_()
    start = [t.clone().requires_grad_() for t in start]
    outputs, end = unroll(cell, xs, like(cell.initial_state(1), iter(start)))
    values = [outputs, *leaves(end)]
    g = torch.Generator().manual_seed(5)
    loss = sum(
        (v * torch.randn(v.shape, generator=g, dtype=torch.float64).to(v.dtype)).sum()
        for v in values
    )
    inputs = [xs, *start, *cell.parameters()]
    found = torch.autograd.grad(loss, inputs, allow_unused=True)
    gradients = [
        torch.zeros_like(i) if x is None else x for x, i in zip(found, inputs, strict=True)
    ]
    return Result([v.detach() for v in values], gradients)


def distance(a: Result, b: Result) -> float:
    """The largest difference of any tensor, relative to the largest number in it."""
    worst = 0.0
    for x, y in zip([*a.values, *a.gradients], [*b.values, *b.gradients], strict=True):
        assert x.shape == y.shape
        assert torch.isfinite(y).all()
        scale = x.abs().max().clamp_min(1e-30).double()
        worst = max(worst, ((x.double() - y.double()).abs().max() / scale).item())
    return worst


def compare(case: Case, seed: int = 0, **options: Any) -> float:
    made = make(case, seed)
    run = functools.partial(fused.unroll, **options)
    return distance(measure(Core.unroll, *made), measure(run, *made))


def same_bits(a: Result, b: Result) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip([*a.values, *a.gradients], [*b.values, *b.gradients], strict=True)
    )


KINDS = list(CONTROLLERS)

#: Kinds with settings that choose another step, or another number of products.
VARIANTS = [
    *((kind, ()) for kind in KINDS),
    ("rnn", (("nonlinearity", "relu"),)),
    ("leaky", (("learned", True),)),
    ("leaky", (("leak", 1.0),)),
    ("nested_lstm", (("depth", 1),)),
    ("nested_lstm", (("depth", 4),)),
    ("echo_state", (("leak", 0.3), ("density", 1.0))),
]
