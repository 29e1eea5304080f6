"""One operation at a time on a device: each becomes a small file of kernels, for its shapes, when first met.

What an operation computes stands in one place, `lowerings`; this is the same path that whole steps take,
with a program of one instruction. Views cost nothing; what has no lowering runs as NumPy on the host.
"""

from collections.abc import Hashable
from functools import cache

import numpy as np
from numpy.typing import DTypeLike

from microgradx import primitives
from microgradx.codegen.ir.loops import Buffer, Place, Source, View
from microgradx.codegen.ir.ops import Host
from microgradx.codegen.ir.program import Draw, Instruction, Program, Value
from microgradx.codegen.passes import lowerings  # noqa: F401 - what operations are made of
from microgradx.codegen.passes.launches import Library, operands, problem, stages
from microgradx.codegen.passes.lower import Lowering
from microgradx.codegen.printers.cuda_file import Emitted, Target, Writer
from microgradx.cuda import Array, device
from microgradx.cuda.devices import Kernel, Launch, Pointer, Product, Shape
from microgradx.eager.mode import mode
from microgradx.kernels.keys import frozen
from microgradx.kernels.random import drawn, generator
from microgradx.kernels.strided import extent
from microgradx.primitives import Primitive, shapes

Layout = tuple[tuple[int, ...], tuple[int, ...], np.dtype]
"""Shape, strides and dtype of an array."""


class Strided(Lowering):
    """Lowers an operation on arrays that need not lie in one piece."""

    def __init__(self, program: Program, layouts: list[Layout]):
        self.layouts = layouts
        self.low: dict[Source, int] = {}  # where the elements of an argument begin, before its first
        super().__init__(program)

    def outside(self, value: Value, source: Source) -> View:
        """An argument as it lies in memory."""
        assert isinstance(source, Place)
        shape, strides, dtype = self.layouts[source.number]
        low, high = extent(shape, strides)
        self.low[source] = low
        return View(Buffer(value.name, (high - low + 1,), dtype, source), -low, strides, shape)


class Operation:
    """An operation for the layouts of its inputs and its parameters: text and, once it runs, kernels."""

    kernels: dict[str, Kernel] | None = None

    def __init__(
        self, op: Primitive | Draw, inputs: list[Array | float], params: dict[str, object],
        shape: tuple[int, ...], dtype: np.dtype, gpu: Shape, copies: bool = False, library: bool = False,
    ):  # fmt: skip
        self.name = op.name
        names = op.inputs if isinstance(op, Primitive) else []
        given = [
            Value(names[k] if k < len(names) else f"x{k}", x.shape, x.dtype) if isinstance(x, Array) else x
            for k, x in enumerate(inputs)
        ]
        arguments = [x for x in given if isinstance(x, Value)]
        out = Value("out", shape, dtype)
        program = Program(op.name, arguments, {}, [Instruction(op, tuple(given), params, (out,))])
        layouts = [(x.shape, x.strides, x.dtype) for x in inputs if isinstance(x, Array)]
        lowering = Strided(program, layouts)
        self.out, self.low = lowering.views[out], lowering.low
        if copies and self.out.buffer.source is not None:  # a view will not do
            self.out = lowering.copy(self.out)
        self.blocks = drawn_by(op, shape)
        self.hosted = any(isinstance(item, Host) for item in lowering.items)
        if self.hosted:
            return
        if self.out.buffer.source is None:
            self.out.buffer.source = Place("result")
        title = f"The operation `{op.name}` for {', '.join(map(repr, arguments)) or 'no arrays'}.\n"
        order, self.plan = stages(lowering.items, gpu, library=library)
        self.emitted: Emitted = Writer(order, self.plan, 0, gpu, title).emit()

    def __call__(self, arrays: list[Array]) -> Array:
        """Run it: the result is new, or a view of an input."""
        gpu, out = device(), self.out
        known: dict[str | Source | None, Pointer] = {
            Place("argument", k): array for k, array in enumerate(arrays)
        }
        if out.buffer.source not in known:
            known["status"] = gpu.faults
            if self.blocks:
                known["random"] = self.state()
            known[Place("result")] = Array.empty(out.buffer.shape, out.buffer.dtype)
            known[None] = Array.empty((self.plan.arena,), np.uint8)
            if self.kernels is None and self.emitted.signatures:
                self.kernels = gpu.load(self.emitted.text, self.emitted.signatures, self.name)
            for stage in self.emitted.stages:
                if isinstance(item := stage.items[0], Library):
                    places = tuple(self.pointer(key, known) for key in operands(item))
                    gpu.product(Product(problem(item), places))()
                    continue
                keys = self.emitted.parameters[stage.name]
                parameters = tuple(self.pointer(key, known) for key in keys)
                assert self.kernels is not None
                gpu.prepare(Launch(self.kernels[stage.name], stage.blocks, parameters))()
        first = self.pointer((out.buffer, out.offset), known)
        return Array(first.memory, out.shape, out.dtype, first.start, out.strides)

    def pointer(self, key: Target, known: dict[str | Source | None, Pointer]) -> Pointer:
        """Where a parameter of a kernel points to."""
        if isinstance(key, str | Place):
            return known[key]
        buffer, offset = key
        array, low = known[buffer.source], self.low.get(buffer.source, 0) if buffer.source else 0
        start = array.start + max(buffer.place, 0) + (low + offset) * buffer.dtype.itemsize
        return Pointer(array.memory, start, buffer.dtype)

    def state(self) -> Array:
        """The generator's block and key, which go on."""
        state = generator.state_dict()
        words = state["block"], state["seed"] & 0xFFFFFFFF, state["seed"] >> 32
        generator._block += self.blocks
        drawn.blocks += self.blocks
        return Array.from_numpy(np.array(words, np.int64))


