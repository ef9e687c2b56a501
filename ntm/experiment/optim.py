"""RMSProp in the form of Graves 2013, the paper's optimiser (arXiv 1308.0850, equations 38-45)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class GravesRMSprop(Optimizer):
    """Divides the gradient by a running estimate of its standard deviation.

    n <- decay n + (1 - decay) grad^2
    g <- decay g + (1 - decay) grad
    delta <- momentum delta - lr grad / sqrt(n - g^2 + eps)
    parameter <- parameter + delta

    Unlike torch.optim.RMSprop(centered=True), eps is inside the root, and the step size is
    inside the momentum, so that a change of ``lr`` does not rescale the steps already under way.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-4,
        momentum: float = 0.9,
        decay: float = 0.95,
        eps: float = 1e-4,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    self.state[p] = {name: torch.zeros_like(p) for name in ("n", "g", "delta")}
            grads = [p.grad for p in params]
            n, g, delta = ([self.state[p][name] for p in params] for name in ("n", "g", "delta"))

            torch._foreach_mul_(n, group["decay"])
            torch._foreach_addcmul_(n, grads, grads, 1 - group["decay"])
            torch._foreach_lerp_(g, grads, 1 - group["decay"])
            deviation = torch._foreach_addcmul(n, g, g, -1)
            torch._foreach_clamp_min_(deviation, 0)  # n >= g^2 but for rounding
            torch._foreach_add_(deviation, group["eps"])
            torch._foreach_sqrt_(deviation)
            torch._foreach_mul_(delta, group["momentum"])
            torch._foreach_addcdiv_(delta, grads, deviation, -group["lr"])
            torch._foreach_add_(params, delta)
