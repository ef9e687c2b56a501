from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from controllers import configure
from ntm.analysis.trace import NTMTrace, Trace, record
from ntm.memory.ntm import NTMConfig
from ntm.model import ModelConfig, build_model
from ntm.views import figures, paper
from ntm.views.comparison import Curve
from ntm.views.figures import sorting
from tasks.copy import Copy
from tasks.priority_sort import PrioritySort


def traced(read_heads: int = 1, write_heads: int = 1) -> Trace:
    memory = NTMConfig(slots=9, width=5, read_heads=read_heads, write_heads=write_heads)
    config = ModelConfig(controller=configure(kind="gru", size=6), memory=memory)
    task = PrioritySort(width=3, items=(7, 7), sorted=4)
    model = build_model(config, task.input_size, 3, torch.Generator().manual_seed(5))
    return record(model, task.sample(np.random.default_rng(2), 1), task.loss)


def titles(figure: Figure) -> list[str]:
    found = [axes.get_title(loc="left") for axes in figure.axes]
    return [title for title in found if title]


def curve(bits: list[float], last: float) -> Curve:
    return Curve(np.linspace(last / len(bits), last, len(bits)), np.array(bits))


def test_learning_is_drawn_over_thousands_and_the_quick_once_more() -> None:
    slow = curve(list(np.linspace(90, 30, 400)), 1_000_000)
    quick = [curve([60, 20, 0], 30_000), curve([60, 40, 2], 20_000), curve([60, 30, 4], 20_000)]
    drawn = figures.learning(
        {paper.LSTM: [slow], paper.FF: quick}, "copy", paper.LEARNING["copy"], (0, 10)
    )
    left, right = drawn.axes
    assert left.get_xlim() == (0, 1000)
    assert right.get_xlim() == pytest.approx((0, 34.5))
    # The slow one ends at 30, above the paper's picture: the picture grows.
    assert left.get_ylim()[1] == pytest.approx(1.2 * 30, rel=0.02)
    lines = {line.get_label(): np.array(line.get_data()) for line in left.lines}
    x, middle = lines["NTM, feedforward (3 seeds)"]
    assert (x[-1], middle[-1]) == (30, 2)  # of 0, 2 and 4; what has stopped keeps its cost
    readings = [r for r in paper.LEARNING["copy"] if r.model == paper.LSTM]
    assert lines["the paper's LSTM"].T.tolist() == [[r.sequences / 1000, r.bits] for r in readings]


def test_runs_of_like_length_are_drawn_once() -> None:
    drawn = figures.learning(
        {paper.LSTM: [curve([9, 5], 900)], paper.FF: [curve([8, 4], 400)]}, "", [], None, 3.0
    )
    (axes,) = drawn.axes
    assert any(np.all(np.asarray(line.get_ydata()) == 3.0) for line in axes.lines)


def test_bit_errors_are_counted_and_marked() -> None:
    task = Copy(width=3, length=(4, 4))
    episode = task.sample(np.random.default_rng(1), 1)
    inputs, targets, mask = (x[:, 0].numpy() for x in episode[:3])
    outputs = targets.copy()
    for step, bit in ((5, 0), (5, 2), (8, 1), (1, 1)):  # the last is before the answer
        outputs[step, bit] = 1 - outputs[step, bit]
    right = Trace(inputs, targets, mask, targets, None)
    wrong = Trace(inputs, targets, mask, outputs, None)
    drawn = figures.answers([[("four", right), ("again", wrong)]], "copy")
    assert titles(drawn) == ["four: no bit errors", "again: 3 bit errors"]
    (marks,) = [line for axes in drawn.axes for line in axes.lines]
    assert np.asarray(marks.get_xdata()).tolist() == [0, 3]  # steps of the answer


def test_memory_use_has_the_papers_panels_for_every_head() -> None:
    shown = titles(figures.memory_use(traced(read_heads=2), "sort"))
    assert shown == [
        "Inputs", "Adds", "Write weightings",
        "Outputs", "Reads, head 1", "Reads, head 2",
        "Read weightings, head 1", "Read weightings, head 2",
    ]  # fmt: skip


def test_contexts_that_recur_are_found_where_they_end() -> None:
    bits = np.array([0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0])  # the first is none
    found = figures.repeated_contexts(bits, order=4)
    assert list(found) == ["011", "010"]  # 110 comes as often, but one step after 011
    for context, steps in found.items():
        ends = [t for t in range(3, 18) if "".join(map(str, bits[t - 2 : t + 1])) == context]
        assert list(steps) == ends


