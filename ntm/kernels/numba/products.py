"""The two matrix products of the kernels, for operands of a few rows.

    add_product    C[M, N] += A[M, K] B[K, N]      (GEMM, in BLAS)
    add_dots       C[M, N] += A[M, K] B[N, K]^T

An operand is a :class:`Matrix`, an address and two strides, counted in elements: what BLAS calls
lda, ldb or ldc, from row to row, and ``inc``, from column to column. It may be part of a larger
array. Where inc is free, in A of the first product, ``Matrix(address, 1, lda)`` is a transpose.

Written for LLVM directly: a tile of the result stays in vector registers while the sum runs,
which Numba's own loops do not achieve (they load and store the result at every term). LLVM cuts
the vectors to what the processor has, but a tile that does not fit into its registers goes to the
stack and back at every term: so there are two shapes of tiles. The last, partial vector of a row
is masked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ntm.kernels.numba.jit import device_function, native

_I1, _I32, _INTP = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_FUSE = ("contract",)


class _Shape(NamedTuple):
    """Of the tiles, the largest first."""

    bytes: int  # of a vector
    #: Of a product: rows, and vectors beside each other where there are several rows or one.
    rows: Sequence[int]
    vectors: Sequence[int]
    single: Sequence[int]
    sums: int  # so many run beside each other at least: a term waits for the one before
    #: Of dots: rows of A, for four of B.
    dots: Sequence[int]


_WIDE = _Shape(64, (4, 2, 1), (4, 1), (4, 1), 4, (4, 2, 1))  # AVX-512 has 32 registers of 64
_NARROW = _Shape(32, (4, 2, 1), (2, 1), (4, 2, 1), 8, (3, 2, 1))  # AVX2 has 16 of 32


def _shape(context: Any) -> _Shape:
    """For the processor that Numba compiles for."""
    _, _, features = context.codegen().magic_tuple()
    return _WIDE if "+avx512f" in features.split(",") else _NARROW


class Matrix(NamedTuple):
    """An operand of a product: element (i, j) is ld i + inc j elements behind the address."""

    address: Any  # see :func:`at`
    ld: Any
    inc: Any


@native
def at(typingctx: Any, array: Any, offset: Any) -> Any:
    """The address of the element that lies ``offset`` elements into a C-contiguous array."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        size = context.get_constant(types.intp, 8 if sig.args[0].dtype == types.float64 else 4)
        address = builder.add(builder.ptrtoint(data, _INTP), builder.mul(args[1], size))
        return builder.inttoptr(address, data.type)

    return types.CPointer(array.dtype)(array, types.intp), codegen


