"""Values as keys of dictionaries: equal where whoever reads them could not tell one from the other."""

from collections.abc import Callable, Hashable

import numpy as np

PLAIN = (int, float, complex, str, bytes, bool, type(None), np.generic, np.dtype, range, type(...))
"""Values that cannot change inside."""


def itself(x: object) -> object:
    """An object as its own key: equal to what it says that it is equal to."""
    return x


def frozen(x: object, other: Callable[[object], object] = itself) -> Hashable:
    """A key for a value: 1, 1.0 and True differ, 0.0 and -0.0 too, and NaN is itself.

    Lists, tuples, sets, dicts and slices by what is in them; what is neither plain nor one of these by what
    `other` makes of it. Where that has no hash, as an array, the key has none: looking it up is a TypeError.

    >>> frozen([1, 2]) == frozen([1, 2]), frozen(1) == frozen(1.0), frozen((0.0,)) == frozen((-0.0,))
    (True, False, False)
    """
    if isinstance(x, PLAIN):
        return type(x), repr(x)
    if isinstance(x, list | tuple):
        return type(x), *(frozen(y, other) for y in x)
    if isinstance(x, dict):
        return type(x), *((frozen(key, other), frozen(y, other)) for key, y in x.items())
    if isinstance(x, set | frozenset):
        return type(x), frozenset(frozen(y, other) for y in x)
    if isinstance(x, slice):
        return slice, *(frozen(y, other) for y in (x.start, x.stop, x.step))
    return type(x), other(x)
