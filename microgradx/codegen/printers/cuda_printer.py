"""Statements for CUDA: loops are a stride through the grid, or through the threads of a block.

Sums are taken by one thread each, or by the threads of one block, whichever has more to do. Elements are
places in flat memory: `hidden[128 * i + j]`.
"""

import inspect
import math
import textwrap
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from microgradx import scalars
from microgradx.codegen.ir.loops import Buffer, Compute, Index, Nest, Place, Read, Rows, View
from microgradx.codegen.ir.ops import Gather, Look, Matmul, Running, Scatter, Sweep, Uniform
from microgradx.codegen.ir.tree import (
    AXES,
    INT,
    Axis,
    Body,
    For,
    If,
    Let,
    Line,
    Name,
    Number,
    Operator,
    Reduction,
    Statement,
    Store,
    plus,
)  # fmt: skip
from microgradx.codegen.passes.arithmetic import cast
from microgradx.codegen.passes.collapse import collapsed
from microgradx.codegen.passes.launches import Chunked, Parts
from microgradx.codegen.passes.schedule import Schedule
from microgradx.codegen.passes.statements import added, of_look, of_nest, of_row, of_running
from microgradx.codegen.printers.file import File, wrapped_call
from microgradx.codegen.printers.text import indent
from microgradx.cuda import device_functions
from microgradx.cuda.devices import Shape
from microgradx.kernels import philox

GRID = "range(cuda.grid(1), {}, cuda.gridsize(1))"  # elements, over all threads
BLOCKS = "range(cuda.blockIdx.x, {}, cuda.gridDim.x)"  # results, each by a block
THREADS = "range(cuda.threadIdx.x, {}, cuda.blockDim.x)"  # elements, over the threads of a block


