"""Independent random streams from one seed. Generators are passed, never global."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """The purpose of random numbers. The streams of a seed are independent."""

    INITIALISATION = 0
    TRAINING = 1
    VALIDATION = 2
    EVALUATION = 3
    SAMPLING = 4


def numpy_generator(seed: int, stream: Stream, *key: int) -> np.random.Generator:
    """A generator of a stream; ``key`` selects one of its independent substreams."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, *key)))


def torch_generator(seed: int, stream: Stream) -> torch.Generator:
    """The same for torch, on the CPU, so that initial weights are equal on every device."""
    state = np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
