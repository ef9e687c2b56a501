from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ntm.analysis.evaluate import evaluate
from ntm.errors import UsageError
from ntm.runs.models import load_model
from ntm.training import limits
from ntm.training.load import load_config, parse_config
from tasks.copy import Copy
from tests.small import SMALL, Watch, new_run, small_config, train
from tests.training.common import CPU


def model(size: int = 5, **memory: int) -> dict[str, Any]:
    return {"model": {"controller": {"kind": "lstm", "size": size}, "memory": memory}}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"task": {"length": [1, 900_000_000]}}, "task"),
        ({"train": {"batch": 10**9}}, "task"),
        ({"train": {"curriculum": {"task": {"length": 10**9}, "advance_bits": 1.0}}}, "task"),
        (model(size=10**6), "model.controller"),
        (model(slots=10**12), "model.memory"),
        (model(width=10**11), "model.memory"),
        (model(read_heads=10**9), "model.memory"),
        ({"train": {"slots": [5, 10**12]}}, "train.slots"),
        ({**model(slots=10**12), "train": {"slots": [5, 7]}}, "model.memory"),
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_made(
    changes: dict[str, dict[str, Any]], what: str, tmp_path: Path
) -> None:
    raw = {name: {**block, **changes.get(name, {})} for name, block in SMALL.items()}
    config = parse_config(raw, "large")
    with pytest.raises(
        UsageError, match=rf"{what}: for a batch of [\d,]+ would need at least [\d,.e+]+ GiB"
    ):
        new_run(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_a_trained_machine_is_not_given_what_does_not_fit_either(tmp_path: Path) -> None:
    config = small_config(train={"sequences": 6})
    run = new_run(tmp_path / "run", config)
    train(run, config, CPU, Watch())
    with pytest.raises(UsageError, match=r"model\.memory: for a batch of"):
        load_model(run, slots=10**12)
    trained, _ = load_model(run)
    with pytest.raises(UsageError, match="task: for a batch of 50 would need"):
        evaluate(trained, Copy(width=3, length=(10**9, 10**9)), episodes=1)


def test_a_model_to_be_scored_keeps_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch that training could not hold, either, where no two slots begin alike."""
    monkeypatch.setattr(limits, "physical_memory", lambda: 2**33)
    settings = ["model.memory.slots=2000000", "model.memory.initial=constant"]
    alike = load_config("associative_recall/ntm-lstm", settings)
    limits.check(alike.task, alike.model, 8)
    config = load_config(
        "associative_recall/ntm-lstm",
        ["model.memory.slots=2000000", "model.memory.initial=learned", "train.slots=null"],
    )
    limits.check(config.task, config.model, 1, history=False)
    with pytest.raises(UsageError, match="for a batch of 8"):
        limits.check(config.task, config.model, 8)


def test_the_estimate_is_below_what_is_taken() -> None:
    """Of a machine that was measured: copy at length 20, 128 slots, takes 11 KB a step."""
    config = load_config("copy/ntm-lstm")
    needed = limits.estimate(config.task, config.model, batch=1)
    assert 0.5 < needed["model.memory"] / (41 * 11_000) < 1.2
    in_segments = limits.estimate(Copy(length=(500, 500)), config.model, 1, recompute_every=10)
    whole = limits.estimate(Copy(length=(500, 500)), config.model, 1)
    assert whole["model.memory"] > 8 * in_segments["model.memory"]


@pytest.mark.parametrize("name", ["copy/paper-ntm-ff", "repeat_copy/paper-lstm", "ngram/ntm-gru"])
def test_shipped_configs_need_little(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "physical_memory", lambda: 2**28)
    config = load_config(name)
    limits.check(config.task, config.model, config.train.batch)


@pytest.mark.skipif(sys.platform != "linux", reason="SKIPPED: no such limit on this system")
def test_what_the_estimate_let_pass_is_an_error_and_no_killed_process(tmp_path: Path) -> None:
    code = """
import sys
from ntm import cli
from ntm.training import limits
limits.physical_memory = lambda: 2**30
sys.argv = ["ntm", "train", "copy/gru", "--set", "model.controller.size=5000", "--run", "run"]
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "ntm: not enough memory: a smaller model" in done.stderr
    assert "Traceback" not in done.stderr
