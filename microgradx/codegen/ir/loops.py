"""What a program becomes before it is text: loops over elements, over buffers; other work is in `ops`.

A `View` says where in a `Buffer` the elements of a value lie, so that reshaping, transposing, slicing and
broadcasting cost nothing. A `Nest` is loops over a domain around statements on single elements.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from microgradx.codegen.ir.program import Line, Value
from microgradx.kernels.strided import contiguous, dense, through
from microgradx.scalars import Elementwise


class Place(NamedTuple):
    """Memory outside that has a number: of an "argument", of the "data" of a scan, of an "output"; "number":
    of the event that a number is found by."""

    kind: str
    number: int = 0


Source = Place | Value
"""What memory outside is: what a Value is bound to, or a place."""


@dataclass(eq=False)
class Buffer:
    """Memory for an array: in the step's arena, or outside."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    source: Source | None = None  # what it is bound to outside; None for the arena
    stepped: bool = False  # whether it has one more, leading axis: the number of the step
    named: bool = True  # whether the user has given it its name
    place: int = -1  # byte offset in the arena
    phase: str = "forward"  # of the step, in which it is written: forward, back or update

    size = property(lambda self: math.prod(self.shape))
    bytes = property(lambda self: self.size * self.dtype.itemsize)

    def number(self, kind: str) -> int | None:
        """Which place outside it is among those of a kind: 0 of the first argument; None of another kind."""
        return self.source.number if isinstance(self.source, Place) and self.source.kind == kind else None

    def view(self) -> "View":
        """All of it."""
        return View(self, 0, contiguous(self.shape), self.shape)


@dataclass(frozen=True)
class View:
    """Elements of a buffer: offset and strides in elements."""

    buffer: Buffer
    offset: int
    strides: tuple[int, ...]
    shape: tuple[int, ...]

    dtype = property(lambda self: self.buffer.dtype)
    size = property(lambda self: math.prod(self.shape))
    ndim = property(lambda self: len(self.shape))

    @property
    def whole(self) -> bool:
        """Whether it is its buffer, element by element, perhaps under another shape."""
        return self.offset == 0 and self.size == self.buffer.size and self.dense

    @property
    def dense(self) -> bool:
        """Whether its elements lie one after the other."""
        return dense(self.shape, self.strides)

    def parts(self, axis: int | None, rows: int) -> int | None:
        """How its rows along an axis share out its buffer: element e is row e // parts % rows's alone.

        None where `rows` are not what lies along the axis, or several of them meet in an element.
        """
        if axis is None or rows < 2 or axis >= self.ndim or self.shape[axis] != rows:
            return None
        part = self.strides[axis]
        every = enumerate(zip(self.shape, self.strides, strict=True))
        others = [(n, s) for a, (n, s) in every if a != axis and n > 1]
        if part < 1 or self.offset < 0 or any(s < 0 for _, s in others):
            return None
        turn = part * rows
        inside = sum((n - 1) * s for n, s in others if s % turn)
        return part if self.offset % turn + inside < part else None

    def aligned(self, axis: int | None, rows: int) -> bool:
        """Whether row i along an axis touches nothing but the i-th of `rows` parts of its buffer."""
        part = self.parts(axis, rows)
        return part is not None and part * rows == self.buffer.size

    def through(self, change: Callable[[np.ndarray], np.ndarray]) -> "View":
        """What NumPy makes of it when it reshapes, transposes, slices ...; ValueError for a copy."""
        moved, strides, shape = through(self.shape, self.strides, change)
        return View(self.buffer, self.offset + moved, strides, shape)

    def spread(self, shape: tuple[int, ...]) -> "View":
        """Broadcast to a shape."""
        return self if shape == self.shape else self.through(lambda x: np.broadcast_to(x, shape))


# Operands of a statement: plain numbers, and


@dataclass(frozen=True)
class Read:
    """The element of a view that the loops stand at."""

    view: View

    dtype = property(lambda self: self.view.dtype)


@dataclass(frozen=True)
class Index:
    """The loop variable of an axis of the domain."""

    axis: int

    dtype = np.dtype(np.int64)


@dataclass(frozen=True)
class Bounded:
    """An operand that must be an index below `size`; with `wrap`, negative ones count from the end."""

    arg: "Operand"
    size: int
    wrap: bool

    dtype = np.dtype(np.int64)


@dataclass(frozen=True)
class Pick:
    """An element of a view at computed places: per axis a `Bounded` operand or an `Index`."""

    view: View
    at: "tuple[Operand, ...]"

    dtype = property(lambda self: self.view.dtype)


@dataclass(frozen=True)
class Name:
    """A variable of an emitted function."""

    name: str
    dtype: np.dtype = np.dtype(np.int64)


Operand = Read | Index | Bounded | Pick | Name | float