class _Emitter:
    """Vector loads, stores and loops over one float type."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.b = builder
        self.float: Any = ir.DoubleType() if dtype == types.float64 else ir.FloatType()
        self.bytes = 8 if dtype == types.float64 else 4
        self.shape = _shape(context)
        self.lanes = self.shape.bytes // self.bytes  # at least the four that ``totals`` needs
        self.vector = ir.VectorType(self.float, self.lanes)
        self.mask = ir.VectorType(_I1, self.lanes)
        self.mangled = f"v{self.lanes}f{8 * self.bytes}"
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def integer(self, n: int) -> Any:
        return ir.Constant(_INTP, n)

    def matrix(self, context: Any, kind: Any, value: Any) -> tuple[Any, Any, Any]:
        """Address, ld and inc of a :class:`Matrix`, as integers."""
        address, *strides = cgutils.unpack_tuple(self.b, value, 3)
        ld, inc = (
            context.cast(self.b, stride, of, types.intp)
            for stride, of in zip(strides, kind.types[1:], strict=True)
        )
        return self.b.ptrtoint(address, _INTP), ld, inc

    def address(self, base: Any, *terms: tuple[Any, Any]) -> Any:
        """Base + the sum of index * stride, as a pointer."""
        offset = self.integer(0)
        for index, stride in terms:
            offset = self.b.add(offset, self.b.mul(index, stride))
        address = self.b.add(base, self.b.mul(offset, self.integer(self.bytes)))
        return self.b.inttoptr(address, ir.PointerType(self.float))

    def first(self, count: Any) -> Any:
        """The mask of the first ``count`` lanes."""
        lanes = ir.Constant(ir.VectorType(_I32, self.lanes), list(range(self.lanes)))
        return self.b.icmp_signed("<", lanes, self.splat(self.b.trunc(count, _I32), _I32))

    def splat(self, value: Any, scalar: Any = None) -> Any:
        vector = ir.VectorType(scalar or self.float, self.lanes)
        one = self.b.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0))
        lanes = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        return self.b.shuffle_vector(one, ir.Constant(vector, ir.Undefined), lanes)

    def load(self, pointer: Any, mask: Any) -> Any:
        if mask is None:
            vector = self.b.bitcast(pointer, ir.PointerType(self.vector))
            return self.b.load(vector, align=self.bytes)
        kind = ir.FunctionType(
            self.vector, [ir.PointerType(self.float), _I32, self.mask, self.vector]
        )
        function = cgutils.get_or_insert_function(
            self.b.module, kind, f"llvm.masked.load.{self.mangled}.p0"
        )
        align = ir.Constant(_I32, self.bytes)
        return self.b.call(function, [pointer, align, mask, self.zero])

    def store(self, value: Any, pointer: Any, mask: Any) -> None:
        if mask is None:
            vector = self.b.bitcast(pointer, ir.PointerType(self.vector))
            self.b.store(value, vector, align=self.bytes)
            return
        kind = ir.FunctionType(
            ir.VoidType(), [self.vector, ir.PointerType(self.float), _I32, self.mask]
        )
        function = cgutils.get_or_insert_function(
            self.b.module, kind, f"llvm.masked.store.{self.mangled}.p0"
        )
        self.b.call(function, [value, pointer, ir.Constant(_I32, self.bytes), mask])

    def pick(self, a: Any, b: Any, lanes: Sequence[int]) -> Any:
        """The chosen lanes of two vectors side by side."""
        chosen = ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes))
        return self.b.shuffle_vector(a, b, chosen)

    def fold(self, vector: Any) -> Any:
        """Halves added to each other until four lanes are left."""
        lanes = self.lanes
        while lanes > 4:
            lanes //= 2
            low = self.pick(vector, vector, range(lanes))
            vector = self.b.fadd(low, self.pick(vector, vector, range(lanes, 2 * lanes)))
        return vector

    def totals(self, vectors: Sequence[Any]) -> Any:
        """The sums of the lanes of four vectors, as one vector of four."""
        a, b, c, d = (self.fold(vector) for vector in vectors)
        even, odd = (0, 4, 2, 6), (1, 5, 3, 7)
        ab = self.b.fadd(self.pick(a, b, even), self.pick(a, b, odd))
        cd = self.b.fadd(self.pick(c, d, even), self.pick(c, d, odd))
        return self.b.fadd(self.pick(ab, cd, (0, 1, 4, 5)), self.pick(ab, cd, (2, 3, 6, 7)))

    def accumulate(self, total: Any, a: Any, b: Any) -> None:
        """Add a b to ``total``, a local variable."""
        product = self.b.fmul(a, b, flags=_FUSE)
        self.b.store(self.b.fadd(self.b.load(total), product, flags=_FUSE), total)

    def variables(self, count: int) -> list[Any]:
        variables = [cgutils.alloca_once(self.b, self.vector) for _ in range(count)]
        for variable in variables:
            self.b.store(self.zero, variable)
        return variables

    def blocks(self, start: Any, stop: Any, size: int) -> Any:
        """A loop over start, start + size, ... while a whole block fits, and where it ends."""
        whole = self.b.sub(
            self.b.sub(stop, start), self.b.srem(self.b.sub(stop, start), self.integer(size))
        )
        end = self.b.add(start, whole)
        return cgutils.for_range_slice(self.b, start, end, self.integer(size), _INTP), end


def _called(name: str, emit: Callable[[_Emitter, Sequence[Any]], None]) -> Callable[..., Any]:
    """Code that calls what ``emit`` writes: one function for all calls of a kernel.

    Compiled once instead of wherever it is used, and again wherever that is. Its instructions may
    be fused but not reordered, so that every copy rounds alike: see ``jit.device_function``.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        dtype = sig.args[0].types[0].dtype
        e = _Emitter(context, builder, dtype)
        operands = [
            part
            for kind, value in zip(sig.args[:3], args[:3], strict=True)
            for part in e.matrix(context, kind, value)
        ]
        operands += args[3:]
        kind = ir.FunctionType(ir.VoidType(), [_INTP] * len(operands))
        function = cgutils.get_or_insert_function(builder.module, kind, f"{name}_{e.mangled}")
        if function.is_declaration:
            function.linkage = "linkonce_odr"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block("entry"))
            emit(_Emitter(context, inside, dtype), function.args)
            inside.ret_void()
        builder.call(function, operands)
        return context.get_dummy_value()

    return codegen


