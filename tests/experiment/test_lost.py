"""A machine that training breaks goes back to its best weights."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch

from ntm.errors import NTMError
from ntm.experiment.config import Config
from ntm.experiment.rundir import RunDir
from ntm.experiment.train import Progress, train
from tests.experiment.small import SMALL, Watch, new_run, small_config_of
from tests.experiment.test_train import CPU, stop_after

COPY = {"kind": "copy", "width": 3, "length": [2, 4]}
#: Validations that are trained as usual; then, until the next, a step size that breaks everything.
SOUND = 3


def config(**train: Any) -> Config:
    settings = {**SMALL["train"], "sequences": 300, "solved_bits": 0.05, **train}
    return small_config_of(COPY, train=settings)


@pytest.fixture(autouse=True)
def breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def step_size(config: Config, progress: Progress) -> float:
        every = config.validation.every
        return 5.0 if SOUND * every <= progress.sequences < (SOUND + 1) * every else 1e-3

    monkeypatch.setattr("ntm.experiment.train.step_size", step_size)


def broken_at(settings: Config) -> int:
    """Sequences at the validation that finds it broken."""
    return (SOUND + 1) * settings.validation.every


def bits(run: RunDir) -> dict[float, float]:
    return {row["sequences"]: row["bits"] for row in run.rows(run.validation_file)}


def weights(run: RunDir) -> dict[str, torch.Tensor]:
    return run.load_checkpoint().weights


@pytest.mark.parametrize(("factor", "back"), [(None, False), (1.5, True), (1e6, False)])
def test_it_goes_back_when_validation_costs_so_many_times_the_best(
    factor: float | None, back: bool, tmp_path: Path
) -> None:
    """Only its weights do: the optimiser's averages, which know the large gradients, stay."""
    settings = config(lost=factor)
    run, until = new_run(tmp_path, settings), broken_at(settings)
    train(run, settings, CPU, Watch(), should_stop=stop_after(until // settings.train.batch))
    *before, last = bits(run).values()
    assert 1.5 * min(before) < last < 1e6 * min(before)
    best, checkpoint = run.load_best(), run.load_checkpoint()
    assert best.state["sequences"] < until
    same = [torch.equal(checkpoint.weights[k], v) for k, v in best.weights.items()]
    assert all(same) if back else not any(same)
    assert checkpoint.optimizer
    assert checkpoint.state["progress"]["sequences"] == until


@pytest.mark.parametrize(("solved", "back"), [(0.05, True), (1e3, False)])
def test_what_costs_no_more_than_so_many_times_solved_is_not_lost(
    solved: float, back: bool, tmp_path: Path
) -> None:
    """A cooldown keeps the run from ending as it is solved."""
    cooldown = {"kind": "cooldown", "below": 2e3, "over": 1000}
    settings = config(lost=1.5, solved_bits=solved, schedule=cooldown)
    run, until = new_run(tmp_path, settings), broken_at(settings)
    train(run, settings, CPU, Watch(), should_stop=stop_after(until // settings.train.batch))
    same = [torch.equal(weights(run)[k], v) for k, v in run.load_best().weights.items()]
    assert all(same) if back else not any(same)


@pytest.mark.parametrize("ends", ["stopped", "killed there", "killed later"])
def test_a_run_that_went_back_resumes_bit_for_bit(ends: str, tmp_path: Path) -> None:
    """Killed later, it has better weights than those that it went back to."""
    settings = config(lost=1.5, checkpoint_every=1000)
    until = broken_at(settings)
    whole, parts = new_run(tmp_path / "whole", settings), new_run(tmp_path / "parts", settings)
    train(whole, settings, CPU, Watch())
    found = bits(whole)
    best = min(v for k, v in found.items() if k < until)
    assert found[until] > 1.5 * best
    better = min(k for k, v in found.items() if k > until and v < best)
    killed = {"killed there": until, "killed later": better}.get(ends)

    class Kill(Watch):
        def validated(self, row: dict[str, float]) -> None:
            super().validated(row)
            if row["sequences"] == killed:
                raise KeyboardInterrupt

    steps = until // settings.train.batch + 2 if ends == "stopped" else 1000
    with contextlib.suppress(KeyboardInterrupt):
        train(parts, settings, CPU, Kill(), should_stop=stop_after(steps))
    assert max(bits(parts)) == (killed or until)
    train(parts, settings, CPU, Watch(), resume=True)
    assert all(torch.equal(weights(parts)[k], v) for k, v in weights(whole).items())
    assert bits(parts) == found


@pytest.mark.parametrize("factor", [1.0, 0.5, float("inf")])
def test_a_factor_that_cannot_be(factor: float) -> None:
    with pytest.raises(NTMError, match=r"train\.lost"):
        config(lost=factor)
