"""The fused engine computes what the reference computes: values and every gradient."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from controllers import Core, build_controller, configure
from tests.kernels.common import (
    KINDS,
    VARIANTS,
    Case,
    Result,
    compare,
    config_of,
    distance,
    leaves,
    like,
    make,
    measure,
    same_bits,
)

numba = pytest.importorskip("numba")

from ntm.kernels import numba as fused  # noqa: E402


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
