"""What a memory costs: a training step against slots, a sequence against its length.

Every cell is measured in a fresh process. Its time is the median of its calls, of which there is
one where that takes long. Its memory is the peak of the resident set, above that of the same call
with a few slots on a short sequence, so that what Python, torch and kernels take is left out.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch

from ntm.analysis.bench import training_step
from ntm.errors import NTMError, UsageError
from ntm.kernels.threads import threads, use_threads
from ntm.memory.ntm import NTMCell, NTMState
from ntm.model import Model
from ntm.runs.launcher import search_path
from ntm.runs.models import new_model
from ntm.runs.resources import guarded_memory
from ntm.runs.session import peak_memory_mib
from ntm.training.limits import physical_memory
from ntm.training.load import load_config
from ntm.training.optim import flatten
from ntm.training.schema import Config
from ntm.training.step import build_optimizer, clip, unrolling
from ntm.training.streams import Stream, numpy_generator
from ntm.training.task_settings import with_settings
from tasks import Episode

CPU = torch.device("cpu")


class Side(NamedTuple):
    """A way to have a memory: a name for tables, and settings on top of copy/ntm-lstm's."""

    label: str
    settings: tuple[str, ...]
    own_rows: bool = False  # whether the first state has a row for every slot


#: What is compared. One more line compares one more.
SIDES = {
    "reference": Side("reference", ("engine=reference",)),
    "dense": Side("fused, a row per slot", ("engine=fused",), own_rows=True),
    "alike": Side("fused, alike slots as one", ("engine=fused",)),
}

#: A whole training step, or a sequence without gradients. Both of copy, batch 1.
What: TypeAlias = Literal["step", "sequence"]


class Place(NamedTuple):
    """What a cell is about: slots of the memory, and vectors to copy in 2 length + 1 time steps."""

    what: What
    slots: int
    length: int

    @property
    def size(self) -> int:
        """What grows from cell to cell: slots of a step, or the length of a sequence."""
        return self.slots if self.what == "step" else self.length


#: In the memory of the sequences there is room for the longest.
GRID = [
    *(Place("step", 10**n, 20) for n in range(2, 7)),
    *(Place("sequence", 2**17, 10**n) for n in range(2, 6)),
]
#: For all sides: what is compiled and loaded before anything is measured.
WARM_UP = (16, 2)  # slots, length


class Cell(NamedTuple):
    """What one side takes at one place."""

    place: Place
    side: str
    seconds: float | None = None  # None where it was not measured
    mib: float | None = None
    skipped: str = ""  # why it was not

    @property
    def name(self) -> str:
        """Which cell this is, in words."""
        what = "a training step" if self.place.what == "step" else "a sequence"
        slots, length = f"{self.place.slots:,} slots", f"length {self.place.length:,}"
        return f"{what}, {slots}, {length}, {SIDES[self.side].label}"

    def as_dict(self) -> dict[str, Any]:
        """All of it, without nesting."""
        numbers = {"seconds": self.seconds, "mib": self.mib, "skipped": self.skipped}
        return {**self.place._asdict(), "side": self.side, **numbers}


class Bounds(NamedTuple):
    """No cell is measured that is expected to take more: seconds of a call, MiB of memory."""

    seconds: float = 120.0
    mib: float = physical_memory() / 2**21  # half of it

    def exceeded(self, seconds: float, mib: float) -> str:
        """Which bound is, in words; nothing where none is."""
        if seconds > self.seconds:
            return f"would take about {seconds:,.0f} s"
        return f"would need about {mib / 1024:,.3g} GiB" if mib > self.mib else ""


def scale(
    device: torch.device = CPU,
    grid: Sequence[Place] | None = None,
    sides: Sequence[str] = tuple(SIDES),
    bounds: Bounds | None = None,
    seconds: float = 2.0,
) -> Iterator[Cell]:
    """Yields a cell for each place and side, smaller places first, the sides in turn.

    seconds: of calls, for each cell; a call that takes longer than five times that is the only one.

    A cell is skipped where the ones before it let expect more than the bounds. The fused engine has
    the threads of this process. Raises UsageError for a device other than the CPU.
    """
    if device.type != "cpu":
        raise UsageError(f"--scale measures the CPU, not --device {device}")
    bounds = bounds or Bounds()
    done: defaultdict[tuple[str, str], list[Cell]] = defaultdict(list)
    failed: dict[tuple[str, str], str] = {}
    for place in grid or GRID:
        for side in sides:
            series = place.what, side
            problem = failed.get(series) or _expected(done[series], place, bounds)
            if problem:
                yield Cell(place, side, skipped=problem)
                continue
            cell = _cell(place, side, bounds, seconds)
            if cell.seconds is not None:
                done[series].append(cell)
            else:
                failed[series] = f"not tried, as {place.size:,} {cell.skipped}"
            yield cell


def _expected(done: Sequence[Cell], place: Place, bounds: Bounds) -> str:
    """Why a place is not worth a try after smaller ones; nothing where it is."""
    if not done:
        return ""
    sizes = [cell.place.size for cell in done]
    seconds = [cast("float", cell.seconds) for cell in done]
    mib = [cast("float", cell.mib) for cell in done]
    # Nothing grows faster than the slots, or than the square of the length.
    most = 1.0 if place.what == "step" else 2.0
    expected = (extrapolate(sizes, values, place.size, most) for values in (seconds, mib))
    return bounds.exceeded(*expected)


