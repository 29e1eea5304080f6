"""From operations on arrays to loops: what each primitive is made of.

`lower(program)` gives the items of work in order. Shapes that only look at memory differently (reshape,
transpose, slices, broadcasting) become views; normalisations and losses become the loops that they stand for.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from microgradx.compiler.loops import (
    Bounded,
    Buffer,
    Compute,
    Host,
    Index,
    Item,
    Matmul,
    Nest,
    Pick,
    Read,
    Reduce,
    Running,
    Scatter,
    Sweep,
    Uniform,
    View,
)  # fmt: skip
from microgradx.compiler.program import Draw, Instruction, Program, Update, Value
from microgradx.kernels.random import generator
from microgradx.primitives import indexing, products, reductions, shapes
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
        self.at: Instruction | None = None  # the instruction under way
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
        """Append an item, with the user's line that it comes from."""
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
        kept = tuple(a for a in range(view.ndim) if a not in axes)
        out = self.new(tuple(view.shape[a] for a in kept), dtype or view.dtype, name)
        full = tuple(1 if a in axes else n for a, n in enumerate(view.shape)) if keepdims else out.shape
        self.add(Nest(None, view.shape, kept[0] if kept else None, [Reduce(out, kind, Read(view), axes)]))
        return out if full == out.shape else out.through(lambda x: np.reshape(x, full))

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
            self.add(Sweep(None, op, [self.tight_home(v) for v in inputs[:count]], inputs[count:]))
            self.views |= zip(instruction.outputs, [inputs[0], *inputs[2:count]], strict=True)
            return
        out = instruction.out
        if isinstance(op, Draw):
            view = self.draw(op, instruction)
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

    def tight_home(self, view: View) -> View:
        """An array of a sweep, one element after the other."""
        return self.tight(view)

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


# Other shapes and dtypes


@lowers(shapes.reshape_to)
def _(low, x, shape):
    try:
        return x.through(lambda a: np.reshape(a, shape, copy=False))
    except ValueError:
        return low.copy(x).through(lambda a: np.reshape(a, shape))


@lowers(shapes.permute_axes)
def _(low, x, axes):
    return x.through(lambda a: np.transpose(a, axes))


@lowers(shapes.expand_to)
def _(low, x, shape):
    if not isinstance(x, View):
        return low.compute("", None, x, dtype=low.at.out.dtype, shape=shape)
    return x.spread(tuple(shape))


@lowers(shapes.cast)
def _(low, x, dtype):
    return x if x.dtype == dtype else low.copy(x, "", dtype)


# Indices


def places(low, shape: tuple[int, ...], x: View, indices: tuple, index: tuple, wrap: bool = True):
    """How x[index] picks its elements: a view of x, and for each of its axes where in a domain of `shape`."""
    template = expanded(index, x.ndim)
    free = tuple(slice(None) if isinstance(part, indexing.Slot | int) else part for part in template)
    base = x.through(lambda a: a[free])
    counted = [k for k, part in enumerate(template) if isinstance(part, indexing.Slot | int)]
    arrays = [indices[p.number] if isinstance(p, indexing.Slot) else p for p in template if not is_free(p)]
    common = np.broadcast_shapes(*(a.shape for a in arrays if isinstance(a, View)))
    adjacent = counted == list(range(counted[0], counted[-1] + 1))
    first = counted[0] if adjacent else 0
    behind = len(shape) - first - len(common)
    at: list[Any] = []
    axis = 0  # of the domain
    for k in range(base.ndim):
        if axis == first and (k in counted or not adjacent):
            axis += len(common) if k == counted[0] or not adjacent else 0
        if k in counted:
            array = arrays[counted.index(k)]
            if isinstance(array, View):
                whole = array.spread(common).through(lambda a: a[(..., *(None,) * behind)])
                array = Read(whole.spread(shape))
            at.append(Bounded(array, base.shape[k], wrap))
        else:
            at.append(Index(axis))
            axis += 1
    return base, tuple(at)


def expanded(index: Any, ndim: int) -> tuple:
    """An index with a part for every axis."""
    parts = index if isinstance(index, tuple) else (index,)
    used = sum(part is not None and part is not Ellipsis for part in parts)
    rest = (slice(None),) * (ndim - used)
    if Ellipsis in [p for p in parts if not isinstance(p, indexing.Slot)]:
        k = next(k for k, p in enumerate(parts) if p is Ellipsis)
        return (*parts[:k], *rest, *parts[k + 1 :])
    return (*parts, *rest)


def is_free(part: Any) -> bool:
    """Whether a part of an index is neither a number nor an array."""
    return not isinstance(part, indexing.Slot | int)


