"""Matrix products without BLAS, where the second matrix stays in a cache: no call, and nothing is packed.

Some rows of out are kept in registers while k goes by. An element is one chain of sums in the order of k,
so its bits do not depend on the rows that it is computed with.
"""

import platform
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils

from microgradx.kernels.intrinsics import Builder, Value, call

Write = Callable[..., Sequence[Value]]
"""The body of a loop: from its counter and the values of one round to those of the next."""

i32, i64 = ir.IntType(32), ir.IntType(64)

CACHED = {64: 2**19, 32: 2**15, 16: 2**15}
"""Bytes of b, by the bytes of a vector, beyond which BLAS's own blocks are better."""

COPIED = 2**16
"""Bytes of b that each call may turn over, on the stack."""


def vector() -> int:
    """Bytes of this processor's vectors."""
    features = llvm.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


def fits(turned: str, m: int, n: int, k: int, size: int) -> bool:
    """Whether to do without BLAS, as measured against OpenBLAS on a Zen 4."""
    room = n * k * size
    if turned[1] == "T" and (m < 32 or room > COPIED):
        return False
    wide = n >= 8 or k <= 16 or turned == "TN"  # the vectors of few columns are short
    return wide and 0 < room <= CACHED[vector()]


def function(
    module: ir.Module, turned: str, number: ir.Type, size: int, m: int, n: int, k: int, adding: bool
) -> ir.Function:
    """The function of (out, a, b, start, stop), in LLVM's language; one for all products of its shapes."""
    name = f"product_{turned}_{number}_{m}_{n}_{k}_{adding:d}"
    if name in module.globals:
        return module.globals[name]
    kind = ir.FunctionType(ir.VoidType(), [number.as_pointer()] * 3 + [i64] * 2)
    made = ir.Function(module, kind, name)
    made.linkage = "linkonce_odr"
    made.attributes.add("noinline")
    made.attributes.add("optsize")  # loops are not unrolled: as fast, and sooner compiled
    Product(ir.IRBuilder(made.append_basic_block()), turned, number, size, m, n, k, adding).emit(*made.args)
    return made


def repeat(
    builder: Builder, start: Value, stop: Value, step: int, body: Write, values: Sequence[Value] = ()
) -> list[Value]:
    """values = body(i, *values) for i in range(start, stop, step)"""
    first = [start, *values]
    before, inside, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.cbranch(builder.icmp_signed("<", start, stop), inside, after)
    builder.position_at_end(inside)
    now = [builder.phi(value.type) for value in first]
    then = [builder.add(now[0], i64(step), flags=["nsw"]), *body(*now)]
    end = builder.block
    builder.cbranch(builder.icmp_signed("<", then[0], stop), inside, after)
    builder.position_at_end(after)
    last = [builder.phi(value.type) for value in first]
    for phis in zip(now, last, first, then, strict=True):
        for phi in phis[:2]:
            phi.add_incoming(phis[2], before)
            phi.add_incoming(phis[3], end)
    return last[1:]


