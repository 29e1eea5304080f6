"""Expressions and statements as text: plain arithmetic, with brackets where a careful person would put them.

`Text` writes the tree down and remembers what the rest of the file needs for it: names, imports, functions.
How an element looks, how a loop is walked and how a sum is taken up is for the printers of the devices.
"""

import math

import numpy as np

from microgradx import scalars
from microgradx.codegen.ir import tree
from microgradx.codegen.ir.loops import Bounded, Buffer, Index, Pick, Read, View
from microgradx.codegen.ir.tree import AXES, BOOL, INT, Axis, Body, Expression, Name, Number, plus
from microgradx.codegen.passes.arithmetic import Operand, cast
from microgradx.kernels.source import Typed, take_name, text, word
from microgradx.scalars import Elementwise

LEVELS = {
    "**": 1, "*": 2, "/": 2, "+": 3, "-": 3, "&": 4, "|": 5, "<": 6, "<=": 6, ">": 6, ">=": 6, "==": 6,
    "!=": 6, "not": 7, "and": 8, "or": 9,
}  # fmt: skip
"""How loosely each operator binds; 0 are names, numbers and calls."""

CHOICE = 10  # how loosely `a if condition else b` binds
SHORT = 50  # characters of an expression that needs no name of its own


class Text:
    """Writes trees, and remembers which names, functions and numbers they use."""

    def __init__(self) -> None:
        self.typed: dict[str, Typed] = {}
        self.taken: set[str] = set()
        self.used: dict[str, None] = {}  # names that the function under way uses, in order
        self.local: dict[Buffer, tuple[str, int]] = {}  # values that are not in memory
        self.imports: set[str] = set()
        self.columns: dict[int, int] = {}  # first column of the numbers of an event
        self.width = 0  # columns so far

    # Names

    def name(self, base: str) -> str:
        """A name that is free in the file."""
        return take_name(base, self.taken)

    def use(self, name: str) -> str:
        """Note that the function under way needs a name."""
        self.used[name] = None
        return name

    def column(self, event: int, count: int) -> int:
        """Where the numbers of an event begin."""
        if event not in self.columns:
            self.columns[event] = self.width
            self.width += count
        return self.columns[event]

    # Expressions

    def text(self, expression: Operand, level: int = CHOICE) -> str:
        """An expression, in brackets where it binds more loosely than what stands around it."""
        written, own = self.leveled(expression)
        return written if own <= level else f"({written})"

    def leveled(self, expression: Operand) -> tuple[str, int]:
        """An expression, and how loosely its outermost operator binds."""
        match expression:
            case Name(name):
                return name, 0
            case Number(value, dtype):
                return self.number(value, dtype), 0
            case Index(axis):
                return AXES[axis], 0
            case Read(view):
                return self.local.get(view.buffer) or (self.place(view, [*AXES[: view.ndim]]), 0)
            case Pick(view, at):
                return self.place(view, [self.text(index) for index in at]), 0
            case Bounded(int(index), size, wrap):
                return str(index % size if wrap else index), 0
            case Bounded(index, size, wrap):
                function = "inside" if wrap else "within"
                self.imports.add(function)
                return f"{function}({self.text(index)}, {size}, {self.use('status')})", 0
            case tree.Cast(arg, dtype):
                self.imports.add(dtype.name)
                return f"{dtype.name}({self.text(arg)})", 0
            case tree.Choose(condition, yes, no):
                return f"{self.text(yes, 7)} if {self.text(condition, 7)} else {self.text(no, 7)}", CHOICE
            case tree.Operator(sign, args):
                return self.operator(sign, *args)
            case tree.Apply(function, args, constants, dtype):
                return self.applied(function, [self.leveled(a) for a in args], constants, dtype)
        raise TypeError(expression)

    def operator(self, sign: str, *args: Expression) -> tuple[str, int]:
        """An operator with what it works on."""
        level = LEVELS[sign]
        if sign == "not":
            return f"not {self.text(args[0], 6)}", level
        if sign == "**":
            return f"{self.text(args[0], 0)}**{self.text(args[1], 0)}", level
        if len(args) == 1:
            return f"-{self.text(args[0], 1)}", 2
        if level == 6:
            return f"{self.text(args[0], 5)} {sign} {self.text(args[1], 5)}", level
        if sign in ("and", "or"):
            return f" {sign} ".join(self.text(arg, 7) for arg in args), level
        return f"{self.text(args[0], level)} {sign} {self.text(args[1], level - 1)}", level

    def applied(
        self,
        function: Elementwise,
        args: list[tuple[str, int]],
        constants: tuple[float, ...],
        dtype: np.dtype,
    ) -> tuple[str, int]:
        """A call of an elementwise function, which is written out beside it."""
        (first, level), name = args[0], word(function)
        if name == "absolute":
            return f"abs({first})", 0
        if name == "square" and level == 0 and "(" not in first:
            return f"{first} * {first}", 2
        typed = self.library(dtype)
        extra = [text(typed.cast(value)) for value in constants]
        return f"{typed.call(function)}({', '.join([*(a for a, _ in args), *extra])})", 0

    def library(self, dtype: np.dtype) -> Typed:
        """The functions of one dtype that have been written out so far; the first needs no suffix."""
        if dtype.name not in self.typed:
            self.typed[dtype.name] = Typed(nothing, dtype.name, f"_{dtype.name}" if self.typed else "")
        return self.typed[dtype.name]

    def number(self, value: float, dtype: np.dtype) -> str:
        """A plain number in a dtype."""
        if dtype == BOOL:
            return str(bool(value))
        if dtype.kind in "iu":
            return repr(int(value))
        self.imports.add(dtype.name)
        value = float(str(np.float32(value))) if dtype == np.float32 else float(value)
        if not math.isfinite(value):
            self.imports.add("nan" if math.isnan(value) else "inf")
        short = repr(value).removesuffix(".0") if abs(value) < 1e15 else repr(value)
        return f"{dtype.name}({short})"

    def place(self, view: View, at: list[str]) -> str:
        """The element of a view at the given indices."""
        buffer = view.buffer
        if (event := buffer.number("number")) is not None:
            self.imports.add(buffer.dtype.name)
            return f"{buffer.dtype.name}({self.step_number(self.column(event, 1))})"
        return self.element(view, at)

    # Statements

    def lines(self, body: Body) -> list[str]:
        """The lines of some statements."""
        return [line for statement in body for line in self.statement(statement)]

    def statement(self, statement: tree.Statement) -> list[str]:
        """The lines of a statement."""
        match statement:
            case tree.Let(name, value, buffer, once):
                words, level = self.leveled(value)
                short = once and len(words) < SHORT
                if buffer is not None:
                    self.local[buffer] = (words, level) if short else (name, 0)
                return [] if short else [f"{name} = {words}"]
            case tree.Store(place, value):
                words = self.text(value)
                return [f"{self.place_of(place)} = {words}"]
            case tree.If(condition, body):
                return [f"if {self.text(condition)}:", *indent(self.lines(body))]
            case tree.Line(words, uses):
                self.used |= dict.fromkeys(uses)
                return [words]
            case tree.Accumulate(into, value):
                return self.accumulate(into, value)
            case tree.For():
                return self.loop(statement)
            case tree.Reduction():
                return self.reduction(statement)
        raise TypeError(statement)

    def place_of(self, place: Read | Pick) -> str:
        """Where a value is stored."""
        at = place.at if isinstance(place, Pick) else map(Index, range(place.view.ndim))
        return self.place(place.view, [self.text(index) for index in at])

    def accumulate(self, into: tree.Accumulator, value: Expression) -> list[str]:
        """Take one more number into a reduction."""
        target = self.text(into.so_far)
        if into.kind in ("max", "min"):
            function = scalars.maximum if into.kind == "max" else scalars.minimum
            more = tree.Apply(function, (into.so_far, value), (), into.start.dtype)
            return [f"{target} = {self.text(more)}"]
        return [self.add(target, self.text(value), into)]

    def by_one(self, reduction: tree.Reduction) -> Body:
        """A reduction in variables, in loops."""
        loop = tree.For(reduction.over, reduction.body)
        return [*self.begun(reduction), loop, *self.finished(reduction)]

    def begun(self, reduction: tree.Reduction) -> Body:
        """What the variables of a reduction begin with."""
        body: Body = []
        for into in reduction.into:
            body.append(tree.Let(into.name, into.start))
            body += [tree.Let(into.result.name, Number(0, INT))] * into.kind.startswith("arg")
        return body

    def finished(self, reduction: tree.Reduction) -> Body:
        """Where the results of a reduction go: some stay in their variables."""
        body: Body = []
        for into in reduction.into:
            if into.passed_on:
                self.local[into.place.view.buffer] = into.result.name, 0
            else:
                body.append(tree.Store(into.place, cast(into.result, into.place.dtype)))
        return body

    # What the devices have each in their way

    def element(self, view: View, at: list[str]) -> str:
        """The element of a view in memory."""
        raise NotImplementedError

    def step_number(self, column: int) -> str:
        """A number of the step under way."""
        raise NotImplementedError

    def add(self, target: str, value: str, into: tree.Accumulator) -> str:
        """Take one more number into a sum or a product."""
        return f"{target} {'*' if into.kind == 'prod' else '+'}= {value}"

    def loop(self, loop: tree.For) -> list[str]:
        """The lines of loops."""
        body = self.lines(loop.body)
        for axis in reversed(loop.axes):
            body = [f"for {axis.name} in {self.range(axis)}:", *indent(body)]
        return body

    def range(self, axis: Axis) -> str:
        """The steps of a loop variable."""
        return f"range({axis.size})"

    def reduction(self, reduction: tree.Reduction) -> list[str]:
        """The lines of a reduction: in variables where they can be, or in memory, row after row."""
        if reduction.trailing:
            return self.loop(tree.For(reduction.kept, self.by_one(reduction)))
        for into in reduction.into:
            into.in_memory = True
        start: Body = [tree.Store(into.place, into.start) for into in reduction.into]
        both = sorted([*reduction.kept, *reduction.over], key=lambda axis: axis.name)
        return self.lines([tree.For(reduction.kept, start), tree.For(tuple(both), reduction.body)])


def nothing() -> None:
    """Where functions that are written out have no surroundings of their own."""


def times(factor: int, name: str) -> str:
    """`3 * name`, or the name."""
    return plus([(factor, name)])


def indent(lines: list[str]) -> list[str]:
    """One level further in."""
    return ["    " + line for line in lines]
