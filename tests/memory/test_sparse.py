"""Sparse access memory: its equations, and writes in place that are undone on the way back."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree

from controllers import build_controller, configure
from controllers.base import Core, State
from ntm.analysis.evaluate import state_size
from ntm.analysis.trace import record
from ntm.errors import UsageError
from ntm.kernels.dispatch import unroll
from ntm.memory import addressing
from ntm.memory.access import INITIAL_MEMORY
from ntm.memory.sparse import SparseCell, SparseConfig, SparseState
from ntm.memory.sparse_access import DELTA, least_recent, nearest, rows_of
from ntm.model import ModelConfig, build_model
from ntm.training import limits
from ntm.training.load import parse_config
from tasks.copy import Copy
from tests.memory import oracle
from tests.small import SMALL

B, I, H, K, W, C = 2, 4, 3, 2, 5, 7  # noqa: E741


def cell(slots: int = 17, heads: int = H, reads: int = K, kind: str = "gru") -> SparseCell:
    """In float64, with learned first reads away from 0."""
    g = torch.Generator().manual_seed(1)
    memory = SparseConfig(slots=slots, width=W, heads=heads, reads=reads)
    controller = build_controller(configure(kind=kind, size=C), I + heads * W, g)
    made = SparseCell(controller, memory, g).double()
    with torch.no_grad():
        made.r0.uniform_(-0.5, 0.5, generator=g)
        made.interface.weight.mul_(3)  # so that heads differ, and mean what they say
    return made


def inputs(steps: int, batch: int = B, seed: int = 2) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, I, generator=g, dtype=torch.float64)


def in_use(core: SparseCell, batch: int = B, seed: int = 3) -> SparseState:
    """A state in the middle of an episode, its memory one row for each slot."""
    with torch.no_grad():
        state = core.unroll(inputs(11, batch, seed), core.initial_state(batch))[1]
    noise = torch.rand(state.memory.shape, generator=torch.Generator().manual_seed(seed))
    memory = state.memory + 0.3 * noise.double()
    return SparseState(memory, *state[1:])


def steps(core: SparseCell, xs: Tensor, state: State) -> tuple[Tensor, State]:
    return Core.unroll(core, xs, state)


def total(outputs: Tensor, state: SparseState) -> Tensor:
    """A number that everything which has a derivative counts in."""
    leaves = [leaf for leaf in pytree.tree_leaves(state) if leaf.is_floating_point()]
    return torch.stack([outputs.square().sum(), *(0.7 * leaf.sin().sum() for leaf in leaves)]).sum()


# The equations


def slow_step(
    told: dict[str, Any], memory: np.ndarray, accessed: list[int], w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """A step of one sequence with weightings over all slots: M_t, w^R_t [H, N], r_t, usage."""
    (heads, N), now = w.shape, max(accessed) + 1
    oldest = sorted(range(N), key=lambda i: (accessed[i], i))[:heads]
    erased, added = np.ones(N), np.zeros_like(memory)
    written = np.zeros((heads, N))
    for h, lru in enumerate(oldest):
        alpha, gamma = told["alpha"][h], told["gamma"][h]
        for i in range(N):
            written[h, i] = alpha * (gamma * w[h, i] + (1 - gamma) * (i == lru))
            added[i] += written[h, i] * told["add"][h]
        erased[lru] = 0
    memory = erased[:, None] * memory + added
    read = np.zeros((heads, N))
    for h in range(heads):
        lengths = np.sqrt((memory**2).sum(1))
        near = np.where(lengths > 0, memory @ told["query"][h] / np.maximum(lengths, 1e-99), 0)
        chosen = sorted(range(N), key=lambda i: (-near[i], i))[: told["reads"]]
        read[h, chosen] = oracle.content(told["query"][h], told["beta"][h], memory[chosen])
    use = (written + read).sum(0)
    accessed = [now if use[i] > DELTA else accessed[i] for i in range(N)]
    return memory, read, read @ memory, accessed


@pytest.mark.parametrize(("slots", "heads", "reads"), [(17, 3, 2), (6, 2, 5), (3, 3, 3), (9, 1, 1)])
def test_a_step_is_the_papers(slots: int, heads: int, reads: int) -> None:
    core = cell(slots, heads, reads)
    state = in_use(core)
    for x in inputs(6, seed=5):
        step = core.step(x, state)
        for b in range(B):
            told = {name: part[b].detach().numpy() for name, part in step.told._asdict().items()}
            before = np.zeros((heads, slots))
            for h in range(heads):
                before[h, state.slots[b, h]] = state.weights[b, h].detach()
            memory, w, r, accessed = slow_step(
                {**told, "reads": reads},
                state.memory[b].detach().numpy(),
                state.accessed[b].tolist(),
                before,
            )
            after = step.state
            np.testing.assert_allclose(after.memory[b].detach(), memory, rtol=0, atol=1e-12)
            np.testing.assert_allclose(after.reads[b].detach(), r, rtol=0, atol=1e-12)
            assert after.accessed[b].tolist() == accessed
            for h in range(heads):
                there = w[h, after.slots[b, h]]
                np.testing.assert_allclose(after.weights[b, h].detach(), there, atol=1e-12)
                assert w[h].sum() == pytest.approx(there.sum())
        state = step.state


def test_reading_all_slots_is_a_dense_content_read() -> None:
    core = cell(slots=6, reads=6)
    step = core.step(inputs(1)[0], in_use(core))
    told, state = step.told, step.state
    dense = addressing.content_weighting(told.query, told.beta, state.memory)
    scattered = torch.zeros_like(dense).scatter(2, state.slots, state.weights)
    torch.testing.assert_close(scattered, dense, rtol=0, atol=1e-14)
    torch.testing.assert_close(dense @ state.memory, state.reads, rtol=0, atol=1e-14)


def test_slots_accessed_at_the_same_time_come_in_their_order() -> None:
    accessed = torch.tensor([[5, 2, 9, 2, 0, 2], [0, 0, 0, 0, 0, 0]])
    assert least_recent(accessed, 4).tolist() == [[4, 1, 3, 5], [0, 1, 2, 3]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 3, 20, 33])
def test_rows_that_are_alike_are_equally_near(width: int, dtype: torch.dtype) -> None:
    """To the last bit, so that their numbers alone decide."""
    g = torch.Generator().manual_seed(7)
    row = torch.randn(width, generator=g, dtype=dtype)
    memory = row.expand(3, 101, width).contiguous()
    query = torch.randn(3, 2, width, generator=g, dtype=dtype)
    assert nearest(query, memory, 100).tolist() == [[list(range(100))] * 2] * 3


# In place, and back


@pytest.mark.parametrize(("heads", "reads"), [(1, 4), (3, 2)])
@pytest.mark.parametrize("slots", [4, 13, 500])
@pytest.mark.parametrize("start", ["first", "in use"])
def test_a_sequence_in_place_is_one_step_after_another(
    start: str, slots: int, heads: int, reads: int
) -> None:
    """In every value, and in every gradient, those of the first state included."""
    core = cell(slots, heads, reads)
    first = core.initial_state(B) if start == "first" else in_use(core)
    results = []
    for run in (steps, SparseCell.unroll):
        core.zero_grad()
        xs = inputs(23).requires_grad_()
        state = first
        if start == "in use":
            state = pytree.tree_map(
                lambda x: x.detach().clone().requires_grad_(x.is_floating_point()), first
            )
        outputs, last = run(core, xs, state)
        total(outputs, last).backward()
        grads = [leaf.grad for leaf in pytree.tree_leaves(state)] if start == "in use" else []
        parameters = [p.grad for p in core.parameters()]
        results.append([outputs, *pytree.tree_leaves(last), xs.grad, *grads, *parameters])
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_after_the_backward_pass_the_memory_is_the_first_one(dtype: torch.dtype) -> None:
    core = cell(slots=31).to(dtype)
    state = pytree.tree_map(lambda x: x.to(dtype) if x.is_floating_point() else x, in_use(core_64))
    tape = core.tape(state, 200)
    before = state.memory.clone()
    outputs, last = core.unroll_on(tape, inputs(200).to(dtype), state)
    assert not torch.equal(tape.memory, before)
    assert torch.equal(tape.memory, last.memory)
    outputs.square().mean().backward()
    assert torch.equal(tape.memory, before)
    assert torch.equal(state.memory, before)
    assert not torch.equal(last.memory, before)


core_64 = cell(slots=31)


def test_a_loss_on_some_steps_only_undoes_all_the_same() -> None:
    core = cell(slots=12)
    grads = []
    for run in (steps, SparseCell.unroll):
        core.zero_grad()
        outputs, _ = run(core, inputs(20), in_use(core))
        outputs[4:9].square().sum().backward()
        grads.append([p.grad for p in core.parameters()])
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-9, atol=1e-11)


def test_a_graph_that_is_kept_can_be_gone_through_again() -> None:
    """Step by step in any order, and what the parts give adds up to the whole."""
    core = cell(slots=9)
    parameters = list(core.parameters())
    outputs, last = core.unroll(inputs(8), in_use(core))
    costs = [output.square().sum() for output in outputs] + [last.memory.sin().sum()]

    def gradients(cost: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(
            cost, parameters, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        return list(found)

    whole = gradients(torch.stack(costs).sum())
    torch.testing.assert_close(gradients(torch.stack(costs).sum()), whole, rtol=0, atol=0)
    parts = [gradients(costs[n]) for n in (3, 8, 0, 5, 5, 7, 1, 6, 2, 4)]
    del parts[4]  # one of them came twice
    added = [torch.stack(same).sum(0) for same in zip(*parts, strict=True)]
    torch.testing.assert_close(added, whole, rtol=1e-9, atol=1e-11)


def test_derivatives_are_those_of_the_function() -> None:
    """Where a small change chooses no other rows, as here."""
    core = cell(slots=4, heads=2, reads=2, kind="rnn")
    xs, state = inputs(2, batch=1), in_use(core, batch=1)
    given = [xs, state.memory, state.weights, state.reads]
    given = [x.detach().clone().requires_grad_() for x in given]

    def run(of: Callable[..., Any], *given: Tensor) -> tuple[Tensor, ...]:
        xs, memory, weights, reads = given
        outputs, last = of(core, xs, state._replace(memory=memory, weights=weights, reads=reads))
        return outputs, last.memory, last.weights

    for of in (steps, SparseCell.unroll):
        assert torch.autograd.gradcheck(lambda *x, of=of: run(of, *x), given)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_machine_is_the_same_in_place(data: st.DataObject) -> None:
    reads, heads = data.draw(st.integers(1, 5), "reads"), data.draw(st.integers(1, 3), "heads")
    slots = data.draw(st.integers(max(reads, heads), 12), "slots")
    core, T = cell(slots, heads, reads, "rnn"), data.draw(st.integers(1, 15), "steps")
    results = []
    for run in (steps, SparseCell.unroll):
        core.zero_grad()
        outputs, last = run(core, inputs(T), core.initial_state(B))
        total(outputs, last).backward()
        leaves = pytree.tree_leaves(last)
        results.append([outputs, *leaves, *(p.grad for p in core.parameters())])
    torch.testing.assert_close(results[1], results[0], rtol=1e-8, atol=1e-10)


# Any number of slots


def test_outputs_do_not_depend_on_slots_that_are_not_needed() -> None:
    """To the last bit, and neither do gradients; nor does it matter how the first state is kept."""
    core = cell()
    results = []
    for slots, keep in ((200, torch.clone), (200, Tensor.detach), (10_000, Tensor.detach)):
        core.zero_grad()
        first = core.initial_state(B, slots)
        outputs, last = core.unroll(inputs(25), first._replace(memory=keep(first.memory)))
        assert last.memory.shape == (B, slots, W)
        assert torch.equal(last.memory[:, 190:], torch.full_like(last.memory[:, 190:], 1e-6))
        outputs.square().sum().backward()
        values = [outputs, last.memory[:, :200], last.accessed[:, :200], last.slots]
        results.append([*values, *(p.grad for p in core.parameters())])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=0)


def test_what_a_sequence_keeps_does_not_grow_with_the_slots() -> None:
    core, T = cell(), 9
    kept = []
    for slots in (400, 100_000):
        state = core.initial_state(B, slots)
        tape = core.tape(state, T)
        core.unroll_on(tape, inputs(T), state)
        kept.append(tape.memory.numel() + sum(rows.numel() for _, rows in tape._changes))
    assert kept[0] == kept[1] < B * W * H * (K + 1) * (2 * T + 2)
    with torch.no_grad():
        state = core.initial_state(B)
        tape = core.tape(state, T)
        core.unroll_on(tape, inputs(T), state)
    assert not tape._changes


def test_the_slots_can_be_others_than_in_training() -> None:
    core = cell()
    assert SparseConfig(slots=9).with_slots(90) == SparseConfig(slots=90)
    assert core.initial_state(3, 29).memory.shape == (3, 29, W)
    with pytest.raises(ValueError, match=r"heads: should be at most as many as the slots, 2, not"):
        core.initial_state(3, 2)
    with pytest.raises(ValueError, match=r"^reads: should be at most as many as the slots, 3, n"):
        SparseConfig(slots=9).with_slots(3)


# As a part of the suite


def config(**memory: Any) -> Any:
    raw: dict[str, Any] = {**SMALL, "train": {**SMALL["train"], "sequences": 30}}
    controller = {"kind": "lstm", "size": 11}
    raw["model"] = {"controller": controller, "memory": {"kind": "sparse", **memory}}
    return parse_config(raw, "sparse")


@pytest.mark.parametrize(
    ("memory", "line"),
    [
        ({"slots": 3}, "model.memory.reads: should be at most as many as the slots, 3, not 4"),
        (
            {"slots": 5, "heads": 6},
            "model.memory.heads: should be at most as many as the slots, 5, not 6",
        ),
        ({"reads": 0}, "model.memory.reads: should be greater than or equal to 1, not 0"),
        ({"shift_range": 1}, "model.memory.shift_range: "),
    ],
)
def test_settings_that_cannot_be_are_refused(memory: dict[str, int], line: str) -> None:
    with pytest.raises(UsageError) as caught:
        config(**memory)
    assert line in str(caught.value)


def test_it_says_what_it_is() -> None:
    assert SparseConfig().describe("LSTM 100") == "SAM with LSTM 100"
    several = SparseConfig(heads=4, reads=8)
    assert several.describe("GRU 9") == "SAM with GRU 9, 4 heads, 8 reads each"


def test_its_size_is_that_of_its_state() -> None:
    memory = SparseConfig(slots=19, width=5, heads=3, reads=2)
    model_config = ModelConfig(controller=configure(kind="feedforward", size=11), memory=memory)
    model = build_model(model_config, 3, 2, torch.Generator().manual_seed(1))
    assert state_size(model) == memory.state_floats()
    assert state_size(model, 29) == memory.with_slots(29).state_floats()
    parameters = sum(p.numel() for p in model.parameters())
    assert 0 < memory.least_parameters(11) <= parameters


def test_a_long_sequence_with_a_million_slots_fits() -> None:
    asked = config(slots=10**6, heads=4)
    sequence = Copy(width=3, length=(500, 500))
    needed = limits.estimate(sequence, asked.model, batch=1)["model.memory"]
    assert needed < 2**28
    memory = asked.model.memory
    assert needed > 4 * memory.slots * memory.width


def test_a_state_can_be_moved_detached_and_kept() -> None:
    core = cell(kind="lstm")
    _, state = core.unroll(inputs(5), core.initial_state(B))
    assert state.memory.requires_grad
    assert not any(leaf.requires_grad for leaf in pytree.tree_leaves(state.detach()))
    half = state.to(torch.float16)
    assert half.memory.dtype == half.weights.dtype == torch.float16
    assert torch.equal(half.accessed, state.accessed)
    assert torch.equal(half.slots, state.slots)
    file = io.BytesIO()
    torch.save(state.detach(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert isinstance(loaded, SparseState)
    torch.testing.assert_close(loaded, state.detach(), rtol=0, atol=0)


def changed(**parts: Any) -> Callable[[SparseState], Any]:
    return lambda state: state._replace(**parts)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda _: 3, "state should be (memory, accessed, slots, weights, reads, controller)"),
        (lambda state: state[:4], "state has 4 parts, should have 6"),
        (changed(memory=torch.ones(B, 17, 4).double()), "is [2, 17, 4], should be [2, 17, 5]"),
        (changed(memory=torch.ones(B, 2, W).double()), "heads: should be at most as many"),
        (changed(accessed=torch.zeros(B, 16).long()), "accessed is [2, 16], should be [2, 17]"),
        (changed(slots=torch.zeros(B, H, K)), "state.slots is float32, should be int64"),
        (changed(weights=torch.zeros(B, H, K)), "state.weights is float32, the model float64"),
        (changed(controller=torch.ones(B, 6).double()), "controller is [2, 6], should be [2, 7]"),
    ],
)
def test_a_state_of_another_machine_is_refused(
    change: Callable[[SparseState], Any], line: str
) -> None:
    core = cell()
    with pytest.raises((TypeError, ValueError)) as caught:
        unroll(core, inputs(3), change(core.initial_state(B)))
    assert line in str(caught.value)


def test_a_state_may_be_given_in_plain_tuples_and_for_one() -> None:
    core = cell()
    expected, _ = unroll(core, inputs(3))
    found, _ = unroll(core, inputs(3), tuple(core.initial_state(1)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_a_trace_says_what_was_written_and_read() -> None:
    """As of an NTM: all that is drawn follows from it."""
    memory = SparseConfig(slots=13, width=5, heads=2, reads=3)
    model_config = ModelConfig(controller=configure(kind="gru", size=11), memory=memory)
    task = Copy(width=3, length=(4, 4))
    sizes = task.input_size, task.output_size
    model = build_model(model_config, *sizes, torch.Generator().manual_seed(1)).double()
    episode = task.sample(np.random.default_rng(2), 1)
    episode = episode._replace(inputs=episode.inputs.double())
    machine = record(model, episode, task.loss).ntm
    assert machine is not None
    before = np.full((13, 5), INITIAL_MEMORY)
    for t in range(task.steps):
        w = machine.weights[t]
        after = oracle.write(before, w[2:], machine.erase[t], machine.add[t])
        np.testing.assert_allclose(machine.memory[t], after, rtol=0, atol=1e-12)
        assert (np.count_nonzero(w[:2], axis=1) == 3).all()
        np.testing.assert_allclose(machine.reads[t], w[:2] @ after, rtol=0, atol=1e-12)
        before = after


def test_it_learns_to_copy() -> None:
    task = Copy(width=2, length=(1, 2))
    model_config = ModelConfig(
        controller=configure(kind="lstm", size=16), memory=SparseConfig(slots=16, width=8)
    )
    sizes = task.input_size, task.output_size
    model = build_model(model_config, *sizes, torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    rng, costs = np.random.default_rng(3), []
    for _ in range(60):
        episode = task.sample(rng, 16)
        logits, _ = model(episode.inputs, engine="reference")
        cost = task.loss.nats(logits, episode).mean()
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    assert np.mean(costs[-10:]) < 0.75 * np.mean(costs[:10])


def test_rows_of_takes_each_sequence_from_its_own_memory() -> None:
    memory = torch.arange(24.0).view(2, 4, 3)
    rows = rows_of(memory, torch.tensor([[[3, 0]], [[1, 1]]]))
    assert rows[..., 0].tolist() == [[[9, 0]], [[15, 15]]]


def test_a_last_state_that_is_not_wanted_is_not_made() -> None:
    core = cell()
    outputs, state = unroll(core, inputs(3), wants_state=False)
    assert state is None
    torch.testing.assert_close(outputs, unroll(core, inputs(3))[0], rtol=0, atol=0)
    core.unroll = lambda xs, state: ("its own", xs)  # type: ignore[assignment, method-assign, misc]
    assert unroll(core, inputs(3), wants_state=False)[0] == "its own"
