"""Controllers against torch's own cells, and stacks by hand."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from controllers import CONTROLLERS, AnyController, Core, build_controller, configure
from controllers.feedforward import FeedForward
from controllers.gru import GRU
from controllers.lstm import LSTM
from controllers.rnn import RNN

T, B, INPUTS, H = 9, 7, 5, 11


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs(steps: int = T) -> Tensor:
    return torch.randn(steps, B, INPUTS, generator=generator(2), dtype=torch.float64)


def learned(core: Core) -> None:
    """First states that are not 0."""
    with torch.no_grad():
        for name, p in core.named_parameters():
            if name.endswith(("h0", "c0")):
                p.uniform_(-1, 1, generator=generator(len(name)))


def test_feedforward_is_a_layer_of_tanh_without_memory() -> None:
    core = FeedForward(INPUTS, H, generator()).double()
    x = inputs()[0]
    with torch.no_grad():
        output, state = core(x, core.initial_state(B))
    assert state == ()
    W, bias = (p.detach().numpy() for p in (core.hidden.weight, core.hidden.bias))
    for b in range(B):
        for i in range(H):
            expected = np.tanh(sum(W[i, j] * float(x[b, j]) for j in range(INPUTS)) + bias[i])
            assert abs(float(output[b, i]) - expected) < 1e-14


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn_is_torchs(nonlinearity: Literal["tanh", "relu"]) -> None:
    core = RNN(INPUTS, H, generator(), nonlinearity).double()
    learned(core)
    theirs = nn.RNNCell(INPUTS, H, nonlinearity=nonlinearity, dtype=torch.float64)
    with torch.no_grad():
        theirs.weight_ih.copy_(core.hidden.weight[:, :INPUTS])
        theirs.weight_hh.copy_(core.hidden.weight[:, INPUTS:])
        theirs.bias_ih.copy_(core.hidden.bias)
        theirs.bias_hh.zero_()
    state, h = core.initial_state(B), core.h0.repeat(B, 1)
    for x in inputs():
        output, state = core(x, state)
        h = theirs(x, h)
        torch.testing.assert_close(output, h, rtol=0, atol=1e-14)
        torch.testing.assert_close(state, h, rtol=0, atol=1e-14)


def test_lstm_is_torchs() -> None:
    core = LSTM(INPUTS, H, generator()).double()
    learned(core)
    theirs = nn.LSTMCell(INPUTS, H, dtype=torch.float64)
    with torch.no_grad():  # both keep the gates in the order i, f, candidate, o
        theirs.weight_ih.copy_(core.gates.weight[:, :INPUTS])
        theirs.weight_hh.copy_(core.gates.weight[:, INPUTS:])
        theirs.bias_ih.copy_(core.gates.bias)
        theirs.bias_hh.zero_()
    state, (h, c) = core.initial_state(B), (core.h0.repeat(B, 1), core.c0.repeat(B, 1))
    for x in inputs():
        output, state = core(x, state)
        h, c = theirs(x, (h, c))
        torch.testing.assert_close(output, h, rtol=0, atol=1e-14)
        torch.testing.assert_close(state, (h, c), rtol=0, atol=1e-14)


def test_gru_is_torchs() -> None:
    core = GRU(INPUTS, H, generator()).double()
    learned(core)
    theirs = nn.GRUCell(INPUTS, H, dtype=torch.float64)
    with torch.no_grad():  # both keep the gates in the order r, z, candidate
        for ours_x, ours_h, part in (
            (core.gates.weight[:, :INPUTS], core.gates.weight[:, INPUTS:], slice(2 * H)),
            (core.candidate_x.weight, core.candidate_h.weight, slice(2 * H, 3 * H)),
        ):
            theirs.weight_ih[part] = ours_x
            theirs.weight_hh[part] = ours_h
        theirs.bias_ih.copy_(torch.cat([core.gates.bias, core.candidate_x.bias]))
        theirs.bias_hh.copy_(torch.cat([torch.zeros(2 * H), core.candidate_h.bias]))
    state, h = core.initial_state(B), core.h0.repeat(B, 1)
    for x in inputs():
        output, state = core(x, state)
        h = theirs(x, h)
        torch.testing.assert_close(output, h, rtol=0, atol=1e-14)
        torch.testing.assert_close(state, h, rtol=0, atol=1e-14)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kind", CONTROLLERS)
def test_a_stack_is_its_layers_wired_by_hand(kind: str, skip: bool) -> None:
    config = configure(kind=kind, size=H, layers=3, skip=skip)
    core = build_controller(config, INPUTS, generator()).double()
    learned(core)
    first, second, third = core.get_submodule("layers").children()
    assert isinstance(first, Core)
    assert isinstance(second, Core)
    assert isinstance(third, Core)
    s1, s2, s3 = (layer.initial_state(B) for layer in (first, second, third))
    stacked, state = core.unroll(inputs(), core.initial_state(B))
    for t, x in enumerate(inputs()):
        y1, s1 = first(x, s1)
        y2, s2 = second(torch.cat([x, y1], dim=-1) if skip else y1, s2)
        y3, s3 = third(torch.cat([x, y2], dim=-1) if skip else y2, s3)
        expected = torch.cat([y1, y2, y3], dim=-1) if skip else y3
        torch.testing.assert_close(stacked[t], expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(state, (s1, s2, s3), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["feedforward", "rnn", "lstm", "gru"])
def test_weights_are_uniform_and_first_states_are_zero(kind: str) -> None:
    """Weights and biases in +-1/sqrt(fan in), filling that range on both sides.

    But for the bias of the LSTM's forget gate, the second of four, which starts 1 higher.
    """
    core = configure(kind, size=40).layer(60, generator())
    for name, p in core.state_dict().items():
        if name in ("h0", "c0"):
            assert p.count_nonzero() == 0
        elif name.endswith("weight"):
            bound = p.shape[1] ** -0.5
            assert -bound <= float(p.min()) < -0.95 * bound
            assert 0.95 * bound < float(p.max()) <= bound
            assert abs(float(p.mean())) < 5 * bound / (3 * p.numel()) ** 0.5
        else:
            bound = core.get_parameter(name.removesuffix("bias") + "weight").shape[1] ** -0.5
            p = p.clone()
            if kind == "lstm":
                p[40:80] -= 1
            assert 0 < float(p.abs().max()) <= bound + 1e-6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "transformer"),
        ("size", 0),
        ("size", "100"),
        ("size", True),
        ("layers", 0),
        ("layers", 1.5),
        ("skip", 1),
        ("sise", 100),
    ],
)
def test_bad_settings_name_their_field(field: str, value: Any) -> None:
    settings = {"kind": "lstm", field: value}
    with pytest.raises(ValidationError) as caught:  # as a config file is read
        TypeAdapter(AnyController).validate_json(json.dumps(settings))
    expected = () if field == "kind" else ("lstm", field)
    assert [error["loc"] for error in caught.value.errors()] == [expected]
