"""The words that compiled steps are written in: blocks of memory, matrix products, tickets.

Imported only by emitted files, when they are compiled. A `Block` is a pointer whose type knows dtype and
shape, so that LLVM sees constant strides and makes vectors of the loops; nothing is checked.
"""

import operator
import platform
from collections.abc import Callable, Sequence

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.datamodel import DataModelManager, models
from numba.core.errors import TypingError
from numba.core.typing import Signature
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, lower_cast, register_jitable, register_model
from numpy import int64

from microgradx.kernels import small_matmul
from microgradx.kernels.intrinsics import Builder, Context, Intrinsic, Kind, Value, call, intrinsic, lowered
from microgradx.kernels.numba_target import alone

i8, i32, i64, nothing = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.VoidType()
omitted = types.Omitted(None)


class Block(types.Type):
    """A type of Numba's: `shape` elements of `dtype` in C order, somewhere in memory.

    Blocks of two regions share no memory, which LLVM then need not check before it makes vectors of a loop.
    """

    def __init__(self, dtype: types.Type, shape: tuple[int, ...], region: str = ""):
        self.dtype, self.shape, self.region = dtype, shape, region
        super().__init__(f"Block({', '.join(map(str, (dtype, shape, *[region] * bool(region))))})")

    def moved(self, region: str) -> "Block":
        """Such a block in another region."""
        return Block(self.dtype, self.shape, region)


@register_model(Block)
class BlockModel(models.PrimitiveModel):
    """A block at run time: its address."""

    def __init__(self, manager: DataModelManager, block: Block):
        super().__init__(manager, block, manager.lookup(block.dtype).get_data_type().as_pointer())


@lower_cast(Block, Block)
def given(context: BaseContext, builder: Builder, block: Block, parameter: Block, address: Value) -> Value:
    """A block where a function is given it."""
    return address


def axes_of(index: Kind) -> list[Kind]:
    """The types of the integers in block[i, j] or block[i]."""
    several = isinstance(index, types.BaseTuple)
    return list(index) if several else [index]


def indexes(block: Kind, index: Kind) -> bool:
    """Whether the first is a block and the second has one integer for each of its axes."""
    axes = axes_of(index)
    whole = all(isinstance(types.unliteral(axis), types.Integer) for axis in axes)
    return isinstance(block, Block) and whole and len(axes) == len(block.shape)


@infer_global(operator.getitem)
class Get(AbstractTemplate):
    """block[i, j]"""

    def generic(self, args: tuple[Kind, ...], kws: dict[str, Kind]) -> Signature | None:
        """An element of the block's dtype."""
        block, index = args
        return signature(block.dtype, block, index) if indexes(block, index) else None


@infer_global(operator.setitem)
class Set(AbstractTemplate):
    """block[i, j] = value"""

    def generic(self, args: tuple[Kind, ...], kws: dict[str, Kind]) -> Signature | None:
        """The value is cast to the block's dtype."""
        block, index, _ = args
        return signature(types.none, block, index, block.dtype) if indexes(block, index) else None


def place(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[Value]) -> Value:
    """The address of an element: overflow is ruled out (nsw), which vectors of consecutive ones need."""
    (block, index), (pointer, value) = sig.args[:2], args[:2]
    values = cgutils.unpack_tuple(builder, value) if isinstance(index, types.BaseTuple) else [value]
    at = i64(0)
    for size, axis, i in zip(block.shape, axes_of(index), values, strict=True):
        row = builder.mul(at, i64(size), flags=["nsw"])
        at = builder.add(row, context.cast(builder, i, axis, types.int64), flags=["nsw"])
    return builder.gep(pointer, [at])


@lower_builtin(operator.getitem, Block, types.Any)
def get(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[Value]) -> Value:
    """Load an element; a boolean is whatever is not 0."""
    element = mark(builder, builder.load(place(context, builder, sig, args)), sig.args[0])
    if sig.return_type == types.boolean:  # Numba's own unpacking branches, which stands in the way of vectors
        return builder.icmp_unsigned("!=", element, element.type(0))
    return element


@lower_builtin(operator.setitem, Block, types.Any, types.Any)
def put(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[Value]) -> None:
    """Store an element."""
    value = context.data_model_manager[sig.args[2]].as_data(builder, args[2])
    mark(builder, builder.store(value, place(context, builder, sig, args)), sig.args[0])


def mark(builder: Builder, access: ir.Instruction, block: Block) -> ir.Instruction:
    """Say which region a load or a store is in, as if regions were types that never lie in the same place.

    Not of a parameter, which is another block with every call: LLVM knows those that are alone by themselves.
    """
    if block.region and not alone(block):
        add = builder.module.add_metadata
        kind = add([block.region, add(["microgradx"]), i64(0)])
        access.set_metadata("tbaa", add([kind, kind, i64(0)]))
    return access


