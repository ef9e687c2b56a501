"""The kernels run when, and only when, they compute what the modules would."""

from __future__ import annotations

import copy
import functools
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils import _pytree as pytree

import ntm
from controllers import CONTROLLERS, Core, build_controller, configure
from controllers.lstm import LSTM
from controllers.stack import Stack
from ntm.errors import UsageError
from ntm.kernels import dispatch, threads
from ntm.kernels.dispatch import EngineError, learner, select, unroll
from ntm.memory.ntm import NTMCell, NTMState
from ntm.training.optim import flatten

pytest.importorskip("numba")

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


@pytest.fixture(autouse=True)
def _nothing_said() -> Iterator[None]:
    dispatch._said.clear()
    yield
    dispatch._said.clear()


# What was changed


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


# What was put in


def another_controller(core: NTMCell) -> None:
    core.controller = build_controller(configure("lstm", size=C), I + W, torch.Generator())


def another_kind(core: NTMCell) -> None:
    core.controller = build_controller(configure("gru", size=C), I + W, torch.Generator())


def more_layers(core: NTMCell) -> None:
    core.controller = build_controller(
        configure("lstm", size=C, layers=2), I + W, torch.Generator()
    )


def another_interface(core: NTMCell) -> None:
    core.interface = nn.Linear(C, core.interface.out_features)


def other_parameters(core: NTMCell) -> None:
    core.interface.weight = nn.Parameter(randn(*core.interface.weight.shape, seed=3))
    core.controller.gates.bias = nn.Parameter(randn(4 * C, seed=4))  # type: ignore[union-attr]


def other_numbers(core: NTMCell) -> None:
    core.load_state_dict(
        {name: randn(*p.shape, seed=n) for n, (name, p) in enumerate(core.state_dict().items())}
    )


def reads_before(core: NTMCell) -> None:
    core.reads_before = True


def in_double(core: NTMCell) -> None:
    core.double()
    core.float()


@pytest.mark.parametrize(
    "put",
    [
        another_controller, another_kind, more_layers, another_interface, other_parameters,
        other_numbers, reads_before, in_double,
    ],
)  # fmt: skip
def test_what_was_put_in_after_a_call_is_used(put: Callable[[NTMCell], None]) -> None:
    model = model_of()
    before = model(randn(T, B, I))[0]
    put(model.core)
    check_like_its_steps(model.core, "fused")
    ys = model(randn(T, B, I))[0]
    assert torch.allclose(ys, before) == (put is in_double)
    ys.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_controller_of_another_size() -> None:
    """With an interface that fits it, it is the reference's; without, an error, of no kernel."""
    model = model_of()
    model(randn(T, B, I))
    larger = build_controller(configure("lstm", size=C + 3), I + W, torch.Generator())
    model.core.controller = larger
    assert "takes 14 and gives 15" in select(model.core).reason
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(randn(T, B, I))
    model.core.interface = nn.Linear(C + 3, model.core.interface.out_features)
    check_like_its_steps(model.core, "reference")
    wider = build_controller(configure("lstm", size=C), I + W + 1, torch.Generator())
    model.core.controller = wider
    with pytest.raises(ValueError, match="inputs has 10 channels, the model takes 11"):
        model(randn(T, B, I))


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_a_parameter_of_another_shape_is_not_read_past_its_end(kind: str) -> None:
    cell = model_of(controller=kind).core
    assert select(cell).engine == "fused"
    initial = {"h0", "c0"}
    for name, tensor in [*cell.controller.named_parameters(), *cell.controller.named_buffers()]:
        if name.split(".")[0] in initial:
            continue
        with torch.no_grad():
            whole, tensor.data = tensor.data, tensor.data[:-1].clone()
            assert select(cell).engine == "reference", name
            tensor.data = whole
    assert select(cell).engine == "fused"


# Where it is


def test_a_loaded_model_in_half_precision_and_elsewhere() -> None:
    for move in (torch.bfloat16, "meta"):
        model: Any = model_of()
        xs = randn(T, B, I)
        model(xs)
        moved = model.to(move)(xs.to(move))[0]
        assert torch.empty(0).to(move).dtype == moved.dtype
        assert moved.shape == (T, B, O)
    with pytest.raises(EngineError, match="on the CPU, not on meta"):
        select(model_of().to("meta").core, "fused")
    mixed = model_of()
    mixed.core.interface.double()
    assert "of several types" in select(mixed.core).reason


