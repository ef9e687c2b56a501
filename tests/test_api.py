"""The suite from Python: a module with the habits of torch.nn.LSTM, and what the commands do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

import ntm
from ntm.analysis.bench import Case
from ntm.analysis.evaluate import evaluate
from ntm.errors import (
    KilledError,
    NotFiniteError,
    OutOfMemoryError,
    RunExistsError,
    RunLockedError,
    RunNotFoundError,
    UsageError,
)
from ntm.kernels.dispatch import select
from ntm.memory.ntm import NTMState
from ntm.runs.folder import RunDir

REFERENCE = Path(__file__).parents[1] / "runs" / "reference" / "copy" / "ntm-lstm"


def test_it_goes_on_where_it_stopped() -> None:
    torch.manual_seed(1)
    machine = ntm.NTM(3, 2, controller="gru", hidden_size=11, slots=7, width=5, read_heads=2)
    x = torch.randn(6, 4, 3)
    whole, end = machine(x)
    first, state = machine(x[:2])
    rest, last = machine(x[2:], state)
    assert whole.shape == (6, 4, 2)
    torch.testing.assert_close(torch.cat([first, rest]), whole)
    assert isinstance(last, NTMState)
    assert last.memory.shape == (4, 7, 5)
    torch.testing.assert_close(last.memory, end.memory)


def test_it_has_the_habits_of_a_module() -> None:
    torch.manual_seed(2)
    machine = ntm.NTM(3, 2, hidden_size=6, slots=7, width=4, initial="learned")
    torch.manual_seed(2)
    again = ntm.NTM(3, 2, hidden_size=6, slots=7, width=4, initial="learned")
    other = ntm.NTM(3, 2, hidden_size=6, slots=7, width=4, initial="learned")
    x = torch.randn(5, 1, 3)
    assert torch.equal(machine(x)[0], again(x)[0])  # torch.manual_seed decides
    assert not torch.equal(machine(x)[0], other(x)[0])
    other.load_state_dict(machine.state_dict())
    assert torch.equal(machine(x)[0], other(x)[0])

    optimizer = torch.optim.Adam(machine.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = (machine(x)[0] - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is not None for p in machine.parameters())


def test_it_runs_where_the_kernels_do_not() -> None:
    """In half precision, and back on the kernels in double."""
    model = ntm.NTM(3, 2, hidden_size=6, slots=7, width=4)
    x = torch.randn(2, 1, 3)
    single, _ = model(x)
    engines = [select(model.core).engine]
    half, _ = model.bfloat16()(x.bfloat16())
    engines.append(select(model.core).engine)
    assert half.dtype == torch.bfloat16
    double, _ = model.double()(x.double())
    engines.append(select(model.core).engine)
    assert engines == ["fused", "reference", "fused"]
    torch.testing.assert_close(double.float(), single, atol=0.02, rtol=0.05)


def test_a_run_is_loaded_traced_and_drawn() -> None:
    model = ntm.load(REFERENCE, slots=40)
    episode = model.task.sample(np.random.default_rng(1), 3)
    logits, _ = model(episode.inputs)
    scored = episode.mask > 0
    assert ((logits > 0) == (episode.targets > 0.5))[scored].all()
    found = ntm.trace(model, episode, 2)
    assert found.ntm is not None
    assert found.ntm.weights.shape == (41, 2, 40)
    titles = [axes.get_title(loc="left") for axes in ntm.plot_memory(found, "copy").axes]
    assert "Write weighting" in titles
    with pytest.raises(UsageError, match="no run here"):
        ntm.load("nowhere")


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = "import sys, ntm; assert 'torch' not in sys.modules; assert 'NTM' in dir(ntm)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'ntn'"):
        ntm.ntn  # noqa: B018


# Training, scores and pictures: as the command line has them, in a folder of the user's own.

SMALL = """
task: {kind: copy, width: 3, length: [1, 3]}
model:
  controller: {kind: gru, size: 7}
  memory: {slots: 9, width: 5}
train:
  optimizer: {kind: adam, lr: 1e-3}
  sequences: 40
  report_every: 5
