"""The device that kernels run on: memory from a pool, one queue of work, and errors that say what to do.

`device()` is the GPU, driven by `nvidia`, or Numba's simulator (NUMBA_ENABLE_CUDASIM=1). Everything is put
into one queue and runs in its order; only reading a result waits.
"""

import sys
import weakref
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from microgradx.cuda.memory import Array, Memory
from microgradx.errors import ArgumentError, DeviceError

GRAIN = 512  # bytes: sizes in the pool are multiples of it


@dataclass(frozen=True)
class Shape:
    """How kernels are cut: threads of a block; tiles of a matrix product, and what a thread has of one."""

    block: int = 256
    tile: int = 64  # rows and columns of a tile
    step: int = 16  # of the inner size, at a time
    per: int = 4  # rows and columns of a thread: (tile / per)² threads are a block

    def text(self) -> str:
        """As the constants at the head of an emitted file."""
        tile = f"TILE, ROW, STEP, PER = {self.tile}, {self.tile + 1}, {self.step}, {self.per}"
        return f"BLOCK = {self.block}\n{tile}  # ROW: no two rows begin in one bank"


@dataclass(frozen=True)
class Pointer:
    """Where a kernel's parameter points to: a byte of some memory, taken as elements of a dtype."""

    memory: Memory
    start: int
    dtype: np.dtype


@dataclass(frozen=True)
class Vector(Pointer):
    """The same for a parameter that is an array to Numba, `int64[::1]`: what atomic operations work on."""


def pointer(array: Array) -> Pointer:
    """To the first element of an array."""
    return Pointer(array.memory, array.start, array.dtype)


@dataclass(frozen=True)
class Launch:
    """A kernel with its parameters: pointers and NumPy's numbers. `together`: all blocks run at once."""

    kernel: Any
    blocks: int
    parameters: tuple[Any, ...]
    together: bool = False


@dataclass(frozen=True)
class Product:
    """A matrix product that a library computes: the problem, and out, a, b and perhaps a bias."""

    problem: Any
    operands: tuple[Pointer, ...]