def literal(*sizes: Kind) -> bool:
    """Whether integers are written out in the source."""
    return all(isinstance(size, types.IntegerLiteral) for size in sizes)


@intrinsic(prefer_literal=True)
def block(typing: Context, memory: Kind, offset: Kind, shape: Kind, dtype: Kind = None) -> Intrinsic | None:
    """The block at an offset from a pointer or a block: in elements, or in bytes where a dtype is given.

    Bytes must be a multiple of the dtype's size; the shape is written out in the source. In bytes, blocks at
    other offsets must not overlap: each offset is a region.
    """
    if not literal(*shape):
        return None
    given = isinstance(dtype, types.NumberClass)
    region = f"{offset.literal_value} bytes" if given and literal(offset) else ""
    region = region or getattr(memory, "region", "")
    kind = Block(dtype.dtype if given else memory.dtype, tuple(size.literal_value for size in shape), region)

    def code(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[Value]) -> Value:
        start = builder.bitcast(args[0], i8.as_pointer()) if given else args[0]
        at = builder.gep(start, [context.cast(builder, args[1], sig.args[1], types.int64)])
        return builder.bitcast(at, context.get_value_type(kind))

    return kind(memory, offset, shape, dtype or omitted), code


@intrinsic(prefer_literal=True)
def block_at(typing: Context, table: Kind, entry: Kind, shape: Kind, dtype: Kind) -> Intrinsic | None:
    """The block at an address that stands in a table of addresses; each entry is a region."""
    if not literal(*shape, entry):
        return None
    kind = Block(dtype.dtype, tuple(size.literal_value for size in shape), f"entry {entry.literal_value}")

    def code(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[Value]) -> Value:
        place = builder.gep(args[0], [context.cast(builder, args[1], sig.args[1], types.int64)])
        return builder.inttoptr(builder.load(place), context.get_value_type(kind))

    return kind(table, entry, shape, dtype), code


@intrinsic
def flat(typing: Context, memory: Block) -> Intrinsic:
    """The same memory as elements in a row, of no certain number: for functions that take any block."""
    return lowered(Block(memory.dtype, (1,), memory.region)(memory), lambda builder, address: address)


@intrinsic
def plus(typing: Context, total: Kind, x: Kind) -> Intrinsic:
    """total + x in a sum whose order does not matter: it may be added up in vectors."""
    flags = ["reassoc", "nsz", "contract"]
    return lowered(total(total, total), lambda builder, a, b: builder.fadd(a, b, flags=flags))


# Matrix products: rows start to stop of out, which they are added to where the last argument is True


def product(turned: str, out: Block, a: Block, b: Block, start: Kind, stop: Kind, adding: Kind) -> Intrinsic:
    """A product in place, or BLAS's gemm; it knows columns only, so it is asked for out.T = b.T @ a.T."""
    m, k = a.shape if turned[0] == "N" else a.shape[::-1]
    inner, n = b.shape if turned[1] == "N" else b.shape[::-1]
    if out.shape != (m, n) or inner != k or not a.dtype == b.dtype == out.dtype:
        raise TypingError(f"a matrix product {turned} cannot make {out} of {a} and {b}")
    keep = getattr(adding, "literal_value", False)
    name, number = {types.float32: ("s", ir.FloatType()), types.float64: ("d", ir.DoubleType())}[out.dtype]

    def code(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[Value]) -> Value:
        def slot(value: Value) -> Value:
            return cgutils.alloca_once_value(builder, value)

        def size(n: int | Value) -> Value:  # 64 bits, of which a BLAS of 32-bit integers reads the lower half
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
        call(builder, f"microgradx_{name}gemm", nothing, [*values, slot(number(keep)), to, size(max(1, n))])
        return context.get_dummy_value()

    return types.void(out, a, b, start, stop, adding or omitted), code


def multiplication(name: str, turned: str, shapes: str) -> Callable[..., None]:
    """The function of a matrix product."""

    def typed(
        typing: Context, out: Block, a: Block, b: Block, start: Kind, stop: Kind,
        adding: Kind = None,
    ) -> Intrinsic:  # fmt: skip
        return product(turned, out, a, b, start, stop, adding)

    typed.__name__ = typed.__qualname__ = name
    typed.__doc__ = shapes
    return intrinsic(prefer_literal=True)(typed)


matmul = multiplication("matmul", "NN", "(m, k) @ (k, n) -> (m, n)")
matmul_nt = multiplication("matmul_nt", "NT", "(m, k) @ (n, k).T -> (m, n)")
matmul_tn = multiplication("matmul_tn", "TN", "(k, m).T @ (k, n) -> (m, n)")


