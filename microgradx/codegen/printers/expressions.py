"""Statements on single elements as text: plain arithmetic, with the names of the program's values."""

import math
from typing import Any

import numpy as np

from microgradx.codegen.ir.loops import Bounded, Buffer, Index, Pick, Read, View
from microgradx.kernels.source import Typed, text, word
from microgradx.kernels.strided import contiguous

AXES = "ijklmnopqrst"
"""The loop variables of the axes of a domain."""

Expression = tuple[Any, int, np.dtype]
"""Text, how loosely its outermost operator binds (0 for a name or a call), and its dtype."""

INFIX = {
    "multiply": ("*", 2), "divide": ("/", 2), "add": ("+", 3), "subtract": ("-", 3), "less": ("<", 6),
    "less_equal": ("<=", 6), "greater": (">", 6), "greater_equal": (">=", 6), "equal": ("==", 6),
    "not_equal": ("!=", 6), "logical_and": ("&", 4), "logical_or": ("|", 5),
}  # fmt: skip
BOOL = np.dtype(bool)


def wrapped(expression: Expression, level: int) -> str:
    """The text, in brackets where it binds more loosely than what stands around it."""
    return expression[0] if expression[1] <= level else f"({expression[0]})"


class Expressions:
    """Writes operands and functions of them, and remembers which blocks and functions they use."""

    def __init__(self) -> None:
        self.typed: dict[str, Typed] = {}
        self.names: dict[Buffer, str] = {}
        self.taken: set[str] = set()
        self.blocks: dict[str, tuple[Buffer, int, tuple[int, ...]]] = {}  # name -> buffer, offset, shape
        self.used: dict[str, None] = {}  # names that the function under way uses, in order
        self.local: dict[Buffer, Expression] = {}  # values that are not in memory
        self.imports: set[str] = set()
        self.columns: dict[int, int] = {}  # first column of the numbers of an event
        self.width = 0  # columns so far

    def column(self, event: int, count: int) -> int:
        """Where the numbers of an event begin."""
        if event not in self.columns:
            self.columns[event] = self.width
            self.width += count
        return self.columns[event]

    # Names of memory

    def name(self, base: str) -> str:
        """A name that is free in the file."""
        name, n = base, 1
        while name in self.taken:
            n += 1
            name = f"{base}_{n}"
        self.taken.add(name)
        return name

    def block(self, buffer: Buffer, offset: int = 0, shape: tuple[int, ...] | None = None) -> str:
        """The name of a buffer, or of a part of it under another shape."""
        shape = buffer.shape if shape is None else shape
        if buffer not in self.names:
            first = shape if not offset and math.prod(shape) == buffer.size else buffer.shape
            self.names[buffer] = buffer.name
            self.blocks[self.names[buffer]] = (buffer, 0, first)
        name = self.names[buffer]
        if (offset, shape) != (0, self.blocks[name][2]):
            for known, what in self.blocks.items():
                if what == (buffer, offset, shape):
                    name = known
                    break
            else:
                size = "flat" if len(shape) == 1 else "x".join(map(str, shape))
                name = self.name(f"{name}_{size}" + f"_from_{offset}" * (offset > 0))
                self.blocks[name] = (buffer, offset, shape)
        return self.use(name)

    def use(self, name: str) -> str:
        """Note that the function under way needs a name."""
        self.used[name] = None
        return name

    def element(self, view: View, at: list[str]) -> str:
        """`hidden[i, j]`: the element of a view at the given indices."""
        buffer = view.buffer
        if buffer.source is not None and buffer.source[0] == "number":
            self.imports.add(buffer.dtype.name)
            self.use("numbers")
            self.use("step")
            return f"{buffer.dtype.name}(numbers[step, {self.column(buffer.source[1], 1)}])"
        places = self.per_axis(view, at)
        if places is None:
            flat = self.block(buffer, 0, (buffer.size,))
            place = plus(
                [(s, v) for n, s, v in zip(view.shape, view.strides, at, strict=True) if n > 1], view.offset
            )
            return f"{flat}[{place}]"
        name = self.block(buffer, 0, buffer.shape)
        places = [self.use("step"), *places] if buffer.stepped else places
        return f"{name}[{', '.join(places) or '0'}]"

    def per_axis(self, view: View, at: list[str]) -> list[str] | None:
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

    # Operands

    def operand(self, arg: Any, at: list[str]) -> Expression:
        """An operand where the loops stand."""
        match arg:
            case Read(view):
                local = self.local.get(view.buffer)
                return local or (self.element(view, at), 0, view.dtype)
            case Index(axis):
                return at[axis], 0, np.dtype(np.int64)
            case Bounded(inner, size, wrap):
                if isinstance(inner, int):
                    return str(inner % size if wrap else inner), 0, np.dtype(np.int64)
                function = "inside" if wrap else "within"
                self.imports.add(function)
                index = self.operand(inner, at)[0]
                return f"{function}({index}, {size}, {self.use('status')})", 0, np.dtype(np.int64)
            case Pick(view, places):
                return self.element(view, [self.operand(p, at)[0] for p in places]), 0, view.dtype
        return arg, -1, np.dtype(type(arg))  # a plain number: its dtype depends on what stands beside it

    def function(
        self, function: Any, args: list[Expression], constants: dict[str, Any], dtype: np.dtype
    ) -> Expression:
        """A function of operands, in the dtype that NumPy would compute it in."""
        if function is None:
            return self.cast(args[0], dtype)
        name = word(function)
        given = [a[2] for a in args if a[1] >= 0]
        kind = np.result_type(*given) if given else dtype
        if name == "where":
            condition = self.cast(args[0], BOOL)
            a, b = (wrapped(self.cast(x, dtype), 7) for x in args[1:])
            return f"{a} if {wrapped(condition, 7)} else {b}", 8, dtype
        if dtype.kind == "f" and name not in ("equal",):
            kind = dtype if kind.kind == "f" else np.dtype(np.float64) if kind.kind in "iu" else dtype
        if name.startswith("logical"):
            kind = BOOL
        elif kind == BOOL:
            kind = np.dtype(np.int64)
        if any(a[1] < 0 and isinstance(a[0], float) for a in args) and kind.kind in "iu":
            kind = np.dtype(np.float64)
        args = [
            self.power(a, kind) if name == "power" and k else self.cast(a, kind) for k, a in enumerate(args)
        ]
        made = BOOL if dtype == BOOL else kind
        if name in INFIX:
            sign, level = INFIX[name]
            a, b = wrapped(args[0], level), wrapped(args[1], level - 1)
            result = (f"{a} {sign} {b}", level, made)
            if level == 6:
                made = result[2]
                result = (f"{wrapped(args[0], 5)} {sign} {wrapped(args[1], 5)}", 6, BOOL)
        elif name == "power":
            result = (f"{wrapped(args[0], 0)}**{wrapped(args[1], 0)}", 1, made)
        elif name == "negative":
            result = (f"-{wrapped(args[0], 1)}", 2, made)
        elif name == "logical_not":
            result = (f"not {wrapped(args[0], 6)}", 7, BOOL)
        elif name == "absolute":
            result = (f"abs({args[0][0]})", 0, made)
        elif name == "square" and args[0][1] == 0 and "(" not in args[0][0]:
            result = (f"{args[0][0]} * {args[0][0]}", 2, made)
        else:
            whole = kind.kind != "f" and dtype.kind != "f" and not function.constants  # those may be infinite
            real = kind if kind.kind == "f" or whole else np.dtype(np.float64)
            args = [self.cast(a, real) for a in args]
            result = (self.call(function, args, constants, real), 0, real)
        return self.cast(result, dtype)

    def call(self, function: Any, args: list[Expression], constants: dict[str, Any], dtype: np.dtype) -> str:
        """A call of an elementwise function, which is written out beside it."""
        typed = self.library(dtype)
        extra = [f"{text(typed.cast(value))}" for value in (function.constants | constants).values()]
        return f"{typed.call(function)}({', '.join([*(a[0] for a in args), *extra])})"

    def library(self, dtype: np.dtype) -> Typed:
        """The functions of one dtype that have been written out so far; the first needs no suffix."""
        if dtype.name not in self.typed:
            self.typed[dtype.name] = Typed(nothing, dtype.name, f"_{dtype.name}" if self.typed else "")
        return self.typed[dtype.name]

    def power(self, exponent: Expression, kind: np.dtype) -> Expression:
        """An exponent: whole numbers stay whole."""
        whole = exponent[1] < 0 and float(exponent[0]).is_integer() and 0 <= exponent[0] < 64
        return (repr(int(exponent[0])), 0, kind) if whole else self.cast(exponent, kind)

    def cast(self, expression: Expression, dtype: np.dtype) -> Expression:
        """The same in another dtype."""
        value, level, kind = expression
        if level < 0:
            return self.number(value, dtype), 0, dtype
        if kind == dtype:
            return expression
        if dtype == BOOL:
            return f"{wrapped(expression, 5)} != 0", 6, BOOL
        if kind == BOOL:  # so that LLVM selects one of two numbers
            return (
                f"{self.number(1, dtype)} if {wrapped(expression, 7)} else {self.number(0, dtype)}",
                8,
                dtype,
            )
        self.imports.add(dtype.name)
        return f"{dtype.name}({value})", 0, dtype

    def number(self, value: Any, dtype: np.dtype) -> str:
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


def nothing() -> None:
    """Where functions that are written out have no surroundings of their own."""


def plus(terms: list[tuple[int, str]], offset: int) -> str:
    """`3 * i + j + 1`"""
    parts = [v if f == 1 else f"{f} * {v}" for f, v in terms if f and v != "0"]
    parts += [str(offset)] if offset or not parts else []
    return " + ".join(parts).replace("+ -", "- ")
