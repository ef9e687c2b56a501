from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from ntm.errors import NTMError, UsageError
from ntm.files import write_file
from ntm.runs.folder import Checkpoint, RunDir
from ntm.runs.status import Status
from tests.small import new_run, small_config


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return new_run(tmp_path / "run", small_config())


CHECKPOINT = Checkpoint(
    weights={"a.b": torch.arange(6.0).view(2, 3), "c": torch.tensor(2.5, dtype=torch.float64)},
    optimizer={"0/n": torch.ones(2), "1/step": torch.tensor(7.0)},
    state={"generator": {"state": 2**127 + 1}, "progress": {"seconds": 0.1}},
)


def test_a_checkpoint_comes_back_as_it_was(run: RunDir) -> None:
    run.save_checkpoint(CHECKPOINT)
    loaded = run.load_checkpoint()
    for one, other in (
        (loaded.weights, CHECKPOINT.weights),
        (loaded.optimizer, CHECKPOINT.optimizer),
    ):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[n], other[n]) and one[n].dtype == other[n].dtype for n in one)
    assert loaded.state == CHECKPOINT.state


def test_the_best_weights_are_the_last_ones_until_there_are_others(run: RunDir) -> None:
    run.save_checkpoint(CHECKPOINT)
    assert run.load_best().weights["c"] == 2.5
    run.save_best({"c": torch.tensor(3.5)}, {})
    assert run.load_best().weights["c"] == 3.5


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "pickle", "foreign", "header"])
def test_a_damaged_or_foreign_checkpoint_is_refused_by_name(run: RunDir, damage: str) -> None:
    run.save_checkpoint(CHECKPOINT)
    data = run.last_file.read_bytes()
    if damage == "empty":
        run.last_file.write_bytes(b"")
    elif damage == "cut":
        run.last_file.write_bytes(data[:-10])
    elif damage == "text":
        run.last_file.write_text("not a checkpoint at all, but long enough to look at")
    elif damage == "pickle":
        torch.save({"a": torch.ones(2)}, run.last_file)
    elif damage == "foreign":
        safetensors.torch.save_file({"a": torch.ones(2)}, run.last_file)
    else:
        run.last_file.write_bytes(b"\xff" * 8 + data[8:])  # a header that claims 2^64 bytes
    with pytest.raises(NTMError) as caught:
        run.load_checkpoint()
    assert str(run.last_file) in str(caught.value)
    assert "checkpoint" in str(caught.value)


def test_a_missing_checkpoint_is_named(run: RunDir) -> None:
    with pytest.raises(NTMError, match=r"last\.safetensors: no checkpoint here"):
        run.load_checkpoint()


def test_nothing_is_overwritten(run: RunDir, tmp_path: Path) -> None:
    before = run.config_file.read_bytes()
    with pytest.raises(UsageError, match="already holds a run"):
        RunDir.create(run.path, small_config(seed=9))
    assert run.config_file.read_bytes() == before
    other = tmp_path / "holiday"
    other.mkdir()
    (other / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(UsageError, match="is not empty and holds no run"):
        RunDir.create(other, small_config())
    assert (other / "photo.jpg").read_bytes() == b"precious"


def test_a_run_that_cannot_be_written_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NTMError, match="cannot be written"):
        RunDir.create(tmp_path / "file" / "run", small_config())


def test_a_file_is_written_whole_or_not_at_all(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(run.manifest_file, "before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NTMError, match=r"manifest\.json: cannot be written: No space left"):
        write_file(run.manifest_file, "after, and longer")
    assert run.manifest_file.read_text() == "before"
    assert not list(run.path.glob(".manifest*"))


def test_rows_come_back_as_numbers_and_a_cut_line_is_left_out(run: RunDir) -> None:
    for n in (10, 20, 30):
        run.append(run.metrics_file, {"sequences": n, "bits": n / 3})
    text = run.metrics_file.read_text()
    run.metrics_file.write_text(text[: text.rindex(",")])
    assert run.rows(run.metrics_file) == [
        {"sequences": 10.0, "bits": 10 / 3},
        {"sequences": 20.0, "bits": 20 / 3},
    ]
    assert run.rows(run.path / "none.csv") == []


def test_rows_after_a_checkpoint_are_dropped(run: RunDir) -> None:
    for n in (10, 20, 30):
        run.append(run.metrics_file, {"sequences": n, "bits": 0.5})
        run.append(run.validation_file, {"sequences": n + 5, "bits": 0.5})
    with run.metrics_file.open("a") as stream:
        stream.write("1")  # cut off
    run.truncate(20)
    assert [row["sequences"] for row in run.rows(run.metrics_file)] == [10, 20]
    assert [row["sequences"] for row in run.rows(run.validation_file)] == [15]
    run.append(run.metrics_file, {"sequences": 25, "bits": 0.5})
    assert run.metrics_file.read_text() == "sequences,bits\n10,0.5\n20,0.5\n25,0.5\n"


def test_the_manifest_says_what_produced_the_run(run: RunDir) -> None:
    manifest = run.manifest()
    assert manifest["parameters"] == sum(manifest["parameters_by_part"].values()) + 5  # r0
    assert manifest["command"] == "ntm train small"
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["seed"] == 1
    run.manifest().ended(Status.SOLVED, 70, 12.345, 99.5)
    ended = {"status": "solved", "sequences": 70, "seconds": 12.3, "peak_memory_mib": 99.5}
    assert run.manifest() == {**manifest, **ended}
    assert json.loads(run.manifest_file.read_text()) == dict(run.manifest())
    assert run.manifest().status is Status.SOLVED
    run.manifest_file.write_text("{")
    with pytest.raises(NTMError, match=r"manifest\.json: cannot be read"):
        run.manifest()


def test_a_run_can_be_moved(run: RunDir, tmp_path: Path) -> None:
    run.save_checkpoint(CHECKPOINT)
    moved = Path(shutil.move(run.path, tmp_path / "elsewhere"))
    assert RunDir.open(moved).load_checkpoint().state == CHECKPOINT.state
    with pytest.raises(UsageError, match="no run here"):
        RunDir.open(run.path)
