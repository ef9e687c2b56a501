"""Dynamic n-grams: the source that draws the bits, and the optimum that it allows."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import log2
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks import Episode
from tasks.ngram import NGram

PAPER = NGram()
MANY = 20_000


@cache
def many() -> tuple[Episode, Tensor]:
    """Many sequences of the paper's task, and what the optimal predictor pays on each."""
    episode = PAPER.sample(np.random.default_rng(1), MANY)
    return episode, PAPER.floor(episode).double()


def sample(task: NGram, batch: int, seed: int = 2) -> NDArray[np.int64]:
    """[T, B] bits."""
    episode = task.sample(np.random.default_rng(seed), batch)
    return episode.targets[..., 0].numpy().astype(np.int64)


def successors(bits: NDArray[np.int64], order: int) -> dict[tuple[int, ...], list[int]]:
    """The bits of one sequence that follow each context."""
    found: dict[tuple[int, ...], list[int]] = {}
    for t in range(order - 1, len(bits)):
        context = tuple(int(bit) for bit in bits[t - order + 1 : t])
        found.setdefault(context, []).append(int(bits[t]))
    return found


class Loaded(np.random.Generator):
    """A generator whose Beta variates are a table of the test's own."""

    table: NDArray[np.float64]

    def beta(self, a: Any, b: Any, size: Any = None) -> Any:
        assert size == self.table.shape
        return self.table


def loaded(table: NDArray[np.float64], seed: int = 3) -> Loaded:
    rng = Loaded(np.random.PCG64(seed))
    rng.table = table
    return rng


def test_inputs_are_the_targets_one_step_late() -> None:
    episode = PAPER.sample(np.random.default_rng(4), 7)
    assert torch.equal(episode.inputs[1:], episode.targets[:-1])
    assert (episode.inputs[0] == 0).all()
    assert episode.inputs.shape == (200, 7, 1)
    assert (episode.mask == 1).all()  # the coin flips are scored as well


def test_the_first_bits_are_fair_coins() -> None:
    """All 32 beginnings are equally likely, whatever the table."""
    episode, _ = many()
    start = episode.targets[:5, :, 0].long()
    codes = (start * torch.tensor([16, 8, 4, 2, 1])[:, None]).sum(dim=0)
    expected = MANY / 32
    chi_square = float(((codes.bincount(minlength=32) - expected) ** 2 / expected).sum())
    assert chi_square < 85  # 31 degrees of freedom: 1 in a million

    rng = loaded(np.ones((4000, 32)))  # a source of ones only, after the coins
    bits = PAPER.sample(rng, 4000).targets[..., 0]
    assert ((bits[:5].mean(dim=1) - 0.5).abs() < 5 * 0.5 / 4000**0.5).all()
    assert (bits[5:] == 1).all()


@pytest.mark.parametrize("order", [2, 3, 4])
def test_the_bits_after_a_context_have_the_frequency_of_its_table(order: int) -> None:
    """For each sequence its own table, whose contexts all differ."""
    contexts, batch = 2 ** (order - 1), 3
    levels = np.linspace(0.15, 0.85, contexts)
    table = np.stack([levels, levels[::-1] * 0.9, np.roll(levels, 1) * 0.8 + 0.1])
    task = NGram(order=order, length=12_000)
    bits = task.sample(loaded(table), batch).targets[..., 0].numpy().astype(np.int64)
    for b in range(batch):
        found = successors(bits[:, b], order)
        assert len(found) == contexts
        by_frequency = sorted(found.values(), key=lambda ones: sum(ones) / len(ones))
        for ones, p in zip(by_frequency, sorted(table[b]), strict=True):
            n = len(ones)
            assert n > 200
            assert abs(sum(ones) / n - p) < 5 * (p * (1 - p) / n) ** 0.5


def test_a_context_is_the_last_bits_in_their_order() -> None:
    """Of a table of zeros and ones the bits follow without a choice; oldest bit highest."""
    table = np.array([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]])
    bits = NGram(order=3, length=50).sample(loaded(table), 2).targets[..., 0].long()
    for b in range(2):
        for t in range(2, 50):
            context = 2 * int(bits[t - 2, b]) + int(bits[t - 1, b])
            assert int(bits[t, b]) == table[b, context]


