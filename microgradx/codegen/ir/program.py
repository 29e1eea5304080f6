"""A training step as data: three record types, a checker that runs after every pass, a printer.

A `Program` is a list of `Instruction`s over `Value`s, in an order in which they may run. What it reads from
outside is bound: to an argument, to a Tensor's or an optimizer's memory, or to an array that stays the same.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from microgradx.codegen.ir.binding import Binding
from microgradx.errors import CompileError
from microgradx.kernels.cpu import Sweep
from microgradx.optim.flat import Flat, Part
from microgradx.primitives import Primitive
from microgradx.primitives.core import ElementwisePrimitive


@dataclass(eq=False)
class Value:
    """An array of known shape and dtype, computed once in every step."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    size = property(lambda self: math.prod(self.shape))
    ndim = property(lambda self: len(self.shape))

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class Line:
    """A line of the user's own code, or `back`: what is computed for its gradient."""

    file: str
    number: int
    text: str
    back: bool = False

    def __str__(self) -> str:
        place = f"{self.file.replace(chr(92), '/').rpartition('/')[2]}:{self.number}"
        return f"{'gradient of: ' * self.back}{place}  {self.text}"


@dataclass(frozen=True)
class Draw:
    """Fresh random numbers: of the generator's method `name`, from its block `block` of the step."""

    name: str
    block: int


@dataclass(eq=False)
class Update:
    """An optimizer's rule over the parameter of one part of a flat buffer: inputs are p, g and the state."""

    flat: Flat
    part: Part
    sweep: Sweep
    event: int  # which of the step's events gives its numbers

    name = property(lambda self: self.sweep.rule.name)


@dataclass(eq=False)
class Watch:
    """What a ledger watches in a flat buffer: inputs are positions, then p, g and the state of each part.

    The output is as a ledger keeps it, (3 + states, watched), where the last row, p afterwards, stays free;
    `columns` says where in it the numbers of each part are.
    """

    columns: list[slice]

    name = "watch"


Op = Primitive | Draw | Update | Watch
"""What an instruction does."""


@dataclass(eq=False)
class Instruction:
    """One operation: `outputs = op(*inputs, **params)`; inputs are Values and plain numbers."""

    op: Op
    inputs: tuple[Value | float, ...]
    params: dict[str, object]
    outputs: tuple[Value, ...]
    line: Line | None = None
    back: bool = False  # whether it is a part of the gradient of that line

    @property
    def out(self) -> Value:
        """The only output."""
        (out,) = self.outputs
        return out

    def reads(self) -> Iterator[Value]:
        """The Values among the inputs."""
        return (x for x in self.inputs if isinstance(x, Value))

    def __repr__(self) -> str:
        inputs = [x.name if isinstance(x, Value) else repr(x) for x in self.inputs]
        params = [f"{name}={value!r}" for name, value in self.params.items()]
        return f"{', '.join(map(repr, self.outputs))} = {self.op.name}({', '.join([*inputs, *params])})"


@dataclass
class Program:
    """A step: what it is bound to, what it does, what it leaves behind."""

    name: str
    arguments: list[Value] = field(default_factory=list)
    bound: dict[Value, Binding] = field(default_factory=dict)  # state and constants
    instructions: list[Instruction] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    writes: dict[Value, Value] = field(
        default_factory=dict
    )  # bound Value -> what its memory holds at the end

    def __str__(self) -> str:
        lines = [f"def {self.name}({', '.join(map(repr, self.arguments))}):"]
        lines += [f"    {value!r} = {binding}" for value, binding in self.bound.items()]
        last = None
        for instruction in self.instructions:
            if instruction.line is not None and instruction.line != last:
                lines.append(f"    # {instruction.line}")
                last = instruction.line
            lines.append(f"    {instruction!r}")
        lines += [f"    {home.name} <- {value.name}" for home, value in self.writes.items()]
        lines.append(f"    return {', '.join(value.name for value in self.outputs) or None}")
        return "\n".join(lines)


def check(program: Program, after: str) -> Program:
    """Raise CompileError if a pass has broken the program; the program itself otherwise."""

    def refuse(what: str, instruction: Instruction | Value) -> None:
        raise CompileError(
            f"after {after}, the program is broken: {what}, in `{instruction!r}`. Please report this."
        )

    known = {*program.arguments, *program.bound}
    for instruction in program.instructions:
        for value in instruction.reads():
            if value not in known:
                refuse(f"{value.name} is read before it is computed", instruction)
        for value in instruction.outputs:
            if value in known:
                refuse(f"{value.name} is computed twice", instruction)
            known.add(value)
        if problem := mismatch(instruction):
            refuse(problem, instruction)
    for value in [*program.outputs, *program.writes.values()]:
        if value not in known:
            refuse(f"{value.name} is needed at the end and never computed", value)
    for home, value in program.writes.items():
        if (home.shape, home.dtype) != (value.shape, value.dtype):
            refuse(f"{value!r} does not fit into {home!r}", value)
    return program


def mismatch(instruction: Instruction) -> str:
    """What is wrong with the shapes and dtypes of an instruction; empty if nothing is."""
    op = instruction.op
    shapes = [x.shape if isinstance(x, Value) else () for x in instruction.inputs]
    if isinstance(op, Update):
        p, *others = instruction.reads()
        same = [*others[: 1 + len(op.sweep.rule.state)], *instruction.outputs]
        return "" if all((x.shape, x.dtype) == (p.shape, p.dtype) for x in same) else "the arrays differ"
    if isinstance(op, ElementwisePrimitive):
        try:
            found = np.broadcast_shapes(*shapes, instruction.out.shape)  # a number may stand for an array
        except ValueError:
            return f"the shapes {shapes} do not broadcast"
        return "" if found == instruction.out.shape else f"the shapes {shapes} give {found}"
    if isinstance(op, Primitive) and op.name in ("multiply_matrices", "affine"):
        a, b = shapes[:2]
        n, k, rows, m = a[-2], a[-1], b[-2], b[-1]
        fits = k == rows and instruction.out.shape[-2:] == (n, m)
        return "" if fits else f"the shapes {shapes} do not give {instruction.out.shape}"
    return ""
