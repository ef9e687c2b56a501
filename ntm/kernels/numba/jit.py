"""How the kernels are compiled, cached between processes, and announced.

Of Numba's private parts the kernels use these, which is why pyproject.toml gives it an upper bound;
:func:`missing` looks for them.

    Dispatcher._cache, .compile         the cache of a compiled function, which ours replaces, and
                                        what compiles it
    numba.core.caching.FunctionCache    its methods _index_key, load_overload and save_overload,
                                        its cache_path, _py_func, _impl_class, _impl, _cache_file
    CompileResultCacheImpl, UserWideCacheLocator, IndexDataCacheFile
                                        where the cache lies, and how its files are written
    JITCodeLibrary, NativeLowering      what is called is not compiled by itself (inlining.py)
    njit(_nrt=..., forceinline=...)     options that its documentation does not name
    CPUCodegen.magic_tuple              what the processor has (products.py)
    numba.core.cgutils                  loops, tuples and local variables in LLVM (products.py)
    BaseContext.make_array              where an array's elements lie (products.py)
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numba
import numba.extending
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    UserWideCacheLocator,
)

from ntm.kernels.compiling import wait_for
from ntm.kernels.numba.inlining import Inlined

if numba.config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT keeps it from compiling")

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


#: Settings of Numba, NUMBA_OPT and so on, that change the code of a kernel. Numba finds a kernel
#: that was compiled with others in its cache, and takes it.
_SETTINGS = (
    "OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE",
    "DISABLE_INTEL_SVML", "EXTEND_VARIABLE_LIFETIMES",
)  # fmt: skip

_said: set[str] = set()


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        log.warning(text)


# The cache. It is a convenience: whatever is wrong with it, kernels are compiled and run.


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Waits for other processes that hold the lock on this file, where there can be one."""
    try:
        import fcntl
    except ImportError:  # Windows has none
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(file.open("w"))
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            _say_once(
                f"the fused kernels in {file.parent} cannot be locked ({error.strerror or error}): "
                "processes that start together compile them once each"
            )
        yield


@cache
def _temporary_folder() -> str:
    """A folder of this user's among the temporary files, the same for all of their processes.

    Cached files are code, so the folder is one that nobody else can write to.
    """
    own = getattr(os, "getuid", lambda: 0)()
    path = os.path.join(tempfile.gettempdir(), f"ntm-kernels-{own}")
    with contextlib.suppress(OSError):
        os.mkdir(path, 0o700)
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        private = os.name == "nt" or (found.st_uid == own and not found.st_mode & 0o077)
        if stat.S_ISDIR(found.st_mode) and private:
            return path
    return tempfile.mkdtemp(prefix="ntm-kernels-")


