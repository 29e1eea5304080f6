"""`mg.tape(loss)`: the tape as the textbook's table, and its walk backward, one node at a time."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike

from microgradx.eager.devices import on_host
from microgradx.eager.gradients import differentiate
from microgradx.eager.tape import Edge, Node
from microgradx.eager.tensor import Tensor, wrap
from microgradx.errors import GradientError
from microgradx.kernels.texts import source_of, tree_of
from microgradx.palette import BACK, FORWARD
from microgradx.primitives import Operand
from microgradx.study.graphs.graph import Value, trace
from microgradx.study.graphs.numbers import number, shape_of, short

HEAD = ["step", "name", "operation", "inputs", "shape", "value", "gradient"]

MOST = 200
"""A longer table is printed without its middle."""


def tape(y: Tensor, gradient: ArrayLike | None = None, names: Mapping[str, object] | None = None) -> Tape:
    """The tape behind y as a table: step, operation, inputs, value and gradient, which print() shows.

    `.steps()` replays the way back, one node at a time. Gradients are there where y is one number or
    `gradient` says what arrives at it; the `.grad` of parameters stays as it is. Names are those of your
    variables, or `names`. Raises ArgumentError for what is no Tensor, GradientError without a graph.

    >>> weight = mg.tensor(2.0, requires_grad=True)
    >>> print(mg.tape(weight * 3))
    step  name    operation  inputs     shape  value  gradient
    1     weight  leaf                         2      3
    2     v2      multiply   weight, 3         6      1
    """
    return Tape(trace(y, gradient, names))


class Tape:
    """The values of a computation, the last one the result."""

    def __init__(self, values: list[Value]):
        self.values = values

    def rows(self) -> list[list[str]]:
        """The cells of the table, without its head; of a very long one without its middle."""
        gone = len(self.values) - MOST
        if gone <= 0:
            return [row(value) for value in self.values]
        gap = ["...", f"{gone:,} more", *[""] * (len(HEAD) - 2)]
        first, last = self.values[: MOST // 2], self.values[-MOST // 2 :]
        return [*map(row, first), gap, *map(row, last)]

    def steps(self) -> Iterator[Step]:
        """Backward from the result: at every node what arrived, and what it sends to its inputs."""
        if self.values[-1].gradient is None:
            shape = self.values[-1].data.shape
            raise GradientError(
                f"the way back from a tensor of shape {shape} starts with its gradient: tape(y, gradient)."
            )
        walk = [x for x in reversed(self.values) if x.kind == "operation" and x.gradient is not None]
        totals: dict[Value, Operand] = {}
        for i, value in enumerate(walk, 1):
            sent = []
            for source, part in parts(value):
                totals[source] = totals[source] + part if source in totals else part
                sent.append(Sent(source, part, totals[source]))
            yield Step(i, len(walk), value, sent)

    def __str__(self) -> str:
        lines = [HEAD, *self.rows()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ("  ".join(map(str.ljust, line, widths)) for line in lines)
        return "\n".join(map(str.rstrip, text))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        colours = {"value": f' style="color:{FORWARD}"', "gradient": f' style="color:{BACK}"'}
        tags = [f"<td{colours.get(name, '')}>" for name in HEAD]
        lines = ["".join(f"<th>{name}</th>" for name in HEAD)]
        for cells in self.rows():
            pairs = zip(tags, cells, strict=True)
            lines.append("".join(f"{tag}{escape(cell)}</td>" for tag, cell in pairs))
        return "\n".join(["<table>", *(f"<tr>{line}</tr>" for line in lines), "</table>"])


def row(value: Value) -> list[str]:
    """The cells of one value."""
    what = value.op or value.kind
    g = "" if value.gradient is None else short(value.gradient)
    return [str(value.step), value.name, what, inputs(value), shape_of(value.data), short(value.data), g]


def inputs(value: Value) -> str:
    """The names of what an operation took, numbers as they are."""
    shown = (x for x in value.inputs if isinstance(x, Value | int | float))
    return ", ".join(x.name if isinstance(x, Value) else number(x) for x in shown)


@dataclass
class Sent:
    """What a node passes to one of its inputs, and what has come together there so far."""

    to: Value
    part: np.ndarray
    total: np.ndarray


@dataclass
class Step:
    """One node of the way back: the gradient that arrived at it is sent on to its inputs."""

    number: int
    of: int
    value: Value
    sent: list[Sent]

    @property
    def rule(self) -> str:
        """The derivative as it is written, a slope or a vjp, without types; "" where it cannot be read."""
        op = self.value.edge.op
        try:
            text = source_of(op.rule).rstrip()
            definition = tree_of(text).body[0]
        except (OSError, TypeError):
            return ""
        except SyntaxError:  # a lambda in the middle of something
            return text
        if not isinstance(definition, ast.FunctionDef) or definition.body[0].lineno == definition.lineno:
            return text
        for node in ast.walk(definition.args):
            if isinstance(node, ast.arg):
                node.annotation = None
        body = text.splitlines()[definition.body[0].lineno - 1 :]
        return "\n".join([f"{op.declares}({ast.unparse(definition.args)}):", *body])

    def __str__(self) -> str:
        lines = [
            f"{self.number} of {self.of}   {self.value.name} = {self.value.op}({inputs(self.value)})",
            f"    value     {short(self.value.data)}",
            f"    gradient  {short(self.value.gradient)}",
            *(f"    {line}" for line in self.rule.splitlines()),
        ]
        for sent in self.sent:
            sum_so_far = f", {short(sent.total)} in all" if sent.total is not sent.part else ""
            lines.append(f"    -> {sent.to.name}: {short(sent.part)}{sum_so_far}")
        return "\n".join(lines)


class End:
    """Stands for an input of a node where the way back is to stop."""

    number = -1

    def __init__(self, edge: Node | Tensor):
        self.shape, self.dtype, self.ndim, self.size = edge.shape, edge.dtype, edge.ndim, edge.size


def parts(value: Value) -> Iterator[tuple[Value, np.ndarray]]:
    """What a node sends to its inputs: the tape's own loop, on a copy of the node that leads no further."""
    value.edge.check()
    node = copy(value.edge)
    node.edges = [None if edge is None else End(edge) for edge in node.edges]
    arrived: dict[Edge, Operand] = {end: None for end in node.edges if end is not None}
    y = wrap(value.data)
    y._node, y.requires_grad = node, True
    differentiate(y, value.gradient, retain_graph=True, watch=arrived)
    for source, end in zip(value.inputs, node.edges, strict=True):
        g = arrived.get(end)
        if g is not None and isinstance(source, Value):
            yield source, on_host(g._data if isinstance(g, Tensor) else g)
