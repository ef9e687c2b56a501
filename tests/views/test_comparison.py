from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from ntm.views.comparison import (
    COLOURS,
    FEW,
    LOWEST,
    Curve,
    Point,
    accuracy,
    generalisation,
    learning_curves,
    ranking,
)


def curve(x: list[float], bits: list[float]) -> Curve:
    return Curve(np.array(x), np.array(bits))


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    figure.canvas.draw()
    return axes


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    (found,) = (line for line in axes.lines if line.get_label() == label)
    x, y = np.asarray(found.get_data(), float)
    return list(x), list(y)


def band(axes: Axes, index: int) -> set[tuple[float, float]]:
    found = [c for c in axes.collections if isinstance(c, PolyCollection)][index]
    corners = np.asarray(found.get_paths()[0].vertices, float)
    return {(x, round(y, 9)) for x, y in corners.tolist()}


def test_the_median_goes_on_with_the_bits_of_seeds_that_have_stopped() -> None:
    lstm = [
        curve([10, 20], [8, 0.5]),
        curve([10, 20, 30], [4, 2, 1]),
        curve([10, 20, 30], [6, 5, 3]),
    ]
    gru = [curve([15], [7])]
    axes = axes_of(learning_curves({"LSTM": lstm, "GRU": gru}, "copy", solved_bits=0.1))
    assert line(axes, "LSTM (3 seeds)") == ([10, 20, 30], [6, 2, 1])  # held: 0.5, 1, 3
    assert {(10, 5), (10, 7), (30, 0.75), (30, 2)} <= band(axes, 0)  # the quartiles
    assert line(axes, "GRU (1 seed)") == ([15], [7])
    assert line(axes, "solved")[1] == [0.1, 0.1]
    assert axes.get_title(loc="left") == "copy"


@pytest.mark.parametrize(("longer", "scale"), [(90, "linear"), (900, "log")])
def test_what_is_quick_can_be_seen_beside_what_is_slow(longer: float, scale: str) -> None:
    groups = {"quick": [curve([10, 30], [8, 1])], "slow": [curve([10, longer], [9, 8])]}
    assert axes_of(learning_curves(groups, "copy")).get_xscale() == scale


def test_an_axis_of_bits_ends_at_the_decade_below_all_of_them() -> None:
    groups = {"LSTM": [curve([1, 2], [90, 2.5])], "GRU": [curve([1, 2], [80, 7])]}
    assert axes_of(learning_curves(groups, "sort")).get_ylim()[0] == pytest.approx(1)
    solved = axes_of(learning_curves(groups, "sort", solved_bits=0.5))
    assert solved.get_ylim()[0] == pytest.approx(0.1)


def test_an_exact_zero_lies_at_the_edge_and_says_so() -> None:
    axes = axes_of(learning_curves({"LSTM": [curve([1, 2], [1, 0])]}, "copy"))
    assert line(axes, "LSTM (1 seed)")[1] == [1, LOWEST]
    assert axes.get_ylim()[0] == LOWEST
    assert "\N{LESS-THAN OR EQUAL TO}0.001" in [
        label.get_text() for label in axes.get_yticklabels()
    ]


def test_a_size_has_its_median_its_band_and_every_seed() -> None:
    sizes = {120.0: [0.5, 2.0, 8.0, 0.0], 20.0: [0.0, 0.2, 0.4]}
    paper = [Point("paper", 20, 7), Point("paper", 50, 0)]
    axes = axes_of(generalisation({"LSTM": sizes}, "recall", "items", trained=6, points=paper))
    x, y = line(axes, "LSTM (4 seeds)")
    assert x == [20, 120]
    assert_allclose(y, [0.2, 1.25])
    assert {(20, 0.1005), (20, 0.3), (120, 0.37525), (120, 3.5)} <= band(axes, 0)
    dots = [line.get_xydata() for line in axes.lines if line.get_linestyle() == "None"]
    assert [len(np.asarray(points)) for points in dots] == [3, 4, 2]
    assert line(axes, "paper") == ([20, 50], [7, LOWEST])
    assert axes.get_xlabel() == "items"
    low, high = axes.get_xlim()
    assert low < 6  # what was trained is in the picture, and marked
    assert high > 120


def test_of_many_models_the_best_are_in_colour() -> None:
    groups = {
        f"model {i}": [curve([1, 2], [50, 30 - i]), curve([1, 2], [50, 9])] for i in range(11)
    }
    axes = axes_of(learning_curves(groups, "copy"))
    named = [str(line.get_label()) for line in axes.lines if "model" in str(line.get_label())]
    assert named == [f"model {i} (2 seeds)" for i in range(4, 11)]
    assert "4 others, each seed" in [line.get_label() for line in axes.lines]


def test_a_ranking_has_the_best_on_top_and_every_seed() -> None:
    groups = {"b": [0.5, 4.0, 0.2], "a": [80.0, 70.0], "c": [7.0]}
    axes = axes_of(ranking(groups, "copy"))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "c", "b"]
    dots = [line.get_xdata() for line in axes.lines if line.get_marker() == "o"]
    assert [list(np.asarray(x)) for x in dots] == [[80, 70], [7], [0.5, 4, 0.2]]
    medians = [line.get_xdata() for line in axes.lines if line.get_marker() != "o"]
    assert [float(np.asarray(x)[0]) for x in medians] == [75, 7, 0.5]


@pytest.mark.parametrize("count", [1, 4, 7])
def test_neighbours_never_share_a_colour(count: int) -> None:
    groups = {f"model {i}": [curve([1, 2], [i + 2, 1])] for i in range(count)}
    axes = axes_of(learning_curves(groups, "copy"))
    colours = [line.get_color() for line in axes.lines if "model" in str(line.get_label())]
    assert len(colours) == count
    assert all(a != b for a, b in itertools.pairwise(colours))
    assert set(colours) <= set(COLOURS)


def test_bits_that_stay_far_from_zero_are_not_drawn_down_to_it() -> None:
    axes = axes_of(learning_curves({"LSTM": [curve([1, 2], [4, 2])]}, "text", ylabel="bits each"))
    assert axes.get_yscale() == "linear"
    assert axes.get_ylabel() == "bits each"


def test_right_answers_have_a_median_every_seed_and_no_rare_label() -> None:
    seeds: list[list[dict[str, float]]] = [
        [{"seen": 0, "scored": 90, "accuracy": a, "bits": 3}, {"seen": 1, "scored": FEW,
         "accuracy": a + 0.25, "bits": 2}, {"seen": 2, "scored": FEW - 1, "accuracy": 1, "bits": 0}]
        for a in (0.25, 0.5, 0.3)
    ]  # fmt: skip
    axes = axes_of(accuracy({"LSTM": seeds}, "words"))
    assert line(axes, "LSTM (3 seeds)") == ([0, 1], [0.3, 0.55])
    assert len(axes.lines) == 4
    assert axes.get_xlabel() == "characters of the word seen"


def test_more_lines_than_colours_are_told_apart_by_dashes() -> None:
    sizes = {f"{n}": {10.0: [n + 1.0], 20.0: [n + 2.0]} for n in range(2 * len(COLOURS) + 3)}
    axes = axes_of(generalisation(sizes, "copy", "length", trained=6))
    drawn = [line for line in axes.lines if str(line.get_label()).endswith("(1 seed)")]
    looks = {(line.get_color(), line.get_linestyle()) for line in drawn}
    assert len(looks) == len(drawn) == len(sizes)
