"""A whole step of the machine against plain loops, its gradients, and weights that stay weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from controllers import build_controller, configure
from controllers.feedforward import FeedForward
from controllers.lstm import LSTM
from controllers.rnn import RNN
from ntm.memory.ntm import NTMCell, NTMConfig, NTMState
from tests.memory import oracle

DTYPES = [torch.float32, torch.float64]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def machine(
    seed: int,
    inputs: int = 4,
    size: int = 11,
    slots: int = 23,
    width: int = 5,
    heads: tuple[int, int] = (2, 3),
    shift_range: int = 2,
    controller: type[FeedForward | RNN | LSTM] = RNN,
    dtype: torch.dtype = torch.float64,
    **memory: Any,
) -> NTMCell:
    g = generator(seed)
    config = NTMConfig(
        slots=slots,
        width=width,
        read_heads=heads[0],
        write_heads=heads[1],
        shift_range=shift_range,
        **memory,
    )
    core = controller(inputs + heads[0] * width, size, g)
    return NTMCell(core, config, g).to(dtype)


def random_state(cell: NTMCell, batch: int, seed: int) -> NTMState:
    """Some state that is no initial state."""
    g, dtype = generator(seed), cell.r0.dtype
    memory = torch.randn(batch, cell.slots, cell.width, generator=g, dtype=dtype)
    weights = torch.randn(batch, cell.heads, cell.slots, generator=g, dtype=dtype).softmax(-1)
    reads = torch.randn(batch, cell.read_heads, cell.width, generator=g, dtype=dtype)
    first = cell.controller.initial_state(batch)
    if isinstance(first, tuple):
        controller: Any = tuple(torch.randn(h.shape, generator=g, dtype=dtype) for h in first)
    else:
        controller = torch.randn(first.shape, generator=g, dtype=dtype)
    return NTMState(memory, weights, reads, controller)


@pytest.mark.parametrize("heads", [(1, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize("shift_range", [0, 1, 2])
def test_a_step_is_the_paper_in_plain_loops(heads: tuple[int, int], shift_range: int) -> None:
    """The controller sees the last reads; heads address M_{t-1}; M_t is written, then read."""
    step_in_plain_loops(heads, shift_range, read="after", shared=False)


@pytest.mark.parametrize("heads", [(1, 1), (3, 3)])
@pytest.mark.parametrize(("read", "shared"), [("before", False), ("after", True), ("before", True)])
def test_reads_before_the_write_and_shared_heads_in_plain_loops(
    heads: tuple[int, int], read: str, shared: bool
) -> None:
    step_in_plain_loops(heads, shift_range=1, read=read, shared=shared)


def step_in_plain_loops(heads: tuple[int, int], shift_range: int, read: str, shared: bool) -> None:
    B, (R, Q) = 7, heads
    H = R if shared else R + Q
    cell = machine(seed=1, heads=heads, shift_range=shift_range, read=read, shared=shared)
    with torch.no_grad():
        cell.interface.weight *= 3  # away from the flat middle of every nonlinearity
    state = random_state(cell, B, seed=2)
    x = torch.randn(B, 4, generator=generator(3), dtype=torch.float64)
    step = cell.step(x, state)
    got = {
        name: value.detach().numpy() for name, value in step._asdict().items() if name != "state"
    }
    new = [field.detach().numpy() for field in step.state]
    assert isinstance(cell.controller, RNN)
    U, u, V, v = (
        p.detach().numpy()
        for layer in (cell.controller.hidden, cell.interface)
        for p in (layer.weight, layer.bias)
    )

    for b in range(B):
        memory, weights, reads, before = (field[b].detach().numpy() for field in state)
        fed = [*x[b].tolist(), *(r for head in reads for r in head), *before]
        h = np.tanh(
            np.array([sum(U[i, j] * fed[j] for j in range(len(fed))) for i in range(11)]) + u
        )
        emitted = oracle.emit(h, V, v, H - Q, Q, W=5, S=2 * shift_range + 1)
        for name, expected in emitted.items():
            np.testing.assert_allclose(got[name][b], expected, rtol=0, atol=1e-12, err_msg=name)
        w = np.array(
            [
                oracle.address(
                    memory,
                    weights[head],
                    *(emitted[name][head] for name in ("key", "beta", "gate", "shift", "gamma")),
                )
                for head in range(H)
            ]
        )
        written = oracle.write(memory, w[H - Q :], emitted["erase"], emitted["add"])
        source = memory if read == "before" else written
        seen = np.array([oracle.read(source, w[r]) for r in range(R)])
        for actual, expected in zip(new, (written, w, seen, h), strict=True):
            np.testing.assert_allclose(actual[b], expected, rtol=0, atol=1e-12)
        output = np.concatenate([h, seen.flatten()])
        np.testing.assert_allclose(got["output"][b], output, rtol=0, atol=1e-12)


def test_forward_is_the_first_two_fields_of_a_step() -> None:
    cell = machine(seed=4)
    x = torch.randn(7, 4, generator=generator(5), dtype=torch.float64)
    state = random_state(cell, 7, seed=6)
    output, new = cell(x, state)
    step = cell.step(x, state)
    assert torch.equal(output, step.output)
    assert all(torch.equal(a, b) for a, b in zip(new, step.state, strict=True))


def test_a_gate_of_0_makes_the_address_independent_of_memory_and_key() -> None:
    cell = machine(seed=7)
    gates = slice(sum(cell.interface_sizes[:3]), sum(cell.interface_sizes[:4]))
    x = torch.randn(7, 4, generator=generator(8), dtype=torch.float64)
    state = random_state(cell, 7, seed=9)
    other = state._replace(memory=torch.randn_like(state.memory))
    assert not torch.equal(cell.step(x, state).state.weights, cell.step(x, other).state.weights)
    with torch.no_grad():
        cell.interface.weight[gates] = 0
        cell.interface.bias[gates] = -1e4
    weights = cell.step(x, state).state.weights
    assert torch.equal(weights, cell.step(x, other).state.weights)
    with torch.no_grad():
        cell.interface.bias[: cell.heads * cell.width] += 1  # other keys
    assert torch.equal(weights, cell.step(x, state).state.weights)


def test_a_gate_of_1_makes_the_address_independent_of_the_previous_weights() -> None:
    cell = machine(seed=10)
    gates = slice(sum(cell.interface_sizes[:3]), sum(cell.interface_sizes[:4]))
    x = torch.randn(7, 4, generator=generator(11), dtype=torch.float64)
    state = random_state(cell, 7, seed=12)
    other = state._replace(weights=state.weights.flip(-1))
    assert not torch.equal(cell.step(x, state).state.weights, cell.step(x, other).state.weights)
    with torch.no_grad():
        cell.interface.weight[gates] = 0
        cell.interface.bias[gates] = 1e4
    assert torch.equal(cell.step(x, state).state.weights, cell.step(x, other).state.weights)


def test_each_head_goes_on_from_its_own_weights() -> None:
    """Changing one head's previous weights changes that head's next weights and no other's."""
    cell = machine(seed=13)
    x = torch.randn(7, 4, generator=generator(14), dtype=torch.float64)
    state = random_state(cell, 7, seed=15)
    before = cell.step(x, state).state.weights
    for head in range(cell.heads):
        weights = state.weights.clone()
        weights[:, head] = weights[:, head].roll(3, dims=-1)
        after = cell.step(x, state._replace(weights=weights)).state.weights
        changed = [bool((after[:, h] != before[:, h]).any()) for h in range(cell.heads)]
        assert changed == [h == head for h in range(cell.heads)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_episode_starts_focused_on_slot_0_of_a_constant_memory(dtype: torch.dtype) -> None:
    cell = machine(seed=16, dtype=dtype)
    with torch.no_grad():
        cell.r0.copy_(torch.arange(10).view(2, 5))
    state = cell.initial_state(7)
    assert state.memory.shape == (7, 23, 5)
    assert torch.equal(state.memory, torch.full((7, 23, 5), 1e-6, dtype=dtype))
    assert state.weights.shape == (7, 5, 23)
    assert (state.weights[..., 0] == 1).all()
    assert (state.weights[..., 1:] == 0).all()
    assert torch.equal(state.reads, cell.r0.expand(7, 2, 5))  # learned
    assert {x.dtype for x in (state.memory, state.weights, state.reads)} == {dtype}


def test_a_learned_memory_begins_every_episode_and_its_rows_differ() -> None:
    """Its rows differ, so that content tells slots apart before anything was written."""
    g = torch.Generator().manual_seed(17)
    controller = build_controller(configure(kind="gru", size=6), 3 + 5, g)
    cell = NTMCell(controller, NTMConfig(slots=13, width=5, initial="learned"), g)
    memory = cell.initial_state(4).memory
    assert memory.shape == (4, 13, 5)
    assert torch.equal(memory, memory[:1].expand(4, -1, -1))
    assert len(memory[0].unique(dim=0)) == 13
    output = cell.unroll(torch.randn(2, 4, 3, generator=g), cell.initial_state(4))[0]
    (gradient,) = torch.autograd.grad(output.sum(), [cell.get_parameter("M0")])
    assert (gradient != 0).any(dim=1).all()


@pytest.mark.parametrize("shift_range", [1, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_a_shift_bias_makes_heads_begin_by_walking(shared: bool, shift_range: int) -> None:
    """The odds of every head's step to the next slot, against each other shift, grow by e^bias."""
    heads = (2, 2) if shared else (2, 3)
    settings: dict[str, Any] = {"heads": heads, "shift_range": shift_range, "shared": shared}
    plain = machine(18, slots=17, **settings)
    walking = machine(18, slots=17, **settings, shift_bias=0.75)
    x = torch.randn(6, 4, generator=generator(19), dtype=torch.float64)
    state = random_state(plain, 6, 20)
    before, after = plain.step(x, state), walking.step(x, state)
    odds = (after.shift / before.shift) / (after.shift / before.shift)[..., :1]
    grown = torch.ones_like(odds)
    grown[..., shift_range + 1] = math.exp(0.75)
    assert torch.allclose(odds, grown)
    for name in ("key", "beta", "gate", "gamma", "erase", "add"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    ahead = torch.roll(torch.eye(17, dtype=torch.float64)[:1].expand(plain.heads, -1), 1, -1)
    begins = plain.initial_state(6)
    gain = walking.step(x, begins).state.weights - plain.step(x, begins).state.weights
    assert ((gain * ahead).sum(-1) > 0).all()


@pytest.mark.parametrize("shared", [False, True])
def test_an_erase_bias_makes_writes_begin_by_replacing(shared: bool) -> None:
    """The odds of erasing, against keeping, grow by e^bias for every number of a slot."""
    heads = (2, 2) if shared else (2, 3)
    plain = machine(18, slots=17, heads=heads, shared=shared)
    replacing = machine(18, slots=17, heads=heads, shared=shared, erase_bias=1.25)
    x = torch.randn(6, 4, generator=generator(19), dtype=torch.float64)
    state = random_state(plain, 6, 20)
    before, after = plain.step(x, state), replacing.step(x, state)
    odds = [found.erase / (1 - found.erase) for found in (before, after)]
    assert torch.allclose(odds[1], odds[0] * math.exp(1.25))
    for name in ("key", "beta", "gate", "shift", "gamma", "add"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name


def saturate(cell: NTMCell, how: str) -> None:
    """Extreme parameters of one kind or another."""
    rows = torch.arange(sum(cell.interface_sizes))
    k, a, e, g, beta, gamma, s = rows.split(cell.interface_sizes)
    with torch.no_grad():
        bias = cell.interface.bias
        if how == "all weights x 1e3":
            for p in cell.parameters():
                p.mul_(1e3)
        elif how == "interface x 1e3":
            cell.interface.weight *= 1e3
        elif how == "closed gates":
            bias[torch.cat([g, e])] = -1e4
        elif how == "open gates":
            bias[torch.cat([g, e])] = 1e4
        elif how == "no sharpness":
            bias[torch.cat([beta, gamma])] = -1e4
        elif how == "all sharpness":
            bias[torch.cat([beta, gamma])] = 1e4
        elif how == "one-hot shifts":
            cell.interface.weight[s] *= 1e5
        elif how == "blank memory":  # nothing is ever added, everything is erased
            cell.interface.weight[torch.cat([k, a, e])] = 0
            bias[torch.cat([k, a])] = 0
            bias[e] = 1e4
        else:
            assert how == "as drawn"


EXTREMES = [
    "as drawn",
    "all weights x 1e3",
    "interface x 1e3",
    "closed gates",
    "open gates",
    "no sharpness",
    "all sharpness",
    "one-hot shifts",
    "blank memory",
]


@pytest.mark.parametrize("slots", [1, 2, 23])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", EXTREMES)
def test_weights_stay_a_distribution_and_nothing_is_ever_nan(
    how: str, dtype: torch.dtype, slots: int
) -> None:
    """Values over 13 steps; gradients too, but over 4 of them where weights are scaled.

    There, every step backwards multiplies the gradient by about 1e3, in truth: it would leave the
    range of float32, and only training can cure that (clipping, a lower rate).
    """
    T, B = 13, 3
    deep = 4 if "x 1e3" in how else T
    for seed in range(3):
        cell = machine(seed=seed, slots=slots, controller=LSTM, dtype=dtype)
        saturate(cell, how)
        xs = torch.randn(T, B, 4, generator=generator(seed), dtype=dtype)
        state = cell.initial_state(B)
        outputs: list[Tensor] = []
        for t in range(T + 1):
            total = state.weights.sum(dim=-1)
            assert (state.weights >= 0).all(), t
            torch.testing.assert_close(total, torch.ones_like(total), msg=f"step {t}")
            assert torch.isfinite(state.memory).all(), t
            if t < T:
                output, state = cell(xs[t], state)
                assert torch.isfinite(output).all(), t
                outputs.append(output)
        torch.stack(outputs[:deep]).square().sum().backward()
        for name, p in cell.named_parameters():
            assert p.grad is not None, name
            assert torch.isfinite(p.grad).all(), name


def leaves(cell: NTMCell, state: NTMState) -> list[Tensor]:
    """The parameters of the cell and the fields of the state, as inputs of gradcheck."""
    tensors = [*(p.detach() for p in cell.parameters()), *state]
    return [x.detach().clone().requires_grad_() for x in tensors]


def test_gradients_of_a_step_and_of_a_short_unroll() -> None:
    """In float64, with respect to every parameter, every field of the state, and the input."""
    cell = machine(seed=20, inputs=2, size=4, slots=5, width=3, heads=(2, 1), shift_range=1)
    names = [name for name, _ in cell.named_parameters()]
    xs = torch.randn(4, 2, 2, generator=generator(21), dtype=torch.float64).requires_grad_()

    def unroll(xs: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        parameters = dict(zip(names, tensors[: len(names)], strict=True))
        state: Any = NTMState(*tensors[len(names) :])
        outputs = []
        for x in xs:
            output, state = torch.func.functional_call(cell, parameters, (x, state))
            outputs.append(output)
        return torch.stack(outputs), *state

    state = random_state(cell, 2, seed=22)
    assert torch.autograd.gradcheck(unroll, (xs[:1].detach(), *leaves(cell, state)))
    assert torch.autograd.gradcheck(unroll, (xs, *leaves(cell, state)), fast_mode=True)
