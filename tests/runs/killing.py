"""Trains a run that is killed again and again: python killing.py CONFIG FOLDER KILLS SECONDS.

FOLDER/whole is trained in one go, FOLDER/killed is killed so often, each time after at most so many
seconds, and resumed. Children are forked from a process that has imported everything, so that a
kill falls into training, and not into an import; it has run nothing, so that forking is safe.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numba  # noqa: F401
import torch

from ntm.kernels.threads import use_threads
from ntm.runs.session import StopOnSignal, begun, train_recorded
from ntm.training.load import load_config
from tests.small import Watch

CPU = torch.device("cpu")


def go_on(config_file: str, path: Path) -> None:
    """What ``ntm train --resume`` does."""
    config = load_config(config_file)
    use_threads(1)
    with StopOnSignal() as stop, begun(path, [], config, CPU, "ntm train", True) as started:
        train_recorded(started, Watch(), True, stop)


def child(config_file: str, path: Path) -> int:
    """A process that trains; its number."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        go_on(config_file, path)
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    config_file, folder = sys.argv[1], Path(sys.argv[2])
    kills, seconds, chance = int(sys.argv[3]), float(sys.argv[4]), random.Random(1)
    assert os.waitpid(child(config_file, folder / "whole"), 0)[1] == 0
    killed = 0
    while killed < kills:
        pid = child(config_file, folder / "killed")
        time.sleep(chance.uniform(0, seconds))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):  # it had ended before
            assert status == 0
            break
        killed += 1
    assert os.waitpid(child(config_file, folder / "killed"), 0)[1] == 0
    print(killed)


if __name__ == "__main__":
    main()
