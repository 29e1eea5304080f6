"""The loops of CUDA kernels: a stride through the grid, or through the threads of a block.

Sums are taken by one thread each, or by the threads of one block, whichever has more to do. The statements
inside are those of the CPU's loops, with elements as places in flat memory.
"""

import inspect
import math
import textwrap
from typing import Any

import numpy as np

from microgradx import scalars
from microgradx.codegen.ir.loops import Buffer, Compute, Index, Item, Nest, Read, Reduce, Rows, View
from microgradx.codegen.ir.ops import Gather, Matmul, Scatter, Sweep, Uniform
from microgradx.codegen.passes.collapse import collapsed
from microgradx.codegen.passes.launches import Chunked, Parts
from microgradx.codegen.passes.schedule import Schedule
from microgradx.codegen.printers.cpu_printer import Bodies, indent, wrapped_call
from microgradx.codegen.printers.expressions import AXES, Expressions, plus
from microgradx.cuda import device_functions
from microgradx.cuda.devices import Shape
from microgradx.kernels import philox

ROW = "ROW_OF_STEP"  # stands for where the numbers of a step begin, until all columns are known
GRID = "range(cuda.grid(1), {}, cuda.gridsize(1))"  # elements, over all threads
BLOCKS = "range(cuda.blockIdx.x, {}, cuda.gridDim.x)"  # results, each by a block
THREADS = "range(cuda.threadIdx.x, {}, cuda.blockDim.x)"  # elements, over the threads of a block


class Places(Expressions):
    """Elements as places in flat memory: `hidden[128 * i + j]`."""

    def __init__(self) -> None:
        super().__init__()
        self.pointers: dict[str, tuple[Buffer, int]] = {}

    def pointer(self, buffer: Buffer, offset: int = 0) -> str:
        """The parameter that points to an element of a buffer."""
        name = buffer.name
        if self.pointers.setdefault(name, (buffer, offset)) != (buffer, offset):
            name = f"{name}_from_{offset}"
            self.pointers[name] = buffer, offset
        return self.use(name)

    def element(self, view: View, at: list[str]) -> str:
        """The element of a view at the given indices."""
        buffer = view.buffer
        if buffer.source is not None and buffer.source[0] == "number":
            self.imports.add(buffer.dtype.name)
            self.use("numbers")
            return f"{buffer.dtype.name}(numbers[{self.row(self.column(buffer.source[1], 1))}])"
        name = self.pointer(buffer)
        terms = [(s, v) for n, s, v in zip(view.shape, view.strides, at, strict=True) if n > 1]
        if buffer.stepped:
            self.use("clock")
            terms = [(buffer.size, "step"), *terms]
        return f"{name}[{plus(terms, view.offset)}]"

    def row(self, column: int) -> str:
        """Where a number of this step is; the file's last pass puts the width in."""
        self.use("clock")
        return f"{ROW} + {column}" if column else ROW


