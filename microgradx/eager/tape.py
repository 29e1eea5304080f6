"""The tape: which operation made which value, and the one loop that walks it backward.

Every recorded operation is a `Node` with a creation number. An operation's inputs exist before its
output, so walking the nodes in falling order of their numbers visits each one after all its users:
no recursion, no separate sort, any depth.
"""

import math
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol, final

import numpy as np

from microgradx.eager.devices import Array, Shape
from microgradx.eager.mode import mode, user_line
from microgradx.errors import GradientError, KernelError, MicrogradxError, NonFiniteError, undefined
from microgradx.primitives import Operand, Primitive
from microgradx.primitives.reductions import sum as sum_over
from microgradx.primitives.shapes import cast, reshape_to


class Leaf(Protocol):
    """Where a walk ends: a Tensor that was made, not computed, and keeps its gradient."""

    number: int  # below those of all nodes

    @property
    def shape(self) -> Shape:
        """The size of each axis."""

    @property
    def dtype(self) -> np.dtype:
        """The number type, which is that of its gradient."""

    def accumulate(self, g: Operand) -> None:
        """Add a gradient to the one that it has."""


Guard = tuple[int | str, list[int], int, tuple[Array, bytes] | None]
"""What to compare before backward reads a saved value: which input, or "out"; how often it has been changed
in place, and how often that was then; while debugging, the array and the bytes in it.
"""


@final
class Node:
    """One recorded operation: what it was, where its inputs came from, what its derivative reads."""

    __slots__ = (
        "number", "op", "params", "edges", "saved", "out", "guards", "shape", "dtype", "line", "within",
    )  # fmt: skip

    def __init__(
        self, op: Primitive, params: dict[str, object], edges: "list[Edge | None]", saved: list[Operand],
        out: Array | None, guards: list[Guard], like: Array,
    ):  # fmt: skip
        self.number = next(numbers)
        self.op, self.params = op, params
        self.edges = edges  # per input: the node that made it, a leaf Tensor, or None without gradient
        self.saved: Any = saved  # per input: its array where the rule reads it, else its edge; None if freed
        self.out = out  # the output array where the rule reads it
        self.guards = guards  # of every value that was saved
        self.shape, self.dtype = like.shape, like.dtype
        self.line = user_line() if mode.detect else ""
        self.within = mode.within  # for drawings, which show modules as boxes

    ndim = property(lambda self: len(self.shape), doc="The number of axes of the output.")
    size = property(lambda self: math.prod(self.shape), doc="The number of elements of the output.")

    def check(self) -> None:
        """Raise where the node was freed or where a value that it reads has changed since."""
        name = self.op.name
        if self.saved is None:
            advice = "Run the forward pass again, or keep the graph with backward(retain_graph=True)."
            raise GradientError(f"an earlier backward freed what it needed ({name}). {advice}")
        for which, version, then, seen in self.guards:
            if version[0] != then or (seen and np.asarray(seen[0]).tobytes() != seen[1]):
                what = "its output" if which == "out" else f"its input {which}"
                advice = f"Change a copy, or make the change after backward().{self.line}"
                raise GradientError(f"{name}: backward needs {what}, but it was changed in place. {advice}")

    def free(self) -> None:
        """Let go of everything that the derivative reads."""
        self.saved = self.out = self.within = None
        self.edges, self.guards = [], []


Edge = Node | Leaf
"""What a gradient flows to."""

Graph = Callable[[Operand, Edge | None], Operand]
"""Turns what was saved, by whoever made it, into a Tensor that is attached to the tape."""

numbers = count()


def inspect_values(op: Primitive, arrays: list[np.ndarray], out: np.ndarray) -> None:
    """Raise NonFiniteError where an operation makes a NaN or an infinity out of finite numbers."""
    bad = ~np.isfinite(out)
    if bad.any() and all(np.isfinite(a).all() for a in arrays):
        first = tuple(np.argwhere(bad)[0].tolist())
        count = f"{bad.sum()} of {out.size} elements, the first at index {first}"
        raise NonFiniteError(f"{op.name} produced {out[first]} from finite inputs: {count}.{user_line()}")


