"""NTM and Recurrent as layers: the habits of torch.nn.LSTM."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)
from torch.utils import _pytree as pytree

import ntm
from controllers import configure

LENGTHS = [4, 7, 1, 7, 2]


def layer(kind: type[ntm.NTM | ntm.Recurrent], controller: str, **more: Any) -> Any:
    if kind is ntm.NTM:
        more = {"slots": 6, "width": 4, "read_heads": 2, "initial": "learned", **more}
    torch.manual_seed(4)
    model = kind(3, 2, controller=controller, hidden_size=7, **more)
    for p in model.parameters():  # learned first states are 0 otherwise
        torch.nn.init.normal_(p, std=0.4)
    return model


def sequences(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(5)
    return [torch.randn(n, 3, dtype=dtype) for n in LENGTHS]


def row(state: Any, b: int) -> list[Tensor]:
    return [part[b : b + 1] for part in pytree.tree_leaves(state)]


def gradients_of(cost: Tensor, model: torch.nn.Module) -> tuple[Tensor, ...]:
    """Zeros for the learned first state, where another was given."""
    parameters = list(model.parameters())
    return torch.autograd.grad(cost, parameters, allow_unused=True, materialize_grads=True)


#: The kernels' kinds that differ most, one that only torch runs, and stacks of them.
CASES: list[tuple[Any, str, dict[str, Any]]] = [
    (ntm.NTM, "lstm", {}),
    (ntm.NTM, "gru", {"layers": 2}),
    (ntm.NTM, "feedforward", {}),
    (ntm.Recurrent, "lstm", {}),
    (ntm.Recurrent, "gru", {"layers": 2}),
    (ntm.Recurrent, "feedforward", {}),
]


@pytest.mark.parametrize("engine", ["auto", "reference"])
@pytest.mark.parametrize(("kind", "controller", "more"), CASES)
def test_each_of_several_lengths_is_as_if_alone(
    kind: Any, controller: str, more: dict[str, Any], engine: str
) -> None:
    """Outputs, last states and gradients, from the beginning and from a state."""
    model = layer(kind, controller, dtype=torch.float64, **more)
    xs = sequences()
    _, given = model(torch.randn(2, 5, 3, dtype=torch.float64))
    given = given.detach() if given else given
    for state in (None, given):
        padded = pad_sequence(xs, padding_value=float("nan"))  # nobody looks at padding
        ys, end = model(padded, state, lengths=LENGTHS, engine=engine)
        own = sum(part.sum() for part in pytree.tree_leaves(end)) + ys.square().sum()
        gradients = gradients_of(own, model)
        total = torch.zeros((), dtype=torch.float64)
        for b, x in enumerate(xs):
            one = None if state is None else pytree.tree_map(lambda s, b=b: s[b : b + 1], state)
            alone, last = model(x.unsqueeze(1), one, engine=engine)
            torch.testing.assert_close(ys[: len(x), b], alone[:, 0])
            assert (ys[len(x) :, b] == 0).all()
            for mine, its in zip(row(end, b), pytree.tree_leaves(last), strict=True):
                torch.testing.assert_close(mine, its)
            total = total + alone.square().sum()
            total = total + sum(part.sum() for part in pytree.tree_leaves(last))
        expected = gradients_of(total, model)
        for mine, its in zip(gradients, expected, strict=True):
            torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_and_packs_go_in_and_out_as_of_an_lstm(batch_first: bool) -> None:
    model = layer(ntm.NTM, "lstm", batch_first=batch_first, dtype=torch.float64)
    lstm = torch.nn.LSTM(3, 2, batch_first=batch_first).double()
    xs = sequences()
    padded = pad_sequence(xs, batch_first=batch_first)
    ys, end = model(padded, lengths=torch.tensor(LENGTHS, dtype=torch.int32))
    for packed in (
        pack_sequence(xs, enforce_sorted=False),
        pack_padded_sequence(padded, LENGTHS, batch_first, enforce_sorted=False),
    ):
        found, state = model(packed)
        theirs, _ = lstm(packed)
        assert isinstance(found, PackedSequence)
        assert found.batch_sizes.equal(theirs.batch_sizes)
        unpacked, lengths = pad_packed_sequence(found, batch_first)
        assert unpacked.shape == pad_packed_sequence(theirs, batch_first)[0].shape
        assert lengths.tolist() == LENGTHS
        assert torch.equal(unpacked, ys)
        assert torch.equal(state.memory, end.memory)
    in_order = sorted(xs, key=len, reverse=True)
    found, _ = model(pack_sequence(in_order))  # which has no order of its own
    assert torch.equal(pad_packed_sequence(found, batch_first)[0].sum(), ys.sum())


def test_one_state_serves_all_of_a_pack() -> None:
    model = layer(ntm.Recurrent, "lstm")
    _, state = model(torch.randn(2, 1, 3))
    xs = sequences(torch.float32)
    ys, _ = model(pad_sequence(xs), state, lengths=LENGTHS)
    for b, x in enumerate(xs):
        torch.testing.assert_close(ys[: len(x), b], model(x.unsqueeze(1), state)[0][:, 0])


@pytest.mark.parametrize(
    ("lengths", "error", "words"),
    [
        ([3, 0], ValueError, "from 1 to 5, the steps of inputs: 0 to 3"),
        ([3, 6], ValueError, "from 1 to 5, the steps of inputs: 3 to 6"),
        ([3], ValueError, r"lengths is \[1\], should be \[2\]"),
        ([3.0, 2.0], TypeError, "whole numbers"),
    ],
)
def test_wrong_lengths_are_refused(lengths: Any, error: type[Exception], words: str) -> None:
    model = layer(ntm.Recurrent, "gru")
    with pytest.raises(error, match=words):
        model(torch.zeros(5, 2, 3), lengths=lengths)
    with pytest.raises(ValueError, match=r"inputs should be \[T, B, I\]"):
        model(torch.zeros(5, 3), lengths=[5])
    with pytest.raises(ValueError, match="has its own"):
        model(pack_sequence([torch.zeros(5, 3)]), lengths=[5])


@pytest.mark.parametrize("kind", [ntm.NTM, ntm.Recurrent])
def test_batch_first_is_the_same_in_another_order(kind: Any) -> None:
    one, other = layer(kind, "lstm"), layer(kind, "lstm", batch_first=True)
    x = torch.randn(6, 4, 3)
    ys, state = one(x)
    zs, last = other(x.transpose(0, 1))
    assert torch.equal(ys, zs.transpose(0, 1))
    for mine, its in zip(pytree.tree_leaves(state), pytree.tree_leaves(last), strict=True):
        assert torch.equal(mine, its)  # states always have the batch first


@pytest.mark.parametrize(("kind", "controller", "more"), CASES)
def test_backpropagation_ends_where_the_state_is_detached(
    kind: Any, controller: str, more: dict[str, Any]
) -> None:
    model = layer(kind, controller, **more)
    x = torch.randn(3, 2, 3, requires_grad=True)
    _, state = model(x)
    cut = state.detach()
    assert type(cut) is type(state)
    leaves = list(zip(pytree.tree_leaves(cut), pytree.tree_leaves(state), strict=True))
    assert all(torch.equal(one, other) for one, other in leaves)
    assert not any(one.requires_grad for one, _ in leaves)
    ys, _ = model(torch.randn(3, 2, 3), cut)
    ys.sum().backward()
    assert x.grad is None
    double = state.to(torch.float64)
    assert all(part.dtype is torch.float64 for part in pytree.tree_leaves(double))
    assert type(double) is type(state)


def test_states_have_names_and_survive_what_is_done_to_them() -> None:
    _, state = layer(ntm.NTM, "lstm", layers=2)(torch.randn(3, 4, 3))
    assert isinstance(state, ntm.NTMState)
    assert state.memory.shape == (4, 6, 4)
    h, c = state.controller[1]
    assert h.shape == c.shape == (4, 7)
    assert not state.controller.detach()[0][1].requires_grad
    for again in (copy.deepcopy(state.detach()), pickle.loads(pickle.dumps(state.detach()))):
        assert type(again) is type(state)
        assert type(again.controller[0]) is type(state.controller[0])
        assert torch.equal(again.controller[1][0], h)


def test_a_step_at_a_time_is_the_sequence() -> None:
    for kind in (ntm.NTM, ntm.Recurrent):
        model = layer(kind, "gru", batch_first=True)
        x = torch.randn(4, 6, 3)
        whole, end = model(x)
        state, outputs = None, []
        for t in range(6):
            y, state = model.step(x[:, t], state)
            outputs.append(y)
        torch.testing.assert_close(torch.stack(outputs, dim=1), whole)
        torch.testing.assert_close(pytree.tree_leaves(state), pytree.tree_leaves(end))
        y, _ = model.step(x[:, 0], model.initial_state(4))
        torch.testing.assert_close(y, whole[:, 0])


def test_it_is_made_in_a_type_and_on_a_device() -> None:
    single, double = layer(ntm.NTM, "lstm"), layer(ntm.NTM, "lstm", dtype=torch.float64)
    assert {p.dtype for p in double.parameters()} == {torch.float64}
    ys, state = double(torch.zeros(2, 1, 3, dtype=torch.float64))
    assert ys.dtype is state.memory.dtype is torch.float64
    for kind in (ntm.NTM, ntm.Recurrent):
        assert {p.device.type for p in layer(kind, "gru", device="meta").parameters()} == {"meta"}
    with torch.device("meta"):
        assert ntm.NTM(3, 2, hidden_size=4).readout.weight.is_meta
    torch.manual_seed(4)
    first = ntm.NTM(3, 2, hidden_size=7, slots=6, width=4)
    torch.manual_seed(4)
    again = ntm.NTM(3, 2, hidden_size=7, slots=6, width=4, dtype=torch.float64)
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.double(), other)  # the same numbers, whatever the type
    assert single.core.slots == 6


def test_units_alone_have_settings_of_their_own() -> None:
    relu = configure("rnn", size=5, nonlinearity="relu")
    model = ntm.Recurrent(3, 2, controller=relu)
    _, h = model(torch.randn(40, 2, 3))
    assert h.shape == (2, 5)
    assert h.min() == 0
    with pytest.raises(ValueError, match="'grew' is not one of echo_state"):
        ntm.Recurrent(3, 2, controller="grew")
