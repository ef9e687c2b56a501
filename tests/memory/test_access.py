"""Equations 2-4 against plain loops, in value and in gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ntm.memory.access import INITIAL_MEMORY, read, write
from tests.memory import oracle

B, R, N, W = 7, 2, 23, 5


def random_write(heads: int, seed: int, b: int = B, n: int = N, w: int = W) -> list[Tensor]:
    """memory, weights, erase, add."""
    g = torch.Generator().manual_seed(seed)
    memory = torch.randn(b, n, w, generator=g, dtype=torch.float64)
    weights = torch.randn(b, heads, n, generator=g, dtype=torch.float64).softmax(dim=-1)
    erase = torch.rand(b, heads, w, generator=g, dtype=torch.float64)
    add = torch.randn(b, heads, w, generator=g, dtype=torch.float64)
    return [memory, weights, erase, add]


def test_an_episode_starts_with_the_constant_of_collier_and_beel() -> None:
    assert INITIAL_MEMORY == 1e-6


def test_read_is_equation_2() -> None:
    memory, weights, _, _ = random_write(R, seed=1)
    actual = read(memory, weights)
    assert actual.shape == (B, R, W)
    for b in range(B):
        for r in range(R):
            expected = oracle.read(memory[b].numpy(), weights[b, r].numpy())
            np.testing.assert_allclose(actual[b, r].numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_write_is_equations_3_and_4(heads: int) -> None:
    memory, weights, erase, add = random_write(heads, seed=2)
    before = memory.clone()
    actual = write(memory, weights, erase, add)
    assert torch.equal(memory, before)  # the old memory is left as it was
    for b in range(B):
        expected = oracle.write(*(x[b].numpy() for x in (memory, weights, erase, add)))
        np.testing.assert_allclose(actual[b].numpy(), expected, rtol=0, atol=1e-14)


def test_the_order_of_the_write_heads_is_irrelevant() -> None:
    memory, weights, erase, add = random_write(3, seed=3)
    expected = write(memory, weights, erase, add)
    for order in ([2, 0, 1], [1, 0, 2], [2, 1, 0]):
        actual = write(memory, weights[:, order], erase[:, order], add[:, order])
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-14)


def test_two_heads_on_one_slot_erase_first_and_then_both_add() -> None:
    memory = torch.full((1, N, W), 5.0)
    weights = torch.zeros(1, 2, N)
    weights[..., 3] = 1
    add = torch.tensor([[[1.0] * W, [2.0] * W]])
    actual = write(memory, weights, torch.ones(1, 2, W), add)
    assert torch.equal(actual[0, 3], torch.full((W,), 3.0))  # neither has erased the other's
    assert torch.equal(actual[0, [*range(3), *range(4, N)]], memory[0, 1:])


def test_what_a_focused_head_writes_is_what_a_focused_head_reads() -> None:
    memory, _, _, add = random_write(1, seed=4)
    focus = torch.zeros(B, 1, N, dtype=torch.float64)
    focus[..., 13] = 1
    written = write(memory, focus, torch.ones_like(add), add)
    torch.testing.assert_close(read(written, focus), add, rtol=0, atol=1e-15)
    assert torch.equal(written[:, :13], memory[:, :13])
    assert torch.equal(written[:, 14:], memory[:, 14:])


def test_a_write_into_the_first_memory_in_float32() -> None:
    """An add of 1e-6 on a memory of 1e-6 is not lost, and neither is a partial erase."""
    memory = torch.full((1, N, W), INITIAL_MEMORY)
    weights = torch.zeros(1, 1, N)
    weights[..., 2] = 1
    add = torch.full((1, 1, W), 1e-6)
    actual = write(memory, weights, torch.full((1, 1, W), 0.25), add)
    torch.testing.assert_close(actual[0, 2], torch.full((W,), 1.75e-6), rtol=1e-5, atol=0)
    assert torch.equal(actual[0, 3:], memory[0, 3:])


@pytest.mark.parametrize("heads", [1, 3])
def test_gradients_of_read_and_write(heads: int) -> None:
    tensors = [x.requires_grad_() for x in random_write(heads, seed=5, b=2, n=5, w=4)]
    assert torch.autograd.gradcheck(write, tensors)
    assert torch.autograd.gradcheck(read, tensors[:2])
