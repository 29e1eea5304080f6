"""What a compiled step took for fixed: all that the user's code could read while it was recorded.

A guard is a fact about one object: an attribute, an item, a global holds a certain value. Facts are noted
before the code that reads them runs, and looked at again before every compiled call, by identity first.
"""

import types
import zlib
from collections.abc import Callable
from functools import partial
from operator import is_
from typing import Any

import numpy as np

from microgradx.compiler.capture.plain_values import DICTS, settled, told
from microgradx.eager.tensor import Tensor
from microgradx.kernels.free_variables import MISSING, look_into
from microgradx.nn import Module
from microgradx.nn import module as modules
from microgradx.optim import Optimizer
from microgradx.primitives.core import ElementwisePrimitive, Primitive
from microgradx.scalars import declarations

COPIED = 1 << 20
"""Bytes of an array that is watched by a copy; of a larger one only a checksum is kept."""


class Record:
    """The facts about one object."""

    __slots__ = ("it", "path", "slots", "kind", "items", "look", "wanted")

    def __init__(self, it: Any, path: str):
        self.it, self.path = it, path
        self.slots: dict[Any, list[Any]] = {}  # what is looked up: [function, key, value, path]
        self.kind: type | None = None  # its class, where that could be another
        self.items: Any = None  # of a container
        self.look: tuple[Callable[[], Any], Any] | None = None  # (function, what it gave): anything else
        self.wanted: dict[str, str] = {}  # attributes that were not there, and their paths

    def slot(self, key: Any, get: Callable[..., Any], value: Any, path: str) -> None:
        """A value that is found by a key."""
        self.slots.setdefault(key, [get, key, value, path])

    def references(self) -> int:
        """How often this record itself holds its object."""
        return 1


def items_of(x: Any) -> Any:
    """What is in a container."""
    if isinstance(x, DICTS):
        return list(x), list(x.values())
    return list(x)


def same_items(x: Any, then: Any) -> bool:
    """Whether a container holds the same objects."""
    if isinstance(x, DICTS):
        keys, values = then
        return len(x) == len(keys) and all(map(is_, x.values(), values)) and all(map(is_, x, keys))
    return len(x) == len(then) and all(map(is_, x, then))


def equal_items(x: Any, then: Any) -> bool:
    """Whether it holds the same objects or, of plain values, equal ones."""
    if isinstance(x, DICTS):
        pairs = [*zip(x, then[0], strict=False), *zip(x.values(), then[1], strict=False)]
        return len(x) == len(then[0]) and all(alike(a, b) for a, b in pairs)
    return len(x) == len(then) and all(map(alike, x, then))


def alike(a: Any, b: Any) -> bool:
    """Whether a value is as good as another."""
    if a is b:
        return True
    return type(a) is type(b) and settled(a) and settled(b) and spelled(a) == spelled(b)


def spelled(x: Any) -> Any:
    """A plain value so that 1, 1.0 and True, 0.0 and -0.0 differ, and NaN does not from itself."""
    return [spelled(y) for y in x] if isinstance(x, tuple) else (type(x), repr(x))


def content(array: np.ndarray) -> Any:
    """What is in an array: its bytes, of a large one a checksum."""
    if array.dtype.hasobject:
        return array.dtype, repr(array)
    data = np.ascontiguousarray(array)
    held = data.tobytes() if data.nbytes <= COPIED else checksums(data.data)
    return array.shape, array.dtype, held


def checksums(data: Any) -> tuple[int, int]:
    """Two independent sums of bytes."""
    return zlib.crc32(data), zlib.adler32(data)


