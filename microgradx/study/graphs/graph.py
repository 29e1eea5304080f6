"""What a tensor was computed from, as a list of values: the operation behind each, its inputs, its gradient.

`trace(loss)` reads the tape and disturbs nothing: gradients come from a backward pass that accumulates in no
`.grad` and keeps the graph. Values that the tape does not hold are computed again from those it does.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from microgradx.compiler.capture.user_code import user_frame
from microgradx.cuda import Array
from microgradx.eager.apply import apply
from microgradx.eager.box import look
from microgradx.eager.devices import on_host
from microgradx.eager.gradients import differentiate
from microgradx.eager.mode import Within, no_grad
from microgradx.eager.tape import Edge, Node
from microgradx.eager.tensor import Tensor, wrap
from microgradx.errors import ArgumentError, GradientError
from microgradx.nn import Module
from microgradx.nn.module import held
from microgradx.primitives import Operand
from microgradx.study.graphs.numbers import number

FREED = (
    "this graph cannot be shown: an earlier backward() freed it ({name}). Show it before backward(), keep it "
    "with backward(retain_graph=True), or run the forward pass again."
)


@dataclass(eq=False)
class Call:
    """One call of a module: the box around the operations that its forward made."""

    module: Module
    name: str  # what the module around it, or the user, calls it
    outer: "Call | None"
    turn: int = 1  # the module's first call, its second

    @property
    def title(self) -> str:
        """`0: Linear`, and from the second call on which one it is."""
        title = f"{self.name}: {type(self.module).__name__}".removeprefix(": ")
        return title if self.turn == 1 else f"{title}, call {self.turn}"

    @property
    def path(self) -> list["Call"]:
        """The calls around it and itself, the outermost first."""
        return [*(self.outer.path if self.outer else []), self]


@dataclass(eq=False)
class Value:
    """A number or array of the computation: a leaf, a constant, or what an operation made."""

    step: int  # its place in the textbook's table, from 1
    name: str
    kind: str  # "parameter", "leaf", "constant" or "operation"
    op: str = ""
    inputs: list[object] = field(default_factory=list)  # Values, and what is no array as Python has it
    data: Operand = None
    gradient: np.ndarray | None = None
    call: Call | None = None
    edge: Any = None  # the Node or leaf on the tape, as `kind` says; None for a constant

    @property
    def sources(self) -> list["Value"]:
        """Its inputs that are Values, each once."""
        return list(dict.fromkeys(x for x in self.inputs if isinstance(x, Value)))

    @property
    def formula(self) -> str:
        """The operation; with a dot for every Value where it also took numbers, `multiply(·, 2)`."""
        if not any(isinstance(x, int | float) for x in self.inputs):
            return self.op
        words = ["·" if isinstance(x, Value) else number(x) for x in self.inputs]
        return f"{self.op}({', '.join(words)})"

    @property
    def path(self) -> list[Call]:
        """The module calls that it was made in, the outermost first."""
        return self.call.path if self.call else []


def trace(
    y: Tensor, gradient: ArrayLike | None = None, names: Mapping[str, object] | None = None
) -> list[Value]:
    """The values that y was computed from, in the order in which they came to be; y is the last.

    They carry gradients where y is one number or `gradient` says what arrives at it. `names` are the user's
    variables, {"x": x}; without it they are those of the function that called.
    """
    if not isinstance(y, Tensor):
        raise ArgumentError(f"a graph is that of a Tensor, such as a loss, not of a {type(y).__name__}.")
    look(y, "looking at a graph")
    if not y.requires_grad:
        why = "it depends on no tensor with requires_grad=True, or was computed under no_grad()"
        raise GradientError(f"there is no graph behind this tensor: {why}.")
    nodes = ancestors(y)
    for node in nodes:
        node.check()
    edges: dict[Edge, Operand]
    edges = {edge: None for node in nodes for edge in [*node.edges, node] if edge is not None} or {y: None}
    if y.size == 1 or gradient is not None:
        differentiate(y, gradient, retain_graph=True, watch=edges)
    return Tracer(y, edges, Names(names)).values(nodes)


def ancestors(y: Tensor) -> list[Node]:
    """The nodes that y was computed by, oldest first; GradientError where they were freed."""
    found: set[Node] = set()
    waiting = [y._node] if y._node else []
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        if node.saved is None:
            raise GradientError(FREED.format(name=node.op.name))
        found.add(node)
        waiting += [edge for edge in node.edges if type(edge) is Node]
    return sorted(found, key=lambda node: node.number)


class Names:
    """What the user calls tensors, arrays and modules."""

    def __init__(self, given: Mapping[str, object] | None):
        spaces: list[Mapping[str, object]] = [given] if given is not None else []
        if given is None:
            frame = user_frame()
            spaces = [frame.f_locals, frame.f_globals]
        self.found: dict[object, str] = {}
        for space in spaces:
            for name, thing in list(space.items()):
                if not name.startswith("_"):
                    for key in identities(thing):
                        self.found.setdefault(key, name)

    def of(self, thing: object) -> str:
        """The name of a Tensor, node, array or module; "" for what has none."""
        given = thing.name if isinstance(thing, Tensor) else None
        return given or next((self.found[key] for key in identities(thing) if key in self.found), "")


def identities(thing: object) -> Iterator[object]:
    """By what a tensor, an array or a module is recognised: itself, its node, its memory."""
    if isinstance(thing, Tensor):
        yield id(thing._node or thing)
        thing = thing._data if thing._node is None else None
    elif isinstance(thing, Module | Node):
        yield id(thing)
    if isinstance(thing, Array):
        yield id(thing)
    elif isinstance(thing, np.ndarray):
        yield thing.__array_interface__["data"][0], thing.shape


class Tracer:
    """Turns nodes into Values: computes what was not kept, finds names and modules."""

    def __init__(self, y: Tensor, gradients: dict[Edge, Operand], names: Names):
        self.gradients, self.names = gradients, names
        self.arrays: dict[object, Operand] = {y._node: y._data} if y._node else {}
        self.calls: dict[int, Call] = {}
        self.turns: dict[tuple[int, Call | None], int] = {}
        self.made: dict[object, Value] = {}
        if not y._node:
            self.leaf(y)

    def values(self, nodes: list[Node]) -> list[Value]:
        """Leaves and constants in the order of their first use, then the operations; numbered."""
        for node in nodes:
            self.arrays.update(kept(node))
        for node in nodes:
            self.call(node.within)
        owners = dict(self.owners())
        for node in nodes:
            for edge in node.edges:
                if isinstance(edge, Tensor):
                    self.leaf(edge, *owners.get(id(edge), ("", None)))
            self.operation(node)
        found = sorted(self.made.values(), key=lambda value: value.kind == "operation")
        for i, value in enumerate(found, 1):
            value.step, value.name = i, value.name or f"v{i}"
        return found

    def call(self, within: Within | None) -> Call | None:
        """The Call that a node was made in, and those around it."""
        if within is None or id(within) in self.calls:
            return self.calls.get(id(within))
        module, around = within
        assert isinstance(module, Module)
        outer = self.call(around)
        name = child_name(outer.module, module) if outer else self.names.of(module)
        turn = self.turns[id(module), outer] = self.turns.get((id(module), outer), 0) + 1
        self.calls[id(within)] = found = Call(module, name, outer, turn)
        return found

    def owners(self) -> Iterator[tuple[int, tuple[str, Call | None]]]:
        """For every parameter its full name and the first call, if any, of the module that has it."""
        roots = {id(call.module): call for call in self.calls.values() if call.outer is None}
        full: dict[int, str] = {}
        for call in roots.values():
            prefix = f"{call.name or type(call.module).__name__}." if len(roots) > 1 else ""
            for name, parameter in call.module.named_tensors(prefix):
                full.setdefault(id(parameter), name)
        yield from ((key, (name, None)) for key, name in full.items())
        for call in reversed(self.calls.values()):
            for _, thing in held(call.module):
                if isinstance(thing, Tensor) and id(thing) in full:
                    yield id(thing), (full[id(thing)], call)

    def leaf(self, leaf: Tensor, full: str = "", owner: Call | None = None) -> None:
        """A Tensor that was made, not computed."""
        if leaf not in self.made:
            kind, name = "parameter" if full else "leaf", full or self.names.of(leaf)
            self.enter(leaf, Value(0, name, kind, call=owner, data=snapshot(leaf._data), edge=leaf))
            self.arrays[leaf] = leaf._data

    def operation(self, node: Node) -> None:
        """What an operation made; computed again where the tape does not hold it."""
        inputs: list[object] = []
        for edge, saved in zip(node.edges, node.saved, strict=True):
            inputs.append(self.made[edge] if edge is not None else self.constant(saved, node))
        if node not in self.arrays:
            pairs = zip(node.edges, node.saved, strict=True)
            given = [saved if edge is None else self.arrays[edge] for edge, saved in pairs]
            given = [wrap(x) if isinstance(x, np.ndarray | Array) else x for x in given]
            with no_grad():
                self.arrays[node] = apply(node.op, *given, **node.params)._data
        call = self.calls.get(id(node.within))
        value = Value(0, self.names.of(node), "operation", node.op.name, inputs, call=call, edge=node)
        value.data = self.arrays[node]
        self.enter(node, value)

    def constant(self, saved: Operand, node: Node) -> object:
        """An array without gradient as a Value; numbers stay what they are."""
        if not isinstance(saved, np.ndarray | Array):
            return saved
        if saved.ndim == 0:
            return on_host(saved).item()
        if id(saved) not in self.made:
            name, inside = self.names.of(saved), self.calls.get(id(node.within))
            call = None if name else inside  # which is where a mask of dropout, say, was made
            self.enter(id(saved), Value(0, name, "constant", data=snapshot(saved), call=call))
        return self.made[id(saved)]

    def enter(self, key: object, value: Value) -> None:
        """Keep a value, with the gradient that arrived at it."""
        g = self.gradients.get(value.edge)
        self.made[key] = value
        value.gradient = None if g is None else on_host(g._data if isinstance(g, Tensor) else g)


def snapshot(array: Operand) -> np.ndarray:
    """What an array holds now: parameters and batches may be written to before they are shown."""
    return np.array(on_host(array))


def kept(node: Node) -> Iterable[tuple[Node, Operand]]:
    """The arrays that a node keeps: its output, and inputs that other nodes made."""
    if node.out is not None:
        yield node, node.out
    for edge, saved in zip(node.edges, node.saved, strict=True):
        if type(edge) is Node and isinstance(saved, np.ndarray | Array):
            yield edge, saved


def child_name(outer: Module, inner: Module) -> str:
    """What a module calls one inside it, at any depth: `0`, `encoder.0`; "" where it is no attribute."""
    for name, child in outer.named_children():
        if child is inner:
            return name
        if below := child_name(child, inner):
            return f"{name}.{below}"
    return ""
