"""What every core promises, held over controllers, stacks and machines alike."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from controllers import CONTROLLERS, Core, State, build_controller, configure
from controllers.echo_state import EchoState
from ntm.memory.ntm import NTMCell, NTMConfig
from ntm.memory.sparse import SparseCell, SparseConfig

T, B, INPUTS = 5, 7, 3  # every size of a core below differs from these and from each other


def controller(kind: str, layers: int = 1, **settings: Any) -> Callable[[int], Core]:
    def build(seed: int) -> Core:
        config = configure(kind=kind, size=11, layers=layers, **settings)
        return build_controller(config, INPUTS, torch.Generator().manual_seed(seed))

    return build


def machine(
    kind: str,
    reads: int,
    writes: int,
    layers: int = 1,
    initial: Literal["constant", "learned"] = "constant",
    **settings: Any,
) -> Callable[[int], Core]:
    def build(seed: int) -> Core:
        g = torch.Generator().manual_seed(seed)
        memory = NTMConfig(
            slots=23, width=4, read_heads=reads, write_heads=writes, shift_range=2, initial=initial
        )
        config = configure(kind=kind, size=11, layers=layers, **settings)
        return NTMCell(build_controller(config, INPUTS + reads * 4, g), memory, g)

    return build


def sparse(kind: str, heads: int, reads: int, **settings: Any) -> Callable[[int], Core]:
    def build(seed: int) -> Core:
        g = torch.Generator().manual_seed(seed)
        memory = SparseConfig(slots=23, width=4, heads=heads, reads=reads)
        controller = configure(kind=kind, size=11, **settings)
        return SparseCell(build_controller(controller, INPUTS + heads * 4, g), memory, g)

    return build


#: A sparse reservoir of this size has units that nobody listens to.
ALL_JOINED: dict[str, Any] = {"echo_state": {"density": 1.0}}

#: Of these, all that is in the state counts at once.
DENSE: dict[str, Callable[[int], Core]] = {
    **{kind: controller(kind, **ALL_JOINED.get(kind, {})) for kind in CONTROLLERS},
    "leaky, learned": controller("leaky", learned=True),
    "leaky, 0.9": controller("leaky", leak=0.9),
    "nested lstm of depth 3": controller("nested_lstm", depth=3),
    "nested lstm x2, skip": controller("nested_lstm", 2, skip=True),
    "peephole lstm x2": controller("peephole_lstm", 2),
    "echo state x2, all joined": controller("echo_state", 2, density=1.0, leak=0.3),
    "feedforward x2": controller("feedforward", 2),
    "gru x2": controller("gru", 2),
    "rnn x3, skip": controller("rnn", 3, skip=True),
    "lstm x3, skip": controller("lstm", 3, skip=True),
    "ntm feedforward 1+1": machine("feedforward", 1, 1),
    **{f"ntm {k} 2+1": machine(k, 2, 1, **ALL_JOINED.get(k, {})) for k in CONTROLLERS},
    "ntm nested lstm of depth 3, x2 1+2": machine("nested_lstm", 1, 2, 2, depth=3),
    "ntm rnn 1+2": machine("rnn", 1, 2),
    "ntm lstm 1+1": machine("lstm", 1, 1),
    "ntm lstm 2+3": machine("lstm", 2, 3),
    "ntm gru 3+1": machine("gru", 3, 1),
    "ntm lstm x2 2+1": machine("lstm", 2, 1, layers=2),
    "ntm lstm 2+1, learned memory": machine("lstm", 2, 1, initial="learned"),
    "ntm gru x2, skip 1+1": machine("gru", 1, 1, layers=2, skip=True),
}

CORES: dict[str, Callable[[int], Core]] = {
    **DENSE,
    "sparse feedforward 2x3": sparse("feedforward", 2, 3),
    "sparse echo state 1x4": sparse("echo_state", 1, 4, density=1.0),
    "sparse lstm 1x23": sparse("lstm", 1, 23),
    "sparse gru x2, skip 3x2": sparse("gru", 3, 2, layers=2, skip=True),
}


@pytest.fixture(params=CORES)
def build(request: pytest.FixtureRequest) -> Callable[[int], Core]:
    return CORES[request.param]


@pytest.fixture
def core(build: Callable[[int], Core]) -> Core:
    """The core in float64, its learned first states away from 0."""
    core = build(1).double()
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in core.parameters():
            if p.count_nonzero() == 0:
                p.uniform_(-0.5, 0.5, generator=g)
    return core


def inputs(seed: int = 3, steps: int = T, batch: int = B) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, INPUTS, generator=g, dtype=torch.float64)


def leaves(state: State) -> list[Tensor]:
    return pytree.tree_leaves(state)


def same(left: State, right: State, atol: float = 0.0) -> None:
    """Two states, or outputs, are the same; exactly, unless a tolerance is given."""
    torch.testing.assert_close(leaves(left), leaves(right), rtol=0, atol=atol)


def test_sizes(core: Core) -> None:
    assert core.input_size == INPUTS
    output, state = core(inputs()[0], core.initial_state(B))
    assert output.shape == (B, core.output_size)
    shapes = [leaf.shape for leaf in leaves(core.initial_state(B))]
    assert [leaf.shape for leaf in leaves(state)] == shapes


@pytest.mark.parametrize("batch", [1, 2, 13])
def test_an_initial_state_is_the_same_for_every_sequence_of_any_batch(
    core: Core, batch: int
) -> None:
    state, single = core.initial_state(batch), core.initial_state(1)
    for leaf, one in zip(leaves(state), leaves(single), strict=True):
        assert leaf.shape[0] == batch
        assert torch.equal(leaf, one.expand_as(leaf))
    xs = inputs(batch=batch)
    together, _ = core.unroll(xs, state)
    for b in range(batch):
        alone, _ = core.unroll(xs[:, b : b + 1], single)
        same(together[:, b : b + 1], alone, atol=1e-12)


def test_permuting_the_batch_permutes_the_output(core: Core) -> None:
    order = torch.tensor([4, 2, 6, 0, 5, 1, 3])
    _, state = core.unroll(inputs(seed=4), core.initial_state(B))  # rows that differ
    expected, after = core.unroll(inputs(), state)
    shuffled = pytree.tree_map(lambda leaf: leaf[order], state)
    actual, after_shuffled = core.unroll(inputs()[:, order], shuffled)
    same(actual, expected[:, order], atol=1e-12)
    same(after_shuffled, pytree.tree_map(lambda leaf: leaf[order], after), atol=1e-12)
    assert not torch.allclose(actual, expected)


def test_unroll_is_the_loop_of_forward(core: Core) -> None:
    def loop(xs: Tensor, state: State) -> tuple[Tensor, State]:
        outputs = []
        for x in xs:
            output, state = core(x, state)
            outputs.append(output)
        return torch.stack(outputs), state

    results = []
    for run in (loop, core.unroll):
        core.zero_grad()
        xs = inputs().requires_grad_()
        outputs, state = run(xs, core.initial_state(B))
        assert outputs.shape == (T, B, core.output_size)
        total = sum((leaf.square().sum() for leaf in leaves(state)), outputs.square().sum())
        total.backward()
        results.append([outputs, *leaves(state), xs.grad, *(p.grad for p in core.parameters())])
    looped, unrolled = results
    same(looped, unrolled, atol=1e-10)


def test_an_unroll_in_two_pieces_is_one_unroll(core: Core) -> None:
    whole, last = core.unroll(inputs(), core.initial_state(B))
    first, state = core.unroll(inputs()[:2], core.initial_state(B))
    second, state = core.unroll(inputs()[2:], state)
    same(torch.cat([first, second]), whole, atol=1e-12)
    same(state, last, atol=1e-12)


def test_two_episodes_in_a_row_are_two_fresh_ones(core: Core) -> None:
    fresh = copy.deepcopy(core)
    core.unroll(inputs(seed=5), core.initial_state(B))
    core(inputs(seed=6)[0], core.initial_state(B))
    actual = core.unroll(inputs(), core.initial_state(B))
    same(actual, fresh.unroll(inputs(), fresh.initial_state(B)))
    same(core.state_dict(), fresh.state_dict())


def test_a_step_leaves_the_state_and_the_input_as_they_were(core: Core) -> None:
    _, state = core.unroll(inputs(seed=7), core.initial_state(B))
    x = inputs()[0]
    before = pytree.tree_map(torch.clone, (x, state))
    core(x, state)
    core.unroll(x[None], state)
    same((x, state), before)


@pytest.mark.parametrize("build", DENSE.values(), ids=DENSE)
def test_every_field_of_the_state_influences_the_next_output(core: Core) -> None:
    """Every unit, slot and head of it, in its own sequence and in no other."""
    _, state = core.unroll(inputs(seed=8), core.initial_state(B))
    x = inputs()[0]
    expected, _ = core(x, state)
    flat, spec = pytree.tree_flatten(state)
    g = torch.Generator().manual_seed(9)
    row, others = 4, [b for b in range(B) if b != 4]
    with torch.no_grad():
        for i, leaf in enumerate(flat):
            for part in range(leaf.shape[1]):
                changed = leaf.clone()
                noise = torch.rand(changed[row, part].shape, generator=g, dtype=leaf.dtype)
                changed[row, part] += 0.1 + noise
                perturbed = pytree.tree_unflatten([*flat[:i], changed, *flat[i + 1 :]], spec)
                actual, _ = core(x, perturbed)
                assert (actual[row] - expected[row]).abs().max() > 1e-9, (i, part)
                same(actual[others], expected[others])


def test_every_input_influences_the_output(core: Core) -> None:
    x = inputs()[0].requires_grad_()
    output, _ = core(x, core.initial_state(B))
    output.square().sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


def test_every_parameter_gets_a_gradient(core: Core) -> None:
    """Every single element of it, from the outputs of five steps: there is no exception."""
    outputs, _ = core.unroll(inputs().requires_grad_(), core.initial_state(B))
    outputs.square().sum().backward()
    for name, p in core.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        assert (p.grad != 0).all(), name


def test_all_that_is_kept_between_episodes_is_learned(core: Core) -> None:
    """No buffers: neither a "learned" state that is not, nor one that could leak.

    But for a reservoir, which is drawn once, and which nothing changes.
    """
    reservoirs = [m for m in core.modules() if isinstance(m, EchoState)]
    assert len(list(core.buffers())) == 2 * len(reservoirs)
    assert all(p.requires_grad for p in core.parameters())


def test_parameters_come_from_the_passed_generator_alone(build: Callable[[int], Core]) -> None:
    before = torch.get_rng_state()
    first, again, other = build(1), build(1), build(2)
    assert torch.equal(torch.get_rng_state(), before)
    same(first.state_dict(), again.state_dict())
    drawn = 0
    for name, p in first.state_dict().items():
        if p.count_nonzero():  # the learned first states begin at 0
            drawn += 1
            assert not torch.equal(p, other.state_dict()[name]), name
            assert p[p != 0].unique().numel() == p.count_nonzero(), name
            assert p.dtype == torch.float32
    assert drawn


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_and_output_have_the_type_of_the_parameters(core: Core, dtype: torch.dtype) -> None:
    """But for the numbers of slots and of steps in the state of a sparse memory."""
    core = core.to(dtype)
    integers = {torch.int64} if isinstance(core, SparseCell) else set()
    state = core.initial_state(B)
    assert {leaf.dtype for leaf in leaves(state)} - integers <= {dtype}
    outputs, state = core.unroll(inputs().to(dtype), state)
    assert outputs.dtype == dtype
    assert {leaf.dtype for leaf in leaves(state)} - integers <= {dtype}


CUDA = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(
        not torch.cuda.is_available(), reason="SKIPPED: no CUDA device here to run this on"
    ),
)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_it_runs_where_its_parameters_are(core: Core, device: str) -> None:
    """With the same numbers and gradients as on the CPU."""
    moved = copy.deepcopy(core).to(device)
    results = []
    for where, on in (("cpu", core), (device, moved)):
        state = on.initial_state(B)
        assert {leaf.device.type for leaf in leaves(state)} <= {where}
        outputs, state = on.unroll(inputs().to(where).requires_grad_(), state)
        outputs.square().sum().backward()
        assert {leaf.device.type for leaf in leaves((outputs, state))} == {where}
        grads = [p.grad for p in on.parameters()]
        results.append([x.cpu() for x in (outputs, *leaves(state), *grads) if x is not None])
    expected, actual = results
    same(actual, expected, atol=1e-9)


def test_it_creates_nothing_on_the_cpu_when_it_lives_elsewhere(core: Core) -> None:
    """On the meta device, which every machine has: a tensor made on the CPU would not mix."""
    core = core.to("meta")
    outputs, state = core.unroll(inputs().to("meta").requires_grad_(), core.initial_state(B))
    outputs.sum().backward()
    assert outputs.shape == (T, B, core.output_size)
    assert {leaf.device.type for leaf in leaves((outputs, state))} == {"meta"}