class Guards:
    """Facts about the world, looked at before every compiled call."""

    def __init__(
        self, records: list[Record], ran: list[tuple[Module, Any]], leaves: list[Tensor], ops: list[Primitive]
    ):
        self.records = records
        self.slots = [slot for record in records for slot in record.slots.values()]
        self.kinds = [(r.it, r.kind) for r in records if r.kind is not None]
        self.items = [r for r in records if r.items is not None]
        self.looks = [r for r in records if r.look is not None]
        self.modules: list[Any] = [[m, vars(m), *held] for m, held in ran]
        self.changes = modules.structure[0]
        self.derivatives, self.declared = [(op, op.derivative) for op in ops], declarations[0]
        definitions = [op.outside for op in ops if isinstance(op, ElementwisePrimitive)]
        self.outsides = [outside for outside in definitions if outside.found]
        self.leaves, self.trained = leaves, [leaf.requires_grad for leaf in leaves]

    def hold(self) -> bool:
        """Whether everything is as it was."""
        missing = MISSING
        for get, key, value, _ in self.slots:
            if get(key, missing) is not value:
                return self.failing() is None
        for it, kind in self.kinds:
            if it.__class__ is not kind:
                return False
        for r in self.items:
            if not same_items(r.it, r.items):
                return self.failing() is None
        for r in self.looks:
            look, then = r.look  # type: ignore[misc]
            if look() != then:
                return False
        for outside in self.outsides:
            if not outside.holds():
                return False
        if self.changes != modules.structure[0] or self.declared != declarations[0]:
            return self.failing() is None
        return [leaf.requires_grad for leaf in self.leaves] == self.trained

    def failing(self) -> str | None:
        """What is not as it was, in words; values that are equal become those that are compared with."""
        for slot in self.slots:
            get, key, value, path = slot
            now = get(key, MISSING)
            if not alike(now, value):
                return f"{path}: {told(value)} then, {told(now)} now"
            slot[2] = now
        for it, kind in self.kinds:
            if it.__class__ is not kind:
                return f"the class of a {kind.__name__}, which is a {type(it).__name__} now"
        for r in self.items:
            if not equal_items(r.it, r.items):
                return difference(r)
            r.items = items_of(r.it)
        for r in self.looks:
            look, then = r.look  # type: ignore[misc]
            if look() != then:
                return f"{r.path}: other contents"
        for module, space, keys, values in self.modules:
            if not same_items(space, (keys, values)):
                for key in dict.fromkeys([*keys, *space]):
                    old = values[keys.index(key)] if key in keys else MISSING
                    if not alike(space.get(key, MISSING), old):
                        name = f"{type(module).__name__}.{key}"
                        return f"{name}: {told(old)} then, {told(space.get(key, MISSING))} now"
        for outside in self.outsides:
            if failed := outside.failing():
                return failed
        for op, derivative in self.derivatives:
            if op.derivative is not derivative:
                return f"the {op.declares} of {op.name}: {told(derivative)} then, {told(op.derivative)} now"
        self.changes, self.declared = modules.structure[0], declarations[0]
        for leaf, trained in zip(self.leaves, self.trained, strict=True):
            if leaf.requires_grad != trained:
                name = f"the tensor {leaf.name}" if leaf.name else f"a tensor of shape {leaf.shape}"
                return f"requires_grad of {name}: {trained} then, {leaf.requires_grad} now"
        return None


def needed(
    modules: dict[int, tuple[Module, Any]], untouched: dict[int, tuple[Any, Any]]
) -> list[tuple[Module, Any]]:
    """What modules must hold for what they computed: what they held when they were first seen.

    Of what the step had set before that, as eval() does: what it leaves there, whatever it was before.
    """
    found = []
    for key, (module, items) in modules.items():
        which, then = untouched.get(key, (type(None), None))
        seen, now = dict(zip(*items, strict=True)), vars(module)
        before = dict(zip(*then, strict=True)) if then and which() is module else seen
        for name, value in seen.items():
            if name in now and not alike(before.get(name, MISSING), value):
                seen[name] = now[name]
        found.append((module, items_of(seen)))
    return found


def difference(record: Record) -> str:
    """The first item of a container that has changed."""
    x, then = record.it, record.items
    if len(x) != len(then[0] if isinstance(x, DICTS) else then):
        return f"{record.path}: {len(then[0] if isinstance(x, DICTS) else then)} items then, {len(x)} now"
    if isinstance(x, DICTS):
        triples = zip(then[0], then[1], x.items(), strict=True)
        found = ((k, a, b) for k, a, (key, b) in triples if not (alike(k, key) and alike(a, b)))
    else:
        found = ((i, a, b) for i, (a, b) in enumerate(zip(then, x, strict=True)) if not alike(a, b))
    key, a, b = next(found, ("?", MISSING, MISSING))
    return f"{record.path}[{key!r}]: {told(a)} then, {told(b)} now"


def watch_array(array: np.ndarray) -> tuple[Callable[[], Any], Any]:
    """A look at an array's content, and what it shows now."""
    return partial(content, array), content(array)


def clocks_of(optimizer: Optimizer) -> str:
    """The step counts of an optimizer, and what else its rules carry."""
    return repr([part.clock for flat in optimizer.flats for part in flat.parts])


def fits(f: types.FunctionType, own: dict[str, Any]) -> bool:
    """Whether a function's closure holds some values."""
    cells = zip(f.__code__.co_freevars, f.__closure__ or (), strict=True)
    return all(look_into(cell, "", MISSING) is own.get(name, MISSING) for name, cell in cells)


def context(variable: Any, _: str, default: Any) -> Any:
    """What a context variable holds."""
    return variable.get(default)


def behind(reference: Any, _: str, default: Any) -> Any:
    """What a weak reference leads to."""
    return reference()
