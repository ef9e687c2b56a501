"""The runs that a sweep consists of: what each is, how far it has come, and what to do next."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntm.errors import NTMError, UsageError
from ntm.registry import require_importable
from ntm.runs.evaluations import Evaluation
from ntm.runs.folder import RunDir
from ntm.runs.start import EXTENDABLE, flat
from ntm.training.load import expand, load_config, short_name, to_dict
from ntm.training.schema import Config
from ntm.training.task_settings import task_settings


@dataclass(frozen=True)
class Test:
    """An evaluation of a trained run, as ``ntm evaluate`` does it with ``--seed 0``."""

    __test__ = False  # pytest should not collect it

    label: str
    settings: tuple[str, ...]
    episodes: int
    slots: int | None = None

    def applies_to(self, config: Config) -> bool:
        """Whether the model can have so many slots: not where each has learned its contents."""
        memory = config.model.memory
        return not (self.slots and memory and getattr(memory, "initial", None) == "learned")

    def command(self, config: Config, folder: str, threads: int) -> list[str]:
        """The words after ``ntm`` that do it."""
        words = ["evaluate", folder]
        words += [word for setting in self.settings for word in ("--set", setting)]
        if self.slots and config.model.memory:
            words += ["--slots", str(self.slots)]
        return [*words, "--episodes", str(self.episodes), "--threads", str(threads)]

    def found(self, run: RunDir) -> Evaluation | None:
        """What it has found already with the weights that the run has now."""
        memory = run.config().model.memory
        slots = (self.slots or getattr(memory, "slots", None)) if memory else None
        sequences = run.load_best().state["sequences"]
        asked = (task_settings(self.settings), slots, self.episodes, 0, sequences)
        for e in run.evaluations():
            if (e.task, e.slots, e.episodes, e.seed, e.sequences) == asked:
                return e
        return None


@dataclass(frozen=True)
class Job:
    """One run of a sweep, and the tests that follow its training."""

    config: str
    settings: tuple[str, ...]
    seed: int
    folder: Path
    resolved: Config
    tests: tuple[Test, ...] = ()

    def __post_init__(self) -> None:
        """A child process trains it, so it must be able to import every class of the config."""
        model = self.resolved.model
        require_importable(self.resolved.task, model.controller, model.memory)

    @property
    def run(self) -> RunDir:
        return RunDir(self.folder)

    def command(self, threads: int, elsewhere: tuple[str, str] | None = None) -> list[str]:
        """The words after ``ntm`` that do its next step: train it, go on with it, or a test.

        elsewhere: on another computer, the file of the config with all its settings, and the
            folder of the run.
        """
        config, folder = elsewhere or (self.config, str(self.folder))
        if self.is_trained() and (tests := self.missing_tests()):
            return tests[0].command(self.resolved, folder, threads)
        words = ["train", config]
        if elsewhere is None:
            words += [word for setting in self.settings for word in ("--set", setting)]
        words += ["--seed", str(self.seed), "--run", folder]
        words += ["--threads", str(threads), "--quiet"]
        return words + (self._resuming() if self.run.config_file.exists() else [])

    def _resuming(self) -> list[str]:
        """The words that go on with its run; they name the settings that may change in it."""
        asked = flat(to_dict(self.resolved))
        more = [f"{key}={asked[key]}" for key in sorted(EXTENDABLE)]
        return ["--resume", *(word for setting in more for word in ("--set", setting))]

    def differs(self) -> dict[str, tuple[Any, Any]]:
        """Settings in which the run in its folder is another: there, and here."""
        there, here = flat(to_dict(self.run.config())), flat(to_dict(self.resolved))
        keys = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
        return {key: (there.get(key), here.get(key)) for key in keys}

    def check(self) -> None:
        """Raises UsageError where its folder holds a run with other settings."""
        if not self.run.config_file.exists():
            return
        for key, (there, here) in self.differs().items():
            if key not in EXTENDABLE:
                raise UsageError(
                    f"{self.folder}: holds a run in which {key} is {there}, not {here}; --out "
                    "names another folder"
                )

    def is_trained(self) -> bool:
        """Whether its run has ended, with the settings asked for; not if it cannot be read."""
        with contextlib.suppress(NTMError):
            status = self.run.manifest().status
            ended = status is not None and status.is_complete
            return ended and self.run.config_file.exists() and not self.differs()
        return False

    def missing_tests(self) -> list[Test]:
        """The tests that its run has still to take; all of them if that cannot be read."""
        tests = [test for test in self.tests if test.applies_to(self.resolved)]
        with contextlib.suppress(NTMError):
            return [test for test in tests if test.found(self.run) is None]
        return tests

    def steps_left(self) -> int:
        """How many commands are still to run; 0 means that it is done."""
        return len(self.missing_tests()) if self.is_trained() else 1 + len(self.tests)

    def progress(self) -> dict[str, float]:
        """The last row of its metrics: read from the end, however long the table is."""
        file = self.run.metrics_file
        with contextlib.suppress(OSError, ValueError, IndexError), file.open("rb") as stream:
            names = stream.readline().decode().strip().split(",")
            stream.seek(max(stream.tell(), file.stat().st_size - 1000))
            lines = stream.read().decode().splitlines()
            return dict(zip(names, map(float, lines[-1].split(",")), strict=True))
        return {}


def plan(
    configs: Sequence[str], seeds: int, grid: Sequence[str], settings: Sequence[str], out: Path
) -> list[Job]:
    """Every combination, each validated before anything is made.

    grid: ``key=value,value``; commas within brackets belong to a value. A run's folder is
    out/TASK/CONFIG/SETTINGS/seed-N, the same whenever the sweep is planned again. A family stands
    for all its models, each of which is a CONFIG.
    """
    if any(setting.partition("=")[0] == "seed" for setting in settings):
        raise UsageError("--set seed: --seeds N runs seeds 1 to N")
    axes = [[(key, value) for value in values] for key, values in map(_axis, grid)]
    keys = [axis[0][0] for axis in axes]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UsageError(f"--grid {twice[0]}: is there twice; one has all values of a key")
    jobs: dict[Path, Job] = {}
    for config in itertools.chain.from_iterable(map(expand, configs)):
        for chosen in itertools.product(*axes):
            given = [*settings, *(f"{key}={value}" for key, value in chosen)]
            loaded = load_config(config, given)
            name = ",".join(_short(key, value) for key, value in chosen)
            place = out / loaded.task.kind / short_name(config) / name
            for seed in range(1, seeds + 1):
                resolved = dataclasses.replace(loaded, seed=seed)
                job = Job(config, tuple(given), seed, place / f"seed-{seed}", resolved)
                if job.folder in jobs:
                    raise UsageError(
                        f"{job.folder}: two runs of this sweep would share this folder; configs of "
                        "one task need names of their own, and values of a grid must differ"
                    )
                jobs[job.folder] = job
    return list(jobs.values())


def _axis(text: str) -> tuple[str, list[str]]:
    key, equals, values = text.partition("=")
    depth, parts = 0, [""]
    for character in values:
        depth += (character in "[{(") - (character in ")}]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    parts = [part.strip() for part in parts]
    if not (key and equals and all(parts)):
        raise UsageError(f"--grid {text}: should be key=value,value such as train.batch=1,8")
    if key == "seed":
        raise UsageError("--grid seed: --seeds N runs seeds 1 to N")
    return key, parts


def _short(key: str, value: str) -> str:
    """A setting as part of a folder's name."""
    return f"{key.rpartition('.')[2]}={re.sub(r'[^A-Za-z0-9.+_-]+', '_', value).strip('_')}"