validation: {every: 10, episodes: 3, task: {length: 3}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # of a sweep's children
    Path("small.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> ntm.Run:
    return ntm.train("small.yaml", settings={"train.batch": 2}, progress=False)


def command_line(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ntm", *map(str, words)], check=True, capture_output=True, text=True
    )


def test_a_run_is_trained_as_by_the_command_line(
    run: ntm.Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run.path == Path("runs/copy/small/seed-1")
    assert (run.status, run.sequences) == (ntm.Status.BUDGET, 40)
    assert run.config.train.batch == 2
    assert run.manifest["command"] == "ntm train small.yaml --set train.batch=2"
    assert capfd.readouterr() == ("", "")
    words = run.manifest["command"].split()[1:]
    command_line(*words, "--run", "other", "--quiet")
    one, other = (RunDir.open(path).load_checkpoint() for path in (run, "other"))
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in other.weights)
    assert run.best_bits == ntm.Run.open("other").best_bits == one.state["progress"]["best_bits"]


def test_a_run_goes_on_and_is_not_overwritten(run: ntm.Run) -> None:
    with pytest.raises(RunExistsError, match="already holds a run"):
        ntm.train("small.yaml", progress=False)
    given = {"train.batch": 2, "train.sequences": np.int64(60)}
    longer = ntm.train("small.yaml", settings=given, resume=True, progress=False)
    assert (longer.path, longer.sequences) == (run.path, 60)
    (resumed,) = longer.manifest["resumed"]
    assert resumed["command"].endswith("--set train.sequences=60 --resume")
    with pytest.raises(RunNotFoundError, match="nowhere: no run here"):
        ntm.train(run="nowhere", resume=True)
    with RunDir.open(run).lock(), pytest.raises(RunLockedError, match="another process"):
        ntm.train("small.yaml", settings=given, resume=True)


def test_progress_is_shown_unless_it_is_not_wanted(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ntm.train("small.yaml", seed=4, run="mine", threads=1, engine="reference")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("reference engine: asked for\n")
    assert "5 sequences: " in err


def test_threads_and_memory_limits_are_given_back(run: ntm.Run) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    torch.set_num_threads(2)
    try:
        ntm.evaluate(run, episodes=3, threads=1)
        assert torch.get_num_threads() == 2
        assert resource.getrlimit(resource.RLIMIT_DATA) == limits
    finally:
        torch.set_num_threads(1)


def test_training_runs_outside_the_main_thread(folder: Path) -> None:
    """Where signals cannot be handled, as in a server."""
    done: list[ntm.Run] = []
    thread = Thread(target=lambda: done.append(ntm.train("small.yaml", progress=False)))
    thread.start()
    thread.join()
    assert done[0].status is ntm.Status.BUDGET


def test_what_ends_training_is_in_the_manifest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = {
        "diverged": (NotFiniteError("broken"), ntm.Status.FAILED, NotFiniteError),
        "full": (MemoryError(), ntm.Status.ERROR, OutOfMemoryError),
        "refused": (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            ntm.Status.ERROR, OutOfMemoryError,
        ),
        "bug": (RuntimeError("else"), ntm.Status.ERROR, RuntimeError),
        "killed": (KeyboardInterrupt(), ntm.Status.KILLED, KilledError),
    }  # fmt: skip
    for name, (raised, status, expected) in ends.items():

        def reported(self: object, row: object, error: BaseException = raised) -> None:
            raise error

        monkeypatch.setattr("ntm.views.console.TrainingConsole.reported", reported)
        with pytest.raises(expected):
            ntm.train("small.yaml", run=name, progress=False)
        assert ntm.Run.open(name).status is status


def test_scores_are_those_of_the_command_line(run: ntm.Run) -> None:
    found = ntm.evaluate(run, length=5, slots=20, episodes=7, seed=3)
    words = ("--set", "task.length=5", "--slots", 20, "--episodes", 7, "--seed", 3, "--json")
    assert json.loads(command_line("evaluate", run.path, *words).stdout) == found.scores()
    assert (found.task, found.slots, found.episodes, found.seed) == ({"length": 5}, 20, 7, 3)
    assert RunDir.open(run).evaluations() == [found]
    assert ntm.evaluate(run, task={"length": 5}, slots=20, episodes=7, seed=3) == found
    with pytest.raises(ntm.NTMError, match=r"task\.lenght: no such key; did you mean length"):
        ntm.evaluate(run, lenght=5)


def test_means_by_condition_are_means_over_episodes(run: ntm.Run) -> None:
    model = ntm.load(run)
    scores = evaluate(model, model.config.task, 30)
    found = ntm.evaluate(run, episodes=30)
    assert found.condition_names() == ["length"]
    for row in found.by_condition("length"):
        mine = scores.conditions["length"] == row["length"]
        assert row["episodes"] == mine.sum()
        assert row["bits"] == pytest.approx(scores.bits[mine].mean().item())
        wrong = (scores.bit_errors[mine] > 0).double().mean().item()
        assert row["sequence_accuracy"] == pytest.approx(1 - wrong)
    two = [
        {"a": 1, "b": 4, "episodes": 3, "bits": 2.0, "floor": 0, "bit_errors": 0,
         "sequence_accuracy": 1.0},
        {"a": 1, "b": 5, "episodes": 1, "bits": 6.0, "floor": 0, "bit_errors": 4,
         "sequence_accuracy": 0.0},
        {"a": 2, "b": 5, "episodes": 2, "bits": 7.0, "floor": 1, "bit_errors": 5,
         "sequence_accuracy": 0.5},
    ]  # fmt: skip
    both = dataclasses.replace(found, conditions=two)
    assert both.condition_names() == ["a", "b"]
    assert [tuple(row.values()) for row in both.by_condition("a")] == [
        (1, 4, 3.0, 0, 1, 0.75),
        (2, 2, 7.0, 1, 5, 0.5),
    ]


def test_a_run_is_plotted_as_by_the_command_line(run: ntm.Run) -> None:
    drawn = ntm.plot(run, length=4, slots=12, explore=True)
    plots = run.path / "plots"
    assert drawn == [
        plots / "learning_curve.png", plots / "memory-length-4-slots-12.png",
        run.path / "trace.npz", plots / "explorer-length-4-slots-12.html",
    ]  # fmt: skip
    assert all(path.exists() for path in drawn)
    words = ("--set", "task.length=4", "--slots", 12, "--explore")
    assert command_line("plot", run.path, *words).stdout.split() == [str(path) for path in drawn]
    with pytest.raises(ntm.NTMError, match="no snapshots were kept"):
        ntm.plot(run, learning=True)


def test_a_trace_of_a_run_is_the_one_that_is_plotted(run: ntm.Run) -> None:
    ntm.plot(run, length=4, slots=12, seed=2)
    plotted = ntm.Trace.load(run.path / "trace.npz")
    found = ntm.trace(run, length=4, slots=12, seed=2)
    assert np.array_equal(found.outputs, plotted.outputs)
    again = ntm.trace(ntm.load(run), length=4, slots=12, seed=2)
    assert np.array_equal(again.outputs, plotted.outputs)
    with pytest.raises(UsageError, match="episode: is missing"):
        ntm.trace(ntm.NTM(3, 2))


@pytest.mark.system
def test_a_sweep_gives_its_runs_and_its_report(folder: Path) -> None:
    given = {"train.sequences": 20}
    found = ntm.sweep(
        "small.yaml", seeds=1, grid={"train.batch": [1, 2]}, settings=given, workers=2, out="many",
        progress=False,
    )  # fmt: skip
    assert (found.total, found.before, found.left, found.failed) == (2, 0, 0, {})
    assert {run.config.train.batch for run in found.done} == {1, 2}
    assert found.report is not None
    assert [path.name for path in found.report.files] == ["report.html", "report.md", "results.csv"]
    broken = Path("many/broken")
    broken.mkdir()
    (broken / "config.yaml").write_text("[")
    made = ntm.report(["many"], out="page")
    assert all(path.parent == Path("page") for path in made.files)
    assert [trouble.path for trouble in made.left_out] == [broken]
    with pytest.raises(UsageError, match="should be local or ray"):
        ntm.sweep("small.yaml", executor="warp")


def test_the_papers_figures_name_the_runs_that_are_missing(folder: Path) -> None:
    found = ntm.reproduce(["fig16", "table3", "fig4"], out="paper")
    assert found.files == [Path("paper") / n for n in ("fig16.png", "table3.md", "figures.md")]
    assert found.tables["table3"] in Path("paper/table3.md").read_text()
    assert (found.not_drawn, found.missing) == (
        ["fig4"],
        ["fig4: not drawn: ntm train copy/ntm-lstm"],
    )


def test_only_charlm_writes(run: ntm.Run) -> None:
    with pytest.raises(UsageError, match="only a model of charlm writes text"):
        ntm.sample(run, 5)


def test_the_engines_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("copy/gru", {"length": [2, 2]}, 3)
    monkeypatch.setattr("ntm.analysis.bench.GRID", [case])
    found = ntm.bench(repeats=1, threads=1, progress=False)
    assert found.about["threads"] == 1
    assert [(row.config, row.batch, row.steps) for row in found.rows] == [("copy/gru", 3, 5)]


def test_kinds_are_those_that_configs_can_name() -> None:
    found = ntm.kinds()
    assert {"copy", "ngram"} <= set(found.tasks)
    assert {"lstm", "feedforward"} <= set(found.controllers)
    assert found.configs["copy/ntm-lstm"].endswith(".")
    assert "compare/copy" in found.families


@pytest.mark.parametrize("name", ["configs", "controllers", "tasks"])
@pytest.mark.parametrize("kind", ["package", "module"])
def test_a_folder_that_is_in_the_way_is_named_in_one_line(
    name: str, kind: str, tmp_path: Path
) -> None:
    place = tmp_path / name if kind == "package" else tmp_path / f"{name}.py"
    if kind == "package":
        place.mkdir()
        (place / "__init__.py").write_text("")
    else:
        place.write_text("")
    for words in (["-c", "import ntm; ntm.train"], ["-m", "ntm", "list"]):
        done = subprocess.run(
            [sys.executable, *words], check=False, cwd=tmp_path, capture_output=True, text=True
        )
        last = done.stderr.splitlines()[-1]
        assert f"{place}: is in the way of this program's own package {name}" in last
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
