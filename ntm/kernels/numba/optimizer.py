"""One pass over all parameters, where torch's operations take nine."""

from __future__ import annotations

from typing import Any

import numpy as np

from ntm.kernels.numba.jit import kernel
from ntm.kernels.numba.math import larger


@kernel
def graves_rmsprop(
    parameters: Any, gradient: Any, n: Any, g: Any, delta: Any,
    lr: Any, momentum: Any, decay: Any, eps: Any,
) -> None:  # fmt: skip
    """As ``ntm.training.optim.GravesRMSprop`` says it, in place. All arrays [P], contiguous."""
    one = n.dtype.type(1)
    zero, rest = one - one, one - decay
    for i in range(parameters.shape[0]):
        d = gradient[i]
        n[i] = decay * n[i] + rest * d * d
        g[i] = decay * g[i] + rest * d
        variance = larger(n[i] - g[i] * g[i], zero)
        delta[i] = momentum * delta[i] - lr * d / np.sqrt(variance + eps)
        parameters[i] += delta[i]
