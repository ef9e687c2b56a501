from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ntm import reproduction as reproduce
from ntm.analysis.results import Result, find_runs, read_results
from ntm.errors import NTMError, UsageError
from ntm.memory.ntm import NTMConfig
from ntm.reproduction import TABLES, Wanted, choose, draw, names, needs, table, train_missing
from ntm.runs.jobs import Job
from ntm.runs.start import start_run
from ntm.runs.sweep import SweepState
from ntm.training.load import load_config
from ntm.views import paper
from ntm.views.paper_figures import FIGURES, NTM
from tests.small import Watch, edit_manifest, train

EVERYTHING = [*FIGURES, *TABLES]


def make(folder: Path, wanted: Wanted, *settings: str) -> None:
    """A run of a small version that has hardly been trained."""
    short = ["train.sequences=16", "train.batch=4", "train.report_every=8", "validation.every=8",
             "validation.episodes=3", "model.controller.size=5"]  # fmt: skip
    config = load_config(wanted.name, [*wanted.settings, *short, *settings])
    run = start_run(folder, config, torch.device("cpu"), "ntm train").run
    progress = train(run, config, torch.device("cpu"), Watch())
    edit_manifest(run, status=progress.status)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    folder = tmp_path_factory.mktemp("runs")
    for wanted in needs(EVERYTHING):
        make(folder / wanted.name, wanted)
    found, troubles = read_results(find_runs([folder]))
    assert not troubles
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_from_runs_that_exist(name: str, runs: list[Result]) -> None:
    drawing = draw(name, runs, quick=True)
    assert drawing.figure is not None
    assert not drawing.missing
    assert len(drawing.sources) == len(FIGURES[name].models)
    assert drawing.figure.axes


def test_small_runs_do_not_pass_for_the_papers(runs: list[Result]) -> None:
    """But where a task is the same, as for copy with its own lengths, any training will do."""
    for name, spec in FIGURES.items():
        drawing = draw(name, runs)
        assert [w.model for w in drawing.missing] == list(spec.models)
        assert (drawing.figure is None) == bool(spec.models)
        for wanted in drawing.missing:
            assert reproduce.command(wanted) == f"ntm train {wanted.name}"


@pytest.mark.parametrize(
    ("name", "task"), [("fig18", "priority_sort"), ("fig7", "repeat_copy")], ids=["easier", "hard"]
)
def test_where_training_costs_something_else_validation_is_drawn(
    name: str, task: str, runs: list[Result]
) -> None:
    figure = draw(name, runs, quick=True).figure
    assert figure is not None
    axes = figure.axes[0]
    chosen = choose(Wanted(task, paper.FF, quick=True), runs)
    assert chosen is not None
    rows = chosen.median.validation
    (line,) = [line for line in axes.lines if str(line.get_label()).startswith(paper.FF)]
    assert str(line.get_label()).endswith("validation)")
    assert np.allclose(line.get_xdata(), [row["sequences"] / 1000 for row in rows])
    assert np.allclose(line.get_ydata(), [row["bits"] for row in rows])


def test_what_is_missing_is_named_and_the_rest_drawn(runs: list[Result]) -> None:
    without = [r for r in runs if r.config.model.memory is not None]
    drawing = draw("fig7", without, quick=True)
    assert drawing.figure is not None
    assert [w.name for w in drawing.missing] == ["repeat_copy/lstm"]
    drawing = draw("fig5", without, quick=True)
    assert drawing.figure is None
    assert [w.name for w in drawing.missing] == ["copy/lstm"]


def test_the_config_with_most_seeds_is_chosen(tmp_path: Path) -> None:
    wanted = Wanted("copy", paper.FF, quick=True)
    for seed in (1, 2, 3):
        make(tmp_path / f"many-{seed}", wanted, f"seed={seed}")
    make(tmp_path / "other", wanted, "train.optimizer.lr=1e-3")
    make(tmp_path / "longer", wanted, "task.length=[1,11]")
    found, _ = read_results(find_runs([tmp_path]))
    chosen = choose(wanted, found)
    assert chosen is not None
    assert [r.run.path.name for r in chosen.results] == ["many-1", "many-2", "many-3"]
    # Solved comes first: a validation of the other one's that counts as solved.
    made = [
        Result(r.run, r.config, r.manifest, [{**r.validation[0], "bits": 0.0}], [])
        if r.run.path.name == "other" else r
        for r in found
    ]  # fmt: skip
    chosen = choose(wanted, made)
    assert chosen is not None
    assert [r.run.path.name for r in chosen.results] == ["other"]
    lstm = Wanted("copy", paper.LSTM, quick=True)
    assert choose(lstm, found) is None
    # One that reads both ways is not the paper's LSTM.
    make(tmp_path / "both", lstm, "model.direction=bidirectional", "model.controller.layers=1")
    assert choose(lstm, read_results(find_runs([tmp_path]))[0]) is None
    # Nor can a curve be drawn of no rows.
    make(tmp_path / "short", lstm, "train.report_every=100")
    found, _ = read_results(find_runs([tmp_path]))
    assert lstm in draw("fig3", found, quick=True).missing
    make(tmp_path / "lstm", lstm)
    found, _ = read_results(find_runs([tmp_path]))
    assert lstm not in draw("fig3", found, quick=True).missing
    assert choose(Wanted("copy", NTM, quick=True), found) is not None