@dataclass(eq=False)
class Compute:
    """A number for every element: `function(*args, **constants)`."""

    out: View
    function: Elementwise | None  # None: a copy
    args: tuple[Operand, ...]
    constants: dict[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class Reduce:
    """All elements along axes of the domain taken together: kind sum, prod, max, min, argmax or argmin."""

    out: View  # over the axes that are kept
    kind: str
    arg: Read
    axes: tuple[int, ...]


Statement = Compute | Reduce


def operands(args: tuple[Operand, ...]) -> Iterator[View]:
    """The views that operands read."""
    for arg in args:
        if isinstance(arg, Read | Pick):
            yield arg.view
        if isinstance(arg, Pick):
            yield from operands(arg.at)
        if isinstance(arg, Bounded):
            yield from operands((arg.arg,))


Accesses = Iterator[tuple[View, int | None]]
"""Views, each with the axis along which row i of some work touches row i; None: all of it."""


@dataclass(eq=False)
class Item:
    """A piece of work. `rows` is how many parts it can be cut into; who reads and writes what is in views."""

    line: Line | None
    stage: int = field(default=0, init=False)

    rows = 1

    def reads(self) -> Accesses:
        """Views that it reads, each with the axis along which row i reads row i; None: all of it."""
        yield from ()

    def writes(self) -> Accesses:
        """The same for what it writes."""
        yield from ()

    flop = 0.0
    checks = False  # whether it may find an index that is out of range


@dataclass(eq=False)
class Nest(Item):
    """Loops over a domain around statements; `axis` is the one that is cut into pieces."""

    domain: tuple[int, ...]
    statements: list[Statement]
    axis: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.axis = next(iter(self.cuts), None)

    @property
    def cuts(self) -> list[int]:
        """The axes that may be cut: those along which nothing is taken together."""
        reduced = {a for s in self.statements if isinstance(s, Reduce) for a in s.axes}
        return [a for a in range(len(self.domain)) if a not in reduced]

    @property
    def rows(self) -> int:  # type: ignore[override]
        """The extent of the axis that may be cut."""
        return 1 if self.axis is None else self.domain[self.axis]

    def makes(self, s: Statement) -> tuple[int, ...]:
        """The shape of what a statement leaves behind."""
        return tuple(n for a, n in enumerate(self.domain) if isinstance(s, Compute) or a not in s.axes)

    def args(self) -> "Iterator[Operand]":
        """All operands."""
        for s in self.statements:
            yield from s.args if isinstance(s, Compute) else (s.arg,)

    def reads(self) -> Accesses:
        """Elements are read where the loops stand; picked ones anywhere, except along a loop variable."""
        for arg in self.args():
            yield from self.places(arg)

    def places(self, arg: Operand) -> Accesses:
        """The views of an operand."""
        if isinstance(arg, Read):
            yield arg.view, self.axis
        elif isinstance(arg, Pick):
            along = [k for k, at in enumerate(arg.at) if isinstance(at, Index) and at.axis == self.axis]
            yield arg.view, along[0] if along else None
            for at in arg.at:
                yield from self.places(at)
        elif isinstance(arg, Bounded):
            yield from self.places(arg.arg)

    def writes(self) -> Accesses:
        """Outputs lie over the domain, or what is left of it."""
        for s in self.statements:
            axis = self.axis
            if isinstance(s, Reduce) and axis is not None:
                axis -= sum(a < axis for a in s.axes)
            yield s.out, axis

    @property
    def flop(self) -> float:  # type: ignore[override]
        """One operation per statement and element; a copy is none."""
        copies = sum(isinstance(s, Compute) and s.function is None for s in self.statements)
        return float(math.prod(self.domain)) * (len(self.statements) - copies)

    @property
    def checks(self) -> bool:  # type: ignore[override]
        """Whether an index is computed."""
        return any(isinstance(arg, Pick | Bounded) for arg in self.args())


def squeezed(nest: Nest) -> Nest:
    """The same loops without axes of one element, so that all that follows meets none.

    What is reduced along such axes alone, or along none, is a copy.
    """
    kept = [a for a, n in enumerate(nest.domain) if n != 1]
    if len(kept) == len(nest.domain) > 0 and all(isinstance(s, Compute) or s.axes for s in nest.statements):
        return nest
    new = {a: k for k, a in enumerate(kept)}

    def view(v: View, axes: list[int]) -> View:
        """A view over some axes of the domain, without those that go."""
        left = [k for k, a in enumerate(axes) if a in new]
        return View(v.buffer, v.offset, tuple(v.strides[k] for k in left), tuple(v.shape[k] for k in left))

    def operand(arg: Operand) -> Operand:
        match arg:
            case Read(v):
                return Read(view(v, every))
            case Index(axis):
                return Index(new[axis]) if axis in new else 0
            case Bounded(inner, size, wrap):
                return Bounded(operand(inner), size, wrap)
            case Pick(v, at):
                places = map(operand, at)
                return Pick(v, tuple(Bounded(p, 1, False) if isinstance(p, int) else p for p in places))
        return arg

    every = list(range(len(nest.domain)))
    statements: list[Statement] = []
    for s in nest.statements:
        if isinstance(s, Compute):
            statements.append(
                Compute(view(s.out, every), s.function, tuple(map(operand, s.args)), s.constants)
            )
            continue
        out = view(s.out, [a for a in every if a not in s.axes])
        axes, arg = tuple(new[a] for a in s.axes if a in new), Read(view(s.arg.view, every))
        alone = Compute(out, None, (0 if s.kind.startswith("arg") else arg,))
        statements.append(Reduce(out, s.kind, arg, axes) if axes else alone)
    return Nest(nest.line, tuple(nest.domain[a] for a in kept), statements)


@dataclass(eq=False)
class Rows(Item):
    """Nests whose outermost loop is one and the same: each row goes through all of them."""

    nests: list[Nest]

    rows = property(lambda self: self.nests[0].rows)
    flop = property(lambda self: sum(nest.flop for nest in self.nests))
    checks = property(lambda self: any(nest.checks for nest in self.nests))

    def reads(self) -> Accesses:
        """What the nests read."""
        return (access for nest in self.nests for access in nest.reads())

    def writes(self) -> Accesses:
        """What the nests write."""
        return (access for nest in self.nests for access in nest.writes())
