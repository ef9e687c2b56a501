"""The suite from Python: a module with the habits of torch.nn.LSTM, and trained runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import ntm
from ntm.errors import UsageError
from ntm.kernels.dispatch import select
from ntm.memory.ntm import NTMState

REFERENCE = Path(__file__).parents[1] / "runs" / "reference" / "copy" / "ntm-lstm"


def test_it_goes_on_where_it_stopped() -> None:
    torch.manual_seed(1)
    machine = ntm.NTM(3, 2, controller="gru", hidden_size=11, slots=7, width=5, read_heads=2)
    x = torch.randn(6, 4, 3)
    whole, end = machine(x)
    first, state = machine(x[:2])
    rest, last = machine(x[2:], state)
    assert whole.shape == (6, 4, 2)
    torch.testing.assert_close(torch.cat([first, rest]), whole)
    assert isinstance(last, NTMState)
    assert last.memory.shape == (4, 7, 5)
    torch.testing.assert_close(last.memory, end.memory)


def test_it_has_the_habits_of_a_module() -> None:
    torch.manual_seed(2)
    machine = ntm.NTM(3, 2, hidden_size=6, slots=7, width=4, initial="learned")
    torch.manual_seed(2)
    again = ntm.NTM(3, 2, hidden_size=6, slots=7, width=4, initial="learned")
    other = ntm.NTM(3, 2, hidden_size=6, slots=7, width=4, initial="learned")
    x = torch.randn(5, 1, 3)
    assert torch.equal(machine(x)[0], again(x)[0])  # torch.manual_seed decides
    assert not torch.equal(machine(x)[0], other(x)[0])
    other.load_state_dict(machine.state_dict())
    assert torch.equal(machine(x)[0], other(x)[0])

    optimizer = torch.optim.Adam(machine.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = (machine(x)[0] - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is not None for p in machine.parameters())


def test_it_runs_where_the_kernels_do_not() -> None:
    """In half precision, and back on the kernels in double."""
    model = ntm.NTM(3, 2, hidden_size=6, slots=7, width=4)
    x = torch.randn(2, 1, 3)
    single, _ = model(x)
    engines = [select(model.core).engine]
    half, _ = model.bfloat16()(x.bfloat16())
    engines.append(select(model.core).engine)
    assert half.dtype == torch.bfloat16
    double, _ = model.double()(x.double())
    engines.append(select(model.core).engine)
    assert engines == ["fused", "reference", "fused"]
    torch.testing.assert_close(double.float(), single, atol=0.02, rtol=0.05)


def test_a_run_is_loaded_traced_and_drawn() -> None:
    model = ntm.load(REFERENCE, slots=40)
    episode = model.task.sample(np.random.default_rng(1), 3)
    logits, _ = model(episode.inputs)
    scored = episode.mask > 0
    assert ((logits > 0) == (episode.targets > 0.5))[scored].all()
    found = ntm.trace(model, episode, 2)
    assert found.machine is not None
    assert found.machine.weights.shape == (41, 2, 40)
    titles = [axes.get_title(loc="left") for axes in ntm.plot_memory(found, "copy").axes]
    assert "Write weighting" in titles
    with pytest.raises(UsageError, match="no run here"):
        ntm.load("nowhere")


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = "import sys, ntm; assert 'torch' not in sys.modules; assert 'NTM' in dir(ntm)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'ntn'"):
        ntm.ntn  # noqa: B018
