"""From operations on arrays to loops: what each primitive is made of.

`lower(program)` gives the items of work in order. Shapes that only look at memory differently (reshape,
transpose, slices, broadcasting) become views; normalisations and losses become the loops that they stand for.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike

from microgradx import scalars
from microgradx.codegen.ir.binding import GRADIENTS, Number
from microgradx.codegen.ir.loops import (
    Buffer,
    Compute,
    Item,
    Nest,
    Operand,
    Place,
    Read,
    Reduce,
    Source,
    View,
    squeezed,
)
from microgradx.codegen.ir.ops import Host, Look, Sweep, Uniform
from microgradx.codegen.ir.program import Draw, Instruction, Program, Update, Value, Watch
from microgradx.codegen.passes.arithmetic import plain
from microgradx.kernels.random import generator
from microgradx.kernels.strided import contiguous
from microgradx.optim.flat import Part
from microgradx.primitives import Primitive, shapes
from microgradx.primitives.core import ElementwisePrimitive
from microgradx.scalars import Elementwise

Shape = tuple[int, ...]
Axes = int | tuple[int, ...] | None

lowerings: dict[Primitive, Callable[..., View]] = {}
"""How each primitive is lowered: `(lowering, *inputs, **params) -> View`."""


F = TypeVar("F", bound=Callable[..., View])


def lowers(*primitives: Primitive) -> Callable[[F], F]:
    """Declare how primitives are lowered."""

    def declare(function: F) -> F:
        lowerings.update(dict.fromkeys(primitives, function))
        return function

    return declare


class Lowering:
    """The items of a program, and where each of its values lies."""

    def __init__(self, program: Program):
        self.program = program
        self.items: list[Item] = []
        self.views: dict[Value, View] = {}
        self.shared: dict[Hashable, tuple[View, ...]] = {}  # parts that several instructions are made of
        self.at: Instruction | None = None  # the instruction under way
        for k, value in enumerate(program.arguments):
            self.views[value] = self.outside(value, Place("argument", k))
        for value, binding in program.bound.items():
            source = Place("number", binding.event) if isinstance(binding, Number) else value
            self.views[value] = self.outside(value, source)
        self.there = dict(self.views)  # where what is bound lies, whatever becomes of its value
        kept = [value for value, binding in program.bound.items() if not isinstance(binding, GRADIENTS)]
        self.state = {self.views[value].buffer for value in kept}
        read = {value for instruction in program.instructions for value in instruction.reads()}
        finals = list(program.writes.values())
        read |= {*program.outputs, *finals}  # what is returned or moves to another home is read last
        self.homes = {  # values that can be computed in the place where they belong
            value: self.views[home].buffer
            for home, value in program.writes.items()
            if home not in read and value not in program.bound and finals.count(value) == 1
        }
        for instruction in program.instructions:
            self.at = instruction
            self.instruction(instruction)
        self.at = None
        for k, value in enumerate(program.outputs):
            if self.views[value].buffer.source != Place("output", k):
                out = Buffer(f"{value.name}_out", value.shape, value.dtype, Place("output", k), stepped=True)
                self.nest(out.view(), None, Read(self.views[value]))
        self.leave()

    def leave(self) -> None:
        """Put what a step leaves behind where it belongs: all at once, so that w.data = w.T is right, too."""
        pairs = [(self.views[value], self.there[home]) for home, value in self.program.writes.items()]
        pairs = [(here, there) for here, there in pairs if here != there]
        overwritten = {there.buffer for _, there in pairs}
        sources = [self.copy(here) if here.buffer in overwritten else here for here, _ in pairs]
        for here, (_, there) in zip(sources, pairs, strict=True):
            self.nest(there, None, Read(here))

    def outside(self, value: Value, source: Source) -> View:
        """Memory outside of the arena."""
        return Buffer(value.name, value.shape, value.dtype, source).view()

    @property
    def now(self) -> Instruction:
        """The instruction under way."""
        assert self.at is not None
        return self.at

    @property
    def out(self) -> Value:
        """Its result."""
        return self.now.out

    def new(self, shape: Shape, dtype: DTypeLike, name: str = "") -> View:
        """A buffer for the output of the instruction under way, or for a part of its work."""
        out, shape, dtype = self.at.outputs[0] if self.at else None, tuple(shape), np.dtype(dtype)
        if out is not None and not name and out not in self.views:
            name, home = out.name, self.homes.get(out)
            if home is not None and (home.dtype, home.size) == (dtype, math.prod(shape)):
                home.name = name
                return View(home, 0, contiguous(shape), shape)  # perhaps without axes that are kept
        return Buffer(name or "value", shape, dtype, named=False).view()

    def add(self, item: Item) -> None:
        """Append an item, with the user's line that it comes from; not one that makes nothing."""
        if not any(view.size for view, _ in item.writes()):
            return
        item = squeezed(item) if isinstance(item, Nest) else item
        item.line, back = (self.at.line, self.at.back) if self.at else (None, False)
        if item.line is not None and back:
            item.line = replace(item.line, back=True)
        back = back or any(view.buffer.phase == "back" for view, _ in item.reads())
        for view, _ in item.writes():
            view.buffer.phase = "update" if view.buffer in self.state else "back" if back else "forward"
        self.items.append(item)

    # Building blocks

    def nest(self, out: View, function: Elementwise | None, *args: Operand, **constants: float) -> View:
        """out[...] = function(*args, **constants), element by element; without a function, a copy."""
        given = tuple(Read(a.view.spread(out.shape)) if isinstance(a, Read) else a for a in args)
        self.add(Nest(None, out.shape, [Compute(out, function, given, constants)]))
        return out

    def compute(
        self,
        name: str,
        function: str | None,
        *args: View | Operand,
        dtype: DTypeLike | None = None,
        shape: Shape | None = None,
    ) -> View:
        """A new array, computed element by element from views and numbers."""
        given = [Read(a) if isinstance(a, View) else a for a in args]
        views = [a.view for a in given if isinstance(a, Read)]
        shape = np.broadcast_shapes(*(v.shape for v in views)) if shape is None else shape
        out = self.new(shape, dtype or views[0].dtype, name)
        return self.nest(out, getattr(scalars, function) if function else None, *given)

    def reduce(
        self,
        name: str,
        kind: str,
        view: View,
        axis: Axes,
        keepdims: bool = False,
        dtype: DTypeLike | None = None,
    ) -> View:
        """Take all elements along axes together."""
        axes = shapes.axes_of(axis, view.ndim) if view.ndim else ()
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

    def reduce_axes(self, name: str, kind: str, view: View, axes: Shape, dtype: DTypeLike | None) -> View:
        """The same for axes counted from 0, which go away."""
        kept = tuple(a for a in range(view.ndim) if a not in axes)
        out = self.new(tuple(view.shape[a] for a in kept), dtype or view.dtype, name)
        self.add(Nest(None, view.shape, [Reduce(out, kind, Read(view), axes)]))
        return out

    def copy(self, view: View, name: str = "copy", dtype: DTypeLike | None = None) -> View:
        """The elements one after the other, in memory of their own."""
        return self.compute(name, None, view, dtype=dtype)

    def tight(self, view: View) -> View:
        """A view whose elements lie one after the other."""
        return view if view.dense else self.copy(view)

    # Instructions

    def operand(self, x: Value | float) -> View | float:
        """The view of a Value; numbers are themselves."""
        return self.views[x] if isinstance(x, Value) else x

    def instruction(self, instruction: Instruction) -> None:
        """Append what an instruction is made of."""
        op, out = instruction.op, instruction.outputs[0]
        if isinstance(op, Update):
            return self.update(op, instruction)
        if isinstance(op, Draw):
            view = self.draw(op, instruction)
        elif isinstance(op, Watch):
            view = self.watch(op, *(self.views[x] for x in instruction.reads()))
        else:
            view = self.primitive(op, [self.operand(x) for x in instruction.inputs], instruction.params)
        if view.shape != out.shape:
            view = view.through(lambda x: np.reshape(x, out.shape))
        if view.dtype != out.dtype:
            view = self.copy(view, out.name, out.dtype)
        self.views[out] = view
        return None

    def update(self, op: Update, instruction: Instruction) -> None:
        """A rule: p and the state in place, where they lie or in a copy."""
        views = [self.views[x] for x in instruction.reads()]
        kept = [x if k == 1 or self.owned(x, op.part) else self.copy(x, "value") for k, x in enumerate(views)]
        changed = [kept[0], *kept[2:]]
        self.rescue({view.buffer for view in changed}, instruction)
        self.add(Sweep(None, op, [self.tight(view) for view in kept]))
        self.views |= zip(instruction.outputs, changed, strict=True)

    def primitive(self, op: Primitive, inputs: list[View | float], params: dict[str, object]) -> View:
        """An operation on arrays: loops, or NumPy's and the user's own code."""
        if isinstance(op, ElementwisePrimitive):
            return self.elementwise(op, inputs, params)
        if op in lowerings:
            return lowerings[op](self, *inputs, **params)
        own = not op.__module__.startswith("microgradx.")
        advice = "" if own else "compute it outside of the step, or report it, so that it is compiled"
        return self.host(op.name, partial(op.forward, **params), inputs, advice)

    def owned(self, view: View, part: Part) -> bool:
        """Whether a rule may change a view in place: it is the part's own, or nobody's outside."""
        source = view.buffer.source
        if not isinstance(source, Value):
            return source is None
        binding = self.program.bound[source]
        return not isinstance(binding, GRADIENTS) and any(binding.owner is x for x in (part.parameter, part))

    def rescue(self, buffers: set[Buffer], instruction: Instruction) -> None:
        """Copy values that lie in memory which an instruction overwrites, and that are read after it."""
        threatened = [v for v, view in self.views.items() if view.buffer in buffers]
        later = self.program.instructions[self.program.instructions.index(instruction) + 1 :]
        needed = {*self.program.outputs, *self.program.writes.values()}.union(*(one.reads() for one in later))
        for value in threatened:
            if value in needed and value not in instruction.outputs:
                self.views[value] = self.copy(self.views[value], value.name)

    def watch(self, watch: Watch, positions: View, *arrays: View) -> View:
        """Before updates: gradients in one item, all else in another, which need not wait for them."""
        value = self.out
        source = Place("output", self.program.outputs.index(value))
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
        plain = options.get("low", 0) == 0 and options.get("high", 1) == 1
        if draw.name == "uniform" and plain and value.dtype == np.float32:
            blocks = -(-value.size // 4)  # of four numbers: those beyond the last row have room, too
            row = Buffer(value.name, (4 * blocks,), value.dtype, named=False).view()
            out = self.new(value.shape, value.dtype) if value.size % 4 == 0 else row
            self.add(Uniform(None, out, draw))
            return out if value.size % 4 == 0 else row.through(lambda a: a[: value.size].reshape(value.shape))
        out = self.new(value.shape, value.dtype)
        advice = "draw it outside and pass it as an argument, or take mg.rand in float32, which is compiled"
        call = lambda: getattr(generator, draw.name)(**options)
        self.add(Host(None, draw.name, call, [], [out], draw.block, advice))
        return out

    def host(
        self, name: str, call: Callable[..., object], inputs: Sequence[View | float], advice: str = ""
    ) -> View:
        """An operation that stays NumPy's or the user's; advice on how to do without, where there is any."""
        out = self.new(self.out.shape, self.out.dtype)
        given = [self.tight(x) if isinstance(x, View) else x for x in inputs]
        self.add(Host(None, name, call, given, [out], advice=advice))
        return out

    def elementwise(
        self, op: ElementwisePrimitive, inputs: list[View | float], params: dict[str, object]
    ) -> View:
        """A function of numbers over arrays."""
        constants = op.defaults | params
        numbers = {name: c for name, c in constants.items() if plain(c)}
        if len(numbers) < len(constants):
            advice = (
                "give it numbers as constants, or write it with arrays as inputs, such as maximum(x, low)"
            )
            return self.host(op.name, partial(op.forward, **constants), inputs, advice)
        out = self.new(self.out.shape, self.out.dtype)
        args = [Read(x) if isinstance(x, View) else x for x in inputs]
        return self.nest(out, op.elementwise, *args, **numbers)


def lower(program: Program) -> list[Item]:
    """The items of work of a program, in order."""
    return Lowering(program).items
