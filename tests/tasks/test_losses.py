from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tasks.copy import Copy
from tasks.episode import Episode
from tasks.losses import BITS, CLASSES


def test_bits_and_errors_by_hand() -> None:
    """Against the sum over scored steps and channels of -log2 of the probability of the truth."""
    rng = np.random.default_rng(2)
    T, B, O = 7, 3, 2  # noqa: E741 - the outputs' letter
    logits = torch.tensor(rng.normal(scale=3, size=(T, B, O)))
    targets = torch.tensor(rng.integers(0, 2, size=(T, B, O)).astype(float))
    mask = torch.tensor(rng.integers(0, 2, size=(T, B)).astype(float))
    episode = Episode(torch.zeros(T, B, 1), targets, mask, {})
    for b in range(B):
        bits = wrong = 0.0
        for t in range(T):
            for o in range(O):
                if mask[t, b]:
                    p = 1 / (1 + math.exp(-logits[t, b, o]))
                    truth = p if targets[t, b, o] else 1 - p
                    bits -= math.log2(truth)
                    wrong += truth < 0.5
        assert BITS.bits(logits, episode)[b].item() == pytest.approx(bits)
        assert BITS.errors(logits, episode)[b].item() == wrong


def classes(T: int = 7, B: int = 4, O: int = 5) -> tuple[torch.Tensor, Episode]:  # noqa: E741
    """Logits and an episode of which the last sequence has nothing that is scored."""
    rng = np.random.default_rng(3)
    logits = torch.tensor(rng.normal(scale=3, size=(T, B, O)))
    targets = torch.tensor(rng.integers(0, O, size=(T, B, 1)))
    mask = torch.tensor(rng.integers(0, 2, size=(T, B)).astype(float))
    mask[:, -1] = 0
    return logits, Episode(torch.zeros(T, B, 1), targets, mask, {})


def test_classes_by_hand() -> None:
    """Against the mean over scored steps of -log2 of the softmax, in plain loops."""
    logits, episode = classes()
    T, B, O = logits.shape  # noqa: E741 - the outputs' letter
    for b in range(B):
        costs, wrong = [], 0
        for t in range(T):
            if not episode.mask[t, b]:
                assert CLASSES.step_nats(logits, episode)[t, b] == 0
                assert CLASSES.step_errors(logits, episode)[t, b] == 0
                continue
            weights = [math.exp(x) for x in logits[t, b].tolist()]
            truth = int(episode.targets[t, b, 0])
            p = weights[truth] / sum(weights)
            costs.append(-math.log2(p))
            wrong += any(weights[o] > weights[truth] for o in range(O))
            assert CLASSES.probabilities(logits)[t, b, truth].item() == pytest.approx(p)
            ones, given = CLASSES.shown(logits, episode)
            assert given[t, b].tolist() == pytest.approx([p])
            assert ones[t, b].tolist() == [1]
        mean = sum(costs) / len(costs) if costs else 0
        assert CLASSES.bits(logits, episode)[b].item() == pytest.approx(mean)
        assert CLASSES.errors(logits, episode)[b].item() == wrong
        assert CLASSES.answers(episode)[b].item() == len(costs)
    assert CLASSES.bits(logits, episode)[-1] == 0


def test_the_gradient_of_classes() -> None:
    logits, episode = classes()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: CLASSES.nats(x, episode), logits)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_wrong(value: float) -> None:
    logits, episode = classes()
    right = int((episode.mask * 1.0).argmax())  # a scored step of the first row that has one
    t, b = divmod(right, logits.shape[1])
    logits[t, b] = 0
    truth = int(episode.targets[t, b, 0])
    logits[t, b, truth] = 9
    assert CLASSES.step_errors(logits, episode)[t, b] == 0
    logits[t, b, (truth + 1) % logits.shape[-1]] = value
    assert CLASSES.step_errors(logits, episode)[t, b] == 1
    logits[t, b, truth] = math.nan
    assert CLASSES.step_errors(logits, episode)[t, b] == 1


def test_bits_are_the_loss_unless_a_task_says_otherwise() -> None:
    assert Copy().loss is BITS
    assert (BITS.target_size(9), CLASSES.target_size(9)) == (9, 1)


def test_goals_are_the_tangent_at_even_odds() -> None:
    """Their mean under odds that are nearly even is a logit that gives these odds."""
    eps = 1e-4
    p = 0.5 + eps
    logits = torch.zeros(1, 2, 1, dtype=torch.float64)
    truths = Episode(logits, torch.tensor([[[0.0], [1.0]]]).double(), torch.ones(1, 2), {})
    no, yes = BITS.goals(truths)[0, :, 0]
    assert BITS.probabilities((1 - p) * no + p * yes).item() == pytest.approx(p, abs=10 * eps**2)
