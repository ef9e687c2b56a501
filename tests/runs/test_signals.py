"""Whatever ends training, or what it is part of, it saves, and its manifest says how it stands."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ntm
from ntm.errors import KilledError
from ntm.kernels import compiling
from ntm.runs.folder import RunDir
from ntm.runs.session import StopOnSignal
from tests.terminal import SMALL

ROOT = Path(__file__).parents[2]
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
#: They are those of a user or a scheduler that expects no answer, so they may be ignored.
WARNINGS = [number for number in SIGNALS if number not in (signal.SIGINT, signal.SIGTERM)]
LONG = {"train.sequences": 1_000_000, "train.solved_bits": 0}
RUN = ["--run", "run", "--engine", "reference", "--quiet"]
RUN += [word for key, value in LONG.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)
    return tmp_path


def train(run: str, **options: Any) -> ntm.Run:
    return ntm.train(
        "small.yaml", run=run, settings=LONG, engine="reference", progress=False, **options
    )


def send_when(there: Callable[[], bool], *numbers: int) -> None:
    """Sends signals to this process as soon as something is there."""

    def wait() -> None:
        while not there():
            time.sleep(0.01)
        for number in numbers:
            os.kill(os.getpid(), number)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_that_would_end_training_saves(number: int) -> None:
    send_when(Path("run/metrics.csv").exists, number)
    stopped = train("run")
    assert stopped.status == "interrupted"
    saved = RunDir("run").load_checkpoint().state["progress"]
    assert saved["sequences"] == stopped.sequences > 0


@pytest.mark.parametrize("number", [n for n in SIGNALS if n != signal.SIGINT])
def test_a_signal_may_come_as_often_as_it_likes(number: int) -> None:
    """The kernel and the shell each send SIGHUP when a terminal closes."""
    before = signal.getsignal(number)
    with StopOnSignal() as stop:
        assert not stop.requested()
        for _ in range(3):
            signal.raise_signal(number)
            assert stop.requested()
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_stops_at_once() -> None:
    with StopOnSignal():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", WARNINGS)
@pytest.mark.parametrize("own", [signal.SIG_IGN, lambda *_: None])
def test_a_signal_that_is_ignored_or_handled_stays_so(number: int, own: Any) -> None:
    signal.signal(number, own)
    with StopOnSignal() as stop:
        signal.raise_signal(number)
        assert not stop.requested()
        assert signal.getsignal(number) == own


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ntm", *words], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, **options,
    )  # fmt: skip


def wait_for(file: str, process: subprocess.Popen[Any]) -> None:
    while not Path(file).exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.system
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signals")
def test_under_nohup_and_a_scheduler_that_warns_terminates_and_kills() -> None:
    words = ["train", "small.yaml", "--resume", *RUN]

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = start(*words, preexec_fn=ignore)
    wait_for("run/metrics.csv", process)
    process.send_signal(signal.SIGHUP)
    rows = len(Path("run/metrics.csv").read_text().splitlines())
    while len(Path("run/metrics.csv").read_text().splitlines()) < rows + 3:
        assert process.poll() is None  # it goes on
        time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "no run here yet" in said
    assert "interrupted and saved" in said
    process.kill()
    first = RunDir("run").manifest()
    assert first.status == "interrupted"
    again = start(*words, preexec_fn=ignore)  # the same line goes on
    while "resumed" not in RunDir("run").manifest():
        assert again.poll() is None
        time.sleep(0.02)
    again.send_signal(signal.SIGUSR2)
    _, said = again.communicate(timeout=60)
    assert again.returncode == 130, said
    assert RunDir("run").manifest()["sequences"] >= first["sequences"]


#: Starts a worker as sweeps do, says so, and waits to be killed.
PARENT = """
import sys, time
from ntm.runs.launcher import Child
child = Child(sys.argv[1:], own_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.system
def test_a_worker_saves_and_ends_when_its_sweep_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, "train", "small.yaml", *RUN], text=True,
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert parent.stdout is not None
    assert int(parent.stdout.readline()) > 0
    wait_for("run/metrics.csv", parent)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while RunDir("run").manifest().status == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert RunDir("run").manifest().status == "interrupted"
    with RunDir("run").lock():  # nobody trains there any more
        pass


