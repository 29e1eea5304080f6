"""From items of work to stages that many threads share.

Work that goes row by row through the same rows forms a chain: a thread takes a few rows through all of it, in
cache. A stage is all chains that need nothing from each other; a later stage begins when it is finished.
Pieces have fixed sizes, whatever the number of threads, so results have the same bits for any number.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby

from microgradx.compiler.loops import (
    Buffer,
    Compute,
    Gather,
    Host,
    Item,
    Matmul,
    Nest,
    Read,
    Reduce,
    Rows,
    Statement,
    View,
    operands,
)  # fmt: skip
from microgradx.errors import CompileError

ALONE = 25_000.0  # nanoseconds of work in a step below which one thread is faster than two
PIECE = 12_000.0  # nanoseconds that a piece should take
LINE = 64


@dataclass(eq=False)
class Chain:
    """Items done one after the other for some rows at a time, `piece` rows a time."""

    rows: int
    items: list[Item]
    piece: int = 0
    name: str = ""

    @property
    def pieces(self) -> int:
        """Into how many pieces it is cut."""
        return -(-self.rows // self.piece) if self.piece else 1

    @property
    def cost(self) -> float:
        """A guess of its time on one thread, in nanoseconds."""
        return sum(map(cost, self.items))


@dataclass(eq=False)
class Schedule:
    """Stages of chains, and how much memory the values between them need."""

    stages: list[list[Chain]]
    serial: bool
    arena: int = 0
    late: bool = False  # whether an index is checked after something outside has changed
    stored: set[Buffer] = field(default_factory=set)

    @property
    def chains(self) -> list[Chain]:
        """All chains in order."""
        return [chain for stage in self.stages for chain in stage]

    @property
    def items(self) -> list[Item]:
        """All items in order."""
        return [item for chain in self.chains for item in chain.items]

    def __str__(self) -> str:
        lines = []
        for k, stage in enumerate(self.stages):
            for chain in stage:
                cut = f"{chain.pieces} pieces of {chain.piece} rows" if chain.pieces > 1 else "one piece"
                lines.append(f"stage {k}: {chain.name}, {cut}, about {chain.cost / 1e3:.3g} us")
                lines += [f"    {type(item).__name__.lower():8} {item.line or ''}" for item in chain.items]
        return "\n".join(lines)


def cost(item: Item) -> float:
    """A guess of an item's time on one thread, in nanoseconds."""
    if isinstance(item, Matmul):
        return item.flop / 60
    if isinstance(item, Nest):
        slow = sum(
            isinstance(s, Compute) and getattr(s.function, "name", "") not in CHEAP or isinstance(s, Reduce)
            for s in item.statements
        )
        return math.prod(item.domain) * (0.2 * len(item.statements) + 1.5 * slow)
    if isinstance(item, Rows):
        return sum(map(cost, item.nests))
    if isinstance(item, Gather):
        return sum(out.size for out, _ in item.outs) * 0.5
    return item.flop / 4


CHEAP = {
    "",
    "add",
    "subtract",
    "multiply",
    "divide",
    "negative",
    "square",
    "absolute",
    "maximum",
    "minimum",
    "where",
}
CHEAP |= {
    "relu",
    "less",
    "greater",
    "less_equal",
    "greater_equal",
    "equal",
    "not_equal",
    "leaky_relu",
    "clip",
}


def aligned(view: View, axis: int | None, rows: int) -> bool:
    """Whether row i along an axis of a view touches nothing but the i-th of `rows` parts of its buffer."""
    size = view.buffer.size
    if axis is None or rows < 2 or size % rows or axis >= view.ndim:
        return False
    row = size // rows
    others = [(n, s) for a, (n, s) in enumerate(zip(view.shape, view.strides, strict=True)) if a != axis]
    if view.shape[axis] != rows or view.strides[axis] != row or any(s < 0 for _, s in others):
        return False
    return view.offset >= 0 and view.offset + sum((n - 1) * s for n, s in others if n) < row


