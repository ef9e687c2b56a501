"""Training that begins with a smaller task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ntm.errors import NTMError
from ntm.runs.folder import RunDir
from ntm.training.curriculum import stages, task_at
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
