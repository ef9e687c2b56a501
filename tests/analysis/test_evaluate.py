from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ntm.analysis import evaluate as module
from ntm.analysis.evaluate import Scores, evaluate, state_size
from ntm.runs.models import load_model, new_model
from ntm.training.streams import Stream, numpy_generator
from tasks.copy import Copy
from tasks.ngram import NGram
from tasks.repeat_copy import RepeatCopy
from tests.small import Watch, new_run, small_config, small_config_of, train


@pytest.fixture
def model() -> Any:
    return new_model(small_config())


TASK = Copy(width=3, length=(1, 4))


def test_the_first_episodes_are_the_same_however_many_there_are(model: Any) -> None:
    few, many = evaluate(model, TASK, 60, seed=3), evaluate(model, TASK, 170, seed=3)
    torch.testing.assert_close(few.bits, many.bits[:60], rtol=1e-5, atol=1e-5)
    assert torch.equal(few.conditions["length"], many.conditions["length"][:60])


def test_how_many_run_at_a_time_changes_nothing(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = evaluate(model, TASK, 55)
    monkeypatch.setattr(module, "STATE_FLOATS", 7 * state_size(model))
    apart = evaluate(model, TASK, 55)
    torch.testing.assert_close(apart.bits, together.bits, rtol=1e-5, atol=1e-5)  # float32
    assert torch.equal(apart.bit_errors, together.bit_errors)
    assert torch.equal(apart.conditions["length"], together.conditions["length"])


def test_seed_and_stream_choose_the_episodes(model: Any) -> None:
    first = evaluate(model, TASK, 20).bits
    assert torch.equal(first, evaluate(model, TASK, 20).bits)
    assert not torch.equal(first, evaluate(model, TASK, 20, seed=1).bits)
    assert not torch.equal(first, evaluate(model, TASK, 20, stream=Stream.VALIDATION).bits)


def test_a_batch_that_shares_a_length_is_scored_too(model: Any) -> None:
    lengths = evaluate(model, Copy(width=3, length=(1, 4), mixed=False), 120).conditions["length"]
    assert [len(set(part.tolist())) for part in lengths.split(50)] == [1, 1, 1]


def test_the_state_of_a_machine_is_counted() -> None:
    # memory 9 x 5, two weightings of 9, one read of 5, h and c of 11
    assert state_size(new_model(small_config())) == 9 * 5 + 2 * 9 + 5 + 2 * 11
    assert state_size(new_model(small_config(model={"memory": None}))) == 2 * 11


def test_summary_and_breakdown() -> None:
    scores = Scores(
        bits=torch.tensor([1.0, 2.0, 3.0, 10.0]),
        floor=torch.tensor([0.5, 0.5, 0.5, 0.5]),
        bit_errors=torch.tensor([0.0, 0.0, 2.0, 1.0]),
        conditions={"length": torch.tensor([1, 2, 2, 2]), "repeats": torch.tensor([7, 7, 7, 8])},
    )
    summary = scores.summary()
    conditions = summary.pop("conditions")
    assert summary == {
        "episodes": 4,
        "bits": 4.0,
        "floor": 0.5,
        "bit_errors": 0.75,
        "sequence_accuracy": 0.5,
    }
    assert [(c["length"], c["repeats"], c["episodes"], c["bits"]) for c in conditions] == [
        (1, 7, 1, 1.0),
        (2, 7, 2, 2.5),
        (2, 8, 1, 10.0),
    ]
    assert [c["sequence_accuracy"] for c in scores.by_condition(["repeats"])] == [2 / 3, 0.0]


def test_the_floor_of_the_very_episodes_is_reported() -> None:
    task = NGram(order=3, length=30)
    model = new_model(small_config_of({"kind": "ngram", "order": 3, "length": 30}))
    scores = evaluate(model, task, 51)
    rng = numpy_generator(0, Stream.EVALUATION, 1)  # the second part, of one episode
    assert scores.floor[50] == pytest.approx(task.floor(task.sample(rng, 50))[0].item())
    assert 0 < scores.summary()["floor"] < scores.summary()["bits"]


def test_a_larger_memory_and_a_longer_task_at_test(tmp_path: Path) -> None:
    config = small_config_of(
        {"kind": "repeat_copy", "width": 2, "length": [1, 3], "repeats": [1, 3]}
    )
    run = new_run(tmp_path / "run", config)
    train(run, config, torch.device("cpu"), Watch())
    model, loaded = load_model(run, slots=31)
    assert loaded.model.memory is not None
    assert loaded.model.memory.slots == 31
    assert model.core.initial_state(2).memory.shape == (2, 31, 5)
    scores = evaluate(model, RepeatCopy(width=2, length=(9, 9), repeats=(2, 5)), 20)
    assert set(scores.conditions["repeats"].tolist()) == {2, 3, 4, 5}
    small, _ = load_model(run)
    for (name, a), (_, b) in zip(model.named_parameters(), small.named_parameters(), strict=True):
        assert torch.equal(a, b), name
