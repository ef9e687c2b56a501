"""The fused engine computes what the reference computes: values and every gradient."""

import copy
import functools
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from controllers import CONTROLLERS, ControllerConfig, Core, build_controller, configure
from ntm.memory.ntm import NTMCell, NTMConfig, NTMState

numba = pytest.importorskip("numba")

from ntm.kernels import numba as fused  # noqa: E402
from ntm.kernels import threads  # noqa: E402
from ntm.kernels.numba import jit, math, workspace  # noqa: E402


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


@pytest.fixture
def two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


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


@pytest.mark.parametrize(("kind", "own"), VARIANTS)
@pytest.mark.parametrize(("layers", "skip"), [(1, False), (2, True), (3, False)])
def test_controllers(kind: str, own: Any, layers: int, skip: bool) -> None:
    assert compare(Case(kind, layers, skip, R=2, Q=3, settings=own)) < 1e-9


@pytest.mark.parametrize(("kind", "own"), VARIANTS)
@pytest.mark.parametrize(
    ("layers", "skip", "T", "B"), [(1, False, 5, 3), (2, True, 2, 19), (3, False, 6, 1)]
)
def test_without_a_memory(
    kind: str, own: Any, layers: int, skip: bool, T: int, B: int, two_threads: None
) -> None:
    """Values and gradients, from any state; and the values where no gradient is asked for."""
    case = Case(kind, layers, skip, T, B, settings=own)
    g = torch.Generator().manual_seed(3)
    core = build_controller(config_of(case), case.I, g).double()
    with torch.no_grad():
        for p in core.parameters():
            p.normal_(generator=g).mul_(0.5)
    xs = torch.randn(T, B, case.I, generator=g, dtype=torch.float64)
    start = [
        torch.randn(t.shape, generator=g, dtype=torch.float64)
        for t in leaves(core.initial_state(B))
    ]
    reference = measure(Core.unroll, core, xs, start)
    mine = measure(fused.unroll, core, xs, start)
    assert distance(reference, mine) < 1e-9
    with torch.no_grad():
        outputs, end = fused.unroll(core, xs, like(core.initial_state(1), iter(start)))
    assert all(map(torch.equal, mine.values, [outputs, *leaves(end)]))
    assert same_bits(mine, measure(fused.unroll, core, xs, start))


def test_without_a_memory_gradients_can_be_asked_for_twice() -> None:
    core = build_controller(configure("peephole_lstm", size=7), 4, torch.Generator().manual_seed(1))
    xs = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(2))
    outputs, _ = fused.unroll(core, xs, core.initial_state(3))
    parameters = list(core.parameters())
    first = torch.autograd.grad(outputs.square().sum(), parameters, retain_graph=True)
    again = torch.autograd.grad(outputs.square().sum(), parameters)
    assert all(map(torch.equal, first, again))


def test_without_a_memory_and_without_a_sequence() -> None:
    core = build_controller(configure("leaky", size=7), 4, torch.Generator())
    outputs, _ = fused.unroll(core, torch.zeros(5, 0, 4), core.initial_state(0))
    assert outputs.shape == (5, 0, 7)


@pytest.mark.parametrize(
    "case",
    [
        Case(N=1, W=1, shift=0),
        Case(N=1, W=5, shift=2),
        Case(N=2, W=3, shift=3, R=2),
        Case(N=3, W=1, shift=5, Q=2),
        Case(N=128, W=20, shift=2, R=3, Q=2, size=33),
        Case(N=17, W=4, shift=1, B=1, T=1),
        Case(N=9, W=2, shift=4, B=19, T=4),  # more samples than a group, or than threads
        Case(N=37, W=21, R=5, Q=4, size=18, kind="feedforward"),
        Case(N=13, W=5, R=2, Q=3, T=9, read="before"),
        Case(N=13, W=5, T=9, shared=True, kind="feedforward"),
        Case(N=9, W=7, R=3, Q=3, B=11, shared=True, read="before"),
    ],
    ids=str,
)
def test_sizes(case: Case) -> None:
    assert compare(case) < 1e-9


