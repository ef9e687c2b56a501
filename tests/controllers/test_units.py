"""Units that torch has no layer of: against plain loops, torch's cells, gradcheck."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from controllers import CONTROLLERS, Core, build_controller, configure
from controllers.echo_state import EchoState
from controllers.leaky import Leaky
from controllers.nested_lstm import NestedLSTM
from controllers.peephole_lstm import PeepholeLSTM
from controllers.reduced_gru import ReducedGRU

Array = NDArray[np.float64]

T, B, INPUTS, H = 8, 3, 5, 4


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs() -> Tensor:
    return torch.randn(T, B, INPUTS, generator=generator(2), dtype=torch.float64)


def build(cls: type[Core], **settings: Any) -> Any:
    """A unit in float64, every parameter away from where it starts."""
    core = cls(INPUTS, H, generator(), **settings).double()
    with torch.no_grad():
        for p in core.parameters():
            p.uniform_(-1, 1, generator=generator(p.numel()))
    return core


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def product(layer: nn.Linear, u: int, v: list[float]) -> float:
    """Row u of W v + b."""
    row = layer.weight[u].tolist()
    assert len(row) == len(v)
    return float(sum(w * x for w, x in zip(row, v, strict=True)) + layer.bias[u].item())


def compare(
    core: Core, loop: Callable[[list[float], list[list[float]]], list[list[float]]]
) -> None:
    """Unrolls the core, and for each sequence the loop: (x, state) -> state, h first."""
    xs = inputs()
    start = core.initial_state(B)
    flat = [start] if isinstance(start, Tensor) else list(start)
    outputs, end = core.unroll(xs, start)
    last = [end] if isinstance(end, Tensor) else list(end)
    for b in range(B):
        state = [part[b].tolist() for part in flat]
        for t in range(T):
            state = loop(xs[t, b].tolist(), state)
            np.testing.assert_allclose(outputs[t, b].tolist(), state[0], rtol=0, atol=1e-13)
        for part, expected in zip(last, state, strict=True):
            np.testing.assert_allclose(part[b].tolist(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("leak", "learned"), [(0.3, False), (1.0, False), (0.3, True)])
def test_leaky(leak: float, learned: bool) -> None:
    core = build(Leaky, leak=leak, learned=learned)
    alpha = [sigmoid(a) for a in core.leak_logit.tolist()] if learned else [leak] * H

    def loop(x: list[float], state: list[list[float]]) -> list[list[float]]:
        (h,) = state
        y = [math.tanh(product(core.hidden, u, x + h)) for u in range(H)]
        return [[(1 - alpha[u]) * h[u] + alpha[u] * y[u] for u in range(H)]]

    compare(core, loop)


def test_a_learned_leak_starts_where_it_was_told() -> None:
    core = Leaky(INPUTS, H, generator(), leak=0.2, learned=True)
    assert core.leak_logit is not None
    torch.testing.assert_close(torch.sigmoid(core.leak_logit), torch.full((H,), 0.2))
    with pytest.raises(ValidationError, match="less than 1 if it is learned"):
        configure("leaky", leak=1.0, learned=True)


def test_peephole_lstm() -> None:
    core = build(PeepholeLSTM)
    p_i, p_f, p_o = (p.tolist() for p in core.peepholes.view(3, H))

    def loop(x: list[float], state: list[list[float]]) -> list[list[float]]:
        h, c = state
        new_h, new_c = [], []
        for u in range(H):
            i, f, j, o = (product(core.gates, gate * H + u, x + h) for gate in range(4))
            cell = sigmoid(f + p_f[u] * c[u]) * c[u] + sigmoid(i + p_i[u] * c[u]) * math.tanh(j)
            new_c.append(cell)
            new_h.append(sigmoid(o + p_o[u] * cell) * math.tanh(cell))
        return [new_h, new_c]

    compare(core, loop)


def test_without_peepholes_it_is_an_lstm() -> None:
    seen, blind = (
        configure(k, size=H).layer(INPUTS, generator()) for k in ("peephole_lstm", "lstm")
    )
    xs = inputs().float()
    expected, state = blind.unroll(xs, blind.initial_state(B))
    found = seen.unroll(xs, seen.initial_state(B))
    torch.testing.assert_close(found, (expected, state), rtol=0, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_nested_lstm(depth: int) -> None:
    core = build(NestedLSTM, depth=depth)

    def nested(k: int, x: list[float], h: list[float], cells: list[list[float]]) -> Any:
        """The LSTM at depth k: what it returns, and the new cells from k inwards."""
        n = len(h)
        z = [product(core.gates[k], row, x + h) for row in range(4 * n)]
        inner_x = [sigmoid(z[u]) * math.tanh(z[2 * n + u]) for u in range(n)]
        inner_h = [sigmoid(z[n + u]) * cells[0][u] for u in range(n)]
        if k == depth - 1:
            c, inside = [a + b for a, b in zip(inner_x, inner_h, strict=True)], []
        else:
            c, inside = nested(k + 1, inner_x, inner_h, cells[1:])
        return [sigmoid(z[3 * n + u]) * math.tanh(c[u]) for u in range(n)], [c, *inside]

    def loop(x: list[float], state: list[list[float]]) -> list[list[float]]:
        h, *cells = state
        h, cells = nested(0, x, h, cells)
        return [h, *cells]

    compare(core, loop)


def test_a_nested_lstm_of_depth_one_is_an_lstm() -> None:
    nested, plain = configure("nested_lstm", size=H, depth=1), configure("lstm", size=H)
    a, b = nested.layer(INPUTS, generator()), plain.layer(INPUTS, generator())
    xs = inputs().float()
    expected = b.unroll(xs, b.initial_state(B))
    torch.testing.assert_close(a.unroll(xs, a.initial_state(B)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", [1, 2, 3])
def test_reduced_grus_are_torchs_with_zeros_in_the_gates(variant: int) -> None:
    core = build(ReducedGRU, variant=variant)
    theirs = nn.GRUCell(INPUTS, H, dtype=torch.float64)
    with torch.no_grad():
        for p in theirs.parameters():
            p.zero_()
        if core.gates_weight is not None:
            theirs.weight_hh[: 2 * H] = core.gates_weight
        if core.gates_bias is not None:
            theirs.bias_ih[: 2 * H] = core.gates_bias
        theirs.weight_ih[2 * H :] = core.candidate_x.weight
        theirs.bias_ih[2 * H :] = core.candidate_x.bias
        theirs.weight_hh[2 * H :] = core.candidate_h.weight
        theirs.bias_hh[2 * H :] = core.candidate_h.bias
    state, h = core.initial_state(B), core.h0.repeat(B, 1)
    for x in inputs():
        output, state = core(x, state)
        h = theirs(x, h)
        torch.testing.assert_close(output, h, rtol=0, atol=1e-14)
        torch.testing.assert_close(state, h, rtol=0, atol=1e-14)


class TestEchoState:
    def test_its_equation(self) -> None:
        core = EchoState(INPUTS, H, generator(), leak=0.7, density=0.6).double()
        W_in, U, first = core.weight[:, :INPUTS], core.weight[:, INPUTS:], core.bias

        def loop(x: list[float], state: list[list[float]]) -> list[list[float]]:
            (h,) = state
            z = (
                first
                + W_in @ torch.tensor(x, dtype=torch.float64)
                + U @ torch.tensor(h, dtype=torch.float64)
            )
            return [[0.3 * h[u] + 0.7 * math.tanh(z[u].item()) for u in range(H)]]

        assert core.initial_state(B).count_nonzero() == 0
        compare(core, loop)

    @pytest.mark.parametrize(("radius", "density"), [(0.9, 0.1), (1.3, 1.0), (0.2, 0.5)])
    def test_radius_density_and_scaling(self, radius: float, density: float) -> None:
        core = EchoState(3, 150, generator(), radius=radius, density=density, scaling=0.4)
        U = core.weight[:, 3:].double().numpy()
        assert abs(np.abs(np.linalg.eigvals(U)).max() - radius) < 1e-5
        assert abs((U != 0).mean() - density) < 0.02
        W_in = torch.cat([core.weight[:, :3].flatten(), core.bias])
        assert 0.39 < float(W_in.abs().max()) <= 0.4
        assert float(W_in.min()) < 0 < float(W_in.max())

    def test_a_reservoir_without_a_connection_stays_finite(self) -> None:
        core = EchoState(3, 1, generator(), density=1e-9)
        assert core.weight[:, 3:].count_nonzero() == 0
        outputs, _ = core.unroll(inputs().float()[..., :3], core.initial_state(B))
        assert outputs.isfinite().all()

    def test_it_forgets_where_it_began(self) -> None:
        core = EchoState(INPUTS, 60, generator(), radius=0.5).double()
        xs = torch.randn(80, 1, INPUTS, generator=generator(3), dtype=torch.float64)
        ends = [core.unroll(xs, start * torch.ones(1, 60).double())[1] for start in (0.0, 1.0)]
        torch.testing.assert_close(*ends, rtol=0, atol=1e-6)


def parameters(kind: str, n: int, h: int, **settings: Any) -> int:
    """What one layer of h units learns from n inputs."""
    product = h * (n + h + 1)
    depth: int = settings.get("depth", 2)
    counts = {
        "feedforward": h * (n + 1),
        "rnn": product + h,
        "leaky": product + h + (h if settings.get("learned") else 0),
        "echo_state": 0,
        "lstm": 4 * product + 2 * h,
        "peephole_lstm": 4 * product + 3 * h + 2 * h,
        "nested_lstm": 4 * product + (depth - 1) * 4 * h * (2 * h + 1) + (1 + depth) * h,
        "gru": 3 * product + 2 * h,
        "gru1": product + 2 * h * (h + 1) + 2 * h,
        "gru2": product + 2 * h * h + 2 * h,
        "gru3": product + 2 * h + 2 * h,
    }
    return counts[kind]


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in CONTROLLERS),
    ("rnn", {"nonlinearity": "relu"}),
    ("leaky", {"learned": True}),
    ("nested_lstm", {"depth": 1}),
    ("nested_lstm", {"depth": 5}),
]


@pytest.mark.parametrize(("layers", "skip"), [(1, False), (2, False), (3, True)])
@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
def test_parameter_counts(kind: str, settings: dict[str, Any], layers: int, skip: bool) -> None:
    config = configure(kind, size=H, layers=layers, skip=skip, **settings)
    core = build_controller(config, INPUTS, generator())
    expected = parameters(kind, INPUTS, H, **settings)
    expected += (layers - 1) * parameters(kind, H + (INPUTS if skip else 0), H, **settings)
    assert sum(p.numel() for p in core.parameters()) == expected
    assert core.input_size == INPUTS
    assert core.output_size == (layers * H if skip else H)


@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
def test_gradcheck(kind: str, settings: dict[str, Any]) -> None:
    config = configure(kind, size=3, **settings)
    core = config.layer(2, generator(5)).double()
    names = [name for name, _ in core.named_parameters()]
    first = [p.detach().clone() for p in core.parameters()]
    for n, p in enumerate(first):  # the first states and peepholes are away from 0
        p += 0.1 * torch.randn(p.shape, generator=generator(n), dtype=p.dtype)
    xs = torch.randn(3, 2, 2, generator=generator(6), dtype=torch.float64)

    def run(xs: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        outputs: Tensor = torch.func.functional_call(
            Whole(core), {f"core.{k}": v for k, v in given.items()}, xs
        )
        return outputs

    arguments = [t.requires_grad_() for t in (xs, *first)]
    assert torch.autograd.gradcheck(run, arguments)


class Whole(nn.Module):
    """A core over whole sequences, from its own first state."""

    def __init__(self, core: Core) -> None:
        super().__init__()
        self.core = core

    def forward(self, xs: Tensor) -> Tensor:
        outputs, _ = Core.unroll(self.core, xs, self.core.initial_state(xs.shape[1]))
        return outputs


@pytest.mark.parametrize(
    ("kind", "settings", "key"),
    [
        ("leaky", {"leak": 0.0}, "leak"),
        ("leaky", {"leak": 1.5}, "leak"),
        ("nested_lstm", {"depth": 0}, "depth"),
        ("echo_state", {"radius": -1.0}, "radius"),
        ("echo_state", {"density": 0.0}, "density"),
        ("echo_state", {"scaling": math.inf}, "scaling"),
        ("echo_state", {"size": 10**6}, "size"),
        ("rnn", {"nonlinearity": "sin"}, "nonlinearity"),
        ("lstm", {"depth": 2}, "depth"),
    ],
)
def test_bad_settings_name_their_field(kind: str, settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        configure(kind, **settings)
    assert caught.value.errors()[0]["loc"] == (key,)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="'transformer' is not one of echo_state, feedforward"):
        configure("transformer")
