"""What only reads a run does not write into it: a reference run, or one of somebody else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from ntm import api
from ntm.errors import NTMError
from ntm.runs.folder import RunDir
from tests.small import edit_manifest
from tests.terminal import SMALL, Terminal

REFERENCE = Path(__file__).parents[1] / "runs" / "reference"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(SMALL) | {"engine": "reference"}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    return api.train("config.yaml", run="run", progress=False).path


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def protect(run: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "reference":
        edit_manifest(RunDir(run), reference=True)
    else:  # the tests may run as root, who may write everywhere
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != run)


@pytest.mark.parametrize("how", ["reference", "not ours"])
def test_a_run_that_should_not_change_is_read_only(
    run: Path, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    protect(run, how, monkeypatch)
    before = content(run)
    assert api.evaluate(run, episodes=3).episodes == 3
    (line,) = caplog.messages
    assert line.startswith("not saved: ")
    assert "--out FOLDER" in line
    caplog.clear()
    written = api.plot(run, explore=True)
    assert {file.parent for file in written} == {Path("plots")}
    assert all(file.is_file() for file in written)
    assert "the pictures go to plots" in caplog.messages[0]
    caplog.clear()
    api.plot(run, out="there/too")
    api.evaluate(run, episodes=3, out="results")
    api.trace(run)
    api.load(run)
    api.report(run)
    assert caplog.messages == []
    assert content(run) == before


def test_out_keeps_results_and_pictures_elsewhere(run: Path) -> None:
    before = content(run)
    found = api.evaluate(run, episodes=3, out="results")
    other = api.evaluate(run, episodes=3, length=2, out="results")
    api.evaluate(run, episodes=3, out="results")  # the same question: replaced
    kept = json.loads(Path("results/evaluations.json").read_text())
    assert [(e["task"], e["bits"]) for e in kept] == [
        ({}, found.bits), ({"length": 2}, other.bits),
    ]  # fmt: skip
    written = api.plot(run, out="pictures")
    assert [file.name for file in written] == [
        "learning_curve.png", "memory-length-3.png", "trace.npz",
    ]  # fmt: skip
    assert {file.parent for file in written} == {Path("pictures")}
    assert content(run) == before
    api.evaluate(run, episodes=3)
    assert [e.bits for e in RunDir.open(run).evaluations()] == [found.bits]


def test_an_out_that_cannot_be_written_is_named(run: Path) -> None:
    Path("file").touch()
    with pytest.raises(NTMError, match=r"^file.*cannot be read: .*Not a directory"):
        api.evaluate(run, episodes=3, out="file")
    with pytest.raises(NTMError, match="cannot be written"):
        api.plot(run, out="file")


def test_the_commands_take_out(run: Path, ntm: Terminal) -> None:
    done = ntm("plot", run, "--out", "pictures")
    assert done.out.splitlines()[0] == str(Path("pictures/learning_curve.png"))
    assert ntm("evaluate", run, "--episodes", 3, "--out", "results").code == 0
    assert Path("results/evaluations.json").is_file()


def test_every_shipped_run_is_a_reference_run() -> None:
    manifests = sorted(REFERENCE.rglob("manifest.json"))
    assert manifests
    for file in manifests:
        assert "reference run" in (RunDir.open(file.parent).obstacle() or "")
