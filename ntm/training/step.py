"""One training step: the optimiser, gradients of a batch of episodes, clipping."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from controllers.base import Core
from ntm.model import Model
from ntm.training.optim import GravesRMSprop, Ridge
from ntm.training.schema import AdamConfig, ClipConfig, Config, RidgeConfig, RMSpropConfig
from tasks import Episode
from tasks.losses import BITS, Bits, Loss

if TYPE_CHECKING:
    from ntm.memory.ntm import NTMCell


def build_optimizer(config: Config, parameters: nn.Parameter, fused: bool = False) -> Optimizer:
    """The optimiser that the config names, for the flattened parameters.

    ``fused`` takes a compiled step; it is for the fused engine, so for the CPU.
    """
    o = config.train.optimizer
    if isinstance(o, RMSpropConfig):
        return torch.optim.RMSprop(
            [parameters], o.lr, o.alpha, o.eps, momentum=o.momentum, centered=o.centered
        )
    if isinstance(o, AdamConfig):
        kind = torch.optim.AdamW if o.kind == "adamw" else torch.optim.Adam
        return kind([parameters], o.lr, o.betas, o.eps, o.weight_decay)
    if isinstance(o, RidgeConfig):
        return Ridge(parameters, config.task.output_size, o.penalty)
    return GravesRMSprop([parameters], o.lr, o.momentum, o.decay, o.eps, fused)


class Cost(NamedTuple):
    """What a batch of sequences cost."""

    nats: Tensor  # [B]
    errors: Tensor  # [B] wrong bits, or wrong answers


#: Takes episodes, and the slots of the memory if it is to have others, and gives their cost.
Differentiate = Callable[[Episode, int | None], Cost]


def differentiation(model: Model, parameters: nn.Parameter, loss: Loss) -> Differentiate:
    """What puts the gradients of the mean cost of a sequence, in nats, into ``parameters.grad``.

    ``parameters`` is the flattened model.
    """
    gradient = parameters.grad
    assert gradient is not None
    learner = None
    # A core with the loss on bits is compiled in; what reads the whole input first is no core.
    if uses_fused(model) and isinstance(model.core, Core) and loss is BITS:
        from ntm.kernels.numba import Learner  # imports Numba

        learner = Learner(model)

    def differentiate(episode: Episode, slots: int | None) -> Cost:
        gradient.zero_()
        if learner is not None:
            return Cost(*learner(episode.inputs, episode.targets, episode.mask, slots=slots))
        state = None
        if slots is not None:  # so there is a memory
            state = cast("NTMCell", model.core).initial_state(episode.inputs.shape[1], slots)
        logits, _ = model(episode.inputs, state, begin=episode.begin)
        nats = loss.nats(logits, episode)
        nats.mean().backward()
        return Cost(nats.detach(), loss.errors(logits.detach(), episode))

    return differentiate


def observation(model: Model, optimizer: Ridge, loss: Bits) -> Differentiate:
    """What shows episodes to an optimiser that needs no gradients, and gives their cost."""

    @torch.no_grad()
    def observe(episode: Episode, slots: int | None) -> Cost:
        h, _ = model.run(episode.inputs, begin=episode.begin)
        logits = model.readout(h)
        optimizer.see(h, loss.goals(episode), episode.mask)
        return Cost(loss.nats(logits, episode), loss.errors(logits, episode))

    return observe


def clip(parameters: nn.Parameter, config: ClipConfig | None, norm: Tensor) -> None:
    """Clips the gradient in place; ``norm`` is its norm."""
    if config is None:
        return
    assert parameters.grad is not None
    if config.value is not None:
        parameters.grad.clamp_(-config.value, config.value)
    if config.norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, config.norm, norm)


def uses_fused(model: Model) -> bool:
    """Whether the model runs on the fused engine."""
    return model.core.engine == "fused"
