"""Neural Turing Machines (Graves, Wayne & Danihelka 2014) and their memory tasks.

From Python: :class:`ntm.NTM` is a module with the habits of torch.nn.LSTM; :func:`ntm.load` gives
the trained model of a run, :func:`ntm.trace` what it did on an episode, and
:func:`ntm.plot_memory` the figure of that. :func:`ntm.sample` writes text.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ntm.api import NTM, load, plot_memory, register, sample, trace

__all__ = ["NTM", "load", "plot_memory", "register", "sample", "trace"]


def __getattr__(name: str) -> Any:
    """What is public, imported when it is first used: the command line should not wait for it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ntm import api as interface

    return getattr(interface, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