def unbroadcast(op: Primitive, g: Operand, shape: Shape) -> Operand:
    """Sum a gradient over the axes along which its input was repeated."""
    if not hasattr(g, "shape"):
        what = f"the {type(g).__name__} {g!r} for an input of shape {shape}"
        advice = "It returns arrays, made of the gradient g, or None for an input without one"
        raise GradientError(f"{op.name}: its rule gave {what}. {advice}.")
    extra = g.ndim - len(shape)
    if extra < 0 or any(n != m and m != 1 for n, m in zip(g.shape[extra:], shape, strict=True)):
        raise GradientError(
            f"{op.name}: its rule gave a gradient of shape {g.shape} for an input of shape {shape}. "
            "It returns one per input, in their order, each of its input's shape; is a .T or a sum missing?"
        )
    axes = tuple(i for i, n in enumerate(g.shape) if i < extra or n != shape[i - extra])
    g = sum_over(g, axis=axes, keepdims=True) if axes else g
    return reshape_to(g, shape=shape) if extra else g


def gradients(node: Node, g: Operand, graph: Graph | None) -> tuple[Operand, ...]:
    """What the rule of a node gives, one gradient per input, from that of its output."""
    op, saved, out = node.op, node.saved, node.out
    if graph is not None:
        saved = list(map(graph, saved, node.edges))
        out = out if out is None else graph(out, node)
    if op.rule is None:
        raise GradientError(f"{op.name} has no {op.declares}. Declare one with @{op.name}.{op.declares}.")
    try:
        grads = op.pull(g, out, *saved, **node.params)
    except NameError as error:
        known = ["g", "out", *op.inputs, *op.parameters]
        raise KernelError(f"{op.name}: in its {op.declares} {undefined(str(error.name), known)}") from error
    except ValueError as error:
        if isinstance(error, MicrogradxError):
            raise
        inputs = ", ".join(str(np.shape(one)) for one in saved)
        shapes = f"a gradient of shape {g.shape}, inputs of {inputs}"
        raise GradientError(f"{op.name}: its rule failed for {shapes}: {error}.") from error
    grads = grads if isinstance(grads, tuple) else (grads,)
    if len(grads) != len(node.edges):
        counts = f"{len(grads)} gradients for {len(node.edges)} inputs"
        raise GradientError(f"{op.name}: its rule gave {counts}; it returns one, or None, for each.")
    return grads


def backward(
    start: Edge, g: Operand, *, retain_graph: bool = False, graph: Graph | None = None,
    watch: dict[Edge, Operand] | None = None, check: bool = False,
) -> None:  # fmt: skip
    """Walk back from `start`, a node or leaf, whose gradient is `g`; leaves accumulate theirs.

    `graph`, where given, turns what was saved into Tensors (`graph(array, edge)`), so that what the rules
    compute is recorded: the gradients can be differentiated again. `watch` maps nodes and leaves to their
    gradients, None at first; then nothing is accumulated in leaves, and what is older than all of them is
    not visited. `check` raises at the first gradient that is not finite.
    """
    pending: dict[Node, Operand] = {}
    heap: list[tuple[int, Node]] = []
    oldest = -1 if watch is None else min(edge.number for edge in watch)
    recorder = mode.recorder

    def arrive(edge: Edge, g: Operand) -> None:
        if watch is not None and edge in watch:
            watch[edge] = g if watch[edge] is None else watch[edge] + g
        if type(edge) is not Node:
            if watch is None:
                edge.accumulate(g)
        elif edge in pending:
            pending[edge] = pending[edge] + g
        elif edge.number >= oldest:
            pending[edge] = g
            heappush(heap, (-edge.number, edge))

    arrive(start, g)
    while heap:
        node = heappop(heap)[1]
        g = pending.pop(node)
        node.check()
        if recorder is not None:
            recorder.back(node, g)
        for edge, d in zip(node.edges, gradients(node, g, graph), strict=True):
            if edge is None or d is None:
                continue
            if callable(d):  # a rule may put off what is costly: not every input wants its gradient
                d = d()
            if getattr(d, "shape", None) != edge.shape:
                d = unbroadcast(node.op, d, edge.shape)
            if d.dtype != edge.dtype:
                d = cast(d, dtype=edge.dtype)
            if check and not np.isfinite(d if graph is None else np.asarray(d._data)).all():
                what = f"its derivative produced a NaN or an infinity for an input of shape {edge.shape}"
                raise NonFiniteError(f"{node.op.name}: {what}.{node.line}")
            arrive(edge, d)
        if not retain_graph:
            node.free()
    if recorder is not None:
        recorder.back(None, None)