class Stager:
    """Finds for each item, in order, the earliest stage in which it may run."""

    def __init__(self, serial: bool):
        self.serial = serial
        self.readers: dict[Buffer, list] = defaultdict(list)
        self.writers: dict[Buffer, list] = defaultdict(list)

    def together(self, first: tuple, second: tuple) -> bool:
        """Whether two items may touch a buffer in the same stage, one after the other."""
        (a, view_a, axis_a), (b, view_b, axis_b) = first, second
        if self.serial or a.rows == b.rows == 1:
            return True
        return a.rows == b.rows and aligned(view_a, axis_a, a.rows) and aligned(view_b, axis_b, b.rows)

    def place(self, item: Item, least: int = 0) -> None:
        """Set an item's stage: after, or together with, all that it depends on."""
        stage = least
        reads = [(item, view, axis) for view, axis in item.reads()]
        writes = [(item, view, axis) for view, axis in item.writes()]
        pairs = [(w, r) for r in reads for w in self.writers[r[1].buffer]]
        pairs += [(x, w) for w in writes for x in self.readers[w[1].buffer] + self.writers[w[1].buffer]]
        for earlier, now in pairs:
            if earlier[0] is not item:
                stage = max(stage, earlier[0].stage + (not self.together(earlier, now)))
        if isinstance(item, Host):  # alone: compiled code ends before it and begins again behind it
            stage = max(stage, *(i.stage + 1 for accesses in (*self.readers.values(), *self.writers.values())
                                 for i, *_ in accesses), 0, 0)  # fmt: skip
            self.least = stage + 1
        item.stage = max(stage, getattr(self, "least", 0) if not isinstance(item, Host) else 0)
        for access in reads:
            self.readers[access[1].buffer].append(access)
        for access in writes:
            self.writers[access[1].buffer].append(access)


def outside(item: Item) -> bool:
    """Whether an item changes memory that outlives the step."""
    return any(
        view.buffer.source is not None and view.buffer.source[0] == "bound" for view, _ in item.writes()
    )


def schedule(items: list[Item]) -> Schedule:
    """Stages, chains, fused nests and places in memory."""
    items = sink(items)
    serial = sum(map(cost, items)) < ALONE
    first = Stager(serial)
    changed: set[Buffer] = set()  # after something outside has changed
    early, late = -1, False
    for item in items:
        first.place(item)
        after = any(view.buffer in changed for view, _ in item.reads())
        if item.checks and after:
            late = True
        elif item.checks:
            early = max(early, item.stage)
        if after or outside(item):
            changed |= {view.buffer for view, _ in item.writes()}
    stager = Stager(serial)
    for item in items:
        stager.place(item, early + 1 if outside(item) else 0)
    found: dict[tuple[int, int], list[Item]] = defaultdict(list)
    for item in items:
        found[item.stage, 0 if serial and not isinstance(item, Host) else item.rows].append(item)
    stages = []
    for _, group in groupby(sorted(found.items(), key=lambda pair: pair[0][0]), key=lambda pair: pair[0][0]):
        stages.append([Chain(rows or 1, gather_rows(fuse(list(part)))) for (_, rows), part in group])
    plan = Schedule(stages, serial, late=late)
    for chain in plan.chains:
        cut(chain, serial)
    plan.stored = stored(plan.items)
    plan.arena = settle(plan)
    return plan


