"""From items of work to stages that many threads share.

Work that goes row by row through the same rows forms a chain: a thread takes a few rows through all of it, in
cache. A stage is all chains that need nothing from each other; a later stage begins when it is finished.
Pieces have fixed sizes, whatever the number of threads, so results have the same bits for any number.
"""

import math
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import groupby

from microgradx.codegen.ir.loops import Bounded, Buffer, Compute, Item, Nest, Pick, Read, Reduce, Rows, View
from microgradx.codegen.ir.ops import Gather, Host, Matmul
from microgradx.codegen.ir.program import Value
from microgradx.codegen.passes.fuse import fuse, gather_rows, stored

ALONE = 25_000.0  # nanoseconds of work in a step below which one thread is faster than two
PIECE = 12_000.0  # nanoseconds that a piece should take
LINE = 64  # bytes that move between memory and a core together
WIDE = 64  # elements along an axis from which on loops may be cut along it, not along the first


@dataclass(eq=False)
class Chain:
    """Items done one after the other for some rows at a time, `piece` rows a time."""

    rows: int
    items: list[Item]
    piece: int = 0
    name: str = ""
    ordered: bool = True  # whether its items follow each other; else they may run at once

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
                about = f"{chain.name}, {cut}, about {chain.cost / 1e3:.3g} us"
                hosts = [item.name for item in chain.items if isinstance(item, Host)]
                lines.append(f"stage {k}: {', '.join(hosts)}, NumPy's" if hosts else f"stage {k}: {about}")
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
    "", "add", "subtract", "multiply", "divide", "negative", "square", "absolute", "maximum", "minimum",
    "where", "relu", "less", "greater", "less_equal", "greater_equal", "equal", "not_equal", "leaky_relu",
    "clip",
}  # fmt: skip
"""Functions of a few instructions."""


Access = tuple[Item, View, int | None]
"""Who reads or writes which elements, row by row along an axis."""


class Stager:
    """Finds for each item, in order, the earliest stage in which it may run."""

    def __init__(self, serial: bool):
        self.serial = serial
        self.readers: dict[Buffer, list[Access]] = defaultdict(list)
        self.writers: dict[Buffer, list[Access]] = defaultdict(list)

    def together(self, first: Access, second: Access) -> bool:
        """Whether two items may touch a buffer in the same stage, one after the other."""
        (a, view_a, axis_a), (b, view_b, axis_b) = first, second
        if self.serial or a.rows == b.rows == 1:
            return True
        return a.rows == b.rows and None is not view_a.parts(axis_a, a.rows) == view_b.parts(axis_b, b.rows)

    def place(self, item: Item, least: int = 0) -> None:
        """Set an item's stage: after, or together with, all that it depends on."""
        if isinstance(item, Nest):
            item.axis = self.first_axis(item, least)
        stage = self.earliest(item, least)
        if isinstance(item, Host):  # alone: compiled code ends before it and begins again behind it
            stage = max(stage, *(i.stage + 1 for accesses in (*self.readers.values(), *self.writers.values())
                                 for i, *_ in accesses), 0, 0)  # fmt: skip
            self.least = stage + 1
        item.stage = max(stage, getattr(self, "least", 0) if not isinstance(item, Host) else 0)
        for view, axis in item.reads():
            self.readers[view.buffer].append((item, view, axis))
        for view, axis in item.writes():
            self.writers[view.buffer].append((item, view, axis))

    def first_axis(self, nest: Nest, least: int) -> int | None:
        """The axis along which loops are cut to come first: columns follow columns, as in BatchNorm."""
        axes = [a for k, a in enumerate(nest.cuts) if not k or (nest.domain[a] >= WIDE and not self.serial)]
        if len(axes) < 2:
            return next(iter(axes), None)
        stages: dict[int, int] = {}
        for axis in axes:
            nest.axis = axis
            stages[axis] = self.earliest(nest, least)
        return min(stages, key=stages.__getitem__)

    def earliest(self, item: Item, least: int) -> int:
        """The first stage in which all that an item depends on is done, as far as its rows need it."""
        stage = least
        reads = [(item, view, axis) for view, axis in item.reads()]
        writes = [(item, view, axis) for view, axis in item.writes()]
        pairs = [(w, r) for r in reads for w in self.writers[r[1].buffer]]
        pairs += [(x, w) for w in writes for x in self.readers[w[1].buffer] + self.writers[w[1].buffer]]
        for earlier, now in pairs:
            if earlier[0] is not item:
                stage = max(stage, earlier[0].stage + (not self.together(earlier, now)))
        return stage


def outside(item: Item) -> bool:
    """Whether an item changes memory that outlives the step."""
    return any(isinstance(view.buffer.source, Value) for view, _ in item.writes())


def schedule(items: list[Item]) -> Schedule:
    """Stages, chains, fused nests and places in memory."""
    serial = sum(map(cost, items)) < ALONE
    stages, late = staged(items, serial)
    if not serial and not any(sum(c.pieces for c in stage if c.cost > PIECE / 2) > 1 for stage in stages):
        serial = True  # nothing for a second thread to do
        stages, late = staged(items, serial)
    plan = Schedule(stages, serial, late=late)
    for chain in plan.chains:
        chain.items = gather_rows(fuse(chain.items))
    plan.stored = stored(plan.items)
    plan.arena = settle(plan)
    return plan


