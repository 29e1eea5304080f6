"""What a program becomes before it is text: loops over elements, matrix products, sweeps, over buffers.

A `View` says where in a `Buffer` the elements of a value lie, so that reshaping, transposing, slicing and
broadcasting cost nothing. A `Nest` is loops over a domain around statements on single elements.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from microgradx.compiler.program import Draw, Line, Update


@dataclass(eq=False)
class Buffer:
    """Memory for an array: in the step's arena, or outside."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    source: Any = None  # what it is bound to outside: a key of the address table; None for the arena
    stepped: bool = False  # whether it has one more, leading axis: the number of the step
    named: bool = True  # whether the user has given it its name
    place: int = -1  # byte offset in the arena

    size = property(lambda self: int(np.prod(self.shape, dtype=np.int64)))
    bytes = property(lambda self: self.size * self.dtype.itemsize)

    def view(self) -> "View":
        """All of it."""
        return View(self, 0, contiguous(self.shape), self.shape)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of an array in C order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


@dataclass(frozen=True)
class View:
    """Elements of a buffer: offset and strides in elements."""

    buffer: Buffer
    offset: int
    strides: tuple[int, ...]
    shape: tuple[int, ...]

    dtype = property(lambda self: self.buffer.dtype)
    size = property(lambda self: int(np.prod(self.shape, dtype=np.int64)))
    ndim = property(lambda self: len(self.shape))

    @property
    def whole(self) -> bool:
        """Whether it is its buffer, element by element, perhaps under another shape."""
        return self.offset == 0 and self.size == self.buffer.size and self.dense

    @property
    def dense(self) -> bool:
        """Whether its elements lie one after the other."""
        pairs = zip(self.strides, contiguous(self.shape), self.shape, strict=True)
        return all(a == b or n == 1 for a, b, n in pairs) or self.size == 0

    def through(self, change: Callable[[np.ndarray], np.ndarray]) -> "View":
        """What NumPy makes of it: `change` reshapes, transposes, slices or broadcasts. ValueError for a copy."""
        step = 1 if self.size == 0 else 16  # NumPy's own bookkeeping, on an array without memory of its own
        base = np.lib.stride_tricks.as_strided(
            np.empty(1, np.uint8), self.shape, [s * step for s in self.strides]
        )
        changed = change(base)
        moved = changed.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        strides = tuple(s // step for s in changed.strides)
        return View(self.buffer, self.offset + moved // step, strides, changed.shape)

    def spread(self, shape: tuple[int, ...]) -> "View":
        """Broadcast to a shape."""
        return self if shape == self.shape else self.through(lambda x: np.broadcast_to(x, shape))


# Operands of a statement: plain numbers, and


@dataclass(frozen=True)
class Read:
    """The element of a view that the loops stand at."""

    view: View


@dataclass(frozen=True)
class Index:
    """The loop variable of an axis of the domain."""

    axis: int


@dataclass(frozen=True)
class Bounded:
    """An operand that must be an index below `size`; with `wrap`, negative ones count from the end."""

    arg: Any
    size: int
    wrap: bool


@dataclass(frozen=True)
class Pick:
    """An element of a view at computed places: per axis a `Bounded` operand or an `Index`."""

    view: View
    at: tuple[Any, ...]


@dataclass(eq=False)
class Compute:
    """A number for every element: `function(*args, **constants)`."""

    out: View
    function: Any  # an Elementwise
    args: tuple[Any, ...]
    constants: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Reduce:
    """All elements along axes of the domain taken together: kind sum, prod, max, min, argmax or argmin."""

    out: View  # over the axes that are kept
    kind: str
    arg: Any
    axes: tuple[int, ...]


Statement = Compute | Reduce


def operands(args: tuple[Any, ...]) -> Iterator[View]:
    """The views that operands read."""
    for arg in args:
        if isinstance(arg, Read | Pick):
            yield arg.view
        if isinstance(arg, Pick):
            yield from operands(arg.at)
        if isinstance(arg, Bounded):
            yield from operands((arg.arg,))


@dataclass(eq=False)
class Item:
    """A piece of work. `rows` is how many parts it can be cut into; who reads and writes what is in views."""

    line: Line | None
    stage: int = field(default=0, init=False)

    rows = 1

    def reads(self) -> Iterator[tuple[View, int | None]]:
        """Views that it reads, each with the axis along which row i of the work reads row i; None: all of it."""
        yield from ()

    def writes(self) -> Iterator[tuple[View, int | None]]:
        """The same for what it writes."""
        yield from ()

    flop = 0.0
    checks = False  # whether it may find an index that is out of range


@dataclass(eq=False)
class Nest(Item):
    """Loops over a domain around statements; `axis` is the one that is cut into pieces."""

    domain: tuple[int, ...]
    axis: int | None
    statements: list[Statement]

    @property
    def rows(self) -> int:  # type: ignore[override]
        """The extent of the axis that may be cut."""
        return 1 if self.axis is None else self.domain[self.axis]

    def args(self) -> Iterator[Any]:
        """All operands."""
        for s in self.statements:
            yield from s.args if isinstance(s, Compute) else (s.arg,)

    def reads(self):
        """Elements are read where the loops stand; picked ones anywhere, except along a loop variable."""
        for arg in self.args():
            yield from self.places(arg)

    def places(self, arg: Any):
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

    def writes(self):
        """Outputs lie over the domain, or what is left of it."""
        for s in self.statements:
            axis = self.axis
            if isinstance(s, Reduce) and axis is not None:
                axis -= sum(a < axis for a in s.axes)
            yield s.out, axis

    @property
    def flop(self) -> float:  # type: ignore[override]
        """One operation per statement and element."""
        return float(np.prod(self.domain, dtype=np.int64)) * len(self.statements)

    @property
    def checks(self) -> bool:  # type: ignore[override]
        """Whether an index is computed."""
        return any(isinstance(arg, Pick | Bounded) for arg in self.args())


@dataclass(eq=False)
class Matmul(Item):
    """out (n, m) = a @ b; form "nn", "nt" (b is given transposed) or "tn" (a is)."""

    out: View
    a: View
    b: View
    form: str

    @property
    def rows(self) -> int:  # type: ignore[override]
        """Rows of the result."""
        return self.out.shape[0]

    def reads(self):
        """Rows of a as they are, all of b."""
        yield self.a, None if self.form == "tn" else 0
        yield self.b, None

    def writes(self):
        """Rows of the result."""
        yield self.out, 0

    @property
    def inner(self) -> int:
        """The size that is summed over."""
        return self.a.shape[0 if self.form == "tn" else 1]

    @property
    def flop(self) -> float:  # type: ignore[override]
        """A product and a sum each."""
        return 2.0 * self.out.size * self.inner


@dataclass(eq=False)
class Sweep(Item):
    """An optimizer's rule over a parameter, in place."""

    update: Update
    arrays: list[View]  # p, g, state
    more: list[View]  # numbers that the step computes

    @property
    def rows(self) -> int:  # type: ignore[override]
        """Rows of the parameter."""
        return self.arrays[0].shape[0] if self.arrays[0].shape else 1

    def reads(self):
        """Row by row."""
        axis = 0 if self.arrays[0].shape else None
        yield from ((view, axis) for view in self.arrays)
        yield from ((view, None) for view in self.more)

    def writes(self):
        """Everything but the gradient."""
        axis = 0 if self.arrays[0].shape else None
        yield from ((view, axis) for view in [self.arrays[0], *self.arrays[2:]])

    @property
    def flop(self) -> float:  # type: ignore[override]
        """About ten operations an element."""
        return 10.0 * self.arrays[0].size


@dataclass(eq=False)
class Uniform(Item):
    """Uniform random numbers in [0, 1)."""

    out: View
    draw: Draw

    @property
    def rows(self) -> int:  # type: ignore[override]
        """Rows that begin with a block of their own."""
        rows = self.out.shape[0] if self.out.shape else 1
        return rows if self.out.size // max(rows, 1) % 4 == 0 else 1

    def writes(self):
        """Rows, if they begin with a block of their own."""
        yield self.out, 0 if self.rows > 1 else None

    @property
    def flop(self) -> float:  # type: ignore[override]
        """Ten rounds for four numbers."""
        return 20.0 * self.out.size


@dataclass(eq=False)
class Scatter(Item):
    """Add numbers at computed places, one after the other: `out[at] += value`, for a value over a domain."""

    out: View
    domain: tuple[int, ...]
    value: Read
    at: tuple[Any, ...]
    wrap: bool = True
    checks = True

    def reads(self):
        """All at once."""
        yield from ((view, None) for view in operands((self.value, *self.at)))

    def writes(self):
        """Anywhere."""
        yield self.out, None

    @property
    def flop(self) -> float:  # type: ignore[override]
        """An addition each."""
        return 4.0 * self.value.view.size


@dataclass(eq=False)
class Running(Item):
    """The running sum of a view along its last axis."""

    out: View
    arg: View

    def reads(self):
        """All at once."""
        yield self.arg, None

    def writes(self):
        """All at once."""
        yield self.out, None

    @property
    def flop(self) -> float:  # type: ignore[override]
        """An addition each."""
        return 4.0 * self.out.size


@dataclass(eq=False)
class Host(Item):
    """An operation that runs as NumPy code, between compiled parts: `call(*arrays)` into outputs."""

    name: str
    call: Callable[..., Any]
    inputs: list[Any]  # views and numbers
    outs: list[View]
    draw: int | None = None  # the block that random numbers begin at

    def reads(self):
        """All at once."""
        yield from ((x, None) for x in self.inputs if isinstance(x, View))

    def writes(self):
        """All at once."""
        yield from ((out, None) for out in self.outs)


@dataclass(eq=False)
class Gather(Item):
    """In a scan: the rows of the arguments that the order names, from the whole data."""

    outs: list[tuple[View, int]]  # arguments and their numbers

    @property
    def rows(self) -> int:  # type: ignore[override]
        """Rows of the batch."""
        return self.outs[0][0].shape[0]

    def writes(self):
        """Row by row."""
        yield from ((out, 0) for out, _ in self.outs)


@dataclass(eq=False)
class Rows(Item):
    """Nests whose outermost loop is one and the same: each row goes through all of them."""

    nests: list[Nest]

    rows = property(lambda self: self.nests[0].rows)  # type: ignore[assignment]
    flop = property(lambda self: sum(nest.flop for nest in self.nests))  # type: ignore[assignment]
    checks = property(lambda self: any(nest.checks for nest in self.nests))  # type: ignore[assignment]

    def reads(self):
        """What the nests read."""
        return (access for nest in self.nests for access in nest.reads())

    def writes(self):
        """What the nests write."""
        return (access for nest in self.nests for access in nest.writes())
