"""Fixtures of the kernels' tests."""

from collections.abc import Iterator

import pytest
import torch

from ntm.kernels import dispatch


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Torch, and so the fused engine, has two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _nothing_logged() -> Iterator[None]:
    """Every test begins as a process does, in which no reason has been logged."""
    dispatch._logged.clear()
    yield
    dispatch._logged.clear()
