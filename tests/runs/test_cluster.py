from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from ntm.analysis.results import find_runs, read_results
from ntm.errors import UsageError
from ntm.runs import cluster
from ntm.runs.cluster import RayExecutor, pack, run_here, unpack
from ntm.runs.folder import RunDir
from tests.small import Watch, new_run, small_config, train
from tests.training.common import CPU

ROOT = Path(__file__).parents[2]
CONFIG = """
task: {kind: copy, width: 3, length: [1, 4]}
model:
  controller: {kind: gru, size: 7}
  memory: {slots: 9, width: 5}
train: {optimizer: {kind: adam, lr: 1e-3}, sequences: 3000, checkpoint_every: 200}
validation: {every: 500, episodes: 3}
"""


@pytest.mark.system
def test_a_sweep_on_two_nodes_survives_the_death_of_one(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray, an optional extra, is not installed")
    (tmp_path / "small.yaml").write_text(CONFIG)
    script, out = ROOT / "tests" / "runs" / "two_nodes.py", tmp_path / "out"
    done = subprocess.run(
        [sys.executable, script, tmp_path / "small.yaml", out], check=False, capture_output=True,
        text=True, timeout=400, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (out / "state").exists(), done.stderr[-2000:]
    assert (out / "state").read_text() == "True 5"
    results, troubles = read_results(find_runs([out]))
    assert sorted(result.config.seed for result in results) == [1, 2, 3, 4, 5]
    assert not troubles
    for result in results:
        words = result.manifest["command"].split()
        assert words[:2] == ["ntm", "train"]
        assert words[words.index("--run") + 1] == str(result.run.path)
    errors = [entry["error"] for entry in json.loads((out / "sweep.json").read_text()).values()]
    assert any("Died" in error or "Crashed" in error for error in errors)


@pytest.mark.system
def test_a_run_comes_back_from_a_node_and_goes_on_at_another(tmp_path: Path) -> None:
    config = CONFIG.replace("sequences: 3000", "sequences: 400")
    words = ["train", cluster.CONFIG, "--run", cluster.FOLDER, "--seed", "3", "--quiet"]
    *_, (code, message, files) = run_here(config, words, b"", 60.0, [])
    assert code == 0, message
    unpack(files, tmp_path / "run")
    run = RunDir.open(tmp_path / "run")
    assert run.manifest()["status"] == "budget"
    assert run.config().seed == 3
    before = run.load_best().weights
    *_, (code, _, files) = run_here(config, [*words, "--resume"], pack(run.path), 60.0, [])
    assert code == 0  # it is over, and stays as it is
    unpack(files, tmp_path / "again")
    after = RunDir.open(tmp_path / "again").load_best().weights
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    test = ["evaluate", cluster.FOLDER, "--set", "task.length=5", "--episodes", "2"]
    *_, (code, message, files) = run_here(config, test, pack(run.path), 60.0, [])
    assert code == 0, message
    unpack(files, run.path)
    assert [e.task for e in run.evaluations()] == [{"length": 5}]
    *_, (code, message, _) = run_here(config.replace("lr: 1e-3", "lr: 1e6"), words, b"", 60.0, [])
    assert code == 1
    assert message.startswith("the ")  # no path of that node
    assert "is not finite" in message


def test_checkpoints_are_packed_before_tables_and_unpacked_after(tmp_path: Path) -> None:
    config = small_config()
    run = new_run(tmp_path / "run", config)
    train(run, config, CPU, Watch())
    (run.path / ".lock").write_text("")
    (run.path / "checkpoint" / ".last.safetensors.x.part").write_text("")
    with zipfile.ZipFile(io.BytesIO(pack(run.path))) as archive:
        names = archive.namelist()
    assert names[0] == "checkpoint/last.safetensors"
    assert all(name.startswith("checkpoint/") for name in names[:3])
    assert {"config.yaml", "manifest.json", "metrics.csv", "eval.csv"} <= set(names[3:])
    assert not any("lock" in name or "part" in name for name in names)
    unpack(pack(run.path), tmp_path / "copy")
    for name in names:
        assert (tmp_path / "copy" / name).read_bytes() == (run.path / name).read_bytes()


def test_a_copy_of_a_run_is_made_while_training_drops_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(train={"snapshots": 4})
    run = new_run(tmp_path / "run", config)
    train(run, config, CPU, Watch())
    first, *others = run.snapshots()
    read = Path.read_bytes

    def drop_first(file: Path) -> bytes:
        run.drop_snapshot(first)  # after the files were listed
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", drop_first)
    unpack(pack(run.path), tmp_path / "copy")
    assert RunDir(tmp_path / "copy").snapshots() == others
    assert (tmp_path / "copy" / "eval.csv").exists()


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
def test_nothing_is_written_outside_of_the_run(name: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(UsageError, match="lies outside"):
        unpack(stream.getvalue(), tmp_path / "run")
    assert not (tmp_path / "outside").exists()


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'ntm-suite\[ray\]'"):
        RayExecutor(None, 1)


def test_a_ray_client_is_refused() -> None:
    pytest.importorskip("ray", reason="Ray, an optional extra, is not installed")
    with pytest.raises(UsageError, match="a Ray client gets nothing of a run before its end"):
        RayExecutor("ray://host:10001", 1)
