from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ntm.errors import NTMError
from ntm.memory.ntm import NTMConfig
from ntm.views.animation import HELD, write, write_learning
from ntm.views.comparison import Curve
from tests.views.test_plots import trace_of


@pytest.mark.parametrize("memory", [NTMConfig(slots=7, width=5, read_heads=2), None])
def test_there_is_a_frame_for_each_step_and_each_differs(
    memory: NTMConfig | None, tmp_path: Path
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


@pytest.mark.parametrize("memory", [NTMConfig(slots=7, width=5, read_heads=2), None])
def test_learning_has_a_frame_for_each_moment_and_stays_on_the_last(
    memory: NTMConfig | None, tmp_path: Path
) -> None:
    trace = trace_of(memory)
    traces = {n: replace(trace, outputs=np.full_like(trace.outputs, n / 40)) for n in (0, 20, 40)}
    curve = Curve(np.array([10.0, 20.0, 40.0]), np.array([9.0, 2.0, 0.0]))
    write_learning(traces, curve, "copy", "bits per sequence", tmp_path / "learning.gif")
    with Image.open(tmp_path / "learning.gif") as picture:
        assert picture.n_frames == 3  # type: ignore[attr-defined]
        times = []
        for k in range(3):
            picture.seek(k)
            times.append(picture.info["duration"])
    assert times[2] == pytest.approx((HELD + 1) * times[0], rel=0.02)


def test_a_picture_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NTMError, match="cannot be written"):
        write(trace_of(None), "copy", tmp_path / "file" / "episode.gif")
