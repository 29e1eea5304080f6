"""Values that a step reads: which cannot change inside, what tells them apart, and how messages show them."""

import collections
import types
from typing import Any

import numpy as np

from microgradx.eager.tensor import Tensor
from microgradx.kernels.free_variables import MISSING
from microgradx.nn import Module

PLAIN = (int, float, complex, str, bytes, bool, type(None), np.generic, np.dtype, range, slice, type(...))
"""Values that cannot change inside."""

DICTS = (dict, types.MappingProxyType)
CONTAINERS = (list, tuple, *DICTS, set, frozenset, collections.deque)


def space_of(x: Any) -> dict[str, Any]:
    """The attributes of an object's own."""
    try:
        space = object.__getattribute__(x, "__dict__")
    except AttributeError:
        return {}
    return space if isinstance(space, dict) else {}


def fingerprint(value: Any) -> Any:
    """Something that differs when a value does: plain values whatever they hold, others by what they are."""
    if isinstance(value, PLAIN):
        return type(value), repr(value)
    if isinstance(value, tuple | frozenset):
        return type(value), tuple(map(fingerprint, value))
    if isinstance(value, list | set):
        return type(value), len(value), tuple(map(fingerprint, value))
    if isinstance(value, dict):
        return type(value), tuple((fingerprint(key), fingerprint(x)) for key, x in value.items())
    return Same(value)


class Same:
    """An object that is equal to itself alone, and lives as long as somebody compares with it."""

    __slots__ = ("it",)

    def __init__(self, it: Any):
        self.it = it

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Same) and other.it is self.it

    def __hash__(self) -> int:
        return id(self.it)


def settled(value: Any) -> bool:
    """Whether a value is plain through and through: equal ones are as good."""
    return isinstance(value, PLAIN) or (isinstance(value, tuple | frozenset) and all(map(settled, value)))


def told(value: Any) -> str:
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