def test_one_table_lasts_for_one_sequence() -> None:
    """The two halves of a sequence agree; two sequences of a batch do not."""
    bits = sample(NGram(order=2, length=4000), batch=40)
    halves = np.empty((2, 40))
    for b in range(40):
        for half, piece in enumerate((bits[:2000, b], bits[2000:, b])):
            ones = successors(piece, 2).get((1,), [])
            halves[half, b] = np.mean(ones) if len(ones) > 200 else np.nan
    seen = halves[:, ~np.isnan(halves).any(axis=0)]
    assert seen.shape[1] > 15
    assert np.abs(seen[0] - seen[1]).max() < 5 * (2 * 0.25 / 200) ** 0.5
    assert np.std(seen[0]) > 0.2


@pytest.mark.parametrize("beta", [(0.5, 0.5), (1.0, 1.0), (3.0, 0.5)])
def test_the_tables_of_a_batch_are_beta_distributed(beta: tuple[float, float]) -> None:
    """Mean and variance of the frequency after a context, over sequences with their own tables.

    One table for all would show as no variance.
    """
    batch = 1500
    bits = sample(NGram(order=2, length=1500, beta=beta), batch)
    first = bits[:-1] == 1
    visits = first.sum(axis=0)
    often = visits >= 1
    p = (bits[1:] * first).sum(axis=0)[often] / visits[often]
    a, b = beta
    assert often.mean() > 0.75
    assert abs(p.mean() - a / (a + b)) < 0.1
    assert abs(p.var() - a * b / ((a + b) ** 2 * (a + b + 1))) < 0.04


def slow_bayes(bits: list[int], order: int, a: Fraction, b: Fraction) -> list[Fraction]:
    """Equation 10 for one sequence, by searching the past for the context at each step."""
    optimal = []
    for t in range(len(bits)):
        if t < order - 1:
            optimal.append(Fraction(1, 2))
            continue
        context = bits[t - order + 1 : t]
        ones = zeros = 0
        for s in range(order - 1, t):
            if bits[s - order + 1 : s] == context:
                ones += bits[s]
                zeros += 1 - bits[s]
        optimal.append((ones + a) / (ones + zeros + a + b))
    return optimal


@pytest.mark.parametrize("beta", [(0.5, 0.5), (2.0, 0.25)])
@pytest.mark.parametrize(("order", "length"), [(2, 31), (4, 90), (6, 200), (9, 5)])
def test_the_optimum_is_equation_10(order: int, length: int, beta: tuple[float, float]) -> None:
    """(N1 + 1/2) / (N1 + N0 + 1) at the paper's beta."""
    task = NGram(order=order, length=length, beta=beta)
    episode = task.sample(np.random.default_rng(5), 7)
    bits = episode.targets[..., 0]
    actual, floor = task.bayes(bits.double()), task.floor(episode)
    for b in range(7):
        known = [int(bit) for bit in bits[:, b]]
        optimal = slow_bayes(known, order, Fraction(beta[0]), Fraction(beta[1]))
        assert actual[:, b].tolist() == pytest.approx([float(p) for p in optimal], abs=1e-14)
        cost = -sum(log2(p if bit else 1 - p) for p, bit in zip(optimal, known, strict=True))
        assert float(floor[b]) == pytest.approx(cost, rel=1e-6)


def test_the_optimum_never_looks_ahead() -> None:
    bits = PAPER.sample(np.random.default_rng(6), 7).targets[..., 0]
    other = bits.clone()
    other[120:] = 1 - other[120:]
    assert torch.equal(PAPER.bayes(other)[:121], PAPER.bayes(bits)[:121])


def test_the_optimum_costs_133_bits() -> None:
    """128.0 +- 0.2 on the 195 predictions with a context, and 5 coins; the paper's line is 133."""
    episode, floor = many()
    assert float(floor.mean()) == pytest.approx(133.0, abs=0.4)
    tail = episode._replace(mask=episode.mask.clone())
    tail.mask[:5] = 0
    torch.testing.assert_close(PAPER.floor(tail).double(), floor - 5)


