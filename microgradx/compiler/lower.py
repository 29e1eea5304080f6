"""From operations on arrays to loops: what each primitive is made of.

`lower(program)` gives the items of work in order. Shapes that only look at memory differently (reshape,
transpose, slices, broadcasting) become views; normalisations and losses become the loops that they stand for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from microgradx.compiler.items import Host, Look, Sweep, Uniform
from microgradx.compiler.loops import Buffer, Compute, Item, Nest, Read, Reduce, View
from microgradx.compiler.program import Draw, Instruction, Program, Update, Value, Watch
from microgradx.kernels.random import generator
from microgradx.primitives import shapes
from microgradx.primitives.core import ElementwisePrimitive
from microgradx.scalars import functions

lowerings: dict[Any, Callable[..., Any]] = {}
"""How each primitive is lowered: `(lowering, *inputs, **params) -> View`."""


def lowers(*primitives: Any):
    """Declare how primitives are lowered."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        lowerings.update(dict.fromkeys(primitives, function))
        return function

    return declare


class Lowering:
    """The items of a program, and where each of its values lies."""

    def __init__(self, program: Program):
        self.program = program
        self.items: list[Item] = []
        self.views: dict[Value, View] = {}
        self.shared: dict[Any, Any] = {}  # parts that several instructions are made of
        self.at: Any = None  # the instruction under way
        for k, value in enumerate(program.arguments):
            self.views[value] = self.outside(value, ("argument", k))
        for value, binding in program.bound.items():
            source = ("number", binding.event) if binding.kind == "number" else ("bound", value)
            self.views[value] = self.outside(value, source)
        read = {value for instruction in program.instructions for value in instruction.reads()}
        finals = list(program.writes.values())
        self.homes = {  # values that can be computed in the place where they belong
            value: self.views[home].buffer
            for home, value in program.writes.items()
            if home not in read and value not in program.bound and finals.count(value) == 1
        }
        for instruction in program.instructions:
            self.at = instruction
            self.instruction(instruction)
        self.at = None
        for home, value in program.writes.items():
            here, there = self.views[value], self.views[home]
            if here.buffer is not there.buffer:
                self.nest(there, None, Read(here))
        for k, value in enumerate(program.outputs):
            if self.views[value].buffer.source != ("output", k):
                out = Buffer(f"{value.name}_out", value.shape, value.dtype, ("output", k), stepped=True)
                self.nest(out.view(), None, Read(self.views[value]))

    def outside(self, value: Value, source: tuple) -> View:
        """Memory outside of the arena."""
        return Buffer(value.name, value.shape, value.dtype, source).view()

    def new(self, shape: tuple[int, ...], dtype: Any, name: str = "") -> View:
        """A buffer for the output of the instruction under way, or for a part of its work."""
        out = self.at.outputs[0] if self.at else None
        if out is not None and not name and out not in self.views:
            if out in self.homes:
                self.homes[out].name = out.name
                return self.homes[out].view()
            return Buffer(out.name, tuple(shape), np.dtype(dtype), named=False).view()
        return Buffer(name or "value", tuple(shape), np.dtype(dtype), named=False).view()

    def add(self, item: Item) -> None:
        """Append an item, with the user's line that it comes from; not one that makes nothing."""
        if not any(view.size for view, _ in item.writes()):
            return
        item.line = self.at.line if self.at else None
        self.items.append(item)

    # Building blocks

    def nest(self, out: View, function: Any, *args: Any, **constants: Any) -> View:
        """out[...] = function(*args, **constants), element by element; without a function, a copy."""
        args = tuple(Read(a.view.spread(out.shape)) if isinstance(a, Read) else a for a in args)
        axis = 0 if out.shape else None
        self.add(Nest(None, out.shape, axis, [Compute(out, function, args, constants)]))
        return out

    def compute(
        self, name: str, function: str | None, *args: Any, dtype: Any = None, shape: Any = None
    ) -> View:
        """A new array, computed element by element from views and numbers."""
        args = tuple(Read(a) if isinstance(a, View) else a for a in args)
        views = [a.view for a in args if isinstance(a, Read)]
        shape = np.broadcast_shapes(*(v.shape for v in views)) if shape is None else shape
        out = self.new(shape, dtype or views[0].dtype, name)
        return self.nest(out, functions[function] if function else None, *args)

    def reduce(
        self, name: str, kind: str, view: View, axis: Any, keepdims: bool = False, dtype: Any = None
    ) -> View:
        """Take all elements along axes together."""
        axes = shapes.axes_of(axis, view.ndim)
        if kind.startswith("arg"):  # by the last axes, in one variable
            full = tuple(1 if a in axes else n for a, n in enumerate(view.shape))
            view = view.through(lambda x: np.moveaxis(x, axes, range(-len(axes), 0)))
            found = self.reduce_axes(name, kind, view, tuple(range(view.ndim))[-len(axes) :], dtype)
            return found.through(lambda x: np.reshape(x, full)) if keepdims else found
        if view.size == 0 and kind in ("sum", "prod"):
            dims = [1 if a in axes else n for a, n in enumerate(view.shape)]
            shape = dims if keepdims else [n for a, n in enumerate(dims) if a not in axes]
            return self.compute(
                name, None, int(kind == "prod"), dtype=dtype or view.dtype, shape=tuple(shape)
            )
        out = self.reduce_axes(name, kind, view, axes, dtype)
        full = tuple(1 if a in axes else n for a, n in enumerate(view.shape))
        return out.through(lambda x: np.reshape(x, full)) if keepdims else out

    def reduce_axes(self, name: str, kind: str, view: View, axes: tuple[int, ...], dtype: Any) -> View:
        """The same for axes counted from 0, which go away."""
        kept = tuple(a for a in range(view.ndim) if a not in axes)
        out = self.new(tuple(view.shape[a] for a in kept), dtype or view.dtype, name)
        self.add(Nest(None, view.shape, kept[0] if kept else None, [Reduce(out, kind, Read(view), axes)]))
        return out

    def copy(self, view: View, name: str = "copy", dtype: Any = None) -> View:
        """The elements one after the other, in memory of their own."""
        return self.compute(name, None, view, dtype=dtype)

    def tight(self, view: View) -> View:
        """A view whose elements lie one after the other."""
        return view if view.dense else self.copy(view)

    # Instructions

    def operand(self, x: Any) -> Any:
        """The view of a Value; numbers are themselves."""
        return self.views[x] if isinstance(x, Value) else x

    def instruction(self, instruction: Instruction) -> None:
        """Append what an instruction is made of."""
        op, inputs = instruction.op, [self.operand(x) for x in instruction.inputs]
        if isinstance(op, Update):
            count = 2 + len(op.sweep.rule.state)
            self.add(Sweep(None, op, [self.tight(v) for v in inputs[:count]], inputs[count:]))
            self.views |= zip(instruction.outputs, [inputs[0], *inputs[2:count]], strict=True)
            return
        out = instruction.out
        if isinstance(op, Draw):
            view = self.draw(op, instruction)
        elif isinstance(op, Watch):
            view = self.watch(op, *inputs)
        elif isinstance(op, ElementwisePrimitive):
            view = self.elementwise(op, inputs, instruction)
        elif op in lowerings:
            view = lowerings[op](self, *inputs, **instruction.params)
        else:
            view = self.host(op.name, lambda *arrays: op.forward(*arrays, **instruction.params), inputs)
        if view.shape != out.shape:
            view = view.through(lambda x: np.reshape(x, out.shape))
        if view.dtype != out.dtype:
            view = self.copy(view, out.name, out.dtype)
        self.views[out] = view

    def watch(self, watch: Watch, positions: View, *arrays: View) -> View:
        """Before updates: gradients in one item, all else in another, which need not wait for them."""
        value = self.at.out
        source = "output", self.program.outputs.index(value)
        out = Buffer(value.name, value.shape, value.dtype, source, stepped=True).view()
        flat = [self.tight(x).through(lambda a: np.reshape(a, -1)) for x in arrays]
        height = value.shape[0] - 1
        for rows in ([0, *range(2, height)], [1]):
            starts = range(0, len(flat), height)
            found = [[(row, flat[start + row]) for row in rows] for start in starts]
            self.add(Look(None, out, positions, list(zip(watch.columns, found, strict=True))))
        return out

    def draw(self, draw: Draw, instruction: Instruction) -> View:
        """Random numbers: compiled for uniform float32, else drawn by the generator."""
        options, value = instruction.params, instruction.out
        out = self.new(value.shape, value.dtype)
        plain = options.get("low", 0) == 0 and options.get("high", 1) == 1
        if draw.name == "uniform" and plain and value.dtype == np.float32:
            self.add(Uniform(None, out, draw))
        else:
            self.add(
                Host(None, draw.name, lambda: getattr(generator, draw.name)(**options), [], [out], draw.block)
            )
        return out

    def host(self, name: str, call: Callable[..., Any], inputs: list[Any]) -> View:
        """An operation that stays NumPy's or the user's."""
        value = self.at.outputs[0]
        out = self.new(value.shape, value.dtype)
        self.add(Host(None, name, call, [self.tight(x) if isinstance(x, View) else x for x in inputs], [out]))
        return out

    def elementwise(self, op: ElementwisePrimitive, inputs: list[Any], instruction: Instruction) -> View:
        """A function of numbers over arrays."""
        function, value = op.elementwise, instruction.out
        constants = op.defaults | instruction.params
        if any(isinstance(c, np.ndarray) for c in constants.values()):
            return self.host(op.name, lambda *arrays: op.forward(*arrays, **constants), inputs)
        out = self.new(value.shape, value.dtype)
        args = [Read(x) if isinstance(x, View) else x for x in inputs]
        return self.nest(out, function, *args, **constants)


def lower(program: Program) -> list[Item]:
    """The items of work of a program, in order."""
    return Lowering(program).items
