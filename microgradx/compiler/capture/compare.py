"""Whether two captures are the same program, and if not, where they begin to differ."""

from collections.abc import Iterator
from functools import partial
from types import FunctionType

import numpy as np

from microgradx.codegen.ir.binding import Binding, Constant, Data, Number, State
from microgradx.codegen.ir.program import Draw, Instruction, Program, Update, Value
from microgradx.compiler.capture.captured import Captured
from microgradx.compiler.capture.events import Event, NumberEvent
from microgradx.compiler.capture.plain_values import PLAIN
from microgradx.eager.devices import Array, on_host
from microgradx.eager.tensor import Tensor
from microgradx.kernels.keys import frozen


class Comparison:
    """Two captures side by side; `found` says what differs first, None where nothing does."""

    def __init__(self, old: Captured, new: Captured):
        self.old, self.new = old, new
        self.twin: dict[Value, Value] = {}  # of the values of the new program
        self.found = next(self.differences(), None)

    def differences(self) -> Iterator[str]:
        """What differs, in words."""
        old, new = self.old.program, self.new.program
        if len(old.arguments) != len(new.arguments):
            yield "other arguments"
            return
        self.twin |= zip(new.arguments, old.arguments, strict=True)
        yield from self.bound()
        for a, b in zip(old.instructions, new.instructions, strict=False):
            if what := self.instruction(a, b):
                yield f"{what}{f' ({b.line})' if b.line else ''}"
                return
            self.twin |= zip(b.outputs, a.outputs, strict=True)
        if len(old.instructions) != len(new.instructions):
            longer = max(old, new, key=lambda program: len(program.instructions)).instructions
            last = longer[min(len(old.instructions), len(new.instructions))]
            counts = f"{len(old.instructions)} operations then, {len(new.instructions)} now"
            yield f"{counts}, from {last.outputs[0].name}{f' ({last.line})' if last.line else ''} on"
            return
        yield from self.ends()

    def bound(self) -> Iterator[str]:
        """What the programs read from outside."""
        old, new = self.old.program.bound, self.new.program.bound
        reads = [first_read(self.old.program, v) for v in old], [first_read(self.new.program, v) for v in new]
        for (v, a), (w, b), where in zip(old.items(), new.items(), reads[1], strict=False):
            self.twin[w] = v
            read = isinstance(a, Data) and isinstance(b, Data) and v not in self.old.program.writes
            same = same_binding(a, b) or (read and same_content(a.array(), b.array()))
            if not same or (v.shape, v.dtype) != (w.shape, w.dtype):
                yield f"{w.name}, another {b!r} than then{where}"
        if len(old) != len(new):
            some = [(v.name, where) for v, where in zip(old, reads[0], strict=True)]
            others = [(v.name, where) for v, where in zip(new, reads[1], strict=True)]
            extra = others[len(some) :] or some[len(others) :]
            yield f"{extra[0][0]}, read only then or only now{extra[0][1]}"

    def instruction(self, a: Instruction, b: Instruction) -> str:
        """What differs in an instruction; empty if nothing does."""
        name = b.outputs[0].name
        if not same_op(a.op, b.op):
            return f"{name} = {b.op.name}(...), which was {a.op.name}(...)"
        if len(a.inputs) != len(b.inputs) or not alike(a.params, b.params, self.twin):
            return f"{name} = {b.op.name}(...), of {b.params} now and {a.params} then"
        for x, y in zip(a.inputs, b.inputs, strict=True):
            if not alike(x, y, self.twin):
                shown = [v.name if isinstance(v, Value) else repr(v) for v in (x, y)]
                return f"{name} = {b.op.name}(...), of {shown[1]} now and {shown[0]} then"
        if [(v.shape, v.dtype) for v in a.outputs] != [(v.shape, v.dtype) for v in b.outputs]:
            return f"{name}, of another shape or dtype"
        return ""

    def ends(self) -> Iterator[str]:
        """What the programs leave."""
        old, new = self.old, self.new
        if not alike(old.program.outputs, new.program.outputs, self.twin):
            yield "the tensors that it returns"
        if not alike(plain(old.result), plain(new.result), self.twin):
            yield "what it returns besides tensors"
        writes = {(self.twin[home], self.twin[value]) for home, value in new.program.writes.items()}
        if writes != {*old.program.writes.items()}:
            yield "what it leaves in parameters, gradients or buffers"
        if (old.final, old.found, old.blocks) != (new.final, new.found, new.blocks):
            yield "which gradients it finds and leaves, or the random numbers that it draws"
        if len(old.events) != len(new.events) or not all(map(same_event, old.events, new.events)):
            yield "the steps of optimizers and schedules"


