"""Neural Turing Machines (Graves, Wayne & Danihelka 2014) and their memory tasks.

From Python: :func:`ntm.train`, :func:`ntm.evaluate`, :func:`ntm.plot`, :func:`ntm.sweep`,
:func:`ntm.report` and :func:`ntm.reproduce` do what the commands of the same names do, and return
the results as objects; :class:`ntm.NTM` is a module with the habits of torch.nn.LSTM, and
:func:`ntm.load` the trained model of a run. :mod:`ntm.api` describes them all.
"""

from typing import TYPE_CHECKING, Any

from ntm.errors import NTMError

if TYPE_CHECKING:
    from ntm.api import (
        NTM,
        Benchmark,
        Evaluation,
        Kinds,
        Report,
        Reproduction,
        Run,
        Status,
        Sweep,
        Trace,
        Trained,
        bench,
        evaluate,
        kinds,
        load,
        plot,
        plot_memory,
        register,
        report,
        reproduce,
        sample,
        sweep,
        trace,
        train,
    )

__all__ = [
    "NTM", "Benchmark", "Evaluation", "Kinds", "NTMError", "Report", "Reproduction", "Run",
    "Status", "Sweep", "Trace", "Trained", "bench", "evaluate", "kinds", "load", "plot",
    "plot_memory", "register", "report", "reproduce", "sample", "sweep", "trace", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports the public names at their first use: the command line should not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ntm.shadowing import check_packages

    check_packages()
    from ntm import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