class Broken:
    """A standard error whose reader has gone."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    def isatty(self) -> bool:
        return False


def test_a_broken_standard_error_before_the_first_step_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", Broken())
    with pytest.raises((OSError, SystemExit)):  # rich makes the second of the first
        ntm.train("small.yaml", run="run", engine="reference")
    assert RunDir("run").manifest().status == "stopped by an error"


def test_a_command_whose_standard_error_is_broken_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    words = ("train", "small.yaml", "--run", "run", "--engine", "reference")
    done = subprocess.run(
        [sys.executable, "-m", "ntm", *words], stderr=write, stdout=subprocess.PIPE, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 1
    assert done.stdout == b""
    assert RunDir("run").manifest().status == "stopped by an error"


# While a kernel compiles


@pytest.fixture
def endless() -> Iterator[Callable[[], bool]]:
    """A compilation that takes until the end of the test."""
    over = threading.Event()
    yield over.wait
    over.set()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_a_kernel_compiles_is_answered_at_once(
    number: int, endless: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has been learned since the checkpoint, so nothing is lost."""
    waiting = threading.Event()

    def compile_first(*_: Any) -> Any:
        waiting.set()
        compiling.wait_for(endless)

    monkeypatch.setattr("ntm.training.loop.differentiation", lambda *_: compile_first)
    send_when(waiting.is_set, number)
    stopped = train("run")
    assert (stopped.status, stopped.sequences) == ("interrupted", 0)


def test_what_was_learned_since_the_checkpoint_is_not_called_saved(
    endless: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Event()

    def compile_first(*_: Any) -> Any:
        waiting.set()
        compiling.wait_for(endless)

    monkeypatch.setattr("ntm.training.loop.evaluate", compile_first)
    send_when(waiting.is_set, signal.SIGTERM)
    with pytest.raises(KilledError, match="continues from the last checkpoint"):
        train("run")
    assert RunDir("run").manifest().status == "killed"


def test_all_threads_that_wait_for_a_kernel_stop_with_the_main_thread(
    endless: Callable[[], bool],
) -> None:
    def wait() -> None:
        with pytest.raises(KeyboardInterrupt):
            compiling.wait_for(endless)

    other = threading.Thread(target=wait)
    send_when(other.is_alive, signal.SIGINT)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        compiling.wait_for(endless)
    other.join(timeout=60)
    assert not other.is_alive()


def test_what_a_compilation_raises_reaches_whoever_waits_for_it() -> None:
    def fail() -> None:
        raise LookupError("no such type")

    with pytest.raises(LookupError, match="no such type"):
        compiling.wait_for(fail)
    assert compiling.wait_for(lambda: compiling.wait_for(lambda: 7)) == 7


#: Ctrl-C while something compiles that would take an hour.
COMMAND = """
import os, signal, sys, threading, time
from ntm.kernels.compiling import ends_process, wait_for

@ends_process
def main():
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        wait_for(lambda: time.sleep(3600))
    except KeyboardInterrupt:
        print("stopped")
        sys.exit(130)

main()
"""


def test_a_command_does_not_wait_for_a_compilation_to_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND], capture_output=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (130, b"stopped\n")


def test_a_main_function_that_is_called_ends_nothing_but_itself(
    endless: Callable[[], bool],
) -> None:
    @compiling.ends_process
    def main() -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            compiling.wait_for(endless)
        sys.exit(130)

    with pytest.raises(SystemExit):
        main()


def test_a_stop_that_was_requested_before_training_compiles_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ntm")
    monkeypatch.setattr(StopOnSignal, "requested", lambda _: True)
    stopped = ntm.train("small.yaml", run="run", progress=False)
    assert (stopped.status, stopped.sequences) == ("interrupted", 0)
    assert not [r for r in caplog.records if "compil" in r.getMessage()]
