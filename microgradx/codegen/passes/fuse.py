"""Loops merged: what is computed where it is used need not be kept; a row goes through several."""

import math
from collections import defaultdict

from microgradx.codegen.ir.loops import (
    Buffer,
    Compute,
    Item,
    Nest,
    Operand,
    Pick,
    Read,
    Reduce,
    Rows,
    Statement,
    operands,
)


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
        if not isinstance(item, Nest) or not isinstance(item.statements[0], Compute) or item.statements[1:]:
            continue
        out = item.statements[0].out
        if out.buffer.source is not None or not out.whole or len(users[out.buffer]) != 1:
            continue
        (user,) = users[out.buffer]
        reader = kept[user]
        inputs = {view.buffer for view, _ in item.reads()}
        between = any(k < w < user for buffer in inputs for w in writers[buffer])
        if between or writers[out.buffer] != [k] or not isinstance(reader, Nest) or not sinks(item, reader):
            continue
        reader.statements = [*item.statements, *reader.statements]
        reader.line = reader.line or item.line
        del kept[k]
        for buffer in inputs:
            users[buffer] = users[buffer] - {k} | {user}
    return list(kept.values())


def sinks(item: Nest, reader: Nest) -> bool:
    """Whether the loops of a reader may compute an element just before they read it."""
    out = item.statements[0].out
    if reader.domain != item.domain or not all(arg == Read(out) for arg in touching(reader, out.buffer)):
        return False
    if checks(item) and any(isinstance(s, Reduce) for s in reader.statements):
        return False  # an index is checked where rows begin, not where all of them meet
    made = (view for view, _ in reader.writes())  # another element of it may have been written before
    return all(arg == Read(view) for view in made for arg in touching(item, view.buffer))


def touching(nest: Nest, buffer: Buffer) -> list[Operand]:
    """The operands in a nest that read a buffer."""
    return [arg for arg in nest.args() if any(view.buffer is buffer for view in operands((arg,)))]


def checks(nest: Nest) -> bool:
    """Whether a nest looks up elements by indices that may be out of range."""
    return any(isinstance(arg, Pick) for arg in nest.args())


def fuse(items: list[Item]) -> list[Item]:
    """Merge nests over one domain that share some memory, where what lies between them allows it."""
    result: list[Item] = []
    for item in items:
        if isinstance(item, Nest) and (host := target(result, item)):
            host.statements += item.statements
            host.line = host.line or item.line
        else:
            result.append(item)
    return result


def target(result: list[Item], item: Nest) -> Nest | None:
    """The nest that an item's statements can be appended to."""
    reads = {view.buffer for view, _ in item.reads()}
    writes = {view.buffer for view, _ in item.writes()}
    for nest in reversed(result):
        made = {view.buffer for view, _ in nest.writes()}
        read = {view.buffer for view, _ in nest.reads()}
        near = (made | read) & (reads | writes)
        if near and isinstance(nest, Nest) and joins(nest, item):
            return nest
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
        if view.buffer in written and not view.aligned(axis, nest.rows):
            return False
    shared = written | {view.buffer for view, _ in nest.writes()}
    both = [*before, *nest.reads(), *nest.writes()]
    touched = {view.buffer for view, _ in before} & {
        view.buffer for view, _ in [*nest.reads(), *nest.writes()]
    }
    return all(view.aligned(axis, nest.rows) for view, axis in both if view.buffer in shared & touched)


def joins(nest: Nest, item: Nest) -> bool:
    """Whether the statements of a nest over the same domain may follow in the same loops."""
    if (nest.domain, nest.axis) != (item.domain, item.axis):
        return False
    reduced = {s.out.buffer for s in nest.statements if isinstance(s, Reduce)}
    computed = {s.out.buffer: s.out for s in nest.statements if isinstance(s, Compute)}
    axes = {s.axes for s in [*nest.statements, *item.statements] if isinstance(s, Reduce)}
    for arg in item.args():
        for view in operands((arg,)):
            same = isinstance(arg, Read) and view == computed.get(view.buffer)
            if view.buffer in reduced or (view.buffer in computed and not same):
                return False
    for s in item.statements:
        if any(arg != Read(s.out) for arg in touching(nest, s.out.buffer)):
            return False
        before = computed.get(s.out.buffer)
        if s.out.buffer in reduced or (before and (before != s.out or s.out.buffer.source is None)):
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
    return {
        s.out.buffer
        for nest in nests
        for s in nest.statements
        if s.out.size == nest.rows and s.out.whole and s.out.buffer.source is None
        and (isinstance(s, Reduce) or math.prod(nest.domain) == nest.rows)
    }  # fmt: skip


def arguments(s: Statement) -> tuple[Operand, ...]:
    """The operands of a statement."""
    return s.args if isinstance(s, Compute) else (s.arg,)
