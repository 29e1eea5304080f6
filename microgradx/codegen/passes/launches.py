"""From items of work to kernels: what may run at the same time is one stage, and a stage is one launch.

Loops are merged as for the CPU. What a GPU adds: long sums and products of few tiles are cut into parts,
which a second, short sum takes together, always in the same order.
"""

import math
from dataclasses import dataclass, field, replace

from microgradx.codegen.ir.loops import (
    Accesses,
    Buffer,
    Compute,
    Item,
    Nest,
    Read,
    Reduce,
    Rows,
    Statement,
    View,
    squeezed,
)
from microgradx.codegen.ir.ops import Gather, Host, Matmul, Sweep
from microgradx.codegen.passes.fuse import fuse, gather_rows, sink, stored
from microgradx.codegen.passes.schedule import Chain, Schedule, settle
from microgradx.codegen.passes.validate import validate_schedule
from microgradx.cuda.cublas import Problem, worth
from microgradx.cuda.devices import Shape

ENOUGH = 128  # blocks that keep a GPU busy


@dataclass(eq=False)
class Chunked(Nest):
    """A nest whose reductions are done for `chunks` parts of what is reduced, each by one block."""

    chunks: int = 1

    @property
    def cuts(self) -> list[int]:
        """None: a row is not one block's."""
        return []

    def makes(self, s: Statement) -> tuple[int, ...]:
        """A result for each part."""
        return super().makes(s) + (self.chunks,) * isinstance(s, Reduce)


@dataclass(eq=False)
class Parts(Matmul):
    """A product of which each of `parts` parts of the inner size is summed up on its own."""

    parts: int = 1

    @property
    def flop(self) -> float:  # type: ignore[override]
        """As much as in one piece."""
        return super().flop / self.parts


@dataclass(eq=False)
class Library(Matmul):
    """A product that a library computes, with a bias and ReLU where they follow it."""

    bias: View | None = None
    relu: bool = False

    def reads(self) -> Accesses:
        """The factors, and the bias."""
        yield from super().reads()
        if self.bias is not None:
            yield self.bias, None


@dataclass(eq=False)
class Stage:
    """Items that need nothing from each other: one kernel."""

    items: list[Item]
    name: str = ""
    blocks: int = 1
    lines: list[str] = field(default_factory=list)  # of the user's code

    @property
    def hosted(self) -> bool:
        """Whether it is NumPy's or the user's, and runs on the host."""
        return isinstance(self.items[0], Host)

    @property
    def library(self) -> bool:
        """Whether it is a product that a library computes."""
        return isinstance(self.items[0], Library)

    @property
    def emitted(self) -> bool:
        """Whether it is a kernel of the file."""
        return not (self.hosted or self.library)

    @property
    def gathers(self) -> bool:
        """Whether it belongs to a scan alone."""
        return isinstance(self.items[0], Gather)


def stages(
    items: list[Item], shape: Shape, cutting: bool = True, library: bool = False
) -> tuple[list[Stage], Schedule]:
    """The stages in order, and what is stored where.

    cutting: with long sums and products in parts; library: with products that a library computes.
    """
    items = fuse(sink(items))
    items = by_library(items) if library else items
    items = [part for item in items for part in cut(item, shape)] if cutting else items
    items = [part for item in gather_rows(items) for part in apart(item)]
    found: list[list[Item]] = []
    level: dict[Buffer, tuple[int, int]] = {}  # of the last writer and the last reader
    alone = -1  # the last stage that is the host's or a scan's
    for item in items:
        reads = {view.buffer for view, _ in item.reads()}
        writes = {view.buffer for view, _ in item.writes()}
        at = alone + 1
        for buffer in reads | writes:
            wrote, read = level.get(buffer, (-1, -1))
            at = max(at, wrote + 1, read + 1 if buffer in writes else 0)
        if isinstance(item, Host | Gather):
            alone = at = len(found)
        while len(found) <= at:
            found.append([])
        found[at].append(item)
        for buffer in reads | writes:
            wrote, read = level.get(buffer, (-1, -1))
            level[buffer] = at if buffer in writes else wrote, at if buffer in reads else read
    found = [part for parts in together(found) for part in alone_each(parts)]
    plan = Schedule([[Chain(1, part, ordered=False)] for part in found], serial=False)
    plan.stored = stored(plan.items)
    plan.arena = settle(plan)
    return [Stage(part) for part in found], validate_schedule(plan, "staging")


def alone_each(part: list[Item]) -> list[list[Item]]:
    """A stage's products of the library one by one, and the rest of it."""
    parts: list[list[Item]] = [[item] for item in part if isinstance(item, Library)]
    rest = [item for item in part if not isinstance(item, Library)]
    return [*parts, rest] if rest else parts


def by_library(items: list[Item]) -> list[Item]:
    """Let the library compute products, with the bias and ReLU that follow where nothing else needs them."""
    result: list[Item] = []
    users: dict[Buffer, int] = {}
    for item in items:
        for buffer in {view.buffer for view, _ in item.reads()}:
            users[buffer] = users.get(buffer, 0) + 1
    for item in items:
        if isinstance(item, Matmul) and worth(item.out.dtype):
            result.append(Library(item.line, item.out, item.a, item.b, item.form))
        elif isinstance(item, Nest) and (product := follows(result, item, users)):
            result.remove(product)
            adding, *relu = item.statements
            assert isinstance(adding, Compute)
            views = (a.view for a in adding.args if isinstance(a, Read))
            bias = next(view for view in views if view.buffer is not product.out.buffer)
            out = item.statements[-1].out
            result.append(Library(product.line, out, product.a, product.b, product.form, bias, bool(relu)))
        else:
            result.append(item)
    return result


