"""What all tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ntm.kernels import threads as engine
from tests.terminal import Terminal

torch.set_num_threads(1)  # the tensors here are small: threads would only wait for one another


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """A test that chooses another number of threads does so for itself."""
    before = engine._threads
    yield
    engine._threads = before


@pytest.fixture
def ntm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """The command line, in a folder of the test's own."""
    return Terminal(tmp_path, monkeypatch, capsys)
