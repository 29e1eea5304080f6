"""Arrays on the device: shape, strides and memory that comes from a pool and goes back to it.

An `Array` has what NumPy's have as far as looking goes: shapes, dtypes, views. Computing is for Tensors.
"""

import math
from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from microgradx.cuda import dlpack
from microgradx.cuda.current import device
from microgradx.cuda.devices import Device, Memory, Pointer
from microgradx.errors import DTypeError, ShapeError
from microgradx.kernels.addresses import Lender
from microgradx.kernels.strided import Index, Size, contiguous, dense, extent, through
from microgradx.scalars import Operand


class Array(Pointer):
    """An array on a device. `numpy()` copies it to the host, which waits for the device.

    start: byte at which it begins in its memory; strides: in elements.
    """

    __slots__ = ("shape", "strides", "__weakref__")
    __array_ufunc__ = None  # NumPy's functions do not compute on a device
    gather: ClassVar[Callable[..., "Array"]]
    """`gather(array, dtype)`: its elements one after the other, in another dtype; set by the compiler."""
    draw: ClassVar[Callable[..., "Array"]]
    """`draw(method, options)`: random numbers, of a method of the generator; set by the compiler."""

    def __init__(
        self, memory: Memory, shape: tuple[int, ...], dtype: DTypeLike, start: int = 0,
        strides: tuple[int, ...] | None = None,
    ):  # fmt: skip
        super().__init__(memory, start, np.dtype(dtype))
        self.shape = tuple(shape)
        self.strides = contiguous(self.shape) if strides is None else tuple(strides)

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: DTypeLike) -> Self:
        """A new array of any values."""
        return cls(device().memory(math.prod(shape) * np.dtype(dtype).itemsize), shape, dtype)

    @classmethod
    def from_numpy(cls, host: np.ndarray) -> Self:
        """A copy of an array of the host, which may change at once."""
        array = cls.empty(host.shape, host.dtype)
        array.device.write(array.address, np.ascontiguousarray(host))
        return array

    @classmethod
    def from_dlpack(cls, lender: Lender) -> Self:
        """The array of another library on the same device, without a copy."""
        gpu = device()
        return cls(*dlpack.borrow(lender.__dlpack__(stream=gpu.queue), gpu))

    @classmethod
    def from_interface(cls, lender: object) -> Self:  # with __cuda_array_interface__
        """The same for a library that has no DLPack."""
        return cls(*dlpack.from_interface(lender, device()))

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    @property
    def base(self) -> Memory:
        """What views of the same elements have in common."""
        return self.memory

    @property
    def dense(self) -> bool:
        """Whether it is one piece of memory."""
        return dense(self.shape, self.strides)

    @property
    def device(self) -> Device:
        """The device that it is on."""
        return self.memory.device

    @property
    def bounds(self) -> tuple[int, int]:
        """Its first byte in its memory, and that behind its last."""
        (low, high), size = extent(self.shape, self.strides), self.dtype.itemsize
        return self.start + low * size, self.start + (high + (self.size > 0)) * size

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<array on {self.device.name}: {self.dtype}{list(self.shape)}>"

    # Views

    def view(self, change: Callable[[np.ndarray], np.ndarray]) -> "Array":
        """The same elements as NumPy reshapes, transposes or slices them; ShapeError where it would copy."""
        try:
            moved, strides, shape = through(self.shape, self.strides, change)
        except (ValueError, TypeError, IndexError) as error:
            raise ShapeError(f"no view of {self!r}: {error}.") from None
        return Array(self.memory, shape, self.dtype, self.start + moved * self.dtype.itemsize, strides)

    def reshape(self, *shape: Size) -> "Array":
        """The same elements in another shape."""
        new = shape[0] if len(shape) == 1 else shape
        return self.view(lambda x: np.reshape(x, new, copy=False))

    def __getitem__(self, index: Index) -> "Array":
        index = index if isinstance(index, tuple) else (index,)
        return self.view(lambda x: x[(*index, ...)] if ... not in index else x[index])

    def first(self, n: int) -> "Array":
        """The first n rows of an array of one piece."""
        return Array(self.memory, (n, *self.shape[1:]), self.dtype, self.start)

    # Copies

    def tight(self) -> "Array":
        """Itself where its elements lie one after the other, or a copy of which that is true."""
        return self if self.dense else self.copy()

    def astype(self, dtype: DTypeLike, copy: bool = True) -> "Array":
        """The same values in another dtype, as a copy."""
        if dtype != self.dtype or (copy and not self.dense):
            return Array.gather(self, np.dtype(dtype))
        if not copy:
            return self
        out = Array.empty(self.shape, self.dtype)
        self.device.copy(out.address, self.address, self.nbytes)
        return out

    def copy(self) -> "Array":
        """A copy on the device."""
        return self.astype(self.dtype)

    def numpy(self) -> np.ndarray:
        """A copy on the host, after all work before; raises what went wrong in it."""
        host, tight = np.empty(self.shape, self.dtype), self.tight()
        self.device.read(host, tight.address)
        self.device.look()
        return host

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.numpy(), dtype)

    def __deepcopy__(self, memo: object) -> np.ndarray:
        return self.numpy()  # what is saved with a run is on the host

    def __setitem__(self, index: Index, values: Operand) -> None:
        place = self if index is ... else self[index]
        if not place.dense:
            raise ShapeError(f"only one piece of memory can be written to, not {place!r}.")
        if isinstance(values, Array):
            values = values.astype(self.dtype, copy=False).tight()
            if values.shape != place.shape:
                raise ShapeError(f"an array of shape {values.shape} does not fit into {place.shape}.")
            place.device.copy(place.address, values.address, values.nbytes)
        else:
            given = np.asarray(values)
            if given.dtype.kind in "fc" and self.dtype.kind in "iub":
                raise DTypeError(f"values of {given.dtype} do not fit into {self.dtype}.")
            host = np.broadcast_to(np.asarray(values, self.dtype), place.shape)
            place.device.write(place.address, np.ascontiguousarray(host))

    # Other libraries

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        if self.device.queue is None:
            raise AttributeError("the simulator's arrays are not on a GPU")
        size = self.dtype.itemsize
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address if self.size else 0, False),
            "strides": None if self.dense else tuple(s * size for s in self.strides),
            "stream": self.device.queue,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device.kind, 0

    def __dlpack__(
        self, *, stream: int | None = None, max_version: object = None,
        dl_device: tuple[int, int] | None = None, copy: bool | None = None,
    ) -> object:  # fmt: skip
        if dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(
                f"this array is on DLPack's device {self.__dlpack_device__()}, not {dl_device}."
            )
        self.device.release(stream)
        lent = self.copy() if copy else self
        return dlpack.lend(lent, lent.shape, lent.strides)
