"""How runs begin: as new ones or resumed ones, with their own weights or another's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import ntm
from ntm.errors import NTMError, RunExistsError, RunLockedError, RunNotFoundError, UsageError
from ntm.runs.folder import RunDir
from ntm.runs.models import new_model
from tests.locks import refuse_locks
from tests.terminal import SMALL, Terminal

RECALL = SMALL.replace("copy, width: 3, length: [1, 3]", "associative_recall, items: [2, 3]")
RECALL = RECALL.replace("task: {length: 3}", "task: {items: 3}")


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)
    Path("recall.yaml").write_text(RECALL)
    caplog.set_level(logging.INFO, logger="ntm")
    return tmp_path


def train(config: str | None = "small.yaml", **options: Any) -> ntm.Run:
    return ntm.train(config, engine="reference", progress=False, **options)


def files() -> set[str]:
    return {p.as_posix() for p in Path().rglob("*")}


# Resuming


def test_the_same_line_starts_a_run_and_goes_on_with_it(ntm: Terminal) -> None:
    line = ("train", "small.yaml", "--resume", "--run", "a/run", "--engine", "reference")
    first = ntm(*line)
    assert first.code == 0
    assert "a/run: no run here yet, so one begins" in first.err
    assert "resumed" not in RunDir("a/run").manifest()
    second = ntm(*line, "--set", "train.sequences=60")
    assert second.code == 0
    assert "no run here" not in second.err
    assert RunDir("a/run").manifest()["sequences"] == 60
    assert len(RunDir("a/run").manifest()["resumed"]) == 1


def test_a_run_resumes_by_its_folder_alone(ntm: Terminal) -> None:
    assert ntm("train", "small.yaml", "--run", "run", "--set", "train.batch=2").code == 0
    Path("small.yaml").unlink()
    lr = ("--set", "train.optimizer.lr=2e-3", "--set", "train.sequences=60")
    longer = ntm("train", "--resume", "--run", "run", *lr)
    assert longer.code == 0, longer.err
    run = RunDir("run")
    assert (run.config().train.batch, run.config().train.optimizer.lr) == (2, 2e-3)
    (entry,) = run.manifest()["resumed"]
    assert entry["changed"]["train.optimizer.lr"] == [1e-3, 2e-3]
    assert entry["command"].startswith("ntm train --set train.optimizer.lr=2e-3")
    before = files()
    for words, problem in (
        (["--run", "run"], "Missing argument CONFIG"),
        (["--resume"], "Missing argument CONFIG"),
        (["--resume", "--run", "nowhere"], "nowhere: no run here"),
        (["--resume", "--run", "run", "--set", "train.batch=4"], "train.batch is 2 there and 4"),
    ):
        refused = ntm("train", *words)
        assert refused.code == 2
        assert problem in refused.err
        assert refused.err.count("\n") == 1
    assert files() == before


def test_resume_does_not_begin_among_files_of_somebody_else() -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("notes")
    with pytest.raises(UsageError, match="is not empty and holds no run"):
        train(run="mine", resume=True)
    assert [p.name for p in Path("mine").iterdir()] == ["notes.txt"]


# Locks


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EPERM", "EIO", "EINVAL"])
def test_a_file_system_without_locks_is_one_line_and_trains(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = refuse_locks(monkeypatch, name)
    assert train(run="run").status in ("solved", "budget")
    (said,) = [r.getMessage() for r in caplog.records if "locked" in r.getMessage()]
    assert said == f"run: cannot be locked ({text}); make sure that no other process trains here"


def test_an_error_within_a_lock_is_not_one_of_writing() -> None:
    with pytest.raises(BrokenPipeError), RunDir("run").lock():
        raise BrokenPipeError("Broken pipe")


# A start that fails


@pytest.mark.parametrize("call", ["write_file", "Manifest.started"])
@pytest.mark.parametrize("where", ["run", "a/b/run", "empty"])
def test_a_start_that_fails_leaves_nothing_behind(
    call: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("empty").mkdir()
    before = files()

    def refuse(*_: Any) -> None:
        raise NTMError("No space left on device")

    place = "folder.write_file" if call == "write_file" else "manifest.Manifest.started"
    monkeypatch.setattr(f"ntm.runs.{place}", refuse)
    with pytest.raises(NTMError, match="No space left"):
        train(run=where)
    assert files() == before


def test_a_start_in_a_run_that_is_there_changes_nothing() -> None:
    train(run="run")
    before = {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()}
    with pytest.raises(RunExistsError):
        train(run="run")
    with RunDir("run").lock(), pytest.raises(RunLockedError):
        train(run="run", resume=True)
    assert {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()} == before


# Weights of another run


def initial(run: ntm.Run) -> dict[str, torch.Tensor]:
    return RunDir(run.path).load_snapshot(0).weights


FIRST = {"train.snapshots": 4, "train.sequences": 10}


def test_all_weights_of_a_run_of_the_same_shape_are_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = train(run="source")
    run = train(run="run", seed=7, init=source, settings=FIRST)
    best = RunDir("source").load_best().weights
    assert all(torch.equal(tensor, best[name]) for name, tensor in initial(run).items())
    (said,) = [r.getMessage() for r in caplog.records if "weights of source" in r.getMessage()]
    assert all(name in said for name in best)
    assert "drawn anew" not in said
    assert run.config.train.init == "source"


def test_what_does_not_fit_is_drawn_as_usual(caplog: pytest.LogCaptureFixture) -> None:
    """Copy's memory for recall: its inputs and outputs have other sizes."""
    train(run="source")
    run = train("recall.yaml", run="run", seed=7, init="source", settings=FIRST)
    best, drawn = RunDir("source").load_best().weights, new_model(run.config).state_dict()
    taken = {name for name, t in best.items() if name in drawn and drawn[name].shape == t.shape}
    assert 0 < len(taken) < len(drawn)
    for name, tensor in initial(run).items():
        assert torch.equal(tensor, (best if name in taken else drawn)[name])
    (said,) = [r.getMessage() for r in caplog.records if "weights of source" in r.getMessage()]
    kept, _, anew = said.partition("drawn anew")
    assert all(name in kept for name in taken)
    assert all(name in anew for name in drawn.keys() - taken)


def test_a_run_that_begins_with_weights_resumes_without_them() -> None:
    train(run="source")
    train(run="run", init="source")
    Path("source").rename("moved")
    longer = train(run="run", init="source", settings={"train.sequences": 60}, resume=True)
    assert longer.sequences == 60


def test_weights_that_cannot_be_taken_are_refused_in_one_line(ntm: Terminal) -> None:
    other = ("model.controller.size=8", "model.memory.width=4", "task.width=4")
    words = [word for setting in other for word in ("--set", setting)]
    assert ntm("train", "small.yaml", "--run", "source", *words).code == 0
    before = files()
    (Path("source") / "checkpoint" / "best.safetensors").rename("kept")
    for source, problem in (
        ("source", "train.init: source: none of its weights has the name and the shape"),
        ("nowhere", "train.init: nowhere: no run here"),
    ):
        refused = ntm("train", "small.yaml", "--init", source, "--run", "run")
        assert refused.code == 2
        assert problem in refused.err
        assert refused.err.count("\n") == 1
    Path("kept").rename(Path("source") / "checkpoint" / "best.safetensors")
    assert files() == before


def test_without_a_config_only_a_run_that_is_there_can_be_resumed() -> None:
    with pytest.raises(RunNotFoundError):
        train(None, run="nowhere", resume=True)
    with pytest.raises(UsageError, match="Missing argument CONFIG"):
        train(None)
    assert files() == {"small.yaml", "recall.yaml"}