def test_the_ntm_that_is_trained_is_one_that_learns_the_task() -> None:
    names = [Wanted(task, NTM, quick=True).name for task in ("copy", "priority_sort")]
    assert names == ["copy/ntm-lstm", "priority_sort/ntm-ff"]


def test_what_is_asked_for_comes_in_the_papers_order() -> None:
    assert names(["table2", "fig11", "fig3", "fig11"]) == ["fig3", "fig11", "table2"]
    assert names(["fig3", "all"]) == EVERYTHING
    assert len(FIGURES) == 16
    with pytest.raises(UsageError, match="fig2: should be fig3 to fig18"):
        names(["fig3", "fig2"])


@pytest.mark.parametrize("wanted", needs(EVERYTHING), ids=lambda w: w.name)
def test_a_small_version_is_smaller_and_still_the_model(wanted: Wanted) -> None:
    small, whole = wanted.config, load_config(wanted.name)
    assert small.task != whole.task
    assert small.train.sequences <= whole.train.sequences
    assert small.model == whole.model
    keys = [setting.partition("=")[0] for setting in wanted.settings]
    assert len(keys) == len(set(keys))


def test_tables_have_the_papers_counts_and_ours() -> None:
    """Of the paper's LSTMs three counts are ours, too, with its own sizes of input and output."""
    rows = [line.split(" | ") for line in table("table3").splitlines()[2:]]
    assert [row[-3:-1] for row in rows][1:4] == [
        ["5,312,007", "5,312,007"], ["1,344,518", "1,344,518"], ["331,905", "331,905"],
    ]  # fmt: skip
    assert len(table("table1").splitlines()) == 7
    assert "| 2 x 100 |" in table("table2")


def test_the_paper_says_what_it_says() -> None:
    """Settings of tables 1-3 are those of the shipped configs."""
    for model, rows in paper.TABLES.items():
        for row in rows:
            config = load_config(f"{row.task}/paper-{reproduce.CONFIGS[model]}")
            controller, memory = config.model.controller, config.model.memory
            layers = f"{controller.layers} x " if controller.layers > 1 else ""
            assert row.size == f"{layers}{controller.size}"
            assert float(row.lr) == config.train.optimizer.lr
            assert memory is None or isinstance(memory, NTMConfig)
            heads = None if memory is None else (memory.read_heads, memory.write_heads)
            assert heads == (None if row.heads is None else (row.heads, row.heads))


@pytest.mark.system
def test_what_is_missing_is_trained_as_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ends:
        def __init__(self) -> None:
            self.errors: list[str | None] = []

        def changed(self, state: SweepState) -> None:
            pass

        def ended(self, job: Job, error: str | None) -> None:
            self.errors.append(error)

    short = ["task.length=[1,2]", "task.width=3", "validation.task={length: 2}"]
    short += ["validation.episodes=2", "model.controller.size=5", "train.batch=2"]
    monkeypatch.setitem(reproduce.QUICK, "copy", (short, 30))
    folder, first = tmp_path / "quick", Ends()
    train_missing(["fig5"], folder, first)
    found, _ = read_results(find_runs([folder]))
    assert [r.run.path for r in found] == [folder / "copy" / "lstm"]
    assert found[0].config == Wanted("copy", paper.LSTM, quick=True).config
    assert first.errors == [None]
    again = Ends()
    train_missing(["fig5", "table1", "fig16"], folder, again)
    assert again.errors == []

    # What has failed is tried again in another call.
    run = found[0].run
    text = run.manifest_file.read_text()
    run.manifest_file.write_text(text.replace('"status": "budget"', '"status": "interrupted"'))
    run.last_file.write_bytes(b"damaged")
    for _ in range(2):
        failed = Ends()
        with pytest.raises(NTMError, match=r"copy/lstm: .*not a readable checkpoint"):
            train_missing(["fig5"], folder, failed)
        assert len(failed.errors) == 1
