"""Neural Turing Machines (Graves, Wayne & Danihelka 2014) and their memory tasks.

From Python: :func:`ntm.train`, :func:`ntm.evaluate`, :func:`ntm.plot`, :func:`ntm.sweep`,
:func:`ntm.report` and :func:`ntm.reproduce` do what the commands of the same names do, and return
the results as objects; :class:`ntm.NTM` and :class:`ntm.Recurrent` are modules with the habits of
torch.nn.LSTM, :class:`ntm.Learner` trains them in a loop of one's own, and :func:`ntm.load` gives
the trained model of a run. :mod:`ntm.api` describes the functions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ntm.errors import NTMError

if TYPE_CHECKING:
    from ntm.api import (
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
    from ntm.learning import Learner
    from ntm.memory.ntm import NTMState
    from ntm.module import NTM, Recurrent
    from ntm.training.loop import Watcher

__all__ = [
    "NTM", "Benchmark", "Evaluation", "Kinds", "Learner", "NTMError", "NTMState", "Recurrent",
    "Report", "Reproduction", "Run", "Status", "Sweep", "Trace", "Trained", "Watcher", "bench",
    "evaluate", "kinds", "load", "plot", "plot_memory", "register", "report", "reproduce",
    "sample", "sweep", "trace", "train",
]  # fmt: skip

#: Where names are that are not from :mod:`ntm.api`: a module needs no pictures.
_ELSEWHERE = {
    "NTM": "ntm.module",
    "Recurrent": "ntm.module",
    "NTMState": "ntm.memory.ntm",
    "Learner": "ntm.learning",
    "Watcher": "ntm.training.loop",
}


def __getattr__(name: str) -> Any:
    """Imports the public names at their first use: the command line should not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ntm.shadowing import check_packages

    check_packages()
    return getattr(import_module(_ELSEWHERE.get(name, "ntm.api")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
