"""What a step returns: any structure of tuples, lists and dicts with Tensors in it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from microgradx.codegen.ir.program import Value
from microgradx.eager.tensor import Tensor, wrap


def tree_map(x: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """A structure with what `change` makes of everything of a kind in it."""
    if isinstance(x, kind):
        return change(x)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(tree_map(y, kind, change) for y in x))
    if isinstance(x, list | tuple):
        return type(x)(tree_map(y, kind, change) for y in x)
    return {k: tree_map(v, kind, change) for k, v in x.items()} if isinstance(x, dict) else x


def flatten(x: Any, found: list[np.ndarray]) -> Any:
    """A result with Values in place of Tensors, whose arrays are found."""

    def empty(tensor: Tensor) -> Value:
        found.append(tensor._data)
        return Value("", tensor.shape, tensor.dtype)

    return tree_map(x, Tensor, empty)


def unflatten(x: Any, arrays: Any) -> Any:
    """A result with Tensors, or lists of them, in place of Values."""

    def full(value: Value) -> Any:
        array = next(arrays)
        return array if isinstance(array, list) else wrap(array)

    return tree_map(x, Value, full)


def detached(x: Any) -> Any:
    """A result without its history, as compiled code leaves it."""
    found: list[np.ndarray] = []
    structure = flatten(x, found)
    return unflatten(structure, iter(found))
