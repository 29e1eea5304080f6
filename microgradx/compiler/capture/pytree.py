"""What a step returns: any structure of tuples, lists and dicts with Tensors in it."""

from collections.abc import Callable, Collection, Iterable, Iterator
from copy import copy
from typing import Any, TypeVar

import numpy as np

from microgradx.codegen.ir.program import Value
from microgradx.cuda import Array as OnDevice
from microgradx.eager.tensor import Tensor, wrap

Given = np.ndarray | OnDevice
"""An array that a step is called with, or that it gives."""

T = TypeVar("T")


def tree_map(x: object, kind: type[T], change: Callable[[T], object]) -> object:
    """A structure with what `change` makes of everything of a kind in it."""
    if isinstance(x, kind):
        return change(x)
    if isinstance(x, list | tuple):
        return like(x, [tree_map(y, kind, change) for y in x])
    return {k: tree_map(v, kind, change) for k, v in x.items()} if isinstance(x, dict) else x


def like(x: Collection[object], values: Iterable[object]) -> object:
    """A list, tuple, named tuple or dict of the same kind as another, with other values."""
    if isinstance(x, dict):
        new = copy(x)  # a defaultdict keeps what it makes of missing keys
        for key, value in zip(x, values, strict=True):
            new[key] = value
        return new
    make: Callable[[Iterable[object]], object] = getattr(type(x), "_make", type(x))
    return make(values)


def flatten(x: object, found: list[Given]) -> object:
    """A result with Values in place of Tensors, whose arrays are found."""

    def empty(tensor: Tensor) -> Value:
        found.append(tensor._data)
        return Value("", tensor.shape, tensor.dtype)

    return tree_map(x, Tensor, empty)


Returned = Any
"""What a step returns: of the type that the user's function has, which only its caller knows."""


def unflatten(x: object, arrays: Iterator[Given | list[Tensor]]) -> Returned:
    """A result with Tensors, or lists of them, in place of Values."""

    def full(value: Value) -> object:
        array = next(arrays)
        return array if isinstance(array, list) else wrap(array)

    return tree_map(x, Value, full)


def detached(x: object) -> Returned:
    """A result without its history, as compiled code leaves it."""
    found: list[Given] = []
    structure = flatten(x, found)
    return unflatten(structure, iter(found))
