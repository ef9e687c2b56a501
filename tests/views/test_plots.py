from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from controllers import configure
from ntm.analysis.trace import Trace, record
from ntm.errors import NTMError
from ntm.memory.base import MemoryConfig
from ntm.memory.ntm import NTMConfig
from ntm.memory.sparse import SparseConfig
from ntm.model import ModelConfig, build_model
from ntm.views.plots import learning_curve, memory_figure, save, slots_in_use
from tasks.charlm import CharLM
from tasks.copy import Copy
from tests.tasks import grammar


def trace_of(memory: MemoryConfig | None) -> Trace:
    task = Copy(width=3, length=(4, 4))
    config = ModelConfig(controller=configure(kind="gru", size=6), memory=memory)
    model = build_model(config, 4, 3, torch.Generator().manual_seed(3))
    return record(model, task.sample(np.random.default_rng(1), 1), task.loss)


def titles(figure: Figure) -> list[str]:
    return [a.get_title(loc="left") for a in figure.axes if a.get_title(loc="left")]


def test_the_memory_figure_shows_what_the_papers_does() -> None:
    figure = memory_figure(trace_of(NTMConfig(slots=7, width=5)), "copy")
    shown = titles(figure)
    assert shown[0] == "Inputs"
    assert {"Adds", "Write weighting", "Targets", "Reads", "Read weighting"} < set(shown)
    labels = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert labels == ["time step", "time step"]


def test_every_head_has_its_panels() -> None:
    memory = NTMConfig(slots=7, width=5, read_heads=2, write_heads=3)
    shown = titles(memory_figure(trace_of(memory), "copy"))
    assert [t for t in shown if t.startswith("Reads")] == ["Reads, head 1", "Reads, head 2"]
    assert len([t for t in shown if t.startswith("Write weighting")]) == 3


def test_a_sparse_memory_has_a_panel_for_each_head_that_adds() -> None:
    trace = trace_of(SparseConfig(slots=7, width=5, heads=2))
    shown = titles(memory_figure(trace, "copy"))
    for what in ("Adds", "Reads", "Write weighting", "Read weighting"):
        assert [t for t in shown if t.startswith(what)] == [f"{what}, head 1", f"{what}, head 2"]
    assert trace.ntm is not None
    trace.ntm.add[:] = 0
    assert "Adds, head 4" in titles(memory_figure(trace, "copy"))


def test_a_baseline_shows_inputs_and_outputs_alone() -> None:
    shown = titles(memory_figure(trace_of(None), "copy"))
    assert [t.split(",")[0] for t in shown] == ["Inputs", "Targets", "Outputs"]


def test_bit_errors_are_counted_and_outlined_where_they_are() -> None:
    trace = trace_of(None)
    outputs = trace.targets.copy()
    outputs[6, 1] = 1 - outputs[6, 1]
    outputs[8, 2] = 1 - outputs[8, 2]
    outputs[0, 0] = 1  # before the answer: not scored
    wrong = Trace(trace.inputs, trace.targets, trace.mask, outputs, None)
    figure = memory_figure(wrong, "copy")
    (axes,) = [a for a in figure.axes if "2 bit errors" in a.get_title(loc="left")]
    centres = [
        np.mean(np.asarray(path.vertices)[:4], axis=0).tolist()
        for path in axes.collections[0].get_paths()
    ]
    assert centres == [[6, 1], [8, 2]]
    right = Trace(trace.inputs, trace.targets, trace.mask, trace.targets, None)
    assert "Outputs" in titles(memory_figure(right, "copy"))


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ([0], [9, 0, 1]),
        ([3, 4, 6], [2, 3, 4, 5, 6, 7]),
        ([8, 9, 0, 1], [7, 8, 9, 0, 1, 2]),  # around the end of the ring
        ([0, 3, 5, 8], list(range(10))),  # no gap worth leaving out
        ([], list(range(10))),
    ],
)
def test_the_slots_in_use_are_one_stretch_of_the_ring(used: list[int], expected: list[int]) -> None:
    weights = np.full((4, 2, 10), 0.01)
    for t, slot in enumerate(used):
        weights[t % 4, t % 2, slot] = 0.9
    stretch = slots_in_use(weights)
    assert sorted(stretch.tolist()) == sorted(expected)
    if used and len(expected) < 10:
        assert stretch.tolist() == expected


