"""Arrays of what users give: numbers, lists, NumPy's arrays, tensors, other libraries' arrays."""

import numpy as np
from numpy.typing import DTypeLike

from microgradx.eager.box import Box, shared
from microgradx.eager.devices import borrowed, kinds
from microgradx.eager.mode import mode
from microgradx.errors import ArgumentError, DTypeError, MicrogradxError, ShapeError
from microgradx.primitives import Operand
from microgradx.primitives.shapes import cast


def as_dtype(dtype: DTypeLike) -> np.dtype:
    """A NumPy dtype of numbers or booleans, from a dtype or its name, in this machine's order of bytes."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise DTypeError(f"{dtype!r} is not a dtype; float32, float64, int64 and bool are.") from None
    if found.kind not in "fiub" or found == np.float16:
        raise DTypeError(f"tensors hold float32, float64, integers or booleans, not {found}.")
    return found.newbyteorder("=")


def as_array(values: Operand, dtype: DTypeLike | None = None) -> Operand:
    """The array of what a user gave: float32 for Python's numbers, else the dtype it has."""
    if isinstance(values, Box):
        wanted = values.dtype if dtype is None else as_dtype(dtype)
        values = shared(values if wanted == values.dtype else cast(values, dtype=wanted))
    elif not isinstance(values, np.ndarray | list | tuple | int | float) and type(values) not in kinds:
        there = borrowed(values)
        values = values if there is None else there
    if type(values) in kinds:
        return values if dtype is None else values.astype(as_dtype(dtype), copy=False)
    if isinstance(values, np.ma.MaskedArray):
        raise ArgumentError("a masked array would lose its mask. Write x.filled(0), or leave rows out.")
    try:
        array = np.asarray(values)
    except MicrogradxError:
        raise
    except Exception as error:  # of ragged lists, or the other library's
        raise ShapeError(f"these values do not form an array: {str(error).rstrip('.')}.") from None
    if array.dtype.kind not in "fiub":
        if hasattr(values, "toarray"):
            raise DTypeError(f"tensors are dense, and this is a {type(values).__name__}: write x.toarray().")
        as_dtype(array.dtype)
    if dtype is None:
        given = isinstance(values, np.ndarray | np.generic)  # keeps its dtype
        dtype = array.dtype if given or array.dtype.kind != "f" else mode.number
    return array.astype(as_dtype(dtype), copy=False)


def as_operand(value: Operand) -> Operand:
    """What a binary array operation takes beside a Tensor: a Tensor or an array."""
    return value if isinstance(value, Box) else as_array(value)


def native(array: np.ndarray) -> np.ndarray:
    """The same numbers with their bytes in this machine's order: files, and other machines, know another."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
