"""What kernels run on, in bytes: memory from a pool, one queue of work, and errors that say what to do.

Everything is put into the queue and runs in its order; only reading a result waits. `nvidia` and `simulator`
are the two kinds of `Device`; arrays are made of its memory in `array`.
"""

import weakref
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from microgradx.cuda.cublas import Blas, Problem
from microgradx.errors import ArgumentError, DeviceError

GRAIN = 512  # bytes: sizes in the pool are multiples of it

Work = Callable[[], None]
"""What puts work into a device's queue."""

Kernel = Any  # the driver's handle with a name, or a function of Numba's simulator: only their device knows


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


class Memory:
    """`size` bytes of a device from an address on; they go back to its pool with their last user.

    Those of an `owner` are only borrowed.
    """

    __slots__ = ("device", "address", "size", "owner", "__weakref__")

    def __init__(self, device: "Device", address: int, size: int, owner: object = None):
        self.device, self.address, self.size, self.owner = device, address, size, owner
        if owner is None:
            weakref.finalize(self, device.recycle, address, size).atexit = False


@dataclass(eq=False, slots=True)
class Pointer:
    """Where a kernel's parameter points to: a byte of some memory, taken as elements of a dtype."""

    memory: Memory
    start: int
    dtype: np.dtype

    @property
    def address(self) -> int:
        """Where the device finds it."""
        return self.memory.address + self.start


class Vector(Pointer):
    """The same for a parameter that is an array to Numba, `int64[::1]`: what atomic operations work on."""


@dataclass(frozen=True)
class Launch:
    """A kernel with its parameters: pointers and NumPy's numbers. `together`: all blocks run at once."""

    kernel: Kernel
    blocks: int
    parameters: tuple[Pointer | np.generic, ...]
    together: bool = False


@dataclass(frozen=True)
class Product:
    """A matrix product that a library computes: the problem, and out, a, b and perhaps a bias."""

    problem: Problem
    operands: tuple[Pointer, ...]


class Device(ABC):
    """Memory and a queue. The two kinds differ in how bytes are held and how a kernel is begun."""

    name = "cuda"
    shape = Shape()
    blocks = 1  # that run at the same time
    blas: Blas | None = None  # a library for matrix products

    def __init__(self) -> None:
        self.free: dict[int, list[int]] = defaultdict(list)  # addresses, by size
        self.held: weakref.WeakSet[Memory] = weakref.WeakSet()
        self.used = 0  # bytes of memory that somebody holds
        # Whether an index was out of range, the index, the size
        self.faults = Pointer(self.memory(24), 0, np.dtype(np.int64))
        self.write(self.faults.address, np.zeros(3, np.int64))

    # What the kinds of device define

    @abstractmethod
    def allocate(self, size: int) -> int | None:
        """The address of so many bytes; None where there are not enough."""

    @abstractmethod
    def drop(self, address: int) -> None:
        """Give memory back to the system."""

    @abstractmethod
    def room(self) -> tuple[int, int]:
        """Bytes free and bytes in all."""

    @abstractmethod
    def write(self, address: int, host: np.ndarray) -> None:
        """Copy an array of one piece from the host, which may change it at once."""

    @abstractmethod
    def read(self, host: np.ndarray, address: int) -> None:
        """Fill an array of one piece on the host, after all work in the queue."""

    @abstractmethod
    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes from one address to another."""

    @abstractmethod
    def load(self, source: str, signatures: dict[str, str], label: str) -> dict[str, Kernel]:
        """The kernels of a file that `signatures` name."""

    @abstractmethod
    def prepare(self, launch: Launch) -> Work:
        """What puts a launch into the queue."""

    @abstractmethod
    def capture(self, work: Work) -> Work:
        """What puts all that `work` launches into the queue, in one go."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all work in the queue."""

    def product(self, product: Product) -> Work:
        """What puts a product of the library into the queue."""
        assert self.blas is not None
        begin = self.blas.prepare(product.problem, *(operand.address for operand in product.operands))

        def run(kept: Product = product) -> None:  # with its memory
            begin()

        return run

    # Other libraries: `kind` is DLPack's number of the device, `queue` the address of our stream

    kind = 2
    queue: int | None = None

    def release(self, stream: int | None) -> None:  # noqa: B027 - where nothing runs behind, nothing is to do
        """Let another stream, as DLPack counts them, wait for what is in the queue."""

    def wait(self, stream: int | None) -> None:  # noqa: B027
        """Let the queue wait for what is in another stream."""

    # Memory

    def memory(self, size: int) -> Memory:
        """Some bytes, from the pool if it has them."""
        size = max(1, -(-size // GRAIN)) * GRAIN
        if size > 1 << 20:  # few sizes of large pieces, so that they are used again
            unit = 1 << (size.bit_length() - 4)
            size = -(-size // unit) * unit
        address = self.free[size].pop() if self.free[size] else self.allocate(size)
        if address is None:
            self.trim()
            address = self.allocate(size)
        if address is None:
            raise DeviceError(self.shortage(size))
        self.used += size
        memory = Memory(self, address, size)
        self.held.add(memory)
        return memory

    def recycle(self, address: int, size: int) -> None:
        """Take memory back that nobody holds any more: what is queued next may use it."""
        self.used -= size
        self.free[size].append(address)

    def trim(self) -> None:
        """Give all that the pool holds back to the system."""
        self.synchronize()
        while self.free:
            for address in self.free.popitem()[1]:
                self.drop(address)

    def shortage(self, size: int) -> str:
        """The message of memory that is not there: how much was asked, how much is free, what holds it."""
        free, total = self.room()
        largest = sorted((m.size for m in self.held), reverse=True)[:3]
        held = f"{len(self.held)} arrays here hold {megabytes(self.used)}"
        held += f", the largest {', '.join(map(megabytes, largest))}" if largest else ""
        others = max(total - free - self.used, 0)
        return (
            f"out of memory on {self.name}: {megabytes(size)} were asked for, {megabytes(free)} of "
            f"{megabytes(total)} are free; {held}, other programs and libraries {megabytes(others)}. Use a "
            "smaller batch_size, or let go of tensors that are not needed (`del t`)."
        )

    def look(self) -> None:
        """Raise if a kernel has met an index that is out of range."""
        found = np.zeros(3, np.int64)
        self.read(found, self.faults.address)
        if found[0]:
            self.write(self.faults.address, np.zeros(3, np.int64))
            raise ArgumentError(
                f"an index or label of {found[1]} is out of range for {found[2]} entries, in a kernel since "
                "the last result was read; no parameter has changed from that step on. Look for it in the "
                "labels and indices; on device='cpu' the same code names the operation."
            )


def megabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"