# Tickets: any number of threads take the pieces of a step in turn, and wait for those before. A gate is 16
# integers of one call: [0] the next ticket, [1] where the bell of all calls is, [2] what that showed when
# this one began; [8] the pieces that are finished, in another cache line

AWAKE = 1 << 12
"""How many short rests a helper waits for the next call before it sleeps: about 0.4 ms of a 2024 processor.

To wake a thread takes 20 to 100 us, and Python takes 60 to 200 us between two calls.
"""


def count(builder: Builder, number: Value) -> Value:
    """Add one to a number that all threads share; what it was before."""
    return builder.atomic_rmw("add", number, i64(1), "acq_rel")


def seen(builder: Builder, number: Value) -> Value:
    """Such a number now; what was written before it was counted is seen from here on."""
    return builder.load_atomic(number, "acquire", 8)


def behind(builder: Builder, gate: Value) -> Value:
    """The number of pieces that are finished."""
    return builder.gep(gate, [i64(8)])


def bell(builder: Builder, gate: Value) -> Value:
    """The number that every call adds one to."""
    return builder.inttoptr(builder.load(builder.gep(gate, [i64(1)])), i64.as_pointer())


@intrinsic
def claim(typing: Context, gate: Kind) -> Intrinsic:
    """The next ticket: 0, 1, 2, ..."""
    return lowered(types.int64(gate), count)


@intrinsic
def done(typing: Context, gate: Kind) -> Intrinsic:
    """Count a piece as finished."""
    return lowered(types.int64(gate), lambda builder, gate: count(builder, behind(builder, gate)))


@intrinsic
def finished(typing: Context, gate: Kind) -> Intrinsic:
    """How many pieces are finished; what they wrote is seen from here on."""
    return lowered(types.int64(gate), lambda builder, gate: seen(builder, behind(builder, gate)))


def pause_or_yield(builder: Builder, rests: Value) -> None:
    """Tell the processor that this thread waits; every 256th time, let another one run on its core."""
    with builder.if_else(builder.icmp_unsigned("!=", builder.trunc(rests, i8), i8(0))) as (short, long):
        with short:
            if platform.machine() in ("x86_64", "AMD64"):
                call(builder, "llvm.x86.sse2.pause", nothing, [])
        with long:
            call(builder, "sched_yield", i32, [])


@intrinsic
def rest(typing: Context, rests: Kind) -> Intrinsic:
    """A short rest, which is one of so many."""
    return lowered(types.void(types.int64), pause_or_yield)


@register_jitable
def wait(gate: Kind, count: int) -> None:
    """Spin until `count` pieces are finished; where threads outnumber cores, others get their turn."""
    rests = 0
    while finished(gate) < count:
        rests += 1
        rest(rests)


@intrinsic
def ring(typing: Context, gate: Kind) -> Intrinsic:
    """Let helpers that are awake know of a call; how often it has been done before."""
    return lowered(types.int64(gate), lambda builder, gate: count(builder, bell(builder, gate)))


@intrinsic
def rung(typing: Context, gate: Kind) -> Intrinsic:
    """How many calls there have been."""
    return lowered(types.int64(gate), lambda builder, gate: seen(builder, bell(builder, gate)))


@register_jitable
def join(gate: Kind, helping: int) -> int:
    """The first ticket of a thread: of the caller, who rings the bell, or of a helper."""
    if not helping:
        gate[2] = ring(gate) + 1
    return claim(gate)


@register_jitable
def leave(gate: Kind, count: int, helping: int) -> None:
    """Wait until all pieces are finished; a helper stays awake for a while, in case of another call."""
    wait(gate, count)
    if helping:
        rests = 0
        while rests < AWAKE and rung(gate) == gate[2]:
            rests += 1
            rest(rests)


@register_jitable
def ready(gate: Kind, count: int, status: Kind) -> Kind:
    """Wait for `count` pieces: whether all is well, so that there is something to do."""
    wait(gate, count)
    return status[0] == 0


# Gathering rows


@register_jitable
def fail(status: Kind) -> None:
    """Note that an index is out of range; the caller of the compiled step raises the error."""
    status[0] = 1


@register_jitable
def within(index: Kind, size: int, status: Kind) -> Kind:
    """The index itself; 0 and a failure if it is out of range."""
    i = int64(index)
    if 0 <= i < size:
        return i
    fail(status)
    return 0


@register_jitable
def inside(index: Kind, size: int, status: Kind) -> Kind:
    """The index, counted from the end if it is negative; 0 and a failure if it is out of range."""
    i = int64(index)
    return within(i + size if i < 0 else i, size, status)
