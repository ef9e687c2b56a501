"""A machine whose weights are set by hand, and which copies exactly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from controllers.rnn import RNN
from ntm.memory.ntm import NTMCell, NTMConfig
from ntm.model import Model
from tasks import Episode
from tasks.copy import Copy

BITS, WIDTH, FIRST = 8, 11, 2  # bit i is kept in column FIRST + i of a slot


def copier(slots: int, shift_range: int, answer: str, dtype: torch.dtype) -> Model:
    """A machine that copies, every weight set by hand.

    The controller is a vanilla RNN, h = tanh(W [x, reads] + U h + b), with these units; a weight
    of 20 drives tanh to -1 or 1, to the last bit in float32.

    - u = tanh(20 u' + 40 delimiter), from -1: a latch. It is -1 while vectors are shown, and 1
      from the delimiter on.
    - v = tanh(20 u'): the same, one step late. It is 1 from the first step of the answer on.
    - p_i = tanh(20 (2 x_i - 1)): the bits shown, as -1 and 1.
    - q_i = tanh(20 r_i): the bits that the read head found one step before.

    Both heads start at slot 0. They use location only (gate 0), and sharpen strongly.

    - The write head erases the slot it is at and adds p to it. It moves on by 1 each step while
      v = -1, the delimiter's step included, and then stays: the vector of step t = 0, 1, ... is
      written to slot t + 1, and the head comes to rest in slot L + 1, where what it writes
      during the answer harms nothing.
    - The read head stays at slot 0, and moves on by 1 each step of the answer, so that at its
      k-th step it reads slot k, which holds the k-th vector.

    ``answer`` says how the answer comes out. "reads": the read head is moved by v, and the
    readout takes the sign of what is being read; the output layer must see the reads.
    "controller": the read head is moved by u, so it is one step ahead, and the readout takes
    the sign of q; the controller must see the previous reads.

    Memory need only have a slot for each vector and two more. Were a head given another head's
    weights, were the shift to run the other way or the memory to be read before the shift, the
    answer would be wrong.
    """
    u, v, p, q = 0, 1, slice(2, 2 + BITS), slice(2 + BITS, 2 + 2 * BITS)
    units = 2 + 2 * BITS
    g = torch.Generator().manual_seed(0)
    controller = RNN(BITS + 1 + WIDTH, units, g)
    cell = NTMCell(controller, NTMConfig(slots=slots, width=WIDTH, shift_range=shift_range), g)
    model = Model(cell, BITS, g)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        eye = torch.eye(BITS)

        W = controller.hidden.weight  # columns: bits, delimiter, reads, h
        reads = BITS + 1 + FIRST
        h = BITS + 1 + WIDTH
        controller.h0[u] = -1
        W[u, h + u], W[u, BITS] = 20, 40
        W[v, h + u] = 20
        W[p, :BITS], controller.hidden.bias[p] = 40 * eye, -20
        W[q, reads : reads + BITS] = 20 * eye

        S = 2 * shift_range + 1
        sizes = [2 * WIDTH, WIDTH, WIDTH, 2, 2, 2, 2 * S]  # k a e g beta gamma s
        _, a, e, gate, _, gamma, s = torch.arange(sum(sizes)).split(sizes)
        V, bias = cell.interface.weight, cell.interface.bias
        V[a[FIRST : FIRST + BITS], p] = 20 * eye
        bias[e] = 40
        bias[gate] = -40
        bias[gamma] = 20
        stay, on = shift_range, shift_range + 1  # in s, the middle is no shift
        reader, writer = s.view(2, S)
        bias[s] = -60
        bias[reader[[stay, on]]] = bias[writer[[stay, on]]] = 0
        phase = v if answer == "reads" else u
        V[reader[stay], phase], V[reader[on], phase] = -20, 20
        V[writer[stay], v], V[writer[on], v] = 20, -20

        if answer == "reads":
            model.readout.weight[:, units + FIRST : units + FIRST + BITS] = 20 * eye
        else:
            model.readout.weight[:, q] = 20 * eye
    return model.to(dtype)


def wrong_bits(model: Model, episode: Episode) -> int:
    with torch.no_grad():
        logits, _ = model(episode.inputs.to(model.readout.weight.dtype))
    scored = episode.mask.bool()
    assert (logits[scored].abs() > 19).all()  # and sure of it
    return int(((logits > 0) != episode.targets.bool())[scored].sum())


@pytest.mark.parametrize("answer", ["reads", "controller"])
@pytest.mark.parametrize("length", [1, 7, 20, 120])
def test_it_copies_without_a_wrong_bit(length: int, answer: str) -> None:
    for slots in (length + 2, 2 * length + 9):
        for dtype in (torch.float32, torch.float64):
            model = copier(slots, 1, answer, dtype)
            episode = Copy(length=(length, length)).sample(np.random.default_rng(length), 7)
            assert wrong_bits(model, episode) == 0


@pytest.mark.parametrize("answer", ["reads", "controller"])
def test_it_copies_with_wider_shifts_and_mixed_lengths(answer: str) -> None:
    model = copier(25, 2, answer, torch.float32)
    episode = Copy().sample(np.random.default_rng(1), 41)
    assert wrong_bits(model, episode) == 0


def test_its_parameters_in_a_larger_memory_copy_longer() -> None:
    small, large = (copier(slots, 1, "reads", torch.float32) for slots in (22, 122))
    with torch.no_grad():
        for parameter in large.parameters():
            parameter.fill_(torch.nan)
    large.load_state_dict(small.state_dict())
    task = Copy(length=(20, 20))
    assert wrong_bits(small, task.sample(np.random.default_rng(2), 3)) == 0
    longer = dataclasses.replace(task, length=(120, 120)).sample(np.random.default_rng(2), 3)
    assert wrong_bits(large, longer) == 0
    with torch.no_grad():  # in the small memory the vectors come round and cover one another
        logits, _ = small(longer.inputs)
    assert ((logits > 0) != longer.targets.bool())[longer.mask.bool()].float().mean() > 0.2


def test_it_forgets_one_episode_before_the_next() -> None:
    model = copier(22, 1, "reads", torch.float32)
    rng = np.random.default_rng(3)
    assert [wrong_bits(model, Copy().sample(rng, 5)) for _ in range(3)] == [0, 0, 0]
