"""Values that a step reads: which cannot change inside, what tells them apart, and how messages show them."""

import collections
import types
from collections.abc import Hashable

import numpy as np

from microgradx.eager.tensor import Tensor
from microgradx.kernels.free_variables import MISSING
from microgradx.kernels.keys import PLAIN as WHOLE
from microgradx.kernels.keys import frozen
from microgradx.nn import Module

PLAIN = (*WHOLE, slice)
"""Values that cannot change inside."""

DICTS = (dict, types.MappingProxyType)
CONTAINERS = (list, tuple, *DICTS, set, frozenset, collections.deque)


def space_of(x: object) -> dict[str, object]:
    """The attributes of an object's own."""
    try:
        space = object.__getattribute__(x, "__dict__")
    except AttributeError:
        return {}
    return space if isinstance(space, dict) else {}


def fingerprint(value: object) -> Hashable:
    """A key that differs when a value does: plain values whatever they hold, others by which they are."""
    return frozen(value, Same)


class Same:
    """An object that is equal to itself alone, and lives as long as somebody compares with it."""

    __slots__ = ("it",)

    def __init__(self, it: object):
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.it is self.it

    def __hash__(self) -> int:
        return id(self.it)


def settled(value: object) -> bool:
    """Whether a value is plain through and through: equal ones are as good."""
    if isinstance(value, slice):
        value = value.start, value.stop, value.step
    return isinstance(value, WHOLE) or (isinstance(value, tuple | frozenset) and all(map(settled, value)))


def told(value: object) -> str:
    """A value in a message."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {value.shape}"
    if isinstance(value, Module):
        return f"a {type(value).__name__}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if value is MISSING:
        return "nothing"
    if isinstance(value, types.FunctionType):
        return f"the function {value.__name__} of line {value.__code__.co_firstlineno}"
    text = repr(value) if isinstance(value, PLAIN) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
