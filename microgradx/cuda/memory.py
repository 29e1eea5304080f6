"""Arrays on a device: shape, strides and memory that comes from a pool and goes back to it.

An `Array` has what NumPy's have as far as looking goes: shapes, dtypes, views. Computing is for Tensors.
"""

import math
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from microgradx.errors import DTypeError, ShapeError
from microgradx.kernels.strided import contiguous, dense, through

if TYPE_CHECKING:
    from microgradx.cuda.device import Device


class Memory:
    """Bytes of a device, as `raw` as the device knows them; they go back to its pool with the last user.

    Those of an `owner` are only borrowed.
    """

    __slots__ = ("device", "raw", "size", "owner", "__weakref__")

    def __init__(self, device: "Device", raw: Any, size: int, owner: Any = None):
        self.device, self.raw, self.size, self.owner = device, raw, size, owner
        if owner is None:
            weakref.finalize(self, device.recycle, raw, size).atexit = False


class Array:
    """An array on a device. `numpy()` copies it to the host, which waits for the device.

    start: byte at which it begins in its memory; strides: in elements.
    """

    __slots__ = ("memory", "start", "shape", "strides", "dtype", "__weakref__")
    __array_ufunc__ = None  # NumPy's functions do not compute on a device
    gather: ClassVar[Callable[..., "Array"]]
    """`gather(array, dtype)`: its elements one after the other, in another dtype; set by the compiler."""
    draw: ClassVar[Callable[..., "Array"]]
    """`draw(method, options)`: random numbers, of a method of the generator; set by the compiler."""

    def __init__(self, memory: Memory, shape: Any, dtype: Any, start: int = 0, strides: Any = None):
        self.memory, self.start, self.shape, self.dtype = memory, start, tuple(shape), np.dtype(dtype)
        self.strides = contiguous(self.shape) if strides is None else tuple(strides)

    ndim = property(lambda self: len(self.shape), doc="The number of axes.")
    size = property(lambda self: math.prod(self.shape), doc="The number of elements.")
    nbytes = property(lambda self: self.size * self.dtype.itemsize, doc="Bytes of all elements.")
    base = property(lambda self: self.memory, doc="What views of the same elements have in common.")
    dense = property(lambda self: dense(self.shape, self.strides), doc="Whether it is one piece of memory.")
    device = property(lambda self: self.memory.device, doc="The device that it is on.")

    @property
    def bounds(self) -> tuple[int, int]:
        """Its first byte in its memory, and that behind its last."""
        ends = [(n - 1) * s * self.dtype.itemsize for n, s in zip(self.shape, self.strides, strict=True)]
        low, high = sum(min(end, 0) for end in ends), sum(max(end, 0) for end in ends)
        return self.start + low, self.start + high + self.dtype.itemsize

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

    def reshape(self, *shape: Any) -> "Array":
        """The same elements in another shape."""
        new = shape[0] if len(shape) == 1 else shape
        return self.view(lambda x: np.reshape(x, new, copy=False))

    def __getitem__(self, index: Any) -> "Array":
        index = index if isinstance(index, tuple) else (index,)
        return self.view(lambda x: x[(*index, ...)] if ... not in index else x[index])

    def first(self, n: int) -> "Array":
        """The first n rows of an array of one piece."""
        return Array(self.memory, (n, *self.shape[1:]), self.dtype, self.start)

    # Copies

    def tight(self) -> "Array":
        """Itself where its elements lie one after the other, or a copy of which that is true."""
        return self if self.dense else self.astype(self.dtype)

    def astype(self, dtype: Any, copy: bool = True) -> "Array":
        """The same values in another dtype, as a copy."""
        return Array.gather(self, np.dtype(dtype)) if copy or dtype != self.dtype else self

    def copy(self) -> "Array":
        """A copy on the device."""
        return self.astype(self.dtype)

    def numpy(self) -> np.ndarray:
        """A copy on the host."""
        return self.device.download(self.tight())

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.numpy(), dtype)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        from microgradx.cuda.dlpack import interface

        if self.device.queue is None:
            raise AttributeError("the simulator's arrays are not on a GPU")
        return interface(self)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device.kind, 0

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ):
        from microgradx.cuda.dlpack import lend

        if dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(
                f"this array is on DLPack's device {self.__dlpack_device__()}, not {dl_device}."
            )
        self.device.release(stream)
        return lend(self.copy() if copy else self)

    def __deepcopy__(self, memo: Any) -> np.ndarray:
        return self.numpy()  # what is saved with a run is on the host

    def __setitem__(self, index: Any, values: Any) -> None:
        place = self if index is ... else self[index]
        if not place.dense:
            raise ShapeError(f"only one piece of memory can be written to, not {place!r}.")
        if isinstance(values, Array):
            values = values if values.dtype == self.dtype else values.astype(self.dtype)
            if values.shape != place.shape:
                raise ShapeError(f"an array of shape {values.shape} does not fit into {place.shape}.")
            place.device.copy(place, values.tight())
        else:
            host = np.asarray(values, self.dtype)
            if np.asarray(values).dtype.kind in "fc" and self.dtype.kind in "iub":
                raise DTypeError(f"values of {np.asarray(values).dtype} do not fit into {self.dtype}.")
            place.device.upload(place, np.ascontiguousarray(np.broadcast_to(host, place.shape)))