class CudaPrinter(File):
    """Writes the bodies of kernels."""

    sweeping = "count", GRID.format("count"), "first"

    def __init__(self, plan: Schedule, blocks: int, shape: Shape, title: str, taken: Iterable[str]):
        super().__init__(plan, blocks, title, taken)
        self.shape = shape
        self.pointers: dict[str, tuple[Buffer, int]] = {}
        self.words: dict[str, str] = {}  # device functions that the file has
        self.small = False  # whether the step is one kernel, for little work
        self.wanted = 1  # blocks for the items of the stage under way
        self.guarded = any(item.checks for item in plan.items)

    def word(self, name: str, dtype: DTypeLike | None = None, kind: str = "") -> str:
        """The name of a device function, which is copied into the file."""
        dtype = np.dtype(dtype or np.float32)
        suffix = "" if dtype == np.float32 else f"_{dtype.name}"
        called = {"over_block": f"{kind}_of_block", "place_over_block": f"{kind}_of_block"}.get(name, name)
        called += suffix
        if called not in self.words:
            self.words[called] = device_functions.text(
                name, "uint8" if dtype.kind == "b" else dtype.name, called, kind
            )
            if kind in ("max", "min"):
                function = scalars.maximum if kind == "max" else scalars.minimum
                typed = self.library(dtype)
                self.words[called] = self.words[called].replace(function.name, typed.call(function))
        return called

    # Memory

    def pointer(self, buffer: Buffer, offset: int = 0) -> str:
        """The parameter that points to an element of a buffer."""
        name = buffer.name
        if self.pointers.setdefault(name, (buffer, offset)) != (buffer, offset):
            name = f"{name}_from_{offset}"
            self.pointers[name] = buffer, offset
        return self.use(name)

    def element(self, view: View, at: list[str]) -> str:
        """The element of a view at the given indices."""
        name = self.pointer(view.buffer)
        terms = [(s, v) for n, s, v in zip(view.shape, view.strides, at, strict=True) if n > 1]
        if view.buffer.stepped:
            self.use("clock")
            terms = [(view.buffer.size, "step"), *terms]
        return f"{name}[{plus(terms, view.offset)}]"

    def step_number(self, column: int) -> str:
        """A number of the step under way."""
        return f"{self.use('numbers')}[{self.row_of_step(column)}]"

    def row_of_step(self, column: int) -> str:
        """Where a number of this step is."""
        self.use("clock")
        return plus([(max(self.width, 1), "step")], column)

    # Loops

    def want(self, work: int, each: int) -> None:
        """Note how many blocks some work could keep busy."""
        self.wanted = max(self.wanted, -(-work // each))

    def over(self, axes: Iterable[Axis], body: Body) -> For:
        """Loops over elements that the threads of the grid share."""
        axes = tuple(axes)
        self.want(size(axes), self.shape.block)
        return For(axes, body, GRID)

    def loop(self, loop: For) -> list[str]:
        """Loops; where threads share them, one over all of a domain, and a line that finds the indices."""
        if not loop.walk:
            return super().loop(loop)
        head, find = self.shared(loop.axes, loop.walk)
        return [head, *indent([*find, *self.lines(loop.body)])]

    def shared(self, axes: tuple[Axis, ...], walk: str) -> tuple[str, list[str]]:
        """The head of a loop over all of a domain, and the line that finds its indices."""
        name = "r" if "threadIdx" in walk else "e"
        behind = size(axes)
        if len(axes) < 2:
            return f"for {axes[0].name if axes else name} in {walk.format(behind)}:", []
        head, parts = f"for {name} in {walk.format(behind)}:", []
        for k, axis in enumerate(axes):
            behind //= axis.size
            part = name if behind == 1 else f"{name} // {behind}"
            parts.append(part if k == 0 else f"{part} % {axis.size}")
        return head, [f"{', '.join(axis.name for axis in axes)} = {', '.join(parts)}"]

    def nest(self, item: Nest) -> list[str]:
        """Loops around statements, over the threads of the grid or, for long sums, by blocks."""
        chunks = item.chunks if isinstance(item, Chunked) else 1
        (loops,) = of_nest(item if isinstance(item, Chunked) else collapsed(item), self.plan.stored)
        if isinstance(loops, For):
            return self.loop(self.over(loops.axes, loops.body))
        assert isinstance(loops, Reduction)
        many, long = size(loops.kept), size(loops.over)
        if chunks == 1 and long < 4 * self.shape.block and not (long >= 32 and many < 4096):
            return self.loop(self.over(loops.kept, self.by_one(loops)))
        self.want(many * chunks, 1)
        head, find = self.shared(loops.kept + (Axis("c", chunks),) * (chunks > 1), BLOCKS)
        return [head, *indent([*find, *self.by_block(loops, chunks)])]

    def by_block(self, reduction: Reduction, chunks: int = 1) -> list[str]:
        """Reductions by the threads of one block, or of one for each of some parts."""
        walk = THREADS
        if chunks > 1:
            part = -(-size(reduction.over) // chunks)
            walk = f"range({part} * c + cuda.threadIdx.x, min({part} * (c + 1), {{}}), cuda.blockDim.x)"
            places = [replace(i.place, at=(*i.place.at, Name("c"))) for i in reduction.into]
            into = tuple(replace(i, place=p) for i, p in zip(reduction.into, places, strict=True))
        lines = self.lines([*self.begun(reduction), For(reduction.over, reduction.body, walk)])
        for one in reduction.into:
            name, dtype = one.name, one.start.dtype
            if one.kind.startswith("arg"):
                lines.append(
                    f"{name}_at = {self.word('place_over_block', dtype, one.kind)}({name}, {name}_at)"
                )
            else:
                lines.append(f"{name} = {self.word('over_block', dtype, one.kind)}({name})")
        ends = self.finished(replace(reduction, into=into) if chunks > 1 else reduction)
        first = Operator("==", (Name("cuda.threadIdx.x"), Number(0, INT)))
        return [*lines, *(self.statement(If(first, ends)) if ends else [])]

    def rows(self, item: Rows) -> list[str]:
        """Rows that go through several nests: each by a thread, or by a block where they are long."""
        width = sum(math.prod(nest.domain[1:]) for nest in item.nests)
        row, parts = Axis("i", item.rows), of_row(item, self.plan.stored)
        if width <= 16 * self.shape.block // 4 and (width <= 64 or item.rows >= 4096) or racing(item):
            return self.loop(self.over([row], [s for part in parts for s in part]))
        self.want(item.rows, 1)
        lines: list[str] = []
        for k, part in enumerate(parts):
            comments = [s for s in part if isinstance(s, Line)]
            rest = [s for s in part if not isinstance(s, Line)]
            lines += [*self.lines([*comments]), *["cuda.syncthreads()"] * (k > 0)]
            lines += [line for s in rest for line in self.in_row(s)]
        head, _ = self.shared((row,), BLOCKS)
        return [head, *indent(lines)]

    def in_row(self, statement: Statement) -> list[str]:
        """A part of one row by the threads of a block; a number of the row is computed by every thread."""
        match statement:
            case Reduction(kept=()):
                return self.by_block(statement)
            case Reduction():
                return self.loop(For(statement.kept, self.by_one(statement), THREADS))
            case For():
                return self.loop(replace(statement, walk=THREADS))
        return self.statement(statement)

    # Other work

    def matmul(self, item: Matmul) -> list[str]:
        """A call of the tiled product; small ones as loops, a result by a thread."""
        n, m, k = *item.out.shape[-2:], item.inner
        if self.small:
            return self.product(item, n, m, k)
        parts = item.parts if isinstance(item, Parts) else 1
        tiles = math.prod(-(-length // self.shape.tile) for length in (n, m))
        self.want(tiles * parts, 1)
        a = (1, n) if item.form == "tn" else (k, 1)
        b = (1, k) if item.form == "nt" else (m, 1)
        names = [self.pointer(v.buffer, v.offset) for v in (item.out, item.a, item.b)]
        name = self.word("matmul", item.out.dtype)
        self.imports.add(item.out.dtype.name)
        return wrapped_call(name, [*names, *map(str, (n, m, k, parts, *a, *b))])

    def product(self, item: Matmul, n: int, m: int, k: int) -> list[str]:
        """A product of small matrices: its first readers are in the cache, and so are they."""
        a = item.a.through(np.transpose) if item.form == "tn" else item.a
        b = item.b.through(np.transpose) if item.form == "nt" else item.b
        result, out = Name(f"{item.out.buffer.name}_sum", item.out.dtype), Read(item.out)
        left, right = self.element(a, ["i", "p"]), self.element(b, ["p", "j"])
        more: Body = [Line(f"{result.name} = cuda.fma({left}, {right}, {result.name})")]
        sum_up: Body = [Let(result.name, Number(0, result.dtype)), For((Axis("p", k),), more)]
        return self.loop(self.over([Axis("i", n), Axis("j", m)], [*sum_up, Store(out, result)]))

    def sweep(self, item: Sweep) -> list[str]:
        """Call the rule's loop."""
        lifted, count = item.update.sweep.lifted, item.arrays[0].size
        name = self.rule(item.update.sweep)
        self.want(count, self.shape.block)
        args = [str(count), *(self.pointer(v.buffer, v.offset) for v in item.arrays)]
        if lifted.numbers:
            column = self.column(item.update.event, len(lifted.numbers))
            args += [self.use("numbers"), self.row_of_step(column)]
        call = wrapped_call(name, args)
        return [f"if {self.use('status')}[0] == 0:", *indent(call)] if self.guarded else call

    def uniform(self, item: Uniform) -> list[str]:
        """Call the generator."""
        blocks = -(-item.out.size // 4)
        self.want(blocks, self.shape.block)
        if "units" not in self.words:
            source = textwrap.dedent(inspect.getsource(philox.units)).rstrip()
            source = source.replace("units(start, stop,", "units(count,")
            self.words["philox"] = inspect.getsource(philox.philox).rstrip()
            self.words["units"] = source.replace("range(start, stop)", GRID.format("count"))
        out = self.pointer(item.out.buffer, item.out.offset)
        self.use("random")
        if self.blocks:
            self.use("clock")
        at = plus([(1, "random[0]"), (self.blocks, "step")], item.draw.block)
        return [f"units({blocks}, {out}, {at}, random[1], random[2])"]

    def scatter(self, item: Scatter) -> list[str]:
        """Add at computed places: a thread has some places of its own, and looks who adds there, in order."""
        own = {p.axis: k for k, p in enumerate(item.at) if isinstance(p, Index)}
        first = next((k for k, p in enumerate(item.at) if not isinstance(p, Index)), None)
        mine, places = [Axis(AXES[a], item.out.shape[k]) for a, k in own.items()], [*item.at]
        if first is not None:
            mine.append(Axis("c", item.out.shape[first]))
            places[first] = Name("c")
        body: Body = [added(item, tuple(places))]
        if first is not None:
            body = [If(Operator("==", (cast(item.at[first], INT), Name("c"))), body)]
        serial = tuple(Axis(AXES[a], n) for a, n in enumerate(item.domain) if a not in own)
        return self.loop(self.over(mine, [For(serial, body)]))

    def running(self, item: Running) -> list[str]:
        """Sum up along the last axis, a row by a thread."""
        loop = of_running(item)
        return self.loop(self.over(loop.axes, loop.body))

    def look(self, item: Look) -> list[str]:
        """Copy what a ledger watches."""
        return self.lines([self.over(loop.axes, loop.body) for loop in of_look(item)])

    def gather(self, item: Gather) -> list[str]:
        """Copy the rows that the order names."""
        loops: Body = []
        for out, k in item.outs:
            data, width = f"all_{out.buffer.name}", out.size // item.rows
            self.taken.add(data)
            self.pointers[data] = Buffer(data, out.shape, out.dtype, Place("data", k)), 0
            row = plus([(width, f"order[{item.rows} * step + i]"), *[(1, "j")] * (width > 1)], 0)
            place = "e" if width > 1 else "i"
            copy = f"{self.use(out.buffer.name)}[{place}] = {self.use(data)}[{row}]"
            self.pointer(out.buffer)
            axes = [Axis("i", item.rows), *[Axis("j", width)] * (width > 1)]
            loops.append(self.over(axes, [Line(copy, ("order", "clock"))]))
        return self.lines(loops)


def size(axes: Iterable[Axis]) -> int:
    """Elements of a domain."""
    return math.prod(axis.size for axis in axes)


def racing(rows: Rows) -> bool:
    """Whether a number of a row is changed in place, which only one thread may do."""
    for nest in rows.nests:
        if math.prod(nest.domain[1:]) > 1:
            continue
        read = {view.buffer for view, _ in nest.reads()}
        if any(isinstance(s, Compute) and s.out.buffer in read for s in nest.statements):
            return True
    return False
