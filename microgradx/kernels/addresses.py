"""Where arrays lie: machine code finds them by a table of addresses, and who shares memory is found here."""

import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

nothing = ctypes.c_char * 0


def address(array: np.ndarray) -> int:
    """Where an array begins."""
    try:
        return ctypes.addressof(nothing.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):  # not writeable
        return array.ctypes.data


def memory_at(address: int, size: int) -> np.ndarray:
    """(size,) bytes of this process's memory from an address on, which somebody else keeps alive."""
    buffer: Any = (ctypes.c_char * size).from_address(address)  # NumPy's types do not know this buffer
    return np.frombuffer(buffer, np.uint8)


class Lender(Protocol):
    """An array of another library, which lends its memory by DLPack."""

    def __dlpack__(self, *, stream: int | None = None) -> object: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


class Addresses:
    """The table of addresses that machine code finds its arrays by."""

    def __init__(self, size: int):
        words = np.zeros(size, np.int64)
        self.start, self.words = address(words), words.data  # half the time of an array's item

    def __setitem__(self, entry: int, array: np.ndarray) -> None:
        self.words[entry] = address(array)

    def array(self, entry: int, size: int, dtype: np.dtype) -> np.ndarray:
        """(size,) the array behind an entry."""
        return memory_at(self.words[entry], size * dtype.itemsize).view(dtype)


@dataclass(frozen=True)
class Span:
    """Some memory: in which room, its first byte and that behind its last; whose it is, and if it counts."""

    room: int
    start: int
    stop: int
    name: str
    counts: bool


def span(array: Any, name: str, counts: bool) -> Span:  # NumPy's, or a device's from a room on the right
    """The memory of an array."""
    if isinstance(array, np.ndarray):
        start, stop = np.lib.array_utils.byte_bounds(array)
        return Span(0, start, stop, name, counts)
    return Span(id(array.memory), array.bounds[0], array.bounds[1], name, counts)


def overlaps(spans: Iterable[Span]) -> Iterator[tuple[Span, Span]]:
    """Those that overlap, two by two, where one of them counts: that comes first."""
    near: list[Span] = []
    for here in sorted(spans, key=lambda s: (s.room, s.start)):
        near = [s for s in near if s.room == here.room and s.stop > here.start]
        yield from ((here, s) if here.counts else (s, here) for s in near if s.counts or here.counts)
        near += [here] * (here.stop > here.start)
