from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.base import HeldOut
from tasks.charlm import CharLM
from tasks.losses import CLASSES
from tasks.text import SYMBOLS
from tests.tasks import grammar


@pytest.fixture
def text(tmp_path: Path) -> tuple[str, str]:
    """A path and what is there: no stretch of it stands in it twice."""
    rng = np.random.default_rng(4)
    content = "".join(rng.choice(list(SYMBOLS), size=2000))
    (tmp_path / "text").write_text(content)
    return str(tmp_path / "text"), content


def shown(row: list[list[float]]) -> str:
    """The text that one-hot rows stand for."""
    assert all(sorted(step)[-2:] == [0, 1] for step in row)
    return "".join(SYMBOLS[step.index(1)] for step in row)


@pytest.mark.parametrize("length", [1, 7])
def test_a_window_and_what_follows_each_of_its_characters(
    length: int, text: tuple[str, str]
) -> None:
    path, content = text
    task = CharLM(path=path, length=length)
    episode = task.sample(np.random.default_rng(5), 23)
    assert episode.inputs.shape == (length, 23, task.input_size) == (length, 23, 27)
    assert episode.targets.shape == (length, 23, 1)
    assert episode.targets.dtype.is_floating_point is False
    assert (episode.mask == 1).all()
    assert episode.conditions["length"].tolist() == [length] * 23
    for b in range(23):
        before = shown(episode.inputs[:, b].tolist())
        after = "".join(SYMBOLS[i] for i in episode.targets[:, b, 0].tolist())
        assert before[1:] == after[:-1]
        assert before + after[-1] in content
    assert task.loss is CLASSES
    assert task.positions(episode) == {}
    assert task.floor(episode).tolist() == [0] * 23


@pytest.mark.parametrize(
    ("part", "low", "high"),
    [(None, 0, 1800), ("validation", 1800, 1900), ("test", 1900, 2000)],
)
def test_each_purpose_draws_from_its_own_part_and_from_all_of_it(
    part: HeldOut | None, low: int, high: int, text: tuple[str, str]
) -> None:
    path, content = text
    task = CharLM(path=path, length=11)
    drawn = task if part is None else task.held_out(part)
    episode = drawn.sample(np.random.default_rng(6), 20_000)
    windows = {
        shown(episode.inputs[:, b].tolist()) + SYMBOLS[int(episode.targets[-1, b, 0])]
        for b in range(20_000 if part else 300)
    }
    possible = {content[i : i + 12] for i in range(low, high - 11)}
    assert windows <= possible
    assert part is None or windows == possible
    if part is None:
        first = np.array([SYMBOLS.index(c) for c in content])
        counts = np.bincount(first[low : high - 11], minlength=27) / (high - 11 - low)
        seen = episode.inputs[0].mean(dim=0).numpy()
        assert np.abs(seen - counts).max() < 0.02  # everywhere alike


def test_a_part_is_a_copy_of_the_task() -> None:
    task = CharLM(path=grammar.shared_file(), length=9)
    other = task.held_out("test")
    assert (task.part, other.part, other.held_out("validation").part) == (
        "train", "test", "validation",
    )  # fmt: skip
    assert (other.path, other.length) == (task.path, task.length)