def rows(bits: list[float], floor: float) -> list[dict[str, float]]:
    return [{"sequences": 100 * (i + 1), "bits": b, "floor": floor} for i, b in enumerate(bits)]


def test_the_learning_curve_is_logarithmic_where_nothing_need_be_paid() -> None:
    curve = learning_curve(rows([9, 1, 0], 0), rows([8, 0], 0), "copy", 0.1)
    (axes,) = curve.axes
    assert axes.get_yscale() == "log"
    assert (np.asarray(axes.lines[0].get_ydata()) > 0).all()
    assert axes.get_ylabel() == "bits per sequence"


@pytest.mark.parametrize(
    ("bits", "solved", "bottom"),
    [
        ([9, 2.4], 1, 0.1),
        ([9, 2.4], 3, 1),
        ([9, 2.4], 0, 1),
        ([9, 0.04], 1, 0.01),
        ([9, 0], 1, 1e-3),
    ],
)
def test_a_learning_curve_ends_at_the_decade_below_it(
    bits: list[float], solved: float, bottom: float
) -> None:
    (axes,) = learning_curve(rows([40.0], 0), rows(bits, 0), "sort", solved).axes
    assert axes.get_ylim()[0] == pytest.approx(bottom)


def test_the_learning_curve_tells_when_training_began_with_less() -> None:
    whole = learning_curve(rows([9, 1], 0), rows([8], 0), "sort", 0.1)
    grown = learning_curve(rows([9, 1], 0), rows([8], 0), "sort", 0.1, curriculum=True)
    labels = [figure.axes[0].get_legend_handles_labels()[1][0] for figure in (whole, grown)]
    assert labels == ["training", "training, on easier tasks at first"]


def test_the_learning_curve_of_a_text_is_not_drawn_down_to_zero() -> None:
    (axes,) = learning_curve(rows([4.7, 2.1], 0), rows([3], 0), "text", 0, "bits each").axes
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylabel() == "bits each"


def test_inputs_of_a_text_are_named_and_no_output_is_called_wrong() -> None:
    config = ModelConfig(controller=configure(kind="gru", size=6))
    model = build_model(config, 27, 27, torch.Generator().manual_seed(3))
    task = CharLM(path=grammar.shared_file(), length=17)
    trace = record(model, task.sample(np.random.default_rng(1), 1), task.loss)
    figure = memory_figure(trace, "text", task.symbols)
    assert titles(figure) == ["Inputs", "Outputs: probability of the character that came"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "".join(names) == task.symbols.replace(" ", "_")


def test_the_learning_curve_shows_the_best_possible_where_it_is_not_0() -> None:
    (axes,) = learning_curve(rows([160, 150], 133), rows([155], 133), "n-grams", 0.5).axes
    assert axes.get_yscale() == "linear"
    lines = {str(line.get_label()): line for line in axes.lines}
    assert set(np.asarray(lines["best possible"].get_ydata())) == {133}
    assert set(np.asarray(lines["solved"].get_ydata())) == {133.5}


def test_a_run_without_rows_can_be_drawn(tmp_path: Path) -> None:
    save(learning_curve([], [], "just started", 0.1), tmp_path / "new" / "curve.png")
    assert (tmp_path / "new" / "curve.png").stat().st_size > 1000


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NTMError, match=r"curve\.png: cannot be written"):
        save(learning_curve([], [], "", 0), tmp_path / "file" / "curve.png")
