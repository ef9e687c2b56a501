"""The second part of training: from the best weights, with a fresh optimiser, on harder cases."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch

from ntm.errors import NTMError, UsageError
from ntm.experiment.config import Config
from ntm.experiment.curriculum import refined_task
from ntm.experiment.results import read_results
from ntm.experiment.rundir import RunDir
from ntm.experiment.runs import continue_run
from ntm.experiment.train import Progress, train
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
    """The best are not the last here: the first part ends with steps that are far too large."""
    large = {"kind": "graves_rmsprop", "lr": 0.2}
    plain, refined = config(None, optimizer=large), config(optimizer=large)
    first, both = new_run(tmp_path / "first", plain), new_run(tmp_path / "both", refined)
    train(first, plain, CPU, Watch())
    best, last = first.load_best(), first.load_checkpoint()
    assert best.state["sequences"] < last.state["progress"]["sequences"]
    train(both, refined, CPU, Watch(), should_stop=stop_after(progress_at(plain)))
    assert all(torch.equal(weights(both)[k], v) for k, v in best.weights.items())
    generator = both.load_checkpoint().state["generator"]
    assert generator == last.state["generator"]
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
    run.update_manifest(status="solved")
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
    run.update_manifest(status="budget")
    rows = run.rows(run.validation_file)
    best = min(rows, key=lambda row: row["bits"])
    assert best["sequences"] <= spoiled.train.sequences < rows[-1]["sequences"]
    assert run.load_best().state["sequences"] == best["sequences"]
    ((result,), _) = read_results([run.path])
    assert result.best == best


@pytest.mark.parametrize(("lr", "breaks"), [(2e-3, False), (5.0, True)])
def test_what_it_breaks_goes_back_to_the_best_weights(
    lr: float, breaks: bool, tmp_path: Path
) -> None:
    """After the first validation in it, the optimiser fresh once more."""
    spoiled = config({**REFINE, "lr": lr})
    run, until = new_run(tmp_path, spoiled), first_validation(spoiled)
    train(run, spoiled, CPU, Watch(), should_stop=stop_after(until // spoiled.train.batch))
    *before, last = (row["bits"] for row in run.rows(run.validation_file))
    assert (last > 10 * min(before)) == breaks
    assert (not run.load_checkpoint().optimizer) == breaks
    if breaks:
        assert all(torch.equal(weights(run)[k], v) for k, v in run.load_best().weights.items())


def first_validation(refined: Config) -> int:
    """Of refinement, in sequences: the budget of the first part is a multiple of the interval."""
    return refined.train.sequences + refined.validation.every


@pytest.mark.parametrize("ends", ["stopped", "killed there", "killed later"])
def test_a_run_that_went_back_resumes_bit_for_bit(
    ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed later, it has better weights than those that it went back to."""
    again = {"sequences": 60, "lr": 1e-3, "task": {"hard": 0.0}}
    refined = config(again, checkpoint_every=1000)
    until = first_validation(refined)

    def step_size(config: Config, progress: Progress) -> float:
        breaks = refined.train.sequences <= progress.sequences < until
        return 5.0 if breaks else 1e-3

    monkeypatch.setattr("ntm.experiment.train.step_size", step_size)
    whole, parts = new_run(tmp_path / "whole", refined), new_run(tmp_path / "parts", refined)
    train(whole, refined, CPU, Watch())
    bits = {row["sequences"]: row["bits"] for row in whole.rows(whole.validation_file)}
    best = min(v for k, v in bits.items() if k < until)
    assert bits[until] > 10 * best
    better = min(k for k, v in bits.items() if k > until and v < best)
    killed = {"killed there": until, "killed later": better}.get(ends)

    class Kill(Watch):
        def validated(self, row: dict[str, float]) -> None:
            super().validated(row)
            if row["sequences"] == killed:
                raise KeyboardInterrupt

    steps = until // refined.train.batch + 2 if ends == "stopped" else 1000
    with contextlib.suppress(KeyboardInterrupt):
        train(parts, refined, CPU, Kill(), should_stop=stop_after(steps))
    assert parts.rows(parts.validation_file)[-1]["sequences"] == (killed or until)
    train(parts, refined, CPU, Watch(), resume=True)
    assert all(torch.equal(weights(parts)[k], v) for k, v in weights(whole).items())
    assert bits == {row["sequences"]: row["bits"] for row in parts.rows(parts.validation_file)}


@pytest.mark.parametrize("steps", [3, 20, 24])
def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path, steps: int) -> None:
    refined = config()
    whole, parts = new_run(tmp_path / "whole", refined), new_run(tmp_path / "parts", refined)
    train(whole, refined, CPU, Watch())
    stopped = train(parts, refined, CPU, Watch(), should_stop=stop_after(steps))
    assert stopped.status == "interrupted"
    assert (stopped.refining is not None) == (steps >= progress_at(refined))
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


def test_a_run_that_was_killed_early_in_refinement_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Its weights of then, already the kept ones, are not what refinement begins with."""
    easy = config(solved_bits=1e3, checkpoint_every=1000)
    whole, killed = new_run(tmp_path / "whole", easy), new_run(tmp_path / "killed", easy)
    train(whole, easy, CPU, Watch())

    class Kill(Watch):
        def validated(self, row: dict[str, float]) -> None:
            super().validated(row)
            if len(self.validations) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(killed, easy, CPU, Kill())
    assert killed.load_best().state["refining"] is not None
    train(killed, easy, CPU, Watch(), resume=True)
    assert all(torch.equal(weights(killed)[k], v) for k, v in weights(whole).items())


@pytest.mark.parametrize(
    "setting", ["train.refine=null", "train.refine.lr=0.1", "train.sequences=900"]
)
def test_what_is_refined_already_keeps_its_settings(setting: str, tmp_path: Path) -> None:
    refined = config()
    run = new_run(tmp_path, refined)
    train(run, refined, CPU, Watch())
    with pytest.raises(UsageError, match=rf"{setting.partition('=')[0]}.*: cannot change"):
        continue_run(run.path, [setting], refined, CPU, "")
    continue_run(run.path, [], refined, CPU, "")


@pytest.mark.parametrize("part", ["refine", "curriculum"])
def test_a_part_that_cannot_fit_into_memory_is_refused_at_once(part: str, tmp_path: Path) -> None:
    huge: dict[str, Any] = {"task": {"length": 10**9}}
    huge |= {"sequences": 3, "lr": 1e-3} if part == "refine" else {"below": 1.0}
    with pytest.raises(NTMError, match="GiB"):
        new_run(tmp_path / "run", config(**{"refine": None, part: huge}))
    assert not (tmp_path / "run").exists()


def test_ridge_is_not_refined() -> None:
    ridge = {"optimizer": {"kind": "ridge"}, "sequences": 60, "refine": REFINE}
    model = {"controller": {"kind": "echo_state", "size": 7}}
    with pytest.raises(NTMError, match=r"train\.refine: ridge has no steps"):
        small_config_of(COPY, model=model, train=ridge)


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
