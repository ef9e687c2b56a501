"""Every task again, in plain loops that read only the inputs.

An oracle takes the inputs of one sequence, [T, I] as a list of rows, and the task for its widths.
It returns what it understood: the inputs written anew from that, the targets, the scored steps,
and the conditions. Inputs that carry anything else, or anything elsewhere, differ from those
written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from tasks.associative_recall import AssociativeRecall
from tasks.copy import Copy
from tasks.ngram import NGram
from tasks.priority_sort import PrioritySort
from tasks.repeat_copy import RepeatCopy

Rows: TypeAlias = list[list[float]]


class Understood(NamedTuple):
    inputs: Rows
    answer: Rows  # the targets of the scored steps
    start: int  # the first of them
    conditions: dict[str, int]


def steps_with(inputs: Rows, channel: int) -> list[int]:
    return [t for t, row in enumerate(inputs) if row[channel] != 0]


def padded(vector: Sequence[float], before: int, after: int) -> list[float]:
    return [0.0] * before + list(vector) + [0.0] * after


def copy(inputs: Rows, task: Copy) -> Understood:
    W = task.width
    (delimiter,) = steps_with(inputs, W)
    vectors = [row[:W] for row in inputs[:delimiter]]
    shown = [padded(vector, 0, 1) for vector in vectors] + [padded([1], W, 0)]
    return Understood(shown, vectors, delimiter + 1, {"length": len(vectors)})


def repeat_copy(inputs: Rows, task: RepeatCopy) -> Understood:
    W = task.width
    (delimiter,) = steps_with(inputs, W)
    vectors = [row[:W] for row in inputs[:delimiter]]
    if task.count == "unary":
        counts = [1.0] * len(steps_with(inputs, W + 1))
        repeats = len(counts)
    else:
        counts = [inputs[delimiter + 1][W + 1]]
        assert task.count_range is not None
        low, high = task.count_range
        every = list(range(low, high + 1))
        mean = sum(every) / len(every)
        deviation = (sum((n - mean) ** 2 for n in every) / len(every)) ** 0.5 or 1.0
        repeats = round(counts[0] * deviation + mean)
        assert abs(repeats - (counts[0] * deviation + mean)) < 1e-4
    shown = [padded(vector, 0, 2) for vector in vectors]
    shown += [padded([1], W, 1), *(padded([count], W + 1, 0) for count in counts)]
    answer = [[*vector, 0.0] for _ in range(repeats) for vector in vectors]
    answer.append(padded([1], W, 0))
    conditions = {"length": len(vectors), "repeats": repeats}
    return Understood(shown, answer, len(shown), conditions)


def associative_recall(inputs: Rows, task: AssociativeRecall) -> Understood:
    W, L = task.width, task.item_length
    starts = steps_with(inputs, W)
    first, last = steps_with(inputs, W + 1)
    items = [[row[:W] for row in inputs[s + 1 : s + 1 + L]] for s in starts]
    assert last == first + L + 1
    query = [row[:W] for row in inputs[first + 1 : last]]
    (asked,) = (k for k, item in enumerate(items) if item == query)  # distinct, and found
    assert asked < len(items) - 1, "the last item has no successor"
    shown = []
    for item in items:
        shown.append(padded([1], W, 1))
        shown += [padded(vector, 0, 2) for vector in item]
    shown.append(padded([1], W + 1, 0))
    shown += [padded(vector, 0, 2) for vector in query]
    shown.append(padded([1], W + 1, 0))
    return Understood(shown, items[asked + 1], last + 1, {"items": len(items)})


def priority_sort(inputs: Rows, task: PrioritySort) -> Understood:
    W = task.width
    (delimiter,) = steps_with(inputs, W + 1)
    rows = inputs[:delimiter]
    shown = [padded(row[: W + 1], 0, 1) for row in rows] + [padded([1], W + 1, 0)]
    ranked = sorted(rows, key=lambda row: -row[W])  # stable: of two equals the first comes first
    answer = [row[:W] for row in ranked[: task.sorted]]
    return Understood(shown, answer, delimiter + 1, {"items": len(rows)})


def ngram(inputs: Rows, task: NGram) -> Understood:
    """All but the last bit; the inputs do not show that."""
    answer = [list(row) for row in inputs[1:]]
    return Understood([[0.0], *answer], answer, 0, {"length": len(inputs)})


ORACLES: dict[str, Callable[[Rows, Any], Understood]] = {
    "copy": copy,
    "repeat_copy": repeat_copy,
    "associative_recall": associative_recall,
    "ngram": ngram,
    "priority_sort": priority_sort,
}