class _Temporary(UserWideCacheLocator):  # type: ignore[misc]  # Numba has no types
    """The last resort: a temporary folder."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        super().__init__(function, file)
        try:
            self._cache_path = os.path.join(
                _temporary_folder(), self.get_suitable_cache_subpath(file)
            )
        except OSError:  # none either: the cache says so when it saves
            return
        _say_once(
            f"the fused kernels are kept in {_temporary_folder()}, as nothing can be written next "
            "to the package or in the home folder; NUMBA_CACHE_DIR names a lasting place"
        )

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> _Temporary | None:
        return cls(function, file) if os.path.exists(file) else None


class _Places(CompileResultCacheImpl):  # type: ignore[misc]  # Numba has no types
    """Where Numba keeps compiled code, and one place more."""

    _locator_classes = [*CompileResultCacheImpl._locator_classes, _Temporary]  # noqa: RUF012


class _Files(IndexDataCacheFile):  # type: ignore[misc]  # Numba has no types
    """Numba's files, each with a checksum at its end: one that is damaged counts as missing.

    An index can name the file of another kernel: where files were written without a lock, or there
    was room for the index only. So code is kept with its key.
    """

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (key, data))

    def load(self, key: Any) -> Any:
        found, data = super().load(key) or (None, None)
        return data if found == key else None

    def _load_index(self) -> Any:
        return super()._load_index() if _is_whole(self._index_path) else {}

    def _load_data(self, name: str) -> Any:
        return super()._load_data(name) if _is_whole(self._data_path(name)) else None

    @contextlib.contextmanager
    def _open_for_write(self, path: str) -> Iterator[Any]:
        content = io.BytesIO()
        yield content
        with super()._open_for_write(path) as stream:
            stream.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())


def _is_whole(path: str) -> bool:
    """Whether a file ends in the checksum of what is before it."""
    try:
        data = Path(path).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(data[:-32]).digest() == data[-32:]


class _Cache(FunctionCache):  # type: ignore[misc]  # Numba has no types
    """Numba's cache on disk, which also says what is being compiled and how long it took.

    One process compiles a kernel, the others wait for it and load what it has compiled: the runs
    of a sweep that start together need the same ones.
    """

    _impl_class = _Places
    _started = 0.0

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Files(self.cache_path, self._impl.filename_base, stamp)
        #: Held from the miss to the save. A compilation that fails leaves it to the next one.
        self._turn = contextlib.ExitStack()
        wish = numba.config.CACHE_DIR
        if wish and not self.cache_path.startswith(wish):
            _say_once(
                f"NUMBA_CACHE_DIR: nothing can be written to {wish}; the fused kernels are kept in "
                f"{self.cache_path}"
            )

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        settings = tuple(str(getattr(numba.config, name, None)) for name in _SETTINGS)
        return (*super()._index_key(sig, codegen), _SOURCE, settings)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = self._found(sig, target_context)
        if found is None:
            self._turn.close()
            folder = Path(self.cache_path)
            self._turn.enter_context(_alone(folder / f".{self._py_func.__name__}.lock"))
            found = self._found(sig, target_context)  # by now another may have it
        if found is None:
            log.info("compiling the fused %s kernel (once; it is kept)", self._py_func.__name__)
            self._started = time.perf_counter()
        else:
            self._turn.close()
        return found

    def _found(self, sig: Any, target_context: Any) -> Any:
        """What is kept, if it can be read: if not, the kernel is compiled, and written anew."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever unpickling and LLVM make of it
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        # Numba reads the folder's index, picks the name of a free file, and writes both: two
        # processes that save, one kernel for float and one for double, could pick the same name.
        seconds = time.perf_counter() - self._started
        log.info("compiled the fused %s kernel in %.1f s", self._py_func.__name__, seconds)
        with self._turn.pop_all(), _alone(Path(self.cache_path) / ".lock"):
            try:
                super().save_overload(sig, data)
            except OSError as error:
                _say_once(
                    f"the fused kernels cannot be kept in {self.cache_path} "
                    f"({error.strerror or error}): every process compiles them anew; "
                    "NUMBA_CACHE_DIR names another folder"
                )


def kernel(function: F) -> F:
    """An entry point: called from Python without holding the GIL, compiled code kept on disk."""
    dispatcher: Any = numba.njit(**FAST)(function)
    try:
        dispatcher._cache = _Cache(function)
    except (OSError, RuntimeError) as error:  # NUMBA_CACHE_LOCATOR_CLASSES leaves no place
        _say_once(f"the fused kernels cannot be kept between processes: {error}")
    compile_now = dispatcher.compile
    dispatcher.compile = lambda signature: wait_for(partial(compile_now, signature))
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
    from numba.core import base, cgutils, codegen, compiler, options, typed_passes

    cached = ("_index_key", "load_overload", "save_overload", "cache_path", "_impl_class")
    files = ("save", "load", "_load_index", "_load_data", "_data_path", "_open_for_write")
    used: list[tuple[Any, tuple[str, ...]]] = [
        (FunctionCache, cached),
        (CompileResultCacheImpl, ("_locator_classes", "filename_base", "locator")),
        (UserWideCacheLocator, ("from_function", "get_suitable_cache_subpath")),
        (IndexDataCacheFile, files),
        (codegen.CPUCodegen, ("magic_tuple",)),
        (codegen.JITCodeLibrary, ("_optimize_final_module", "_finalize_final_module")),
        (codegen.JITCodeLibrary, ("_finalize_dynamic_globals",)),
        (compiler.DefaultPassBuilder, ("define_nopython_pipeline",)),
        (typed_passes.NativeLowering, ("run_pass",)),
        (base.BaseContext, ("make_array", "get_dummy_value", "cast")),
        (cgutils, ("alloca_once", "for_range_slice", "get_or_insert_function", "unpack_tuple")),
        (options.DefaultOptions, ("_nrt", "forceinline")),
    ]
    found = [
        f"{one.__name__}.{name}" for one, names in used for name in names if not hasattr(one, name)
    ]
    dispatcher = numba.njit(lambda: None)
    return found + [
        f"Dispatcher.{name}" for name in ("_cache", "compile") if not hasattr(dispatcher, name)
    ]
