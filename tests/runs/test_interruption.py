"""Whatever stops a run, nothing is lost beyond the last checkpoint, and resuming gives the same."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ntm.runs.folder import RunDir

ROOT = Path(__file__).parents[2]
CONFIG = """
task: {kind: copy, width: 3, length: [1, 4]}
model:
  controller: {kind: lstm, size: 11}
  memory: {slots: 9, width: 5}
train:
  optimizer: {kind: adam, lr: 1e-3}
  batch: 2
  sequences: 2000
  report_every: 20
  checkpoint_every: 40
  snapshots: 4
validation: {every: 100, episodes: 3}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(CONFIG)
    return file


def run_python(*words: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Python; no file that it writes can be longer than ``limit``: a disk that is full."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    return subprocess.run(
        [sys.executable, *map(str, words)], check=False, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, preexec_fn=limited,
    )  # fmt: skip


def check_same(whole: RunDir, other: RunDir) -> None:
    """But for the time it took."""
    for name in ("load_checkpoint", "load_best"):
        a, b = getattr(whole, name)(), getattr(other, name)()
        assert a.weights.keys() == b.weights.keys()
        assert all(torch.equal(a.weights[key], b.weights[key]) for key in a.weights)
        assert all(torch.equal(a.optimizer[key], b.optimizer[key]) for key in a.optimizer)
    for table in ("metrics_file", "validation_file"):
        rows = [
            [
                {k: v for k, v in row.items() if k != "seconds"}
                for row in run.rows(getattr(run, table))
            ]
            for run in (whole, other)
        ]
        assert rows[0] == rows[1]
    assert whole.snapshots() == other.snapshots()
    assert other.manifest()["status"] == whole.manifest()["status"]
    assert other.manifest()["parameters"] == whole.manifest()["parameters"]
    assert not [p for p in other.path.rglob("*") if p.suffix == ".part"]


@pytest.mark.system
def test_killed_fifty_times_it_ends_as_if_it_had_not_been(config: Path, tmp_path: Path) -> None:
    script = ROOT / "tests" / "runs" / "killing.py"
    done = run_python(script, config, tmp_path, 50, 0.3)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 50
    check_same(RunDir(tmp_path / "whole"), RunDir(tmp_path / "killed"))


@pytest.mark.system
def test_a_full_disk_is_one_message_and_nothing_is_lost(config: Path, tmp_path: Path) -> None:
    """Full before there is a config, a first checkpoint, or when a table has grown."""
    words = ["-m", "ntm.cli", "train", config, "--quiet", "--threads", 1]
    words += ["--set", "train.report_every=2"]
    assert run_python(*words, "--run", tmp_path / "whole").returncode == 0
    for limit in (300, 3000, 9000):
        folder = tmp_path / f"full-{limit}"
        full = run_python(*words, "--run", folder, limit=limit)
        assert full.returncode == 1, full.stderr
        assert full.stderr.count("\n") == 1
        assert "cannot be written: File too large" in full.stderr
        resume = ["--resume"] if (folder / "config.yaml").exists() else []
        assert (limit == 300) == (not resume)
        again = run_python(*words, "--run", folder, *resume)
        assert again.returncode == 0, again.stderr
        check_same(RunDir(tmp_path / "whole"), RunDir(folder))


@pytest.mark.slow
def test_a_report_that_is_killed_leaves_whole_files(config: Path, tmp_path: Path) -> None:
    """Killed at random moments: what is there is a whole file, of this report or of the last."""
    run, out = tmp_path / "run", tmp_path / "report"
    assert run_python("-m", "ntm.cli", "train", config, "--quiet", "--run", run).returncode == 0
    words = [sys.executable, "-m", "ntm.cli", "report", str(run), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    assert subprocess.run(words, check=False, env=environment).returncode == 0
    seconds, chance, killed = time.monotonic() - started, random.Random(4), 0
    whole = {p.name: p.stat().st_size for p in out.rglob("*") if p.is_file()}
    for _ in range(20):
        process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
        time.sleep(seconds * chance.uniform(0.5, 1))
        process.kill()
        killed += process.wait() != 0
        sizes = {p.name: p.stat().st_size for p in out.rglob("*") if p.suffix != ".part"}
        assert sizes.keys() >= whole.keys()
        assert all(abs(sizes[name] - size) <= 2 for name, size in whole.items())
    assert killed > 5
    assert subprocess.run(words, check=False, env=environment).returncode == 0
