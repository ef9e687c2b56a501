"""The command line: mistakes get one message, signals save, and nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ntm.runs.folder import RunDir
from tests.terminal import RUN, SMALL, Terminal


def test_a_run_is_not_overwritten_and_can_be_extended(ntm: Terminal) -> None:
    ntm("train", "small.yaml")
    before = (RUN / "checkpoint" / "last.safetensors").read_bytes()
    again = ntm("train", "small.yaml")
    assert again.code == 2
    assert "already holds a run: --resume continues it" in again.err
    assert (RUN / "checkpoint" / "last.safetensors").read_bytes() == before
    longer = ntm("train", "small.yaml", "--resume", "--set", "train.sequences=60")
    assert "after 60 sequences" in longer.err
    other = ntm("train", "small.yaml", "--resume", "--set", "train.batch=2")
    assert other.code == 2
    assert "train.batch is 1 there and 2 here" in other.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "smal.yaml"], 2, "smal.yaml: no such file"),
        (["train", "compare/copy"], 2, "or all with ntm sweep compare/copy"),
        (["train", "compare/copy:lsmt"], 2, "did you mean compare/copy:lstm?"),
        (["train", "small.yaml", "--set", "task.lenght=3"], 2, "did you mean length?"),
        (["train", "small.yaml", "--set", "train.batch=x"], 2, "train.batch: should be a valid"),
        (["train", "--resume", "--run", "nowhere"], 2, "nowhere: no run here"),
        (["train", "small.yaml", "--device", "tpu"], 2, "should be auto, cpu, cuda"),
        (["train", "small.yaml", "--run", "small.yaml/run"], 1, "cannot be written"),
        (["train", "small.yaml", "--engine", "warp"], 2, "engine: should be 'auto'"),
        (
            ["train", "small.yaml", "--set", "model.memory.slots=10000000000"],
            2,
            "GiB of memory, and",
        ),
        (["train", "small.yaml", "--nonsense"], 2, "No such option"),
        (["train"], 2, "Missing argument"),
        (["evaluate", "nowhere"], 2, "nowhere: no run here"),
        (["evaluate", "nowhere", "--episodes", "0"], 2, "--episodes"),
        (["plot", "nowhere"], 2, "nowhere: no run here"),
    ],
)
def test_a_mistake_gets_one_message(
    ntm: Terminal, arguments: list[str], code: int, message: str
) -> None:
    output = ntm(*arguments)
    assert output.code == code
    assert message in output.err
    assert output.out == ""
    assert not Path("runs").exists()


def test_mistakes_with_a_run(ntm: Terminal) -> None:
    ntm("train", "small.yaml", "--set", "train.sequences=2")
    config_key = ntm("evaluate", RUN, "--set", "train.batch=3")
    assert config_key.code == 2
    assert "task.length=120" in config_key.err
    wrong = ntm("evaluate", RUN, "--set", "task.width=4")
    assert wrong.code == 2
    assert "with {'width': 4} the task has 5 and 4" in wrong.err
    (RUN / "checkpoint" / "best.safetensors").write_bytes(b"broken")
    for command in ("evaluate", "plot"):
        broken = ntm(command, RUN)
        assert broken.code == 1
        assert "best.safetensors: not a readable checkpoint" in broken.err


def test_resume_says_what_it_keeps(ntm: Terminal) -> None:
    ntm("train", "small.yaml", "--set", "train.batch=2", "--run", "r")
    resumed = ntm("train", "small.yaml", "--run", "r", "--resume")
    assert resumed.code == 0
    assert "the run keeps its own settings, in which train.batch differ" in resumed.err


def test_a_damaged_checkpoint_is_not_resumed_and_changes_nothing(ntm: Terminal) -> None:
    ntm("train", "small.yaml")
    (RUN / "checkpoint" / "last.safetensors").write_bytes(b"broken")
    before = [(RUN / name).read_bytes() for name in ("config.yaml", "manifest.json")]
    broken = ntm("train", "small.yaml", "--resume", "--set", "train.sequences=77")
    assert broken.code == 1
    assert "last.safetensors: not a readable checkpoint" in broken.err
    assert [(RUN / name).read_bytes() for name in ("config.yaml", "manifest.json")] == before
    (RUN / "checkpoint" / "last.safetensors").unlink()
    missing = ntm("train", "small.yaml", "--resume")
    assert missing.code == 1
    assert "last.safetensors: is missing" in missing.err


@pytest.mark.parametrize("name", ["metrics.csv", "eval.csv", "manifest.json"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"foo,bar\n1,2\n"])
def test_a_damaged_file_of_a_run_is_named(ntm: Terminal, name: str, content: bytes) -> None:
    ntm("train", "small.yaml")
    (RUN / name).write_bytes(content)
    drawn = ntm("plot", RUN) if name.endswith("csv") else ntm("train", "small.yaml", "--resume")
    assert drawn.code == 1
    assert name in drawn.err


def test_two_processes_cannot_train_in_one_run(ntm: Terminal) -> None:
    ntm("train", "small.yaml")
    before = [(RUN / name).read_bytes() for name in ("config.yaml", "manifest.json")]
    with RunDir.open(RUN).lock():
        second = ntm("train", "small.yaml", "--resume", "--set", "train.sequences=60")
    assert second.code == 75  # EX_TEMPFAIL: it may succeed later
    assert [(RUN / name).read_bytes() for name in ("config.yaml", "manifest.json")] == before
    assert "another process is training here" in second.err
    assert ntm("train", "small.yaml", "--resume", "--set", "train.sequences=60").code == 0


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_exits_130_and_the_run_goes_on_bit_for_bit_elsewhere(
    number: signal.Signals, tmp_path: Path
) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(SMALL.replace("sequences: 40", "sequences: 300"))

    def ntm(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "ntm.cli", "train", str(config), *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )

    whole = ntm("--run", "whole")
    interrupted = ntm("--run", "parts")
    metrics = tmp_path / "parts" / "metrics.csv"
    while not metrics.exists() and interrupted.poll() is None:
        time.sleep(0.01)
    interrupted.send_signal(number)
    _, err = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130, err
    assert b"interrupted and saved" in err
    assert b"Traceback" not in err
    assert RunDir.open(tmp_path / "parts").manifest()["status"] == "interrupted"
    (tmp_path / "parts").rename(tmp_path / "moved")
    for process in (whole, ntm("--run", "moved", "--resume")):
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    one, other = (RunDir.open(tmp_path / n).load_checkpoint() for n in ("whole", "moved"))
    assert one.state["progress"]["sequences"] == other.state["progress"]["sequences"] == 300
    assert all(one.weights[n].equal(other.weights[n]) for n in one.weights)
    assert one.state["generator"] == other.state["generator"]
