"""From loops to statements: what happens to every element, in words that all devices share."""

import math
from collections import Counter
from operator import itemgetter
from typing import Any

import numpy as np

from microgradx.codegen.ir.loops import Bounded, Buffer, Index, Nest, Pick, Read, Reduce, Rows, operands
from microgradx.codegen.ir.loops import Statement as Elementwise
from microgradx.codegen.ir.ops import Look, Running, Scatter
from microgradx.codegen.ir.tree import (
    AXES,
    BOOL,
    INT,
    Accumulate,
    Accumulator,
    Axis,
    Body,
    Checked,
    Comment,
    Element,
    Expression,
    For,
    Let,
    Name,
    Number,
    Operator,
    Reduction,
    Row,
    Store,
    Sum,
)
from microgradx.codegen.passes.arithmetic import Operand, applied, cast
from microgradx.codegen.passes.fuse import arguments, one_per_row


class Statements:
    """Writes loops as statements; `stored` are the buffers that are in memory."""

    def __init__(self, stored: set[Buffer]):
        self.stored = stored
        self.local: dict[Buffer, Name] = {}  # values that are not in memory
        self.passed_on: set[Buffer] = set()  # numbers of the row under way, which stay in variables

    # Loops

    def nest(self, nest: Nest) -> Body:
        """Loops around the statements of a nest."""
        self.local, self.passed_on = {}, set()
        return self.loops(nest, [nest])

    def row(self, rows: Rows) -> Row:
        """What each of some rows goes through."""
        self.local, self.passed_on = {}, one_per_row(rows.nests) - self.stored
        row, said = Row(Axis("i", rows.rows, cut=True)), rows.line
        for nest in rows.nests:
            comment: Body = [Comment(str(nest.line))] if nest.line not in (None, said) else []
            said = nest.line or said
            row.parts.append([*comment, *self.loops(nest, rows.nests, inside=True)])
            self.local = {b: name for b, name in self.local.items() if b in self.passed_on}
        return row

    def loops(self, nest: Nest, together: list[Nest], inside: bool = False) -> Body:
        """The loops of a nest, `inside` those over rows; it shares variables with other nests."""
        axes = [Axis(AXES[a], n, a == nest.axis) for a, n in enumerate(nest.domain)]
        over = next((s.axes for s in nest.statements if isinstance(s, Reduce)), ())
        kept = [a for a in range(len(axes)) if a not in over]
        into = {s: self.accumulator(s, kept) for s in nest.statements if isinstance(s, Reduce)}
        body = self.elements(nest, readings(together), into)
        for s, accumulator in into.items():
            if accumulator.passed_on:
                self.local[s.out.buffer] = Name(accumulator.result.name, s.out.dtype)  # type: ignore
        outer = tuple(axes[a] for a in kept[inside:])
        if not into:
            return [For(outer, body)] if outer or not inside else body
        trailing = all(a < b for a in kept for b in over)
        return [Reduction(outer, tuple(axes[a] for a in over), (*into.values(),), body, trailing)]

    def elements(self, nest: Nest, uses: Counter[Buffer], into: dict[Reduce, Accumulator]) -> Body:
        """The statements of a nest for one element."""
        at = variables(len(nest.domain))
        body: Body = []
        behind: dict[Buffer, set[Buffer]] = {}  # the memory that an expression written where it is used reads
        for k, s in enumerate(nest.statements):
            if isinstance(s, Reduce):
                body.append(self.accumulate(s, into[s], nest.domain))
                continue
            value = applied(s.function, [self.operand(a, at) for a in s.args], s.constants, s.out.dtype)
            buffer = s.out.buffer
            reads = set().union(*(behind.get(v.buffer, {v.buffer}) for v in operands(s.args)))
            behind[buffer] = set()
            if buffer in self.stored:
                body.append(Store(Element(s.out, at), value))
                behind[buffer] = {buffer}
                continue
            once = uses[buffer] == 1 and not buffer.named and lasts(nest.statements[k + 1 :], buffer, reads)
            if once:
                behind[buffer] = reads
            body.append(Let(buffer.name, value, once))
            self.local[buffer] = Name(buffer.name, s.out.dtype)
        return body

    # Reductions

    def accumulator(self, s: Reduce, kept: list[int]) -> Accumulator:
        """Where a reduction is taken up."""
        buffer, passed_on = s.out.buffer, s.out.buffer in self.passed_on
        name = buffer.name + ("" if passed_on else "_sum" if s.kind == "sum" else "_so_far")
        place = Element(s.out, tuple(Name(AXES[a]) for a in kept))
        return Accumulator(name, place, s.kind, Number(beginning(s), taken_in(s)), passed_on)

    def accumulate(self, s: Reduce, into: Accumulator, domain: tuple[int, ...]) -> Accumulate:
        """Take one more element into a reduction."""
        value = cast(self.operand(s.arg, variables(len(domain))), taken_in(s))
        place = Sum(tuple((math.prod(domain[b] for b in s.axes if b > a), AXES[a]) for a in s.axes))
        first: Expression | None = None
        if s.kind.startswith("arg"):
            zeros = tuple(Operator("==", (Name(AXES[a]), Number(0, INT)), BOOL) for a in s.axes)
            first = Operator("and", zeros, BOOL) if len(zeros) > 1 else zeros[0]
        return Accumulate(into, value, place, first)

    # Other work

    def added(self, item: Scatter) -> tuple[list[Expression], Expression]:
        """Of a scattered sum: the place that one element is added to, and what is added."""
        at = variables(len(item.domain))
        value = cast(self.operand(item.value, at), item.out.dtype)
        return [index(self.operand(place, at)) for place in item.at], value

    def running(self, item: Running) -> For:
        """Sum up along the last axis, for each row on its own."""
        axes = tuple(Axis(AXES[k], n) for k, n in enumerate(item.arg.shape))
        at, zero = variables(len(axes)), Number(0, item.out.dtype)
        so_far = Accumulator("so_far", Element(item.out, at), "prefix", zero)
        value = cast(self.operand(Read(item.arg), at), item.out.dtype)
        inner: Body = [Accumulate(so_far, value, Sum(())), Store(so_far.place, so_far.so_far)]
        return For(axes[:-1], [Let("so_far", zero), For(axes[-1:], inner)])

    def look(self, item: Look) -> list[For]:
        """Copy what a ledger watches: numbers at computed places, a loop for each part."""
        loops, at = [], variables(1)
        for columns, rows in item.parts:
            places = item.positions.through(itemgetter(columns))
            body: Body = [
                Store(Element(item.out.through(itemgetter((row, columns))), at),
                      Element(array, (Element(places, at),)))
                for row, array in rows
            ]  # fmt: skip
            loops.append(For((Axis("i", places.size),), body))
        return loops

    def operand(self, arg: Any, at: tuple[Name, ...]) -> Operand:
        """An operand where the loops stand; plain numbers stay plain."""
        match arg:
            case Read(view):
                return self.local.get(view.buffer) or Element(view, at)
            case Index(axis):
                return at[axis]
            case Bounded(int(inner), size, wrap):
                return Number(inner % size if wrap else inner, INT)
            case Bounded(inner, size, wrap):
                return Checked(index(self.operand(inner, at)), size, wrap)
            case Pick(view, places):
                return Element(view, tuple(index(self.operand(p, at)) for p in places))
        return arg


