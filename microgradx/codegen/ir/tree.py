"""What the body of an emitted function says: statements on single elements, and the expressions in them.

`passes.statements` makes this tree of loops, once for all devices. The printers decide how a `For` is walked,
where an `Accumulator` lives and what an element looks like, and write it down. The operands of loops are
expressions too: `Read`, `Pick`, `Index` and `Bounded` (see `ir.loops`).
"""

from dataclasses import dataclass

import numpy as np

from microgradx.codegen.ir.loops import Bounded, Buffer, Index, Name, Pick, Read
from microgradx.scalars import Elementwise

AXES = "ijklmnopqrst"
"""The loop variables of the axes of a domain."""

INT, BOOL = np.dtype(np.int64), np.dtype(bool)


# Expressions


@dataclass(frozen=True)
class Number:
    """A number that is written out, in a dtype."""

    value: float
    dtype: np.dtype


@dataclass(frozen=True)
class Cast:
    """A number in another dtype."""

    arg: "Expression"
    dtype: np.dtype


@dataclass(frozen=True)
class Operator:
    """`a + b`, `not a`: an operator's sign, and what it works on."""

    sign: str
    args: tuple["Expression", ...]
    dtype: np.dtype = BOOL


@dataclass(frozen=True)
class Choose:
    """`yes if condition else no`"""

    condition: "Expression"
    yes: "Expression"
    no: "Expression"
    dtype: np.dtype


@dataclass(frozen=True)
class Apply:
    """An elementwise function, of arguments in one dtype."""

    function: Elementwise
    args: tuple["Expression", ...]
    constants: tuple[float, ...]
    dtype: np.dtype


Expression = Name | Number | Read | Pick | Index | Bounded | Cast | Operator | Choose | Apply


# Statements


@dataclass(frozen=True)
class Let:
    """`name = value`, for a value of a buffer; if `once` and short, it stands where it is used instead."""

    name: str
    value: Expression
    buffer: Buffer | None = None
    once: bool = False


@dataclass(frozen=True)
class Store:
    """`place = value`"""

    place: Read | Pick
    value: Expression


@dataclass(frozen=True)
class If:
    """A condition, and what is done where it holds."""

    condition: Expression
    body: "Body"


@dataclass(frozen=True)
class Line:
    """A line as it stands: a comment, or a call of another function; `uses` are the names in it."""

    text: str
    uses: tuple[str, ...] = ()


@dataclass(eq=False)
class Accumulator:
    """What a reduction has taken up so far: a variable, or the place in memory where the result belongs."""

    name: str
    place: Pick
    kind: str  # sum, prod, max, min, argmax, argmin; prefix: a sum in order
    start: Number
    passed_on: bool = False  # whether the result stays in its variable, for the rest of the row
    in_memory: bool = False

    @property
    def so_far(self) -> Name | Pick:
        """What has been taken up."""
        return self.place if self.in_memory else Name(self.name, self.start.dtype)

    @property
    def result(self) -> Name:
        """The variable with the result: of argmax and argmin it is where the number is."""
        return Name(f"{self.name}_at") if self.kind.startswith("arg") else Name(self.name, self.start.dtype)


@dataclass(frozen=True)
class Accumulate:
    """One more number for an accumulator."""

    into: Accumulator
    value: Expression


@dataclass(frozen=True)
class Axis:
    """A loop variable with the size of its axis; `cut`: its rows may be shared out to threads."""

    name: str
    size: int
    cut: bool = False


@dataclass(frozen=True)
class For:
    """Loops over some axes, each step of which needs nothing from the others; `walk`: how, if not simply."""

    axes: tuple[Axis, ...]
    body: "Body"
    walk: str = ""


@dataclass(frozen=True)
class Reduction:
    """For every step of loops over the axes that are kept: what all steps over other axes accumulate."""

    kept: tuple[Axis, ...]
    over: tuple[Axis, ...]
    into: tuple[Accumulator, ...]
    body: "Body"
    trailing: bool  # whether the axes that are kept come first


Statement = Let | Store | If | Line | Accumulate | For | Reduction
Body = list[Statement]


def plus(terms: list[tuple[int, str]], offset: int = 0) -> str:
    """`3 * i + j + 1`: factors and variables."""
    parts = [v if f == 1 else f"{f} * {v}" for f, v in terms if f and v != "0"]
    parts += [str(offset)] if offset or not parts else []
    return " + ".join(parts).replace("+ -", "- ")
