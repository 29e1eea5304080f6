"""Numba's simulator as a device: every thread of a kernel runs as Python, slowly, where it can be watched."""

import ctypes
import math
import sys
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from microgradx.cuda.devices import Device, Kernel, Launch, Pointer, Shape, Work
from microgradx.kernels.addresses import memory_at
from microgradx.kernels.source import Names

quiet = """
def {name}_quietly(*parameters):
    with errstate(all="ignore"):
        {name}(*parameters)
"""


sharing = threading.Lock()


def shared(
    self: Any, shape: int | tuple[int, ...], dtype: DTypeLike, alignment: int | None = None
) -> np.ndarray:  # a method of Numba's class
    """A block's array of this line: in Numba's own function two threads that come first get one each."""
    frame = sys._getframe(1)
    place = frame.f_code.co_filename, frame.f_lineno
    with sharing:
        if place not in self._allocations:
            self._allocations[place] = np.empty(shape, dtype)
        return self._allocations[place]


class Simulator(Device):
    """Memory is the host's, a launch is over when it returns."""

    name = "Numba's simulator"
    shape = Shape(4, 4, 4, 2)  # its threads are slow, and wait for each other even more slowly
    most = 2  # blocks of a launch, which run one after the other

    def __init__(self) -> None:
        from numba.cuda.simulator.kernelapi import FakeCUDAShared

        FakeCUDAShared.array = shared  # type: ignore[method-assign]
        self.owned: dict[int, np.ndarray] = {}
        super().__init__()

    def allocate(self, size: int) -> int:
        """Bytes of the host."""
        made = np.full(size, 0xA5, np.uint8)  # not zeros: a GPU's memory is not clean either
        self.owned[made.ctypes.data] = made
        return made.ctypes.data

    def drop(self, address: int) -> None:
        """Give bytes back to Python."""
        del self.owned[address]

    def room(self) -> tuple[int, int]:
        """As much as wanted."""
        return 1 << 40, 1 << 40

    kind = 1  # of the host

    def write(self, address: int, host: np.ndarray) -> None:
        """Copy from the host."""
        ctypes.memmove(address, host.ctypes.data, host.nbytes)

    def read(self, host: np.ndarray, address: int) -> None:
        """Copy to the host."""
        ctypes.memmove(host.ctypes.data, address, host.nbytes)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes from one address to another."""
        ctypes.memmove(target, source, size)

    def load(self, source: str, signatures: dict[str, str], label: str) -> dict[str, Kernel]:
        """The kernels as the simulator runs them, without NumPy's warnings."""
        from numba import cuda

        names: Names = {"errstate": np.errstate}
        exec(compile(source, f"<{label} on CUDA>", "exec"), names)
        for key, value in list(names.items()):
            if getattr(value, "__module__", "") == "math" and not isinstance(value, FunctionType):
                names[key] = getattr(np, key, in_float32(value))  # those of math would give float64
        for name in signatures:
            exec(quiet.format(name=name), names)
        return {name: cuda.jit(names[f"{name}_quietly"]) for name in signatures}

    def prepare(self, launch: Launch) -> Work:
        """Run it."""
        parameters = [self.parameter(x) for x in launch.parameters]
        blocks = 1 if launch.together else min(launch.blocks, self.most)
        return lambda: launch.kernel[blocks, self.shape.block](*parameters)

    def parameter(self, x: Pointer | np.generic) -> object:  # one of Numba's arrays, or the number itself
        """A pointer as an array that goes on to the end of its memory, and is used where it is."""
        from numba import cuda

        if not isinstance(x, Pointer):
            return x
        dtype = np.dtype(np.uint8) if x.dtype == bool else x.dtype
        room = (x.memory.size - x.start) // dtype.itemsize * dtype.itemsize
        seen = memory_at(x.address, room).view(dtype)
        return type(cuda.to_device(seen[:1]))(seen)

    def capture(self, work: Work) -> Work:
        """The work itself."""
        return work

    def synchronize(self) -> None:
        """All is done."""


def in_float32(function: Callable[..., float]) -> Callable[..., np.generic]:
    """A function of math that NumPy lacks, with the dtype of its first number."""

    def call(x: np.generic, *more: np.generic) -> np.generic:
        try:
            return np.asarray(x).dtype.type(function(x, *more))
        except (OverflowError, ValueError):
            return np.asarray(x).dtype.type(math.nan)

    return call
