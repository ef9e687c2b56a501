"""evaluations.json: what ``ntm evaluate`` has found."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from ntm.errors import NTMError
from ntm.files import write_file


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of a run on fixed episodes: means over all of them, and for each condition."""

    task: dict[str, Any]  # the settings of the task that were given; {}: those of training
    slots: int | None  # of the memory; None: the model has none
    episodes: int
    seed: int  # of the episodes
    sequences: int  # that the weights were trained on
    bits: float  # cost of a sequence
    floor: float  # the cost that the best predictor would still have
    bit_errors: float  # per sequence; of classes, wrong answers
    sequence_accuracy: float  # fraction of sequences without an error
    conditions: list[dict[str, float]]  # a row for each combination of conditions, such as length
    accuracy: float | None = None  # fraction of correct answers, where they are asked one by one
    steps: list[dict[str, float]] = field(default_factory=list)  # by the task's label of steps

    @property
    def is_finite(self) -> bool:
        """Whether it scored a model whose outputs are numbers."""
        return math.isfinite(self.bits)

    @property
    def excess_bits(self) -> float:
        """Cost above the floor."""
        return self.bits - self.floor

    def by_condition(self, name: str) -> list[dict[str, float]]:
        """The rows of ``conditions`` averaged over all conditions but this one."""
        rows: dict[float, list[dict[str, float]]] = {}
        for row in self.conditions:
            rows.setdefault(row[name], []).append(row)
        return [{name: value, **_mean(rows[value])} for value in sorted(rows)]

    def condition_names(self) -> list[str]:
        """The names of the conditions, such as length."""
        return [name for name in (self.conditions or [{}])[0] if name not in (*_MEANS, "episodes")]

    def scores(self) -> dict[str, Any]:
        """The scores, with the slots of the memory, as plain data."""
        unless_empty = ("accuracy", "steps")
        names = ("episodes", *_MEANS, "slots", "conditions", *unless_empty)
        data = {name: getattr(self, name) for name in names}
        return {k: v for k, v in data.items() if k not in unless_empty or v not in (None, [])}

    def question(self) -> str:
        """What was asked: two with the same question replace one another."""
        return json.dumps([self.task, self.slots, self.episodes, self.seed], sort_keys=True)


_EVALUATION: TypeAdapter[Evaluation] = TypeAdapter(Evaluation)

_MEANS = ("bits", "floor", "bit_errors", "sequence_accuracy")


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of rows of means, each of ``episodes`` episodes."""
    episodes = sum(row["episodes"] for row in rows)
    sums = {name: sum(row["episodes"] * row[name] for row in rows) for name in _MEANS}
    return {"episodes": episodes, **{name: sums[name] / max(1, episodes) for name in _MEANS}}


def keep(found: Evaluation, file: Path) -> None:
    """Adds an evaluation to a file of them, in place of one of the same question."""
    entries = {entry.question(): entry for entry in [*read(file), found]}
    data = [dataclasses.asdict(entry) for entry in entries.values()]
    lines = ",\n".join(json.dumps(entry, allow_nan=False) for entry in data)
    write_file(file, f"[\n{lines}\n]\n")


def read(file: Path) -> list[Evaluation]:
    """The evaluations in a file; none where there is no file. Raises NTMError."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return [_EVALUATION.validate_python(entry) for entry in data]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise NTMError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from None
