"""Training that begins with a smaller task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ntm.errors import NTMError
from ntm.runs.folder import RunDir
from ntm.runs.session import StopOnSignal, begun, train_recorded
from ntm.training.curriculum import lessons, stages, task_at
from ntm.training.schema import Config
from tasks.copy import Copy
from tasks.priority_sort import PrioritySort
from tests.small import SMALL, Watch, new_run, small_config_of, train
from tests.training.common import CPU, stop_after

SORT = {"kind": "priority_sort", "width": 3, "items": 11, "sorted": 7}


def config(first: dict[str, Any], task: dict[str, Any] = SORT, **curriculum: Any) -> Config:
    train = {**SMALL["train"], "curriculum": {"task": first, "advance_bits": 1.0, **curriculum}}
    return small_config_of(task, train=train)


def test_it_grows_evenly_from_the_first_settings_to_the_task() -> None:
    growing = config({"items": 2, "sorted": 1})
    assert stages(growing) == 10  # 2, 3, ... 11 items
    seen = [task_at(growing, n) for n in range(10)]
    assert all(isinstance(task, PrioritySort) for task in seen)
    assert [task.items for task in seen] == [(2, n) for n in range(2, 12)]  # type: ignore[attr-defined]
    said = [task.sorted for task in seen]  # type: ignore[attr-defined]
    assert said == [1, 1, 2, 3, 3, 4, 5, 5, 6, 7]
    for stage in (10, 11, 10**6):
        assert task_at(growing, stage) is growing.task


def test_what_is_not_named_stays() -> None:
    growing = config({"length": [2, 3]}, {"kind": "copy", "width": 3, "length": [2, 9]})
    assert task_at(growing, 3) == Copy(width=3, length=(2, 6))


def test_a_task_may_shrink() -> None:
    growing = config({"items": [4, 12]}, {**SORT, "items": [4, 9]})
    highs = [task_at(growing, n).items[1] for n in range(4)]  # type: ignore[attr-defined]
    assert highs == [12, 11, 10, 9]


def test_shares_grow_in_proportion() -> None:
    growing = config(
        {"items": 7, "sorted": 7, "hard_fraction": 0.1}, {**SORT, "hard_fraction": 0.5}
    )
    shares = [task_at(growing, n).hard_fraction for n in range(5)]  # type: ignore[attr-defined]
    assert shares == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert stages(growing) == 5


def test_a_share_may_shrink_to_nothing() -> None:
    copy = {"kind": "copy", "width": 3, "length": [2, 5]}
    shrinking = config({"length": [2, 2], "hard_fraction": 0.05}, copy)
    shares = [task_at(shrinking, n).hard_fraction for n in range(4)]  # type: ignore[attr-defined]
    assert shares == pytest.approx([0.05, 0.1 / 3, 0.05 / 3, 0])
    assert shares[-1] == 0


def test_a_share_alone_grows_in_one_step() -> None:
    growing = config({"hard_fraction": 0.0}, {"kind": "associative_recall", "hard_fraction": 0.25})
    assert stages(growing) == 1
    assert [task_at(growing, n).hard_fraction for n in range(3)] == [0.0, 0.25, 0.25]  # type: ignore[attr-defined]


def test_without_one_there_are_no_stages() -> None:
    plain = small_config_of(SORT)
    assert stages(plain) == 0
    assert task_at(plain, 0) is plain.task


def test_training_goes_on_to_the_next_stage_when_the_last_sequences_were_cheap(
    tmp_path: Path,
) -> None:
    """Chance is 1 bit a bit of the answer: 3 a scored step."""
    easy = config({"items": 2, "sorted": 1}, advance_bits=50.0, every=3)
    assert train(new_run(tmp_path / "easy", easy), easy, CPU, Watch()).stage == 10
    hard = config({"items": 2, "sorted": 1}, advance_bits=0.5, every=3)
    progress = train(new_run(tmp_path / "hard", hard), hard, CPU, Watch())
    assert progress.stage == 0
    costs = [run.rows(run.metrics_file)[-1]["bits"] for run in map(RunDir, tmp_path.iterdir())]
    assert min(costs) < max(costs) / 2  # one vector costs less than seven


def test_a_stage_takes_as_long_as_it_says(tmp_path: Path) -> None:
    growing = config({"items": 2, "sorted": 1}, advance_bits=50.0, every=10)
    progress = train(new_run(tmp_path, growing), growing, CPU, Watch())
    assert progress.sequences == 60
    assert progress.stage == 5  # of ten; four batches of three are the first to be ten sequences


def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    growing = config({"items": 1, "sorted": 1}, advance_bits=50.0, every=5)
    whole, parts = new_run(tmp_path / "whole", growing), new_run(tmp_path / "parts", growing)
    train(whole, growing, CPU, Watch())
    stopped = train(parts, growing, CPU, Watch(), should_stop=stop_after(5))
    assert stopped.status == "interrupted"
    assert 0 < stopped.stage < stages(growing)
    train(parts, growing, CPU, Watch(), resume=True)
    a, b = whole.load_checkpoint().weights, parts.load_checkpoint().weights
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ({"items": 0}, "train.curriculum.task.items: should be"),
        ({"colour": 3}, "train.curriculum.task.colour"),
        (
            {"mixed": False},
            "train.curriculum.task.mixed: only numbers, and ranges of whole ones, can grow",
        ),
        ({"items": 5}, "train.curriculum.task.*sorted: cannot be more than items: 7 of 5"),
        ({"width": 2}, "train.curriculum.task: the model has 5 inputs"),
    ],
)
def test_first_settings_that_cannot_be(first: dict[str, Any], message: str) -> None:
    with pytest.raises(NTMError, match=message):
        config(first)


def test_pairs_of_numbers_that_are_not_whole_do_not_grow() -> None:
    with pytest.raises(NTMError, match=r"task\.beta: only numbers"):
        config({"beta": [1.0, 1.0]}, {"kind": "ngram", "length": 9})


def doubling(first: dict[str, Any], task: dict[str, Any] = SORT, **settings: Any) -> Config:
    return config(first, task, kind="doubling", **settings)


RECALL = {"kind": "associative_recall", "width": 4, "item_length": 2, "items": [3, 6]}


def test_a_level_doubles_up_to_the_tasks_own() -> None:
    growing = doubling({"items": [2, 3], "sorted": 3}, {**SORT, "items": [5, 20], "sorted": 9})
    assert stages(growing) == 3
    seen = [task_at(growing, n) for n in (0, 1, 2, 3, 4, 10**6)]
    assert all(isinstance(task, PrioritySort) for task in seen)
    assert [t.items for t in seen] == [(2, n) for n in (3, 6, 12, 20, 20, 20)]  # type: ignore[attr-defined]
    assert [t.sorted for t in seen] == [3, 6, 9, 9, 9, 9]  # type: ignore[attr-defined]


@pytest.mark.parametrize("limit", [4, 7, 8, 9, 100])
def test_a_level_doubles_up_to_its_limit(limit: int) -> None:
    growing = doubling({"items": 4}, RECALL, limit={"items": limit})
    levels = [task_at(growing, n).items for n in range(stages(growing) + 2)]  # type: ignore[attr-defined]
    assert levels == [(3, min(4 * 2**n, limit)) for n in range(len(levels))]
    assert levels[-3:].count((3, limit)) == min(2, len(levels))
    assert lessons(growing)[-2:] == [task_at(growing, 100), growing.task]


def test_every_size_up_to_the_level_is_drawn_whatever_the_tasks_own_are() -> None:
    growing = doubling({"length": [1, 3]}, {"kind": "copy", "width": 3, "length": [10, 10]})
    episode = task_at(growing, 1).sample(np.random.default_rng(1), 300)
    lengths = episode.conditions["length"].bincount()
    assert lengths[0] == 0
    assert (lengths[1:] > 25).all()  # of 300, 50 on average; three deviations are 20
    assert len(lengths) == 7
    assert growing.validation_task.steps == 21


def test_a_level_doubles_when_the_last_sequences_were_cheap(tmp_path: Path) -> None:
    easy = doubling({"items": [1, 1], "sorted": 1}, advance_bits=50.0, every=20)
    assert train(new_run(tmp_path / "easy", easy), easy, CPU, Watch()).stage == 2  # of 60 sequences
    hard = doubling({"items": [1, 1], "sorted": 1}, advance_bits=0.5, every=3)
    assert train(new_run(tmp_path / "hard", hard), hard, CPU, Watch()).stage == 0


def test_a_resumed_run_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    growing = doubling({"items": [1, 1], "sorted": 1}, advance_bits=50.0, every=10)
    whole, parts = new_run(tmp_path / "whole", growing), new_run(tmp_path / "parts", growing)
    end = train(whole, growing, CPU, Watch())
    stopped = train(parts, growing, CPU, Watch(), should_stop=stop_after(5))
    assert 0 < stopped.stage < end.stage == stages(growing)
    assert stopped.lesson["sequences"] == 3  # resumed in the middle of a decision, too
    assert train(parts, growing, CPU, Watch(), resume=True).stage == end.stage
    a, b = whole.load_checkpoint().weights, parts.load_checkpoint().weights
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("first", "settings", "message"),
    [
        ({"items": 0}, {}, "train.curriculum.task.items: should be"),
        ({"item": 3}, {}, "train.curriculum.task.item: no such key; did you mean items?"),
        ({"items": 7}, {}, r"task.items: should be from 1 to 6, where doubling ends, not 7"),
        ({"items": 3}, {"limit": {"items": 257}}, "train.curriculum.limit.items: 257 distinct"),
        ({"items": 3}, {"limit": {"width": 4}}, "train.curriculum.limit.width: does not double"),
        ({"items": 3}, {"limits": {}}, "train.curriculum.limits: no such key; did you mean limit?"),
        ({"items": 3}, {"kind": "double"}, "train.curriculum.kind: 'double' is not one of"),
        ({"items": 3}, {"every": 0}, "train.curriculum.every: should be greater"),
        ({"items": 3}, {"advance_bits": None}, "train.curriculum.advance_bits: should be"),
        ({"mixed": True}, {}, "train.curriculum.task.mixed: only whole numbers"),
        ({"hard_fraction": 0.0}, {}, "train.curriculum.task.hard_fraction: only whole numbers"),
        ({}, {}, "train.curriculum.task: should hold a range"),
    ],
)
def test_what_cannot_double(first: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(NTMError, match=message):
        config(first, RECALL, **{"kind": "doubling", **settings})


def test_a_size_that_is_not_drawn_does_not_double_alone() -> None:
    with pytest.raises(NTMError, match=r"train.curriculum.task: should hold a range"):
        doubling({"length": 5}, {"kind": "ngram", "length": 9})


def test_a_missing_setting_is_named_as_the_user_writes_it() -> None:
    raw = {**SMALL["train"], "curriculum": {"kind": "doubling", "task": {"items": 3}}}
    with pytest.raises(NTMError, match=r"train\.curriculum\.advance_bits: is missing"):
        small_config_of(RECALL, train=raw)


def test_the_manifest_says_which_stage_was_reached(tmp_path: Path) -> None:
    for name, growing in {
        "with": doubling({"items": [1, 1], "sorted": 1}, advance_bits=50.0, every=20),
        "without": small_config_of(SORT),
    }.items():
        with begun(tmp_path / name, [], growing, CPU, "ntm train small", False) as started:
            train_recorded(started, Watch(), False, StopOnSignal())
    assert RunDir(tmp_path / "with").manifest()["stage"] == 2
    assert "stage" not in RunDir(tmp_path / "without").manifest()


def test_a_curriculum_without_a_kind_is_gradual() -> None:
    assert config({"items": 2, "sorted": 1}) == config({"items": 2, "sorted": 1}, kind="gradual")
