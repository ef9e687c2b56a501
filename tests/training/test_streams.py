from __future__ import annotations

import numpy as np
import torch

from ntm.training.streams import Stream, numpy_generator, torch_generator


def test_a_stream_repeats_itself_and_shares_nothing_with_the_others() -> None:
    keys = [(seed, stream) for seed in (0, 1) for stream in Stream]
    draws = [numpy_generator(*key).integers(0, 2**62, 4).tolist() for key in keys]
    assert draws == [numpy_generator(*key).integers(0, 2**62, 4).tolist() for key in keys]
    assert len({n for row in draws for n in row}) == 4 * len(keys)


def test_parts_of_a_stream_differ() -> None:
    first, second = (numpy_generator(3, Stream.EVALUATION, part).random(5) for part in (0, 1))
    assert not np.isin(first, second).any()


def test_torch_streams_differ_by_seed_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    draws = [torch.rand(3, generator=torch_generator(s, Stream.INITIALISATION)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.get_rng_state(), before)
