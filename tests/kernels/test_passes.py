"""Forward and backward pass: histories, workspaces, threads, modules that change in between."""

import functools
import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from controllers import Core, build_controller, configure
from ntm.memory.ntm import NTMCell
from tests.kernels.common import (
    Case,
    Result,
    distance,
    leaves,
    like,
    make,
    measure,
    same_bits,
)

numba = pytest.importorskip("numba")

from ntm.kernels import numba as fused  # noqa: E402
from ntm.kernels import threads  # noqa: E402
from ntm.kernels.numba import workspace  # noqa: E402


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
