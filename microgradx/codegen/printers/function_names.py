"""What the functions of an emitted file are called: after all that they do, or the name would mislead.

A function that leaves one or two things behind is called after them: `make_loss`, `make_mean_and_spread`. One
that leaves more has the names of the phases of the step that these belong to: `forward`, `back`,
`back_and_update_bias_2`.
"""

from collections import defaultdict

from microgradx.codegen.ir.loops import Buffer, Item, Rows
from microgradx.codegen.ir.ops import Gather, Sweep
from microgradx.codegen.ir.program import Line

PHASES = "forward", "back", "update"
"""Of a step: values; gradients and what is computed from them; what stays from step to step."""


def left(groups: list[list[Item]]) -> list[list[Buffer]]:
    """The buffers that each group of items leaves behind: for another group, or outside."""
    readers: dict[Buffer, set[int]] = defaultdict(set)
    for k, items in enumerate(groups):
        for item in items:
            for view, _ in item.reads():
                readers[view.buffer].add(k)
    made = [{view.buffer: None for item in items for view, _ in item.writes()} for items in groups]
    return [
        [buffer for buffer in found if buffer.source is not None or readers[buffer] - {k}]
        for k, found in enumerate(made)
    ]


def called(items: list[Item], behind: list[Buffer]) -> str:
    """A name for a function of these items, which leaves these buffers behind."""
    if all(isinstance(item, Gather) for item in items):
        return "gather_rows"
    gathered = {view.buffer for item in items if isinstance(item, Gather) for view, _ in item.writes()}
    behind = [buffer for buffer in behind if buffer not in gathered]
    phases = [phase for phase in PHASES if any(buffer.phase == phase for buffer in behind)]
    if "update" not in phases and len(behind) < 3:
        return f"make_{'_and_'.join(buffer.name for buffer in behind) or 'nothing'}"
    swept = [item.arrays[0].buffer.name for item in items if isinstance(item, Sweep)]
    updated = swept or [buffer.name for buffer in behind if buffer.phase == "update"]
    *first, last = phases
    name = "_and_".join(["_".join(first), last] if first else [last])
    return f"{name}_{updated[0]}" if len(updated) == 1 else name


def last_line(item: Item) -> Line | None:
    """The user's line that the text of an item ends with."""
    lines = [item.line, *(nest.line for nest in item.nests)] if isinstance(item, Rows) else [item.line]
    return next((line for line in reversed(lines) if line is not None), None)


def does(items: list[Item]) -> str:
    """What the functions of some items do: "gradients and adam on 1,408 parameters"."""
    written = {view.buffer.phase for item in items for view, _ in item.writes()}
    words = [name for phase, name in (("forward", "forward"), ("back", "gradients")) if phase in written]
    rules: dict[str, int] = defaultdict(int)
    for item in items:
        if isinstance(item, Sweep):
            rules[item.update.name] += item.arrays[0].size
    words += [f"{rule} on {count:,} parameters" for rule, count in rules.items()]
    *first, last = words or ["what stays from step to step"]
    return f"{', '.join(first)} and {last}" if first else last