class Device(ABC):
    """Memory and a queue. The two kinds differ in how bytes are held and how a kernel is begun."""

    name = "cuda"
    shape = Shape()
    blocks = 1  # that run at the same time
    blas: Any = None  # a library for matrix products

    def __init__(self) -> None:
        self.free: dict[int, list[Any]] = defaultdict(list)
        self.arrays: weakref.WeakSet[Memory] = weakref.WeakSet()
        self.used = 0  # bytes of memory that somebody holds
        self.faults = self.full((3,), np.int64, 0)  # whether an index was out of range, the index, the size

    # What the kinds of device define

    @abstractmethod
    def allocate(self, size: int) -> Any:
        """Raw memory; None where there is not enough."""

    @abstractmethod
    def drop(self, raw: Any) -> None:
        """Give raw memory back to the system."""

    @abstractmethod
    def room(self) -> tuple[int, int]:
        """Bytes free and bytes in all."""

    @abstractmethod
    def write(self, array: Array, host: np.ndarray) -> None:
        """Copy from the host."""

    @abstractmethod
    def read(self, host: np.ndarray, array: Array) -> None:
        """Copy to the host, after all work in the queue."""

    @abstractmethod
    def copy(self, target: Array, source: Array) -> None:
        """Copy one array of one piece to another."""

    @abstractmethod
    def load(self, source: str, signatures: dict[str, str], label: str) -> dict[str, Any]:
        """The kernels of a file that `signatures` name."""

    @abstractmethod
    def prepare(self, launch: Launch) -> Callable[[], None]:
        """What puts a launch into the queue."""

    def product(self, product: Product) -> Callable[[], None]:
        """What puts a product of the library into the queue."""
        places = (int(p.memory.raw) + p.start for p in product.operands)
        begin: Callable[[], None] = self.blas.prepare(product.problem, *places)

        def run(kept: Product = product) -> None:  # with its memory
            begin()

        return run

    @abstractmethod
    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What puts all that `work` launches into the queue, in one go."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all work in the queue."""

    # Other libraries: `kind` is DLPack's number of the device, `queue` the address of our stream

    kind = 2
    queue: int | None = None

    @abstractmethod
    def raw(self, address: int, size: int) -> Any:
        """Somebody else's memory as raw memory."""

    @abstractmethod
    def address(self, array: Array) -> int:
        """Where an array begins."""

    def release(self, stream: Any) -> None:  # noqa: B027 - where nothing runs behind, nothing is to do
        """Let another stream, as DLPack counts them, wait for what is in the queue."""

    def wait(self, stream: Any) -> None:  # noqa: B027
        """Let the queue wait for what is in another stream."""

    # Memory

    def memory(self, size: int) -> Memory:
        """Some bytes, from the pool if it has them."""
        size = max(1, -(-size // GRAIN)) * GRAIN
        if size > 1 << 20:  # few sizes of large pieces, so that they are used again
            unit = 1 << (size.bit_length() - 4)
            size = -(-size // unit) * unit
        raw = self.free[size].pop() if self.free[size] else self.allocate(size)
        if raw is None:
            self.trim()
            raw = self.allocate(size)
        if raw is None:
            raise DeviceError(self.shortage(size))
        self.used += size
        memory = Memory(self, raw, size)
        self.arrays.add(memory)
        return memory

    def recycle(self, raw: Any, size: int) -> None:
        """Take memory back that nobody holds any more: what is queued next may use it."""
        self.used -= size
        self.free[size].append(raw)

    def trim(self) -> None:
        """Give all that the pool holds back to the system."""
        self.synchronize()
        while self.free:
            for raw in self.free.popitem()[1]:
                self.drop(raw)

    def shortage(self, size: int) -> str:
        """The message of memory that is not there: how much was asked, how much is free, what holds it."""
        free, total = self.room()
        largest = sorted((m.size for m in self.arrays), reverse=True)[:3]
        held = f"{len(self.arrays)} arrays here hold {megabytes(self.used)}"
        held += f", the largest {', '.join(map(megabytes, largest))}" if largest else ""
        others = max(total - free - self.used, 0)
        return (
            f"out of memory on {self.name}: {megabytes(size)} were asked for, {megabytes(free)} of "
            f"{megabytes(total)} are free; {held}, other programs and libraries {megabytes(others)}. Use a "
            "smaller batch_size, or let go of tensors that are not needed (`del t`)."
        )

    def empty(self, shape: Any, dtype: Any) -> Array:
        """A new array of any values."""
        dtype = np.dtype(dtype)
        return Array(self.memory(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize), shape, dtype)

    def full(self, shape: Any, dtype: Any, value: Any) -> Array:
        """A new array of one value."""
        array = self.empty(shape, dtype)
        self.upload(array, np.full(shape, value, dtype))
        return array

    def array(self, host: np.ndarray) -> Array:
        """A copy of an array of the host."""
        array = self.empty(host.shape, host.dtype)
        self.upload(array, np.ascontiguousarray(host))
        return array

    def upload(self, array: Array, host: np.ndarray) -> None:
        """Copy from the host, which may change its array at once."""
        if array.size:
            self.write(array, host)

    def download(self, array: Array) -> np.ndarray:
        """Copy to the host, after all work before; raises what went wrong in it."""
        host = np.empty(array.shape, array.dtype)
        if host.size:
            self.read(host, array)
        self.look()
        return host

    def look(self) -> None:
        """Raise if a kernel has met an index that is out of range."""
        found = np.zeros(3, np.int64)
        self.read(found, self.faults)
        if found[0]:
            self.upload(self.faults, np.zeros(3, np.int64))
            raise ArgumentError(
                f"an index or label of {found[1]} is out of range for {found[2]} entries, in a kernel since "
                "the last result was read; no parameter has changed from that step on. Look for it in the "
                "labels and indices; on device='cpu' the same code names the operation."
            )


def megabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def simulated() -> bool:
    """Whether kernels run in Numba's simulator."""
    if "numba" not in sys.modules:
        import os

        return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
    from numba.core import config

    return bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]


@cache
def device() -> Device:
    """The device; DeviceError where there is none, with what to do about it."""
    if simulated():
        from microgradx.cuda.simulator import Simulator

        return Simulator()
    from microgradx.cuda.nvidia import Nvidia

    return Nvidia()


def available() -> bool:
    """Whether there is a device."""
    try:
        return bool(device())
    except DeviceError:
        return False


def describe() -> tuple[str, str]:
    """Where CUDA kernels run, and advice if they cannot."""
    try:
        return device().name, ""
    except DeviceError as error:
        text, _, advice = str(error).removeprefix("CUDA: ").partition(". ")
        return text, advice
