"""The words that compiled steps are written in: blocks of memory, matrix products, tickets.

Imported only by emitted files, when they are compiled. A `Block` is a pointer whose type knows dtype and
shape, so that LLVM sees constant strides and makes vectors of the loops; nothing is checked.
"""

import operator
import platform
from typing import Any

from llvmlite import ir
from numba import int64, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_jitable, register_model

from microgradx.kernels import small_matmul

i8, i32, i64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
omitted = types.Omitted(None)


class Block(types.Type):
    """A type of Numba's: `shape` elements of `dtype` in C order, somewhere in memory.

    Blocks of two regions share no memory, which LLVM then need not check before it makes vectors of a loop.
    """

    def __init__(self, dtype: types.Type, shape: tuple[int, ...], region: str = ""):
        self.dtype, self.shape, self.region = dtype, shape, region
        super().__init__(f"Block({', '.join(map(str, (dtype, shape, *[region] * bool(region))))})")


@register_model(Block)
class BlockModel(models.PrimitiveModel):
    """A block at run time: its address."""

    def __init__(self, manager: Any, block: Block):
        super().__init__(manager, block, manager.lookup(block.dtype).get_data_type().as_pointer())


def indexes(block: Any, index: Any) -> bool:
    """Whether the first is a block and the second has one integer for each of its axes."""
    several = isinstance(index, types.BaseTuple)
    axes = list(index) if several else [index]
    whole = all(isinstance(types.unliteral(axis), types.Integer) for axis in axes)
    return isinstance(block, Block) and whole and len(axes) == len(block.shape)


@infer_global(operator.getitem)
class Get(AbstractTemplate):
    """block[i, j]"""

    def generic(self, args: tuple, kws: dict) -> Any:
        """An element of the block's dtype."""
        block, index = args
        return signature(block.dtype, block, index) if indexes(block, index) else None


@infer_global(operator.setitem)
class Set(AbstractTemplate):
    """block[i, j] = value"""

    def generic(self, args: tuple, kws: dict) -> Any:
        """The value is cast to the block's dtype."""
        block, index, _ = args
        return signature(types.none, block, index, block.dtype) if indexes(block, index) else None


def place(context: Any, builder: Any, sig: Any, args: tuple) -> Any:
    """The address of an element: overflow is ruled out (nsw), which vectors of consecutive ones need."""
    (block, index), (pointer, value) = sig.args[:2], args[:2]
    several = isinstance(index, types.BaseTuple)
    axes = list(index) if several else [index]
    values = cgutils.unpack_tuple(builder, value) if several else [value]
    at = i64(0)
    for size, axis, i in zip(block.shape, axes, values, strict=True):
        row = builder.mul(at, i64(size), flags=["nsw"])
        at = builder.add(row, context.cast(builder, i, axis, types.int64), flags=["nsw"])
    return builder.gep(pointer, [at])


@lower_builtin(operator.getitem, Block, types.Any)
def get(context, builder, sig, args):
    """Load an element; a boolean is whatever is not 0."""
    element = mark(builder, builder.load(place(context, builder, sig, args)), sig.args[0])
    if sig.return_type == types.boolean:  # Numba's own unpacking branches, which stands in the way of vectors
        return builder.icmp_unsigned("!=", element, element.type(0))
    return element


@lower_builtin(operator.setitem, Block, types.Any, types.Any)
def put(context, builder, sig, args):
    """Store an element."""
    value = context.data_model_manager[sig.args[2]].as_data(builder, args[2])
    mark(builder, builder.store(value, place(context, builder, sig, args)), sig.args[0])


def mark(builder: Any, access: Any, block: Block) -> Any:
    """Say which region a load or a store is in, as if regions were types that never lie in the same place."""
    if block.region:
        add = builder.module.add_metadata
        kind = add([block.region, add(["microgradx"]), i64(0)])
        access.set_metadata("tbaa", add([kind, kind, i64(0)]))
    return access


@intrinsic(prefer_literal=True)
def block(typing, memory, offset, shape, dtype=None):
    """The block at an offset from a pointer or a block: in elements, or in bytes where a dtype is given.

    Bytes must be a multiple of the dtype's size; the shape is written out in the source. In bytes, blocks at
    other offsets must not overlap: each offset is a region.
    """
    if not all(isinstance(size, types.IntegerLiteral) for size in shape):
        return None
    given = isinstance(dtype, types.NumberClass)
    region = f"{offset.literal_value} bytes" if given and isinstance(offset, types.IntegerLiteral) else ""
    region = region or getattr(memory, "region", "")
    kind = Block(dtype.dtype if given else memory.dtype, tuple(size.literal_value for size in shape), region)

    def code(context, builder, sig, args):
        start = builder.bitcast(args[0], i8.as_pointer()) if given else args[0]
        at = builder.gep(start, [context.cast(builder, args[1], sig.args[1], types.int64)])
        return builder.bitcast(at, context.get_value_type(kind))

    return kind(memory, offset, shape, dtype or omitted), code


@intrinsic(prefer_literal=True)
def block_at(typing, table, entry, shape, dtype):
    """The block at an address that stands in a table of addresses; each entry is a region."""
    if not all(isinstance(size, types.IntegerLiteral) for size in (*shape, entry)):
        return None
    kind = Block(dtype.dtype, tuple(size.literal_value for size in shape), f"entry {entry.literal_value}")

    def code(context, builder, sig, args):
        address = builder.load(
            builder.gep(args[0], [context.cast(builder, args[1], sig.args[1], types.int64)])
        )
        return builder.inttoptr(address, context.get_value_type(kind))

    return kind(table, entry, shape, dtype), code


