"""From loops to statements: what happens to every element, in words that all devices share."""

import math
from collections import Counter
from operator import itemgetter

import numpy as np

from microgradx.codegen.ir import tree
from microgradx.codegen.ir.loops import Buffer, Index, Nest, Operand, Pick, Read, Reduce, Rows, operands
from microgradx.codegen.ir.loops import Statement as OnElements
from microgradx.codegen.ir.ops import Look, Running, Scatter
from microgradx.codegen.ir.tree import AXES, INT, Accumulator, Axis, Body, Name, Number, Operator
from microgradx.codegen.passes.arithmetic import applied, cast
from microgradx.codegen.passes.fuse import arguments, one_per_row


def of_row(rows: Rows, stored: set[Buffer]) -> list[Body]:
    """What one of some rows goes through: a body for each nest. Numbers of the row stay in variables."""
    bodies: list[Body] = []
    numbers, said = one_per_row(rows.nests) - stored, rows.line
    for nest in rows.nests:
        comment: Body = [tree.Line(f"# {nest.line}")] if nest.line not in (None, said) else []
        said = nest.line or said
        bodies.append([*comment, *of_nest(nest, stored, rows.nests, numbers)])
    return bodies


def of_nest(
    nest: Nest, stored: set[Buffer], together: list[Nest] | None = None, numbers: set[Buffer] | None = None
) -> Body:
    """Loops around the statements of a nest; those inside rows, where it goes `together` with others.

    numbers: of each row, which stay in variables.
    """
    axes = [Axis(AXES[a], n, a == nest.axis) for a, n in enumerate(nest.domain)]
    over = next((s.axes for s in nest.statements if isinstance(s, Reduce)), ())
    kept = [a for a in range(len(axes)) if a not in over]
    outer = tuple(axes[a] for a in kept[together is not None :])
    reductions = [s for s in nest.statements if isinstance(s, Reduce)]
    into = {s: accumulator(s, kept, s.out.buffer in (numbers or ())) for s in reductions}
    body = of_elements(nest, stored, readings(together or [nest]), into)
    if not into:
        return [tree.For(outer, body)] if outer or together is None else body
    trailing = all(a < b for a in kept for b in over)
    return [tree.Reduction(outer, tuple(axes[a] for a in over), (*into.values(),), body, trailing)]


def of_elements(
    nest: Nest, stored: set[Buffer], uses: Counter[Buffer], into: dict[Reduce, Accumulator]
) -> Body:
    """The statements of a nest for one element."""
    body: Body = []
    behind: dict[Buffer, set[Buffer]] = {}  # the memory that an expression written where it is used reads
    for k, s in enumerate(nest.statements):
        if isinstance(s, Reduce):
            body.append(taken_in(s, into[s], nest.domain))
            continue
        buffer, value = s.out.buffer, applied(s.function, s.args, s.constants, s.out.dtype)
        if buffer in stored:
            body.append(tree.Store(Read(s.out), value))
            behind[buffer] = {buffer}
            continue
        reads = set().union(*(behind.get(v.buffer, {v.buffer}) for v in operands(s.args)))
        once = uses[buffer] == 1 and not buffer.named and lasts(nest.statements[k + 1 :], buffer, reads)
        behind[buffer] = reads if once else set()
        body.append(tree.Let(buffer.name, value, buffer, once))
    return body


def readings(nests: list[Nest]) -> Counter[Buffer]:
    """How often the statements of some nests read each buffer."""
    return Counter(view.buffer for nest in nests for arg in nest.args() for view in operands((arg,)))


def lasts(later: list[OnElements], buffer: Buffer, reads: set[Buffer]) -> bool:
    """Whether all that a value was computed from is still in memory where later statements use the value."""
    for s in later:
        if any(view.buffer is buffer for view in operands(arguments(s))):
            return True
        if s.out.buffer in reads:
            return False
    return False


# Reductions


def accumulator(s: Reduce, kept: list[int], passed_on: bool) -> Accumulator:
    """Where a reduction is taken up."""
    name = s.out.buffer.name + ("" if passed_on else "_sum" if s.kind == "sum" else "_so_far")
    dtype = s.arg.view.dtype if s.kind.startswith("arg") else s.out.dtype
    place = Pick(s.out, tuple(map(Index, kept)))
    return Accumulator(name, place, s.kind, Number(beginning(s.kind, dtype), dtype), passed_on)


def beginning(kind: str, dtype: np.dtype) -> float:
    """What a reduction begins with."""
    if kind in ("sum", "prod"):
        return kind == "prod"
    lowest = kind.endswith("max")
    if dtype.kind == "f":
        return -math.inf if lowest else math.inf
    if dtype.kind == "b":
        return not lowest
    return int(np.iinfo(dtype).min if lowest else np.iinfo(dtype).max)


def taken_in(s: Reduce, into: Accumulator, domain: tuple[int, ...]) -> tree.Statement:
    """Take one more element into a reduction; of equal ones the first is the best, NaN before all."""
    value, so_far = cast(s.arg, into.start.dtype), into.so_far
    if not s.kind.startswith("arg"):
        return tree.Accumulate(into, value)
    place = tree.plus([(math.prod(domain[b] for b in s.axes if b > a), AXES[a]) for a in s.axes])
    zeros = tuple(Operator("==", (Index(a), Number(0, INT))) for a in s.axes)
    better: list[tree.Expression] = [Operator(">" if s.kind == "argmax" else "<", (value, so_far))]
    better.append(Operator("and", zeros) if len(zeros) > 1 else zeros[0])
    if so_far.dtype.kind == "f":
        alone = Operator("!=", (value, value)), Operator("==", (so_far, so_far))
        better.append(Operator("and", alone))
    found: Body = [tree.Let(into.name, value), tree.Let(into.result.name, Name(place))]
    return tree.If(Operator("or", tuple(better)), found)


# Other work


def added(item: Scatter, places: tuple[Operand, ...]) -> tree.Accumulate:
    """Add one element of a scattered sum at a place."""
    zero = Number(0, item.out.dtype)
    into = Accumulator("", Pick(item.out, places), "prefix", zero, in_memory=True)
    return tree.Accumulate(into, cast(item.value, item.out.dtype))


def of_running(item: Running) -> tree.For:
    """Sum up along the last axis, for each row on its own."""
    axes = tuple(Axis(AXES[k], n) for k, n in enumerate(item.arg.shape))
    place, zero = Pick(item.out, tuple(map(Index, range(len(axes))))), Number(0, item.out.dtype)
    so_far = Accumulator("so_far", place, "prefix", zero)
    more = tree.Accumulate(so_far, cast(Read(item.arg), item.out.dtype))
    inner = tree.For(axes[-1:], [more, tree.Store(place, so_far.so_far)])
    return tree.For(axes[:-1], [tree.Let("so_far", zero), inner])


def of_look(item: Look) -> list[tree.For]:
    """Copy what a ledger watches: numbers at computed places, a loop for each part."""
    loops = []
    for columns, rows in item.parts:
        places = item.positions.through(itemgetter(columns))
        outs = [item.out.through(itemgetter((row, columns))) for row, _ in rows]
        body: Body = [
            tree.Store(Read(out), Pick(array, (Read(places),)))
            for out, (_, array) in zip(outs, rows, strict=True)
        ]
        loops.append(tree.For((Axis("i", places.size),), body))
    return loops