@st.composite
def cases(draw: Any) -> Case:
    """An NTM of any shape: sizes that all differ, so that no two can be mixed up."""
    N = draw(st.sampled_from([1, 2, 3, 128, *range(4, 24)]))
    W = draw(st.sampled_from([1, *range(2, 24)]).filter(lambda n: n != N))
    T, B, I, size = draw(  # noqa: E741
        st.lists(st.integers(1, 22).filter(lambda n: n not in (N, W)), min_size=4, max_size=4,
                 unique=True)
    )  # fmt: skip
    shared, R = draw(st.booleans()), draw(st.integers(1, 4))
    return Case(
        draw(st.sampled_from(KINDS)), draw(st.integers(1, 3)), draw(st.booleans()), T, B, I, size,
        N, W, R, Q=R if shared else draw(st.integers(1, 4)), shift=draw(st.integers(0, 4)),
        read=draw(st.sampled_from(["after", "before"])), shared=shared,
    )  # fmt: skip


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    case=cases(),
    spread=st.one_of(st.just(0.5), st.floats(0.1, 300)),
    seed=st.integers(0, 10**6),
)
def test_any_ntm_to_within_rounding(case: Case, spread: float, seed: int) -> None:
    """1e-9 of the largest number, or what rounding explains.

    Gates saturate here, gamma and beta reach hundreds, and a slot may be erased to the noise
    that is left of it, whose direction then counts. How far rounding moves such an NTM is
    measured: the reference itself, with every number that it is given changed by about 1e-15.
    Extreme ones take two steps: a gamma of 100 makes a difference 100 times as large in
    every step, and one of 1e-16 is always there.
    """
    if spread > 3:
        case = case._replace(T=min(case.T, 2))
    cell, xs, start = make(case._replace(spread=spread), seed)
    truth, found = measure(Core.unroll, cell, xs, start), measure(fused.unroll, cell, xs, start)
    g = torch.Generator().manual_seed(seed)

    def moved(t: Tensor) -> Tensor:
        return t * (1 + 1e-15 * torch.randn(t.shape, generator=g, dtype=t.dtype))

    again = []
    for _ in range(3):
        other = copy.deepcopy(cell)
        other.load_state_dict({name: moved(p) for name, p in cell.state_dict().items()})
        again.append(measure(Core.unroll, other, moved(xs), [moved(t) for t in start]))
    for kind in ("values", "gradients"):
        whole, mine = getattr(truth, kind), getattr(found, kind)
        largest = max(t.abs().max() for t in whole)
        for n, (x, y) in enumerate(zip(whole, mine, strict=True)):
            rounding = max((getattr(other, kind)[n] - x).abs().max() for other in again)
            assert (x - y).abs().max() <= 1e-9 * largest + 1000 * rounding


def test_from_its_own_first_state(two_threads: None) -> None:
    """Memory at 1e-6, one-hot weights, expanded tensors."""
    cell, xs, _ = make(Case(B=5))
    results = []
    for unroll in (Core.unroll, fused.unroll):
        outputs, end = unroll(cell, xs, cell.initial_state(5))
        gradients = torch.autograd.grad(outputs.square().sum(), list(cell.parameters()))
        results.append(Result([outputs.detach(), *leaves(end)], list(gradients)))
    assert distance(*results) < 1e-9


