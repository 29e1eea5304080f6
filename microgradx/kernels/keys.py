"""Values as keys of dictionaries: equal where whoever reads them could not tell one from the other."""

from collections.abc import Hashable

import numpy as np


def frozen(x: object) -> Hashable:
    """A key for a value: 1, 1.0 and True differ, 0.0 and -0.0 too, and NaN is itself.

    Lists, tuples, dicts and slices by what is in them. Where it holds something that has no hash, such as an
    array, the key has none either: looking it up is a TypeError.

    >>> frozen([1, 2]) == frozen([1, 2]), frozen(1) == frozen(1.0), frozen((0.0,)) == frozen((-0.0,))
    (True, False, False)
    """
    if isinstance(x, dict):
        return "dict", tuple((key, frozen(value)) for key, value in x.items())
    if isinstance(x, list | tuple):
        return type(x).__name__, tuple(map(frozen, x))
    if isinstance(x, slice):
        return "slice", frozen((x.start, x.stop, x.step))
    return type(x), repr(x) if isinstance(x, int | float | np.generic) else x
