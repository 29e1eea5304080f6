"""One operation at a time on a device: each becomes a small file of kernels, for its shapes, when first met.

What an operation computes stands in one place, `lowerings`; this is the same path that whole steps take,
with a program of one instruction. Views cost nothing; what has no lowering runs as NumPy on the host.
"""

from functools import cache
from typing import Any

import numpy as np

from microgradx import primitives
from microgradx.compiler.cuda.stages import stages
from microgradx.compiler.cuda.text import Emitted, Writer
from microgradx.compiler.items import Host
from microgradx.compiler.loops import Buffer, View
from microgradx.compiler.lower import Lowering, lowerings
from microgradx.compiler.program import Draw, Instruction, Program, Value
from microgradx.kernels.cuda import Array, device
from microgradx.kernels.cuda.device import Launch, Pointer
from microgradx.kernels.random import drawn, generator
from microgradx.primitives import Primitive, shapes
from microgradx.tape import mode

Layout = tuple[tuple[int, ...], tuple[int, ...], np.dtype]
"""Shape, strides and dtype of an array."""


class Strided(Lowering):
    """Lowers an operation on arrays that need not lie in one piece."""

    def __init__(self, program: Program, layouts: list[Layout]):
        self.layouts = layouts
        self.low: list[int] = []  # elements of an argument that lie before its first
        super().__init__(program)

    def outside(self, value: Value, source: tuple) -> View:
        """An argument as it lies in memory."""
        shape, strides, dtype = self.layouts[source[1]]
        ends = [(n - 1) * s for n, s in zip(shape, strides, strict=True)] if 0 not in shape else []
        low, high = sum(min(0, e) for e in ends), sum(max(0, e) for e in ends)
        self.low.append(low)
        return View(Buffer(value.name, (high - low + 1,), dtype, source), -low, strides, shape)


class Operation:
    """An operation compiled for the layouts of its inputs and for its parameters."""

    def __init__(self, op: Any, inputs: list[Any], params: dict[str, Any], shape: tuple, dtype: np.dtype):
        places = [k for k, x in enumerate(inputs) if isinstance(x, Array)]
        names = getattr(op, "inputs", [])
        arguments = [Value(names[k] if k < len(names) else f"x{k}", inputs[k].shape, inputs[k].dtype)
                     for k in places]  # fmt: skip
        given = list(inputs)
        for k, value in zip(places, arguments, strict=True):
            given[k] = value
        out = Value("out", shape, dtype)
        program = Program(op.name, arguments, {}, [Instruction(op, tuple(given), params, (out,))])
        layouts = [(x.shape, x.strides, x.dtype) for x in inputs if isinstance(x, Array)]
        lowering = Strided(program, layouts)
        self.out, self.low, self.places = lowering.views[out], lowering.low, places
        self.blocks = drawn_by(op, shape)
        self.hosted = any(isinstance(item, Host) for item in lowering.items)
        if self.hosted:
            return
        if self.out.buffer.source is None:
            self.out.buffer.source = ("result",)
        title = f"The operation `{op.name}` for {', '.join(map(repr, arguments)) or 'no arrays'}.\n"
        order, self.plan = stages(lowering.items, device().shape)
        self.emitted: Emitted = Writer(order, self.plan, self.blocks, device().shape, title).emit()
        made = self.emitted
        self.kernels = device().load(made.text, made.signatures, op.name) if made.signatures else {}

    def __call__(self, arrays: list[Array]) -> Array:
        """Run it."""
        gpu, out = device(), self.out
        source = out.buffer.source
        if source[0] == "argument":
            array, low = arrays[source[1]], self.low[source[1]]
            start = array.start + (low + out.offset) * array.dtype.itemsize
            return Array(array.memory, out.shape, array.dtype, start, out.strides)
        made = gpu.empty(out.buffer.shape, out.buffer.dtype)
        arena = gpu.memory(self.plan.arena) if self.plan.arena else None
        random = self.state() if self.blocks else None
        zero = None

        def pointer(key: Any) -> Pointer:
            nonlocal zero
            if key == "status":
                return Pointer(gpu.faults.memory, gpu.faults.start, gpu.faults.dtype)
            if key == "random" and random is not None:
                return Pointer(random.memory, 0, random.dtype)
            if key == "clock":
                zero = zero or gpu.full((1,), np.int64, 0)
                return Pointer(zero.memory, 0, zero.dtype)
            buffer, offset = key
            size = buffer.dtype.itemsize
            if buffer.source == ("result",):
                return Pointer(made.memory, made.start + offset * size, buffer.dtype)
            if buffer.source is None:
                assert arena is not None
                return Pointer(arena, buffer.place + offset * size, buffer.dtype)
            k = buffer.source[1]
            return Pointer(arrays[k].memory, arrays[k].start + (self.low[k] + offset) * size, buffer.dtype)

        for stage in self.emitted.stages:
            keys = self.emitted.parameters[stage.name]
            launch = Launch(self.kernels[stage.name], stage.blocks, tuple(map(pointer, keys)))
            gpu.prepare(launch)()
        start = made.start + out.offset * out.dtype.itemsize
        return Array(made.memory, out.shape, out.dtype, start, out.strides)

    def state(self) -> Array:
        """The generator's block and key, which go on."""
        state = generator.state_dict()
        words = state["block"], state["seed"] & 0xFFFFFFFF, state["seed"] >> 32
        generator._block += self.blocks
        drawn.blocks += self.blocks
        return device().array(np.array(words, np.int64))