@lowers(indexing.getitem)
def _(low, x, *indices, index, strict=False):
    if not indices:
        return x.through(lambda a: a[index])
    shape = low.at.out.shape
    base, at = places(low, shape, x, indices, index, not strict)
    return low.compute("", None, Pick(base, at), dtype=x.dtype, shape=shape)


@lowers(indexing.put)
def _(low, g, *indices, index, shape):
    out = low.compute("", None, 0, dtype=g.dtype, shape=shape)
    if indices:
        base, at = places(low, g.shape, out, indices, index)
        low.add(Scatter(None, base, g.shape, Read(g), at))
    else:
        target = out.through(lambda a: a[index])
        low.nest(target, None, Read(g.spread(target.shape)))
    return out


@lowers(indexing.pick)
def _(low, x, index):
    return low.compute("", None, Pick(x, (Index(0), Bounded(Read(index), x.shape[1], False))), dtype=x.dtype,
                       shape=index.shape)  # fmt: skip


@lowers(indexing.concatenate)
def _(low, *xs, axis, ends):
    out = low.new(low.at.out.shape, low.at.out.dtype)
    for x, start, stop in zip(xs, ends, ends[1:], strict=False):
        target = out.through(lambda a, s=slice(start, stop): a[(*(slice(None),) * axis, s)])
        low.nest(target, None, Read(x) if isinstance(x, View) else x)
    return out


@lowers(indexing.pad_by)
def _(low, x, width, value):
    out = low.compute("", None, value, dtype=x.dtype, shape=low.at.out.shape)
    inner = tuple(slice(before, before + n) for (before, _), n in zip(width, x.shape, strict=True))
    low.nest(out.through(lambda a: a[inner]), None, Read(x))
    return out


@lowers(indexing.encode)
def _(low, labels, num_classes, dtype):
    shape = low.at.out.shape
    label = Bounded(Read(labels.through(lambda a: a[..., None]).spread(shape)), shape[-1], False)
    return low.compute("", "equal", label, Index(len(shape) - 1), dtype=dtype, shape=shape)


# Sums and their like


@lowers(reductions.sum)
def _(low, x, axis=None, keepdims=False):
    return low.reduce("", "sum", x, axis, keepdims, low.at.out.dtype)


