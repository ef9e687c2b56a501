"""What people are used to: help, completion, home folders, 1e5, trackers, what to do next."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import ntm as suite
from configs import shipped_configs
from ntm.completion import runs
from ntm.runs.folder import RunDir
from ntm.runs.models import find_device
from tests.small import small_config
from tests.tasks import grammar
from tests.terminal import RUN, SMALL, Terminal


def test_help_and_version_are_where_they_are_looked_for(ntm: Terminal) -> None:
    for words in ([], ["train"], ["evaluate"], ["sweep"]):
        short, long = ntm(*words, "-h"), ntm(*words, "--help")
        assert (short.code, short.out) == (0, long.out)
        assert "Usage:" in short.out
    version = ntm("--version")
    assert version.code == 0
    assert version.out.startswith("ntm-suite ")
    assert version.out.strip().split()[1][0].isdigit()


Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(ntm: Terminal, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """What bash offers for a line, at its end."""

    def offered(line: str) -> list[str]:
        words = shlex.split(line)
        monkeypatch.setattr(sys.modules["__main__"], "__package__", None, raising=False)
        monkeypatch.setenv("_NTM_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - (not line.endswith(" "))))
        return ntm().out.split()

    return offered


def test_the_shell_completes_commands_configs_and_runs(complete: Complete) -> None:
    assert complete("ntm tr") == ["train"]
    assert complete("ntm train copy/ntm-l") == ["copy/ntm-lstm"]
    assert complete("ntm train sm") == ["small.yaml"]
    assert complete("ntm train ") == [*shipped_configs(), "small.yaml"]
    lstms = complete("ntm train compare/copy:lst")
    assert {"compare/copy:lstm", "compare/copy:lstm-2"} < set(lstms)
    assert all(name.startswith("compare/copy:lst") for name in lstms)
    assert complete("ntm sweep copy/ntm-lstm compare/c") == ["compare/copy"]
    assert complete("ntm sweep study/copy_") == ["study/copy_ablations"]
    for run in ("runs/copy/small/seed-1", "runs/copy/small/seed-2", "elsewhere/one"):
        Path(run).mkdir(parents=True)
        Path(run, "config.yaml").write_text(SMALL)
    assert complete("ntm evaluate ") == ["runs/copy/small/seed-1", "runs/copy/small/seed-2"]
    assert complete("ntm plot else") == ["elsewhere/one"]
    assert complete("ntm train copy/ntm-lstm --run runs/copy/small/seed-2") == [
        "runs/copy/small/seed-2"
    ]
    assert complete("ntm report runs/x") == []
    Path("[a]").mkdir()
    Path("[a]/config.yaml").write_text(SMALL)
    assert runs("[") == ["[a]"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "a home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("USERPROFILE", str(path))
    return path


def test_a_tilde_is_the_home_folder_wherever_a_path_is_given(ntm: Terminal, home: Path) -> None:
    (home / "my.yaml").write_text(SMALL)
    assert ntm("train", "~/my.yaml", "--run", "~/run", "--quiet").code == 0
    assert (home / "run" / "checkpoint" / "last.safetensors").exists()
    assert ntm("evaluate", "~/run", "--episodes", 2).code == 0
    assert ntm("report", "~/run", "--out", "~/report").code == 0
    assert (home / "report" / "report.md").exists()
    assert ntm("reproduce", "table3", "--runs", "~/run", "--out", "~/figures").code == 0
    assert (home / "figures" / "table3.md").exists()
    assert suite.train("~/my.yaml", run="~/other", progress=False).path == home / "other"
    assert suite.load("~/other").task.kind == "copy"
    suite.train("~/my.yaml", run="~/many/copy/my/seed-1", progress=False)
    with pytest.raises(suite.NTMError, match="holds a run in which"):
        suite.sweep("~/my.yaml", out="~/many", settings={"train.batch": 2}, progress=False)
    suite.trace("~/run").save("~/trace.npz")
    assert suite.Trace.load("~/trace.npz").inputs.size
    assert not list(Path.cwd().glob("*~*"))


def test_a_tilde_in_a_config_is_the_home_folder(ntm: Terminal, home: Path) -> None:
    grammar.write(home / "text")
    done = ntm(
        "train", "charlm/gru", "--set", "task.path=~/text", "--set", "train.sequences=2",
        "--set", "validation.episodes=1", "--set", "model.controller.size=5", "--run", "r",
        "--quiet",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert RunDir.open("r").config().task.path == "~/text"  # type: ignore[attr-defined]
    missing = ntm("train", "charlm/gru", "--set", "task.path=~/texts")
    assert missing.code == 2
    assert str(home / "texts") in missing.err


def test_whole_numbers_may_be_written_with_an_exponent(ntm: Terminal) -> None:
    Path("small.yaml").write_text(SMALL.replace("sequences: 40", "sequences: 4e1"))
    ntm("train", "small.yaml", "--quiet", "--set", "train.report_every=1e1", "--set", "seed=2.0")
    config = RunDir.open("runs/copy/small/seed-2").config()
    assert (config.train.sequences, config.train.report_every) == (40, 10)
    assert isinstance(config.train.sequences, int)
    given = {"train.sequences": 1e1, "task.length": [1.0, 2e0], "train.optimizer.lr": 1.0}
    run = suite.train("small.yaml", run="r", settings=given, progress=False)
    assert run.sequences == 10
    assert run.config.train.optimizer.lr == 1.0
    for wrong in ("1.5", "1e-1", "1e300", ".inf", "1e400"):
        refused = ntm("train", "small.yaml", "--set", f"train.sequences={wrong}")
        assert refused.code == 2
        assert "train.sequences: should be" in refused.err


def test_training_ends_with_what_can_be_done_next(ntm: Terminal) -> None:
    """Lines to copy, that a shell takes as they are, whatever the folder is called."""
    odd = 'it\'s a $HOME "run" ümlaut'
    for run in (None, odd):
        words = [] if run is None else ["--run", run]
        lines = ntm("train", "small.yaml", *words).err.splitlines()
        commands = [shlex.split(line) for line in lines[lines.index("next:") + 1 :]]
        assert [words[:2] for words in commands] == [
            ["ntm", "evaluate"],
            ["ntm", "plot"],
            ["ntm", "report"],
        ]
        for _, command, folder in commands:
            assert folder == str(run or RUN)
            assert run is None or ntm(command, folder).code == 0
    assert "next:" not in ntm("train", "small.yaml", "--quiet", "--run", "q").err


def test_a_device_that_is_not_there_is_answered_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small_config()

    def computer(gpus: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    computer(2, False)
    for name in ("cuda", "cuda:0", "cuda:1", "cpu"):
        assert find_device(name, config) == torch.device(name)
    for name in ("cuda:2", "mps"):
        with pytest.raises(suite.NTMError, match=f"{name}: .* here, only cpu, cuda:0, cuda:1$"):
            find_device(name, config)
    computer(0, True)
    assert find_device("mps", config) == torch.device("mps")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(suite.NTMError, match=f"{name}: .* here, only cpu, mps$"):
            find_device(name, config)
    computer(0, False)
    for name in ("tpu", "cuda:", "cuda:x", "cuda:-1", "cpu:1", "CUDA", "", "cuda:0\n"):
        with pytest.raises(suite.NTMError, match="should be auto, cpu, cuda, cuda:N or mps"):
            find_device(name, config)


class Tracker:
    """What an experiment tracker has: metrics by name and step."""

    def __init__(self) -> None:
        self.logged: dict[str, list[int]] = {}

    def reported(self, row: dict[str, float]) -> None:
        self.log("train", row)

    def validated(self, row: dict[str, float]) -> None:
        self.log("validation", row)

    def log(self, group: str, row: dict[str, float]) -> None:
        step = int(row.pop("sequences"))  # the row is its own
        for name in row:
            self.logged.setdefault(f"{group}/{name}", []).append(step)


@pytest.mark.parametrize("tensorboard", [False, True])
def test_a_tracker_is_shown_every_row(ntm: Terminal, tensorboard: bool) -> None:
    if tensorboard:
        pytest.importorskip("tensorboard")
    tracker = Tracker()
    assert isinstance(tracker, suite.Watcher)
    run = suite.train("small.yaml", watcher=tracker, tensorboard=tensorboard, progress=False)
    files = RunDir.open(run)
    for group, file in (("train", files.metrics_file), ("validation", files.validation_file)):
        rows = files.rows(file)
        assert {name for name in tracker.logged if name.startswith(group)} == {
            f"{group}/{name}" for name in rows[0] if name != "sequences"
        }
        assert tracker.logged[f"{group}/bits"] == [row["sequences"] for row in rows]


def test_what_is_no_tracker_is_refused_before_anything_is_made(ntm: Terminal) -> None:
    for wrong in (print, object(), {"reported": print}):
        with pytest.raises(suite.NTMError, match="watcher: should have the methods reported"):
            suite.train("small.yaml", watcher=wrong)  # type: ignore[arg-type]
    assert not Path("runs").exists()


def test_python_runs_it_as_a_module(ntm: Terminal) -> None:
    command = [sys.executable, "-m", "ntm", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ntm("--version").out
