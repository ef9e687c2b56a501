from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ntm.runs.executor import LocalExecutor
from ntm.runs.folder import RunDir
from ntm.runs.jobs import plan
from ntm.runs.launcher import HOME, INTERRUPTED, Child, Outcome, argv, search_path
from ntm.runs.processor import processor
from ntm.runs.sweep import sweep
from tests.runs.test_sweep import SMALL, Watch
from tests.test_registry import MINE as MINE_CONTROLLER

MINE = "raise SystemExit('a file of the user was imported in place of ours')\n"


@pytest.fixture
def shadows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files named as ours, and as the standard library's; it is on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    for name in ("tasks", "controllers", "configs", "ntm"):
        Path(name).mkdir()
        Path(name, "__init__.py").write_text(MINE)
    for name in ("tasks.py", "configs.py", "copy.py", "json.py", "torch.py"):
        Path(name).write_text(MINE)
    Path("configs", "mine.yaml").write_text(SMALL)
    return tmp_path


@pytest.mark.system
def test_a_sweep_runs_in_a_folder_with_names_of_ours(shadows: Path) -> None:
    jobs = plan(["configs/mine.yaml"], 1, [], ["train.sequences=20"], Path("out"))
    state = sweep(jobs, Path("out"), LocalExecutor(1), Watch(), retries=0)
    assert not state.failed
    assert [job.folder for job in state.done] == [Path("out/copy/mine/seed-1")]
    assert RunDir(state.done[0].folder).manifest()["sequences"] == 20


def test_an_empty_folder_of_ours_named_tasks_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder without a module is a package of its own, a namespace, where it comes first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    Path("tasks").mkdir()
    Path("tasks/notes.txt").write_text("notes")
    done = subprocess.run(argv(["list"]), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "associative_recall" in done.stdout


def test_the_path_is_this_processs_with_ours_first_and_the_folder_last(shadows: Path) -> None:
    path = search_path()
    assert path[0] == str(HOME)
    assert path[-1] == str(shadows)
    assert path.count(str(shadows)) == 1
    assert "" not in path
    assert set(path[1:-1]) == {str(Path(p).resolve()) for p in sys.path} - {path[0], path[-1]}


@pytest.mark.system
def test_a_child_says_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)
    done = Child(["list"]).outcome()
    assert (done.error, done.again) == (None, False)
    wrong = Child(["train", "nothing.yaml"]).outcome()
    assert wrong.code == 2
    assert (wrong.error or "").startswith("nothing.yaml: no such file")
    assert not wrong.again

    words = ["train", "small.yaml", "--set", "train.sequences=1000000", "--run", "run", "--quiet"]
    child = Child(words)
    while not Path("run/metrics.csv").exists():
        assert child.is_running()
        time.sleep(0.05)
    busy = Child([*words, "--resume"]).outcome()
    assert (busy.code, busy.again) == (75, True)
    child.terminate()
    stopped = child.outcome()
    assert (stopped.code, stopped.again) == (INTERRUPTED, True)
    assert RunDir("run").manifest()["status"] == "interrupted"


def test_a_child_that_was_killed_is_an_error_that_names_the_signal() -> None:
    assert Outcome(-9, "").error == "killed by SIGKILL"
    assert Outcome(3, "").error == "ended with exit code 3"
    assert Outcome(1, "no space").error == "no space"
    assert not any(Outcome(code, "").again for code in (-9, 0, 1, 2))


@pytest.mark.system
def test_a_child_has_the_threads_that_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    words = ["train", str(tmp_path / "small.yaml"), "--run", str(tmp_path / "run")]
    threads = 1 if os.environ.get("OMP_NUM_THREADS") != "1" else 2
    assert Child(words, threads=threads).outcome().error is None
    assert RunDir(tmp_path / "run").manifest()["threads"] == threads


def test_the_processor_is_named_with_its_vector_instructions(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    for flags, width in (
        ("fpu avx2 avx512f", "AVX-512"),
        ("fpu avx avx2", "AVX2"),
        ("fpu", "no AVX2"),
    ):
        cpu = f"processor\t: 0\nmodel name\t: Some CPU 7\nflags\t\t: {flags}\n"
        file.write_text(f"{cpu}\n{cpu.replace('Some CPU 7', 'another')}")
        assert processor(file) == f"Some CPU 7 ({width})"
    assert processor(tmp_path / "missing")


#: Sweeps a controller of a module beside it, and refuses one of its own.
SCRIPT = """
from typing import Literal
from pydantic.dataclasses import dataclass
import ntm
from controllers.base import STRICT
from controllers.rnn import RNNConfig
import mine

@ntm.register
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Here(RNNConfig):
    kind: Literal["here"] = "here"

short = {"train.sequences": 20, "model.controller": {"kind": "mine", "size": 6}}
done = ntm.sweep("small.yaml", settings=short, out="out", progress=False)
assert not done.failed, done.failed
print(done.done[0].config.model.controller)
try:
    ntm.sweep("small.yaml", settings={**short, "model.controller": {"kind": "here"}}, out="other")
except ntm.NTMError as error:
    print(error)
"""


@pytest.mark.system
def test_a_class_registered_from_python_is_swept_if_it_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE_CONTROLLER)
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], check=False, capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(HOME)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    chosen, refused = done.stdout.splitlines()
    assert chosen.startswith("Mine(")
    assert refused.startswith("Here: was defined in __main__ and cannot be imported from there")
    assert not (tmp_path / "other").exists()
