"""What single tasks promise beside the common contract: counts, queries, order, settings."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from tasks import TASKS, AnyTask, Task
from tasks.associative_recall import AssociativeRecall
from tasks.copy import Copy
from tasks.priority_sort import NEAR, PrioritySort
from tasks.repeat_copy import RepeatCopy

# Repeat copy


@pytest.mark.parametrize("repeats", [(1, 10), (3, 4), (1, 2), (5, 31)])
def test_the_count_has_mean_0_and_variance_1_over_the_training_range(
    repeats: tuple[int, int],
) -> None:
    task = RepeatCopy(repeats=repeats)
    counts = task.normalise(np.arange(repeats[0], repeats[1] + 1))
    assert counts.dtype == np.float32
    assert abs(counts.mean()) < 1e-6
    assert abs(counts.var() - 1) < 1e-6
    assert (np.diff(counts) > 0).all()


def test_a_count_means_the_same_when_more_repeats_are_asked_for() -> None:
    trained = RepeatCopy(repeats=(1, 10))
    longer = dataclasses.replace(trained, repeats=(1, 20))
    assert longer.count_range == (1, 10)
    every = np.arange(1, 21)
    np.testing.assert_array_equal(longer.normalise(every), trained.normalise(every))
    assert longer.normalise(np.array([20]))[0] == pytest.approx((20 - 5.5) / 8.25**0.5)
    episode = longer.sample(np.random.default_rng(1), 200)
    assert episode.inputs[..., -1].max() == pytest.approx((20 - 5.5) / 8.25**0.5)


def test_a_fixed_count_carries_no_news() -> None:
    task = RepeatCopy(repeats=(4, 4))
    assert task.normalise(np.array([4]))[0] == 0


def test_the_six_bit_setting_of_the_papers_curves() -> None:
    """The curves of figure 7 start near 30.25 x 6 bits, plus the marker: 5.5 x 5.5 vectors."""
    task = RepeatCopy(width=6)
    assert (task.input_size, task.output_size) == (8, 7)  # as in the paper's parameter count
    episode = task.sample(np.random.default_rng(2), 20000)
    vectors = episode.mask.sum(dim=0) - 1
    assert float(vectors.mean()) == pytest.approx(30.25, abs=5 * float(vectors.std()) / 20000**0.5)


# Associative recall


def test_every_item_but_the_last_is_asked_for_equally_often() -> None:
    task = AssociativeRecall(items=(5, 5))
    episode = task.sample(np.random.default_rng(3), 4000)
    listed = episode.inputs[: 5 * 4].reshape(5, 4, 4000, 8)[:, 1:, :, :6]  # [K, L, B, W]
    query = episode.inputs[5 * 4 + 1 : 5 * 4 + 4, :, :6]  # [L, B, W]
    asked = (listed == query).all(dim=3).all(dim=1)  # [K, B]
    assert (asked.sum(dim=0) == 1).all()
    counts = asked.sum(dim=1).tolist()
    assert counts[4] == 0
    assert all(abs(count - 1000) < 5 * 750**0.5 for count in counts[:4])


def test_distinct_items_are_drawn_even_where_every_item_there_is_must_be() -> None:
    """8 items of 3 bits: each list is a permutation of all there are, and each as likely."""
    task = AssociativeRecall(width=3, item_length=1, items=(8, 8))
    episode = task.sample(np.random.default_rng(4), 4000)
    items = episode.inputs[1:16:2, :, :3] @ torch.tensor([4.0, 2.0, 1.0])  # [K, B]
    assert torch.equal(items.sort(dim=0).values, torch.arange(8.0)[:, None].expand(8, 4000))
    for place in range(8):
        counts = items[place].long().bincount(minlength=8)
        assert ((counts - 500).abs() < 5 * 500**0.5).all()


def test_items_that_differ_in_one_bit_only_are_told_apart() -> None:
    """2 items of 65 bits, more than a machine word: a wrong comparison would redraw or repeat."""
    task = AssociativeRecall(width=13, item_length=5, items=(2, 2))
    episode = task.sample(np.random.default_rng(5), 50)
    first, second = episode.inputs[1:6, :, :13], episode.inputs[7:12, :, :13]
    assert (first != second).any(dim=2).any(dim=0).all()


# Priority sort


def test_target_rows_are_input_rows_from_the_highest_priority_down() -> None:
    # So wide that no two vectors are equal.
    task = PrioritySort(width=21, items=(20, 20), sorted=16)
    episode = task.sample(np.random.default_rng(6), 17)
    for b in range(17):
        vectors = episode.inputs[:20, b, :21].tolist()
        priority = episode.inputs[:20, b, 21].tolist()
        said = [vectors.index(row) for row in episode.targets[21:, b].tolist()]
        assert len(set(said)) == 16
        chosen = [priority[k] for k in said]
        assert chosen == sorted(chosen, reverse=True)
        left = set(range(20)) - set(said)
        assert max(priority[k] for k in left) < min(chosen)


def test_sorting_is_tested_alike_however_batches_were_drawn() -> None:
    shared = PrioritySort(items=(3, 9), sorted=4, mixed=False)
    assert shared.held_out("validation") == PrioritySort(items=(3, 9), sorted=4)


def test_priorities_are_uniform_between_minus_1_and_1() -> None:
    episode = PrioritySort().sample(np.random.default_rng(7), 1000)
    priority = episode.inputs[:20, :, 8].flatten().sort().values
    assert float(priority[0]) >= -1
    assert float(priority[-1]) <= 1
    n = len(priority)
    uniform = 2 * (torch.arange(n) + 0.5) / n - 1
    assert float((priority - uniform).abs().max()) < 2 * 2.5 / n**0.5  # Kolmogorov-Smirnov, 1e-5


def test_of_two_equal_priorities_the_first_shown_comes_first() -> None:
    """So many items that a sort which is not stable would show."""
    K = 60

    class Ties(np.random.Generator):
        def uniform(self, *args: Any, size: Any = None, **kwargs: Any) -> Any:
            return np.broadcast_to(np.where(np.arange(K) % 3 == 1, -0.25, 0.5)[:, None], size)

    task = PrioritySort(width=31, items=(K, K), sorted=K)
    episode = task.sample(Ties(np.random.PCG64(8)), 3)
    order = [k for k in range(K) if k % 3 != 1] + [k for k in range(K) if k % 3 == 1]
    assert torch.equal(episode.targets[K + 1 :], episode.inputs[order, :, :31])


# Hard cases


HARD: list[Task] = [
    Copy(length=(2, 9), hard_fraction=0.3),
    RepeatCopy(width=5, repeats=(1, 4), hard_fraction=0.1),
    AssociativeRecall(items=(3, 8), hard_fraction=0.6),
    PrioritySort(items=(6, 11), sorted=4, hard_fraction=0.2),
]


@pytest.mark.parametrize("task", HARD, ids=lambda task: task.kind)
def test_hard_cases_are_for_training_alone(task: Task) -> None:
    drawn: dict[str, Any] = {"hard_fraction": 0.0}
    plain = dataclasses.replace(task, **drawn)  # type: ignore[type-var]
    assert task.held_out("validation") == task.held_out("test") == plain


def share_of_zeros(vectors: torch.Tensor) -> float:
    return float((vectors == 0).all(dim=-1).double().mean())


@pytest.mark.parametrize("hard", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(
    "task",
    [
        Copy(width=7, length=(12, 12)),
        RepeatCopy(width=7, length=(12, 12), repeats=(2, 2)),
        PrioritySort(width=7, items=(12, 12), sorted=3),
    ],
    ids=lambda task: task.kind,
)
def test_hard_vectors_keep_one_bit_in_w(task: Task, hard: float) -> None:
    """So that a bit is 1 with a chance of 1 in 2 W, and all are 0 with (1 - 1 / 2 W) ** W."""
    settings: dict[str, Any] = {"hard_fraction": hard}
    harder = dataclasses.replace(task, **settings)  # type: ignore[type-var]
    vectors = harder.sample(np.random.default_rng(10), 4000).inputs[:12, :, :7]
    ones, zeros = 1 / 2 - hard * (1 / 2 - 1 / 14), 1 / 2**7 + hard * ((13 / 14) ** 7 - 1 / 2**7)
    n = 12 * 4000
    assert float(vectors.mean()) == pytest.approx(ones, abs=5 * 0.5 / (7 * n) ** 0.5)
    assert share_of_zeros(vectors) == pytest.approx(zeros, abs=5 * (zeros / n) ** 0.5)


@pytest.mark.parametrize("hard", [0.0, 0.3, 1.0])
def test_hard_items_differ_from_an_earlier_one_in_few_bits(hard: float) -> None:
    """Of 30 bits: 5 in the mean, of chance ones 15; never in none."""
    task = AssociativeRecall(width=10, item_length=3, items=(7, 7), hard_fraction=hard)
    episode = task.sample(np.random.default_rng(11), 3000)
    items = episode.inputs[: 7 * 4].reshape(7, 4, 3000, 12)[:, 1:, :, :10]  # [K, L, B, W]
    items = items.permute(2, 0, 1, 3).flatten(2)  # [B, K, 30]
    different = (items[:, 1:, None] != items[:, None, :-1]).sum(dim=-1)  # [B, later, earlier]
    earlier = torch.ones(6, 6).tril().bool()
    assert (different[:, earlier] > 0).all()
    nearest = different.masked_fill(~earlier, 99).amin(dim=2)  # [B, 6] of the second to the last
    near = float((nearest[:, 0] <= 9).double().mean())
    by_chance, by_copying = 0.0214, 0.9805  # a binomial of 30, at 1/2 and at 1/6, up to 9
    expected = by_chance + hard * (by_copying - by_chance)
    assert near == pytest.approx(expected, abs=5 * (expected / 3000) ** 0.5)
    if hard == 1:
        assert float(nearest.double().mean()) < 5


def test_hard_items_are_distinct_even_where_few_exist() -> None:
    task = AssociativeRecall(width=3, item_length=1, items=(4, 4), hard_fraction=1.0)
    episode = task.sample(np.random.default_rng(12), 2000)
    items = episode.inputs[1:8:2, :, :3] @ torch.tensor([4.0, 2.0, 1.0])  # [K, B]
    assert (items.sort(dim=0).values.diff(dim=0) > 0).all()


@pytest.mark.parametrize("hard", [0.0, 0.4, 1.0])
def test_hard_priorities_lie_close_to_another(hard: float) -> None:
    """Each but the first is close to an earlier one; by chance, to one of k earlier, few are."""
    task, (_, most) = PrioritySort(items=(5, 5), sorted=2, hard_fraction=hard), NEAR
    priority = task.sample(np.random.default_rng(13), 8000).inputs[:5, :, 8]
    assert float(priority.abs().max()) <= 1
    for k in range(1, 5):
        nearest = (priority[k] - priority[:k]).abs().amin(dim=0)
        close = float((nearest <= most + 1e-6).double().mean())
        assert close == pytest.approx(hard, abs=(1 - hard) * k * most + 5 * 0.5 / 8000**0.5)
        assert hard < 1 or close == 1


def test_hard_priorities_are_near_at_every_scale() -> None:
    """Of two, the second lies above or below the first, within any octave as often as another."""
    task = PrioritySort(items=(2, 2), sorted=1, hard_fraction=1.0)
    priority = task.sample(np.random.default_rng(14), 8000).inputs[:2, :, 8]
    away = (priority[1] - priority[0])[priority[0].abs() < 0.99].double()  # none is clipped there
    assert float((away > 0).double().mean()) == pytest.approx(0.5, abs=5 * 0.5 / 7900**0.5)
    least, most = NEAR
    assert least - 1e-6 < float(away.abs().min()) < float(away.abs().max()) < most + 1e-6
    share = (away.abs() < (least * most) ** 0.5).double().mean()
    assert float(share) == pytest.approx(0.5, abs=5 * 0.5 / 7900**0.5)


# Settings


BAD: list[tuple[type[Task], str, dict[str, Any]]] = [
    (PrioritySort, "sorted", {"sorted": 17, "items": 16}),
    (PrioritySort, "sorted", {"sorted": 21}),
    (PrioritySort, "sorted", {"sorted": 0}),
    (PrioritySort, "items", {"items": 0}),
    (AssociativeRecall, "items", {"items": [1, 6]}),
    (AssociativeRecall, "items", {"items": 1}),
    (AssociativeRecall, "items", {"width": 1, "item_length": 2, "items": [2, 5]}),
    (AssociativeRecall, "item_length", {"item_length": 0}),
    (Copy, "length", {"length": [0, 3]}),
    (Copy, "length", {"length": [5, 2]}),
    (Copy, "length", {"length": 0}),
    (Copy, "length", {"length": -4}),
    (Copy, "length", {"length": [1, 2, 3]}),
    (Copy, "length", {"length": []}),
    (Copy, "length", {"length": "20"}),
    (Copy, "length", {"length": ["1", "20"]}),
    (Copy, "length", {"length": True}),
    (Copy, "length", {"length": [True, 5]}),
    (Copy, "length", {"length": 2.5}),
    (Copy, "length", {"length": None}),
    (Copy, "width", {"width": 0}),
    (Copy, "width", {"width": "8"}),
    (Copy, "width", {"width": True}),
    (Copy, "width", {"width": 8.5}),
    (Copy, "mixed", {"mixed": 1}),
    (Copy, "mixed", {"mixed": "yes"}),
    (Copy, "hard_fraction", {"hard_fraction": 1.5}),
    (RepeatCopy, "hard_fraction", {"hard_fraction": -0.1}),
    (AssociativeRecall, "hard_fraction", {"hard_fraction": "0.5"}),
    (PrioritySort, "hard_fraction", {"hard_fraction": float("nan")}),
    (Copy, "lenght", {"lenght": 20}),
    (Copy, "kind", {"kind": "ngram"}),
    (RepeatCopy, "repeats", {"repeats": [0, 3]}),
    (RepeatCopy, "count_range", {"count_range": [10, 1]}),
    (TASKS["ngram"], "order", {"order": 1}),
    (TASKS["ngram"], "order", {"order": 60}),
    (TASKS["ngram"], "length", {"length": 0}),
    (TASKS["ngram"], "length", {"length": [100, 200]}),
    (TASKS["ngram"], "beta", {"beta": [0, 0.5]}),
    (TASKS["ngram"], "beta", {"beta": [0.5]}),
    (TASKS["ngram"], "beta", {"beta": 0.5}),
    (TASKS["ngram"], "beta", {"beta": [0.5, float("inf")]}),
    (TASKS["ngram"], "beta", {"beta": [0.5, float("nan")]}),
    (TASKS["ngram"], "beta", {"beta": [0.5, "0.5"]}),
]


def names(error: ErrorDetails, field: str) -> bool:
    """The error is located at the field, or its message begins with the field's name."""
    message = re.sub("^Value error, ", "", error["msg"])
    return field in error["loc"] or message.startswith(f"{field}: ")


