"""How the kernels are compiled, and the functions that they are made of."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from ntm.kernels.numba import jit, math  # noqa: E402


def test_this_numba_has_what_the_kernels_use_of_its_private_parts() -> None:
    missing = jit.missing()
    assert not missing, (
        f"Numba {numba.__version__} has no {', '.join(missing)}: see the docstring of "
        "ntm/kernels/numba/jit.py, and its upper bound in pyproject.toml"
    )


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("exp", -86.0, 88.0), ("log", 1e-37, 1e37), ("tanh", -10.0, 10.0), ("sigmoid", -80.0, 80.0)],
)
def test_float32_functions(name: str, low: float, high: float) -> None:
    function = getattr(math, name)

    @numba.njit(**jit.EXACT)  # type: ignore[untyped-decorator]
    def apply(x: Any, y: Any) -> None:
        for i in range(x.shape[0]):
            y[i] = function(x[i])

    x = np.linspace(low, high, 100_001) if name != "log" else np.geomspace(low, high, 100_001)
    x = np.concatenate([x, 1e-3 * x]) if name == "tanh" else x
    single = x.astype(np.float32)
    y = np.empty_like(single)
    apply(single, y)
    exact = single.astype(np.float64)
    truths: dict[str, Any] = {
        "exp": np.exp, "log": np.log, "tanh": np.tanh, "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    }  # fmt: skip
    truth = truths[name](exact)
    near = np.abs(truth) > 1e-30
    assert np.max(np.abs(y[near] / truth[near] - 1)) < 3e-7


def test_first_compilation_is_announced_once(
    monkeypatch: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    caplog.set_level(logging.INFO, logger="ntm")
    for said in (2, 0):  # the second one finds it on disk
        caplog.clear()
        assert jit.kernel(_twice)(3) == 6
        assert len(caplog.records) == said
    assert list(tmp_path.rglob("*.nbi"))


def _twice(x: Any) -> Any:
    return x + x


@pytest.mark.slow
def test_compiled_now_or_read_from_the_cache_the_bits_are_the_same(tmp_path: Path) -> None:
    code = """
import torch
from controllers import build_controller, configure
from ntm.kernels.dispatch import unroll
from ntm.memory.ntm import NTMCell, NTMConfig
generator = torch.Generator().manual_seed(1)
memory = NTMConfig(slots=33, width=7, write_heads=2)
controller = build_controller(configure(kind="lstm", size=19), 5 + 7, generator)
cell = NTMCell(controller, memory, generator)
xs = torch.randn(23, 3, 5, generator=generator)
ys, _ = unroll(cell, xs, cell.initial_state(3), engine="fused")
ys.square().sum().backward()
for t in [ys, *(p.grad for p in cell.parameters())]:
    print(t.detach().numpy().tobytes().hex())
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert len(outputs[0]) > 1000
    assert outputs[0] == outputs[1]
