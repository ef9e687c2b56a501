"""Every way into the kernels refuses what does not fit, in one line that names both sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import ntm
from controllers import CONTROLLERS, build_controller, configure
from ntm.kernels.dispatch import learner, unroll
from ntm.memory.ntm import NTMCell, NTMConfig, NTMState
from ntm.model import Model, ModelConfig, build_model
from ntm.training.optim import flatten

ENGINES = ["auto", "reference"]
#: As many of everything: time, batch, inputs, outputs, units, slots, width, heads.
T, B, I, O, C, N, W, R, Q = 5, 3, 10, 8, 12, 6, 4, 2, 1  # noqa: E741


def model_of(layers: int = 1, kind: str = "lstm") -> ntm.NTM:
    return ntm.NTM(
        I, O, controller=kind, hidden_size=C, layers=layers, slots=N, width=W, read_heads=R,
        write_heads=Q, generator=torch.Generator().manual_seed(1),
    )  # fmt: skip


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    return str(caught.value)


WRONG_INPUTS: list[tuple[Any, str]] = [
    (randn(T, B, 9), "inputs has 9 channels, the model takes 10"),
    (randn(T, B, 11), "inputs has 11 channels, the model takes 10"),
    (randn(1, 1, 1).expand(2, 1, 200_000), "inputs has 200000 channels, the model takes 10"),
    (randn(T, I), "inputs should be [T, B, I], not [5, 10]"),
    (randn(I), "inputs should be [T, B, I], not [10]"),
    (randn(1, T, B, I), "inputs should be [T, B, I], not [1, 5, 3, 10]"),
    (torch.ones(T, B, I, dtype=torch.int64), "inputs is int64, the model float32"),
    (torch.ones(T, B, I, dtype=torch.float64), "inputs is float64, the model float32"),
    (torch.ones(T, B, I, device="meta"), "inputs is on meta, the model on cpu"),
    ([[[0.0] * I]], "inputs should be a tensor, not a list"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("xs", "line"), WRONG_INPUTS, ids=[line for _, line in WRONG_INPUTS])
def test_inputs(xs: Any, line: str, engine: Any) -> None:
    model = model_of()
    assert refusal(lambda: model(xs, engine=engine)) == line
    assert refusal(lambda: model(xs, model.core.initial_state(B), engine=engine)) == line


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("xs", "line"), WRONG_INPUTS, ids=[line for _, line in WRONG_INPUTS])
@pytest.mark.parametrize("direction", ["causal", "bidirectional", "encoder_decoder"])
def test_inputs_of_a_baseline(xs: Any, line: str, engine: Any, direction: Any) -> None:
    config = ModelConfig(controller=configure("gru", size=C), direction=direction)
    model = build_model(config, I, O, torch.Generator())
    begin = torch.ones(B, dtype=torch.int64)
    assert refusal(lambda: model(xs, begin=begin, engine=engine)) == line


def test_where_answers_begin() -> None:
    config = ModelConfig(controller=configure("gru", size=C), direction="bidirectional")
    model = build_model(config, I, O, torch.Generator())
    begin = torch.ones(2, dtype=torch.int64)
    assert refusal(lambda: model(randn(T, B, I), begin=begin)) == "begin is [2], should be [3]"


def state_of(model: Model, batch: int = B) -> NTMState:
    state = model(randn(2, batch, I))[1]
    assert isinstance(state, NTMState)
    return NTMState(
        state.memory.detach(),
        state.weights.detach(),
        state.reads.detach(),
        tuple(part.detach() for part in state.controller),
    )


WRONG_STATES: list[tuple[Callable[[NTMState], Any], str]] = [
    (lambda s: s._replace(memory=s.memory[:2]), "state.memory is [2, 6, 4], should be [3, 6, 4]"),
    (lambda s: s._replace(memory=s.memory[0]), "state.memory is [6, 4], should be [3, N, 4]"),
    (
        lambda s: s._replace(memory=s.memory[..., :3]),
        "state.memory is [3, 6, 3], should be [3, 6, 4]",
    ),
    (
        lambda s: s._replace(memory=s.memory[:, :0]),
        "state.memory is [3, 0, 4], should be [3, N, 4]",
    ),
    (
        lambda s: s._replace(memory=s.memory[:, :5]),
        "state.weights is [3, 3, 6], should be [3, 3, 5]",
    ),
    (
        lambda s: s._replace(weights=s.weights[:, :2]),
        "state.weights is [3, 2, 6], should be [3, 3, 6]",
    ),
    (lambda s: s._replace(reads=s.reads[:, :1]), "state.reads is [3, 1, 4], should be [3, 2, 4]"),
    (
        lambda s: s._replace(controller=(s.controller[0], s.controller[1][:, :7])),
        "state.controller[1] is [3, 7], should be [3, 12]",
    ),
    (
        lambda s: s._replace(controller=s.controller[0]),
        "state.controller should be a tuple of 2, not a Tensor",
    ),
    (
        lambda s: s._replace(controller=(*s.controller, s.controller[0])),
        "state.controller has 3 parts, should have 2",
    ),
    (
        lambda s: s[:3],
        "state has 3 parts, should have 4: (memory, weights, reads, controller)",
    ),
    (
        lambda s: s.memory,
        "state should be (memory, weights, reads, controller), not a Tensor",
    ),
    (
        lambda s: NTMState(s.memory, s.weights, s.reads.tolist(), s.controller),  # type: ignore[arg-type]
        "state.reads should be a tensor, not a list",
    ),
    (
        lambda s: s._replace(weights=s.weights.double()),
        "state.weights is float64, the model float32",
    ),
    (lambda s: s._replace(reads=s.reads.to("meta")), "state.reads is on meta, the model on cpu"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("change", "line"), WRONG_STATES, ids=[line for _, line in WRONG_STATES])
def test_a_state_that_is_handed_in(
    change: Callable[[NTMState], Any], line: str, engine: Any
) -> None:
    model = model_of()
    state = change(state_of(model))
    assert refusal(lambda: model(randn(T, B, I), state, engine=engine)) == line


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", CONTROLLERS)
def test_a_state_of_a_controller_alone(kind: str, engine: Any) -> None:
    """Of every kind: with one unit too few, of another batch, and for one sequence."""
    core = build_controller(configure(kind, size=C), I, torch.Generator().manual_seed(1))
    state = core.initial_state(B)
    parts = state if isinstance(state, tuple) else (state,)
    for n, part in enumerate(parts):
        where = f"state[{n}]" if isinstance(state, tuple) else "state"
        for wrong in (part[:, 1:], part[:2], part[0]):
            new: Any = (*parts[:n], wrong, *parts[n + 1 :])
            given = new if isinstance(state, tuple) else wrong
            line = f"{where} is {list(wrong.shape)}, should be [3, 12]"
            assert refusal(lambda g=given: unroll(core, randn(T, B, I), g, engine=engine)) == line  # type: ignore[misc]
    one = core.initial_state(1)
    expected, _ = unroll(core, randn(T, B, I), state, engine=engine)
    assert torch.equal(unroll(core, randn(T, B, I), one, engine=engine)[0], expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_for_one_sequence_serves_all(engine: Any) -> None:
    model = model_of(layers=2, kind="gru")
    xs = randn(T, B, I)
    one = model(randn(2, 1, I))[1]
    assert isinstance(one, NTMState)
    whole = NTMState(
        one.memory.expand(B, -1, -1),
        one.weights.expand(B, -1, -1),
        one.reads.expand(B, -1, -1),
        tuple(h.expand(B, -1) for h in one.controller),
    )
    ys, end = model(xs, one, engine=engine)
    expected, last = model(xs, whole, engine=engine)
    assert torch.equal(ys, expected)
    assert torch.equal(end.memory, last.memory)


def detached(state: Any, kind: Callable[[Any], Any]) -> Any:
    """The recursive detach of most scripts for truncated backpropagation."""
    return state.detach() if isinstance(state, Tensor) else kind(detached(s, kind) for s in state)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize(("controller", "layers"), [("lstm", 1), ("gru", 2), ("feedforward", 1)])
def test_plain_tuples_are_taken(kind: Any, controller: str, layers: int, engine: Any) -> None:
    model = model_of(layers, controller)
    _, state = model(randn(2, B, I))
    assert isinstance(state, NTMState)
    expected, _ = model(randn(T, B, I), state, engine=engine)
    ys, end = model(randn(T, B, I), detached(state, kind), engine=engine)
    assert torch.equal(ys, expected)
    assert isinstance(end, NTMState)
    ys.sum().backward()  # and it goes no further back
    assert all(p.grad is not None for p in model.readout.parameters())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_of_another_number_of_slots_is_taken(engine: Any) -> None:
    model = model_of()
    _, end = model(randn(T, B, I), model.core.initial_state(B, slots=17), engine=engine)
    assert end.memory.shape == (B, 17, W)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("settings", [{"recompute_every": 0}, {"weighting_grad": 0.0}])
def test_options(settings: dict[str, Any], engine: Any) -> None:
    (name,) = settings
    assert refusal(lambda: model_of()(randn(T, B, I), engine=engine, **settings)).startswith(name)


def test_a_controller_alone_has_no_weightings() -> None:
    core = build_controller(configure("gru", size=C), I, torch.Generator())
    line = refusal(lambda: unroll(core, randn(T, B, I), weighting_grad=1.0))
    assert line == "weighting_grad is for the weightings of an NTM, which this is not"


# The compiled training step


def shown(task: tuple[int, int] = (I, O)) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(3)
    return {
        "inputs": torch.randint(0, 2, (T, B, task[0]), generator=g).float(),
        "targets": torch.randint(0, 2, (T, B, task[1]), generator=g).float(),
        "mask": torch.ones(T, B),
    }


WRONG_EPISODES: list[tuple[str, Callable[[Tensor], Any], str]] = [
    *[("inputs", lambda _, x=x: x, line) for x, line in WRONG_INPUTS],
    ("targets", lambda y: y[..., :-1], "targets has 7 channels, the model gives 8"),
    ("targets", lambda y: y[0], "targets should be [T, B, O], not [3, 8]"),
    ("targets", lambda y: y[:-1], "targets is [4, 3, 8], should be [5, 3, 8]"),
    ("targets", lambda y: y[:, :2], "targets is [5, 2, 8], should be [5, 3, 8]"),
    ("targets", lambda y: y.long(), "targets is int64, inputs float32"),
    ("targets", lambda y: y.to("meta"), "targets is on meta, inputs on cpu"),
    ("targets", lambda y: y.numpy(), "targets should be a tensor, not a ndarray"),
    ("mask", lambda m: m[:-1], "mask is [4, 3], should be [5, 3]"),
    ("mask", lambda m: m[..., None], "mask is [5, 3, 1], should be [5, 3]"),
    ("mask", lambda m: m.bool(), "mask is bool, inputs float32"),
    ("mask", lambda _: None, "mask should be a tensor, not None"),
]


@pytest.mark.parametrize(
    ("name", "change", "line"), WRONG_EPISODES, ids=[line for *_, line in WRONG_EPISODES]
)
@pytest.mark.parametrize("memory", [True, False])
def test_an_episode(name: str, change: Callable[[Tensor], Any], line: str, memory: bool) -> None:
    pytest.importorskip("numba")
    config = ModelConfig(
        controller=configure("lstm", size=C),
        memory=NTMConfig(slots=N, width=W) if memory else None,
    )
    model = build_model(config, I, O, torch.Generator().manual_seed(1))
    flatten(model)
    learn = learner(model)
    assert learn is not None
    episode: dict[str, Any] = shown()
    episode[name] = change(episode[name])
    assert refusal(lambda: learn(**episode)) == line
    assert all(p.grad is not None and (p.grad == 0).all() for p in model.parameters())


@pytest.mark.parametrize("shape", [(0, B), (T, 0)])
def test_an_episode_of_nothing(shape: tuple[int, int]) -> None:
    pytest.importorskip("numba")
    model = model_of()
    flatten(model)
    learn = learner(model)
    assert learn is not None
    episode = torch.zeros(*shape, I), torch.zeros(*shape, O), torch.zeros(*shape)
    assert refusal(lambda: learn(*episode)).endswith("there is nothing to learn from")


def test_no_sequences_are_no_mistake() -> None:
    model = model_of()
    ys, state = model(torch.zeros(T, 0, I))
    assert ys.shape == (T, 0, O)
    assert state.memory.shape == (0, N, W)
    assert isinstance(model.core, NTMCell)
