"""Slots that are alike are carried as one: the same values and gradients as a row for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ntm
from ntm.kernels.dispatch import learner, unroll
from tests.kernels.common import leaves

numba = pytest.importorskip("numba")

from ntm.kernels.numba import alike, rollout, workspace  # noqa: E402

I, O, C, W = 4, 3, 6, 5  # noqa: E741


def model_of(slots: int, **settings: Any) -> tuple[ntm.NTM, torch.Generator]:
    """A model with parameters large enough that heads go their own ways, in float64."""
    g = torch.Generator().manual_seed(slots)
    model = ntm.NTM(I, O, hidden_size=C, slots=slots, width=W, generator=g, **settings).double()
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(generator=g).mul_(0.7)
    return model, g


def randn(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g, dtype=torch.float64)


def measure(model: ntm.NTM, xs: Tensor, engine: Any, **options: Any) -> list[Tensor]:
    """Outputs, last state, and gradients of a random function of all of them."""
    model.zero_grad()
    xs = xs.clone().requires_grad_()
    g = torch.Generator().manual_seed(5)
    ys, state = model(xs, engine=engine, **options)
    values = [ys, *leaves(state)]
    torch.stack([(v * randn(g, *v.shape)).sum() for v in values]).sum().backward()
    return [*values, xs.grad, *(p.grad for p in model.parameters())]


def check_equal(found: list[Tensor], right: list[Tensor]) -> None:
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * (1 + float(b.detach().abs().max())))


heads = st.fixed_dictionaries(
    {
        "shift_range": st.integers(0, 3),
        "read": st.sampled_from(["after", "before"]),
        "controller": st.sampled_from(["lstm", "gru", "feedforward"]),
    }
)
counts = st.one_of(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.just(False)),
    st.integers(1, 3).map(lambda n: (n, n, True)),
)


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(st.sampled_from([1, 2, 7, 128]), st.integers(3, 70)), st.integers(1, 40),
    st.integers(1, 9), heads, counts, st.sampled_from([None, None, 4]),
)  # fmt: skip
def test_values_and_every_gradient_are_the_references(
    N: int,
    T: int,
    B: int,
    options: dict[str, Any],
    count: tuple[int, int, bool],
    every: int | None,
) -> None:
    R, Q, shared = count
    model, g = model_of(N, read_heads=R, write_heads=Q, shared=shared, **options)
    xs = randn(g, T, B, I)
    right = measure(model, xs, "reference")
    check_equal(measure(model, xs, "fused", recompute_every=every), right)
    with torch.no_grad():
        check_equal([model(xs, engine="fused")[0]], right[:1])


def test_a_large_memory_and_a_long_sequence() -> None:
    model, g = model_of(4096, read_heads=2)
    xs = randn(g, 300, 2, I)
    check_equal(measure(model, xs, "fused"), measure(model, xs, "reference"))


def test_a_million_slots_take_the_room_of_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    demands = []

    class Recorded(workspace.Lease):
        def __init__(self, demand: workspace.Demand) -> None:
            demands.append(demand)
            super().__init__(demand)

    monkeypatch.setattr(rollout, "Lease", Recorded)
    T, N = 20, 1_000_000
    model, g = model_of(N)
    xs = randn(g, T, 1, I)
    with torch.no_grad():
        ys, state = model(xs, engine="fused")
        few = model(xs, model.core.initial_state(1, 5000), engine="reference")[0]
    assert [demand.columns < 100 for demand in demands] == [True]
    assert state.memory.shape == (1, N, W)
    # In a larger memory content weighs less: these differ, but where a million is asked for.
    assert not torch.allclose(ys, few, rtol=1e-9)
    with torch.no_grad():
        check_equal([ys[:3]], [model(xs[:3], engine="reference")[0]])


@pytest.mark.parametrize(
    ("N", "T", "B", "limit", "every", "options"),
    [
        (7, 9, 3, 0.01, None, {}),
        (64, 12, 2, 0.003, 4, {"read_heads": 2, "write_heads": 2}),
        (640, 11, 1, 0.003, None, {"read_heads": 2, "write_heads": 2}),
        (300, 13, 2, 0.03, 5, {"shift_range": 2, "write_heads": 3}),
        (65, 10, 9, 0.01, None, {"shift_range": 0}),
        (2, 5, 2, 0.02, 2, {}),
        (1, 6, 2, 0.02, None, {}),
        (70, 14, 2, None, 3, {"shift_range": 3}),
    ],
)
def test_a_training_step_clips_derivatives_slot_by_slot(
    N: int, T: int, B: int, limit: float | None, every: int | None, options: dict[str, Any]
) -> None:
    model, g = model_of(N, controller="gru", **options)
    xs = randn(g, T, B, I)
    targets = torch.randint(0, 2, (T, B, O), generator=g).double()
    mask = torch.randint(0, 2, (T, B), generator=g).double()
    logits, _ = model(xs, engine="reference", weighting_grad=limit)
    nats = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(-1)
    right = (nats * mask).sum(0)
    right.mean().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    learn = learner(model, engine="fused", recompute_every=every, weighting_grad=limit)
    assert learn is not None
    found, _ = learn(xs, targets, mask)
    torch.testing.assert_close(found, right.detach(), rtol=1e-9, atol=1e-9)
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        assert p.grad is not None
        scale = float(gradient.abs().max())
        torch.testing.assert_close(p.grad, gradient, rtol=1e-9, atol=1e-9 * scale + 1e-12)


def test_a_state_from_elsewhere_has_a_row_for_every_slot() -> None:
    model, g = model_of(50)
    xs = randn(g, 6, 2, I)
    start = model.core.initial_state(2)
    focus = torch.softmax(randn(g, 2, 2, 50), dim=-1)  # heads that have gone different ways
    for state in (start._replace(weights=focus), start._replace(memory=randn(g, 2, 50, W))):
        found, right = (
            unroll(model.core, xs, state, engine=engine)[0] for engine in ("fused", "reference")
        )
        check_equal([found], [right])


@given(st.integers(1, 200), st.integers(0, 3), st.integers(1, 90), st.booleans())
def test_every_step_works_on_what_the_one_before_has_left(
    N: int, reach: int, T: int, clips: bool
) -> None:
    slots, kept, columns = alike.place_slots(N, reach, True, T, clips)
    before: set[int] = set()
    for t in range(T + 2):
        run, wider = alike.rows(slots, t), alike.rows(kept, t)
        own = set(range(run.first, run.first + run.count))
        assert own <= set(range(wider.first, wider.first + wider.count)) <= set(range(columns))
        assert before <= own
        assert run.count - 1 + run.like == N  # every slot once
        far = {(column - slots.home) % N for column in own} if run.circular else {
            column - slots.home for column in own if column != run.first
        }  # fmt: skip
        near = {s % N for s in range(-reach * t, reach * t + 1)}
        assert near <= {s % N for s in far}  # all that may differ have a column of their own
        before = own
