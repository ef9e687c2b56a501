from __future__ import annotations

import math

import numpy as np
import torch

from ntm.experiment.optim import GravesRMSprop


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
