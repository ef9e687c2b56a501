"""The switch: what was changed in a model is what runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import ntm
from controllers import build_controller, configure
from controllers.lstm import LSTM
from controllers.stack import Stack
from ntm.kernels.dispatch import EngineError, learner, select, unroll
from ntm.memory.ntm import NTMCell
from ntm.training.optim import flatten
from tests.kernels.models import (
    B,
    C,
    I,
    T,
    check_like_its_steps,
    model_of,
    randn,
)


class NoKeys(NTMCell):
    def emit(self, h: Tensor) -> tuple[Tensor, ...]:
        k, *rest = super().emit(h)
        return (k * 0, *rest)


class Doubled(nn.Linear):
    def forward(self, h: Tensor) -> Tensor:
        return 2 * super().forward(h)


class LowRank(nn.Module):
    """A layer with something added, as LoRA does it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.added = nn.Parameter(randn(base.out_features, base.in_features, seed=4))

    def forward(self, h: Tensor) -> Tensor:
        return self.base(h) + h @ self.added.T  # type: ignore[no-any-return]


class Flipped(LSTM):
    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        h, state = super().forward(x, state)
        return -h, state


def own_class(model: ntm.NTM) -> None:
    model.core.__class__ = NoKeys


def own_emit(model: ntm.NTM) -> None:
    emit = model.core.emit
    model.core.emit = lambda h: tuple(2 * part for part in emit(h))  # type: ignore[method-assign]


def own_forward(model: ntm.NTM) -> None:
    forward = model.core.controller.forward
    doubled: Any = lambda x, state: forward(2 * x, state)  # noqa: E731
    model.core.controller.forward = doubled  # type: ignore[method-assign]


def own_interface(model: ntm.NTM) -> None:
    model.core.interface = Doubled(C, model.core.interface.out_features)


def low_rank_interface(model: ntm.NTM) -> None:
    model.core.interface = LowRank(model.core.interface)  # type: ignore[assignment]


def low_rank_gates(model: ntm.NTM) -> None:
    model.core.controller.gates = LowRank(model.core.controller.gates)  # type: ignore[arg-type]


def without_bias(model: ntm.NTM) -> None:
    model.core.interface = nn.Linear(C, model.core.interface.out_features, bias=False)


def pruned(model: ntm.NTM) -> None:
    prune.l1_unstructured(model.core.interface, "weight", 0.5)


def pruned_gates(model: ntm.NTM) -> None:
    prune.l1_unstructured(model.core.controller.gates, "weight", 0.5)


def parametrized(model: ntm.NTM) -> None:
    parametrizations.weight_norm(model.core.interface, "weight")


def subclassed_controller(model: ntm.NTM) -> None:
    model.core.controller.__class__ = Flipped


def forward_hook(model: ntm.NTM) -> None:
    model.core.interface.register_forward_hook(lambda _module, _given, found: 2 * found)


def forward_pre_hook(model: ntm.NTM) -> None:
    model.core.controller.gates.register_forward_pre_hook(lambda _module, given: (2 * given[0],))  # type: ignore[union-attr]


def backward_hook(model: ntm.NTM) -> None:
    model.core.interface.register_full_backward_hook(
        lambda _module, inputs, _outputs: (2 * inputs[0],)  # type: ignore[index]
    )


def backward_pre_hook(model: ntm.NTM) -> None:
    model.core.interface.register_full_backward_pre_hook(
        lambda _module, outputs: (2 * outputs[0],)  # type: ignore[index]
    )


CHANGES = [
    own_class, own_emit, own_forward, own_interface, low_rank_interface, low_rank_gates,
    without_bias, pruned, pruned_gates, parametrized, subclassed_controller, forward_hook,
    forward_pre_hook, backward_hook, backward_pre_hook,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_what_runs(change: Callable[[ntm.NTM], None]) -> None:
    model = model_of()
    plain = model(randn(T, B, I))[0]
    assert select(model.core).engine == "fused"
    change(model)
    check_like_its_steps(model.core, "reference")
    if change not in (parametrized, backward_hook, backward_pre_hook):  # which keep the values
        assert not torch.allclose(model(randn(T, B, I))[0], plain)
    with pytest.raises(EngineError, match="the fused engine cannot run: "):
        model(randn(T, B, I), engine="fused")
    flatten(model)
    assert learner(model) is None


@pytest.mark.parametrize(
    "change",
    [
        own_forward, low_rank_gates, pruned_gates, subclassed_controller, forward_pre_hook,
    ],
)  # fmt: skip
@pytest.mark.parametrize("layers", [1, 2])
def test_what_was_changed_in_a_baseline_is_what_runs(change: Any, layers: int) -> None:
    """Torch's own kernels take the weights past what was changed, so they may not run either."""
    core = build_controller(configure("lstm", size=C, layers=layers), I, torch.Generator())
    holder: Any = type("Holder", (), {})()
    holder.core = type("Holder", (), {})()
    holder.core.controller = core.layers[0] if isinstance(core, Stack) else core
    plain = unroll(core, randn(T, B, I))[0]
    change(holder)
    check_like_its_steps(core, "reference")
    assert not torch.allclose(unroll(core, randn(T, B, I))[0], plain)
    assert not torch.allclose(unroll(core, randn(T, B, I), engine="reference")[0], plain)


def test_hooks_are_called_at_every_step() -> None:
    seen: list[str] = []
    model = model_of()
    handles = [
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
        for name, module in model.core.named_modules()
    ]
    model(randn(T, B, I))
    assert {name: seen.count(name) for name in seen} == dict.fromkeys(
        ("", "controller", "controller.gates", "interface"), T
    )
    for handle in handles:
        handle.remove()
    assert select(model.core).engine == "fused"
    handle = nn.modules.module.register_module_forward_hook(lambda *_: seen.append("all"))
    try:
        model(randn(T, B, I))
    finally:
        handle.remove()
    assert seen.count("all") > T


def test_a_hook_on_a_tensor_is_called_by_either_engine_and_by_training() -> None:
    seen: list[Tensor] = []
    model = model_of()
    model.core.interface.weight.register_hook(seen.append)
    assert select(model.core).engine == "fused"
    model(randn(T, B, I))[0].sum().backward()
    assert len(seen) == 1
    flatten(model)
    assert learner(model) is None  # which goes past autograd


def test_the_old_weight_norm() -> None:
    model = model_of()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(model.core.interface, "weight")
        model(randn(T, B, I))[0].sum().backward()
    assert model.core.interface.weight_g.grad is not None
    assert select(model.core).engine == "reference"
