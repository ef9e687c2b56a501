"""Noise on what is read is for training alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ntm.errors import NTMError
from ntm.experiment.config import Config
from ntm.experiment.episodes import draw
from ntm.experiment.evaluate import evaluate
from ntm.experiment.models import new_model
from ntm.experiment.rundir import RunDir
from ntm.experiment.streams import Stream, numpy_generator
from ntm.experiment.train import train
from tests.experiment.small import SMALL, Watch, new_run, small_config_of
from tests.experiment.test_train import CPU, stop_after, without_seconds

COPY = {"kind": "copy", "width": 3, "length": [2, 4]}


def config(noise: float, **train: Any) -> Config:
    return small_config_of(COPY, train={**SMALL["train"], "noise": noise, **train})


def trained(path: Path, settings: Config) -> RunDir:
    run = new_run(path, settings)
    train(run, settings, CPU, Watch())
    return run


def test_it_makes_training_dearer_and_leaves_validation_as_it_is(tmp_path: Path) -> None:
    """At a step size that changes nothing: the cost of the first batch, and every validation."""
    still: dict[str, Any] = {"optimizer": {"kind": "adam", "lr": 1e-30}, "report_every": 3}
    runs = [trained(tmp_path / str(noise), config(noise, **still)) for noise in (0.0, 7.0)]
    costs = [run.rows(run.metrics_file)[0]["bits"] for run in runs]
    assert costs[1] > costs[0] + 1
    validations = [without_seconds(run.rows(run.validation_file)) for run in runs]
    assert validations[0] == validations[1] != []


def test_evaluation_has_none() -> None:
    quiet, noisy = config(0.0), config(7.0)
    scores = [
        evaluate(new_model(c), c.task, 9, c.seed, Stream.EVALUATION).summary()
        for c in (quiet, noisy)
    ]
    assert scores[0] == scores[1]


def test_at_0_nothing_is_drawn_but_the_sequences(tmp_path: Path) -> None:
    settings = config(0.0)
    rng = numpy_generator(settings.seed, Stream.TRAINING)
    for _ in range(settings.train.sequences // settings.train.batch):
        draw(settings.task, rng, settings.train.batch)
    states = [
        trained(tmp_path / str(noise), config(noise)).load_checkpoint().state["generator"]
        for noise in (0.0, 0.5)
    ]
    assert rng.bit_generator.state == states[0] != states[1]


@pytest.mark.parametrize("engine", ["reference", "fused"])
def test_a_run_with_noise_resumes_bit_for_bit(engine: str, tmp_path: Path) -> None:
    if engine == "fused":
        pytest.importorskip("numba")
    train_ = {**SMALL["train"], "noise": 0.5, "slots": [5, 13]}
    settings = small_config_of(COPY, train=train_, engine=engine)
    whole, parts = trained(tmp_path / "whole", settings), new_run(tmp_path / "parts", settings)
    train(parts, settings, CPU, Watch(), should_stop=stop_after(8))
    train(parts, settings, CPU, Watch(), resume=True)
    for name, value in whole.load_checkpoint().weights.items():
        assert torch.equal(parts.load_checkpoint().weights[name], value), name
    assert without_seconds(parts.rows(parts.metrics_file)) == without_seconds(
        whole.rows(whole.metrics_file)
    )


def test_engines_train_alike(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    runs = [
        trained(
            tmp_path / engine,
            small_config_of(COPY, train={**SMALL["train"], "noise": 0.5}, engine=engine),
        )
        for engine in ("reference", "fused")
    ]
    one, other = (run.load_checkpoint().weights for run in runs)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


def test_what_reads_nothing_has_none() -> None:
    with pytest.raises(NTMError, match=r"train\.noise: a baseline reads no memory"):
        small_config_of(
            COPY,
            model={"controller": {"kind": "lstm", "size": 5}},
            train={**SMALL["train"], "noise": 0.1},
        )
    with pytest.raises(NTMError, match=r"train\.noise"):
        config(-0.1)
