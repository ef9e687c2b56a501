"""The suite from Python, for notebooks and for models of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from matplotlib.figure import Figure

from controllers import ControllerConfig, build_controller, configure
from ntm.analysis.sample import sample as write
from ntm.analysis.trace import Trace, record
from ntm.memory.ntm import NTMCell, NTMConfig
from ntm.model import Model
from ntm.registry import register as register
from ntm.runs.folder import RunDir
from ntm.runs.models import load_model
from ntm.views.plots import memory_figure
from tasks import Episode, Task
from tasks.losses import BITS


class NTM(Model):
    """A Neural Turing Machine with a linear readout and the habits of torch.nn.LSTM.

        model = NTM(10, 8, controller="lstm", slots=128, width=20)
        output, state = model(x)         # x [T, B, 10] -> output [T, B, 8]; a new episode
        output, state = model(x, state)  # and on from there

    Time comes first. Without a state, an episode begins; the state that comes back holds the
    memory [B, N, W], the weights of all heads [B, H, N], the reads and the controller's state,
    and can be given to the next call. Outputs are logits; those of the paper are their sigmoids.
    It runs on the fused kernels where they apply (float32 or float64 on the CPU), and elsewhere in
    plain torch; ``model(x, engine="reference")`` asks for one of them.

    controller: the kind of a controller, such as lstm (``controllers.CONTROLLERS`` has all), of
        ``hidden_size`` units in each of its ``layers``; or its settings as a ControllerConfig.
    generator: draws the first parameters; without one, torch's global generator decides.
    """

    core: NTMCell

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        controller: str | ControllerConfig = "lstm",
        hidden_size: int = 100,
        layers: int = 1,
        slots: int = 128,
        width: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        shift_range: int = 1,
        initial: Literal["constant", "learned"] = "constant",
        read: Literal["after", "before"] = "after",
        shared: bool = False,
        shift_bias: float = 0.0,
        erase_bias: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        memory = NTMConfig(
            slots=slots, width=width, read_heads=read_heads, write_heads=write_heads,
            shift_range=shift_range, initial=initial, read=read, shared=shared,
            shift_bias=shift_bias, erase_bias=erase_bias,
        )  # fmt: skip
        if isinstance(controller, str):
            controller = configure(controller, size=hidden_size, layers=layers)
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        inner = build_controller(controller, input_size + memory.reads_size, generator)
        super().__init__(NTMCell(inner, memory, generator), output_size, generator)


class Trained(Model):
    """The model of a run. ``task`` is what it is validated on: ``task.sample(rng, batch)``."""

    def __init__(self, model: Model, task: Task) -> None:
        torch.nn.Module.__init__(self)
        self.core, self.readout, self.task = model.core, model.readout, task


def load(run: str | Path, slots: int | None = None) -> Trained:
    """The trained model of a run, in evaluation mode; ``slots`` gives it another memory.

    Raises ntm.errors.NTMError where there is no run, or none that can be read.
    """
    model, config = load_model(RunDir.open(run), slots=slots)
    return Trained(model, config.validation_task).eval()


def sample(
    model: Trained, length: int = 200, temperature: float = 1.0, prompt: str = "", seed: int = 0
) -> str:
    """Text from a model of charlm: the prompt, and ``length`` characters after it.

    temperature: 1 is what was learned, less is more certain, 0 takes the most likely each time.
    Raises ntm.errors.UsageError for a model of another task.
    """
    return write(model, model.task, length, temperature, prompt, seed)


def trace(model: Model, episode: Episode, index: int = 0) -> Trace:
    """What a model did at every step of one sequence of a batch.

    The outputs of the model of a run are read as its task's; those of another are bits.
    """
    loss = model.task.loss if isinstance(model, Trained) else BITS
    return record(model, episode, loss, index)


def plot_memory(found: Trace, title: str = "", symbols: str = "") -> Figure:
    """The figure of a trace: what was put in and written; what was read and said.

    symbols: of a task on text, its ``symbols``.
    """
    return memory_figure(found, title, symbols)