def cut(chain: Chain, serial: bool) -> None:
    """Choose how many rows make a piece: from the work alone, never from the number of threads."""
    products = [item for item in chain.items if isinstance(item, Matmul) and item.b.size >= 2048]
    least = 64 if products else 1
    wanted = 1 if serial else min(16, round(chain.cost / PIECE), chain.rows // least)
    chain.piece = -(-chain.rows // max(1, wanted))
    if chain.rows > 256 and wanted > 1:
        chain.piece = -(-chain.piece // 16) * 16


# Fusing


def sink(items: list[Item]) -> list[Item]:
    """Move what has one reader alone into the loops of that reader: it need not be kept in memory."""
    kept: dict[int, Item] = dict(enumerate(items))
    users: dict[Buffer, set[int]] = defaultdict(set)
    writers: dict[Buffer, list[int]] = defaultdict(list)
    for k, item in kept.items():
        for view, _ in item.reads():
            users[view.buffer].add(k)
        for view, _ in item.writes():
            writers[view.buffer].append(k)
    for k in reversed(range(len(items))):
        item = kept[k]
        if (
            not isinstance(item, Nest)
            or len(item.statements) > 1
            or not isinstance(item.statements[0], Compute)
        ):
            continue
        out = item.statements[0].out
        if out.buffer.source is not None or not out.whole or len(users[out.buffer]) != 1:
            continue
        (user,) = users[out.buffer]
        reader = kept[user]
        if not isinstance(reader, Nest) or reader.domain != item.domain or writers[out.buffer] != [k]:
            continue
        inputs = {view.buffer for view, _ in item.reads()}
        direct = all(
            isinstance(arg, Read) and arg.view == out for arg in reader.args() if out in operands((arg,))
        )
        if direct and not any(k < w < user for buffer in inputs for w in writers[buffer]):
            reader.statements = [*item.statements, *reader.statements]
            del kept[k]
            for buffer in inputs:
                users[buffer] = users[buffer] - {k} | {user}
    return list(kept.values())


def fuse(items: list[Item]) -> list[Item]:
    """Merge nests over one domain that share some memory, where what lies between them allows it."""
    result: list[Item] = []
    for item in items:
        host = target(result, item) if isinstance(item, Nest) else None
        if host is None:
            result.append(item)
        else:
            host.statements += item.statements
            host.line = host.line or item.line
    return result


def target(result: list[Item], item: Nest) -> Nest | None:
    """The nest that an item's statements can be appended to."""
    reads = {view.buffer for view, _ in item.reads()}
    writes = {view.buffer for view, _ in item.writes()}
    for nest in reversed(result):
        made = {view.buffer for view, _ in nest.writes()}
        read = {view.buffer for view, _ in nest.reads()}
        near = isinstance(nest, Nest) and (nest.domain, nest.axis) == (item.domain, item.axis)
        if near and (made | read) & (reads | writes) and joins(nest, item):
            return nest  # type: ignore[return-value]
        if made & (reads | writes) or writes & read:
            return None
    return None


def gather_rows(items: list[Item]) -> list[Item]:
    """Put neighbouring nests over the same rows into one loop over rows."""
    result: list[Item] = []
    for item in items:
        last = result[-1] if result else None
        if isinstance(item, Nest) and isinstance(last, Nest | Rows) and shares_rows(last, item):
            if isinstance(last, Nest):
                result[-1] = last = Rows(last.line, [last])
                last.stage = item.stage
            last.nests.append(item)
        else:
            result.append(item)
    return result


def shares_rows(first: Nest | Rows, nest: Nest) -> bool:
    """Whether a row can go through both, one after the other."""
    axes = {n.axis for n in ([first] if isinstance(first, Nest) else first.nests)}
    if axes != {0} or nest.axis != 0 or first.rows != nest.rows or nest.rows < 2:
        return False
    before = [*first.reads(), *first.writes()]
    written = {view.buffer for view, _ in first.writes()}
    for view, axis in nest.reads():
        if view.buffer in written and not aligned(view, axis, nest.rows):
            return False
    shared = written | {view.buffer for view, _ in nest.writes()}
    both = [*before, *nest.reads(), *nest.writes()]
    touched = {view.buffer for view, _ in before} & {
        view.buffer for view, _ in [*nest.reads(), *nest.writes()]
    }
    return all(aligned(view, axis, nest.rows) for view, axis in both if view.buffer in shared & touched)


def joins(nest: Nest, item: Nest) -> bool:
    """Whether the statements of a nest over the same domain may follow in the same loops."""
    reduced = {s.out.buffer for s in nest.statements if isinstance(s, Reduce)}
    computed = {s.out.buffer: s.out for s in nest.statements if isinstance(s, Compute)}
    axes = {s.axes for s in [*nest.statements, *item.statements] if isinstance(s, Reduce)}
    read = {view.buffer: view for arg in nest.args() for view in operands((arg,))}
    for arg in item.args():
        for view in operands((arg,)):
            same = isinstance(arg, Read) and view == computed.get(view.buffer)
            if view.buffer in reduced or (view.buffer in computed and not same):
                return False
    for s in item.statements:
        if s.out.buffer in read and s.out != read[s.out.buffer]:
            return False
        if s.out.buffer in reduced or (s.out.buffer in computed and s.out.buffer.source is None):
            return False
    return len(axes) < 2


def stored(items: list[Item]) -> set[Buffer]:
    """The buffers that must be in memory: those that something else reads than the loops that fill them."""
    needed = set()
    for item in items:
        nests = item.nests if isinstance(item, Rows) else [item] if isinstance(item, Nest) else []
        if not nests:
            needed |= {view.buffer for view, _ in [*item.reads(), *item.writes()]}
        numbers = one_per_row(nests) if isinstance(item, Rows) else set()
        for nest in nests:
            made = {s.out.buffer: s.out for s in nest.statements if isinstance(s, Compute)}
            for s in nest.statements:
                for arg in arguments(s):
                    for view in operands((arg,)):
                        local = isinstance(arg, Read) and view == made.get(view.buffer)
                        if not local and not (view.buffer in numbers and isinstance(arg, Read)):
                            needed.add(view.buffer)
                whole = s.out.whole and (isinstance(s, Compute) or s.out.buffer in numbers)
                if not whole or s.out.buffer.source is not None:
                    needed.add(s.out.buffer)
    return needed


def one_per_row(nests: list[Nest]) -> set[Buffer]:
    """Buffers of one number for each row, made in one of the nests."""
    found = set()
    for nest in nests:
        for s in nest.statements:
            kept = len(nest.domain) - (len(s.axes) if isinstance(s, Reduce) else 0)
            if kept == 1 and s.out.size == nest.rows and s.out.whole and s.out.buffer.source is None:
                found.add(s.out.buffer)
    return found


def arguments(s: Statement) -> tuple:
    """The operands of a statement."""
    return s.args if isinstance(s, Compute) else (s.arg,)


# Memory


def settle(plan: Schedule) -> int:
    """Give every stored buffer of the arena a slot; those never needed at once may share one. The bytes of all."""
    spans: dict[Buffer, list[int]] = {}
    moments = [(k, item) for k, stage in enumerate(plan.stages) for chain in stage for item in chain.items]
    for n, (stage, item) in enumerate(moments):
        time = n if plan.serial else stage
        for view, _ in [*item.reads(), *item.writes()]:
            if view.buffer.source is None and view.buffer in plan.stored:
                spans.setdefault(view.buffer, [time, time])[1] = time
    slots: list[list[Buffer]] = []
    for buffer in sorted(spans, key=lambda b: (-b.bytes, spans[b])):
        start, stop = spans[buffer]
        for slot in slots:
            if all(spans[b][1] < start or stop < spans[b][0] for b in slot):
                slot.append(buffer)
                break
        else:
            slots.append([buffer])
    at = 0
    for slot in slots:
        for buffer in slot:
            buffer.place = at
        at += -(-max(slot[0].bytes, 1) // LINE) * LINE
    return at


def check(plan: Schedule) -> Schedule:
    """Raise CompileError where a stage reads what is not there yet, or two live buffers share memory."""
    ready: set[Buffer] = set()
    for stage in plan.stages:
        fresh: dict[Buffer, list] = defaultdict(list)
        for chain in stage:
            for item in chain.items:
                for view, axis in item.reads():
                    buffer = view.buffer
                    for other, w in fresh[buffer]:
                        if other is not chain:
                            raise CompileError(
                                f"{buffer.name} is read and written in one stage. Please report this."
                            )
                        if not (plan.serial or chain.rows == 1) and not (
                            aligned(view, axis, chain.rows) and aligned(*w, chain.rows)
                        ):
                            raise CompileError(
                                f"{buffer.name} is read across rows in the stage that writes it."
                            )
                    if buffer.source is None and buffer not in ready and not fresh[buffer]:
                        local = any(view.buffer is buffer for view, _ in item.writes())
                        if not local:
                            raise CompileError(
                                f"{buffer.name} is read before it is written. Please report this."
                            )
                for view, axis in item.writes():
                    fresh[view.buffer].append((chain, (view, axis)))
        ready |= fresh.keys()
    return plan
