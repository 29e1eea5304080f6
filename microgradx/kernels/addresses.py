"""Where arrays lie: machine code finds them by a table of addresses."""

import ctypes
from typing import Any

import numpy as np

nothing = ctypes.c_char * 0


def address(array: np.ndarray) -> int:
    """Where an array begins."""
    try:
        return ctypes.addressof(nothing.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):  # not writeable
        return array.ctypes.data


class Addresses:
    """The table of addresses that machine code finds its arrays by."""

    def __init__(self, size: int):
        self.words = np.zeros(size, np.int64)

    def __setitem__(self, entry: int, array: np.ndarray) -> None:
        self.words[entry] = address(array)

    def array(self, entry: int, size: int, dtype: np.dtype) -> np.ndarray:
        """(size,) the array behind an entry."""
        memory: Any = (ctypes.c_char * (size * dtype.itemsize)).from_address(int(self.words[entry]))
        return np.frombuffer(memory, dtype)
