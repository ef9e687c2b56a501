"""Text from a model that was trained on one, a character at a time."""

from __future__ import annotations

import math

import numpy as np
import torch

from ntm.arguments import whole
from ntm.errors import NTMError, UsageError
from ntm.model import Model
from ntm.training.streams import Stream, numpy_generator
from tasks import Task
from tasks.charlm import CharLM
from tasks.text import SYMBOLS, fold, kept, unfold


@torch.no_grad()
def sample(
    model: Model,
    task: Task,
    length: int = 200,
    temperature: float = 1.0,
    prompt: str = "",
    seed: int = 0,
) -> str:
    """The prompt, folded as the text was, and ``length`` characters that the model goes on with.

    Each is drawn from p ~ softmax(logits / temperature): 1 is what was learned, less is more
    certain, and 0 takes the most likely character each time. Without a prompt it begins after a
    space. The seed decides what is drawn.
    """
    if not isinstance(task, CharLM):
        raise UsageError(f"only a model of charlm writes text, and this one is of {task.kind}")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise UsageError(f"the temperature should be a number from 0 up, not {temperature:g}")
    length, seed = whole("length", length, 1), whole("seed", seed)
    rng = numpy_generator(seed, Stream.SAMPLING)
    raw = prompt.encode("utf-8", "replace")
    if (found := kept(raw)).share < 0.5:
        raise UsageError(f"the prompt should be in the alphabet, a to z, and not {found.others}")
    given = fold(raw)
    weight = model.readout.weight
    device = weight.device
    one_hot = torch.eye(len(SYMBOLS), dtype=weight.dtype, device=device)
    read = torch.tensor(given.tolist() or [SYMBOLS.index(" ")], device=device)
    logits, state = model(one_hot[read][:, None])
    written: list[int] = []
    for _ in range(length):
        written.append(_draw(logits[-1, 0].cpu().double().numpy(), temperature, rng))
        logits, state = model(one_hot[written[-1]][None, None], state)
    return unfold(np.array([*given.tolist(), *written]))


def _draw(logits: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    """A class, drawn at a temperature."""
    if not np.isfinite(logits).all():
        raise NTMError("the model's outputs are not finite")
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):  # what is far below the most has no weight at all
        total = np.exp((logits - logits.max()) / temperature).cumsum()
    return int(np.searchsorted(total, rng.random() * total[-1], side="right"))
