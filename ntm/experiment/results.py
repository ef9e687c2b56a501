"""What many runs found: read from their folders, grouped by model, and compared with statistics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ntm.errors import NTMError, UsageError
from ntm.experiment.config import Config, to_dict
from ntm.experiment.models import load_model
from ntm.experiment.rundir import Evaluation, RunDir
from ntm.experiment.runs import flat
from ntm.experiment.streams import Stream, numpy_generator
from ntm.machine.trace import Trace, record

#: Resamples of a bootstrap, and its seed: the same report every time.
RESAMPLES, SEED = 2000, 2014


@dataclass(frozen=True)
class Result:
    """One run that has ended, solved or out of budget."""

    run: RunDir
    config: Config
    manifest: dict[str, Any]
    validation: list[dict[str, float]]
    evaluations: list[Evaluation]  # with the weights that the run has now

    @property
    def curve(self) -> list[float]:
        """Validation, in bits above the floor."""
        return [row["bits"] - row["floor"] for row in self.validation]

    @property
    def solved(self) -> dict[str, float] | None:
        """The first row of validation that was below ``solved_bits``."""
        limit = self.config.train.solved_bits
        for row, above in zip(self.validation, self.curve, strict=True):
            if above < limit:
                return row
        return None

    @property
    def has_memory(self) -> bool:
        """Whether it is a Neural Turing Machine."""
        return self.config.model.memory is not None

    @property
    def best(self) -> dict[str, float]:
        """The row of validation whose weights the run has kept."""
        return min(self.validation, key=lambda row: row["bits"] - row["floor"])


class Trouble(NamedTuple):
    """A run that is not compared, and why."""

    path: Path
    problem: str


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed."""

    name: str
    results: list[Result]

    @property
    def final_bits(self) -> list[float]:
        """Bits above the floor in the best validation of each seed."""
        return [result.best["bits"] - result.best["floor"] for result in self.results]

    @property
    def median(self) -> Result:
        """The median seed: by sequences until solved, and those unsolved behind by their bits."""

        def rank(result: Result) -> tuple[float, float]:
            solved = result.solved
            return (solved["sequences"] if solved else math.inf, min(result.curve))

        return sorted(self.results, key=rank)[(len(self.results) - 1) // 2]


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """The folders of runs among these paths and below them, each once."""
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder")
        below = sorted(file.parent for file in path.rglob("config.yaml"))
        if not below:
            raise UsageError(f"{path}: no run here or below (a run's folder holds a config.yaml)")
        found |= dict.fromkeys(below)
    return list(found)


def read_results(paths: Iterable[Path]) -> tuple[list[Result], list[Trouble]]:
    """The runs that have ended, and those that are broken or have not: these spoil nothing."""
    results, troubles = [], []
    for path in paths:
        try:
            results.append(_read(RunDir.open(path)))
        except NTMError as error:
            problem = " ".join(str(error).split()).replace(f"{path}/", "").replace(f"{path}: ", "")
            troubles.append(Trouble(path, problem))
    return results, troubles


def _read(run: RunDir) -> Result:
    config, manifest = run.config(), run.manifest()
    status = manifest.get("status", "unknown")
    if status not in ("solved", "budget"):
        raise NTMError(f"has not ended: its status is {status}")
    validation = run.rows(run.validation_file)
    needed = {"sequences", "seconds", "bits", "floor", "exact"}
    if not validation or not needed <= set(validation[0]):
        raise NTMError(f"{run.validation_file}: holds no whole row of validation")
    if not all(math.isfinite(value) for row in validation for value in row.values()):
        raise NTMError(f"{run.validation_file}: holds a number that is not finite")
    best = min(validation, key=lambda row: row["bits"] - row["floor"])["sequences"]
    evaluations = [e for e in run.evaluations() if e.sequences == best]
    return Result(run, config, manifest, validation, evaluations)


def group(results: Iterable[Result]) -> dict[str, list[Group]]:
    """By task, then by config but for the seed. Groups are named after what sets them apart."""
    tasks: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        settings = flat(to_dict(result.config))
        del settings["seed"]
        key = repr(sorted(settings.items(), key=str))
        tasks.setdefault(result.config.task.kind, {}).setdefault(key, []).append(result)
    return {task: _named(list(groups.values())) for task, groups in sorted(tasks.items())}


def _named(groups: list[list[Result]]) -> list[Group]:
    settings = [flat(to_dict(results[0].config)) for results in groups]
    names = [model_name(results[0].config) for results in groups]
    named = []
    for name, mine, results in zip(names, settings, groups, strict=True):
        same = [other for n, other in zip(names, settings, strict=True) if n == name]
        keys = sorted(
            key
            for key in set().union(*same)
            if key != "seed" and any(other.get(key) != mine.get(key) for other in same)
        )
        details = ", ".join(f"{key}={mine.get(key)}" for key in keys)
        by_seed = sorted(results, key=lambda result: result.config.seed)
        named.append(Group(f"{name} ({details})" if details else name, by_seed))
    return sorted(named, key=lambda g: g.name)


def trace_of(result: Result) -> Trace:
    """One episode of the size that validation has, with the weights that the run has kept."""
    model, config = load_model(result.run)
    rng = numpy_generator(0, Stream.EVALUATION)
    return record(model, config.validation_task.sample(rng, 1))


def versions(results: Iterable[Result]) -> str:
    """With what the runs were made, in a few words."""
    found: dict[str, None] = {}
    for result in results:
        for name, version in result.manifest.get("versions", {}).items():
            found[f"{name} {version}"] = None
    return ", ".join(found)


_SHORT = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN", "feedforward": "feedforward"}


def model_name(config: Config) -> str:
    """A model in a few words: NTM with LSTM 100, LSTM 3x256."""
    controller, memory = config.model.controller, config.model.memory
    layers = f"{controller.layers}\N{MULTIPLICATION SIGN}" if controller.layers > 1 else ""
    name = f"{_SHORT.get(controller.kind, controller.kind)} {layers}{controller.size}"
    if memory is None:
        return name
    heads = (memory.read_heads, memory.write_heads)
    return f"NTM with {name}" + ("" if heads == (1, 1) else f", {heads[0]}+{heads[1]} heads")


# Statistics


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread | None:
    """None of no values."""
    if not values:
        return None
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return Spread(float(middle), float(low), float(high))


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """A 95% bootstrap interval of the median; None for fewer than three values."""
    if len(values) < 3:
        return None
    if len(set(values)) == 1:
        return values[0], values[0]
    found = stats.bootstrap(
        (np.asarray(values),), np.median, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(SEED),
    )  # fmt: skip
    interval = found.confidence_interval
    return float(interval.low), float(interval.high)


class Comparison(NamedTuple):
    """Two groups of seeds, A and B, on the same score, of which less is better."""

    better: float  # probability that a seed of A scores less than one of B; ties count half
    low: float  # the 95% bootstrap interval of that
    high: float
    p_value: float  # of the Mann-Whitney U test, two-sided


def compare(a: Sequence[float], b: Sequence[float]) -> Comparison | None:
    """None where a group has fewer than three seeds: then there is nothing to say."""
    if min(len(a), len(b)) < 3:
        return None

    def share(x: Any, y: Any, axis: int = -1) -> Any:
        """P(x < y) + P(x = y) / 2, along the last axis."""
        del axis
        less = x[..., :, None] < y[..., None, :]
        same = x[..., :, None] == y[..., None, :]
        return (less + same / 2).mean(axis=(-2, -1))

    x, y = np.asarray(a, float), np.asarray(b, float)
    estimate = float(share(x, y))
    test = stats.mannwhitneyu(x, y, method="auto")
    if estimate in (0.0, 1.0):  # every resample says the same: no interval can be had from them
        low = high = estimate
    else:
        found = stats.bootstrap(
            (x, y), share, n_resamples=RESAMPLES, method="percentile", vectorized=True,
            paired=False, rng=np.random.default_rng(SEED),
        )  # fmt: skip
        low, high = found.confidence_interval
    return Comparison(estimate, float(low), float(high), float(test.pvalue))


def effort(result: Result, metric: str = "sequences") -> float:
    """Sequences, or seconds, until solved; infinite where it was not."""
    solved = result.solved
    return solved[metric] if solved else math.inf
