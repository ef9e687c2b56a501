"""Networks that read the whole input first: against the same by hand, one sequence at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from controllers import CONTROLLERS, configure
from ntm.analysis.evaluate import evaluate
from ntm.errors import UsageError
from ntm.memory.ntm import NTMConfig
from ntm.model import Model, ModelConfig, build_model
from ntm.runs.models import new_model
from ntm.training.load import load_config
from ntm.whole_input import Bidirectional, EncoderDecoder
from tasks.copy import Copy
from tasks.ngram import NGram
from tasks.priority_sort import PrioritySort
from tasks.repeat_copy import RepeatCopy

T, INPUTS, OUT = 9, 4, 3
BEGIN = [3, 5, 3, 1, 8, 9, 0]  # of each sequence; the last but one has no answer, the last no input
B = len(BEGIN)


def build(direction: Any, kind: str = "lstm", **settings: Any) -> Model:
    config = ModelConfig(controller=configure(kind, size=6, **settings), direction=direction)
    model = build_model(config, INPUTS, OUT, torch.Generator().manual_seed(1)).double()
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            p.uniform_(-1, 1, generator=g)
    return model


def inputs() -> Tensor:
    return torch.randn(T, B, INPUTS, generator=torch.Generator().manual_seed(3)).double()


def loop(core: Any, xs: list[Tensor], state: Any) -> tuple[list[Tensor], Any]:
    outputs = []
    for x in xs:
        y, state = core(x[None], state)
        outputs.append(y[0])
    return outputs, state


@pytest.mark.parametrize("kind", ["lstm", "gru1", "nested_lstm"])
@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_bidirectional(kind: str, engine: Any) -> None:
    model = build("bidirectional", kind)
    core = model.core
    assert isinstance(core, Bidirectional)
    logits, _ = model(inputs(), begin=torch.tensor(BEGIN), engine=engine)
    for b, n in enumerate(BEGIN):
        xs = list(inputs()[:, b])
        ahead, _ = loop(core.forwards, xs, core.forwards.initial_state(1))
        back, _ = loop(core.backwards, xs[:n][::-1] + xs[n:], core.backwards.initial_state(1))
        back = back[:n][::-1] + back[n:]  # at step t of the input, what has been read from its end
        for t in range(T):
            expected = model.readout(torch.cat([ahead[t], back[t]]))
            torch.testing.assert_close(logits[t, b], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["lstm", "gru1", "nested_lstm", "feedforward"])
@pytest.mark.parametrize("engine", ["reference", "auto"])
def test_encoder_decoder(kind: str, engine: Any) -> None:
    model = build("encoder_decoder", kind)
    core = model.core
    assert isinstance(core, EncoderDecoder)
    logits, end = model(inputs(), begin=torch.tensor(BEGIN), engine=engine)
    for b, n in enumerate(BEGIN):
        xs = list(inputs()[:, b])
        _, state = loop(core.encoder, xs[:n], core.encoder.initial_state(1))
        own = core.decoder.initial_state(1)
        state = tuple(map(torch.add, state, own)) if isinstance(own, tuple) else state + own
        said, state = loop(core.decoder, xs[n:], state)
        for t in range(n, T):
            expected = model.readout(said[t - n])
            torch.testing.assert_close(logits[t, b], expected, rtol=0, atol=1e-12)
        parts = end if isinstance(end, tuple) else (end,)
        mine = state if isinstance(state, tuple) else (state,)
        for part, one in zip(parts, mine, strict=True):
            torch.testing.assert_close(part[b], one[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("direction", ["bidirectional", "encoder_decoder"])
@pytest.mark.parametrize("kind", ["lstm", "peephole_lstm", "gru"])
def test_every_parameter_gets_a_gradient(direction: str, kind: str) -> None:
    model = build(direction, kind)
    begin = torch.tensor(BEGIN)
    logits, _ = model(inputs(), begin=begin)
    answers = torch.arange(T)[:, None] >= begin
    logits[answers].square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert (p.grad != 0).all(), name


@pytest.mark.parametrize("direction", ["bidirectional", "encoder_decoder"])
def test_the_answer_depends_on_no_other_sequence_and_on_no_padding(direction: str) -> None:
    """Episodes of mixed lengths are padded behind: that must not reach a reader from behind."""
    task = Copy(width=INPUTS - 1, length=(1, 8))
    config = ModelConfig(controller=configure("gru", size=6), direction=direction)  # type: ignore[arg-type]
    model = build_model(config, INPUTS, 3, torch.Generator().manual_seed(1)).double()
    episode = task.sample(np.random.default_rng(4), 5)
    together, _ = model(episode.inputs.double(), begin=episode.begin)
    assert len(set(episode.conditions["length"].tolist())) > 2
    for b in range(5):
        one = episode.select(b, b + 1)
        alone, _ = model(one.inputs.double(), begin=one.begin)
        scored = one.mask[:, 0] > 0
        torch.testing.assert_close(
            together[: len(alone), b][scored], alone[scored, 0], rtol=0, atol=1e-12
        )


def test_without_where_the_answer_begins() -> None:
    with pytest.raises(ValueError, match="begin"):
        build("bidirectional")(inputs())


@pytest.mark.parametrize("task", [Copy(length=(2, 7)), RepeatCopy(), PrioritySort()], ids=str)
def test_an_answer_begins_where_the_input_has_ended(task: Any) -> None:
    assert task.answers_last
    episode = task.sample(np.random.default_rng(1), 6)
    for b, n in enumerate(episode.begin.tolist()):
        assert episode.mask[n, b] == 1
        assert episode.mask[:n, b].count_nonzero() == 0
        assert episode.inputs[n:, b].count_nonzero() == 0
        assert episode.inputs[:n, b].count_nonzero() > 0


def test_n_grams_are_answered_as_they_come() -> None:
    assert not NGram().answers_last


def test_a_machine_answers_as_it_goes() -> None:
    with pytest.raises(ValidationError, match="memory should be null"):
        ModelConfig(
            controller=configure("gru"), memory=NTMConfig(slots=9), direction="bidirectional"
        )


def test_a_config_says_why_not(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"model\.direction: encoder_decoder reads the whole input"
    ):
        load_config("ngram/lstm", ["model.direction=encoder_decoder"])
    with pytest.raises(UsageError, match=r"model\.direction: bidirectional is for baselines"):
        load_config("copy/ntm-lstm", ["model.direction=bidirectional"])


@pytest.mark.parametrize("direction", ["bidirectional", "encoder_decoder"])
@pytest.mark.parametrize("kind", sorted(CONTROLLERS))
def test_every_unit_takes_every_form(direction: str, kind: str) -> None:
    settings = [f"model.direction={direction}", f"model.controller={{kind: {kind}, size: 7}}"]
    config = load_config("copy/lstm", [*settings, "task.length=[1, 4]"])
    model = new_model(config)
    scores = evaluate(model, config.task, 11).summary()
    assert 0 < scores["bits"] < 1000