@lowers(reductions.mean)
def _(low, x, axis=None, keepdims=False):
    out = low.at.out
    total = low.reduce("total", "sum", x, axis, keepdims, out.dtype)
    return low.compute("", "divide", total, float(x.size // (total.size or 1) or math.nan))


@lowers(reductions.prod)
def _(low, x, axis=None, keepdims=False):
    return low.reduce("", "prod", x, axis, keepdims, low.at.out.dtype)


@lowers(reductions.max)
def _(low, x, axis=None, keepdims=False):
    return low.reduce("", "max", x, axis, keepdims)


@lowers(reductions.min)
def _(low, x, axis=None, keepdims=False):
    return low.reduce("", "min", x, axis, keepdims)


def flat_if_all(low, x: View, axis: int | None) -> tuple[View, int]:
    """For an axis of None: all elements in a row."""
    if axis is None:
        return low.tight(x).through(lambda a: np.reshape(a, -1)), 0
    return x, axis % x.ndim


@lowers(reductions.argmax)
def _(low, x, axis=None, keepdims=False):
    x, a = flat_if_all(low, x, axis)
    return low.reduce("", "argmax", x, a, keepdims, np.int64)


@lowers(reductions.argmin)
def _(low, x, axis=None, keepdims=False):
    x, a = flat_if_all(low, x, axis)
    return low.reduce("", "argmin", x, a, keepdims, np.int64)


@lowers(reductions.cumsum)
def _(low, x, axis=None):
    x, a = flat_if_all(low, x, axis)
    out = low.new(x.shape, low.at.out.dtype)
    last = lambda v: v.through(lambda m: np.moveaxis(m, a, -1))  # noqa: E731
    low.add(Running(None, last(out), last(x)))
    return out


def shifted(low, x: View, axis: Any, name: str = "shifted") -> tuple[View, View]:
    """x minus its maximum along an axis, and that maximum (0 where it is not finite)."""
    top = low.reduce("top", "max", x, axis, True)
    finite = low.compute("finite", "less", low.compute("size", "absolute", top), math.inf, dtype=bool)
    top = low.compute("top", "where", finite, top, 0.0, dtype=x.dtype)
    return low.compute(name, "subtract", x, top), top


@lowers(reductions.logsumexp)
def _(low, x, axis=None, keepdims=False):
    below, top = shifted(low, x, axis)
    total = low.reduce("total", "sum", low.compute("exp_shifted", "exp", below), axis, True)
    return low.compute("", "add", low.compute("log_total", "log", total), top)


@lowers(reductions.softmax)
def _(low, x, axis=-1):
    top = low.reduce("top", "max", x, axis, True)
    e = low.compute("exp_shifted", "exp", low.compute("shifted", "subtract", x, top))
    return low.compute("", "divide", e, low.reduce("total", "sum", e, axis, True))


@lowers(reductions.log_softmax)
def _(low, x, axis=-1):
    top = low.reduce("top", "max", x, axis, True)
    below = low.compute("shifted", "subtract", x, top)
    total = low.reduce("total", "sum", low.compute("exp_shifted", "exp", below), axis, True)
    return low.compute("", "subtract", below, low.compute("log_total", "log", total))


@lowers(reductions.cross_entropy_rows)
def _(low, logits, labels):
    top = low.reduce("top", "max", logits, 1, True)
    e = low.compute("exp_shifted", "exp", low.compute("shifted", "subtract", logits, top))
    total = low.reduce("total", "sum", e, 1)
    level = low.compute("log_total", "log", total)
    level = low.compute("level", "add", level, top.through(lambda a: np.reshape(a, -1)))
    right = Pick(logits, (Index(0), Bounded(Read(labels), logits.shape[1], False)))
    return low.compute("", "subtract", level, right)


# Products


def matrix(low, view: View, dtype: Any) -> tuple[View, bool]:
    """A view that BLAS can read, and whether it is given transposed."""
    if view.dtype != dtype:
        return low.copy(view, dtype=dtype), False
    if view.dense:
        return view, False
    turned = view.through(np.transpose)
    return (turned, True) if turned.dense else (low.copy(view), False)


def product(low, a: View, b: View, name: str = "") -> View:
    """(n, k) @ (k, m)"""
    dtype = low.at.out.dtype
    out = low.new((a.shape[0], b.shape[1]), dtype, name)
    (a, a_turned), (b, b_turned) = matrix(low, a, dtype), matrix(low, b, dtype)
    if a_turned and b_turned:
        b, b_turned = low.copy(b.through(np.transpose)), False
    low.add(Matmul(None, out, a, b, "tn" if a_turned else "nt" if b_turned else "nn"))
    return out


@lowers(products.multiply_matrices)
def _(low, a, b):
    if a.ndim == b.ndim == 2 and low.at.out.dtype.kind == "f":
        return product(low, a, b)
    letters = "abcdefgh"[: max(a.ndim, b.ndim) - 2]
    terms = [letters[len(letters) - (x.ndim - 2) :] for x in (a, b)]
    sizes = [dict(zip(term, x.shape, strict=False)) for term, x in zip(terms, (a, b), strict=True)]
    kept = [[c for c in term if size[c] > 1 or c not in other] for term, size, other in
            zip(terms, sizes, sizes[::-1], strict=True)]  # fmt: skip
    trimmed = []
    for x, term, keep in zip((a, b), terms, kept, strict=True):
        index = tuple(slice(None) if c in keep else 0 for c in term)
        trimmed.append(x.through(lambda m, index=index: m[index]))
    left, right = ("".join(k) for k in kept)
    batch = [c for c in letters if c in left or c in right]
    return contraction(low, trimmed, [left + "nk", right + "km"], "".join(batch) + "nm")


@lowers(products.affine)
def _(low, x, weight, bias):
    return low.compute(
        "", "add", product(low, x, weight, f"{low.at.out.name}_product"), bias, dtype=low.at.out.dtype
    )


@lowers(products.contract)
def _(low, *operands, equation):
    left, result = equation.split("->")
    return contraction(low, list(operands), left.split(","), result)


def contraction(low, operands: list[View], terms: list[str], result: str) -> View:
    """Einstein summation as loops: the last letter of the result runs innermost."""
    summed = sorted({c for term in terms for c in term} - set(result))
    order = [*result[:-1], *summed, *result[-1:]]
    sizes = {
        c: n for term, x in zip(terms, operands, strict=True) for c, n in zip(term, x.shape, strict=True)
    }
    domain = tuple(sizes[c] for c in order)
    args = []
    for term, x in zip(terms, operands, strict=True):
        axes = [term.index(c) for c in order if c in term]
        gaps = tuple(slice(None) if c in term else None for c in order)
        args.append(x.through(lambda m, axes=axes, gaps=gaps: np.transpose(m, axes)[gaps]).spread(domain))
    dtype = low.at.out.dtype
    whole = args[0]
    for x in args[1:]:
        whole = low.compute("product", "multiply", whole, x, dtype=dtype, shape=domain)
    axes = tuple(order.index(c) for c in summed)
    return low.reduce("", "sum", whole, axes, dtype=dtype) if axes else low.copy(whole, "")
