"""What a compiled step took for fixed: all that the user's code could read while it was recorded.

A guard is a fact about one object: an attribute, an item, a global holds a certain value. Facts are noted
before the code that reads them runs, and looked at again before every compiled call, by identity first.
"""

import types
import zlib
from collections.abc import Callable, Collection, Hashable, Mapping
from contextvars import ContextVar
from functools import partial
from operator import is_
from typing import NamedTuple
from weakref import ref

import numpy as np

from microgradx.compiler.capture.plain_values import CONTAINERS, DICTS, settled, told
from microgradx.eager.tensor import Tensor
from microgradx.kernels.free_variables import MISSING, Look, look_into
from microgradx.kernels.keys import frozen
from microgradx.nn import Module
from microgradx.nn import module as modules
from microgradx.optim import Optimizer
from microgradx.primitives.core import ElementwisePrimitive, Primitive
from microgradx.scalars import declarations

COPIED = 1 << 20
"""Bytes of an array that is watched by a copy; of a larger one only a checksum is kept."""


Fact = tuple[Look, str, object, str]
"""A value that is looked up: by which function and name, what was there, and how the user would say it."""


class Items(NamedTuple):
    """What was in a container; of a dict its keys, too."""

    values: list[object]
    keys: list[object] = []


class Record:
    """The facts about one object."""

    __slots__ = ("it", "path", "slots", "kind", "items", "look", "wanted")

    def __init__(self, it: object, path: str):
        self.it, self.path = it, path
        self.slots: dict[Hashable, Fact] = {}
        self.kind: type | None = None  # its class, where that could be another
        self.items: Items | None = None  # of a container
        self.look: tuple[Callable[[], object], object] | None = None  # anything else, and what it gave
        self.wanted: dict[str, str] = {}  # attributes that were not there, and their paths

    def slot(self, name: str, get: Look, value: object, path: str) -> None:
        """A value that is found by a name."""
        self.slots.setdefault(name, (get, name, value, path))


def items_of(x: Collection[object]) -> Items:
    """What is in a container."""
    return Items(list(x.values()), list(x)) if isinstance(x, DICTS) else Items(list(x))


def same_items(x: Collection[object], then: Items) -> bool:
    """Whether a container holds the same objects."""
    if len(x) != len(then.values):
        return False
    if isinstance(x, DICTS):
        return all(map(is_, x.values(), then.values)) and all(map(is_, x, then.keys))
    return all(map(is_, x, then.values))


def equal_items(x: Collection[object], then: Items) -> bool:
    """Whether it holds the same objects or, of plain values, equal ones."""
    now = items_of(x)
    return len(now.values) == len(then.values) and all(
        alike(a, b) for pair in zip(now, then, strict=True) for a, b in zip(*pair, strict=True)
    )


def alike(a: object, b: object) -> bool:
    """Whether a value is as good as another."""
    if a is b:
        return True
    return type(a) is type(b) and settled(a) and settled(b) and frozen(a) == frozen(b)


def content(array: np.ndarray) -> tuple[object, ...]:
    """What is in an array: its bytes, of a large one a checksum."""
    if array.dtype.hasobject:
        return array.dtype, repr(array)
    data = np.ascontiguousarray(array)
    held = data.tobytes() if data.nbytes <= COPIED else checksums(data.data)
    return array.shape, array.dtype, held


def checksums(data: memoryview) -> tuple[int, int]:
    """Two independent sums of bytes."""
    return zlib.crc32(data), zlib.adler32(data)


class Guards:
    """Facts about the world, looked at before every compiled call."""

    def __init__(
        self,
        records: list[Record],
        ran: list[tuple[Module, Items]],
        leaves: list[Tensor],
        ops: list[Primitive],
    ):
        self.records = records
        self.slots = [slot for record in records for slot in record.slots.values()]
        self.kinds = [(r.it, r.kind) for r in records if r.kind is not None]
        self.items = [
            (r.it, r.items, r.path) for r in records if r.items is not None and isinstance(r.it, CONTAINERS)
        ]
        self.looks = [(*r.look, r.path) for r in records if r.look is not None]
        self.modules = [(module, vars(module), held) for module, held in ran]
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
        for x, items, _ in self.items:
            if not same_items(x, items):
                return self.failing() is None
        for look, then, _ in self.looks:
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
        for k, (get, name, value, path) in enumerate(self.slots):
            now = get(name, MISSING)
            if not alike(now, value):
                return f"{path}: {told(value)} then, {told(now)} now"
            self.slots[k] = get, name, now, path
        for it, kind in self.kinds:
            if it.__class__ is not kind:
                return f"the class of a {kind.__name__}, which is a {type(it).__name__} now"
        for k, (x, items, path) in enumerate(self.items):
            if not equal_items(x, items):
                return difference(x, items, path)
            self.items[k] = x, items_of(x), path
        for look, then, path in self.looks:
            if look() != then:
                return f"{path}: other contents"
        for module, space, held in self.modules:
            if not same_items(space, held):
                was: dict[object, object] = dict(zip(held.keys, held.values, strict=True))
                there = dict[object, object](space.items())
                for key in was | there:
                    value, now = was.get(key, MISSING), there.get(key, MISSING)
                    if not alike(now, value):
                        return f"{type(module).__name__}.{key}: {told(value)} then, {told(now)} now"
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
    modules: dict[int, tuple[Module, Items]], untouched: dict[int, tuple[ref[Module], Items]]
) -> list[tuple[Module, Items]]:
    """What modules must hold for what they computed: what they held when they were first seen.

    Of what the step had set before that, as eval() does: what it leaves there, whatever it was before.
    """
    found = []
    for key, (module, items) in modules.items():
        which, then = untouched.get(key, (lambda: None, items))
        seen, now = dict(zip(items.keys, items.values, strict=True)), vars(module)
        before = dict(zip(then.keys, then.values, strict=True)) if which() is module else seen
        for name, value in seen.items():
            if name in now and not alike(before.get(name, MISSING), value):
                seen[name] = now[name]
        found.append((module, items_of(seen)))
    return found


def difference(x: Collection[object], then: Items, path: str) -> str:
    """The first item of a container that has changed."""
    now = items_of(x)
    if len(now.values) != len(then.values):
        return f"{path}: {len(then.values)} items then, {len(now.values)} now"
    keys = zip(then.keys, now.keys, strict=True) if then.keys else ((i, i) for i in range(len(then.values)))
    pairs = zip(then.values, now.values, strict=True)
    found = (
        (k, a, b) for (k, key), (a, b) in zip(keys, pairs, strict=True) if not (alike(k, key) and alike(a, b))
    )
    key, a, b = next(found, ("?", MISSING, MISSING))
    return f"{path}[{key!r}]: {told(a)} then, {told(b)} now"


def watch_array(array: np.ndarray) -> tuple[Callable[[], object], object]:
    """A look at an array's content, and what it shows now."""
    return partial(content, array), content(array)


def clocks_of(optimizer: Optimizer) -> str:
    """The step counts of an optimizer, and what else its rules carry."""
    return repr([part.clock for flat in optimizer.flats for part in flat.parts])


def fits(f: types.FunctionType, own: Mapping[str, object]) -> bool:
    """Whether a function's closure holds some values."""
    cells = zip(f.__code__.co_freevars, f.__closure__ or (), strict=True)
    return all(look_into(cell, "", MISSING) is own.get(name, MISSING) for name, cell in cells)


def context(variable: ContextVar[object], _: str, default: object) -> object:
    """What a context variable holds."""
    return variable.get(default)


def behind(reference: ref[object], _: str, default: object) -> object:
    """What a weak reference leads to."""
    return reference()
