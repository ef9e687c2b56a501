"""A fused training step computes what autograd computes through the reference."""

from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from controllers import Core, build_controller
from ntm.kernels import threads as module
from ntm.memory.ntm import NTMCell
from ntm.model import Model

pytest.importorskip("numba")

from ntm.kernels.numba import Learner
from tests.kernels.common import KINDS, VARIANTS, Case, config_of, make


def made(case: Case, outputs: int, seed: int = 0) -> tuple[Model, Tensor, Tensor, Tensor]:
    """A model with gradients at hand, inputs, targets, and a mask with holes."""
    cell, xs, _ = make(case, seed)
    g = torch.Generator().manual_seed(seed)
    model = Model(cell, outputs, g).to(case.dtype)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    ys = torch.randint(0, 2, (case.T, case.B, outputs), generator=g).to(case.dtype)
    mask = torch.randint(0, 2, (case.T, case.B), generator=g).to(case.dtype)
    return model, xs, ys, mask


def alone(case: Case, outputs: int) -> tuple[Model, Tensor, Tensor, Tensor]:
    """The same for the controller without a memory."""
    _, xs, ys, mask = made(case, outputs)
    g = torch.Generator().manual_seed(2)
    model = Model(build_controller(config_of(case), case.I, g), outputs, g).to(case.dtype)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5, generator=g)  # learned first states are 0 otherwise
        p.grad = torch.zeros_like(p)
    return model, xs, ys, mask


def by_autograd(
    model: Model, xs: Tensor, ys: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, list[Tensor]]:
    logits, _ = model(xs, engine="reference")
    cost = F.binary_cross_entropy_with_logits(logits, ys, reduction="none").sum(-1) * mask
    gradients = torch.autograd.grad(cost.sum() / xs.shape[1], list(model.parameters()))
    wrong = torch.zeros(xs.shape[1])
    for t, b in torch.nonzero(mask).tolist():
        wrong[b] += sum((x > 0) != (y == 1) for x, y in zip(logits[t, b], ys[t, b], strict=True))
    return cost.sum(0).detach(), wrong, list(gradients)


def learner_of(model: Model, **options: Any) -> Learner:
    assert isinstance(model.core, Core)
    return Learner(model.core, model.readout, **options)


@pytest.fixture(params=[1, 3])
def threads(request: Any) -> Any:
    before = module._threads
    module._threads = request.param
    yield request.param
    module._threads = before


@pytest.mark.parametrize("segment", [None, 2])
@pytest.mark.parametrize(
    "case",
    [
        *[Case(kind, layers=2, skip=True, R=2, Q=2, N=12) for kind in KINDS],
        *[Case(kind, T=6, B=19) for kind in KINDS],  # more samples than two groups
        Case(T=6, B=19, R=2, initial="learned"),
        Case(T=1, B=1, N=1, W=1, shift=0),
    ],
    ids=str,
)
def test_cost_errors_and_every_gradient(case: Case, segment: int | None, threads: int) -> None:
    model, *episode = made(case, outputs=8)
    check(model, *episode, recompute_every=segment)


@pytest.mark.parametrize(("kind", "own"), VARIANTS)
@pytest.mark.parametrize(
    ("layers", "skip", "T", "B"), [(1, False, 5, 3), (2, True, 2, 19), (3, False, 6, 1)]
)
def test_without_a_memory(
    kind: str, own: Any, layers: int, skip: bool, T: int, B: int, threads: int
) -> None:
    check(*alone(Case(kind, layers, skip, T, B, settings=own), outputs=8))


def check(model: Model, *episode: Tensor, recompute_every: int | None = None) -> None:
    """The fused cost, errors and gradients are autograd's, and gradients add up."""
    learner = learner_of(model, recompute_every=recompute_every)
    learner(*episode)
    with torch.no_grad():
        for p in model.parameters():  # a learner sees that they have changed
            p.mul_(0.9)
            assert p.grad is not None
            p.grad.zero_()
    nats, wrong, gradients = by_autograd(model, *episode)
    for times in (1, 2):
        found = learner(*episode)
        torch.testing.assert_close(found[0], nats, rtol=1e-12, atol=1e-12)
        assert found[1].tolist() == wrong.tolist()
        for p, gradient in zip(model.parameters(), gradients, strict=True):
            scale = gradient.abs().max().clamp_min(1e-30)
            assert p.grad is not None
            assert ((p.grad - times * gradient).abs().max() / scale).item() < 1e-9


def test_with_another_number_of_slots_for_once() -> None:
    model, *episode = made(Case(T=6, B=19, R=2, N=12), outputs=4)
    cell, learner = cast("NTMCell", model.core), learner_of(model)
    for given, slots in ((5, 5), (31, 31), (None, 12), (12, 12), (5, 5)):
        cell.slots = slots
        nats, wrong, gradients = by_autograd(model, *episode)
        cell.slots = 12
        model.zero_grad(set_to_none=False)
        found = learner(*episode, slots=given)
        torch.testing.assert_close(found[0], nats, rtol=1e-12, atol=1e-12)
        assert found[1].tolist() == wrong.tolist()
        for p, gradient in zip(model.parameters(), gradients, strict=True):
            assert p.grad is not None
            torch.testing.assert_close(p.grad, gradient, rtol=1e-9, atol=1e-11)


def test_in_float32_to_within_rounding() -> None:
    """About T^2 roundings of 6e-8 meet in a gradient; 1e-4 of its largest entry is far below."""
    model, *episode = made(Case(T=20, B=5, N=21, size=30), outputs=6)
    _, _, gradients = by_autograd(model, *episode)
    single = [t.float() for t in episode]
    model.float()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    learner_of(model)(*single)
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        assert p.grad is not None
        worst = (p.grad - gradient).abs().max() / gradient.abs().max()
        assert worst.item() < 1e-4


@pytest.mark.parametrize("logit", [0.0, 1e-3, 5.0, 40.0, 300.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_sure_answers_cost_what_they_should(logit: float, sign: int) -> None:
    model, xs, ys, mask = made(Case(T=3, B=2, dtype=torch.float32), outputs=5)
    with torch.no_grad():
        model.readout.weight.zero_()
        model.readout.bias.fill_(sign * logit)
    nats, _ = learner_of(model)(xs, ys, torch.ones_like(mask))
    exact = torch.full(ys.shape, sign * logit, dtype=torch.float64)
    truth = F.binary_cross_entropy_with_logits(exact, ys.double(), reduction="none").sum((0, 2))
    torch.testing.assert_close(nats.double(), truth, rtol=3e-7, atol=0)


def test_what_is_no_number_shows_in_the_cost() -> None:
    for name in ("core.interface.bias", "core.controller.gates.weight", "readout.bias", "core.r0"):
        model, xs, ys, mask = made(Case(dtype=torch.float32), outputs=5)
        with torch.no_grad():
            dict(model.named_parameters())[name].fill_(torch.nan)
        nats, wrong = learner_of(model)(xs, ys, torch.ones_like(mask))
        assert nats.isnan().all()
        assert (wrong == ys[:, 0].numel()).all()