@intrinsic
def flat(typing, memory):
    """The same memory as elements in a row, of no certain number: for functions that take any block."""
    kind = Block(memory.dtype, (1,))
    return kind(memory), lambda context, builder, sig, args: args[0]


@intrinsic
def plus(typing, total, x):
    """total + x in a sum whose order does not matter: it may be added up in vectors."""

    def code(context, builder, sig, args):
        a, b = (context.cast(builder, v, t, total) for v, t in zip(args, sig.args, strict=True))
        return builder.fadd(a, b, flags=["reassoc", "nsz", "contract"])

    return total(total, x), code


# Matrix products: rows start to stop of out, which they are added to where the last argument is True


@intrinsic(prefer_literal=True)
def matmul(typing, out, a, b, start, stop, adding=None):
    """(m, k) @ (k, n) -> (m, n)"""
    return product("NN", out, a, b, start, stop, adding)


@intrinsic(prefer_literal=True)
def matmul_nt(typing, out, a, b, start, stop, adding=None):
    """(m, k) @ (n, k).T -> (m, n)"""
    return product("NT", out, a, b, start, stop, adding)


@intrinsic(prefer_literal=True)
def matmul_tn(typing, out, a, b, start, stop, adding=None):
    """(k, m).T @ (k, n) -> (m, n)"""
    return product("TN", out, a, b, start, stop, adding)


def product(turned: str, out: Block, a: Block, b: Block, start: Any, stop: Any, adding: Any) -> Any:
    """A product in place, or BLAS's gemm; it knows columns only, so it is asked for out.T = b.T @ a.T."""
    m, k = a.shape if turned[0] == "N" else a.shape[::-1]
    inner, n = b.shape if turned[1] == "N" else b.shape[::-1]
    if out.shape != (m, n) or inner != k or not a.dtype == b.dtype == out.dtype:
        raise TypingError(f"a matrix product {turned} cannot make {out} of {a} and {b}")
    keep = getattr(adding, "literal_value", False)
    name, number = {types.float32: ("s", ir.FloatType()), types.float64: ("d", ir.DoubleType())}[out.dtype]

    def code(context, builder, sig, args):
        def slot(value):
            return cgutils.alloca_once_value(builder, value)

        def size(n):  # 64 bits, of which a BLAS of 32-bit integers reads the lower half
            return slot(i64(n) if isinstance(n, int) else n)

        first, last = (context.cast(builder, args[i], sig.args[i], types.int64) for i in (3, 4))
        width = context.get_abi_sizeof(number)
        if small_matmul.fits(turned, m, n, k, width):
            f = small_matmul.function(builder.module, turned, number, width, m, n, k, keep)
            builder.call(f, [*args[:3], first, last])
            return context.get_dummy_value()
        rows = builder.sub(last, first)
        to = builder.gep(args[0], [builder.mul(first, i64(n))])
        if k == 0:
            if not keep:
                cgutils.memset(builder, to, builder.mul(rows, i64(n * width)), 0)
            return context.get_dummy_value()
        left = builder.gep(args[1], [builder.mul(first, i64(k if turned[0] == "N" else 1))])
        values = [slot(i8(ord(turned[1]))), slot(i8(ord(turned[0]))), size(n), size(rows), size(k)]
        values += [slot(number(1)), args[2], size(max(1, b.shape[1])), left, size(max(1, a.shape[1]))]
        values += [slot(number(keep)), to, size(max(1, n))]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, f"microgradx_{name}gemm"), values)
        return context.get_dummy_value()

    return types.void(out, a, b, start, stop, adding or omitted), code


# Tickets: any number of threads take the pieces of a step in turn, and wait for those before


@intrinsic
def claim(typing, gate):
    """The next ticket: 0, 1, 2, ..."""

    def code(context, builder, sig, args):
        return builder.atomic_rmw("add", args[0], i64(1), "acq_rel")

    return types.int64(gate), code


@intrinsic
def done(typing, gate):
    """Count a piece as finished, in another cache line than the tickets."""

    def code(context, builder, sig, args):
        builder.atomic_rmw("add", builder.gep(args[0], [i64(8)]), i64(1), "acq_rel")
        return context.get_dummy_value()

    return types.void(gate), code


@intrinsic
def finished(typing, gate):
    """How many pieces are finished; what they wrote is seen from here on."""

    def code(context, builder, sig, args):
        return builder.load_atomic(builder.gep(args[0], [i64(8)]), "acquire", 8)

    return types.int64(gate), code


@intrinsic
def pause(typing):
    """Tell the processor that this thread is spinning."""

    def code(context, builder, sig, args):
        if platform.machine() in ("x86_64", "AMD64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def give_way(typing):
    """Let the operating system run another thread on this core."""

    def code(context, builder, sig, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), code


@register_jitable
def wait(gate, count):
    """Spin until `count` pieces are finished; where threads outnumber cores, others get their turn."""
    spins = 0
    while finished(gate) < count:  # type: ignore[call-arg]  # Numba passes the first argument
        spins += 1
        if spins % 256:
            pause()
        else:
            give_way()


@register_jitable
def ready(gate, count, status):
    """Wait for `count` pieces: whether all is well, so that there is something to do."""
    wait(gate, count)
    return status[0] == 0


# Gathering rows


@register_jitable
def fail(status):
    """Note that an index is out of range; the caller of the compiled step raises the error."""
    status[0] = 1


@register_jitable
def inside(index, size, status):
    """The index, counted from the end if it is negative; 0 and a failure if it is out of range."""
    i = int64(index)
    if i < 0:
        i += size
    if 0 <= i < size:
        return i
    fail(status)
    return 0


@register_jitable
def within(index, size, status):
    """The index itself; 0 and a failure if it is out of range."""
    i = int64(index)
    if 0 <= i < size:
        return i
    fail(status)
    return 0