def looked_up(item: Item) -> set[Hashable]:
    """The indices that an item checks: where they lie, and below what they must be."""
    nests = item.nests if isinstance(item, Rows) else [item] if isinstance(item, Nest) else []
    args = [arg for nest in nests for arg in nest.args()]
    args += [one for arg in args if isinstance(arg, Pick) for one in arg.at] + [*getattr(item, "at", ())]
    found: set[Hashable] = set()
    for arg in args:
        if isinstance(arg, Bounded) and isinstance(arg.arg, Read):
            view = arg.arg.view
            axes = tuple((n, s) for n, s in zip(view.shape, view.strides, strict=True) if n > 1)
            found.add((view.buffer, view.offset, axes, arg.size, arg.wrap))
        elif isinstance(arg, Bounded):
            found.add((item, arg))
    return found


def staged(items: list[Item], serial: bool) -> tuple[list[list[Chain]], bool]:
    """The stages, and whether an index is checked after something outside may have changed."""
    first = Stager(serial)
    changed: set[Buffer] = set()  # after something outside has changed
    known: set[Hashable] = set()  # indices that are checked before
    early, late = -1, False
    for item in items:
        first.place(item)
        after = outside(item) or any(view.buffer in changed for view, _ in item.reads())
        new = looked_up(item) - known
        known |= new
        if new and after:
            late = True
        elif new:
            early = max(early, item.stage)
        if after:
            changed |= {view.buffer for view, _ in item.writes()}
    stager = Stager(serial)
    for item in items:
        stager.place(item, early + 1 if outside(item) else 0)
    found: dict[tuple[int, int], list[Item]] = defaultdict(list)
    for item in items:
        found[item.stage, 0 if serial and not isinstance(item, Host) else item.rows].append(item)
    stages = []
    for _, group in groupby(sorted(found.items(), key=lambda pair: pair[0][0]), key=lambda pair: pair[0][0]):
        stages.append([cut(Chain(rows or 1, part), serial) for (_, rows), part in group])
    return stages, late


def cut(chain: Chain, serial: bool) -> Chain:
    """Choose how many rows make a piece: from the work alone, never from the number of threads."""
    products = [item for item in chain.items if isinstance(item, Matmul) and item.b.size >= 2048]
    least = 64 if products else 1
    wanted = 1 if serial else min(16, round(chain.cost / PIECE), chain.rows // least)
    chain.piece = -(-chain.rows // max(1, wanted))
    columns = any(
        isinstance(item, Nest) and item.axis and any(isinstance(s, Compute) for s in item.statements)
        for item in chain.items
    )
    if wanted > 1 and (chain.rows > 256 or (columns and chain.rows >= WIDE)):
        chain.piece = -(-chain.piece // 16) * 16  # columns of whole cache lines
    return chain


# Memory


@dataclass
class Life:
    """When a buffer of the arena is in use: from one item of a stage to another, in their order.

    `first` and `last` are the chains that alone use it in these stages, row by row where they are cut: each
    of their pieces has a part of the buffer for itself.
    """

    buffer: Buffer
    start: int
    begins: int
    first: Chain | None
    stop: int
    ends: int
    last: Chain | None

    def before(self, other: "Life") -> bool:
        """Whether the other may have its memory afterwards: no piece of a chain needs both at once."""
        if self.ends != other.begins:
            return self.ends < other.begins
        chain = self.last
        if chain is None or chain is not other.first or not chain.ordered:
            return False
        return self.stop < other.start and (chain.pieces == 1 or self.buffer.bytes == other.buffer.bytes)


def lives(plan: Schedule) -> list[Life]:
    """Those of all buffers of the arena that are stored."""
    found: dict[Buffer, Life] = {}
    moment = 0
    for stage, chains in enumerate(plan.stages):
        used: dict[Buffer, list[int]] = defaultdict(list)  # in this stage, when
        users: dict[Buffer, set[Chain | None]] = defaultdict(set)
        for chain in chains:
            for item in chain.items:
                moment += 1
                for view, axis in [*item.reads(), *item.writes()]:
                    buffer = view.buffer
                    if buffer.source is None and buffer in plan.stored:
                        by_rows = chain.pieces == 1 or view.aligned(axis, chain.rows)
                        used[buffer].append(moment)
                        users[buffer].add(chain if by_rows else None)
        for buffer, when in used.items():
            alone = users[buffer].pop() if len(users[buffer]) == 1 else None
            life = found.setdefault(buffer, Life(buffer, when[0], stage, alone, 0, 0, None))
            life.stop, life.ends, life.last = when[-1], stage, alone
    return [*found.values()]


def settle(plan: Schedule) -> int:
    """Give every stored buffer of the arena a slot, shared by those never needed at once; all bytes."""
    slots: list[list[Life]] = []
    for life in sorted(lives(plan), key=lambda life: (-life.buffer.bytes, life.start, life.stop)):
        for slot in slots:
            if all(life.before(other) or other.before(life) for other in slot):
                slot.append(life)
                break
        else:
            slots.append([life])
    at = 0
    for slot in slots:
        for life in slot:
            life.buffer.place = at
        at += -(-max(slot[0].buffer.bytes, 1) // LINE) * LINE
    return at
