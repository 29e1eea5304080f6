"""What the body of an emitted function says: statements on single elements, and the expressions in them.

`passes.statements` makes this tree of loops, once for all devices. The printers decide how a `For` is walked,
where an `Accumulator` lives and what an `Element` looks like, and write it down.
"""

from dataclasses import dataclass, field

import numpy as np

from microgradx.codegen.ir.loops import View
from microgradx.scalars import Elementwise

AXES = "ijklmnopqrst"
"""The loop variables of the axes of a domain."""

INT, BOOL = np.dtype(np.int64), np.dtype(bool)


# Expressions


@dataclass(frozen=True)
class Name:
    """A variable."""

    name: str
    dtype: np.dtype = INT


@dataclass(frozen=True)
class Number:
    """A number that is written out, in a dtype."""

    value: float
    dtype: np.dtype


@dataclass(frozen=True)
class Element:
    """An element of a view, by an index for each of its axes."""

    view: View
    at: tuple["Expression", ...]

    @property
    def dtype(self) -> np.dtype:
        """That of the view."""
        return self.view.dtype


@dataclass(frozen=True)
class Sum:
    """`3 * i + j + 1`: a whole number from variables, each with a factor."""

    terms: tuple[tuple[int, str], ...]
    offset: int = 0
    dtype: np.dtype = INT


@dataclass(frozen=True)
class Checked:
    """An index that must be below `size`; with `wrap`, negative ones count from the end."""

    index: "Expression"
    size: int
    wrap: bool
    dtype: np.dtype = INT


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
    dtype: np.dtype


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


Expression = Name | Number | Element | Sum | Checked | Cast | Operator | Choose | Apply


# Statements


@dataclass(frozen=True)
class Axis:
    """A loop variable with the size of its axis; `cut`: its rows may be shared out to threads."""

    name: str
    size: int
    cut: bool = False


@dataclass(frozen=True)
class Let:
    """`name = value`; with `once`, which stands where it is used instead if it is short."""

    name: str
    value: Expression
    once: bool = False


@dataclass(frozen=True)
class Store:
    """`place = value`"""

    place: Element
    value: Expression


@dataclass(frozen=True)
class If:
    """A condition, and what is done where it holds."""

    condition: Expression
    body: "Body"


@dataclass(frozen=True)
class Comment:
    """A line for the reader."""

    text: str


@dataclass(frozen=True)
class Line:
    """A line as it stands, such as a call of another function; `uses` are the names in it."""

    text: str
    uses: tuple[str, ...] = ()


@dataclass(eq=False)
class Accumulator:
    """What a reduction has taken up so far: a variable, or the place in memory where the result belongs."""

    name: str
    place: Element
    kind: str  # sum, prod, max, min, argmax or argmin
    start: Number
    passed_on: bool = False  # whether the result stays in its variable, for the rest of the row
    in_memory: bool = False

    @property
    def so_far(self) -> Name | Element:
        """What has been taken up."""
        return self.place if self.in_memory else Name(self.name, self.start.dtype)

    @property
    def result(self) -> Name | Element:
        """What it has come to: of the best of some numbers, where it is."""
        return Name(f"{self.name}_at", INT) if self.kind.startswith("arg") else self.so_far


@dataclass(frozen=True)
class Accumulate:
    """One more number for an accumulator; `at` is where it is."""

    into: Accumulator
    value: Expression
    at: Sum
    first: Expression | None = None  # whether it is the first one, where the kind needs to know


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


Statement = Let | Store | If | Comment | Line | Accumulate | For | Reduction
Body = list[Statement]


@dataclass
class Row:
    """What is done with one row: the nests that it goes through, each with its own statements."""

    axis: Axis
    parts: list[Body] = field(default_factory=list)