def extrapolate(
    sizes: Sequence[int], values: Sequence[float], size: int, most: float = 2.0
) -> float:
    """The power law through the last two values, at a larger size; proportional to it after one.

    most: the largest power that can be: the rest of what was measured is chance.
    """
    power = 1.0
    if len(sizes) > 1 and min(values[-2:]) > 0:
        power = math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])
    return values[-1] * math.pow(size / sizes[-1], min(max(power, 0.0), most))


def _cell(place: Place, side: str, bounds: Bounds, seconds: float) -> Cell:
    """Measures in a process of its own."""
    request = {"place": place, "side": side, "threads": threads(), "seconds": seconds}
    setup = json.dumps({"path": search_path(), "request": request})
    # -I: neither the current folder nor the environment puts a module in front of Python's own.
    command = [sys.executable, "-I", "-c", _CHILD, setup]
    patience = 120 + 5 * bounds.seconds  # kernels may have to be compiled first
    try:
        child = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        return Cell(place, side, skipped=f"took more than {patience:,.0f} s")
    lines = child.stdout.decode(errors="replace").splitlines()
    if child.returncode == 0 and lines:
        return Cell(place, side, **json.loads(lines[-1]))
    errors = child.stderr.decode(errors="replace").strip().splitlines()
    return Cell(place, side, skipped=f"failed: {errors[-1] if errors else child.returncode}")


_CHILD = """
import json, sys
setup = json.loads(sys.argv[1])
sys.path[:] = setup["path"]
from ntm.analysis.scale import answer
print(json.dumps(answer(**setup["request"])))
"""


def answer(place: Sequence[Any], side: str, threads: int, seconds: float) -> dict[str, Any]:
    """What a child says: ``seconds`` and ``mib``, or why there are none, ``skipped``."""
    use_threads(threads)
    try:
        with guarded_memory(CPU):
            median, mib = measure(Place(*place), SIDES[side], seconds)
    except NTMError as error:
        return {"skipped": f"failed: {error}"}
    return {"seconds": median, "mib": mib}


def measure(place: Place, side: Side, seconds: float) -> tuple[float, float]:
    """Median seconds of a call, and MiB of memory.

    seconds: of calls, or five times as many until there have been five calls.
    """
    slots, length = WARM_UP
    _call(place._replace(slots=slots, length=length), side)()
    before = _peak(anew=True)
    call = _call(place, side)
    taken: list[float] = []
    while len(taken) < 1 or sum(taken) < seconds * (1 if len(taken) >= 5 else 5):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), max(0.0, _peak() - before)


def _call(place: Place, side: Side) -> Callable[[], object]:
    """What is measured at a place, ready to run."""
    config = load_config("copy/ntm-lstm", [f"model.memory.slots={place.slots}", *side.settings])
    task = with_settings(config.task, {"length": place.length})
    episode = task.sample(numpy_generator(0, Stream.TRAINING), 1)
    if place.what == "sequence":
        return _sequence(config, episode, side.own_rows)
    if side.own_rows:
        return _step_from_rows(config, episode)
    return training_step(config, episode, CPU)


def _sequence(config: Config, episode: Episode, own_rows: bool) -> Callable[[], object]:
    """A sequence without gradients, as in ``ntm evaluate``."""
    model = new_model(config)
    state = _rows(model) if own_rows else None

    @torch.no_grad()
    def run() -> None:
        hidden, _ = model.run(episode.inputs, state, engine=config.engine, wants_state=False)
        model.readout(hidden)

    return run


def _step_from_rows(config: Config, episode: Episode) -> Callable[[], object]:
    """:func:`training_step`, but that the kernels are given a row for every slot."""
    from ntm.kernels.numba.cost import Learner
    from ntm.kernels.numba.sequence import arrays

    model = new_model(config)
    parameters = flatten(model)
    optimizer = build_optimizer(config, parameters, fused=True)
    learn = Learner(cast("NTMCell", model.core), model.readout, **_options(config))
    learn.alike, learn.first = False, arrays(learn.layout.flatten(_rows(model)))
    gradient = cast("torch.Tensor", parameters.grad)

    def step() -> None:
        gradient.zero_()
        learn(episode.inputs, episode.targets, episode.mask)
        clip(parameters, config.train.clip, torch.linalg.vector_norm(gradient))
        optimizer.step()

    return step


def _options(config: Config) -> dict[str, Any]:
    return {key: value for key, value in unrolling(config).items() if key != "engine"}


def _rows(model: Model) -> NTMState:
    """The first state, with a row for every slot: nothing tells the kernels that they are alike."""
    state = cast("NTMCell", model.core).initial_state(1)
    return state._replace(memory=state.memory.clone(memory_format=torch.contiguous_format))


def _peak(anew: bool = False) -> float:
    """Peak of the resident set in MiB, of this process so far; ``anew`` begins it at what is there.

    On Linux not what getrusage says: a process begins there with the size of the one it came from.
    """
    own = Path("/proc/self")
    with contextlib.suppress(OSError):
        if anew:
            (own / "clear_refs").write_text("5", encoding="utf-8")
    with contextlib.suppress(OSError, KeyError, ValueError):
        lines = (own / "status").read_text(encoding="utf-8").splitlines()
        found: Mapping[str, str] = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(found["VmHWM"].split()[0]) / 2**10
    return peak_memory_mib() or math.nan
