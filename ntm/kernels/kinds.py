"""What a controller gives the kernels: the number of its step, its matrices, its first state.

A layer is one matrix product and then an elementwise step. The product is z = W v + b, where v [K]
holds, in this order and as far as the layer has them, the input x, the reads, the output of the
layer below, and its own h_{t-1}. Behind z [J] stand vectors that are no product, such as peepholes:
b is then longer than W has rows. A nested LSTM has a product for each depth, one inside the other.

To add a controller: give its step a number here, write the step and its derivative in
``numba/py``, and enter the class in ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor

from controllers.base import Core
from controllers.echo_state import EchoState
from controllers.feedforward import FeedForward
from controllers.gru import GRU
from controllers.leaky import Leaky, logit
from controllers.lstm import LSTM
from controllers.nested_lstm import NestedLSTM
from controllers.peephole_lstm import PeepholeLSTM
from controllers.reduced_gru import ReducedGRU
from controllers.rnn import RNN

Array: TypeAlias = "np.ndarray[Any, Any]"
#: A matrix [J, K] and the vector [J, or more] that is added; or their gradients.
Product: TypeAlias = tuple[Array, Array]

# What a layer's step is called inside the kernels.
TANH_STEP, RELU_STEP, LEAKY_STEP, LSTM_STEP, PEEPHOLE_STEP, NESTED_STEP, GRU_STEP = range(7)


def _pairs(parameters: Sequence[Array]) -> list[Product]:
    """W, b, W, b, ... as they are."""
    return list(zip(parameters[::2], parameters[1::2], strict=True))


class Kind(NamedTuple):
    """One layer as the kernels see it: what its class decides, and its tensors."""

    step: int
    gates: int  # the product has gates n rows
    parameters: Sequence[Tensor]
    #: The first h, then the cs, as far as there are any, [n] each; None for one that stays 0.
    start: Sequence[Tensor | None]
    recurrent: bool = True  # v holds h_{t-1}
    cells: int = 0  # vectors c
    vectors: int = 0  # behind z, [n] each
    levels: int = 1  # products, one inside the other
    #: ``parameters`` -> products, and their gradients -> those of ``parameters``; None where
    #: the parameters are the products.
    pack: Callable[[Sequence[Array]], list[Product]] = _pairs
    unpack: Callable[[Sequence[Product]], list[Array]] | None = None


def _feedforward(m: FeedForward) -> Kind:
    return Kind(TANH_STEP, 1, [m.hidden.weight, m.hidden.bias], [], recurrent=False)


def _rnn(m: RNN) -> Kind:
    step = TANH_STEP if m.nonlinearity == "tanh" else RELU_STEP
    return Kind(step, 1, [m.hidden.weight, m.hidden.bias], [m.h0])


def _leaky(m: Leaky) -> Kind:
    parameters = [m.hidden.weight, m.hidden.bias]
    if m.leak_logit is None:
        pack, unpack = _fixed_leak(m.leak)
        return Kind(LEAKY_STEP, 1, parameters, [m.h0], vectors=1, pack=pack, unpack=unpack)
    return Kind(
        LEAKY_STEP, 1, [*parameters, m.leak_logit], [m.h0], vectors=1,
        pack=_append, unpack=_take_apart,
    )  # fmt: skip


def _echo_state(m: EchoState) -> Kind:
    """Leaky units with nothing to learn, so without parameters."""
    pack, _ = _fixed_leak(m.leak)
    return Kind(
        LEAKY_STEP,
        1,
        [],
        [None],
        vectors=1,
        pack=lambda _: pack([m.weight.numpy(), m.bias.numpy()]),
    )


def _fixed_leak(leak: float) -> tuple[Any, Any]:
    def pack(parameters: Sequence[Array]) -> list[Product]:
        W, b = parameters
        return [(W, np.concatenate([b, np.full_like(b, logit(leak))]))]

    def unpack(products: Sequence[Product]) -> list[Array]:
        return _take_apart(products)[:2]

    return pack, unpack


def _append(parameters: Sequence[Array]) -> list[Product]:
    """W, b and what stands behind z."""
    W, *vectors = parameters
    return [(W, np.concatenate(vectors))]


def _take_apart(products: Sequence[Product]) -> list[Array]:
    ((dW, db),) = products
    return [dW, db[: len(dW)], db[len(dW) :]]


def _lstm(m: LSTM) -> Kind:
    return Kind(LSTM_STEP, 4, [m.gates.weight, m.gates.bias], [m.h0, m.c0], cells=1)


def _peephole_lstm(m: PeepholeLSTM) -> Kind:
    return Kind(
        PEEPHOLE_STEP, 4, [m.gates.weight, m.gates.bias, m.peepholes], [m.h0, m.c0],
        cells=1, vectors=3, pack=_append, unpack=_take_apart,
    )  # fmt: skip


def _nested_lstm(m: NestedLSTM) -> Kind:
    depth = len(m.gates)
    parameters = [gates.get_parameter(name) for gates in m.gates for name in ("weight", "bias")]
    return Kind(NESTED_STEP, 4, parameters, [m.h0, *m.c0], cells=depth, levels=depth)


def _gru(m: GRU) -> Kind:
    def pack(parameters: Sequence[Array]) -> list[Product]:
        gates, b_gates, x, b_x, h, b_h = parameters
        return [_gru_product(gates, b_gates, x, b_x, h, b_h)]

    def unpack(products: Sequence[Product]) -> list[Array]:
        ((dW, db),) = products
        n = len(db) // 4
        return [dW[: 2 * n], db[: 2 * n], *_gru_candidate(dW, db)]

    return Kind(
        GRU_STEP, 4,
        [
            m.gates.weight, m.gates.bias, m.candidate_x.weight, m.candidate_x.bias,
            m.candidate_h.weight, m.candidate_h.bias,
        ],
        [m.h0], pack=pack, unpack=unpack,
    )  # fmt: skip


def _reduced_gru(m: ReducedGRU) -> Kind:
    """A GRU with zeros in the places of what its gates do not see."""
    sees_h, has_bias = m.gates_weight is not None, m.gates_bias is not None
    gates = [p for p in (m.gates_weight, m.gates_bias) if p is not None]

    def pack(parameters: Sequence[Array]) -> list[Product]:
        *own, x, b_x, h, b_h = parameters
        n, inputs = x.shape
        W = np.zeros((2 * n, inputs + n), x.dtype)
        if sees_h:
            W[:, inputs:] = own[0]
        bias = own[-1] if has_bias else np.zeros(2 * n, x.dtype)
        return [_gru_product(W, bias, x, b_x, h, b_h)]

    def unpack(products: Sequence[Product]) -> list[Array]:
        ((dW, db),) = products
        n = len(db) // 4
        own = [dW[: 2 * n, dW.shape[1] - n :]] if sees_h else []
        own += [db[: 2 * n]] if has_bias else []
        return [*own, *_gru_candidate(dW, db)]

    candidate = [m.candidate_x.weight, m.candidate_x.bias, m.candidate_h.weight, m.candidate_h.bias]
    return Kind(GRU_STEP, 4, [*gates, *candidate], [m.h0], pack=pack, unpack=unpack)


def _gru_product(gates: Array, b_gates: Array, x: Array, b_x: Array, h: Array, b_h: Array) -> Any:
    """[W U] of the gates, then W_n and U_n, each with zeros in the other's place."""
    n, inputs = x.shape
    W = np.zeros((4 * n, inputs + n), gates.dtype)
    W[: 2 * n] = gates
    W[2 * n : 3 * n, :inputs] = x
    W[3 * n :, inputs:] = h
    return W, np.concatenate([b_gates, b_x, b_h])


def _gru_candidate(dW: Array, db: Array) -> list[Array]:
    n = len(db) // 4
    inputs = dW.shape[1] - n
    dx, dh = dW[2 * n : 3 * n, :inputs], dW[3 * n :, inputs:]
    return [dx, db[2 * n : 3 * n], dh, db[3 * n :]]


#: A layer's class -> what it gives.
KINDS: dict[type[Core], Callable[[Any], Kind]] = {
    FeedForward: _feedforward,
    RNN: _rnn,
    Leaky: _leaky,
    EchoState: _echo_state,
    LSTM: _lstm,
    PeepholeLSTM: _peephole_lstm,
    NestedLSTM: _nested_lstm,
    GRU: _gru,
    ReducedGRU: _reduced_gru,
}
