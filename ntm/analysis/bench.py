"""How fast the engines are on this computer: whole training steps, as ratios."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from ntm.kernels.threads import threads, use_threads
from ntm.runs.models import choose_engine, new_model
from ntm.runs.processor import processor
from ntm.runs.start import commit
from ntm.training.load import load_config
from ntm.training.optim import flatten
from ntm.training.schema import Config
from ntm.training.step import build_optimizer, clip, differentiation
from ntm.training.streams import Stream, numpy_generator
from ntm.training.task_settings import with_settings
from tasks import Episode


class Case(NamedTuple):
    """A shipped config at one size of the task and of the batch."""

    config: str
    settings: dict[str, Any]
    batch: int


#: Every task, every controller, and batches from single sequences up.
GRID = [
    Case("copy/ntm-lstm", {"length": [20, 20]}, 1),
    Case("copy/ntm-lstm", {"length": [20, 20]}, 16),
    Case("copy/ntm-lstm", {"length": [20, 20]}, 64),
    Case("copy/paper-ntm-ff", {"length": [20, 20]}, 1),
    Case("copy/ntm-gru", {"length": [20, 20]}, 1),
    Case("repeat_copy/paper-ntm-lstm", {"length": [10, 10], "repeats": [10, 10]}, 1),
    Case("associative_recall/paper-ntm-ff", {"items": [6, 6]}, 1),
    Case("ngram/paper-ntm-lstm", {}, 1),
    Case("priority_sort/paper-ntm-ff", {}, 16),
    # Without a memory: units whose reference is torch's own layer, and, but for these, a loop.
    Case("copy/lstm", {"length": [20, 20]}, 1),
    Case("copy/gru", {"length": [20, 20]}, 1),
    Case("copy/gru", {"length": [20, 20]}, 16),
    *(
        Case(f"compare/copy:{unit}", {"length": [20, 20]}, 1)
        for unit in ("leaky", "echo-state", "peephole-lstm", "nested-lstm", "gru1", "gru2", "gru3")
    ),
]


class Row(NamedTuple):
    """Median seconds of a whole training step; None where the fused engine cannot run."""

    config: str
    batch: int
    steps: int  # time steps of a sequence
    reference: float
    fused: float | None
    lstm: float  # torch.nn.LSTM of the controller's size alone, on the same inputs

    @property
    def name(self) -> str:
        """Which row this is, in words."""
        return f"{self.config}, batch {self.batch}"

    @property
    def times_reference(self) -> float | None:
        """The speed of the fused engine, relative to the reference."""
        return None if self.fused is None else self.reference / self.fused

    @property
    def times_lstm(self) -> float | None:
        """The speed of the fused engine, relative to torch.nn.LSTM alone."""
        return None if self.fused is None else self.lstm / self.fused

    def as_dict(self) -> dict[str, Any]:
        """All numbers, with the ratios."""
        ratios = {"times_reference": self.times_reference, "times_lstm": self.times_lstm}
        return {**self._asdict(), **ratios}


def bench(device: torch.device, repeats: int = 5, grid: list[Case] | None = None) -> Iterator[Row]:
    """Yields a row per case: its sides in turn, ``repeats`` times, of which the median counts."""
    use_threads(threads())
    for case in grid or GRID:
        config = load_config(case.config)
        task = with_settings(config.task, case.settings)
        rng = numpy_generator(0, Stream.TRAINING)
        episode = task.sample(rng, case.batch).to(device)
        sides: dict[str, Callable[[], None]] = {
            "reference": training_step(
                dataclasses.replace(config, engine="reference"), episode, device
            )
        }
        model = new_model(config, device)
        if choose_engine(config, model).engine == "fused":
            sides["fused"] = training_step(config, episode, device)
        sides["lstm"] = _lstm(config.model.controller.size, episode, device)
        seconds = _in_turn(sides, repeats, device)
        yield Row(
            case.config, case.batch, len(episode.inputs),
            seconds["reference"], seconds.get("fused"), seconds["lstm"],
        )  # fmt: skip


def about(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on: processor, threads, torch, and the commit of the suite."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {"device": name, "threads": threads(), "torch": torch.__version__, "commit": commit()}


def training_step(config: Config, episode: Episode, device: torch.device) -> Callable[[], None]:
    """A whole training step, except for drawing the episode, which is the same for all."""
    model = new_model(config, device)
    parameters = flatten(model)
    fused = choose_engine(config, model).engine == "fused"
    optimizer = build_optimizer(config, parameters, fused)
    differentiate = differentiation(model, parameters, config, optimizer)
    gradient = parameters.grad
    assert gradient is not None

    def step() -> None:
        differentiate(episode, None)
        clip(parameters, config.train.clip, torch.linalg.vector_norm(gradient))
        optimizer.step()

    return step


def _lstm(size: int, episode: Episode, device: torch.device) -> Callable[[], None]:
    lstm = torch.nn.LSTM(episode.inputs.shape[-1], size, device=device)
    optimizer = torch.optim.Adam(lstm.parameters())

    def step() -> None:
        optimizer.zero_grad()
        lstm(episode.inputs)[0].sum().backward()
        optimizer.step()

    return step


def _in_turn(
    sides: dict[str, Callable[[], None]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of a call of each side, warmed up, the sides taking turns.

    A turn is as many calls as fill about a tenth of a second, so that short calls are measured
    as finely as long ones. Torch is measured with one thread and with as many as the fused engine
    has, and the faster counts.
    """
    if threads() > 1:
        many = {f"{name}, threads": call for name, call in sides.items() if name != "fused"}
        medians = _medians({**sides, **many}, repeats, device)
        return {n: min(medians[n], medians.get(f"{n}, threads", math.inf)) for n in sides}
    return _medians(sides, repeats, device)


def _medians(
    sides: dict[str, Callable[[], None]], repeats: int, device: torch.device
) -> dict[str, float]:
    def seconds(name: str, count: int) -> float:
        call = sides[name]
        torch.set_num_threads(threads() if name.endswith(", threads") else 1)
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / count

    counts = {}
    for name in sides:
        seconds(name, 2)  # compiles, fills caches
        counts[name] = max(1, int(0.1 / seconds(name, 1)))
    turns = [{name: seconds(name, counts[name]) for name in sides} for _ in range(repeats)]
    torch.set_num_threads(1)
    return {name: statistics.median(turn[name] for turn in turns) for name in sides}