def index(x: Operand) -> Expression:
    """An operand as a whole number."""
    return Number(x, INT) if isinstance(x, int | float) else x


def variables(ndim: int) -> tuple[Name, ...]:
    """The loop variables of a domain."""
    return tuple(Name(variable) for variable in AXES[:ndim])


def taken_in(s: Reduce) -> np.dtype:
    """The dtype that a reduction takes its elements in."""
    return s.arg.view.dtype if s.kind.startswith("arg") else s.out.dtype


def beginning(s: Reduce) -> float:
    """What a reduction begins with."""
    dtype = taken_in(s)
    if s.kind in ("sum", "prod"):
        return s.kind == "prod"
    lowest = s.kind.endswith("max")
    if dtype.kind == "f":
        return -math.inf if lowest else math.inf
    if dtype.kind == "b":
        return not lowest
    return int(np.iinfo(dtype).min if lowest else np.iinfo(dtype).max)


def readings(nests: list[Nest]) -> Counter[Buffer]:
    """How often the statements of some nests read each buffer."""
    return Counter(view.buffer for nest in nests for arg in nest.args() for view in operands((arg,)))


def lasts(later: list[Elementwise], buffer: Buffer, reads: set[Buffer]) -> bool:
    """Whether all that a value was computed from is still in memory where later statements use the value."""
    for s in later:
        if any(view.buffer is buffer for view in operands(arguments(s))):
            return True
        if s.out.buffer in reads:
            return False
    return False
