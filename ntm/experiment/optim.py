"""RMSProp in the form of Graves 2013, the paper's optimiser (arXiv 1308.0850, equations 38-45)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def flatten(module: nn.Module) -> nn.Parameter:
    """All parameters of a module as one long vector, of which each becomes a view.

    A step of an elementwise optimiser, the norm of the gradient and its clipping are then a few
    operations on one vector instead of a few for each parameter: at batch 1 those took as long
    as the kernels. The gradients are views of the vector's gradient, which is zeroed in place.
    """
    parameters = list(module.parameters())
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    start = 0
    for p in parameters:
        end = start + p.numel()
        p.data = flat.data[start:end].view_as(p)
        p.grad = flat.grad[start:end].view_as(p)
        start = end
    return flat


class GravesRMSprop(Optimizer):
    """Divides the gradient by a running estimate of its standard deviation.

    n <- decay n + (1 - decay) grad^2
    g <- decay g + (1 - decay) grad
    delta <- momentum delta - lr grad / sqrt(n - g^2 + eps)
    parameter <- parameter + delta

    ``fused`` does it in one compiled pass, for contiguous parameters on the CPU; it needs Numba.

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
        fused: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay, "eps": eps})
        self.fused = fused

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if not self.state[p]:
                    self.state[p] = {name: torch.zeros_like(p) for name in ("n", "g", "delta")}
                n, g, delta = (self.state[p][name] for name in ("n", "g", "delta"))
                if self.fused:
                    _step_fused(p, n, g, delta, group)
                    continue

                n.mul_(group["decay"]).addcmul_(p.grad, p.grad, value=1 - group["decay"])
                g.lerp_(p.grad, 1 - group["decay"])
                variance = torch.addcmul(n, g, g, value=-1).clamp_min_(0)  # < 0 by rounding alone
                deviation = variance.add_(group["eps"]).sqrt_()
                delta.mul_(group["momentum"]).addcdiv_(p.grad, deviation, value=-group["lr"])
                p.add_(delta)


def _step_fused(p: Tensor, n: Tensor, g: Tensor, delta: Tensor, group: dict[str, Any]) -> None:
    from ntm.machine.fused.optimizer import graves_rmsprop  # imports Numba

    arrays = [t.detach().numpy() for t in (p, p.grad, n, g, delta) if t is not None]
    number = arrays[0].dtype.type
    graves_rmsprop(*arrays, *(number(group[name]) for name in ("lr", "momentum", "decay", "eps")))
