"""Indices, t[1:3], t[mask], t[[0, 2], :], as slices with slots for arrays, of which backward keeps copies."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from microgradx.eager.arrays import as_array, native
from microgradx.eager.box import Box, look, tell
from microgradx.eager.devices import on_host
from microgradx.eager.mode import mode
from microgradx.errors import GradientError, MicrogradxError, ShapeError, shown
from microgradx.kernels.strided import Index
from microgradx.primitives import Operand
from microgradx.primitives.indexing import Slot, fill

ARRAYS = (Box, np.ndarray, list, tuple)
"""What stands for an array within an index."""


def take_apart(index: Index) -> tuple[Index, list[Operand]]:
    """An index with slots for its Tensors, arrays and lists; and these, as Tensors and arrays."""
    parts, arrays = [], []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, ARRAYS):
            arrays.append(kept(part))
            part = Slot(len(arrays) - 1)
        parts.append(part)
    return tuple(parts) if arrays or isinstance(index, tuple) else index, arrays


def kept(part: Box | ArrayLike) -> Operand:
    """A copy of what stands for an array within an index: backward needs it as it is now."""
    if isinstance(part, Box):
        if type(part._data) is not np.ndarray:
            return part if mode.recorder is not None else part.around(part._data.copy())
        array = copied(part._data)
        if array.dtype.kind == "b":
            look(part, "a boolean mask as an index")  # it decides on the shape
        tell(array, part)
        return part.around(array)
    return copied(part)


def copied(values: ArrayLike) -> np.ndarray:
    """A copy as an array; of no values, one of integers."""
    try:
        array = native(np.array(values))
    except ValueError as error:
        raise ShapeError(f"an index of {shown(values)} is no array: {str(error).rstrip('.')}.") from None
    return array if array.size or array.dtype.kind == "b" else array.astype(np.intp)


def assign(t: Box, index: Index, values: ArrayLike) -> None:
    """t[index] = values, in place, which nothing records."""
    if t.requires_grad and mode.record:
        advice = "Use where(mask, new, old), or assign inside `with mg.no_grad():`."
        raise GradientError(f"cannot assign to elements of a tensor that requires gradients. {advice}")
    array = look(t, "assignment to elements")
    new = look(values, "assignment to elements") if isinstance(values, Box) else values
    try:
        index, arrays = take_apart(index)
        host = on_host(array)
        host[fill(index, [np.asarray(a) for a in arrays])] = as_array(new)
        if host is not array:
            array[...] = host
    except MicrogradxError:
        raise
    except Exception as error:
        raise ShapeError(f"cannot assign shape {np.shape(new)} into {t.shape}: {error}.") from None
    t._version[0] += 1
