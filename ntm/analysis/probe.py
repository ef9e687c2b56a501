"""The model of a run at other sizes of its task: what the paper's figures show."""

from __future__ import annotations

from typing import Any

from ntm.analysis.evaluate import evaluate
from ntm.analysis.results import Result
from ntm.analysis.trace import Trace, record
from ntm.runs.models import load_model
from ntm.training.episodes import draw
from ntm.training.streams import Stream, numpy_generator
from ntm.training.task_settings import with_settings


def trace_at(result: Result, **settings: Any) -> Trace:
    """The model at work on one episode, of its validation task but for the settings."""
    model, config = load_model(result.run)
    task = with_settings(config.validation_task, settings)
    return record(model, draw(task, numpy_generator(0, Stream.EVALUATION), 1), task.loss)


def bits_at(result: Result, name: str, values: list[int], episodes: int = 100) -> list[float]:
    """Mean bits per sequence where the setting ``name`` of its task has these values, in turn."""
    model, config = load_model(result.run)
    tasks = [with_settings(config.validation_task, {name: value}) for value in values]
    return [float(evaluate(model, task, episodes=episodes).bits.mean()) for task in tasks]
