"""The results of many runs: read from their folders, grouped by model, compared statistically."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ntm.analysis.trace import Trace, record
from ntm.errors import NTMError, UsageError
from ntm.runs.evaluations import Evaluation
from ntm.runs.folder import RunDir
from ntm.runs.models import load_model
from ntm.runs.start import flat
from ntm.training.episodes import draw
from ntm.training.load import to_dict
from ntm.training.schema import Config
from ntm.training.streams import Stream, numpy_generator
from ntm.training.task_settings import with_settings

#: Resamples of a bootstrap, and its seed: the same report every time.
RESAMPLES, SEED = 2000, 2014


@dataclass(frozen=True)
class Result:
    """One run that has ended, solved or out of budget."""

    run: RunDir
    config: Config
    manifest: Mapping[str, Any]
    validation: list[dict[str, float]]
    evaluations: list[Evaluation]  # with the weights that the run has now

    @property
    def curve(self) -> list[float]:
        """Excess bits of every validation."""
        return [row["bits"] - row["floor"] for row in self.validation]

    @property
    def solved(self) -> dict[str, float] | None:
        """The first row of validation below ``solved_bits``; None where there is none."""
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
        """The row of validation whose weights were kept."""
        return min(self.validation, key=lambda row: row["bits"] - row["floor"])


#: The beginning of the problem of a run that is a copy of another.
TWICE = "has the config and the seed of"


class Trouble(NamedTuple):
    """A run that is not compared, and why."""

    path: Path
    problem: str


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    details: the settings that set it apart from other groups of the same model, if there are any.
    """

    name: str
    results: list[Result]
    details: str = ""

    @property
    def final_bits(self) -> list[float]:
        """Excess bits of the best validation of each seed."""
        return [result.best["bits"] - result.best["floor"] for result in self.results]

    @property
    def standing(self) -> tuple[float, ...]:
        """The key that ranks groups: seeds that solved, sequences until then, final bits."""
        taken = [effort(result) for result in self.results if result.solved]
        until = float(np.median(taken)) if taken else math.inf
        return -len(taken) / len(self.results), until, float(np.median(self.final_bits))

    @property
    def median(self) -> Result:
        """The median seed: by sequences until solved, and those unsolved behind by their bits."""

        def rank(result: Result) -> tuple[float, float]:
            solved = result.solved
            return (solved["sequences"] if solved else math.inf, min(result.curve))

        return sorted(self.results, key=rank)[(len(self.results) - 1) // 2]


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """The folders of runs among these paths and below them, each once."""
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder")
        below = sorted(file.parent for file in path.rglob("config.yaml"))
        if not below:
            raise UsageError(f"{path}: no run here or below (a run's folder holds a config.yaml)")
        found = {**{folder.resolve(): folder for folder in below}, **found}
    return sorted(found.values())


def read_results(paths: Iterable[Path]) -> tuple[list[Result], list[Trouble]]:
    """The runs that have ended, and those that are damaged or have not ended, and why.

    A run that diverged counts as one that has not solved its task. Of two runs with the same config
    and seed, such as a copy, the first counts.
    """
    results, troubles = [], []
    seen: dict[str, Path] = {}
    for path in paths:
        try:
            result = _read(RunDir.open(path))
            key = repr(sorted(flat(to_dict(result.config)).items(), key=str))
            if key in seen:
                raise NTMError(f"{TWICE} {seen[key]}")
            seen[key] = path
            results.append(result)
        except NTMError as error:
            problem = " ".join(str(error).split()).replace(f"{path}/", "").replace(f"{path}: ", "")
            troubles.append(Trouble(path, problem))
    return results, troubles


def _read(run: RunDir) -> Result:
    config, manifest = run.config(), run.manifest()
    if manifest.status is None or not manifest.status.has_result:
        raise NTMError(f"has not ended: its status is {manifest.status or 'unknown'}")
    validation = run.rows(run.validation_file)
    needed = {"sequences", "seconds", "bits", "floor", "sequence_accuracy"}
    if not validation or not needed <= set(validation[0]):
        raise NTMError(f"{run.validation_file}: holds no whole row of validation")
    if not all(math.isfinite(value) for row in validation for value in row.values()):
        raise NTMError(f"{run.validation_file}: holds a number that is not finite")
    result = Result(run, config, manifest, validation, [])
    return replace(result, evaluations=_usable(result, run.evaluations()))


def _usable(result: Result, evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Those of the weights that the run has now; of two of the same test, that of more episodes."""
    found: dict[str, Evaluation] = {}
    for e in evaluations:
        if e.sequences != result.best["sequences"] or not math.isfinite(e.bits - e.floor):
            continue
        with_settings(result.config.task, e.task)  # names what the task does not have
        if not all({"bits", "floor"} < set(row) for row in e.conditions):
            raise NTMError(f"{result.run.evaluations_file}: a condition has no bits")
        key = repr((sorted(e.task.items(), key=str), e.slots))
        if key not in found or found[key].episodes < e.episodes:
            found[key] = e
    return list(found.values())


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
    """Groups of the same model get numbers, and the settings in which they differ as details."""
    settings = [flat(to_dict(results[0].config)) for results in groups]
    names = [model_name(results[0].config) for results in groups]
    numbers = {name: itertools.count(1) for name in names}
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
        label = f"{name} [{next(numbers[name])}]" if details else name
        named.append(Group(label, by_seed, details))
    return sorted(named, key=lambda g: g.name)


def unlike(groups: Iterable[Group]) -> dict[str, list[Any]]:
    """Settings that decide when a run is solved, or what its validation means, where they differ.

    Also how often runs are validated and how long they may take, which bound what can be seen.
    """
    found: dict[str, list[Any]] = {}
    for g in groups:
        config = g.results[0].config
        task = vars(config.validation_task)
        terms = {
            **{f"validation.task.{name}": value for name, value in task.items()},
            "validation.episodes": config.validation.episodes,
            "validation.every": config.validation.every,
            "train.solved_bits": config.train.solved_bits,
            "train.sequences": config.train.sequences,
        }
        for key, value in terms.items():
            if value not in found.setdefault(key, []):
                found[key].append(value)
    return {key: values for key, values in found.items() if len(values) > 1}


def traces_of(groups: Iterable[Group]) -> tuple[dict[str, Trace], list[Trouble]]:
    """An episode of the median run of each group with a memory; runs that give none, and why."""
    traces, troubles = {}, []
    for g in groups:
        if g.median.has_memory:
            try:
                traces[g.name] = trace_of(g.median)
            except NTMError as error:
                path = g.median.run.path
                problem = f"no picture of its memory: {error}".replace(f"{path}/", "")
                troubles.append(Trouble(path, problem))
    return traces, troubles


def trace_of(result: Result) -> Trace:
    """One episode of the size of validation, with the weights that the run has kept."""
    model, config = load_model(result.run)
    rng = numpy_generator(0, Stream.EVALUATION)
    task = config.validation_task
    return record(model, draw(task, rng, 1), task.loss)


def versions(results: Iterable[Result]) -> str:
    """The versions that the runs were made with, on one line."""
    found: dict[str, None] = {}
    for result in results:
        named = result.manifest.get("versions")
        for name, version in (named if isinstance(named, dict) else {}).items():
            found[f"{name} {version}"] = None
    return ", ".join(found)


def model_name(config: Config) -> str:
    """A model in a few words: NTM with LSTM 100, LSTM 3x256 (skip), nested LSTM 30 (depth 3)."""
    controller, memory = config.model.controller, config.model.memory
    layers = f"{controller.layers}\N{MULTIPLICATION SIGN}" if controller.layers > 1 else ""
    usual = type(controller)()  # type: ignore[call-arg]  # its kind has a value
    unusual = [
        field.name if value is True else f"{field.name} {value}"
        for field in dataclasses.fields(controller)
        if field.name not in ("size", "layers")
        and (value := getattr(controller, field.name)) != getattr(usual, field.name)
    ]
    name = f"{controller.name} {layers}{controller.size}"
    name += f" ({', '.join(unusual)})" if unusual else ""
    if config.train.optimizer.kind == "ridge":
        name += ", ridge regression"
    if memory is None:
        form = config.model.direction.replace("_", "-")
        return name if form == "causal" else f"{form} {name}"
    return memory.describe(name)


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


#: With fewer seeds no interval that a bootstrap can give covers 95%: of n values it reaches from
#: the least to the most at the furthest, which hold the median with a probability of 1 - 2^(1 - n).
ENOUGH = 6


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """A 95% bootstrap interval of the median; None for too few values to have one."""
    if len(values) < ENOUGH:
        return None
    if len(set(values)) == 1:
        return values[0], values[0]
    from scipy import stats  # here, as it takes half a second of every start

    found = stats.bootstrap(
        (np.asarray(values),), np.median, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(SEED),
    )  # fmt: skip
    interval = found.confidence_interval
    return float(interval.low), float(interval.high)


class Comparison(NamedTuple):
    """Two groups of seeds, A and B, on the same score, of which less is better."""

    better: float  # probability that a seed of A scores less than one of B; ties count half
    interval: tuple[float, float] | None  # the 95% bootstrap interval of that, if it has one
    p_value: float  # of the Mann-Whitney U test by permutation, two-sided, for this pair alone


def compare(a: Sequence[float], b: Sequence[float]) -> Comparison | None:
    """None where a group has fewer than three seeds: then there is nothing to say."""
    if min(len(a), len(b)) < 3:
        return None
    from scipy import stats  # here, as above

    def share(x: Any, y: Any, axis: int = -1) -> Any:
        """P(x < y) + P(x = y) / 2, along the last axis."""
        del axis
        less = x[..., :, None] < y[..., None, :]
        same = x[..., :, None] == y[..., None, :]
        return (less + same / 2).mean(axis=(-2, -1))

    # Ranks carry all that is asked for, and an infinite value is one like others.
    ranks = stats.rankdata([*a, *b])
    x, y = ranks[: len(a)], ranks[len(a) :]
    estimate = float(share(x, y))
    by_permutation = stats.PermutationMethod(rng=np.random.default_rng(SEED))
    p_value = (
        1.0
        if len(set(ranks)) == 1
        else float(stats.mannwhitneyu(x, y, method=by_permutation).pvalue)
    )
    interval = None
    # Where one group is always ahead, every resample says so: that is no interval.
    if min(len(a), len(b)) >= ENOUGH and 0 < estimate < 1:
        found = stats.bootstrap(
            (x, y), share, n_resamples=RESAMPLES, method="percentile", vectorized=True,
            paired=False, rng=np.random.default_rng(SEED),
        ).confidence_interval  # fmt: skip
        interval = float(found.low), float(found.high)
    return Comparison(estimate, interval, p_value)


def effort(result: Result, metric: str = "sequences") -> float:
    """Sequences, or seconds, until solved; infinite where it was not."""
    solved = result.solved
    return solved[metric] if solved else math.inf
