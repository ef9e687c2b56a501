from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ntm.errors import NTMError
from ntm.machine.cell import MemoryConfig
from ntm.views.animation import write
from tests.views.test_plots import trace_of


@pytest.mark.parametrize("memory", [MemoryConfig(slots=7, width=5, read_heads=2), None])
def test_there_is_a_frame_for_each_step_and_each_differs(
    memory: MemoryConfig | None, tmp_path: Path
) -> None:
    trace = trace_of(memory)
    write(trace, "copy", tmp_path / "deep" / "episode.gif")
    with Image.open(tmp_path / "deep" / "episode.gif") as picture:
        assert picture.n_frames == len(trace.inputs)  # type: ignore[attr-defined]
        frames = []
        for t in range(len(trace.inputs)):
            picture.seek(t)
            frames.append(np.asarray(picture.convert("L"), float))
    assert all(abs(a - b).max() > 50 for a, b in itertools.pairwise(frames))


def test_a_picture_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NTMError, match="cannot be written"):
        write(trace_of(None), "copy", tmp_path / "file" / "episode.gif")