def problem(item: Library) -> Problem:
    """What the library has to compute."""
    n, m = item.out.shape
    return Problem(n, m, item.inner, item.form, item.out.dtype.name, item.bias is not None, item.relu)


def operands(item: Library) -> list[tuple[Buffer, int]]:
    """Where the result, the factors and the bias begin."""
    views = [item.out, item.a, item.b, *([item.bias] if item.bias is not None else [])]
    return [(view.buffer, view.offset) for view in views]


def follows(before: list[Item], nest: Nest, users: dict[Buffer, int]) -> Library | None:
    """The product that a nest adds a bias to, and perhaps takes ReLU of, and nobody else reads."""
    names = [getattr(getattr(s, "function", None), "name", "") for s in nest.statements]
    if names not in (["add"], ["add", "relu"]) or len(nest.domain) != 2:
        return None
    adding, last = nest.statements[0], nest.statements[-1]
    assert isinstance(adding, Compute)
    if not all(isinstance(a, Read) for a in adding.args) or not last.out.whole:
        return None
    if len(names) == 2 and (users.get(adding.out.buffer, 0) > 1 or adding.out.buffer.source is not None):
        return None
    written: set[Buffer] = set()  # between the product and the nest
    for product in reversed(before):
        written |= {view.buffer for view, _ in product.writes()}
        if not isinstance(product, Library) or product.bias is not None or not product.out.whole:
            continue
        if written & {product.a.buffer, product.b.buffer}:
            return None
        views = [a.view for a in adding.args if isinstance(a, Read)]
        others = [view for view in views if view.buffer is not product.out.buffer]
        fits = len(others) == 1 and others[0].strides == (0, 1) and others[0].dtype == product.out.dtype
        if fits and others[0].offset == 0 and users.get(product.out.buffer) == 1:
            return product if last.out.dtype == product.out.dtype else None
    return None


def together(found: list[list[Item]]) -> list[list[Item]]:
    """Let all parameters be updated in the last stage that updates any, where nothing reads them before."""
    last = max((k for k, part in enumerate(found) if any(isinstance(i, Sweep) for i in part)), default=0)
    for k, part in enumerate(found[:last]):
        for item in [item for item in part if isinstance(item, Sweep)]:
            own = {view.buffer for view, _ in [*item.reads(), *item.writes()]}
            later = [i for p in found[k + 1 : last + 1] for i in p]
            if not any(v.buffer in own for i in later for v, _ in [*i.reads(), *i.writes()]):
                part.remove(item)
                found[last].append(item)
    return [part for part in found if part]


def apart(item: Item) -> list[Item]:
    """Rows that nothing is summed up in are more parallel as nests of their own."""
    if not isinstance(item, Rows):
        return [item]
    sums = any(isinstance(s, Reduce) for nest in item.nests for s in nest.statements)
    return [item] if sums else list(item.nests)


def cut(item: Item, shape: Shape) -> list[Item]:
    """A long sum, or a product of few tiles, in parts."""
    if isinstance(item, Matmul):
        return cut_product(item, shape)
    if isinstance(item, Nest) and any(isinstance(s, Reduce) for s in item.statements):
        return cut_sums(item, shape)
    return [item]


def cut_product(item: Matmul, shape: Shape) -> list[Item]:
    """Split the inner size where there are fewer tiles than a GPU has processors."""
    tiles = math.prod(-(-n // shape.tile) for n in item.out.shape)
    parts = min(ENOUGH // tiles, item.inner // (4 * shape.step))
    if parts < 2:
        return [item]
    partial = in_parts(item.out, (parts, *item.out.shape))
    product = Parts(item.line, partial.view(), item.a, item.b, item.form, parts)
    return [product, summed(item, partial, item.out, "sum", 0)]


def cut_sums(nest: Nest, shape: Shape) -> list[Item]:
    """Split reductions of many elements to few results."""
    sums = [s for s in nest.statements if isinstance(s, Reduce)]
    axes = sums[0].axes
    long = math.prod(nest.domain[a] for a in axes)
    kept = math.prod(nest.domain) // max(long, 1)
    chunks = min(ENOUGH // max(kept, 1), long // (4 * shape.block))
    if chunks < 2 or any(s.kind.startswith("arg") for s in sums):
        return [nest]
    statements: list[Compute | Reduce] = []
    after: list[Item] = []
    for s in nest.statements:
        if isinstance(s, Reduce):
            partial = in_parts(s.out, (*s.out.shape, chunks))
            after.append(summed(nest, partial, s.out, s.kind, s.out.ndim))
            s = replace(s, out=partial.view())
        statements.append(s)
    return [Chunked(nest.line, nest.domain, statements, chunks), *after]


def in_parts(out: View, shape: tuple[int, ...]) -> Buffer:
    """Where the parts of a result are kept; of parameters and their state there are none."""
    name, phase = f"{out.buffer.name}_parts", "back" if out.buffer.phase == "back" else "forward"
    return Buffer(name, shape, out.dtype, named=False, phase=phase)


def summed(item: Item, partial: Buffer, out: View, kind: str, axis: int) -> Nest:
    """The nest that takes partial results together along an axis."""
    sums: list[Statement] = [Reduce(out, kind, Read(partial.view()), (axis,))]
    return squeezed(Nest(item.line, partial.shape, sums))
