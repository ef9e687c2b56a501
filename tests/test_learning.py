"""A training loop of one's own learns what autograd would have it learn."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import ntm
from ntm.kernels.dispatch import EngineError, has_learner
from ntm.model import Model

Optimizer = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


def model_of(**settings: Any) -> ntm.NTM:
    torch.manual_seed(6)
    return ntm.NTM(3, 2, hidden_size=7, slots=6, width=4, read_heads=2, **settings)


def batch_of(seed: int, T: int = 5, B: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    bits = torch.randint(0, 2, (T, B, 2), generator=g)
    return torch.randn(T, B, 3, generator=g), bits, torch.rand(T, B, generator=g) > 0.3


def cost_of(model: Model, xs: Tensor, ys: Tensor, mask: Tensor) -> Tensor:
    """[B] nats, on the reference."""
    logits, _ = model(xs, engine="reference")
    nats = F.binary_cross_entropy_with_logits(logits, ys.float(), reduction="none")
    return (nats.sum(-1) * mask).sum(0)


def gradients(model: torch.nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def close(one: list[Tensor], other: list[Tensor]) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("engine", ["auto", "reference"])
@pytest.mark.parametrize(
    "model",
    [
        model_of(),
        model_of(controller="gru", initial="learned"),
        ntm.Recurrent(3, 2, controller="lstm", hidden_size=7),
        ntm.Recurrent(3, 2, controller="feedforward", hidden_size=7),  # for which are no kernels
    ],
)
def test_it_gives_costs_errors_and_gradients(model: Model, engine: Any) -> None:
    model = copy.deepcopy(model)
    xs, ys, mask = batch_of(1)
    nats = cost_of(model, xs, ys, mask)
    nats.mean().backward()
    expected = gradients(model)
    learn = ntm.Learner(model, engine=engine)
    found = learn(xs, ys, mask)
    close([found.nats], [nats.detach()])
    close(gradients(model), expected)
    logits, _ = model(xs)
    assert torch.equal(found.errors, ((logits > 0) != (ys > 0)).sum(-1).mul(mask).sum(0).float())
    learn(xs, ys, mask)  # adds to what is there, as backward does
    close(gradients(model), [2 * g for g in expected])


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("engine", ["auto", "reference"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_steps_as_with_autograd(optimizer: str, engine: Any, vector: bool) -> None:
    mine, its = model_of(), model_of()
    learn = ntm.Learner(mine, engine=engine)
    own = OPTIMIZERS[optimizer](learn.parameters() if vector else mine.parameters())
    other = OPTIMIZERS[optimizer](its.parameters())
    for step in range(4):
        batch = batch_of(step, T=3 + step)
        own.zero_grad(set_to_none=step % 2 == 0)
        learn(*batch)
        torch.nn.utils.clip_grad_value_(mine.parameters(), 0.5)
        own.step()
        other.zero_grad()
        cost_of(its, *batch).mean().backward()
        torch.nn.utils.clip_grad_value_(its.parameters(), 0.5)
        other.step()
    for one, its_own in zip(mine.parameters(), its.parameters(), strict=True):
        torch.testing.assert_close(one, its_own, atol=2e-3, rtol=1e-2)
    assert not torch.equal(next(mine.parameters()), next(model_of().parameters()))


def test_other_losses_add_to_it() -> None:
    """A regulariser before it, and one after; and gradients that somebody put there."""
    model, xs, ys, mask = model_of(), *batch_of(2)
    learn = ntm.Learner(model)
    learn(xs, ys, mask)
    alone = gradients(model)
    torch.optim.SGD(model.parameters()).zero_grad()
    model.readout.weight.square().sum().backward()
    learn(xs, ys, mask)
    model.readout.bias.sum().backward()
    together = gradients(model)
    names = [name for name, _ in model.named_parameters()]
    for name, one, other in zip(names, together, alone, strict=True):
        more = {"readout.weight": 2 * model.readout.weight, "readout.bias": torch.ones(2)}
        torch.testing.assert_close(one, other + more.get(name, 0), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_layout_mask_and_slots_are_the_models(engine: Any) -> None:
    one, other = model_of(), model_of(batch_first=True)
    xs, ys, mask = batch_of(3)
    first = ntm.Learner(one, engine=engine)(xs, ys, mask, slots=11)
    again = ntm.Learner(other, engine=engine)(
        *(tensor.transpose(0, 1) for tensor in (xs, ys, mask)), slots=11
    )
    close(list(first), list(again))
    close(gradients(one), gradients(other))
    fewer = ntm.Learner(model_of(), engine=engine)(xs, ys, mask)
    assert not torch.allclose(fewer.nats, first.nats, rtol=1e-6)
    everywhere = ntm.Learner(model_of(), engine=engine)(xs, ys)
    close([everywhere.nats], [cost_of(model_of(), xs, ys, torch.ones(5, 4)).detach()])


def test_it_sees_what_is_done_to_the_model() -> None:
    """Frozen parts stay as they are, hooks are called, and a model that has moved is refused."""
    model, batch = model_of(), batch_of(4)
    for p in model.core.controller.parameters():
        p.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    learn = ntm.Learner(model)
    optimizer = torch.optim.AdamW(learn.parameters(), lr=0.1, weight_decay=0.5)
    learn(*batch)
    optimizer.step()
    after = model.state_dict()
    frozen = {name for name in after if torch.equal(after[name], before[name])}
    assert frozen == {name for name in after if name.startswith("core.controller.")}

    model = model_of()
    learn = ntm.Learner(model)
    assert has_learner(model)
    seen: list[str] = []
    model.readout.register_forward_hook(lambda *_: seen.append("readout"))
    learn(*batch)
    assert seen == ["readout"]

    model.double()
    with pytest.raises(RuntimeError, match="make another Learner"):
        learn(*batch)
    xs, ys, mask = batch
    assert ntm.Learner(model)(xs.double(), ys, mask).nats.dtype is torch.float64


def test_what_does_not_fit_is_refused() -> None:
    model = model_of()
    learn, (xs, ys, mask) = ntm.Learner(model), batch_of(5)
    for engine in ("auto", "reference"):
        learn = ntm.Learner(model, engine=engine)
        with pytest.raises(ValueError, match="inputs has 2 channels, the model takes 3"):
            learn(xs[..., :2], ys, mask)
        with pytest.raises(ValueError, match="targets has 1 channels, the model gives 2"):
            learn(xs, ys[..., :1], mask)
        with pytest.raises(ValueError, match=r"mask is \[4, 4\], should be \[5, 4\]"):
            learn(xs, ys, mask[:4])
    alone = ntm.Recurrent(3, 2, controller="gru", hidden_size=5)
    with pytest.raises(ValueError, match="slots is for a model with a memory"):
        ntm.Learner(alone)(xs, ys, mask, slots=4)
    with pytest.raises(ValueError, match="no parameters that require gradients"):
        ntm.Learner(alone.requires_grad_(False))
    with pytest.raises(EngineError, match="cannot run"):
        ntm.Learner(model_of(dtype=torch.bfloat16), engine="fused")
