"""The one way to start ``ntm WORDS...`` as a child process: sweeps, Ray and studies use it.

``python -m`` would put the current folder first on the child's path, so that a ``tasks.py`` or a
``configs/`` there would take the place of ours. A child therefore runs ``child.py`` by its absolute
path, which takes the path of this process, without the current folder in front of anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ntm.errors import RunLockedError
from ntm.registry import registered

#: The folder that holds the packages ``ntm``, ``tasks``, ``controllers`` and ``configs``.
HOME = Path(__file__).resolve().parents[2]
#: The exit code of a run that was asked to stop, and has saved.
INTERRUPTED = 130


def argv(
    words: Sequence[str], plugins: Sequence[str] | None = None, stays: bool = True
) -> list[str]:
    """The command that runs ``ntm WORDS...`` with the packages of this process.

    plugins: classes to register first, as ``module:Class``; by default those that are registered
    here. stays: whether it goes on when its standard input ends. The child may run in any folder.
    """
    known = registered() if plugins is None else list(plugins)
    setup = json.dumps({"path": search_path(), "plugins": known, "stays": stays})
    return [sys.executable, str(HOME / "ntm" / "runs" / "child.py"), setup, *words]


def search_path() -> list[str]:
    """``sys.path`` for a child: ours first, and the current folder, if it is there, last."""
    here = Path.cwd()
    others = [Path(entry).resolve() for entry in sys.path]
    path = [HOME, *(entry for entry in others if entry != here)]
    if here in others:  # classes registered from Python may be defined there
        path.append(here)
    return list(dict.fromkeys(map(str, path)))


class Outcome(NamedTuple):
    """How a child has ended: its exit code, or minus the signal that killed it."""

    code: int
    message: str  # the last line that it wrote to standard error

    @property
    def error(self) -> str | None:
        """What stopped it; None where it has done what it was asked to."""
        if self.code == 0:
            return None
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}"
        return self.message or f"ended with exit code {self.code}"

    @property
    def again(self) -> bool:
        """Whether to try again: it was interrupted, or another process is training there."""
        return self.code in (INTERRUPTED, RunLockedError.exit_code)


class Child:
    """A running ``ntm WORDS...``.

    It saves and stops when this process ends, whatever ends it: its standard input is a pipe of
    which this process holds the other end, and writes nothing.

    threads: for its OpenMP; by default those of the environment.
    own_session: Ctrl-C at the terminal does not reach it; whoever started it passes it on.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        plugins: Sequence[str] | None = None,
        threads: int | None = None,
        own_session: bool = False,
    ) -> None:
        limit = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by outcome
        self._process = subprocess.Popen(  # noqa: S603
            argv(words, plugins, stays=False),
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors,
            start_new_session=own_session, env={**os.environ, **limit},
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def terminate(self) -> None:
        """Asks it to save and stop."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def outcome(self) -> Outcome:
        """Waits for its end. May be called once."""
        code = self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        with self._errors as stream:
            stream.seek(0)
            lines = stream.read().decode(errors="replace").strip().splitlines()
        return Outcome(code, lines[-1].removeprefix("ntm: ") if lines else "")
