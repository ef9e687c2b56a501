"""The compiled training step for training loops of one's own."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ntm.kernels.dispatch import Engine, TrainingStep, has_learner, learner
from ntm.kernels.modules import tensors_of
from ntm.memory.ntm import NTMCell
from ntm.memory.sparse import SparseCell
from ntm.model import Model
from ntm.training.optim import flatten
from ntm.training.step import Cost, backpropagate
from tasks import Episode
from tasks.losses import BITS


class Learner:
    """Costs and gradients of a model whose targets are bits, as fast as in ``ntm train``.

        learn = Learner(model)
        optimizer = torch.optim.Adam(learn.parameters(), lr=1e-3)
        for inputs, targets, mask in batches:
            optimizer.zero_grad()
            nats, errors = learn(inputs, targets, mask)
            optimizer.step()

    A call does what ``loss.backward()`` would: it adds the gradients of the mean cost of a sequence
    to the ``.grad`` of every trained parameter. On the CPU the compiled kernels do it, in one
    call; where they do not apply, autograd does, with the same result.

    model: an :class:`ntm.NTM`, an :class:`ntm.Recurrent`, or the model of a run. Its parameters
        become views of one vector, and stay where they are: after ``model.to(...)`` it needs
        another Learner.
    engine, recompute_every, weighting_grad: as of :func:`ntm.kernels.dispatch.unroll`.
    """

    def __init__(
        self,
        model: Model,
        *,
        engine: Engine = "auto",
        recompute_every: int | None = None,
        weighting_grad: float | None = None,
    ) -> None:
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError("model: has no parameters that require gradients")
        self.model = model
        self._options: dict[str, Any] = {
            "engine": engine,
            "recompute_every": recompute_every,
            "weighting_grad": weighting_grad,
        }
        vector = flatten(model)
        trained = [vector, *(p for p in model.parameters() if p.requires_grad)]
        #: The vector, then its views, each with the gradient that it is to have.
        self._gradients = [(p, p.grad) for p in trained]
        self._places = self._where()
        self._step: TrainingStep | None = learner(model, **self._options)

    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters as one vector, for an optimiser that treats each alike.

        A step of Adam, RMSprop or SGD is the same on it as on ``model.parameters()``, which will do
        as well, and at batch 1 takes a fraction of the time.
        """
        return [self._gradients[0][0]]

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        mask: Tensor | None = None,
        *,
        slots: int | None = None,
    ) -> Cost:
        """Adds the gradients, and returns what each sequence cost: nats [B] and bit errors [B].

        inputs [T, B, I]; targets [T, B, O], 0 or 1; mask [T, B], 1 where outputs are scored, by
        default everywhere. With ``batch_first``, [B, T, ...] each. Padding is what the mask leaves
        out. The cost is the cross-entropy summed over the scored outputs of a sequence.
        slots: of the memory, for this call.

        Raises ValueError and TypeError for sizes, types and devices that are not the model's, and
        RuntimeError where the parameters are not where they were.
        """
        self._gather()
        if slots is not None and not isinstance(self.model.core, NTMCell | SparseCell):
            raise ValueError("slots is for a model with a memory, which this is not")
        if mask is None:
            mask = inputs.new_ones(inputs.shape[:2])
        inputs, targets, mask = self._in_order(inputs, targets, mask)
        if not has_learner(self.model, self._options["engine"]):
            episode = Episode(inputs, targets, mask, {})
            return backpropagate(self.model, episode, slots, BITS, self._options)
        if self._step is None:
            self._step = learner(self.model, **self._options)
            assert self._step is not None
        return Cost(*self._step(inputs, targets, mask, slots=slots))

    def _in_order(self, inputs: Tensor, *others: Tensor) -> list[Tensor]:
        """Time first, and all of the type of the inputs."""
        found = [inputs]
        for tensor in others:
            known = isinstance(tensor, Tensor)  # if not, the border says so
            found.append(tensor.to(inputs.dtype) if known else tensor)
        return [tensor.transpose(0, 1) for tensor in found] if self.model.batch_first else found

    def _gather(self) -> None:
        """Puts every gradient back to where the kernels add to it, if it was put elsewhere.

        ``optimizer.zero_grad()`` takes them away: those begin at 0.
        """
        if self._where() != self._places:
            raise RuntimeError(
                "the model has been moved or changed since: make another Learner, and an optimizer "
                "of its parameters"
            )
        for parameter, gradient in self._gradients:
            given = parameter.grad
            if given is not gradient:
                assert gradient is not None
                gradient.zero_() if given is None else gradient.copy_(given)
                parameter.grad = gradient

    def _where(self) -> list[int]:
        """Where every parameter and buffer lies."""
        return [tensor.data_ptr() for tensor in tensors_of(self.model)]
