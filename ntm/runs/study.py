"""A study: variants of a config over many seeds, and tests of what was trained.

Its YAML names a ``config``, ``seeds``, ``variants`` (each with ``set``, ``config`` or ``seeds`` of
its own) and ``tests`` (``set``, ``episodes`` and maybe ``slots``). ``curves`` names the variants
whose learning curves are drawn, ``sizes`` what is drawn over the tests whose labels are numbers.

``ntm sweep`` trains and tests every seed in OUT/VARIANT/seed-N, and keeps a row for each in
OUT/results.csv, and its validation while training in OUT/curves.csv.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import difflib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

import configs
from ntm.analysis.results import Result, read_results
from ntm.errors import NTMError, UsageError
from ntm.files import user_path, write_file
from ntm.runs.jobs import Job, Test
from ntm.runs.sweep import SweepState, SweepWatcher
from ntm.training.dialect import read_yaml
from ntm.training.load import load_config
from ntm.training.messages import validate
from ntm.training.schema import STRICT, Count
from ntm.training.task_settings import as_tested, task_settings

Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Variant:
    """What a variant has of its own: another config, settings or seeds."""

    config: str | None = None
    set: tuple[str, ...] = ()
    seeds: Seeds | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TestSettings:
    """A test, as ``ntm evaluate --set ... --slots ... --episodes ...`` does it."""

    __test__ = False

    episodes: Count
    set: tuple[str, ...] = ()
    slots: Count | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sizes:
    """The figure over the tests whose labels are numbers.

    name: of the horizontal axis. trained: the largest size in training. variants: those drawn, by
    default all. points: readings of others, each a label, a size and bits.
    """

    name: str
    trained: float
    variants: tuple[str, ...] = ()
    points: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Settings:
    """The file of a study."""

    config: str
    seeds: Seeds
    variants: Annotated[dict[str, Variant | None], Field(min_length=1)]
    tests: dict[str, TestSettings] = dataclasses.field(default_factory=dict)
    curves: tuple[str, ...] = ()
    sizes: Sizes | None = None


_SETTINGS: TypeAdapter[Settings] = TypeAdapter(Settings)


@plain_dataclass(frozen=True)
class Study:
    """A study that was read. ``name``: of its file, without the ending."""

    name: str
    source: str
    settings: Settings

    @property
    def variants(self) -> dict[str, Variant]:
        return {name: given or Variant() for name, given in self.settings.variants.items()}

    @property
    def folder(self) -> Path:
        """Where its runs and tables usually are."""
        return Path("runs") / "studies" / self.name

    def jobs(self, out: Path, only: Sequence[str] = ()) -> list[Job]:
        """Every seed of every variant, or of those named; each validated before anything is made.

        Raises UsageError for a variant that there is not, and for settings that cannot be.
        """
        self._check_names(only, "--only ")
        jobs = []
        for name, variant in self.variants.items():
            if only and name not in only:
                continue
            config = variant.config or self.settings.config
            with _naming(f"{self.source}: variants.{name}"):
                loaded = load_config(config, variant.set)
            tests = tuple(
                Test(label, test.set, test.episodes, test.slots)
                for label, test in self.settings.tests.items()
            )
            for test in tests:
                with _naming(f"{self.source}: tests.{test.label}"):
                    as_tested(loaded.task, task_settings(test.settings))
            for seed in variant.seeds or self.settings.seeds:
                resolved = dataclasses.replace(loaded, seed=seed)
                folder = out / name / f"seed-{seed}"
                jobs.append(Job(config, variant.set, seed, folder, resolved, tests))
        return jobs

    def check(self) -> None:
        """Raises UsageError for names that are no folders, or of no variant, and seeds given twice.

        The names are those of ``curves`` and ``sizes``.
        """
        for name, variant in self.variants.items():
            if "/" in name or "\\" in name or name.startswith(".") or not name.strip():
                raise UsageError(
                    f"{self.source}: variants.{name}: names a folder, so it should have no slash "
                    "and not begin with a dot"
                )
            seeds = variant.seeds or self.settings.seeds
            if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
                raise UsageError(f"{self.source}: variants.{name}: seed {twice[0]} is there twice")
        self._check_names(self.settings.curves, "curves: ")
        if self.settings.sizes is not None:
            self._check_names(self.settings.sizes.variants, "sizes.variants: ")

    def _check_names(self, names: Iterable[str], where: str) -> None:
        for name in names:
            if name not in self.settings.variants:
                near = difflib.get_close_matches(name, self.settings.variants, n=1)
                known = ", ".join(self.settings.variants)
                hint = f"did you mean {near[0]}?" if near else f"the variants are {known}"
                raise UsageError(f"{self.source}: {where}{name}: no such variant; {hint}")


def find_study(source: str) -> Path | None:
    """The file that a CONFIG argument means, where that is a study."""
    if source in configs.shipped_studies():
        return configs.FOLDER / f"{source}.yaml"
    with contextlib.suppress(OSError, ValueError):  # a name that no file system takes
        path = user_path(source)
        if path.is_file() and "variants" in read_yaml(path):
            return path
    return None


def load_study(source: str) -> Study:
    """The study at a path, or of a shipped name (``study/copy``)."""
    path = find_study(source)
    if path is None:
        raise UsageError(f"{source}: no such study; ntm list shows the shipped ones")
    study = Study(path.stem, source, validate(_SETTINGS, read_yaml(path), source))
    study.check()
    return study


def study_of(sources: Sequence[str], given: Mapping[str, object]) -> Study | None:
    """The study that the arguments of a sweep name, or None where they are configs.

    given: options that a study answers itself, by name. Raises UsageError for one that is given
    with a study, and for a study beside other arguments.
    """
    if not (found := [source for source in sources if find_study(source)]):
        return None
    if len(sources) > 1:
        raise UsageError(f"{found[0]}: is a study, and is swept alone")
    for option, value in given.items():
        if value:
            raise UsageError(f"{option}: {found[0]} is a study, and its file sets that")
    return load_study(found[0])


@contextlib.contextmanager
def _naming(where: str) -> Iterator[None]:
    """Errors begin with where in the study they are."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