@native
def _add_product(typingctx: Any, C: Any, A: Any, B: Any, M: Any, N: Any, K: Any) -> Any:
    def emit(e: _Emitter, operands: Sequence[Any]) -> None:
        builder, one = e.b, e.integer(1)
        c, ldc, _, a, lda, inca, b, ldb, _, M, N, K = operands

        def tile(rows: int, vectors: int, unroll: int, m: Any, n: Any, mask: Any) -> None:
            sums = e.variables(rows * vectors * unroll)

            def terms(k: Any, u: int) -> None:
                bs = [
                    e.load(e.address(b, (k, ldb), (n, one), (e.integer(v * e.lanes), one)), mask)
                    for v in range(vectors)
                ]
                for r in range(rows):
                    row = builder.add(m, e.integer(r))
                    scale = e.splat(builder.load(e.address(a, (row, lda), (k, inca))))
                    for v in range(vectors):
                        e.accumulate(sums[(u * rows + r) * vectors + v], scale, bs[v])

            loop, end = e.blocks(e.integer(0), K, unroll)
            with loop as (k, _):
                for u in range(unroll):
                    terms(builder.add(k, e.integer(u)), u)
            if unroll > 1:
                with cgutils.for_range_slice(builder, end, K, one, _INTP) as (k, _):
                    terms(k, 0)
            for r in range(rows):
                for v in range(vectors):
                    total = None
                    for u in range(unroll):
                        value = builder.load(sums[(u * rows + r) * vectors + v])
                        total = value if total is None else builder.fadd(total, value)
                    row = builder.add(m, e.integer(r))
                    target = e.address(c, (row, ldc), (n, one), (e.integer(v * e.lanes), one))
                    e.store(builder.fadd(e.load(target, mask), total), target, mask)

        def column(heights: Sequence[int], vectors: int, n: Any, mask: Any) -> None:
            start = e.integer(0)
            for rows in heights:
                loop, start_next = e.blocks(start, M, rows)
                with loop as (m, _):
                    unroll = max(1, e.shape.sums // (rows * vectors))
                    tile(rows, vectors, unroll, m, n, mask)
                start = start_next

        def columns(heights: Sequence[int], widths: Sequence[int]) -> None:
            start = e.integer(0)
            for vectors in widths:
                loop, end = e.blocks(start, N, vectors * e.lanes)
                with loop as (n, _):
                    column(heights, vectors, n, None)
                start = end
            rest = builder.sub(N, start)
            with builder.if_then(builder.icmp_signed(">", rest, e.integer(0))):
                column(heights, 1, start, e.first(rest))

        with builder.if_else(builder.icmp_signed("==", M, one)) as (single, several):
            with single:
                columns((1,), e.shape.single)
            with several:
                columns(e.shape.rows, e.shape.vectors)

    return types.void(C, A, B, *[types.intp] * 3), _called("ntm_add_product", emit)


@native
def _add_dots(typingctx: Any, C: Any, A: Any, B: Any, M: Any, N: Any, K: Any) -> Any:
    def emit(e: _Emitter, operands: Sequence[Any]) -> None:
        builder, one = e.b, e.integer(1)
        c, ldc, _, a, lda, _, b, ldb, _, M, N, K = operands

        def tile(rows: int, columns: int, m: Any, n: Any) -> None:
            sums = e.variables(rows * columns)

            def terms(k: Any, mask: Any) -> None:
                rows_a = [
                    e.load(e.address(a, (builder.add(m, e.integer(r)), lda), (k, one)), mask)
                    for r in range(rows)
                ]
                for j in range(columns):
                    row = e.address(b, (builder.add(n, e.integer(j)), ldb), (k, one))
                    row_b = e.load(row, mask)
                    for r in range(rows):
                        e.accumulate(sums[r * columns + j], rows_a[r], row_b)

            loop, end = e.blocks(e.integer(0), K, e.lanes)
            with loop as (k, _):
                terms(k, None)
            rest = builder.sub(K, end)
            with builder.if_then(builder.icmp_signed(">", rest, e.integer(0))):
                terms(end, e.first(rest))
            for r in range(rows):
                target = e.address(c, (builder.add(m, e.integer(r)), ldc), (n, one))
                found = [builder.load(sums[r * columns + j]) for j in range(columns)]
                totals = e.totals((found * 4)[:4])
                if columns == 1:
                    total = builder.extract_element(totals, ir.Constant(_I32, 0))
                    builder.store(builder.fadd(builder.load(target), total), target)
                else:
                    four = ir.PointerType(ir.VectorType(e.float, 4))
                    target = builder.bitcast(target, four)
                    old = builder.load(target, align=e.bytes)
                    builder.store(builder.fadd(old, totals), target, align=e.bytes)

        start = e.integer(0)
        for columns in (4, 1):
            loop, end = e.blocks(start, N, columns)
            with loop as (n, _):
                first = e.integer(0)
                for rows in e.shape.dots:
                    inner, first_next = e.blocks(first, M, rows)
                    with inner as (m, _):
                        tile(rows, columns, m, n)
                    first = first_next
            start = end

    return types.void(C, A, B, *[types.intp] * 3), _called("ntm_add_dots", emit)


@device_function
def add_product(C: Any, A: Any, B: Any, M: Any, N: Any, K: Any) -> None:
    """C[M, N] += A[M, K] B[K, N]. C and B have inc = 1; A may be a transpose."""
    _add_product(C, A, B, M, N, K)


@device_function
def add_dots(C: Any, A: Any, B: Any, M: Any, N: Any, K: Any) -> None:
    """C[M, N] += A[M, K] B[N, K]^T. All three have inc = 1."""
    _add_dots(C, A, B, M, N, K)
