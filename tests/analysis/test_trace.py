"""What a trace says of a machine: enough to do again, by the paper's equations, what it did."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from controllers import configure
from ntm.analysis.trace import record
from ntm.memory.access import INITIAL_MEMORY
from ntm.memory.ntm import NTMConfig
from ntm.model import ModelConfig, build_model
from tasks.copy import Copy
from tests.memory import oracle


@pytest.mark.parametrize("read", ["after", "before"])
@pytest.mark.parametrize(("heads", "shared"), [((2, 3), False), ((2, 2), True)])
def test_memory_and_reads_follow_from_it(
    heads: tuple[int, int], shared: bool, read: Literal["after", "before"]
) -> None:
    R, Q = heads
    memory = NTMConfig(slots=7, width=5, read_heads=R, write_heads=Q, shared=shared, read=read)
    config = ModelConfig(controller=configure(kind="gru", size=11), memory=memory)
    task = Copy(width=3, length=(4, 4))
    model = build_model(
        config, task.input_size, task.output_size, torch.Generator().manual_seed(1)
    ).double()
    episode = task.sample(np.random.default_rng(2), 1)
    episode = episode._replace(inputs=episode.inputs.double())
    machine = record(model, episode, task.loss).ntm
    assert machine is not None
    T = task.steps
    assert machine.weights.shape == (T, R + Q, 7)
    assert machine.gate.shape == machine.beta.shape == machine.gamma.shape == (T, R + Q)
    assert (machine.key.shape, machine.shift.shape) == ((T, R + Q, 5), (T, R + Q, 3))
    before = np.full((7, 5), INITIAL_MEMORY)
    for t in range(T):
        w = machine.weights[t]
        after = oracle.write(before, w[R:], machine.erase[t], machine.add[t])
        np.testing.assert_allclose(machine.memory[t], after, rtol=0, atol=1e-12)
        seen = before if read == "before" else after
        reads = [oracle.read(seen, w[r]) for r in range(R)]
        np.testing.assert_allclose(machine.reads[t], reads, rtol=0, atol=1e-12)
        before = after