# Tables


class Recorder:
    """A :class:`SweepWatcher` that keeps the rows of every job that is done, and tells another."""

    def __init__(self, study: Study, out: Path, watcher: SweepWatcher) -> None:
        self._study, self._out, self._watcher = study, out, watcher

    def changed(self, state: SweepState) -> None:
        self._watcher.changed(state)

    def ended(self, job: Job, error: str | None) -> None:
        if error is None:
            record(self._study, self._out, [job])
        self._watcher.ended(job, error)


def record(study: Study, out: Path, jobs: Iterable[Job]) -> None:
    """Keeps the rows of jobs that are done, in place of the rows that the tables have of them."""
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for job in jobs:
        result = _result(job)
        rows.append(_row(job, result))
        curves += _curve(job, result)
    _merge(out / "results.csv", list(study.variants), rows)
    _merge(out / "curves.csv", list(study.variants), curves)


def read_table(file: Path) -> list[dict[str, str]]:
    """The rows of a table; none where it is missing."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _result(job: Job) -> Result:
    results, troubles = read_results([job.folder])
    if not results:
        raise NTMError(f"{troubles[0].path}: {troubles[0].problem}")
    return results[0]


def _row(job: Job, result: Result) -> dict[str, Any]:
    """A row of results.csv. Sequences and seconds are until solved, and in all."""
    row: dict[str, Any] = {**_place(job), "status": result.manifest["status"]}
    row |= {"sequences": "", "seconds": ""}
    for end, at in (("", result.solved), (" in all", result.validation[-1])):
        if at is not None:
            row |= {f"{name}{end}": f"{at[name]:.0f}" for name in ("sequences", "seconds")}
    for test in job.tests:
        if test.applies_to(job.resolved) and (found := test.found(job.run)):
            row[f"{test.label}: bits"] = f"{found.bits - found.floor:.4f}"
            row[f"{test.label}: sequence accuracy"] = f"{found.sequence_accuracy:.3f}"
    return row | made_with(result.manifest)


def made_with(manifest: Mapping[str, Any]) -> dict[str, str]:
    """With what a run was made: commit, engine, processor and the version of the suite."""
    device = manifest.get("device", "cpu")
    found = {
        "commit": manifest.get("commit"),
        "engine": manifest.get("engine"),
        "processor": manifest.get("processor") if device == "cpu" else device,
        "version": manifest.get("versions", {}).get("ntm-suite"),
    }
    return {key: value or "" for key, value in found.items()}


def _curve(job: Job, result: Result) -> list[dict[str, Any]]:
    """Rows of curves.csv: excess bits in validation."""
    return [
        {**_place(job), "sequences": f"{at['sequences']:.0f}", "bits": f"{bits:.4g}"}
        for at, bits in zip(result.validation, result.curve, strict=True)
    ]


def _place(job: Job) -> dict[str, Any]:
    return {"variant": job.folder.parent.name, "seed": job.seed}


def _merge(file: Path, variants: list[str], rows: list[dict[str, Any]]) -> None:
    """Variants that the study does not name any more stay, at the end."""

    def place(row: dict[str, Any]) -> tuple[str, int]:
        return row["variant"], int(row["seed"])

    new = set(map(place, rows))
    kept = [row for row in read_table(file) if place(row) not in new] + rows
    order = {variant: i for i, variant in enumerate(variants)}
    kept.sort(key=lambda row: (order.get(row["variant"], len(order)), int(row["seed"])))
    text = io.StringIO()
    last = ("commit", "engine", "processor", "version")
    fields = dict.fromkeys(key for row in kept for key in row if key not in last)
    ends = dict.fromkeys(key for row in kept for key in row if key in last)
    writer = csv.DictWriter(text, [*fields, *ends], lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    write_file(file, text.getvalue())
