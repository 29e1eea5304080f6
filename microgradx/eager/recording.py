"""How an operation gets on the tape, a move to another device among them."""

from collections.abc import Sequence

import numpy as np

from microgradx.eager.box import B, Box
from microgradx.eager.devices import Array, placed
from microgradx.eager.mode import mode
from microgradx.eager.tape import Edge, Guard, Node
from microgradx.primitives import Operand, Primitive, primitive


def record(
    op: Primitive, args: Sequence[Operand], arrays: Sequence[Operand], edges: list[Edge | None],
    params: dict[str, object], out: Box,
) -> None:  # fmt: skip
    """Write a node that keeps what the derivative reads, and nothing else."""
    reads = op.reads
    saved, guards = list(arrays), []
    for i, edge in enumerate(edges):
        if i in reads:
            if isinstance(args[i], Box):
                guards.append(guard(i, args[i]))
        elif edge is not None:
            saved[i] = edge  # knows its shape and dtype, which is all that the rule asks for
    kept = out._data if "out" in reads else None
    if kept is not None:
        guards.append(guard("out", out))
    out._node = Node(op, params, edges, saved, kept, guards, out._data)
    out.requires_grad = True


def guard(which: int | str, t: Box) -> Guard:
    """What to compare before backward reads a value: its version, while debugging its bytes too."""
    seen = (t._data, np.asarray(t._data).tobytes()) if mode.detect else None
    return which, t._version, t._version[0], seen


def move(t: B, device: str) -> B:
    """A copy on another device."""
    out = t.around(placed(t._data, device))
    if t.requires_grad and mode.record:
        record(moved, [t], [t._data], [t._node or t], {"device": t.device}, out)
    return out


@primitive
def moved(x: Array, *, device: str) -> Array:
    """The same values on another device; `device` is where they come from."""
    return x


@moved.vjp
def _(g: Operand, _out: Operand, _x: Operand, device: str) -> Operand:
    return g.to(device)
