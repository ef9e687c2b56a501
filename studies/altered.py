"""``ntm`` with one part of the machine altered, for a study: what no config asks for.

    python studies/altered.py "gates begin nearly closed" train copy/ntm-lstm --seed 1

In a study's yaml ``alter`` of a variant names the alteration, and the manifest of such a run has
it. The run's config does not: evaluate it, too, with the alteration.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from controllers.lstm import LSTM
from ntm.cli import main
from ntm.kernels.numba import heads, jit, kernel
from ntm.memory.ntm import NTMCell

#: In the order of NTMCell.interface_sizes.
PARTS = ["k", "a", "e", "g", "beta", "gamma", "s"]


def after_init(kind: Any, then: Callable[[Any], None]) -> None:
    whole = kind.__init__

    def init(self: Any, *given: Any, **named: Any) -> None:
        whole(self, *given, **named)
        with torch.no_grad():
            then(self)

    kind.__init__ = init


def begin(**parts: float) -> None:
    """Adds to the first biases of parts of every head's interface."""

    def then(cell: NTMCell) -> None:
        biases = cell.interface.bias.split(cell.interface_sizes)
        for part, by in parts.items():
            biases[PARTS.index(part)].add_(by)

    after_init(NTMCell, then)


def forget_bias_of_0() -> None:
    def then(lstm: LSTM) -> None:
        size = lstm.output_size
        lstm.gates.bias[size : 2 * size] -= 1  # what it began higher by

    after_init(LSTM, then)


def focus_everywhere() -> None:
    def initial_weights(self: NTMCell, batch: int, slots: int) -> Tensor:
        return self.r0.new_full((1, 1, 1), 1 / slots).expand(batch, self.heads, slots)

    setattr(NTMCell, "initial_weights", initial_weights)  # noqa: B010


def linear(part: str) -> None:
    """Keys, or adds, without tanh: in the readable engine, and in the source of the kernels."""
    whole = NTMCell.emit

    def emit(self: NTMCell, h: Tensor) -> tuple[Tensor, ...]:
        said = self.interface(h).split(self.interface_sizes, dim=-1)[PARTS.index(part)]
        k, *others, a = whole(self, h)
        if part == "k":
            return said.view_as(k), *others, a
        return k, *others, said.view_as(a)

    setattr(NTMCell, "emit", emit)  # noqa: B010
    # Of a row of the interface k comes first, H W numbers, and then a, up to c.
    bounded = {"k": ("e[H * W : c]", "range(H * W, c)"), "a": ("e[: H * W]", "range(H * W)")}
    source = inspect.getsource(heads)
    for what, instead in zip(("e[:c]", "range(c)"), bounded[part], strict=True):
        if source.count(what) != 1:
            sys.exit(f"altered.py: {what} should stand in heads.py once")
        source = source.replace(what, instead)
    altered: dict[str, Any] = {"__name__": heads.__name__}
    exec(source, altered)  # noqa: S102
    for name in ("activate", "activate_backward"):
        setattr(kernel, name, altered[name])
    # By which compiled kernels are kept.
    setattr(jit, "_SOURCE", hashlib.sha256(source.encode()).hexdigest())  # noqa: B010


ALTERATIONS: dict[str, Callable[[], None]] = {
    "forget bias of 0": forget_bias_of_0,
    "heads begin everywhere": focus_everywhere,
    "gates begin nearly closed": lambda: begin(g=-2),
    "strengths and sharpening begin high": lambda: begin(beta=5, gamma=1),
    "keys without tanh": lambda: linear("k"),
    "adds without tanh": lambda: linear("a"),
}

if __name__ == "__main__":
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in ALTERATIONS:
        sys.exit(f"altered.py: no alteration {name!r}; there are: {', '.join(ALTERATIONS)}")
    ALTERATIONS[name]()
    main()