class Loops(Bodies):
    """Writes the bodies of kernels, and remembers what they need from the rest of the file."""

    write: Places
    sweeping = "count", GRID.format("count"), "first"

    def __init__(self, plan: Schedule, blocks: int, shape: Shape):
        super().__init__(plan, blocks)
        self.write = Places()
        self.shape = shape
        self.words: dict[str, str] = {}  # device functions that the file has
        self.small = False  # whether the step is one kernel, for little work
        self.wanted = 1  # blocks for the items of the stage under way
        self.guarded = any(item.checks for item in plan.items)

    def word(self, name: str, dtype: Any = None, kind: str = "") -> str:
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
                typed = self.write.library(dtype)
                self.words[called] = self.words[called].replace(function.name, typed.call(function))
        return called

    # Loops

    def want(self, work: int, each: int) -> None:
        """Note how many blocks some work could keep busy."""
        self.wanted = max(self.wanted, -(-work // each))

    def over(self, text: str, name: str, domain: list[tuple[str, int]]) -> tuple[str, list[str]]:
        """The head of a loop over all of a domain, and the line that finds its indices."""
        axes = [(v, n) for v, n in domain if v != "0"]
        if len(axes) < 2:
            variable, n = axes[0] if axes else (name, math.prod(n for _, n in domain))
            return f"for {variable} in {text.format(n)}:", []
        parts, behind = [], math.prod(n for _, n in axes)
        head = f"for {name} in {text.format(behind)}:"
        for k, (_, n) in enumerate(axes):
            behind //= n
            part = name if behind == 1 else f"{name} // {behind}"
            parts.append(part if k == 0 else f"{part} % {n}")
        return head, [f"{', '.join(v for v, _ in axes)} = {', '.join(parts)}"]

    def range(self, n: int, cut: bool) -> str:
        """The range of a loop within a row, or of the loop over rows."""
        return GRID.format(n) if cut else f"range({n})"

    def nest(self, nest: Nest, inside: bool = False) -> list[str]:
        """Loops around statements, over the threads of the grid or, for long sums, by blocks."""
        if inside:
            return super().nest(nest, inside=True)
        nest = nest if isinstance(nest, Chunked) else collapsed(nest)
        at = [AXES[k] if n != 1 else "0" for k, n in enumerate(nest.domain)]
        sums = [s for s in nest.statements if isinstance(s, Reduce)]
        axes = sums[0].axes if sums else ()
        kept = [a for a in range(len(nest.domain)) if a not in axes]
        many = math.prod(nest.domain[a] for a in kept)
        long = math.prod(nest.domain[a] for a in axes)
        chunks = nest.chunks if isinstance(nest, Chunked) else 1
        domain = [(at[a], nest.domain[a]) for a in kept]
        if not sums or (chunks == 1 and long < 4 * self.shape.block and not (long >= 32 and many < 4096)):
            self.want(many, self.shape.block)
            head, find = self.over(GRID, "e", domain)
            body = self.statements(nest, at, True)
            if sums:
                before = [line for s in sums for line in self.begin(s, True, at, kept)]
                after = [line for s in sums for line in self.end(s, at, kept)]
                body = [*before, *Bodies.loops(self, nest, at, axes, body), *after]
            return [head, *indent([*find, *body])]
        self.want(many * chunks, 1)
        head, find = self.over(BLOCKS, "e", [*domain, *([("c", chunks)] if chunks > 1 else [])])
        places = [*(at[a] for a in kept), *(["c"] if chunks > 1 else [])]
        return [head, *indent([*find, *self.by_block(nest, at, axes, kept, places, chunks)])]

    def by_block(
        self, nest: Nest, at: list[str], axes: Any, kept: list[int], places: list[str], chunks: int = 1
    ) -> list[str]:
        """Reductions by the threads of one block."""
        sums = [s for s in nest.statements if isinstance(s, Reduce)]
        lines = [line for s in sums for line in self.begin(s, True, at, kept)]
        domain = [(at[a], nest.domain[a]) for a in axes]
        text, long = THREADS, math.prod(n for _, n in domain)
        if chunks > 1:
            part = -(-long // chunks)
            text = f"range({part} * c + cuda.threadIdx.x, min({part} * (c + 1), {{}}), cuda.blockDim.x)"
        head, find = self.over(text, "r", domain)
        lines += [head, *indent([*find, *self.statements(nest, at, True)])]
        ends: list[str] = []
        for s in sums:
            name, dtype = self.accumulator(s), s.arg.view.dtype if s.kind.startswith("arg") else s.out.dtype
            if s.kind.startswith("arg"):
                lines.append(f"{name}_at = {self.word('place_over_block', dtype, s.kind)}({name}, {name}_at)")
            else:
                lines.append(f"{name} = {self.word('over_block', dtype, s.kind)}({name})")
            ends += self.end(s, places, list(range(len(places))))
        return [*lines, *(["if cuda.threadIdx.x == 0:", *indent(ends)] if ends else [])]

    def add(self, so_far: str, value: str) -> str:
        """Take one more number into a sum."""
        return f"{so_far} += {value}"

    def group(self, rows: Rows) -> list[str]:
        """Rows that go through several nests: each by a thread, or by a block where they are long."""
        width = sum(math.prod(nest.domain[1:]) for nest in rows.nests)
        if width <= 16 * self.shape.block // 4 and (width <= 64 or rows.rows >= 4096) or racing(rows):
            self.want(rows.rows, self.shape.block)
            return super().group(rows)
        self.want(rows.rows, 1)
        self.write.local = {}
        self.enter(rows.nests)
        lines: list[str] = []
        said = rows.line
        for k, nest in enumerate(rows.nests):
            lines += [f"# {nest.line}"] * (nest.line not in (None, said))
            said = nest.line or said
            lines += ["cuda.syncthreads()"] * (k > 0) + self.row(nest)
            local = self.write.local
            self.write.local = {b: x for b, x in local.items() if b in self.numbers_of_rows}
        self.enter([])
        return [f"for i in {BLOCKS.format(rows.rows)}:", *indent(lines)]

    def row(self, nest: Nest) -> list[str]:
        """One row of a nest by the threads of a block."""
        at = ["i", *(AXES[k] if n != 1 else "0" for k, n in enumerate(nest.domain) if k)]
        sums = [s for s in nest.statements if isinstance(s, Reduce)]
        axes = sums[0].axes if sums else ()
        kept = [a for a in range(len(nest.domain)) if a not in axes]
        rest = [a for a in kept if a and nest.domain[a] > 1]
        if sums and not rest:
            return self.by_block(nest, at, axes, kept, [at[a] for a in kept])
        body = self.statements(nest, at, True)
        if sums:
            before = [line for s in sums for line in self.begin(s, True, at, kept)]
            after = [line for s in sums for line in self.end(s, at, kept)]
            body = [*before, *Bodies.loops(self, nest, at, axes, body), *after]
        if not rest:  # a number of the row, which every thread computes for itself
            return body
        head, find = self.over(THREADS, "r", [(at[a], nest.domain[a]) for a in rest])
        return [head, *indent([*find, *body])]

    # Other work

    def item(self, item: Item) -> list[str]:
        """The lines of one item."""
        self.write.local = {}
        if isinstance(item, Matmul):
            return self.matmul(item)
        return super().item(item)

    def matmul(self, item: Matmul) -> list[str]:
        """A call of the tiled product; small ones as loops, a result by a thread."""
        n, m, k = *item.out.shape[-2:], item.inner
        if self.small:
            return self.product(item, n, m, k)
        parts = item.parts if isinstance(item, Parts) else 1
        tiles = math.prod(-(-size // self.shape.tile) for size in (n, m))
        self.want(tiles * parts, 1)
        a = ("1", str(n)) if item.form == "tn" else (str(k), "1")
        b = ("1", str(k)) if item.form == "nt" else (str(m), "1")
        names = [self.write.pointer(v.buffer, v.offset) for v in (item.out, item.a, item.b)]
        name = self.word("matmul", item.out.dtype)
        self.write.imports.add(item.out.dtype.name)
        return wrapped_call(name, [*names, str(n), str(m), str(k), str(parts), *a, *b])

    def product(self, item: Matmul, n: int, m: int, k: int) -> list[str]:
        """A product of small matrices: its first readers are in the cache, and so are they."""
        self.want(n * m, self.shape.block)
        a = item.a.through(np.transpose) if item.form == "tn" else item.a
        b = item.b.through(np.transpose) if item.form == "nt" else item.b
        head, find = self.over(GRID, "e", [("i", n), ("j", m)])
        result, dtype = f"{item.out.buffer.name}_sum", item.out.dtype
        at = ["i" if n > 1 else "0", "p"], ["p", "j" if m > 1 else "0"]
        left, right = self.write.element(a, at[0]), self.write.element(b, at[1])
        body = [f"{result} = {self.write.number(0, dtype)}", f"for p in range({k}):",
                f"    {result} = cuda.fma({left}, {right}, {result})",
                f"{self.write.element(item.out, [at[0][0], at[1][1]])} = {result}"]  # fmt: skip
        return [head, *indent([*find, *body])]

    def sweep(self, item: Sweep) -> list[str]:
        """Call the rule's loop."""
        lifted = item.update.sweep.lifted
        name = self.rule(item.update.sweep)
        p = item.arrays[0]
        self.want(p.size, self.shape.block)
        names = [self.write.pointer(v.buffer, v.offset) for v in item.arrays]
        numbers: list[str] = []
        if lifted.numbers:
            self.write.use("numbers")
            column = self.write.column(item.update.event, len(lifted.numbers))
            numbers = ["numbers", self.write.row(column)]
        call = wrapped_call(name, [str(p.size), *names, *numbers])
        return [f"if {self.write.use('status')}[0] == 0:", *indent(call)] if self.guarded else call

    def uniform(self, item: Uniform) -> list[str]:
        """Call the generator."""
        blocks = -(-item.out.size // 4)
        self.want(blocks, self.shape.block)
        if "units" not in self.words:
            source = textwrap.dedent(inspect.getsource(philox.units)).rstrip()
            source = source.replace("units(start, stop,", "units(count,")
            self.words["philox"] = inspect.getsource(philox.philox).rstrip()
            self.words["units"] = source.replace("range(start, stop)", GRID.format("count"))
        self.write.use("random")
        if self.blocks:
            self.write.use("clock")
        at = plus([(1, "random[0]"), *([(self.blocks, "step")] if self.blocks else [])], item.draw.block)
        out = self.write.pointer(item.out.buffer, item.out.offset)
        return [f"units({blocks}, {out}, {at}, random[1], random[2])"]

    def scatter(self, item: Scatter) -> list[str]:
        """Add at computed places: a thread has some places of its own, and looks who adds there, in order."""
        at = list(AXES[: len(item.domain)])
        own = {p.axis: k for k, p in enumerate(item.at) if isinstance(p, Index)}
        first = next((k for k, p in enumerate(item.at) if not isinstance(p, Index)), None)
        mine = [(at[a], item.out.shape[k]) for a, k in own.items()]
        if first is not None:
            mine.append(("c", item.out.shape[first]))
        self.want(math.prod(n for _, n in mine), self.shape.block)
        head, find = self.over(GRID, "e", mine)
        places = [self.write.operand(p, at)[0] for p in item.at]
        value = self.write.cast(self.write.operand(item.value, at), item.out.dtype)[0]
        add = lambda places: f"{self.write.element(item.out, places)} += {value}"
        if first is None:
            body = [add(places)]
        else:
            target = places[first]
            places[first] = "c"
            body = [f"if {target} == c:", f"    {add(places)}"]
        serial = [k for k in range(len(item.domain)) if k not in own]
        loops = self.plain_loops([item.domain[k] for k in serial], [at[k] for k in serial], body)
        return [head, *indent([*find, *loops])]

    def running(self, out: View, arg: View) -> list[str]:
        """Sum up along the last axis, a row by a thread."""
        at = list(AXES[: arg.ndim])
        value = self.write.cast(self.write.operand(Read(arg), at), out.dtype)[0]
        rows = [(v, n) for v, n in zip(at[:-1], arg.shape[:-1], strict=True)]
        self.want(math.prod(n for _, n in rows), self.shape.block)
        head, find = self.over(GRID, "e", rows)
        body = [f"so_far = {self.write.number(0, out.dtype)}", f"for {at[-1]} in range({arg.shape[-1]}):",
                f"    so_far += {value}", f"    {self.write.element(out, at)} = so_far"]  # fmt: skip
        return [head, *indent([*find, *body])]

    def over_all(self, n: int, body: list[str]) -> list[str]:
        """Numbers in a row, over the threads of the grid."""
        self.want(n, self.shape.block)
        return [f"for i in {GRID.format(n)}:", *indent(body)]

    def gather(self, item: Gather) -> list[str]:
        """Copy the rows that the order names."""
        lines = []
        self.write.use("order")
        self.write.use("clock")
        for out, k in item.outs:
            data = f"all_{out.buffer.name}"
            self.write.taken.add(self.write.use(data))
            self.data[data] = k, out
            width = out.size // item.rows
            self.want(out.size, self.shape.block)
            place = self.write.pointer(out.buffer)
            if width == 1:
                row = f"order[{item.rows} * step + i]"
                lines += [f"for i in {GRID.format(item.rows)}:", f"    {place}[i] = {data}[{row}]"]
            else:
                row = f"{width} * order[{item.rows} * step + i]"
                lines += [f"for e in {GRID.format(out.size)}:", f"    i, j = e // {width}, e % {width}",
                          f"    {place}[e] = {data}[{row} + j]"]  # fmt: skip
        return lines


def racing(rows: Rows) -> bool:
    """Whether a number of a row is changed in place, which only one thread may do."""
    for nest in rows.nests:
        if math.prod(nest.domain[1:]) > 1:
            continue
        read = {view.buffer for view, _ in nest.reads()}
        if any(isinstance(s, Compute) and s.out.buffer in read for s in nest.statements):
            return True
    return False
