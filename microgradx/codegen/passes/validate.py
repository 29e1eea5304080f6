"""What must hold between passes: every read has a writer before it, views lie in their buffers, loops fit.

A violation is a fault of the compiler, not of the user: a CompileError that names the pass, the work and the
user's line, before there is machine code that would compute something else or write past the end.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NoReturn

from microgradx.codegen.ir.loops import (
    Bounded,
    Buffer,
    Compute,
    Index,
    Item,
    Nest,
    Operand,
    Pick,
    Read,
    Reduce,
    Rows,
    Statement,
    View,
)
from microgradx.codegen.ir.ops import Matmul, Sweep
from microgradx.codegen.passes.fuse import touching
from microgradx.codegen.passes.schedule import Chain, Schedule, lives
from microgradx.errors import CompileError


def refuse(after: str, what: str, item: Item) -> NoReturn:
    """Raise the error of a broken step."""
    kind = type(item).__name__.lower()
    line = f"the {kind} of `{item.line}`" if item.line else f"a {kind} without a line of yours"
    advice = "Please report this; mg.jit(step, fallback='eager') goes on line by line until it is mended."
    raise CompileError(f"after {after}, the step is broken: {what}, in {line}. {advice}")


def nests(item: Item) -> list[Nest]:
    """The nests of an item."""
    return item.nests if isinstance(item, Rows) else [item] if isinstance(item, Nest) else []


def accesses(item: Item) -> Iterator[tuple[str, View]]:
    """In order of execution: "read" or "write", and where."""
    for nest in nests(item):
        for s in nest.statements:
            args = s.args if isinstance(s, Compute) else (s.arg,)
            yield from (("read", view) for arg in args for view, _ in nest.places(arg))
            yield "write", s.out
    if not nests(item):
        yield from (("read", view) for view, _ in item.reads())
        yield from (("write", view) for view, _ in item.writes())


def validate_items(items: list[Item], after: str) -> list[Item]:
    """Raise CompileError where an item does not fit its memory, or reads what nobody has written."""
    ready: set[Buffer] = set()
    for item in items:
        for nest in nests(item):
            for s in nest.statements:
                if problem := misfit(s, nest):
                    refuse(after, problem, item)
        if isinstance(item, Matmul) and (problem := unequal(item)):
            refuse(after, problem, item)
        if isinstance(item, Sweep) and len({v.size for v in item.arrays}) > 1:
            refuse(after, f"a rule's arrays differ: {', '.join(str(v.shape) for v in item.arrays)}", item)
        for kind, view in accesses(item):
            buffer = view.buffer
            if problem := beyond(view):
                refuse(after, problem, item)
            if kind == "write":
                ready.add(buffer)
            elif buffer.source is None and buffer not in ready and view.size:
                refuse(after, f"{buffer.name} is read before it is written", item)
    return items


def beyond(view: View) -> str:
    """What is wrong with a view that does not lie in its buffer."""
    if not view.size:
        return ""
    spans = [stride * (n - 1) for n, stride in zip(view.shape, view.strides, strict=True)]
    low = view.offset + sum(span for span in spans if span < 0)
    high = view.offset + sum(span for span in spans if span > 0)
    if low >= 0 and high < view.buffer.size:
        return ""
    return f"a view of {view.buffer.name} reaches from {low} to {high}, it has {view.buffer.size} elements"


def misfit(s: Statement, nest: Nest) -> str:
    """What is wrong with a statement's views beside the domain of its loops."""
    domain = nest.domain
    if 1 in domain or (nest.axis is not None and nest.axis >= len(domain)):
        return f"the loops run over {domain}, cut along axis {nest.axis}"
    if isinstance(s, Reduce) and (not s.axes or max(s.axes) >= len(domain)):
        return f"it reduces axes {s.axes} of {domain}"
    if s.out.shape != nest.makes(s):
        return f"{s.out.buffer.name} is {s.out.shape} for loops over {nest.makes(s)}"
    if any(arg != Read(s.out) for arg in touching(nest, s.out.buffer)):
        return f"{s.out.buffer.name} is read elsewhere than where the same loops write it"
    args = s.args if isinstance(s, Compute) else (s.arg,)
    return next(filter(None, (stray(arg, domain) for arg in args)), "")


def stray(arg: Operand, domain: tuple[int, ...]) -> str:
    """What is wrong with an operand in loops over a domain."""
    match arg:
        case Read(view):
            return f"{view.buffer.name} is read as {view.shape} in loops over {domain}" * (
                view.shape != domain
            )
        case Index(axis):
            return f"axis {axis} is none of {domain}" * (axis >= len(domain))
        case Bounded(inner, _, _):
            return stray(inner, domain)
        case Pick(view, at):
            count = f"{view.buffer.name} of {view.ndim} axes is picked from by {len(at)}" * (
                view.ndim != len(at)
            )
            return count or next(filter(None, (stray(p, domain) for p in at)), "")
    return ""


def unequal(item: Matmul) -> str:
    """What is wrong with the shapes of a product."""
    (n, k), (inner, m) = (v.shape[::-1] if turned else v.shape for v, turned in
                          ((item.a, item.form == "tn"), (item.b, item.form == "nt")))  # fmt: skip
    fits = k == inner and item.out.shape[-2:] == (n, m) and all(v.dense for v in (item.out, item.a, item.b))
    return "" if fits else f"the shapes {item.a.shape} and {item.b.shape} ({item.form}) make {item.out.shape}"


def validate_schedule(plan: Schedule, after: str) -> Schedule:
    """Raise CompileError where a stage reads what is not there yet, or two live buffers share memory."""
    validate_items(plan.items, after)
    for stage in plan.stages:
        fresh: dict[Buffer, list[tuple[Chain, View, int | None]]] = defaultdict(list)  # this stage's writers
        for chain in stage:
            for item in chain.items:
                for view, axis in item.reads():
                    for other, wrote, along in fresh[view.buffer]:
                        if other is not chain:
                            refuse(after, f"{view.buffer.name} is read and written in one stage", item)
                        alike = None is not view.parts(axis, chain.rows) == wrote.parts(along, chain.rows)
                        if not (plan.serial or chain.rows == 1 or alike):
                            refuse(
                                after, f"{view.buffer.name} is read across rows that one stage writes", item
                            )
                for view, axis in item.writes():
                    fresh[view.buffer].append((chain, view, axis))
    for first, second in overlapping(plan):
        both = [item for item in plan.items for _, view in accesses(item) if view.buffer is second]
        refuse(after, f"{first.name} and {second.name} are needed at once and share memory", both[0])
    return plan


def overlapping(plan: Schedule) -> Iterator[tuple[Buffer, Buffer]]:
    """Pairs of buffers with bytes in common that are alive at the same time."""
    found = sorted(lives(plan), key=lambda life: (life.buffer.place, life.start))
    for k, one in enumerate(found):
        for other in found[k + 1 :]:
            if other.buffer.place >= one.buffer.place + one.buffer.bytes:
                break
            same = one.buffer.place == other.buffer.place and (one.before(other) or other.before(one))
            if not (same or one.ends < other.begins or other.ends < one.begins):
                yield one.buffer, other.buffer
