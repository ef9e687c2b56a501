"""A machine that does not understand its task in time begins anew, with other first weights."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch

from ntm.errors import NTMError
from ntm.experiment.config import Config
from ntm.experiment.models import new_model
from ntm.experiment.rundir import RunDir
from ntm.experiment.train import train
from tests.experiment.small import SMALL, Watch, new_run, small_config_of
from tests.experiment.test_train import CPU, stop_after, without_seconds

COPY = {"kind": "copy", "width": 3, "length": [2, 4]}
#: Below what no machine comes here, and below what every one is.
NEVER, ALWAYS = 1e-6, 1e6
RESTART = 45  # sequences: a multiple of what is between validations


def config(below: float = NEVER, **train: Any) -> Config:
    cooldown = {"kind": "cooldown", "below": below, "over": 1000}
    settings = {"sequences": 150, "solved_bits": 1e-7, "restart": RESTART, "schedule": cooldown}
    return small_config_of(COPY, train={**SMALL["train"], **settings, **train})


def until(run: RunDir, settings: Config, sequences: int) -> None:
    train(run, settings, CPU, Watch(), should_stop=stop_after(sequences // settings.train.batch))


def progress(run: RunDir) -> dict[str, Any]:
    found: dict[str, Any] = run.load_checkpoint().state["progress"]
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[k], v) for k, v in other.items())


def test_it_begins_anew_and_the_sequences_go_on(tmp_path: Path) -> None:
    anew, on = config(), config(restart=None)
    one, other = new_run(tmp_path / "anew", anew), new_run(tmp_path / "on", on)
    until(one, anew, RESTART)
    until(other, on, RESTART)
    began, went_on = one.load_checkpoint(), other.load_checkpoint()
    assert same(began.weights, new_model(anew, restarts=1).state_dict())
    assert not same(began.weights, new_model(anew).state_dict())
    assert not began.optimizer
    assert went_on.optimizer
    assert began.state["generator"] == went_on.state["generator"]
    assert progress(one)["sequences"] == progress(other)["sequences"] == RESTART


def test_every_restart_has_weights_of_its_own(tmp_path: Path) -> None:
    settings = config()
    run = new_run(tmp_path, settings)
    train(run, settings, CPU, Watch())
    assert progress(run)["sequences"] == settings.train.sequences  # no more than without
    assert progress(run)["began"] == 3 * RESTART
    assert run.manifest()["restarts"] == 3
    first = [new_model(settings, restarts=n).state_dict() for n in range(4)]
    assert not any(same(a, b) for i, a in enumerate(first) for b in first[:i])


def test_who_understands_in_time_goes_on(tmp_path: Path) -> None:
    settings = config(below=ALWAYS)
    run = new_run(tmp_path, settings)
    train(run, settings, CPU, Watch())
    assert "restarts" not in run.manifest()
    assert progress(run)["cooling"] == settings.validation.every


def test_the_best_weights_of_all_are_kept(tmp_path: Path) -> None:
    """The first are trained longest, and the last hardly: they are neither lost nor overwritten."""
    settings = config(restart=900, sequences=930, lost=1.2, optimizer={"kind": "adam", "lr": 1e-2})
    run = new_run(tmp_path, settings)
    until(run, settings, 900)
    best = progress(run)["best_bits"]
    assert progress(run)["restarts"] == 1
    went_back = run.manifest().get("went_back")
    train(run, settings, CPU, Watch(), resume=True)
    later = [r["bits"] - r["floor"] for r in run.rows(run.validation_file) if r["sequences"] > 900]
    assert later
    assert min(later) > 1.2 * best
    assert run.load_best().state["best_bits"] == progress(run)["best_bits"] == best
    assert run.manifest().get("went_back") == went_back


@pytest.mark.parametrize("ends", ["stopped", "killed there", "killed later"])
def test_a_run_that_began_anew_resumes_bit_for_bit(ends: str, tmp_path: Path) -> None:
    settings = config(checkpoint_every=1000)
    whole, parts = new_run(tmp_path / "whole", settings), new_run(tmp_path / "parts", settings)
    train(whole, settings, CPU, Watch())
    killed = {"killed there": RESTART, "killed later": RESTART + settings.validation.every}
    at = killed.get(ends)

    class Kill(Watch):
        def validated(self, row: dict[str, float]) -> None:
            super().validated(row)
            if row["sequences"] == at:
                raise KeyboardInterrupt

    steps = (RESTART + 2) // settings.train.batch if ends == "stopped" else 1000
    with contextlib.suppress(KeyboardInterrupt):
        train(parts, settings, CPU, Kill(), should_stop=stop_after(steps))
    assert progress(parts)["sequences"] < settings.train.sequences
    train(parts, settings, CPU, Watch(), resume=True)
    assert same(parts.load_checkpoint().weights, whole.load_checkpoint().weights)
    found = [without_seconds(run.rows(run.validation_file)) for run in (parts, whole)]
    assert found[0] == found[1]
    assert parts.manifest()["restarts"] == whole.manifest()["restarts"] == 3


def test_the_curriculum_and_the_warm_up_begin_anew(tmp_path: Path) -> None:
    schedule = {"kind": "cooldown", "below": NEVER, "over": 1000, "warmup": 30}
    curriculum = {"task": {"length": 2}, "below": 1e3, "every": 9}
    settings = config(schedule=schedule, curriculum=curriculum, report_every=15)
    run = new_run(tmp_path, settings)
    until(run, settings, RESTART)
    assert progress(run)["stage"] == 0
    assert progress(run)["lesson"] == {}
    train(run, settings, CPU, Watch(), resume=True)
    steps = {r["sequences"]: r["lr"] for r in run.rows(run.metrics_file)}
    assert steps[RESTART + 15] == steps[15] < steps[RESTART] == steps[RESTART + 30]


def test_nothing_waits_for_a_cooldown_that_never_comes() -> None:
    with pytest.raises(NTMError, match=r"train\.restart: waits for a cooldown"):
        config(schedule={"kind": "constant"})
    with pytest.raises(NTMError, match=r"train\.restart"):
        config(restart=0)
