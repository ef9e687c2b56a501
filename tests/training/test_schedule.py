"""Learning rate, cooldown, and when a run is solved."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ntm.errors import UsageError
from ntm.runs.folder import RunDir
from ntm.runs.start import continue_run
from ntm.training.schedule import Progress, learning_rate
from tests.small import SMALL, Watch, new_run, small_config, small_config_of, train
from tests.training.common import CPU


@pytest.mark.parametrize(
    ("kind", "half"),
    [("constant", 1.0), ("linear", 0.55), ("cosine", 0.55), ("exponential", 0.1**0.5)],
)
def test_the_learning_rate_warms_up_and_decays(kind: str, half: float) -> None:
    config = small_config(
        train={
            "sequences": 1000,
            "batch": 10,
            "optimizer": {"kind": "adam", "lr": 0.5},
            "schedule": {"kind": kind, "warmup": 100, "final": 0.1},
        }
    )
    warmup = [learning_rate(config, Progress(n)) for n in range(0, 100, 10)]
    assert warmup == pytest.approx([0.05 * k for k in range(1, 11)])
    assert learning_rate(config, Progress(100)) == pytest.approx(0.5)
    assert learning_rate(config, Progress(550)) == pytest.approx(0.5 * half)
    after = [learning_rate(config, Progress(n)) for n in range(100, 1000, 10)]
    assert all(a >= b for a, b in itertools.pairwise(after))
    assert min(after) >= 0.05


class Scripted:
    """Stands in for the scores of validation."""

    def __init__(self, bits: Iterator[float]) -> None:
        self.bits = bits

    def summary(self) -> dict[str, float]:
        return {"bits": next(self.bits), "floor": 0.0, "bit_errors": 0.0, "sequence_accuracy": 0.0}


def cooled_run(path: Path, monkeypatch: pytest.MonkeyPatch, bits: list[float]) -> RunDir:
    """A run whose validations come out as told, 10 sequences apart; a cooldown takes 20."""
    from ntm.training import loop as module

    config = small_config(
        train={
            "sequences": 100,
            "batch": 5,
            "report_every": 5,
            "solved_bits": 0.5,
            "optimizer": {"kind": "adam", "lr": 0.25},
            "schedule": {"kind": "cooldown", "trigger_bits": 2.0, "decay_sequences": 20},
        },
        validation={"every": 10, "episodes": 1},
    )
    scripted = Scripted(iter(bits))
    monkeypatch.setattr(module, "evaluate", lambda *_: scripted)
    run = new_run(path, config)
    train(run, config, CPU, Watch())
    return run


def test_the_learning_rate_falls_once_the_task_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dip below solved_bits does not end a run: it ends when it has cooled down."""
    run = cooled_run(tmp_path / "run", monkeypatch, [9, 1.5, 0.4, 0.7])
    lr = [row["lr"] for row in run.rows(run.metrics_file)]
    assert lr == pytest.approx([0.25] * 5 + [0.1875, 0.125, 0.0625])
    assert run.load_checkpoint().state["progress"]["status"] == "solved"
    assert run.load_best().state["sequences"] == 30


def test_a_cooldown_that_does_not_solve_restores_the_learning_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = cooled_run(tmp_path / "run", monkeypatch, [1.9, 3, 1.5, 1.5, 8, 1, 0.1, 0.2, 0.3])
    lr = [row["lr"] for row in run.rows(run.metrics_file)]
    falls = [0.25, 0.1875, 0.125, 0.0625]
    assert lr == pytest.approx(3 * [0.25, 0.25, *falls])
    assert run.load_best().state["sequences"] == 70


def test_a_cooldown_that_has_ended_is_over_when_the_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Solved, but not by what solved means now: the step size comes back at once."""
    run = cooled_run(tmp_path / "run", monkeypatch, [9, 1.5, 0.4, 0.7])
    run, config, _, _ = continue_run(
        run.path, ["train.solved_bits=0.01"], run.config(), CPU, "ntm train --resume"
    )
    monkeypatch.setattr("ntm.training.loop.evaluate", lambda *_: Scripted(iter([9] * 9)))
    train(run, config, CPU, Watch(), resume=True)
    lr = [row["lr"] for row in run.rows(run.metrics_file)][8:]
    assert lr[:2] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            {"kind": "cooldown", "decay_sequences": 5, "trigger_bits": 0.01},
            "should be at least train.solved_bits",
        ),
        (
            {"kind": "cooldown", "decay_sequences": 5},
            "schedule.trigger_bits: is missing for the kind cooldown",
        ),
        (
            {"kind": "cooldown", "trigger_bits": 5},
            "schedule.decay_sequences: is missing for the kind cooldown",
        ),
        (
            {"kind": "linear", "decay_sequences": 5},
            "schedule.decay_sequences: belongs to the kind cooldown",
        ),
        ({"kind": "exponential"}, "schedule.final: should be above 0, such as 0.01"),
    ],
)
def test_a_schedule_says_what_is_missing(schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small_config(train={"schedule": schedule})


def test_the_warm_up_never_goes_beyond_the_learning_rate() -> None:
    schedule = {"kind": "constant", "warmup": 10}
    config = small_config(train={"batch": 64, "schedule": schedule})
    assert learning_rate(config, Progress(0)) == config.train.optimizer.lr


def test_solved_is_counted_from_the_floor_and_validation_is_the_same_for_all(
    tmp_path: Path,
) -> None:
    rows = []
    for seed in (1, 2):
        task = {"kind": "ngram", "order": 2, "length": 12}
        config = small_config_of(task, train={**SMALL["train"], "solved_bits": 4.0}, seed=seed)
        run = new_run(tmp_path / str(seed), config)
        progress = train(run, config, CPU, Watch())
        assert progress.status == "solved"
        rows.append(run.rows(run.validation_file))
        last = rows[-1][-1]
        assert last["floor"] > 4.0
        assert progress.best_bits == pytest.approx(last["bits"] - last["floor"])
    assert rows[0][0]["floor"] == rows[1][0]["floor"]
