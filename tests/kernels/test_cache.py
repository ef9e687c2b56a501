"""The kernels' cache is a convenience: whatever is wrong with it, the kernels run."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

numba = pytest.importorskip("numba")

from ntm.kernels.numba import jit  # noqa: E402
from tests.locks import refuse_locks  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_said(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO, logger="ntm")
    jit._said.clear()
    yield
    jit._said.clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds a kernel for a whole number and one for a float."""
    path, patch = tmp_path_factory.mktemp("whole"), pytest.MonkeyPatch()
    patch.setattr(numba.config, "CACHE_DIR", str(path))
    kernel = jit.kernel(_next)
    assert (kernel(3), kernel(1.5)) == (4, 2.5)
    patch.undo()
    return path


def _next(x: Any) -> Any:
    return x + 1


def compiled(caplog: pytest.LogCaptureFixture) -> int:
    """How many kernels were compiled since it was last asked."""
    count = sum(r.getMessage().startswith("compiling ") for r in caplog.records)
    caplog.clear()
    return count


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def one_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (suffix, damage)
        for suffix in (".nbi", ".1.nbc", ".2.nbc")
        for damage in (cut, one_bit, lambda data: b"", lambda data: b"nonsense", None)
    ],
)
def test_a_damaged_file_is_a_miss_and_is_written_anew(
    suffix: str,
    damage: Callable[[bytes], bytes] | None,
    folder: Path,
    whole: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(whole, folder)
    (file,) = folder.rglob(f"*{suffix}")
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    lost = 2 if suffix == ".nbi" else 1
    for count in (lost, 0):  # the second one finds them on disk again
        kernel = jit.kernel(_next)
        assert (kernel(3), kernel(1.5)) == (4, 2.5)
        assert not warnings(caplog)
        assert compiled(caplog) == count


def test_code_of_another_kernel_is_not_run(
    folder: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two processes that save without a lock may pick the same file."""
    shutil.copytree(whole, folder)
    (one,), (other,) = folder.rglob("*.1.nbc"), folder.rglob("*.2.nbc")
    shutil.copy(one, other)
    kernel = jit.kernel(_next)
    assert (kernel(3), kernel(1.5)) == (4, 2.5)
    assert compiled(caplog) == 1


@pytest.mark.parametrize("setting", ["BOUNDSCHECK", "OPT"])
def test_code_compiled_with_other_settings_is_not_run(
    setting: str,
    folder: Path,
    whole: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(whole, folder)
    monkeypatch.setattr(numba.config, setting, 0 if setting == "OPT" else 1)
    assert jit.kernel(_next)(3) == 4
    assert compiled(caplog) == 1


NO_LOCKS = ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EPERM", "EACCES", "EIO", "ESTALE"]


@pytest.mark.parametrize("name", NO_LOCKS)
def test_without_locks_kernels_are_compiled_and_kept(
    name: str, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = refuse_locks(monkeypatch, name)
    assert jit.kernel(_next)(3) == 4
    (said,) = warnings(caplog)
    assert "cannot be locked" in said
    assert text in said
    assert compiled(caplog) == 1
    assert jit.kernel(_next)(3) == 4
    assert compiled(caplog) == 0


@pytest.mark.skipif(getattr(os, "getuid", lambda: 0)() == 0, reason="root may write everywhere")
def test_a_lock_of_somebody_else_is_one_line(
    folder: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(whole, folder)
    for file in folder.rglob("*.nbi"):
        file.unlink()
    for file in folder.rglob(".*lock"):
        file.chmod(0)
    assert jit.kernel(_next)(3) == 4
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("call", ["os.replace", "os.makedirs", "pathlib.Path.mkdir"])
@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG", "EIO"])
def test_what_cannot_be_kept_is_one_line_and_runs(
    call: str,
    name: str,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = getattr(errno, name)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    kernel = jit.kernel(_next)
    monkeypatch.setattr(call, refuse)
    assert (kernel(3), kernel(1.5)) == (4, 2.5)
    (said,) = warnings(caplog)
    assert str(folder) in said
    assert os.strerror(number) in said
    assert ("NUMBA_CACHE_DIR" in said) == (call != "pathlib.Path.mkdir")  # for the lock's file


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing can be written next to the package or in the home folder; the temporary folder."""
    monkeypatch.setattr(jit._Places, "_locator_classes", [jit._Temporary])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    jit._temporary_folder.cache_clear()
    return tmp_path


def test_the_last_resort_is_a_private_temporary_folder(
    nowhere: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for count in (1, 0):
        jit._temporary_folder.cache_clear()  # as in another process
        jit._said.clear()
        kernel = jit.kernel(_next)
        assert kernel(3) == 4
        (said,) = warnings(caplog)
        assert "NUMBA_CACHE_DIR" in said
        assert compiled(caplog) == count
    (made,) = nowhere.iterdir()
    assert str(made) in said
    assert made.stat().st_mode & 0o077 == 0
    assert list(made.rglob("*.nbc"))


@pytest.mark.parametrize("trap", ["open to all", "a link", "a file"])
def test_a_temporary_folder_that_others_can_write_to_is_not_trusted(
    trap: str, nowhere: Path
) -> None:
    """What it holds is code."""
    usual = Path(jit._temporary_folder())
    usual.rmdir()
    if trap == "open to all":
        usual.mkdir()
        usual.chmod(0o777)
    elif trap == "a link":
        (nowhere / "of another").mkdir(mode=0o700)
        usual.symlink_to(nowhere / "of another")
    else:
        usual.write_text("")
    jit._temporary_folder.cache_clear()
    assert jit.kernel(_next)(3) == 4
    assert Path(jit._temporary_folder()) != usual
    assert list(Path(jit._temporary_folder()).rglob("*.nbc"))
    jit._temporary_folder.cache_clear()


def test_where_nothing_at_all_can_be_written_kernels_run(
    nowhere: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("os.mkdir", "os.makedirs", "tempfile.mkdtemp", "pathlib.Path.mkdir"):
        monkeypatch.setattr(name, refuse)
    assert jit.kernel(_next)(3) == 4
    assert 1 <= len(warnings(caplog)) <= 2  # no lock, and not kept


def test_a_cache_folder_that_cannot_be_written_to_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(jit._Places, "_locator_classes", [numba_place(), jit._Temporary])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    jit._temporary_folder.cache_clear()
    assert jit.kernel(_next)(3) == 4
    assert any(said.startswith("NUMBA_CACHE_DIR: nothing can be") for said in warnings(caplog))
    jit._temporary_folder.cache_clear()


def numba_place() -> Any:
    from numba.core.caching import UserProvidedCacheLocator

    return UserProvidedCacheLocator


#: Trains ten sequences, and then asks for the fused engine; prints the engine, and what was said.
WITHOUT_COMPILER = """
import logging, sys
import ntm
from tests.small import SMALL
import json
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("ntm").addHandler(handler)
open("small.yaml", "w").write(json.dumps(SMALL))
run = ntm.train("small.yaml", settings={"train.sequences": 15}, progress=False)
print(run.manifest["engine"], "|", run.manifest["engine_reason"])
ntm.evaluate(run, episodes=2)
ntm.evaluate(run, episodes=2)
print(sum("NUMBA_DISABLE_JIT" in line for line in said))
try:
    ntm.train("small.yaml", engine="fused", run="other")
except ntm.NTMError as error:
    print(error)
"""


def python(code: str, folder: Path, **variables: str) -> list[str]:
    """The lines that Python code prints under environment variables."""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.system
def test_with_the_compiler_disabled_the_reference_runs(tmp_path: Path) -> None:
    chosen, said, refused = python(WITHOUT_COMPILER, tmp_path, NUMBA_DISABLE_JIT="1")
    assert chosen.startswith("reference | ")
    assert "NUMBA_DISABLE_JIT" in chosen
    assert said == "1"
    assert refused.startswith("engine: the fused engine cannot run: Numba does not work here")
    assert not (tmp_path / "other").exists()


#: Variables of Numba's documentation that change how code is compiled, or what is said.
VARIABLES = {
    "tolerant": {
        "NUMBA_OPT": "1", "NUMBA_BOUNDSCHECK": "1", "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "", "NUMBA_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue",
        "NUMBA_DISABLE_CUDA": "1", "NUMBA_DISABLE_INTEL_SVML": "1", "NUMBA_FULL_TRACEBACKS": "1",
        "NUMBA_SHOW_HELP": "1", "NUMBA_ENABLE_PROFILING": "1",
    },
    "talkative": {
        "NUMBA_OPT": "max", "NUMBA_DEBUGINFO": "1", "NUMBA_DEVELOPER_MODE": "1",
        "NUMBA_DEBUG_CACHE": "1", "NUMBA_DISABLE_PERFORMANCE_WARNINGS": "1",
        "NUMBA_ENABLE_AVX": "0", "NUMBA_LOOP_VECTORIZE": "0", "NUMBA_SLP_VECTORIZE": "1",
        "NUMBA_EXTEND_VARIABLE_LIFETIMES": "1", "NUMBA_CAPTURED_ERRORS": "new_style",
        "NUMBA_CACHE_LOCATOR_CLASSES": "InTreeCacheLocator", "NUMBA_COLOR_SCHEME": "no_color",
    },
}  # fmt: skip

#: A product of two matrices, for which the kernels look at what the processor has.
PRODUCT = """
import numpy as np
from ntm.kernels.numba import kernel
rng = np.random.default_rng(3)
dz, v = rng.normal(size=(2, 11, 21)).astype(np.float32)
dW, db = np.zeros((19, 17), np.float32), np.zeros(19, np.float32)
kernel.gradient(dz, 1, v, 2, dW, db, (0, 19, 0))
print(np.allclose(dW, dz[:, 1:20].T @ v[:, 2:19], atol=1e-5))
"""


@pytest.mark.system
@pytest.mark.parametrize("kind", sorted(VARIABLES))
def test_kernels_run_under_the_variables_of_numba(kind: str, tmp_path: Path) -> None:
    variables = {"NUMBA_CACHE_DIR": str(tmp_path), **VARIABLES[kind]}
    assert python(PRODUCT, tmp_path, **variables)[-1] == "True"