class Product:
    """Writes one product."""

    def __init__(
        self, builder: Builder, turned: str, number: ir.Type, size: int, m: int, n: int, k: int, adding: bool
    ):
        self.builder, self.turned, self.number, self.size = builder, turned, number, size
        self.n, self.k, self.adding = n, k, adding
        self.down, self.along = (
            (k, 1) if turned[0] == "N" else (1, m)
        )  # from a[i, p] to a[i + 1, p], a[i, p + 1]
        self.lanes = vector() // size
        # Turned, the elements of a for several rows of out are neighbours: short rows share a vector
        self.shared = self.lanes // n if turned == "TN" and 4 * n <= self.lanes else 1
        registers = 16 if vector() < 64 and platform.machine() in ("x86_64", "AMD64") else 32
        self.tile = min(n, registers // 8 * self.lanes)  # columns
        sums = 8 * -(-self.tile // self.lanes)
        self.rows = min(8 if 2 * sums <= registers else 4, max(1, m // self.shared))

    def emit(self, out: Value, a: Value, b: Value, start: Value, stop: Value) -> None:
        """Rows of out, several at a time, then the rest one by one."""
        builder = self.builder
        if self.turned[1] == "T":
            b = self.transposed(b)
        for rows, shared in ((self.rows, self.shared), (1, 1)):
            step = rows * shared
            end = builder.sub(stop, builder.srem(builder.sub(stop, start), i64(step)))

            def body(i: Value, rows: int = rows, shared: int = shared) -> Sequence[Value]:
                to, left = self.at(out, i, self.n), self.at(a, i, self.down)
                tiles, rest = divmod(self.n, self.tile)

                def tile(t: Value) -> Sequence[Value]:
                    self.block(self.at(to, t), left, self.at(b, t), rows, self.tile, shared)
                    return ()

                repeat(builder, i64(0), i64(tiles * self.tile), self.tile, tile)
                if rest:
                    begin = i64(self.n - rest)
                    self.block(self.at(to, begin), left, self.at(b, begin), rows, rest, shared)
                return ()

            repeat(builder, start, end, step, body)
            start = end
        builder.ret_void()

    def block(self, to: Value, left: Value, right: Value, rows: int, width: int, shared: int) -> None:
        """A block of out: each row `left` of a times the rows `right` of b, added up in registers."""
        builder = self.builder
        columns = [(j, min(self.lanes, width - j)) for j in range(0, width, self.lanes)]
        places = [(r, j, lanes * shared) for r in range(rows) for j, lanes in columns]

        def target(r: int, j: int) -> Value:
            return self.at(to, i64(r * shared * self.n + j))

        def body(p: Value, *sums: Value) -> Sequence[Value]:
            here, there = self.at(left, p, self.along), self.at(right, p, self.n)
            xs = [self.load(self.at(here, i64(r * shared * self.down)), shared) for r in range(rows)]
            ys = {j: self.load(self.at(there, i64(j)), lanes) for j, lanes in columns}
            if shared > 1:
                ys = {j: self.pick(y, [*range(y.type.count)] * shared) for j, y in ys.items()}
            return [self.fma(xs[r], ys[j], one) for (r, j, _), one in zip(places, sums, strict=True)]

        sums = [self.load(target(r, j), lanes) if self.adding else self.zero(lanes) for r, j, lanes in places]
        sums = repeat(builder, i64(0), i64(self.k), 1, body, sums)
        for (r, j, _), value in zip(places, sums, strict=True):
            self.store(value, target(r, j))

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """x * y + z, rounded once where the processor can; x has an element for each so many of y."""
        kind = z.type
        x = self.pick(x, [lane * x.type.count // kind.count for lane in range(kind.count)])
        return call(self.builder, f"llvm.fmuladd.v{kind.count}f{8 * self.size}", kind, [x, y, z])

    def zero(self, lanes: int) -> Value:
        """A vector of zeros."""
        return ir.Constant(ir.VectorType(self.number, lanes), None)

    def transposed(self, b: Value) -> Value:
        """(n, k) -> (k, n), four rows at a time."""
        builder = self.builder
        copy = cgutils.alloca_once(builder, self.number, size=self.n * self.k)
        start = 0
        for rows, stop in ((4, self.n - self.n % 4), (1, self.n)):

            def body(j: Value, rows: int = rows) -> Sequence[Value]:
                def column(p: Value) -> Sequence[Value]:
                    value = ir.Constant(ir.VectorType(self.number, rows), ir.Undefined)
                    for r in range(rows):
                        x = builder.load(self.at(self.at(self.at(b, j, self.k), i64(r * self.k)), p))
                        value = builder.insert_element(value, x, i32(r))
                    self.store(value, self.at(self.at(copy, p, self.n), j))
                    return ()

                repeat(builder, i64(0), i64(self.k), 1, column)
                return ()

            repeat(builder, i64(start), i64(stop), rows, body)
            start = stop
        return copy

    def at(self, start: Value, i: Value, step: int = 1) -> Value:
        """The address of the element i * step."""
        return self.builder.gep(start, [self.builder.mul(i, i64(step), flags=["nsw"]) if step != 1 else i])

    def load(self, place: Value, lanes: int) -> Value:
        """A vector, which begins anywhere."""
        kind = ir.VectorType(self.number, lanes)
        return self.builder.load(self.builder.bitcast(place, kind.as_pointer()), align=self.size)

    def store(self, value: Value, place: Value) -> None:
        """Store a vector anywhere."""
        self.builder.store(value, self.builder.bitcast(place, value.type.as_pointer()), align=self.size)

    def pick(self, value: Value, lanes: list[int]) -> Value:
        """The vector of these elements of another."""
        mask = ir.Constant(ir.VectorType(i32, len(lanes)), lanes)
        return self.builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)