def first_read(program: Program, value: Value) -> str:
    """The line where a value is read first."""
    line = next((one.line for one in program.instructions if value in one.inputs), None)
    return f" ({line})" if line else ""


def same_binding(a: Binding, b: Binding) -> bool:
    """Whether two bindings find the same memory, or constants the same content."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Constant):
        return a.then is b.then or same_content(a.then, b.then)
    if isinstance(a, Number) and isinstance(b, Number):
        return a.event == b.event and same_function(a.owner, b.owner)
    named = not (isinstance(a, State) and isinstance(b, State)) or a.name == b.name
    return named and a.owner is b.owner


def same_content(a: Array, b: Array) -> bool:
    """Whether two arrays hold the same bits."""
    if type(a) is not type(b) or (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    return a is b or on_host(a).tobytes() == on_host(b).tobytes()


def same_function(f: object, g: object) -> bool:
    """Whether two functions look up the same."""
    if isinstance(f, partial) and isinstance(g, partial):
        parts = zip([*f.args, *f.keywords.values()], [*g.args, *g.keywords.values()], strict=False)
        return same_function(f.func, g.func) and all(alike(x, y, {}) for x, y in parts)
    if not isinstance(f, FunctionType) or not isinstance(g, FunctionType):
        return f is g
    cells = [[cell.cell_contents for cell in one.__closure__ or ()] for one in (f, g)]
    return f.__code__ is g.__code__ and all(alike(x, y, {}) for x, y in zip(*cells, strict=True))


def same_op(a: object, b: object) -> bool:
    """Whether two instructions do the same."""
    if isinstance(a, Draw):
        return a == b
    if isinstance(a, Update) and isinstance(b, Update):
        return a.flat is b.flat and a.part is b.part and a.sweep is b.sweep and a.event == b.event
    return a is b


def same_event(a: Event, b: Event) -> bool:
    """Whether the same happens outside of the programs."""
    if isinstance(a, NumberEvent) and isinstance(b, NumberEvent):
        return same_function(a.look, b.look)
    return type(a) is type(b) and alike([*vars(a).values()], [*vars(b).values()], {})


def alike(a: object, b: object, twin: dict[Value, Value]) -> bool:
    """Whether two parts of programs are the same, down to the kind of their numbers."""
    if isinstance(b, Value) and b.name != "":
        return twin.get(b) is a
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, PLAIN):
        return frozen(a) == frozen(b)
    match a, b:
        case dict(), dict():
            return a.keys() == b.keys() and all(alike(a[k], b[k], twin) for k in a)
        case ((list() | tuple()), (list() | tuple())):
            return len(a) == len(b) and all(alike(x, y, twin) for x, y in zip(a, b, strict=True))
        case np.ndarray(), np.ndarray():
            return same_content(a, b)
        case Tensor(), _:
            return False
    if type(a).__module__.startswith("microgradx.primitives"):  # such as where an index holds a tensor
        return alike(vars(a), vars(b), twin)
    return type(a).__eq__ is not object.__eq__ and bool(a == b)


def plain(x: object) -> object:
    """A result without its tensors."""
    if isinstance(x, Value):
        return Value
    if isinstance(x, list | tuple):
        return [type(x), *map(plain, x)]
    return {k: plain(v) for k, v in x.items()} if isinstance(x, dict) else x