def test_forms_of_float() -> None:
    cell = model_of().core
    assert select(cell) == ("fused", "it applies, and is the fastest")
    assert select(cell, "reference") == ("reference", "asked for")
    assert select(cell.double(), "fused") == ("fused", "asked for")
    name, reason = select(cell.bfloat16())
    assert (name, "not in bfloat16" in reason) == ("reference", True)
    with pytest.raises(UsageError, match=r"the fused engine cannot run: .* not in bfloat16"):
        select(cell, "fused")


@pytest.mark.parametrize(
    ("kind", "layers", "expected"),
    [("gru", 1, "fused"), ("lstm", 3, "fused"), ("nested_lstm", 2, "fused"),
     ("feedforward", 2, "reference")],
)  # fmt: skip
def test_a_baseline_is_fused_where_it_is_recurrent(kind: str, layers: int, expected: str) -> None:
    core = build_controller(configure(kind, layers=layers), 3, torch.Generator())
    assert select(core).engine == expected


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    assert "Numba is not installed" in select(model_of().core).reason


def test_numba_is_imported_late() -> None:
    code = "import sys, ntm.kernels.dispatch, ntm.model; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_says_why_not_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="ntm")
    model = model_of().bfloat16()
    for _ in range(3):
        model(randn(T, B, I).bfloat16())
    half = [record.getMessage() for record in caplog.records]
    assert len(half) == 1
    assert "not in bfloat16" in half[0]
    model.float()(randn(T, B, I))
    model(randn(T, B, I), engine="reference")
    unroll(build_controller(configure("feedforward"), I, torch.Generator()), randn(T, B, I))
    assert len(caplog.records) == 1
    model.core.interface.register_forward_hook(lambda *_: None)
    model(randn(T, B, I))
    assert "a hook on interface" in caplog.records[1].getMessage()


# What torch does around it


def test_under_autocast() -> None:
    for kind in ("lstm", "gru", "feedforward"):
        model = model_of(controller=kind)
        xs = randn(T, B, I)
        expected = model(xs)[0]
        with torch.autocast("cpu", torch.bfloat16):
            ys, state = model(xs)
            again, _ = model(xs, state)
        assert ys.dtype == again.dtype == torch.bfloat16
        torch.testing.assert_close(ys.float(), expected, rtol=0.1, atol=0.05)
        ys.float().sum().backward()
        baseline = build_controller(configure(kind, size=C), I, torch.Generator().manual_seed(1))
        expected = unroll(baseline, xs)[0]
        with torch.autocast("cpu", torch.bfloat16):
            ys = unroll(baseline, xs)[0]
        torch.testing.assert_close(ys.float(), expected, rtol=0.1, atol=0.05)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by torch itself
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("memory", [True, False])
def test_under_torch_func(kind: str, memory: bool) -> None:
    core: Core = build_controller(configure(kind, size=C), I, torch.Generator().manual_seed(1))
    if memory:
        core = model_of(controller=kind).core
    xs = randn(4, T, B, I)

    def run(x: Tensor) -> Tensor:
        return unroll(core, x)[0]

    each = torch.func.vmap(run)(xs)
    torch.testing.assert_close(each, torch.stack([run(x) for x in xs]), rtol=1e-4, atol=1e-5)
    gradient = torch.func.grad(lambda x: run(x).sum())(xs[0])
    leaf = xs[0].clone().requires_grad_()
    run(leaf).sum().backward()
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-4, atol=1e-5)
    slope = torch.func.jvp(lambda x: run(x).sum(), (xs[0],), (xs[1],))[1]
    torch.testing.assert_close(slope, (gradient * xs[1]).sum(), rtol=1e-3, atol=1e-4)


def test_functional_call_uses_the_parameters_it_is_given() -> None:
    model, other = model_of(), model_of()
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(0.5)
    given = {name: p.detach().clone() for name, p in other.named_parameters()}
    found = torch.func.functional_call(model, given, (randn(T, B, I),))[0]
    torch.testing.assert_close(found, other(randn(T, B, I))[0])


@pytest.mark.filterwarnings("ignore:.torch.jit.trace", "ignore::torch.jit.TracerWarning")
def test_traced() -> None:
    model = model_of().requires_grad_(False)
    traced = torch.jit.trace(
        lambda x: unroll(model.core, x)[0], (randn(T, B, I),), check_trace=False
    )
    xs = randn(T, B, I, seed=5)
    torch.testing.assert_close(traced(xs), model.run(xs)[0])


