"""What all tests share."""

from collections.abc import Iterator

import pytest
import torch

from ntm.kernels import threads as engine

torch.set_num_threads(1)  # the tensors here are small: threads would only wait for one another


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """A test that chooses another number of threads does so for itself."""
    before = engine._threads
    yield
    engine._threads = before
