"""How the kernels are compiled, cached between processes, and announced.

Of Numba's private parts the kernels use these, which is why pyproject.toml gives it an upper bound;
:func:`missing` looks for them.

    Dispatcher._cache                   the cache of a compiled function, which ours replaces
    numba.core.caching.FunctionCache    its methods _index_key, load_overload and save_overload,
                                        its cache_path, its _py_func
    njit(_nrt=..., forceinline=...)     options that its documentation does not name
    CPUCodegen.magic_tuple              what the processor has (products.py)
    numba.core.cgutils                  loops, tuples and local variables in LLVM (products.py)
    BaseContext.make_array              where an array's elements lie (products.py)
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numba
import numba.extending
from numba.core.caching import FunctionCache

from ntm.kernels.numba.inlining import Inlined

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger("ntm")

_COMMON = {
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,  # nothing is allocated, so no references need counting: 5 ns for each row
}

#: Sums may be reordered and products fused, so that loops vectorise; NaN and infinity keep
#: their meaning, because the guards of the addressing rest on it.
FAST: dict[str, Any] = {**_COMMON, "fastmath": {"reassoc", "contract", "nsz"}}

#: No reassociation.
EXACT: dict[str, Any] = {**_COMMON, "fastmath": {"contract", "nsz"}}

_HERE = Path(__file__).parent

#: Of the source of the whole package, and of what it takes from outside: Numba itself notices a
#: change only in the file that holds the cached function, and would go on running the old kernel
#: when another one changes.
_SOURCE = hashlib.sha256(
    b"".join(
        path.read_bytes()
        for path in (
            _HERE.parent / "kinds.py",
            _HERE.parent / "layout.py",
            *sorted(_HERE.glob("*.py")),
        )
    )
).hexdigest()


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Waits for other processes that hold the lock on this file."""
    try:
        import fcntl
    except ImportError:  # Windows has none
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class _Cache(FunctionCache):  # type: ignore[misc]  # Numba has no types
    """Numba's cache on disk, which also says what is being compiled and how long it took.

    One process compiles a kernel, the others wait for it and load what it has compiled: the runs
    of a sweep that start together need the same ones.
    """

    _started = 0.0

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        #: Held from the miss to the save. A compilation that fails leaves it to the next one.
        self._turn = contextlib.ExitStack()

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _SOURCE)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        if found is None:
            self._turn.close()
            folder = Path(self.cache_path)
            self._turn.enter_context(_alone(folder / f".{self._py_func.__name__}.lock"))
            found = super().load_overload(sig, target_context)  # by now another may have it
        if found is None:
            log.info("compiling the fused %s kernel (once; it is kept)", self._py_func.__name__)
            self._started = time.perf_counter()
        else:
            self._turn.close()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        # Numba reads the folder's index, picks the name of a free file, and writes both: two
        # processes that save, one kernel for float and one for double, could pick the same name.
        with self._turn.pop_all(), _alone(Path(self.cache_path) / ".lock"):
            super().save_overload(sig, data)
        seconds = time.perf_counter() - self._started
        log.info("compiled the fused %s kernel in %.1f s", self._py_func.__name__, seconds)


def kernel(function: F) -> F:
    """An entry point: called from Python without holding the GIL, compiled code kept on disk."""
    dispatcher: Any = numba.njit(**FAST)(function)
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError as error:  # no directory can be written to
        log.info("the fused kernels cannot be kept between processes: %s", error)
    compiled: F = dispatcher
    return compiled


def device_function(function: F) -> F:
    """What a kernel calls.

    Always inlined: of a function that is called there would be two compiled copies, one of its
    own and one inside the kernel. A process that has just compiled runs the first, one that reads
    the cache the second, and they round differently: a resumed run would not be bit for bit.
    """
    compiled: F = numba.njit(**FAST, forceinline=True, pipeline_class=Inlined)(function)
    return compiled


def inlined(function: F) -> F:
    """What is put into a kernel before anything is compiled.

    For what returns an array, which only a function of its own cannot, and for the outermost
    functions of the backward pass, which is 3% faster for it. The others compile sooner as device
    functions.
    """
    compiled: F = numba.njit(**FAST, inline="always")(function)
    return compiled


def exact(function: F) -> F:
    """What a kernel calls, where (x + c) - c must stay what it says."""
    compiled: F = numba.njit(**EXACT, forceinline=True, pipeline_class=Inlined)(function)
    return compiled


def native(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a kernel calls, written in LLVM's own language; its first argument is Numba's."""
    compiled: Callable[..., Any] = numba.extending.intrinsic(function)
    return compiled


def missing() -> list[str]:
    """What of Numba's private parts this version does not have."""
    from numba.core import base, cgutils, codegen, options

    cached = ("_index_key", "load_overload", "save_overload", "cache_path")
    used: list[tuple[Any, tuple[str, ...]]] = [
        (FunctionCache, cached),
        (codegen.CPUCodegen, ("magic_tuple",)),
        (base.BaseContext, ("make_array", "get_dummy_value", "cast")),
        (cgutils, ("alloca_once", "for_range_slice", "get_or_insert_function", "unpack_tuple")),
        (options.DefaultOptions, ("_nrt", "forceinline")),
    ]
    found = [
        f"{one.__name__}.{name}" for one, names in used for name in names if not hasattr(one, name)
    ]
    if not hasattr(numba.njit(lambda: None), "_cache"):
        found.append("Dispatcher._cache")
    return found
