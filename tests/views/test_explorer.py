from __future__ import annotations

import base64
import dataclasses
import json
import re
from typing import Any

import numpy as np
import pytest

from ntm.errors import NTMError
from ntm.memory.base import MemoryConfig
from ntm.memory.ntm import NTMConfig
from ntm.memory.sparse import SparseConfig
from ntm.views.explorer import explorer
from tests.views.test_plots import trace_of

MEMORY = NTMConfig(slots=7, width=5, read_heads=2, write_heads=3)
SPARSE = SparseConfig(slots=7, width=5, heads=2)


def data(page: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return {
        name: np.frombuffer(base64.b64decode(packed["base64"]), "<f4").reshape(packed["shape"])
        for name, packed in json.loads(found).items()
    }


@pytest.mark.parametrize(("memory", "reads", "writes"), [(MEMORY, 2, 3), (SPARSE, 2, 4)])
def test_what_is_in_the_page_gives_the_memory_at_every_step(
    memory: MemoryConfig, reads: int, writes: int
) -> None:
    """Equations 3 and 4 from its first memory, in plain loops as the page has them."""
    trace = trace_of(memory)
    machine = trace.ntm
    assert machine is not None
    d = data(explorer(trace, "copy"))
    rows = d["memory"].astype(float)
    np.testing.assert_allclose(rows, machine.memory[0], atol=1e-6)
    for t in range(1, len(trace.inputs)):
        w = d["weights"][t, reads:]  # write heads
        for q in range(writes):
            rows = rows * (1 - np.outer(w[q], d["erase"][t, q]))
        for q in range(writes):
            rows = rows + np.outer(w[q], d["add"][t, q])
        np.testing.assert_allclose(rows, machine.memory[t], atol=1e-5)
    for name in ("inputs", "targets", "outputs", "mask"):
        np.testing.assert_allclose(d[name], getattr(trace, name), atol=1e-6)


def test_a_title_is_only_text() -> None:
    page = explorer(trace_of(None), "</script><script>alert(1)</script>")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_number_that_is_none_is_refused_by_name() -> None:
    trace = trace_of(MEMORY)
    assert trace.ntm is not None
    trace.ntm.add[2, 1, 0] = np.nan
    with pytest.raises(NTMError, match="a number in add that is not finite"):
        explorer(trace, "copy")
    trace = dataclasses.replace(trace_of(None), inputs=np.full((3, 2), np.inf))
    with pytest.raises(NTMError, match="in inputs"):
        explorer(trace, "copy")
