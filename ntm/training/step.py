"""One training step: the optimiser, gradients of a batch of episodes, clipping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ntm.kernels.border import check_targets
from ntm.kernels.dispatch import Engine, learner
from ntm.memory.ntm import NTMCell
from ntm.model import Model
from ntm.training.optim import GravesRMSprop, Ridge, without_compiler
from ntm.training.schema import AdamConfig, ClipConfig, Config, RidgeConfig, RMSpropConfig
from ntm.whole_input import WholeInput
from tasks import Episode
from tasks.losses import BITS, Bits, Loss


def build_optimizer(config: Config, parameters: nn.Parameter, fused: bool = False) -> Optimizer:
    """The optimiser that the config names, for the flattened parameters.

    ``fused`` takes a compiled step; it is for the fused engine, so for the CPU.
    """
    o = config.train.optimizer
    if isinstance(o, RMSpropConfig):
        return without_compiler(torch.optim.RMSprop)(
            [parameters], o.lr, o.alpha, o.eps, momentum=o.momentum, centered=o.centered
        )
    if isinstance(o, AdamConfig):
        kind = torch.optim.AdamW if o.kind == "adamw" else torch.optim.Adam
        return without_compiler(kind)([parameters], o.lr, o.betas, o.eps, o.weight_decay)
    if isinstance(o, RidgeConfig):
        return Ridge(parameters, config.task.output_size, o.penalty)
    return GravesRMSprop([parameters], o.lr, o.momentum, o.decay, o.eps, fused)


def unrolling(config: Config) -> dict[str, Any]:
    """How training runs the core: the options of :func:`ntm.kernels.dispatch.unroll`."""
    clip = config.train.clip
    return {
        "engine": config.engine,
        "recompute_every": config.train.recompute_every,
        "weighting_grad": clip.weighting_grad if clip else None,
    }


class Cost(NamedTuple):
    """What a batch of sequences cost."""

    nats: Tensor  # [B]
    errors: Tensor  # [B] bit errors, or wrong answers


#: Takes episodes, and the slots of the memory if it is to have others, and gives their cost.
Differentiate = Callable[[Episode, int | None], Cost]


def differentiation(
    model: Model, parameters: nn.Parameter, config: Config, optimizer: Optimizer
) -> Differentiate:
    """What puts the gradients of the mean cost of a sequence, in nats, into ``parameters.grad``.

    ``parameters`` is the flattened model. An optimiser that needs no gradients is shown the
    episodes instead.
    """
    gradient = parameters.grad
    assert gradient is not None
    options, loss = unrolling(config), config.task.loss
    if isinstance(optimizer, Ridge) and isinstance(loss, Bits):
        return _observation(model, optimizer, loss, config.engine)
    learn = learner(model, **options) if loss is BITS else None

    def differentiate(episode: Episode, slots: int | None) -> Cost:
        gradient.zero_()
        if learn is None:
            return backpropagate(model, episode, slots, loss, options)
        return Cost(*learn(episode.inputs, episode.targets, episode.mask, slots=slots))

    return differentiate


def backpropagate(
    model: Model, episode: Episode, slots: int | None, loss: Loss, options: dict[str, Any]
) -> Cost:
    """Adds the gradients of the mean cost of a sequence, in nats, with autograd.

    slots: of the memory, if it is to have others. options: of :func:`ntm.kernels.dispatch.unroll`.
    """
    inputs, targets, mask = episode.inputs, episode.targets, episode.mask
    state = None
    if slots is not None:  # so there is a memory
        state = cast("NTMCell", model.core).initial_state(inputs.shape[1], slots)
    if isinstance(model.core, WholeInput):
        options = {**options, "begin": episode.begin}
    if type(model) is Model:  # and no module of a user's
        options = {**options, "wants_state": False}
    if model.batch_first:
        logits = model(inputs.transpose(0, 1), state, **options)[0].transpose(0, 1)
    else:
        logits, _ = model(inputs, state, **options)
    check_targets(inputs, targets, mask, loss.target_size(logits.shape[-1]))
    nats = loss.nats(logits, episode)
    nats.mean().backward()
    return Cost(nats.detach(), loss.errors(logits.detach(), episode))


def _observation(model: Model, optimizer: Ridge, loss: Bits, engine: Engine) -> Differentiate:
    """What shows episodes to an optimiser that needs no gradients, and gives their cost."""

    @torch.no_grad()
    def observe(episode: Episode, slots: int | None) -> Cost:
        h, _ = model.run(episode.inputs, begin=episode.begin, engine=engine)
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
        # As torch.nn.utils.clip_grad_norm_ does it, for a norm that is known already.
        parameters.grad.mul_((config.norm / (norm + 1e-6)).clamp(max=1.0))
