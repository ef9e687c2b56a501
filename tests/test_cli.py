from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from configs import shipped_studies
from controllers import CONTROLLERS
from ntm import reproduction as reproduce
from ntm.runs.folder import RunDir
from tasks import TASKS
from tests.small import edit_manifest
from tests.tasks import grammar
from tests.terminal import RUN, SMALL, Terminal


def test_list_shows_tasks_controllers_and_configs(ntm: Terminal) -> None:
    lines = ntm("list").out.splitlines()
    assert lines[0] == f"tasks: {', '.join(sorted(TASKS))}"
    assert lines[1] == f"controllers: {', '.join(sorted(CONTROLLERS))}"
    (recipe,) = (line for line in lines if line.startswith("  copy/ntm-lstm "))
    assert recipe.endswith("the paper's machine and optimiser.")
    families = lines.index("families of models, for ntm sweep NAME; one of them is NAME:MODEL:")
    studies = lines.index("studies of many seeds, for ntm sweep NAME:")
    assert [line.split()[0] for line in lines[families + 1 : studies]] == [
        "compare/autocomplete",
        "compare/copy",
        "compare/recall",
    ]
    assert [line.split()[0] for line in lines[studies + 1 :]] == shipped_studies()


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"torch", "numba", "matplotlib"}),
        (["train", "--help"], {"torch", "numba", "matplotlib"}),
        (["list"], {"torch", "numba", "matplotlib"}),
    ],
)
def test_what_computes_nothing_imports_nothing_heavy(arguments: list[str], heavy: set[str]) -> None:
    code = (
        f"import sys; sys.argv = ['ntm', *{arguments}]\n"
        "from ntm.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"assert not {heavy} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_from_config_to_pictures(ntm: Terminal) -> None:
    trained = ntm("train", "small.yaml")
    assert trained.code == 0
    assert trained.out == ""
    assert "budget used up, not solved, after 40 sequences" in trained.err
    assert str(RUN) in trained.err
    run = RunDir.open(RUN)
    assert run.manifest()["status"] == "budget"
    assert len(run.rows(run.metrics_file)) == 8
    assert len(run.rows(run.validation_file)) == 4

    scored = ntm("evaluate", RUN, "--episodes", 30)
    assert scored.code == 0
    assert f"{RUN} (budget), weights of " in scored.out.splitlines()[0]
    assert " sequences, 9 slots" in scored.out.splitlines()[0]
    assert all(f"length {n}" in scored.out for n in (1, 2, 3))

    drawn = ntm("plot", RUN, "--slots", 12, "--explore", "--animate")
    assert drawn.code == 0
    paths = drawn.out.split()
    assert paths == [
        f"{RUN}/plots/learning_curve.png", f"{RUN}/plots/memory-length-3-slots-12.png",
        f"{RUN}/trace.npz", f"{RUN}/plots/explorer-length-3-slots-12.html",
        f"{RUN}/plots/episode-length-3-slots-12.gif",
    ]  # fmt: skip
    assert all(Path(p).stat().st_size > 1000 for p in paths)


def test_figures_that_need_no_run_are_drawn_and_others_say_what_they_need(ntm: Terminal) -> None:
    drawn = ntm("reproduce", "fig16", "table3", "fig4", "--out", "paper")
    assert drawn.code == 1
    assert drawn.err == "fig4: not drawn: ntm train copy/ntm-lstm\n"
    assert "| associative recall | 3 x 256 | 1e-4 | 1,344,518 | 1,344,518 |" in drawn.out
    assert Path("paper/fig16.png").stat().st_size > 10_000
    page = Path("paper/figures.md").read_text()
    assert "![An example of priority sort](fig16.png)" in page
    assert Path("paper/table3.md").read_text() in page
    assert not Path("paper/fig4.png").exists()
    wrong = ntm("reproduce", "fig2")
    assert (wrong.code, wrong.err) == (
        2,
        "ntm: fig2: should be fig3 to fig18, table1 to table3, or all\n",
    )
    assert ntm("reproduce", "fig16", "--runs", "nowhere").code == 2


def test_small_versions_are_trained_once(ntm: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = ["task.length=[1,2]", "task.width=3", "model.controller.size=4", "train.sequences=20",
            "validation={every: 20, episodes: 2}"]  # fmt: skip
    monkeypatch.setitem(reproduce.QUICK, "copy", (tiny, 30))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    drawn = ntm("reproduce", "fig6", "--quick")
    assert drawn.code == 0
    assert drawn.out.split() == ["figures/fig6.png", "figures/figures.md"]
    run = RunDir.open("runs/quick/copy/ntm-lstm")
    assert run.manifest()["status"] in ("solved", "budget")
    before = run.manifest_file.stat().st_mtime_ns
    assert ntm("reproduce", "fig4", "--quick").code == 0
    assert run.manifest_file.stat().st_mtime_ns == before
    page = Path("figures/figures.md").read_text()  # what was drawn before is still on it
    assert page.index("## Figure 4, in small.") < page.index("## Figure 6, in small.")
    assert page.count("## Figure") == 2
    assert ntm("reproduce", "fig4", "--quick", "--runs", "runs").code == 2
    # A small version is not taken for the paper's task; one that has begun can be gone on with.
    assert "ntm train copy/ntm-lstm\n" in ntm("reproduce", "fig6").err
    ntm("train", "copy/ntm-lstm", "--set", "train.sequences=1", "--set", "validation.episodes=1")
    edit_manifest(RunDir("runs/copy/ntm-lstm/seed-1"), status="interrupted")
    said = ntm("reproduce", "fig6").err
    assert "left out: runs/copy/ntm-lstm/seed-1: has not ended" in said
    assert "ntm train copy/ntm-lstm --resume" in said


def test_learning_is_drawn_of_a_run_that_kept_snapshots(ntm: Terminal) -> None:
    ntm("train", "small.yaml", "--quiet")
    refused = ntm("plot", RUN, "--learning")
    assert refused.code == 1
    assert refused.err == (
        f"ntm: {RUN}: no snapshots were kept; ntm train --set train.snapshots=24 keeps some\n"
    )
    ntm("train", "small.yaml", "--quiet", "--set", "train.snapshots=3", "--run", "kept")
    drawn = ntm("plot", "kept", "--learning")
    assert drawn.code == 0
    assert drawn.out.split()[-1] == "kept/plots/learning-length-3.gif"
    assert Path("kept/plots/learning-length-3.gif").stat().st_size > 1000


@pytest.mark.system
def test_a_sweep_runs_what_is_missing_and_reports(
    ntm: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    first = ntm("sweep", "small.yaml", "--seeds", 2, "--workers", 2, "--out", "many")
    assert first.code == 0
    lines = first.err.splitlines()
    assert {f"done: many/copy/small/seed-{n}" for n in (1, 2)} < set(lines)
    assert lines[-1] == "2 of 2 runs done (0 of them before)"
    assert first.out.split() == [
        "many/report/report.html", "many/report/report.md", "many/report/results.csv",
    ]  # fmt: skip
    # More is asked of the same sweep; one of the new runs cannot succeed.
    words = ("--grid", "train.optimizer.lr=1e-3,1e6", "--set", "train.sequences=400")
    more = ntm("sweep", "small.yaml", "--retries", 0, *words, "--out", "many")
    assert more.code == 1
    assert "1 of 2 runs done (0 of them before), 1 failed" in more.err
    assert "failed: many/copy/small/lr=1e6/seed-1: the " in more.err
    assert ntm("sweep", "small.yaml", "--grid", "train.batch").code == 2


@pytest.mark.system
def test_a_family_is_swept_and_one_of_it_is_trained(
    ntm: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    family = SMALL.replace(
        "model:\n  controller: {kind: gru, size: 7}\n  memory: {slots: 9, width: 5}\n",
        "parameters: 300\nmodels:\n  relu: {controller: {kind: rnn, nonlinearity: relu}}\n"
        "  gru-2: {controller: {kind: gru, layers: 2}}\n",
    )
    Path("family.yaml").write_text(family)
    larger = ("--set", "parameters=500", "--set", "train.sequences=20")
    swept = ntm("sweep", "family.yaml", "--out", "many", *larger)
    assert swept.code == 0
    folders = [Path(f"many/copy/{name}/seed-1") for name in ("relu", "gru-2")]
    counts = [RunDir.open(folder).manifest()["parameters"] for folder in folders]
    assert all(400 < count <= 500 for count in counts)
    assert "(nonlinearity relu)" in Path("many/report/report.md").read_text()
    # A run's own config has no budget any more, and still it is gone on with.
    longer = (*larger, "--set", "train.sequences=30")
    assert ntm("sweep", "family.yaml", "--out", "many", *longer).code == 0
    assert [RunDir.open(folder).manifest()["sequences"] for folder in folders] == [30, 30]
    assert ntm("train", "family.yaml:relu").code == 0
    assert RunDir.open("runs/copy/family-relu/seed-1").manifest()["parameters"] <= 300


def test_runs_are_reported_and_what_is_broken_is_named(ntm: Terminal) -> None:
    for seed in (1, 2):
        ntm("train", "small.yaml", "--quiet", "--seed", seed)
    broken = Path("runs/copy/broken")
    broken.mkdir()
    (broken / "config.yaml").write_text("[")
    reported = ntm("report", "runs")
    assert reported.code == 0
    assert reported.out.split() == ["report/report.html", "report/report.md", "report/results.csv"]
    assert f"left out: {broken}: is not valid YAML" in reported.err.replace("config.yaml: ", "")
    assert "NTM with " in Path("report/report.md").read_text()
    assert Path("report/figures/copy-memory-0.svg").exists()

    nothing = ntm("report", broken)
    assert nothing.code == 1
    assert "no run that has ended" in nothing.err
    assert ntm("report", "nowhere").code == 2


def test_training_shows_in_tensorboard_once_for_each_step(
    ntm: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ntm("train", "small.yaml", "--quiet", "--tensorboard", "--set", "train.sequences=20")
    further = ("--resume", "--set", "train.sequences=40")
    ntm("train", "small.yaml", "--quiet", "--tensorboard", *further)
    events = EventAccumulator(str(RUN / "tensorboard"))
    events.Reload()
    run = RunDir.open(RUN)
    for group, file in (("training", run.metrics_file), ("validation", run.validation_file)):
        found = {event.step: event.value for event in events.Scalars(f"{group}/bits")}
        expected = {row["sequences"]: row["bits"] for row in run.rows(file)}
        assert found == pytest.approx(expected, rel=1e-5)
    pictures = events.Images("memory")
    assert pictures
    assert max(p.step for p in pictures) == run.load_best().state["sequences"]

    monkeypatch.setattr("ntm.views.tensorboard.find_spec", lambda name: None)
    missing = ntm("train", "small.yaml", "--tensorboard", "--run", "other")
    assert missing.code == 2
    assert "pip install 'ntm-suite[tensorboard]'" in missing.err
    assert not Path("other").exists()


def test_json_is_one_object_and_nothing_else(ntm: Terminal) -> None:
    ntm("train", "small.yaml", "--quiet")
    scored = ntm(
        "evaluate", RUN, "--set", "task.length=5", "--slots", 20, "--episodes", 7, "--json"
    )
    data = json.loads(scored.out)
    assert set(data) == {
        "episodes", "bits", "floor", "bit_errors", "sequence_accuracy", "slots", "conditions"
    }  # fmt: skip
    assert data["episodes"] == 7
    assert data["slots"] == 20
    assert data["conditions"][0]["length"] == 5
    assert math.isclose(data["conditions"][0]["bits"], data["bits"])


def small_text(kind: str, **task: object) -> str:
    """A config of a task on text, which stands in the folder."""
    grammar.write(Path("text"))
    block = json.dumps({"kind": kind, "path": "text", "length": 25, **task})
    return SMALL.replace("{kind: copy, width: 3, length: [1, 3]}", block).replace(
        ", task: {length: 3}", ""
    )


def test_a_text_is_learned_scored_drawn_and_gone_on_with(ntm: Terminal) -> None:
    Path("small.yaml").write_text(small_text("charlm"))
    run = Path("runs/charlm/small/seed-1")
    trained = ntm("train", "small.yaml")
    assert trained.code == 0
    assert " bits per character\n" in trained.err
    scored = ntm("evaluate", run, "--episodes", 5)
    assert "bits per character" in scored.out.splitlines()[0]
    assert "accuracy: " in scored.out
    drawn = ntm("plot", run, "--explore", "--animate")
    assert drawn.code == 0
    assert f"{run}/plots/memory-length-25.png" in drawn.out.split()

    Path("text").unlink()  # which writing does not need
    first = ntm("sample", run, "--length", 30, "--prompt", "The", "--seed", 2, "--slots", 12)
    assert first.code == 0
    assert first.out.startswith("the")
    assert len(first.out) == 3 + 30 + 1
    again = ntm("sample", run, "--length", 30, "--prompt", "The", "--seed", 2, "--slots", 12)
    assert again == first
    for wrong, message in (
        (["--temperature", -1], "the temperature should be a number from 0 up, not -1"),
        (["--temperature", "nan"], "the temperature should be a number from 0 up, not nan"),
    ):
        refused = ntm("sample", run, *wrong)
        assert (refused.code, refused.err) == (2, f"ntm: {message}\n")
    # A report reads runs whose text is elsewhere; what needs the text says so in a line.
    reported = ntm("report", run)
    assert reported.code == 0
    assert "no picture of its memory: task.path: 'text': No such file" in reported.err
    for words in (["train", "small.yaml", "--run", "other"], ["evaluate", run], ["plot", run],
                  ["train", "small.yaml", "--resume"]):  # fmt: skip
        refused = ntm(*words)
        assert refused.code == 2
        assert refused.err.startswith("ntm: task.path: 'text': No such file or directory; any ")
        assert "http://mattmahoney.net/dc/text8.zip" in refused.err
        assert refused.err.count("\n") == 1
    assert RunDir.open(run).manifest()["status"] == "budget"
    assert not Path("other").exists()


def test_only_charlm_writes(ntm: Terminal) -> None:
    ntm("train", "small.yaml", "--quiet")
    refused = ntm("sample", RUN)
    assert (refused.code, refused.err) == (
        2, "ntm: only a model of charlm writes text, and this one is of copy\n",
    )  # fmt: skip


def test_right_answers_by_characters_seen(ntm: Terminal) -> None:
    Path("small.yaml").write_text(small_text("autocomplete", words=5))
    run = Path("runs/autocomplete/small/seed-1")
    ntm("train", "small.yaml", "--quiet")
    assert f"{run}/plots/accuracy.png" not in ntm("plot", run).out.split()
    shown = ntm("evaluate", run, "--episodes", 30)
    assert "seen" in shown.out
    data = json.loads(ntm("evaluate", run, "--episodes", 30, "--json").out)
    assert 0 <= data["accuracy"] <= 1
    assert [row["seen"] for row in data["steps"]] == [0, 1, 2, 3]
    assert set(data["steps"][0]) == {"seen", "scored", "accuracy", "bits"}
    (kept,) = RunDir.open(run).evaluations()
    assert (kept.accuracy, kept.steps) == (data["accuracy"], data["steps"])
    assert f"{run}/plots/accuracy.png" in ntm("plot", run).out.split()
    reported = ntm("report", run)
    assert reported.code == 0
    assert Path("report/figures/autocomplete-accuracy.svg").stat().st_size > 1000
    assert "bits per guess" in Path("report/report.md").read_text()


def test_what_evaluation_finds_is_kept_once_for_each_question(ntm: Terminal) -> None:
    ntm("train", "small.yaml", "--quiet")
    longer = ["evaluate", RUN, "--set", "task.length=5", "--slots", 20, "--episodes", 7]
    found = json.loads(ntm(*longer, "--json").out)
    ntm("evaluate", RUN, "--episodes", 6)
    ntm(*longer)  # again
    kept, other = RunDir.open(RUN).evaluations()
    assert (kept.task, kept.slots, kept.episodes, kept.seed) == ({"length": 5}, 20, 7, 0)
    assert (kept.bits, kept.sequence_accuracy, kept.conditions) == tuple(
        found[name] for name in ("bits", "sequence_accuracy", "conditions")
    )
    assert kept.sequences == RunDir.open(RUN).load_best().state["sequences"]
    assert (other.task, other.slots, other.episodes) == ({}, 9, 6)
    assert {row["length"] for row in other.conditions} <= {1, 2, 3}

    RunDir.open(RUN).evaluations_file.write_text('[{"task": {}}]')
    broken = ntm("evaluate", RUN, "--episodes", 6)
    assert broken.code == 0  # the scores are there all the same
    assert "length 3" in broken.out
    assert "not saved" in broken.err
    assert "evaluations.json: cannot be read" in broken.err


def test_quiet_shows_no_progress_and_lines_stand_in_for_the_bar(ntm: Terminal) -> None:
    assert "5 sequences: " in ntm("train", "small.yaml").err
    assert "5 sequences: " not in ntm("train", "small.yaml", "--seed", 2, "--quiet").err


def test_a_seed_of_its_own_gets_a_folder_of_its_own(ntm: Terminal) -> None:
    ntm("train", "small.yaml", "--seed", 5, "--set", "train.sequences=2")
    assert RunDir.open(RUN.with_name("seed-5")).config().seed == 5
