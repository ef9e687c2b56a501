"""Small models for the tests of the switch, and what they should compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import ntm
from controllers import Core
from ntm.kernels.dispatch import select, unroll

T, B, I, O, C, N, W = 5, 3, 10, 8, 12, 6, 4  # noqa: E741


def model_of(**settings: Any) -> ntm.NTM:
    given: dict[str, Any] = {"hidden_size": C, "slots": N, "width": W, **settings}
    return ntm.NTM(I, O, generator=torch.Generator().manual_seed(1), **given)


def randn(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_steps(core: Core, xs: Tensor) -> Tensor:
    """The core, one call after another: what every engine has to compute."""
    outputs, state = [], core.initial_state(xs.shape[1])
    for x in xs:
        y, state = core(x, state)
        outputs.append(y)
    return torch.stack(outputs)


def check_like_its_steps(core: Core, engine: str | None = None) -> None:
    """Values, and gradients by all parameters and the input, in a step of training."""
    assert engine is None or select(core).engine == engine
    found = []
    before = {name: p.clone() for name, p in core.state_dict().items()}
    for run in (lambda core, xs: unroll(core, xs)[0], by_steps):
        core.load_state_dict(before)
        core.zero_grad()
        xs = randn(T, B, core.input_size).requires_grad_()
        ys = run(core, xs)
        ys.square().sum().backward()
        found.append([ys, xs.grad, *(p.grad for p in core.parameters())])
        with torch.no_grad():
            for p in core.parameters():
                p.sub_(torch.ones_like(p) if p.grad is None else 0.1 * p.grad)
            found[-1].append(run(core, randn(T, B, core.input_size, seed=7)))
    core.load_state_dict(before)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
