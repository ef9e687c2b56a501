from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ntm.training.optim import GravesRMSprop, Ridge, flatten


def test_it_follows_the_equations_of_graves_2013() -> None:
    lr, momentum, decay, eps = 0.03, 0.8, 0.7, 1e-3
    rng = np.random.default_rng(5)
    start, gradients = rng.normal(size=(3, 2)), rng.normal(size=(6, 3, 2))
    parameter = torch.nn.Parameter(torch.tensor(start))
    optimizer = GravesRMSprop([parameter], lr, momentum, decay, eps)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()

    expected = start.copy()
    for i in range(3):
        for j in range(2):
            n = g = delta = 0.0
            for gradient in gradients[:, i, j]:
                n = decay * n + (1 - decay) * gradient**2
                g = decay * g + (1 - decay) * gradient
                delta = momentum * delta - lr * gradient / math.sqrt(n - g**2 + eps)
                expected[i, j] += delta
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12)


def test_a_constant_gradient_does_not_make_the_root_of_a_negative_number() -> None:
    parameter = torch.nn.Parameter(torch.zeros(4))
    optimizer = GravesRMSprop([parameter], eps=1e-12)
    for _ in range(500):
        parameter.grad = torch.tensor([1e4, 3.3, 1e-3, -7.7])
        optimizer.step()
    assert torch.isfinite(parameter).all()


def test_parameters_without_a_gradient_stay() -> None:
    moved, still = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))
    optimizer = GravesRMSprop([moved, still])
    moved.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(still, torch.ones(3))
    assert (moved < 1).all()


def test_flattened_parameters_train_as_they_would_one_by_one() -> None:
    def module() -> torch.nn.Module:
        generator = torch.Generator().manual_seed(2)
        layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
        with torch.no_grad():
            for p in layers.parameters():
                p.normal_(generator=generator)
        return layers

    xs = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(4))
    apart, together = module(), module()
    flat = flatten(together)
    one, other = GravesRMSprop(apart.parameters(), lr=0.1), GravesRMSprop([flat], lr=0.1)
    for x in xs:
        one.zero_grad()
        apart(x).square().sum().backward()
        one.step()
        assert flat.grad is not None
        flat.grad.zero_()
        together(x).square().sum().backward()
        other.step()
    for a, b in zip(apart.parameters(), together.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert flat.numel() == sum(p.numel() for p in apart.parameters())


def test_the_compiled_step_does_the_same() -> None:
    pytest.importorskip("numba")
    g = torch.Generator().manual_seed(3)
    start = torch.randn(1001, generator=g)
    ends = []
    for fused in (False, True):
        p = torch.nn.Parameter(start.clone())
        optimizer = GravesRMSprop([p], lr=1e-2, momentum=0.8, decay=0.9, eps=1e-3, fused=fused)
        g = torch.Generator().manual_seed(4)
        for _ in range(30):
            p.grad = torch.randn(1001, generator=g) + 1  # partly constant: the root comes near 0
            optimizer.step()
        ends.append([p.detach(), *optimizer.state[p].values()])
    for torchs, compiled in zip(*ends, strict=True):
        torch.testing.assert_close(compiled, torchs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("batches", "penalty"), [(1, 0.3), (5, 1e-3)])
def test_ridge_is_the_least_squares_solution(batches: int, penalty: float) -> None:
    """Against NumPy's, on rows of the penalty below the data, with the bias left out of it."""
    C, O = 6, 3  # noqa: E741
    g = torch.Generator().manual_seed(1)
    readout = torch.nn.Linear(C, O)
    parameters = flatten(readout)
    optimizer = Ridge(parameters, O, penalty)
    seen, wanted = [], []
    for _ in range(batches):
        h, goals = (torch.randn(4, 5, n, generator=g) for n in (C, O))
        mask = (torch.rand(4, 5, generator=g) < 0.6).float()
        optimizer.see(h, goals, mask)
        optimizer.step()
        seen.append(h[mask > 0].double())
        wanted.append(goals[mask > 0].double())
    rows = np.concatenate([torch.cat(seen), np.sqrt(penalty) * np.eye(C)])
    ones = np.concatenate([np.ones(len(torch.cat(seen))), np.zeros(C)])[:, None]
    goal = np.concatenate([torch.cat(wanted), np.zeros((C, O))])
    solution, *_ = np.linalg.lstsq(np.hstack([rows, ones]), goal, rcond=None)
    np.testing.assert_allclose(readout.weight.detach().numpy(), solution[:C].T, rtol=0, atol=1e-5)
    np.testing.assert_allclose(readout.bias.detach().numpy(), solution[C], rtol=0, atol=1e-5)


def test_ridge_before_anything_is_seen_stays_finite() -> None:
    readout = torch.nn.Linear(4, 2)
    optimizer = Ridge(flatten(readout), 2, 0.1)
    optimizer.step()
    assert all(p.count_nonzero() == 0 for p in readout.parameters())