def drawn_by(op: Any, shape: tuple[int, ...]) -> int:
    """How many blocks of the generator an operation takes."""
    return -(-int(np.prod(shape, dtype=np.int64)) // 4) if isinstance(op, Draw) else 0


operations: dict[Any, Operation] = {}


def run(op: Primitive, *args: Any, **params: Any) -> Array:
    """An operation on arrays of the device; NumPy's arrays among them are copied there."""
    params = {**op.defaults, **params} if op.defaults else params
    arrays = [device().array(a) if isinstance(a, np.ndarray) else a for a in args]
    fixed = tuple(x if not isinstance(x, Array) else (x.shape, x.strides, x.dtype) for x in arrays)
    key: Any = op, mode.number, fixed, tuple(map(type, fixed)), frozen(params)
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


def make(op: Primitive, arrays: list[Any], params: dict[str, Any]) -> Operation:
    """Compile an operation, for shape and dtype as NumPy finds them."""
    masks = [isinstance(a, Array) and a.dtype == bool for a in arrays]
    if op.name in ("getitem", "put") and any(masks[1:]):  # the values of a mask decide on the shape
        return Hosted()
    shape, dtype = infer(op, arrays, params)
    try:
        return Operation(op, arrays, params, shape, dtype)
    except NotImplementedError:
        return Hosted()


class Hosted(Operation):
    """An operation that runs as NumPy on the host."""

    def __init__(self) -> None:
        self.hosted = True


def infer(op: Primitive, arrays: list[Any], params: dict[str, Any]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of the result, by NumPy on zeros; its errors are those of the CPU."""
    zeros = [np.zeros(a.shape, a.dtype) if isinstance(a, Array) else a for a in arrays]
    out = np.asarray(op.forward(*zeros, **params))
    dtype = out.dtype
    if dtype.char == "e":  # of small integers NumPy would compute in 16 bits
        dtype = mode.number
    wide = any(isinstance(a, Array) and a.dtype.char == "d" for a in arrays)
    if dtype.char == "d" and mode.number.char != "d" and "dtype" not in params and not wide:
        dtype = mode.number
    return out.shape, np.dtype(dtype)


def on_host(op: Primitive, arrays: list[Any], params: dict[str, Any]) -> Array:
    """NumPy's or the user's own code: its arrays go to the host and its result comes back."""
    host = [a.numpy() if isinstance(a, Array) else a for a in arrays]
    return device().array(np.asarray(op.forward(*host, **params)))


def frozen(x: Any) -> Any:
    """Parameters as a key: slices, lists and dicts by what is in them."""
    if isinstance(x, dict):
        return tuple((k, frozen(v)) for k, v in x.items())
    if isinstance(x, list | tuple):
        return type(x).__name__, tuple(map(frozen, x))
    if isinstance(x, slice):
        return "slice", x.start, x.stop, x.step
    return type(x), x


def gather(array: Array, dtype: Any) -> Array:
    """The elements of an array one after the other, in a dtype."""
    if array.dense and dtype == array.dtype:
        out = device().empty(array.shape, dtype)
        device().copy(out, array)
        return out
    return run(copied, array, dtype=dtype)


class Copied(Primitive):
    """A copy in memory of its own, which `cast` need not be."""


copied = Copied(shapes.cast.forward)
lowerings[copied] = lambda low, x, dtype: low.copy(x, "", dtype)


@cache
def random(method: str, shape: tuple[int, ...]) -> Operation:
    """Fresh random numbers, drawn on the device."""
    return Operation(Draw(method, 0), [], {}, shape, np.dtype(np.float32))


def draw(method: str, options: dict[str, Any]) -> Array:
    """Random numbers: the generator's own bits, from a kernel where there is one."""
    plain = options.get("low", 0) == 0 and options.get("high", 1) == 1
    if method == "uniform" and plain and options["dtype"] == np.float32:
        return random(method, tuple(np.atleast_1d(options["shape"]).tolist()))([])
    return device().array(getattr(generator, method)(**options))


primitives.executors[Array] = run
Array.gather, Array.draw = gather, draw
