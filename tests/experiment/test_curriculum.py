"""Training that begins with a smaller task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ntm.errors import NTMError
from ntm.experiment.config import Config
from ntm.experiment.curriculum import task_at
from ntm.experiment.train import train
from tasks.copy import Copy
from tasks.priority_sort import PrioritySort
from tests.experiment.small import SMALL, Watch, new_run, small_config_of
from tests.experiment.test_train import CPU, stop_after

SORT = {"kind": "priority_sort", "width": 3, "items": 11, "sorted": 7}


def config(first: dict[str, Any], task: dict[str, Any] = SORT, sequences: int = 1000) -> Config:
    train = {**SMALL["train"], "curriculum": {"sequences": sequences, "task": first}}
    return small_config_of(task, train=train)


def test_it_grows_evenly_from_the_first_settings_to_the_task() -> None:
    growing = config({"items": 2, "sorted": 1})
    seen = [task_at(growing, n) for n in range(1000)]
    assert all(isinstance(task, PrioritySort) for task in seen)
    items = [task.items for task in seen]  # type: ignore[attr-defined]
    assert {low for low, _ in items} == {2}
    assert sorted({high for _, high in items}) == list(range(2, 12))
    counts = np.unique([high for _, high in items], return_counts=True)[1]
    assert counts.tolist() == [100] * 10
    assert [high for _, high in items] == sorted(high for _, high in items)
    said = [task.sorted for task in seen]  # type: ignore[attr-defined]
    assert (said[0], said[-1]) == (1, 7)
    assert said == sorted(said)
    for n in (1000, 1001, 10**6):
        assert task_at(growing, n) is growing.task


def test_what_is_not_named_stays() -> None:
    growing = config({"length": [2, 3]}, {"kind": "copy", "width": 3, "length": [2, 9]})
    halfway = task_at(growing, 500)
    assert halfway == Copy(width=3, length=(2, 6))


def test_a_task_may_shrink() -> None:
    growing = config({"items": [4, 12]}, {**SORT, "items": [4, 9]})
    highs = [task_at(growing, n).items[1] for n in range(0, 1000, 250)]  # type: ignore[attr-defined]
    assert highs == [12, 11, 10, 9]


def test_training_draws_from_it_and_a_resumed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    growing = config({"items": 1, "sorted": 1}, sequences=40)
    whole, parts = new_run(tmp_path / "whole", growing), new_run(tmp_path / "parts", growing)
    train(whole, growing, CPU, Watch())
    stopped = train(parts, growing, CPU, Watch(), should_stop=stop_after(5))
    assert stopped.status == "interrupted"
    train(parts, growing, CPU, Watch(), resume=True)
    a, b = whole.load_checkpoint().weights, parts.load_checkpoint().weights
    assert all(torch.equal(a[name], b[name]) for name in a)
    at_once = small_config_of(SORT)
    other = new_run(tmp_path / "other", at_once)
    train(other, at_once, CPU, Watch())
    bits = [run.rows(run.metrics_file)[0]["bits"] for run in (whole, other)]
    assert bits[0] < bits[1] / 2  # one vector costs less than seven


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ({"items": 0}, "train.curriculum.task.items: should be"),
        ({"colour": 3}, "train.curriculum.task.colour"),
        ({"mixed": False}, "train.curriculum.task.mixed: only whole numbers and ranges can grow"),
        ({"items": 5}, "train.curriculum.task.*sorted: cannot be more than items: 7 of 5"),
        ({"width": 2}, "train.curriculum.task: the model has 5 inputs"),
    ],
)
def test_first_settings_that_cannot_be(first: dict[str, Any], message: str) -> None:
    with pytest.raises(NTMError, match=message):
        config(first)


def test_numbers_that_are_not_whole_do_not_grow() -> None:
    with pytest.raises(NTMError, match=r"task\.beta: only whole numbers"):
        config({"beta": [1.0, 1.0]}, {"kind": "ngram", "length": 9})
