"""The kernels run when, and only when, they compute what the modules would."""

from __future__ import annotations

import copy
import functools
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from controllers import CONTROLLERS, Core, build_controller, configure
from ntm.errors import UsageError
from ntm.kernels import dispatch, threads
from ntm.kernels.dispatch import EngineError, select, unroll
from ntm.memory.ntm import NTMCell, NTMState
from tests.kernels.models import (
    B,
    C,
    I,
    N,
    O,
    T,
    W,
    by_steps,
    check_like_its_steps,
    model_of,
    randn,
)

pytest.importorskip("numba")


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