@pytest.mark.parametrize(("cls", "field", "settings"), BAD)
def test_a_bad_setting_is_refused_by_name(
    cls: type[Task], field: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as caught:
        cls(**settings)
    assert all(names(error, field) for error in caught.value.errors()), caught.value
    adapter: TypeAdapter[Task] = TypeAdapter(AnyTask)  # as a config file is read
    (kind,) = (kind for kind, known in TASKS.items() if known is cls)
    if field != "kind":
        with pytest.raises(ValidationError) as caught:
            adapter.validate_json(json.dumps({"kind": kind, **settings}))
        assert all(names(error, field) for error in caught.value.errors()), caught.value


def test_every_bad_setting_is_named_at_once() -> None:
    settings: dict[str, Any] = {"width": 0, "length": [5, 2], "lenght": 3, "mixed": 1}
    with pytest.raises(ValidationError) as caught:
        Copy(**settings)
    assert {error["loc"][0] for error in caught.value.errors()} == set(settings)


@pytest.mark.parametrize("written", ["7", "[7, 7]"])
def test_one_number_is_a_range_of_one(written: str) -> None:
    adapter: TypeAdapter[Task] = TypeAdapter(AnyTask)
    task = adapter.validate_json(f'{{"kind": "copy", "length": {written}}}')
    assert task == Copy(length=(7, 7))


def test_an_unknown_kind_is_refused() -> None:
    adapter: TypeAdapter[Task] = TypeAdapter(AnyTask)
    with pytest.raises(ValidationError, match="'copy', 'repeat_copy', 'associative_recall'"):
        adapter.validate_json('{"kind": "copi"}')


def test_whole_numbers_will_do_for_beta() -> None:
    adapter: TypeAdapter[Task] = TypeAdapter(AnyTask)
    task = adapter.validate_json('{"kind": "ngram", "beta": [1, 3]}')
    assert dataclasses.asdict(task)["beta"] == (1.0, 3.0)  # type: ignore[call-overload]
