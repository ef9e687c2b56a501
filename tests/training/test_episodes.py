"""Episodes that are not what their task says are refused when they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from controllers import configure
from ntm.analysis.evaluate import evaluate
from ntm.errors import UsageError
from ntm.model import ModelConfig, build_model
from ntm.training.episodes import draw
from tasks import TASKS, Episode, Task
from tasks.charlm import CharLM
from tasks.copy import Copy
from tests.tasks import grammar

#: 4 inputs, 3 outputs, 11 steps.
COPY = Copy(width=3, length=(5, 5))
TEXT = CharLM(path=grammar.shared_file(), length=6)


class Changed:
    """A task whose episodes are changed."""

    def __init__(self, task: Task, change: Callable[[Episode], Episode]) -> None:
        self._task, self._change = task, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def sample(self, rng: np.random.Generator, batch: int) -> Episode:
        return self._change(self._task.sample(rng, batch))


def drawn(task: Task, change: Callable[[Episode], Episode]) -> Episode:
    """What ``draw`` makes of a batch of 7."""
    changed: Any = Changed(task, change)
    return draw(changed, np.random.default_rng(1), 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e._replace(inputs=e.inputs[..., :3]),
         r"inputs should be \[11, 7, 4\], \[T, B, input_size\]; sample gave \[11, 7, 3\]"),
        (lambda e: e._replace(targets=e.targets[..., :2]),
         r"targets should be \[11, 7, 3\], \[T, B, output_size\]; sample gave \[11, 7, 2\]"),
        (lambda e: e._replace(targets=e.targets[:-1]),
         r"targets should be \[11, 7, 3\], .*; sample gave \[10, 7, 3\]"),
        (lambda e: e._replace(mask=e.mask[..., None]),
         r"mask should be \[11, 7\], \[T, B\]; sample gave \[11, 7, 1\]"),
        (lambda e: e.select(0, 6), r"inputs should be \[\d+, 7, 4\], .* gave \[\d+, 6, 4\]"),
        (lambda e: e._replace(inputs=e.inputs[0]),
         r"inputs should be \[7, 7, 4\], .* gave \[7, 4\]"),
        (lambda e: e._replace(inputs=torch.cat([e.inputs, e.inputs])),
         r"an episode has at most 11 steps \(steps\); sample gave 22"),
        (lambda e: e._replace(inputs=e.inputs[:0]), "sample gave 0"),
        (lambda e: e._replace(inputs=e.inputs.double()),
         r"inputs should be torch\.float32; sample gave torch\.float64"),
        (lambda e: e._replace(targets=e.targets.long()),
         r"targets should be torch\.float32; sample gave torch\.int64"),
        (lambda e: e._replace(mask=e.mask > 0),
         r"mask should be torch\.float32; sample gave torch\.bool"),
        (lambda e: e._replace(mask=e.mask / 2), "mask should be 1 where the outputs are scored"),
        (lambda e: e._replace(mask=e.mask / 0 * 0), "mask should be 1 where the outputs are"),
        (lambda e: e._replace(targets=e.targets * 2), "targets should be from 0 to 1; .* 0 to 2"),
        (lambda e: e._replace(targets=e.targets / 0), "targets should be from 0 to 1"),
        (lambda e: e._replace(conditions={"length": torch.zeros(6)}),
         r"the condition length should be a tensor \[7\], \[B\]; sample gave \[6\]"),
        (lambda e: e._replace(conditions={"length": 3}), "tensor .*; sample gave int"),
    ],
)  # fmt: skip
def test_an_episode_of_other_sizes_is_refused(
    change: Callable[[Episode], Episode], message: str
) -> None:
    with pytest.raises(UsageError, match=rf"^task copy: .*{message}") as caught:
        drawn(COPY, change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e._replace(targets=e.targets.float()), r"torch\.int64; .* torch\.float32"),
        (lambda e: e._replace(targets=e.targets[..., 0]), r"\[6, 7, 1\], \[T, B, 1\]; .*\[6, 7\]"),
        (lambda e: e._replace(targets=e.targets + 27), "from 0 to 26; sample gave 2"),
        (lambda e: e._replace(targets=e.targets - 27), "from 0 to 26; sample gave -2"),
    ],
)  # fmt: skip
def test_classes_are_numbers_below_the_outputs(
    change: Callable[[Episode], Episode], message: str
) -> None:
    with pytest.raises(UsageError, match=rf"^task charlm: targets should be {message}"):
        drawn(TEXT, change)


def test_an_episode_as_the_task_says_is_passed_on() -> None:
    for task in (COPY, TEXT):
        found = drawn(task, lambda e: e)
        same = task.sample(np.random.default_rng(1), 7)
        assert all(torch.equal(a, b) for a, b in zip(found[:3], same[:3], strict=True))
    for kind in sorted(TASKS.keys() - {"charlm", "autocomplete"}):
        draw(TASKS[kind](), np.random.default_rng(2), 5)


def test_a_task_needs_no_conditions() -> None:
    """Its scores are means over all episodes, and broken down by nothing."""

    class Plain(Copy):
        def sample(self, rng: np.random.Generator, batch: int) -> Episode:
            return super().sample(rng, batch)._replace(conditions={})

    model = build_model(ModelConfig(controller=configure("gru")), 9, 8, torch.Generator())
    plain, usual = (evaluate(model, task(), 60).summary() for task in (Plain, Copy))
    assert plain.pop("conditions") == []
    assert len(usual.pop("conditions")) > 5
    assert plain == usual
