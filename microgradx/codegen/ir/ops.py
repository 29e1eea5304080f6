"""Work that is not loops around plain statements: products, sweeps, random numbers, scattered sums, NumPy."""

from collections.abc import Callable
from dataclasses import dataclass

from microgradx.codegen.ir.loops import Accesses, Item, Operand, Read, View, operands
from microgradx.codegen.ir.program import Draw, Update


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

    def reads(self) -> Accesses:
        """Rows of a as they are, all of b."""
        yield self.a, None if self.form == "tn" else 0
        yield self.b, None

    def writes(self) -> Accesses:
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

    @property
    def rows(self) -> int:  # type: ignore[override]
        """Rows of the parameter."""
        return self.arrays[0].shape[0] if self.arrays[0].shape else 1

    def reads(self) -> Accesses:
        """Row by row."""
        axis = 0 if self.arrays[0].shape else None
        yield from ((view, axis) for view in self.arrays)

    def writes(self) -> Accesses:
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

    def writes(self) -> Accesses:
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
    at: tuple[Operand, ...]
    wrap: bool = True
    checks = True

    def reads(self) -> Accesses:
        """All at once."""
        yield from ((view, None) for view in operands((self.value, *self.at)))

    def writes(self) -> Accesses:
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

    def reads(self) -> Accesses:
        """All at once."""
        yield self.arg, None

    def writes(self) -> Accesses:
        """All at once."""
        yield self.out, None

    @property
    def flop(self) -> float:  # type: ignore[override]
        """An addition each."""
        return 4.0 * self.out.size


@dataclass(eq=False)
class Look(Item):
    """Numbers at positions that a ledger watches: `out[row, k] = array[positions[k]]`, in columns by parts.

    No part of the work by which a step is cut into pieces, so that those are the same without a ledger.
    """

    out: View
    positions: View
    parts: list[tuple[slice, list[tuple[int, View]]]]  # columns; rows and the arrays for them, flat

    def reads(self) -> Accesses:
        """All at once."""
        yield self.positions, None
        yield from ((array, None) for _, rows in self.parts for _, array in rows)

    def writes(self) -> Accesses:
        """Some rows."""
        yield self.out, None


@dataclass(eq=False)
class Host(Item):
    """An operation that runs as NumPy code, between compiled parts: `call(*arrays)` into outputs.

    `advice` says how to do without, where it is not the user's own and so meant to be NumPy's.
    """

    name: str
    call: Callable[..., object]
    inputs: list[View | float]
    outs: list[View]
    draw: int | None = None  # the block that random numbers begin at
    advice: str = ""

    def reads(self) -> Accesses:
        """All at once."""
        yield from ((x, None) for x in self.inputs if isinstance(x, View))

    def writes(self) -> Accesses:
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

    def writes(self) -> Accesses:
        """Row by row."""
        yield from ((out, 0) for out, _ in self.outs)
