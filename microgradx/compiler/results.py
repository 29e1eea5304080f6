"""What a step returns: any structure of tuples, lists and dicts with Tensors in it."""

from typing import Any

import numpy as np

from microgradx.compiler.program import Value
from microgradx.tensor import Tensor, wrap


def emptied(x: Any, found: list[np.ndarray]) -> Any:
    """A result with Values in place of Tensors, whose arrays are found."""
    if isinstance(x, Tensor):
        found.append(x._data)
        return Value("", x.shape, x.dtype)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(emptied(y, found) for y in x))
    if isinstance(x, list | tuple):
        return type(x)(emptied(y, found) for y in x)
    return {k: emptied(v, found) for k, v in x.items()} if isinstance(x, dict) else x


def fill(x: Any, arrays: Any) -> Any:
    """A result with Tensors in place of Values."""
    if isinstance(x, Value):
        array = next(arrays)
        return array if isinstance(array, list) else wrap(array)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(fill(y, arrays) for y in x))
    if isinstance(x, list | tuple):
        return type(x)(fill(y, arrays) for y in x)
    return {k: fill(v, arrays) for k, v in x.items()} if isinstance(x, dict) else x


def detached(x: Any) -> Any:
    """A result without its history, as compiled code leaves it."""
    found: list[np.ndarray] = []
    structure = emptied(x, found)
    return fill(structure, iter(found))