def test_a_dispatch_mode_sees_every_operation() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for engine in ("auto", "reference"):
        with FlopCounterMode(display=False) as counter:
            model_of()(randn(T, B, I), engine=engine)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > T * B * C * I


class Marked(Tensor):
    """A tensor with ways of its own."""


def test_a_tensor_of_another_class() -> None:
    model = model_of()
    ys = model(randn(T, B, I).as_subclass(Marked))[0]
    assert isinstance(ys, Marked)
    torch.testing.assert_close(ys.as_subclass(Tensor), model(randn(T, B, I))[0])
    with pytest.raises(EngineError, match="a Marked may compute in ways of its own"):
        model(randn(T, B, I).as_subclass(Marked), engine="fused")


# How it is run


@pytest.mark.parametrize("engine", ["reference", "fused"])
@pytest.mark.parametrize("every", [1, 2, 3, 7])
@pytest.mark.parametrize("limit", [None, 0.01])
def test_what_is_recomputed_has_the_same_gradients(
    engine: Any, every: int, limit: float | None
) -> None:
    model = model_of(read_heads=2).double()
    xs = randn(T, B, I).double()
    found = []
    for recompute_every in (None, every):
        leaf = xs.clone().requires_grad_()
        ys, state = model(
            leaf, engine=engine, recompute_every=recompute_every, weighting_grad=limit
        )
        model.zero_grad()
        (ys.square().sum() + state.memory.square().sum()).backward()
        found.append([ys, state.weights, leaf.grad, *(p.grad for p in model.parameters())])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_a_baseline_is_recomputed(engine: Any) -> None:
    core = build_controller(configure("gru", size=C, layers=2), I, torch.Generator()).double()
    found = []
    for every in (None, 2):
        core.zero_grad()
        ys, _ = unroll(core, randn(T, B, I).double(), engine=engine, recompute_every=every)
        ys.square().sum().backward()
        found.append([ys, *(p.grad for p in core.parameters())])
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-11)


def test_the_reference_keeps_less_where_it_computes_again() -> None:
    """What autograd saves, in bytes, of a long sequence."""
    model, kept = model_of(slots=50), []
    for every in (None, 5):
        saved: list[int] = []

        def keep(t: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(t.numel())
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            model(randn(40, B, I), engine="reference", recompute_every=every)
        kept.append(sum(saved))
    assert kept[1] < kept[0] / 5


def test_a_model_is_asked_for_an_engine() -> None:
    seen: list[int] = []
    model = model_of()
    model.core.emit = functools.partial(_heard, model.core.emit, seen)  # type: ignore[method-assign]
    model(randn(T, B, I), engine="reference")
    assert len(seen) == T
    plain = model_of()
    torch.testing.assert_close(
        plain(randn(T, B, I), engine="reference")[0], plain(randn(T, B, I), engine="fused")[0]
    )


def _heard(emit: Any, seen: list[int], h: Tensor) -> Any:
    seen.append(1)
    return emit(h)


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1)])
@pytest.mark.parametrize("memory", [True, False])
def test_threads_of_the_forward_pass_are_those_of_the_backward_pass(
    before: int, after: int, memory: bool
) -> None:
    batch = 32
    core: Core = build_controller(configure("lstm", size=C), I, torch.Generator().manual_seed(1))
    if memory:
        core = model_of().core
    expected, own = copy.deepcopy(core), core
    by_steps(expected, randn(T, batch, I)).square().sum().backward()
    threads._threads = before
    ys, _ = unroll(own, randn(T, batch, I), engine="fused")
    threads._threads = after
    ys.square().sum().backward()
    for (name, p), q in zip(own.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4, msg=name)


# States


def test_gradients_by_a_state_that_is_handed_in() -> None:
    """By a first memory of one's own, and by one for all sequences."""
    model = model_of(read_heads=2)
    start = pytree.tree_map(torch.detach, model(randn(2, B, I))[1])
    assert isinstance(start, NTMState)
    for batch in (B, 1):
        memory = randn(batch, N, W, seed=9)
        gradients = []
        for engine in ("fused", "reference"):
            leaf = memory.clone().requires_grad_()
            ys, end = model(randn(T, B, I), start._replace(memory=leaf), engine=engine)
            (ys.square().sum() + end.memory.square().sum()).backward()
            gradients.append(leaf.grad)
        assert gradients[0] is not None
        assert gradients[0].shape == (batch, N, W)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