@pytest.mark.parametrize("spread", [3.0, 30.0])
@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_finite_wherever_the_reference_is(kind: str, spread: float) -> None:
    single = make(Case(kind, T=4, spread=spread, dtype=torch.float32))
    a, b = measure(Core.unroll, *single), measure(fused.unroll, *single)
    for x, y in zip([*a.values, *a.gradients], [*b.values, *b.gradients], strict=True):
        assert torch.isfinite(y)[torch.isfinite(x)].all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_without_direction(dtype: torch.dtype) -> None:
    """Vectors below the floor of the cosine, and weights of exactly 0."""
    cell, xs, start = make(Case(T=3, dtype=dtype))
    start[0][:, ::2] = 0
    start[0][:, 1::3] *= 1e-25
    start[1] = torch.zeros_like(start[1])
    start[1][:, :, 4] = 1
    bound = 1e-9 if dtype == torch.float64 else 1e-3
    assert (
        distance(measure(Core.unroll, cell, xs, start), measure(fused.unroll, cell, xs, start))
        < bound
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spread", [0.2, 0.6])
def test_float32_errs_as_rounding_does(kind: str, spread: float) -> None:
    """Both float32 engines are compared with the float64 truth.

    Their sums run in different orders and their exponentials differ in the last place, and T
    steps multiply either. So no fixed number of places can be asked for, but an error of the
    same order: at most 8 times the reference's own, or 64 roundings where that was lucky.
    """
    case = Case(kind, T=12, N=40, W=10, size=30, spread=spread)
    truth = measure(Core.unroll, *make(case))
    single = make(case._replace(dtype=torch.float32))
    reference = distance(truth, measure(Core.unroll, *single))
    mine = distance(truth, measure(fused.unroll, *single))
    assert mine < max(8 * reference, 64 * torch.finfo(torch.float32).eps)


def test_without_gradients_the_same_values_and_no_history(monkeypatch: Any) -> None:
    sizes = []

    class Recorded(workspace.Workspace):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            sizes.append(self.block.nbytes)

    monkeypatch.setattr(workspace, "Workspace", Recorded)
    monkeypatch.setattr(workspace, "_idle", [])
    for T in (2, 60):
        cell, xs, start = make(Case(T=T, N=13))
        values = measure(fused.unroll, cell, xs, start).values
        sizes.clear()
        monkeypatch.setattr(workspace, "_idle", [])
        with torch.no_grad():
            outputs, end = fused.unroll(cell, xs, like(cell.initial_state(1), iter(start)))
        assert all(map(torch.equal, [outputs, *leaves(end)], values))
        without = sizes[:]
    assert len(without) == 1
    assert without[0] < 3 * 60 * 13 * 6 * 8  # less than the history of the memory alone


def test_sizes_in_turn_share_a_block_and_are_laid_out_once(monkeypatch: Any) -> None:
    blocks = []

    class Recorded(workspace.Workspace):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            blocks.append(self.block)

    monkeypatch.setattr(workspace, "Workspace", Recorded)
    monkeypatch.setattr(workspace, "_idle", [])
    made = [make(Case(T=7, N=N)) for N in (40, 13, 29)]
    alone = [measure(fused.unroll, *each) for each in made]
    assert len(blocks) == 3
    for _ in range(2):
        for each, found in zip(made, alone, strict=True):
            assert same_bits(found, measure(fused.unroll, *each))
    assert len(blocks) == 3
    assert all(block is blocks[0] for block in blocks)
    larger = make(Case(T=7, N=50))  # does not fit: all begin anew in another block
    first = measure(fused.unroll, *larger)
    for each, found in zip(made, alone, strict=True):
        assert same_bits(found, measure(fused.unroll, *each))
    assert same_bits(first, measure(fused.unroll, *larger))
    assert len(blocks) == 7
    assert all(block is blocks[3] for block in blocks[3:])
    assert len(workspace._idle) == 1


def test_workspaces_that_are_too_short_or_too_many_are_replaced(monkeypatch: Any) -> None:
    monkeypatch.setattr(workspace, "WORKSPACES", 2)
    monkeypatch.setattr(workspace, "_idle", [])
    made = [make(Case(T=T, N=N)) for T, N in ((15, 40), (4, 13), (9, 13), (6, 29), (3, 13))]
    alone = []
    for each in made:
        monkeypatch.setattr(workspace, "_idle", [])
        alone.append(measure(fused.unroll, *each))
    monkeypatch.setattr(workspace, "_idle", [])
    for _ in range(3):
        for each, found in zip(made, alone, strict=True):
            assert same_bits(found, measure(fused.unroll, *each))
            (block,) = workspace._idle
            assert 1 <= len(block.workspaces) <= 2
            assert all(laid.block is block.memory for laid in block.workspaces.values())


@pytest.mark.parametrize("every", [1, 3, 7, 100])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recomputed_gradients_are_the_same(kind: str, every: int) -> None:
    made = make(Case(kind, 2, T=10, R=2, Q=2))
    whole = measure(fused.unroll, *made)
    again = measure(functools.partial(fused.unroll, recompute_every=every), *made)
    assert all(map(torch.equal, whole.values, again.values))
    assert distance(whole, again) < 1e-13


@pytest.mark.parametrize("every", [1, 4, 9])
def test_without_a_memory_recomputed_gradients_are_the_same(every: int) -> None:
    core = build_controller(configure("lstm", size=7, layers=2), 4, generator(1)).double()
    xs = torch.randn(10, 3, 4, generator=generator(2), dtype=torch.float64)
    start = [t.clone() for t in leaves(core.initial_state(3))]
    whole = measure(fused.unroll, core, xs, start)
    again = measure(functools.partial(fused.unroll, recompute_every=every), core, xs, start)
    assert all(map(torch.equal, whole.values, again.values))
    assert distance(whole, again) < 1e-13


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients_between(core: Core, xs: Tensor, before: Any, between: Any) -> list[Tensor]:
    """Something is done before the forward pass, and something before the backward pass."""
    before()
    outputs, end = fused.unroll(core, xs, core.initial_state(xs.shape[1]))
    loss = outputs.square().sum() + sum(t.sum() for t in leaves(end))
    between()
    found = torch.autograd.grad(loss, list(core.parameters()), allow_unused=True)
    return [t for t in found if t is not None]


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize(("forward", "backward"), [(1, 4), (4, 1), (2, 3)])
def test_the_backward_pass_has_the_threads_of_the_forward_pass(
    memory: bool, forward: int, backward: int
) -> None:
    cell, xs, _ = make(Case("gru", B=32, R=2, Q=2, I=4))
    core = cell if memory else build_controller(configure("gru", size=9), 4, generator(1)).double()
    before = threads.threads()

    def use(count: int) -> Any:
        return lambda: setattr(threads, "_threads", count)

    try:
        same = gradients_between(core, xs, use(forward), lambda: None)
        other = gradients_between(core, xs, use(forward), use(backward))
    finally:
        use(before)()
    assert all(map(torch.equal, same, other))


def test_the_backward_pass_has_the_module_of_the_forward_pass() -> None:
    """Another controller, of another size, and other heads: the gradients are the old one's."""
    cell, xs, _ = make(Case(R=2, Q=1, B=19))
    parameters = list(cell.parameters())
    expected = gradients_between(cell, xs, lambda: None, lambda: None)
    outputs, end = fused.unroll(cell, xs, cell.initial_state(19))
    loss = outputs.square().sum() + sum(t.sum() for t in leaves(end))
    other, *_ = make(Case("gru", size=23, R=1, Q=2, W=3, N=5))
    cell.__dict__.update(other.__dict__)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    assert all(map(torch.equal, expected, [t for t in found if t is not None]))


def test_a_module_that_has_changed_is_laid_out_anew() -> None:
    case = Case(R=2, Q=3)
    cell, xs, start = make(case)
    fused.unroll(cell, xs, like(cell.initial_state(1), iter(start)))
    other, xs, start = make(case._replace(kind="nested_lstm", layers=2, skip=True))
    cell.controller, cell.interface, cell.output_size = (
        other.controller, other.interface, other.output_size,
    )  # fmt: skip
    assert (
        distance(measure(Core.unroll, cell, xs, start), measure(fused.unroll, cell, xs, start))
        < 1e-9
    )
    cell.reads_before = True
    assert (
        distance(measure(Core.unroll, cell, xs, start), measure(fused.unroll, cell, xs, start))
        < 1e-9
    )


@pytest.mark.parametrize("limit", [1e-3, 0.3])
def test_derivatives_by_the_weights_are_clipped(limit: float) -> None:
    cell, xs, start = make(Case(R=2, Q=2, T=7))
    free = measure(Core.unroll, cell, xs, start)
    reference, mine = (
        measure(functools.partial(unroll, weighting_grad=limit), cell, xs, start)
        for unroll in (NTMCell.unroll, fused.unroll)
    )
    assert distance(reference, mine) < 1e-9
    assert distance(free, reference) > 1e-3  # it was clipped
    assert all(map(torch.equal, free.values, reference.values))


def test_backward_twice_and_out_of_turn() -> None:
    """A workspace that another call took over in the meantime costs time, not correctness."""
    cell, xs, start = make(Case())
    parameters = [cell.interface.weight, cell.interface.bias]
    state = like(cell.initial_state(1), iter(start))

    def loss(scale: float) -> Tensor:
        return fused.unroll(cell, scale * xs, state)[0].square().sum()

    alone = [torch.autograd.grad(loss(s), parameters) for s in (1.0, 2.0)]
    first, second = loss(1.0), loss(2.0)
    for s in (1.0, 2.0, 1.0):
        which = first if s == 1.0 else second
        found = torch.autograd.grad(which, parameters, retain_graph=True)
        loss(3.0)
        for a, b in zip(alone[int(s) - 1], found, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)


def test_the_same_bits_run_after_run(two_threads: None) -> None:
    made = make(Case(T=9, B=21, N=30, size=40, dtype=torch.float32))
    first = measure(fused.unroll, *made)
    assert all(same_bits(first, measure(fused.unroll, *made)) for _ in range(5))


def test_two_trainings_in_two_threads(two_threads: None) -> None:
    made = [make(Case(T=9, B=6 + i, N=30, size=40), seed=i) for i in range(2)]
    alone = [measure(fused.unroll, *m) for m in made]
    together: list[list[Result]] = [[], []]

    def train(i: int) -> None:
        torch.set_num_threads(2)
        together[i] = [measure(fused.unroll, *made[i]) for _ in range(20)]

    threads = [threading.Thread(target=train, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        assert len(together[i]) == 20
        assert all(same_bits(alone[i], result) for result in together[i])


@pytest.mark.parametrize("memory", [True, False])
def test_weights_may_not_change_before_backward(memory: bool) -> None:
    cell, xs, _ = make(Case())
    core = cell if memory else build_controller(configure("gru", size=9), 4, generator(1)).double()
    outputs, _ = fused.unroll(core, xs, core.initial_state(3))
    with torch.no_grad():
        next(iter(core.parameters())).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def test_without_a_memory_outputs_may_change_before_backward() -> None:
    """As those of the reference may: no derivative needs them."""
    core = build_controller(configure("gru", size=9), 4, generator(1)).double()
    xs = torch.randn(5, 3, 4, generator=generator(2), dtype=torch.float64)
    found = []
    for unroll in (Core.unroll, fused.unroll):
        outputs, _ = unroll(core, xs, core.initial_state(3))
        outputs.mul_(3)
        found.append(torch.autograd.grad(outputs.sum(), list(core.parameters())))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_this_numba_has_what_the_kernels_use_of_its_private_parts() -> None:
    missing = jit.missing()
    assert not missing, (
        f"Numba {numba.__version__} has no {', '.join(missing)}: see the docstring of "
        "ntm/kernels/numba/jit.py, and its upper bound in pyproject.toml"
    )


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("exp", -86.0, 88.0), ("log", 1e-37, 1e37), ("tanh", -10.0, 10.0), ("sigmoid", -80.0, 80.0)],
)
def test_float32_functions(name: str, low: float, high: float) -> None:
    function = getattr(math, name)

    @jit.exact
    def apply(x: Any, y: Any) -> None:
        for i in range(x.shape[0]):
            y[i] = function(x[i])

    x = np.linspace(low, high, 100_001) if name != "log" else np.geomspace(low, high, 100_001)
    x = np.concatenate([x, 1e-3 * x]) if name == "tanh" else x
    single = x.astype(np.float32)
    y = np.empty_like(single)
    apply(single, y)
    exact = single.astype(np.float64)
    truths: dict[str, Any] = {
        "exp": np.exp, "log": np.log, "tanh": np.tanh, "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    }  # fmt: skip
    truth = truths[name](exact)
    near = np.abs(truth) > 1e-30
    assert np.max(np.abs(y[near] / truth[near] - 1)) < 3e-7


def test_first_compilation_is_announced_once(
    monkeypatch: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    caplog.set_level(logging.INFO, logger="ntm")
    for said in (2, 0):  # the second one finds it on disk
        caplog.clear()
        assert jit.kernel(_twice)(3) == 6
        assert len(caplog.records) == said
    assert list(tmp_path.rglob("*.nbi"))


def _twice(x: Any) -> Any:
    return x + x


@pytest.mark.slow
def test_compiled_now_or_read_from_the_cache_the_bits_are_the_same(tmp_path: Path) -> None:
    code = """
import torch
from controllers import build_controller, configure
from ntm.kernels.dispatch import unroll
from ntm.memory.ntm import NTMCell, NTMConfig
generator = torch.Generator().manual_seed(1)
memory = NTMConfig(slots=33, width=7, write_heads=2)
controller = build_controller(configure(kind="lstm", size=19), 5 + 7, generator)
cell = NTMCell(controller, memory, generator)
xs = torch.randn(23, 3, 5, generator=generator)
ys, _ = unroll(cell, xs, cell.initial_state(3), engine="fused")
ys.square().sum().backward()
for t in [ys, *(p.grad for p in cell.parameters())]:
    print(t.detach().numpy().tobytes().hex())
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert len(outputs[0]) > 1000
    assert outputs[0] == outputs[1]
