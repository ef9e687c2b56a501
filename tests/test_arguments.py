"""Functions take NumPy numbers and any path; a mistake is one line; messages show in notebooks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import ntm as package
from ntm.arguments import whole
from ntm.errors import UsageError
from ntm.logs import show_unless_configured
from tests.terminal import SMALL

ntm: Any = package  # NumPy's numbers are no int for a type checker


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    config = yaml.safe_load(SMALL) | {"engine": "reference"}
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    done: package.Run = ntm.train(
        folder / "small.yaml", seed=np.int64(3), run=folder / "run", threads=np.int8(1),
        settings={"train.batch": np.int64(2), "train.optimizer.lr": np.float32(0.01)},
        progress=False,
    )  # fmt: skip
    return done.path


def test_numbers_of_numpy_are_numbers(run: Path) -> None:
    config = ntm.load(run).config
    assert (config.seed, config.train.batch) == (3, 2)
    assert config.train.optimizer.lr == pytest.approx(0.01)
    same = ntm.evaluate(run, length=2, slots=11, episodes=4, seed=5)
    settings: dict[str, Any] = {"length": np.int32(2)}
    found = ntm.evaluate(
        run, slots=np.int64(11), episodes=np.uint8(4), seed=np.int16(5), task=settings
    )
    assert found == same
    assert ntm.load(str(run), slots=np.int64(32)).config.model.memory.slots == 32
    model = ntm.NTM(
        np.int64(4), np.int32(3), slots=np.int64(5), width=np.int8(3), hidden_size=np.int64(6),
        erase_bias=np.float32(1),
    )  # fmt: skip
    output, _ = model(torch.zeros(2, 1, 4), engine="reference")
    assert output.shape == (2, 1, 3)


MISTAKES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda run: ntm.load(run, slots=3.5), "slots: should be a whole number from 1 up, not 3.5"),
    (lambda run: ntm.load(run, slots="x"), "slots: should be a whole number from 1 up, not 'x'"),
    (lambda run: ntm.load(run, slots=True), "slots: should be a whole number from 1 up, not True"),
    (lambda run: ntm.evaluate(run, episodes=0), "episodes: should be a whole number from 1 up"),
    (lambda run: ntm.evaluate(run, seed=-1), "seed: should be a whole number from 0 up, not -1"),
    (lambda run: ntm.evaluate(run, length=np.float64(2.5)), "task.length: should be"),
    (lambda run: ntm.plot(run, seed=0.5), "seed: should be a whole number from 0 up, not 0.5"),
    (lambda run: ntm.evaluate(run, threads=0), "threads: should be a whole number from 1 up"),
    (lambda run: ntm.NTM(4, 3, slots=0), "slots: should be greater than or equal to 1, not 0"),
    (lambda run: ntm.NTM(4, 3, controller="gru", hidden_size="x"), "size: should be a valid"),
    (lambda run: ntm.NTM(4, 3, shared=True, read_heads=2), "shared: every head reads and writes"),
]


@pytest.mark.parametrize(("call", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_a_mistake_is_one_line(run: Path, call: Callable[[Path], Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        call(run)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


def test_whole_numbers() -> None:
    assert whole("n", np.int64(7)) == 7
    assert type(whole("n", np.int64(7))) is int


@pytest.mark.parametrize("configured", [False, True])
def test_messages_show_where_nobody_has_set_up_logging(
    configured: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log, root = logging.getLogger("ntm"), logging.getLogger()
    heard: list[str] = []

    class Mine(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "level", logging.NOTSET)
    monkeypatch.setattr(root, "handlers", [Mine()] if configured else [])
    log.manager._clear_cache()  # type: ignore[attr-defined]  # of levels
    show_unless_configured()
    show_unless_configured()  # imported again
    log.info("compiling")
    assert capsys.readouterr().err == ("" if configured else "compiling\n")
    assert heard == (["compiling"] if configured else [])
