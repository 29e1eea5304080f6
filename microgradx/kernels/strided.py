"""Views by arithmetic alone: what NumPy makes of shape and strides, for memory that it cannot read."""

from collections.abc import Callable
from typing import Any

import numpy as np

Size = Any
"""One of `*shape`: a whole number, or all of them as a tuple."""

Index = Any
"""What stands in brackets: a whole number, a slice, a mask, a list, or a tuple of these. NumPy checks it."""


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of an array in C order.

    >>> contiguous((2, 3, 4))
    (12, 4, 1)
    """
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the elements lie one after the other."""
    pairs = zip(strides, contiguous(shape), shape, strict=True)
    return all(a == b or n == 1 for a, b, n in pairs) or 0 in shape


def extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """Where the outermost elements lie, counted from the first: (0, 0) where there are none.

    >>> extent((2, 3), (3, -1))  # two rows, each from its end
    (-2, 3)
    """
    ends = [(n - 1) * s for n, s in zip(shape, strides, strict=True)] if 0 not in shape else []
    return sum(min(0, end) for end in ends), sum(max(0, end) for end in ends)


def through(
    shape: tuple[int, ...], strides: tuple[int, ...], change: Callable[[np.ndarray], np.ndarray]
) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Offset, strides and shape after NumPy has reshaped, transposed or sliced; ValueError for a copy."""
    step = 1 if 0 in shape else 16  # NumPy's own bookkeeping, on an array without memory of its own
    base = np.lib.stride_tricks.as_strided(np.empty(1, np.uint8), shape, [s * step for s in strides])
    changed = change(base)
    if not isinstance(changed, np.ndarray):
        raise TypeError("NumPy gave a number, not a view: index with `...`")
    moved = changed.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return moved // step, tuple(s // step for s in changed.strides), changed.shape
