"""The second part of training: from the best weights, with a fresh optimiser, on harder cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ntm.errors import NTMError
from ntm.experiment.config import Config
from ntm.experiment.curriculum import refined_task
from ntm.experiment.results import read_results
from ntm.experiment.rundir import RunDir
from ntm.experiment.runs import continue_run
from ntm.experiment.train import train
from tasks.copy import Copy
from tests.experiment.small import SMALL, Watch, new_run, small_config_of
from tests.experiment.test_train import CPU, stop_after

COPY = {"kind": "copy", "width": 3, "length": [2, 4]}
REFINE = {"sequences": 24, "lr": 2e-3, "task": {"hard": 0.5}}


def config(refine: dict[str, Any] | None = REFINE, **train: Any) -> Config:
    settings = {**SMALL["train"], "refine": refine, "report_every": 6, **train}
    return small_config_of(COPY, train=settings)


def weights(run: RunDir) -> dict[str, torch.Tensor]:
    return run.load_checkpoint().weights


def test_it_goes_on_for_so_many_sequences_at_a_step_size_that_falls(tmp_path: Path) -> None:
    refined = config()
    progress = train(new_run(tmp_path, refined), refined, CPU, Watch())
    first = refined.train.sequences
    assert progress.refining == first
    assert progress.sequences == first + 24 == refined.longest
    rows = RunDir(tmp_path).rows(RunDir(tmp_path).metrics_file)
    before = {row["lr"] for row in rows if row["sequences"] <= first}
    after = {row["sequences"]: row["lr"] for row in rows if row["sequences"] > first}
    assert before == {refined.train.optimizer.lr}
    batch = refined.train.batch
    for sequences, lr in after.items():  # the step size of the batch that ended there
        assert lr == pytest.approx(2e-3 * 0.01 ** ((sequences - batch - first) / 24))
    assert len(after) > 2


def test_it_begins_with_the_best_weights_and_no_memory_of_the_optimiser(tmp_path: Path) -> None:
    """As a run does that is given the best weights of the first part, and its generator."""
    plain, refined = config(None), config()
    first, both = new_run(tmp_path / "first", plain), new_run(tmp_path / "both", refined)
    train(first, plain, CPU, Watch())
    train(both, refined, CPU, Watch(), should_stop=stop_after(progress_at(plain)))
    assert all(torch.equal(weights(both)[k], v) for k, v in first.load_best().weights.items())
    assert not RunDir(both.path).load_checkpoint().optimizer


def progress_at(plain: Config) -> int:
    """Steps of the first part."""
    return -(-plain.train.sequences // plain.train.batch)


def test_a_run_that_is_solved_is_refined_at_once(tmp_path: Path) -> None:
    easy = config(solved_bits=1e3)
    progress = train(new_run(tmp_path, easy), easy, CPU, Watch())
    assert progress.refining == easy.validation.every
    assert progress.status == "solved"
    assert progress.sequences == progress.refining + 24


def test_solved_weights_of_refinement_replace_better_ones(tmp_path: Path) -> None:
    """And the results know which weights were kept."""
    easy = config(solved_bits=1e3)
    run = new_run(tmp_path, easy)
    progress = train(run, easy, CPU, Watch())
    run.update_manifest(status="solved", refining=progress.refining)
    kept = run.load_best().state["sequences"]
    assert progress.refining is not None
    assert kept > progress.refining
    rows = [row for row in run.rows(run.validation_file) if row["sequences"] > progress.refining]
    assert progress.best_bits == min(row["bits"] for row in rows)
    ((result,), _) = read_results([run.path])
    assert result.best["sequences"] == kept


def test_of_a_run_that_is_never_solved_the_best_of_all_are_kept(tmp_path: Path) -> None:
    spoiled = config({**REFINE, "lr": 5.0})
    run = new_run(tmp_path, spoiled)
    progress = train(run, spoiled, CPU, Watch())
    assert progress.status == "budget"
    run.update_manifest(status="budget", refining=progress.refining)
    rows = run.rows(run.validation_file)
    best = min(rows, key=lambda row: row["bits"])
    assert best["sequences"] <= spoiled.train.sequences < rows[-1]["sequences"]
    assert run.load_best().state["sequences"] == best["sequences"]
    ((result,), _) = read_results([run.path])
    assert result.best == best


@pytest.mark.parametrize("steps", [3, 14])
def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path, steps: int) -> None:
    refined = config()
    whole, parts = new_run(tmp_path / "whole", refined), new_run(tmp_path / "parts", refined)
    train(whole, refined, CPU, Watch())
    stopped = train(parts, refined, CPU, Watch(), should_stop=stop_after(steps))
    assert stopped.status == "interrupted"
    assert (stopped.refining is not None) == (steps > progress_at(refined))
    train(parts, refined, CPU, Watch(), resume=True)
    assert all(torch.equal(weights(parts)[k], v) for k, v in weights(whole).items())
    assert whole.rows(whole.metrics_file)[-1]["bits"] == parts.rows(parts.metrics_file)[-1]["bits"]


def test_a_run_that_is_over_can_be_refined_later(tmp_path: Path) -> None:
    plain, refined = config(None), config()
    at_once, later = new_run(tmp_path / "at once", refined), new_run(tmp_path / "later", plain)
    train(at_once, refined, CPU, Watch())
    train(later, plain, CPU, Watch())
    settings = ["train.refine={sequences: 24, lr: 2e-3, task: {hard: 0.5}}"]
    later, extended, _ = continue_run(later.path, settings, refined, CPU, "ntm train --resume")
    assert extended == refined == later.config()
    train(later, extended, CPU, Watch(), resume=True)
    assert all(torch.equal(weights(later)[k], v) for k, v in weights(at_once).items())
    again = train(later, refined, CPU, Watch(), resume=True)
    assert again.sequences == refined.longest


def test_its_task_is_the_one_that_is_named() -> None:
    task = refined_task(config({**REFINE, "task": {"hard": 0.25, "length": [3, 4]}}))
    assert task == Copy(width=3, length=(3, 4), hard=0.25)
    assert refined_task(config({**REFINE, "task": {}})) == config().task


@pytest.mark.parametrize(
    ("refine", "message"),
    [
        ({**REFINE, "task": {"colour": 3}}, r"train.refine.task.colour"),
        ({**REFINE, "task": {"hard": 2.0}}, r"train.refine.task.hard"),
        ({**REFINE, "task": {"width": 2}}, r"train.refine.task: the model has"),
        ({"sequences": 24}, r"train.refine.lr"),
        ({**REFINE, "sequences": 0}, r"train.refine.sequences"),
    ],
)
def test_refinements_that_cannot_be(refine: dict[str, Any], message: str) -> None:
    with pytest.raises(NTMError, match=message):
        config(refine)
