"""RMSProp in the form of Graves 2013, the paper's optimiser (arXiv 1308.0850, equations 38-45)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Kind = TypeVar("Kind", bound=Optimizer)


def flatten(module: nn.Module) -> nn.Parameter:
    """All trained parameters of a module as one long vector, of which each becomes a view.

    A step of an elementwise optimiser, the norm of the gradient and its clipping are then a few
    operations on one vector instead of a few for each parameter: at batch 1 those took as long
    as the kernels. The gradients are views of the vector's gradient, which is zeroed in place.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    flat = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    start = 0
    for p in parameters:
        end = start + p.numel()
        p.data = flat.data[start:end].view_as(p)
        p.grad = flat.grad[start:end].view_as(p)
        start = end
    return flat


def without_compiler(kind: type[Kind]) -> type[Kind]:
    """The same optimiser, whose methods do not import torch's compiler: 1.5 s of every start.

    torch wraps them so that they are never compiled, and imports the compiler for that.
    """
    names = ("add_param_group", "state_dict", "load_state_dict")
    plain: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    plain["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return cast("type[Kind]", type(kind.__name__, (kind,), plain))


class GravesRMSprop(Optimizer):
    """Divides the gradient by a running estimate of its standard deviation.

    n <- decay n + (1 - decay) grad^2
    g <- decay g + (1 - decay) grad
    delta <- momentum delta - lr grad / sqrt(n - g^2 + eps)
    parameter <- parameter + delta

    ``fused`` does it in one compiled pass, for contiguous parameters on the CPU; it needs Numba.

    Unlike torch.optim.RMSprop(centered=True), eps is inside the root, and the learning rate is
    inside the momentum, so that a change of ``lr`` does not rescale the steps already under way.
    """

    # See ``without_compiler``.
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

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


# Torch wraps the step of every optimiser for its profiler and for hooks (register_step_*_hook),
# unless it finds it wrapped already. There are none here, and at batch 1 that takes as long as half
# the step.
setattr(GravesRMSprop.step, "hooked", True)  # noqa: B010


def _step_fused(p: Tensor, n: Tensor, g: Tensor, delta: Tensor, group: dict[str, Any]) -> None:
    from ntm.kernels.numba.optimizer import graves_rmsprop  # imports Numba

    arrays = [t.detach().numpy() for t in (p, p.grad, n, g, delta) if t is not None]
    number = arrays[0].dtype.type
    graves_rmsprop(*arrays, *(number(group[name]) for name in ("lr", "momentum", "decay", "eps")))


class Ridge(Optimizer):
    """The readout in closed form: least squares on all that has been seen, with a penalty.

    [W b] = argmin sum |W h + b - goal|^2 + penalty |W|^2

    over the scored steps; h [C] are the core's outputs. Its only parameter is the flattened
    readout, W [O, C] then b [O]. The sums are kept in float64, so that a run goes on where it was.
    ``lr`` is how much of the way to the solution a step goes; 1 is all of it.
    """

    def __init__(self, parameters: nn.Parameter, outputs: int, penalty: float) -> None:
        super().__init__([parameters], {"lr": 1.0, "penalty": penalty})
        self.parameters, self.outputs = parameters, outputs
        size = parameters.numel() // outputs  # C + 1
        new = parameters.detach().double().new_zeros
        self.state[parameters] = {"G": new(size, size), "X": new(size, outputs)}
        self._seen: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def see(self, h: Tensor, goals: Tensor, mask: Tensor) -> None:
        """The next step reckons with h [T, B, C] and goals [T, B, O] where mask [T, B] is not 0."""
        scored = mask > 0
        rows = torch.cat([h[scored], h.new_ones(int(scored.sum()), 1)], dim=1)
        self._seen.append((rows.double(), goals[scored].double()))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        (group,), state = self.param_groups, self.state[self.parameters]
        while self._seen:
            rows, goals = self._seen.pop()
            state["G"] += rows.T @ rows
            state["X"] += rows.T @ goals
        penalty = torch.full_like(state["G"][0], group["penalty"])
        penalty[-1] = 1e-9  # of the bias: only so that there is a solution before anything is seen
        solution = torch.linalg.solve(state["G"] + torch.diag(penalty), state["X"])  # [C + 1, O]
        found = torch.cat([solution[:-1].T.flatten(), solution[-1]])
        self.parameters.lerp_(found.to(self.parameters.dtype), group["lr"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but that the sums stay in float64."""
        (entries,) = state_dict["state"].values()
        state = self.state[self.parameters]
        for name, own in state.items():
            if entries[name].shape != own.shape:
                raise ValueError(f"{name} is {list(entries[name].shape)}, not {list(own.shape)}")
            state[name] = entries[name].to(own)
