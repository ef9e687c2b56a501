"""Equations 5-9 against plain loops, in value and in gradient, and at their edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ntm.memory.addressing import (
    content_weighting,
    cosine_similarity,
    interpolate,
    sharpen,
    shift,
)
from tests.memory import oracle

B, H, N, W, S = 7, 3, 23, 5, 9  # all different, so that a transposed axis fails

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13}
DTYPES = list(TOLERANCE)


def distribution(g: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64).softmax(dim=-1).to(dtype)


def normal(g: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def agrees(actual: Tensor, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(actual.double().numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 5e-9, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
def test_cosine_is_equation_6(dtype: torch.dtype, scale: float) -> None:
    g = torch.Generator().manual_seed(1)
    key, memory = normal(g, B, H, W, dtype=dtype), normal(g, B, N, W, dtype=dtype) * scale
    actual = cosine_similarity(key, memory)
    assert actual.shape == (B, H, N)
    assert actual.dtype == dtype
    for b in range(B):
        for h in range(H):
            expected = oracle.cosine(key[b, h].double().numpy(), memory[b].double().numpy())
            agrees(actual[b, h], expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_cosine_does_not_see_the_length_of_a_row_or_a_key(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(2)
    key, memory = normal(g, B, H, W, dtype=dtype), normal(g, B, N, W, dtype=dtype)
    rows = 10 ** (12 * torch.rand(B, N, 1, generator=g, dtype=dtype) - 6)  # 1e-6 ... 1e6
    keys = 10 ** (12 * torch.rand(B, H, 1, generator=g, dtype=dtype) - 6)
    torch.testing.assert_close(
        cosine_similarity(key * keys, memory * rows),
        cosine_similarity(key, memory),
        rtol=0,
        atol=TOLERANCE[dtype],
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_cosine_at_the_memory_that_an_episode_starts_with(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(3)
    key, memory = normal(g, B, H, W, dtype=dtype), torch.full((B, N, W), 1e-6, dtype=dtype)
    expected = key.sum(-1) / (key.norm(dim=-1) * W**0.5)  # the cosine to (1, 1, ..., 1)
    actual = cosine_similarity(key, memory)
    for i in range(N):
        torch.testing.assert_close(actual[..., i], expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("zero", ["memory", "key", "both", "one row", "below the floor"])
def test_cosine_of_nothing_is_zero_with_finite_gradients(dtype: torch.dtype, zero: str) -> None:
    g = torch.Generator().manual_seed(4)
    key, memory = normal(g, B, H, W, dtype=dtype), normal(g, B, N, W, dtype=dtype)
    if zero in ("key", "both"):
        key.zero_()
    if zero in ("memory", "both"):
        memory.zero_()
    if zero == "one row":
        memory[:, 11] = 0
    if zero == "below the floor":
        memory[:, 11] = torch.finfo(dtype).tiny
    key.requires_grad_()
    memory.requires_grad_()
    similarity = cosine_similarity(key, memory)
    blank = similarity[..., 11] if zero in ("one row", "below the floor") else similarity
    torch.testing.assert_close(blank, torch.zeros_like(blank), rtol=0, atol=1e-20)
    weights = content_weighting(key, torch.full((B, H), 7.0, dtype=dtype), memory)
    (similarity.sum() + (weights**2).sum()).backward()
    assert key.grad is not None
    assert memory.grad is not None
    assert torch.isfinite(key.grad).all()
    assert torch.isfinite(memory.grad).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_content_weighting_is_equation_5(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(5)
    key, memory = normal(g, B, H, W, dtype=dtype), normal(g, B, N, W, dtype=dtype)
    beta = normal(g, B, H, dtype=dtype).exp()
    actual = content_weighting(key, beta, memory)
    for b in range(B):
        for h in range(H):
            expected = oracle.content(
                key[b, h].double().numpy(), float(beta[b, h]), memory[b].double().numpy()
            )
            agrees(actual[b, h], expected, 10 * TOLERANCE[dtype])


def test_a_strong_key_finds_its_row_and_a_key_of_no_strength_finds_all() -> None:
    g = torch.Generator().manual_seed(6)
    memory = normal(g, B, N, W)
    wanted = torch.randint(N, (B, H), generator=g)
    key = memory[torch.arange(B)[:, None], wanted] * 0.3
    strong = content_weighting(key, torch.full((B, H), 1e5, dtype=key.dtype), memory)
    assert torch.equal(strong.argmax(dim=-1), wanted)
    none = content_weighting(key, torch.zeros(B, H, dtype=key.dtype), memory)
    torch.testing.assert_close(none, torch.full_like(none, 1 / N))


@pytest.mark.parametrize("dtype", DTYPES)
def test_interpolate_is_equation_7(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(7)
    content, previous = (distribution(g, B, H, N, dtype=dtype) for _ in range(2))
    gate = torch.rand(B, H, generator=g, dtype=dtype)
    actual = interpolate(content, previous, gate)
    for b in range(B):
        for h in range(H):
            expected = oracle.interpolate(
                content[b, h].double().numpy(), previous[b, h].double().numpy(), float(gate[b, h])
            )
            agrees(actual[b, h], expected, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gate_of_0_ignores_content_and_a_gate_of_1_the_previous_weights(
    dtype: torch.dtype,
) -> None:
    g = torch.Generator().manual_seed(8)
    content, previous = (distribution(g, B, H, N, dtype=dtype) for _ in range(2))
    assert torch.equal(interpolate(content, previous, torch.zeros(B, H, dtype=dtype)), previous)
    assert torch.equal(interpolate(content, previous, torch.ones(B, H, dtype=dtype)), content)


@pytest.mark.parametrize("slots", [1, 2, 3, 4, N])
@pytest.mark.parametrize("shifts", [1, 3, 5, S])
@pytest.mark.parametrize("dtype", DTYPES)
def test_shift_is_equation_8_and_may_be_wider_than_the_memory(
    dtype: torch.dtype, shifts: int, slots: int
) -> None:
    g = torch.Generator().manual_seed(100 * slots + shifts)
    gated = distribution(g, B, H, slots, dtype=dtype)
    s = distribution(g, B, H, shifts, dtype=dtype)
    actual = shift(gated, s)
    assert actual.shape == gated.shape
    for b in range(B):
        for h in range(H):
            expected = oracle.shift(gated[b, h].double().numpy(), s[b, h].double().numpy())
            agrees(actual[b, h], expected, TOLERANCE[dtype])


@pytest.mark.parametrize("slots", [1, 2, 3, N])
@pytest.mark.parametrize("j", range(5))
def test_a_one_hot_shift_is_a_roll_towards_higher_slots(j: int, slots: int) -> None:
    g = torch.Generator().manual_seed(9)
    gated = distribution(g, B, H, slots)
    s = torch.zeros(B, H, 5, dtype=gated.dtype)
    s[..., j] = 1
    actual = shift(gated, s)
    for i in range(slots):  # whoever was at slot i is now at i + (j - 2)
        assert torch.equal(actual[..., (i + j - 2) % slots], gated[..., i])


def test_every_head_of_every_sequence_has_its_own_shift() -> None:
    gated = torch.zeros(2, 3, N)
    gated[..., 4] = 1
    s = torch.zeros(2, 3, 7)
    moves = torch.tensor([[-3, 0, 2], [1, 3, -1]])
    s.scatter_(-1, (moves + 3).unsqueeze(-1), 1)
    assert torch.equal(shift(gated, s).argmax(dim=-1), 4 + moves)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sharpen_is_equation_9(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(10)
    shifted = distribution(g, B, H, N, dtype=dtype)
    gamma = 1 + normal(g, B, H, dtype=dtype).exp()
    actual = sharpen(shifted, gamma)
    for b in range(B):
        for h in range(H):
            expected = oracle.sharpen(shifted[b, h].double().numpy(), float(gamma[b, h]))
            agrees(actual[b, h], expected, 10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_sharpening_by_1_changes_nothing(dtype: torch.dtype) -> None:
    shifted = distribution(torch.Generator().manual_seed(11), B, H, N, dtype=dtype)
    actual = sharpen(shifted, torch.ones(B, H, dtype=dtype))
    torch.testing.assert_close(actual, shifted, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("gamma", [1.0, 1.5, 20.0, 1e4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_hot_weights_pass_through_sharpen_with_finite_gradients(
    dtype: torch.dtype, gamma: float
) -> None:
    focus = torch.zeros(B, H, N, dtype=dtype)
    focus[..., 17] = 1
    weights = focus.clone().requires_grad_()
    power = torch.full((B, H), gamma, dtype=dtype, requires_grad=True)
    actual = sharpen(weights, power)
    torch.testing.assert_close(actual, focus, rtol=0, atol=1e-30)
    (actual * torch.arange(N, dtype=dtype)).sum().backward()
    assert weights.grad is not None
    assert power.grad is not None
    assert torch.isfinite(weights.grad).all()
    assert torch.isfinite(power.grad).all()


@pytest.mark.parametrize("gamma", [1.0, 20.0, 1e4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sharpening_what_is_spread_thin_does_not_underflow(
    dtype: torch.dtype, gamma: float
) -> None:
    slots = 1000  # (1/1000)^20 is 0 in float32
    flat = torch.full((2, 1, slots), 1 / slots, dtype=dtype, requires_grad=True)
    actual = sharpen(flat, torch.full((2, 1), gamma, dtype=dtype))
    torch.testing.assert_close(actual, flat)
    (actual * torch.arange(slots, dtype=dtype)).sum().backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_gradients() -> None:
    """Every function in float64 against differences, at sizes that all differ."""
    g = torch.Generator().manual_seed(12)
    b, h, n, w = 2, 3, 5, 4
    key, memory = normal(g, b, h, w), normal(g, b, n, w)
    content, previous = (distribution(g, b, h, n) for _ in range(2))
    beta, gamma = normal(g, b, h).exp(), 1 + normal(g, b, h).exp()
    gate = torch.rand(b, h, generator=g, dtype=torch.float64)
    for x in (key, memory, content, previous, beta, gamma, gate):
        x.requires_grad_()
    assert torch.autograd.gradcheck(cosine_similarity, (key, memory))
    assert torch.autograd.gradcheck(cosine_similarity, (key, (memory * 1e-3).detach()))
    assert torch.autograd.gradcheck(content_weighting, (key, beta, memory))
    assert torch.autograd.gradcheck(interpolate, (content, previous, gate))
    assert torch.autograd.gradcheck(sharpen, (content, gamma))
    for shifts in (1, 3, 7, 13):  # 13: half of it is wider than the five slots
        s = distribution(g, b, h, shifts).requires_grad_()
        assert torch.autograd.gradcheck(shift, (content, s))