def test_no_other_window_and_no_other_prior_beats_the_optimum() -> None:
    """Each pays more on the same sequences, by far more than chance."""
    episode, floor = many()
    others = [NGram(order=order) for order in (2, 3, 4, 5, 7, 8, 10)]
    others += [NGram(beta=beta) for beta in ((1.0, 1.0), (0.25, 0.25), (0.5, 0.4))]
    part, best = episode.select(0, 4000), floor[:4000]
    for other in others:
        excess = other.floor(part).double() - best
        assert float(excess.mean()) > 5 * float(excess.std()) / 4000**0.5, other


@pytest.mark.parametrize("beta", [(0.5, 0.5), (2.0, 0.25), (0.05, 0.05)])
def test_the_optimum_is_what_it_says_it_is(beta: tuple[float, float]) -> None:
    """Its predictions are calibrated: what it pays is, on average, the entropy it states."""
    task = NGram(order=4, beta=beta)
    episode = task.sample(np.random.default_rng(7), 4000)
    p = task.bayes(episode.targets[..., 0].double())
    stated = -(p * p.log2() + (1 - p) * (1 - p).log2()).sum(dim=0)
    excess = task.floor(episode).double() - stated
    assert abs(float(excess.mean())) < 5 * float(excess.std()) / 4000**0.5
    assert float(excess.std()) > 0.1


def test_a_surprise_is_dear_but_not_infinite() -> None:
    """Where the prior is so sure that float32 would round its prediction to 1."""
    task = NGram(order=2, length=9, beta=(1e-9, 1e-9))
    episode = task.sample(loaded(np.ones((3, 2))), 3)
    assert (episode.targets[1:] == 1).all()
    surprise = episode._replace(targets=episode.targets.clone())
    surprise.targets[-1] = 0
    assert float(task.floor(surprise)[0]) == pytest.approx(
        float(task.floor(episode)[0]) + log2(7 / 1e-9), abs=1.1
    )


def test_optimal_targets_are_what_is_known_of_a_bit_before_it_is_drawn() -> None:
    """The same sequences; targets that no bit to come can change; the floor is their entropy."""
    drawn, told = (
        NGram(order=3, length=40, beta=(0.5, 1.5), targets=targets).sample(
            np.random.default_rng(8), 9
        )
        for targets in ("drawn", "optimal")
    )
    assert torch.equal(drawn.inputs, told.inputs)
    for b in range(9):
        bits = [int(bit) for bit in drawn.targets[:, b, 0]]
        for t in range(40):
            after = [bits[s] for s in range(2, t) if bits[s - 2 : s] == bits[t - 2 : t]]
            p = (sum(after) + 0.5) / (len(after) + 2) if t >= 2 else 0.5
            assert float(told.targets[t, b, 0]) == pytest.approx(p, abs=1e-6)
    y = told.targets[..., 0].double()
    entropy = -(y * y.log2() + (1 - y) * (1 - y).log2()).sum(dim=0)
    task = NGram(order=3, length=40, beta=(0.5, 1.5), targets="optimal")
    torch.testing.assert_close(task.floor(told).double(), entropy, rtol=1e-5, atol=0)


def test_optimal_targets_give_the_gradient_that_drawn_ones_give_in_expectation() -> None:
    """Over many sequences, for one constant prediction: the same mean, and less noise."""
    sums = []
    for targets in ("drawn", "optimal"):
        task = NGram(order=2, length=30, beta=(0.5, 1.5), targets=targets)
        y = task.sample(np.random.default_rng(9), 4000).targets[1:, :, 0].double()
        sums.append((0.3 - y).sum(dim=0))  # d cross-entropy / d logit, summed over a sequence
    drawn, optimal = sums
    deviation = float((drawn - optimal).std()) / 4000**0.5
    assert abs(float((drawn - optimal).mean())) < 5 * deviation
    assert float(optimal.var()) < 0.9 * float(drawn.var())


def test_only_training_has_optimal_targets() -> None:
    task = NGram(order=3, length=9, beta=(2.0, 1.0), targets="optimal")
    assert task.held_out("test") == NGram(order=3, length=9, beta=(2.0, 1.0))
