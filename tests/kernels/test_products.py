"""The kernels' matrix products, in tiles for every processor, against NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from ntm.kernels.numba import products  # noqa: E402
from ntm.kernels.numba.products import Matrix, _add_dots, _add_product, at  # noqa: E402

#: M, K, N: of rows, terms and columns whole tiles, several and one, and rests.
SIZES = [
    (1, 7, 83), (2, 1, 5), (3, 10, 16), (4, 9, 33), (5, 17, 70), (7, 34, 8), (8, 65, 41),
    (11, 3, 100), (1, 30, 1), (6, 2, 15), (9, 18, 64), (1, 12, 47), (2, 14, 47),
]  # fmt: skip


@pytest.fixture(params=[products._WIDE, products._NARROW], ids=["wide", "narrow"], scope="module")
def compiled(request: pytest.FixtureRequest) -> tuple[Callable[..., None], Callable[..., None]]:
    """Both products for one shape of tiles, whatever processor this is.

    From the intrinsics: what is built of them is compiled only once in a process.
    """

    def product(c: Any, a: Any, lda: Any, inca: Any, b: Any, M: Any, N: Any, K: Any) -> None:
        C, B = Matrix(at(c, 0), c.shape[1], 1), Matrix(at(b, 0), b.shape[1], 1)
        _add_product(C, Matrix(at(a, 0), lda, inca), B, M, N, K)

    def dots(c: Any, a: Any, b: Any, M: Any, N: Any, K: Any) -> None:
        C, A = Matrix(at(c, 0), c.shape[1], 1), Matrix(at(a, 0), a.shape[1], 1)
        _add_dots(C, A, Matrix(at(b, 0), b.shape[1], 1), M, N, K)

    both: tuple[Any, Any] = numba.njit(product), numba.njit(dots)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_shape", lambda _: request.param)
        for dtype in (np.float32, np.float64):
            m = np.zeros((1, 1), dtype)
            both[0](m, m, 1, 1, m, 1, 1, 1)
            both[1](m, m, m, 1, 1, 1)
    for each in both:  # or the patch has had no effect
        code = "".join(each.inspect_llvm().values())
        assert f"<{request.param.bytes // 4} x float>" in code
    return both


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("M", "K", "N"), SIZES)
def test_products_are_numpys_and_touch_nothing_else(
    compiled: tuple[Callable[..., None], Callable[..., None]], M: int, K: int, N: int, dtype: Any
) -> None:
    product, dots = compiled
    rng = np.random.default_rng(M * K * N)

    def wider(rows: int, columns: int) -> Any:
        """Rows that are part of longer ones: distances differ from lengths."""
        return rng.standard_normal((rows + 1, columns + 3)).astype(dtype)

    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    for case in ("plain", "transposed", "dots"):
        c, b = wider(M, N), wider(N, K) if case == "dots" else wider(K, N)
        a = wider(K, M) if case == "transposed" else wider(M, K)
        expected = c.copy()
        if case == "plain":
            expected[:M, :N] += a[:M, :K] @ b[:K, :N]
            product(c, a, a.shape[1], 1, b, M, N, K)
        elif case == "transposed":
            expected[:M, :N] += a[:K, :M].T @ b[:K, :N]
            product(c, a, 1, a.shape[1], b, M, N, K)
        else:
            expected[:M, :N] += a[:M, :K] @ b[:N, :K].T
            dots(c, a, b, M, N, K)
        np.testing.assert_allclose(c, expected, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(c[M:], expected[M:])
        np.testing.assert_array_equal(c[:M, N:], expected[:M, N:])
