"""Trains until solved. Minutes: run by make test-slow, not by CI."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ntm.analysis.evaluate import evaluate
from ntm.runs.models import load_model
from ntm.training.load import load_config
from ntm.training.task_settings import with_settings
from tests.small import Watch, new_run, train


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_copy_is_solved_and_holds_at_six_times_the_length(seed: int, tmp_path: Path) -> None:
    config = load_config("copy/ntm-lstm", [f"seed={seed}"])
    run = new_run(tmp_path / "run", config)
    progress = train(run, config, torch.device("cpu"), Watch())
    assert progress.status == "solved"
    assert progress.sequences < 50_000

    model, config = load_model(run)
    at_20 = evaluate(model, with_settings(config.task, {"length": 20}), 1000).summary()
    assert at_20["bits"] < 0.1
    larger, _ = load_model(run, slots=256)
    at_120 = evaluate(larger, with_settings(config.task, {"length": 120}), 100).summary()
    assert at_120["sequence_accuracy"] >= 0.99