def machine(places: np.ndarray, slots: int) -> NTMTrace:
    """An NTM with one read head, and write heads with these foci, [T, Q]."""
    steps, heads = places.shape
    weights = np.zeros((steps, 1 + heads, slots))
    weights[:, 0, 0] = 1
    for head in range(heads):
        weights[np.arange(steps), 1 + head, places[:, head]] = 1
    empty = np.zeros((steps, 1, 2))
    return NTMTrace(
        np.zeros((steps, slots, 2)), weights, empty, empty, empty[..., 0], empty[..., 0], empty,
        empty[..., 0], empty, empty,
    )  # fmt: skip


def test_locations_that_are_linear_in_the_priority_are_recognised() -> None:
    priority = np.array([0.5, -1.0, 0.0, 1.0, -0.5])
    linear = (10 + 6 * priority).astype(int)
    other = np.array([11, 12, 9, 13, 8])
    found = figures.sort_locations(machine(np.stack([other, linear], 1), 40), priority)
    assert found.head == 1
    assert found.r_squared == pytest.approx(1)
    # Slots are counted from the first that some head uses, less a margin: the read head is at 0.
    assert np.ptp(found.fitted) == pytest.approx(12)
    assert list(np.argsort(found.fitted)) == list(np.argsort(priority))


def test_slots_that_are_read_in_order_of_priority_are_recognised() -> None:
    priority = np.array([0.5, -1.0, 0.0, 1.0, -0.5])
    written = [7, 3, 11, 5, 9]  # no line through these and the priorities
    read = [5, 7, 11, 2]  # the last is wrong
    weights = np.zeros((10, 5, 13))  # T, H = 2 + 3, N
    weights[..., 0] = 1
    for t, slot in [*enumerate(written), *enumerate(read, start=5)]:
        head = 1 if t >= 5 else 4
        weights[t, head] = 0
        weights[t, head, slot] = 1
    answer = np.arange(6, 10)
    blank = machine(np.zeros((5, 1), int), 13)
    traced_ = replace(blank, weights=weights, reads=np.zeros((10, 2, 1)))
    found = figures.sort_selection(traced_, priority, answer)
    assert found == (2, 1, 1, 0.75)
    assert figures.sort_locations(traced_, priority).r_squared < 0.5


def test_an_example_of_sorting_needs_no_model() -> None:
    example = figures.sort_example(traced(), "example")
    assert titles(example) == ["Inputs", "Targets: from the highest priority down"]
    heights = [bar.get_height() for bar in example.axes[3].patches if isinstance(bar, Rectangle)]
    assert len(heights) == 4
    assert heights == sorted(heights, reverse=True)


def test_how_an_ntm_sorts_is_drawn_as_what_explains_it_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def titles_if(share: float) -> list[str]:
        found = figures.SortSelection(writer=2, reader=0, lag=1, share=share)
        monkeypatch.setattr(sorting, "sort_selection", lambda *_: found)
        return titles(figures.sort_use(traced(read_heads=2, write_heads=3), "sort"))

    linear = titles_if(share=-1)
    assert linear[0].startswith("Hypothesised: linear in the priority")
    assert linear[1].startswith("Write weightings, head ")
    assert linear[1].endswith(" of 3")
    assert linear[2].endswith(" of 2")
    assert titles_if(share=1) == [
        "Write weightings, head 3 of 3",
        "Slots of the highest priorities: 4 of 4 are read",
        "Read weightings, head 1 of 2",
    ]


def test_predictions_say_how_far_they_are_from_the_optimum() -> None:
    bits = np.array([0.0, 1, 1, 0])
    lines = {"optimal": np.array([0.5, 0.5, 0.5, 0.5]), paper.LSTM: np.array([0.9, 0.5, 0.6, 0.2])}
    assert titles(figures.predictions(bits, lines, "", start=2)) == [
        "LSTM: 0.200 from the optimum on average"
    ]


def test_items_are_drawn_beside_the_papers() -> None:
    drawn = figures.by_items(
        {paper.FF: {6: [0.0, 2.0, 9.0], 10: [1.0, 1.0, 4.0]}}, {paper.FF: {20: 8.0}}, 6, "recall"
    )
    (axes,) = drawn.axes
    lines = {line.get_label(): np.array(line.get_data()).tolist() for line in axes.lines}
    assert lines["NTM, feedforward (3 seeds)"] == [[6, 10], [2, 1]]
    assert lines["the paper's NTM, feedforward"] == [[20], [8]]
