"""Statements for the CPU: loops over the rows of a piece, blocks of memory with an index for every axis."""

import math
from collections.abc import Iterable

from microgradx.codegen.ir.loops import Buffer, Place, Rows, View
from microgradx.codegen.ir.ops import Gather, Look, Matmul, Running, Scatter, Sweep, Uniform
from microgradx.codegen.ir.tree import AXES, Accumulator, Axis, Body, For, Line, plus
from microgradx.codegen.passes.schedule import Schedule
from microgradx.codegen.passes.statements import added, of_look, of_row, of_running
from microgradx.codegen.printers.file import File, wrapped_call
from microgradx.codegen.printers.text import indent, times
from microgradx.kernels.strided import contiguous


class CpuPrinter(File):
    """Writes the functions of a CPU's file: each for all rows, or for those from `start` to `stop`."""

    sweeping = "start, stop", "range(start, stop)", "step, first"
    whole = True  # whether the function under way does all rows

    def __init__(self, plan: Schedule, blocks: int, title: str, taken: Iterable[str]):
        super().__init__(plan, blocks, title, taken)
        self.names: dict[Buffer, str] = {}
        self.placed: dict[str, tuple[Buffer, int, tuple[int, ...]]] = {}  # name -> buffer, offset, shape
        self.vocabulary: set[str] = {"block", "block_at"}  # of the runtime

    # Memory

    def block(self, buffer: Buffer, offset: int = 0, shape: tuple[int, ...] | None = None) -> str:
        """The name of a buffer, or of a part of it under another shape."""
        shape = buffer.shape if shape is None else shape
        if buffer not in self.names:
            first = shape if not offset and math.prod(shape) == buffer.size else buffer.shape
            self.names[buffer] = buffer.name
            self.placed[buffer.name] = (buffer, 0, first)
        name = self.names[buffer]
        if (offset, shape) != (0, self.placed[name][2]):
            known = (other for other, what in self.placed.items() if what == (buffer, offset, shape))
            if not (found := next(known, "")):
                size = "flat" if len(shape) == 1 else "x".join(map(str, shape))
                found = self.name(f"{name}_{size}" + f"_from_{offset}" * (offset > 0))
                self.placed[found] = (buffer, offset, shape)
            name = found
        return self.use(name)

    def element(self, view: View, at: list[str]) -> str:
        """`hidden[i, j]`, or a place in a row where no index per axis says it."""
        buffer, places = view.buffer, per_axis(view, at)
        if places is None:
            terms = [(s, v) for n, s, v in zip(view.shape, view.strides, at, strict=True) if n > 1]
            return f"{self.block(buffer, 0, (buffer.size,))}[{plus(terms, view.offset)}]"
        name = self.block(buffer, 0, buffer.shape)
        places = [self.use("step"), *places] if buffer.stepped else places
        return f"{name}[{', '.join(places) or '0'}]"

    def step_number(self, column: int) -> str:
        """A number of the step under way."""
        return f"{self.use('numbers')}[{self.use('step')}, {column}]"

    # Loops

    def range(self, axis: Axis) -> str:
        """The rows of a piece along the axis that is cut."""
        return "range(start, stop)" if axis.cut and not self.whole else f"range({axis.size})"

    def bounds(self, row: int, size: int) -> str:
        """From where to where a function of `size` numbers goes, of which each row has `row`."""
        return f"0, {size}" if self.whole else f"{times(row, 'start')}, {times(row, 'stop')}"

    def add(self, target: str, value: str, into: Accumulator) -> str:
        """Take one more number into a sum; where it is a variable, in any order."""
        if into.kind == "sum" and not into.in_memory and into.start.dtype.kind == "f":
            self.vocabulary.add("plus")
            return f"{target} = plus({target}, {value})"
        return super().add(target, value, into)

    def rows(self, item: Rows) -> list[str]:
        """One loop over rows around the rest of several nests."""
        body = [statement for part in of_row(item, self.plan.stored) for statement in part]
        return self.loop(For((Axis("i", item.rows, cut=True),), body))

    # Other work

    def matmul(self, item: Matmul) -> list[str]:
        """Call the product, for some rows of the result."""
        name = {"nn": "matmul", "nt": "matmul_nt", "tn": "matmul_tn"}[item.form]
        self.vocabulary.add(name)
        blocks = [self.block(v.buffer, v.offset, v.shape) for v in (item.out, item.a, item.b)]
        return [f"{name}({', '.join(blocks)}, {self.bounds(1, item.out.shape[0])})"]

    def sweep(self, item: Sweep) -> list[str]:
        """Call the rule's loop."""
        lifted, p = item.update.sweep.lifted, item.arrays[0]
        name = self.rule(item.update.sweep)
        args = [self.bounds(p.size // max(item.rows, 1), p.size), *map(self.flat, item.arrays)]
        first = self.column(item.update.event, len(lifted.numbers))
        if lifted.numbers:
            args += [self.use("numbers"), self.use("step"), str(first)]
            self.imports.add(lifted.dtype)
        return wrapped_call(name, args)

    def flat(self, view: View) -> str:
        """A view as elements in a row."""
        self.vocabulary.add("flat")
        return f"flat({self.block(view.buffer, view.offset, view.shape)})"

    def uniform(self, item: Uniform) -> list[str]:
        """Call the generator, which makes four numbers at a time."""
        self.vocabulary.add("units")
        out = item.out
        bounds = self.bounds(out.size // max(item.rows, 1) // 4, -(-out.size // 4))
        name = self.flat(out.buffer.view())
        at = plus([(1, f"{self.use('random')}[0]"), (self.blocks, self.use("step"))], item.draw.block)
        return [f"units({bounds}, {name}, {at}, random[1], random[2])"]

    def scatter(self, item: Scatter) -> list[str]:
        """Add one after the other."""
        axes = tuple(Axis(AXES[k], n) for k, n in enumerate(item.domain))
        return self.loop(For(axes, [added(item, item.at)]))

    def running(self, item: Running) -> list[str]:
        """Sum up along the last axis."""
        return self.loop(of_running(item))

    def look(self, item: Look) -> list[str]:
        """Copy what a ledger watches; no loop around a single number."""
        loops = of_look(item)
        return self.lines([s for loop in loops for s in ([loop] if loop.axes[0].size > 1 else loop.body)])

    def gather(self, item: Gather) -> list[str]:
        """Copy the rows that the order names, in a scan."""
        row = f"row = order[{item.rows} * step + i]"
        body: Body = [Line(row, ("order", "step"))]
        for out, k in item.outs:
            data, at = self.data(out.buffer, k), list(AXES[: out.ndim])
            axes = tuple(Axis(AXES[a], n) for a, n in enumerate(out.shape) if a)
            copy = f"{self.element(out, at)} = {data}[{', '.join(['row', *at[1:]])}]"
            body.append(For(axes, [Line(copy, (data,))]))
        head = f"if {self.use('gathering')}:"
        return [head, *indent(self.loop(For((Axis("i", item.rows, cut=True),), body)))]

    def data(self, buffer: Buffer, number: int) -> str:
        """The name of the whole data that an argument has some rows of."""
        name = f"all_{buffer.name}"
        self.taken.add(name)
        self.placed[name] = Buffer(name, buffer.shape, buffer.dtype, Place("data", number)), 0, buffer.shape
        return name


def per_axis(view: View, at: list[str]) -> list[str] | None:
    """An index for every axis of the buffer; None where only a flat one says it."""
    buffer, rest = view.buffer, view.offset
    if not buffer.size:
        return ["0"] * len(buffer.shape)  # in loops that never run
    parts: list[list[tuple[int, str]]] = [[] for _ in buffer.shape]
    spans = [[0, 0] for _ in buffer.shape]
    offsets = []
    steps = contiguous(buffer.shape)
    for step in steps:
        offsets.append(rest // step if step else 0)
        rest -= offsets[-1] * step
    for n, stride, variable in zip(view.shape, view.strides, at, strict=True):
        if n == 1 or stride == 0:
            continue
        for axis, (step, size) in enumerate(zip(steps, buffer.shape, strict=True)):
            if size > 1 and stride % step == 0:
                factor = stride // step
                parts[axis].append((factor, variable))
                spans[axis][factor > 0] += factor * (n - 1)
                break
        else:
            return None
    for size, offset, (low, high) in zip(buffer.shape, offsets, spans, strict=True):
        if offset + low < 0 or offset + high >= max(size, 1):
            return None
    return [plus(part, offset) for part, offset in zip(parts, offsets, strict=True)]
