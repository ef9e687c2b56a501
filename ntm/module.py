"""The Neural Turing Machine, and recurrent units alone, as torch modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from controllers import ControllerConfig, Core, State, build_controller, configure
from controllers.base import each, typed
from ntm.arguments import one_line
from ntm.kernels.border import check, check_inputs
from ntm.kernels.dispatch import Engine
from ntm.memory.ntm import NTMCell, NTMConfig
from ntm.model import Model


class Layer(Model):
    """What NTM and Recurrent share: a core and a readout with the habits of torch.nn.LSTM."""

    core: Core

    def __init__(
        self,
        build: Callable[[torch.Generator], Core],
        output_size: int,
        batch_first: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        generator: torch.Generator | None,
    ) -> None:
        with torch.device("cpu"):  # of generators: the first parameters are equal on every device
            if generator is None:
                generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
            super().__init__(build(generator), output_size, generator)
        self.batch_first = batch_first
        self.to(torch.get_default_device() if device is None else device, dtype)

    def forward(  # type: ignore[override]
        self,
        inputs: Tensor | PackedSequence,
        state: State | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        engine: Engine = "auto",
        recompute_every: int | None = None,
        weighting_grad: float | None = None,
    ) -> tuple[Any, State]:
        """Outputs as the inputs are, padded or packed, and the state after each sequence's end.

        lengths [B]: of padded sequences, 1 to T each. Their outputs are 0 from there on.
        The others are those of :func:`ntm.kernels.dispatch.unroll`, and so are the errors.
        """
        options: dict[str, Any] = {
            "engine": engine,
            "recompute_every": recompute_every,
            "weighting_grad": weighting_grad,
        }
        if isinstance(inputs, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths: a PackedSequence has its own")
            return self._run_packed(inputs, state, options)
        if self.batch_first and isinstance(inputs, Tensor) and inputs.dim() == 3:
            inputs = inputs.transpose(0, 1)
        if lengths is None:
            hidden, state = self.run(inputs, state, **options)
            logits, state = self.readout(hidden), typed(state)
        else:
            check_inputs(self.core, inputs)
            lengths = _checked(lengths, *inputs.shape[:2])
            packed = pack_padded_sequence(inputs, lengths, enforce_sorted=False)
            outputs, state = self._run_packed(packed, state, options)
            logits, _ = pad_packed_sequence(outputs, total_length=len(inputs))
        return logits.transpose(0, 1) if self.batch_first else logits, state

    def _run_packed(
        self, inputs: PackedSequence, state: State | None, options: dict[str, Any]
    ) -> tuple[PackedSequence, State]:
        """The longest sequences come first: at every step, those that go on are the first ones.

        From one end to the next, they are a batch like any other.
        """
        batches, steps = torch.unique_consecutive(inputs.batch_sizes, return_counts=True)
        rows = inputs.data.split((batches * steps).tolist())
        spans = [xs.unflatten(0, (-1, b)) for xs, b in zip(rows, batches.tolist(), strict=True)]
        order, inverse = inputs.sorted_indices, inputs.unsorted_indices
        begins = state is None
        state = check(self.core, spans[0], state)
        if order is not None and not begins:  # at the beginning all are equal
            state = each(lambda s: s[order], state)
        hidden, ended = [], []
        for xs in spans:
            b = xs.shape[1]
            ended.append(each(lambda s, b=b: s[b:], state))
            ys, state = self.run(xs, each(lambda s, b=b: s[:b], state), **options)
            hidden.append(ys.flatten(0, 1))
        state = each(lambda *parts: torch.cat(parts), state, *reversed(ended))
        if inverse is not None:
            state = each(lambda s: s[inverse], state)
        logits = self.readout(torch.cat(hidden))
        return PackedSequence(logits, inputs.batch_sizes, order, inverse), typed(state)


def _checked(lengths: Tensor | Sequence[int], T: int, B: int) -> Tensor:
    found = torch.as_tensor(lengths, device="cpu")
    if found.is_floating_point() or found.dtype is torch.bool:
        raise TypeError(f"lengths should be whole numbers, not {found.dtype}")
    if found.shape != (B,):
        raise ValueError(f"lengths is {list(found.shape)}, should be [{B}]")
    if B and not 1 <= found.min() <= found.max() <= T:
        low, high = int(found.min()), int(found.max())
        raise ValueError(f"lengths should be from 1 to {T}, the steps of inputs: {low} to {high}")
    return found


class NTM(Layer):
    """A Neural Turing Machine with a linear readout and the habits of torch.nn.LSTM.

        model = NTM(10, 8, controller="lstm", slots=128, width=20)
        output, state = model(x)         # x [T, B, 10] -> output [T, B, 8]; a new episode
        output, state = model(x, state)  # and on from there
        output, state = model(x, lengths=[5, 3])  # sequences of several lengths, padded

    Time comes first, or with ``batch_first`` the batch, [B, T, 10]. Without a state, an episode
    begins; the state that comes back holds the memory [B, N, W], the weights of all heads
    [B, H, N], the reads and the controller's state, and can be given to the next call.
    ``state.detach()`` goes on from it without the graph behind it, and ``state.to(...)`` moves it.

    Sequences of several lengths come padded, with their ``lengths``, or as a PackedSequence, and
    outputs go as inputs came. Each is what it would be if the sequence ran alone, and so is the
    state, that after the sequence's own last step.

    Outputs are logits; those of the paper are their sigmoids. It runs on the fused kernels where
    they apply (float32 or float64 on the CPU), and elsewhere in plain torch; ``model(x,
    engine="reference")`` asks for one of them.

    controller: the kind of a controller, such as lstm (``ntm list`` shows all), of
        ``hidden_size`` units in each of its ``layers``; or its settings as a ControllerConfig.
    device, dtype: of the parameters; by default torch's.
    generator: draws the first parameters, on the CPU; without one, ``torch.manual_seed`` decides.
    """

    core: NTMCell

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        controller: str | ControllerConfig = "lstm",
        hidden_size: int = 100,
        layers: int = 1,
        slots: int = 128,
        width: int = 20,
        read_heads: int = 1,
        write_heads: int = 1,
        shift_range: int = 1,
        initial: Literal["constant", "learned"] = "constant",
        read: Literal["after", "before"] = "after",
        shared: bool = False,
        shift_bias: float = 0.0,
        erase_bias: float = 0.0,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        with one_line():
            memory = NTMConfig(
                slots=slots, width=width, read_heads=read_heads, write_heads=write_heads,
                shift_range=shift_range, initial=initial, read=read, shared=shared,
                shift_bias=shift_bias, erase_bias=erase_bias,
            )  # fmt: skip
        settings = _settings(controller, hidden_size, layers)

        def build(generator: torch.Generator) -> Core:
            inner = build_controller(settings, input_size + memory.reads_size, generator)
            return NTMCell(inner, memory, generator)

        super().__init__(build, output_size, batch_first, device, dtype, generator)


class Recurrent(Layer):
    """Recurrent units without a memory, with a linear readout: :class:`NTM` without its memory.

        model = Recurrent(10, 8, controller="gru", hidden_size=100, layers=2)
        output, state = model(x)  # x [T, B, 10] -> output [T, B, 8]

    The state is the controller's: of one layer h [B, H] for a GRU, (h, c) for an LSTM; of several,
    a tuple of theirs. Everything else is as for an NTM.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        controller: str | ControllerConfig = "lstm",
        hidden_size: int = 100,
        layers: int = 1,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        settings = _settings(controller, hidden_size, layers)

        def build(generator: torch.Generator) -> Core:
            return build_controller(settings, input_size, generator)

        super().__init__(build, output_size, batch_first, device, dtype, generator)


def _settings(controller: str | ControllerConfig, size: int, layers: int) -> ControllerConfig:
    if isinstance(controller, str):
        with one_line():
            return configure(controller, size=size, layers=layers)
    return controller