def drawn_by(op: Primitive | Draw, shape: tuple[int, ...]) -> int:
    """How many blocks of the generator an operation takes."""
    return -(-int(np.prod(shape, dtype=np.int64)) // 4) if isinstance(op, Draw) else 0


operations: dict[Hashable, Operation] = {}


def run(op: Primitive, *args: Array | float, **params: object) -> Array:
    """An operation on arrays of the device."""
    params = {**op.defaults, **params} if op.defaults else params
    arrays = list(args)
    fixed = tuple(x if not isinstance(x, Array) else (x.shape, x.strides, x.dtype) for x in arrays)
    gpu = device()
    key: Hashable = op, mode.number, gpu.shape, bool(gpu.blas), fixed, tuple(map(type, fixed)), frozen(params)
    try:
        compiled = operations.get(key)
    except TypeError:  # parameters that are no key: arrays, say
        key, compiled = None, None
    if compiled is None:
        compiled = make(op, arrays, params)
        if key is not None:
            operations[key] = compiled
    if compiled.hosted:
        return on_host(op, arrays, params)
    return compiled([a for a in arrays if isinstance(a, Array)])


def make(op: Primitive, arrays: list[Array | float], params: dict[str, object]) -> Operation:
    """Compile an operation, for shape and dtype as NumPy finds them."""
    masks = [isinstance(a, Array) and a.dtype == bool for a in arrays]
    if op.name in ("getitem", "put") and any(masks[1:]):  # the values of a mask decide on the shape
        return Hosted()
    shape, dtype, copies = infer(op, arrays, params)
    return Operation(op, arrays, params, shape, dtype, device().shape, copies, bool(device().blas))


class Hosted(Operation):
    """An operation that runs as NumPy on the host."""

    def __init__(self) -> None:
        self.hosted = True


def infer(
    op: Primitive, arrays: list[Array | float], params: dict[str, object]
) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Shape and dtype of the result, and if it is no view, by NumPy on zeros; errors are those of the CPU."""
    zeros = [np.zeros(a.shape, a.dtype) if isinstance(a, Array) else a for a in arrays]
    out = np.asarray(op.forward(*zeros, **params))
    dtype = out.dtype
    if dtype.char == "e":  # of small integers NumPy would compute in 16 bits
        dtype = mode.number
    wide = any(isinstance(a, Array) and a.dtype.char == "d" for a in arrays)
    if dtype.char == "d" and mode.number.char != "d" and "dtype" not in params and not wide:
        dtype = mode.number
    copies = not any(isinstance(z, np.ndarray) and np.may_share_memory(out, z) for z in zeros)
    return out.shape, np.dtype(dtype), copies


def on_host(op: Primitive, arrays: list[Array | float], params: dict[str, object]) -> Array:
    """NumPy's or the user's own code: its arrays go to the host and its result comes back."""
    host = [a.numpy() if isinstance(a, Array) else a for a in arrays]
    return Array.from_numpy(np.asarray(op.forward(*host, **params)))


def gather(array: Array, dtype: DTypeLike) -> Array:
    """The elements of an array one after the other, in a dtype."""
    return run(shapes.cast, array, dtype=dtype)


@cache
def random(method: str, shape: tuple[int, ...]) -> Operation:
    """Fresh random numbers, drawn on the device."""
    return Operation(Draw(method, 0), [], {}, shape, np.dtype(np.float32), device().shape)


def draw(method: str, options: dict[str, object]) -> Array:
    """Random numbers: the generator's own bits, from a kernel where there is one."""
    plain = options.get("low", 0) == 0 and options.get("high", 1) == 1
    if method == "uniform" and plain and options["dtype"] == np.float32:
        return random(method, tuple(np.atleast_1d(np.asarray(options["shape"])).tolist()))([])
    return Array.from_numpy(getattr(generator, method)(**options))


primitives.executors[Array] = run
Array.gather, Array.draw = gather, draw
