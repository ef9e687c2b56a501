"""A machine that training breaks goes back to its best weights."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch

from ntm.errors import NTMError
from ntm.runs.folder import RunDir
from ntm.training.schedule import Progress
from ntm.training.schema import Config
from tests.small import SMALL, Watch, new_run, small_config_of, train
from tests.training.common import CPU, stop_after

COPY = {"kind": "copy", "width": 3, "length": [2, 4]}
#: Validations that are trained as usual; then, until the next, a step size that breaks everything.
SOUND = 3


def config(**train: Any) -> Config:
    settings = {**SMALL["train"], "sequences": 300, "solved_bits": 0.05, **train}
    return small_config_of(COPY, train=settings)


@pytest.fixture(autouse=True)
def breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def learning_rate(config: Config, progress: Progress) -> float:
        every = config.validation.every
        return 5.0 if SOUND * every <= progress.sequences < (SOUND + 1) * every else 1e-3

    monkeypatch.setattr("ntm.training.loop.learning_rate", learning_rate)


def broken_at(settings: Config) -> int:
    """Sequences at the validation that finds it broken."""
    return (SOUND + 1) * settings.validation.every


def bits(run: RunDir) -> dict[float, float]:
    return {row["sequences"]: row["bits"] for row in run.rows(run.validation_file)}


def weights(run: RunDir) -> dict[str, torch.Tensor]:
    return run.load_checkpoint().weights


def until_broken(run: RunDir, settings: Config) -> None:
    steps = broken_at(settings) // settings.train.batch
    train(run, settings, CPU, Watch(), should_stop=stop_after(steps))


def is_at_its_best(run: RunDir) -> bool:
    """Whether the last weights are the best ones; else none of them is."""
    last = weights(run)
    same = [torch.equal(last[k], v) for k, v in run.load_best().weights.items()]
    assert all(same) or not any(same)
    return all(same)


@pytest.mark.parametrize(("factor", "back"), [(None, False), (1.5, True), (1e6, False)])
def test_it_goes_back_when_validation_costs_so_many_times_the_best(
    factor: float | None, back: bool, tmp_path: Path
) -> None:
    settings = config(rollback_factor=factor)
    run = new_run(tmp_path, settings)
    until_broken(run, settings)
    *before, last = bits(run).values()
    assert 1.5 * min(before) < last < 1e6 * min(before)
    assert is_at_its_best(run) == back
    assert run.manifest().get("rollbacks") == (1 if back else None)
    assert run.load_checkpoint().state["progress"]["sequences"] == broken_at(settings)


def test_only_the_weights_go_back(tmp_path: Path) -> None:
    """The optimiser keeps its averages, and the generator goes on."""
    back, on = config(rollback_factor=1.5), config()
    one, other = new_run(tmp_path / "back", back), new_run(tmp_path / "on", on)
    until_broken(one, back)
    until_broken(other, on)
    kept, same = one.load_checkpoint(), other.load_checkpoint()
    assert kept.optimizer.keys() == same.optimizer.keys() != set()
    assert all(torch.equal(kept.optimizer[k], v) for k, v in same.optimizer.items())
    assert kept.state["generator"] == same.state["generator"]


def test_a_run_whose_budget_ends_there_ends_with_its_best_weights(tmp_path: Path) -> None:
    settings = config(rollback_factor=1.5, sequences=60)
    run = new_run(tmp_path, settings)
    assert settings.train.sequences == broken_at(settings)
    train(run, settings, CPU, Watch())
    assert is_at_its_best(run)


@pytest.mark.parametrize(("solved", "back"), [(0.05, True), (1e3, False)])
def test_what_costs_no_more_than_so_many_times_solved_is_not_lost(
    solved: float, back: bool, tmp_path: Path
) -> None:
    """A cooldown keeps the run from ending as it is solved."""
    cooldown = {"kind": "cooldown", "trigger_bits": 2e3, "decay_sequences": 1000}
    settings = config(rollback_factor=1.5, solved_bits=solved, schedule=cooldown)
    run = new_run(tmp_path, settings)
    until_broken(run, settings)
    assert is_at_its_best(run) == back


@pytest.mark.parametrize("ends", ["stopped", "killed there", "killed later"])
def test_a_run_that_went_back_resumes_bit_for_bit(ends: str, tmp_path: Path) -> None:
    """Killed later, it has better weights than those that it went back to.

    Its checkpoint before that is between its best validation and the one that finds it broken.
    """
    settings = config(rollback_factor=1.5, checkpoint_every=1000)
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

    early = (until - settings.validation.every // 2) // settings.train.batch
    train(parts, settings, CPU, Watch(), should_stop=stop_after(early))
    assert min(bits(parts).values()) == best
    steps = until // settings.train.batch + 2 - early if ends == "stopped" else 1000
    with contextlib.suppress(KeyboardInterrupt):
        train(parts, settings, CPU, Kill(), resume=True, should_stop=stop_after(steps))
    assert max(bits(parts)) == (killed or until)
    train(parts, settings, CPU, Watch(), resume=True)
    assert all(torch.equal(weights(parts)[k], v) for k, v in weights(whole).items())
    assert bits(parts) == found


@pytest.mark.parametrize("factor", [1.0, 0.5, float("inf")])
def test_a_factor_that_cannot_be(factor: float) -> None:
    with pytest.raises(NTMError, match=r"train\.rollback_factor"):
        config(rollback_factor=factor)


def test_what_cannot_go_back_is_refused() -> None:
    """Ridge takes no steps; and what is never solved has nothing to be measured by."""
    with pytest.raises(
        NTMError, match=r"train\.rollback_factor: needs a train\.solved_bits above 0"
    ):
        config(rollback_factor=2.0, solved_bits=0.0)
    model = {"controller": {"kind": "echo_state", "size": 7}}
    ridge = {"optimizer": {"kind": "ridge"}, "sequences": 60, "rollback_factor": 2.0}
    with pytest.raises(NTMError, match=r"train\.rollback_factor: ridge takes no gradient steps"):
        small_config_of(COPY, model=model, train=ridge)
