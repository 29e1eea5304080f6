"""Arrays lent to other libraries and borrowed from them, without a copy: DLPack and the CUDA array interface.

DLPack (Data API, 2021; unversioned capsules, which every consumer takes) is a C structure in a capsule. Who
takes it renames the capsule and calls its deleter when done; a capsule that nobody took does so itself.
"""

import ctypes
import weakref
from typing import Any

import numpy as np

from microgradx.cuda.device import Device
from microgradx.cuda.memory import Array, Memory
from microgradx.errors import ArgumentError, DeviceError, DTypeError

CPU, CUDA = 1, 2  # DLPack's numbers of devices
CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
KINDS = {(code, bits): np.dtype(f"{kind}{bits // 8}") for kind, code in CODES.items() if kind != "b"
         for bits in (8, 16, 32, 64) if (kind, bits) != ("f", 8)}  # fmt: skip
KINDS[6, 8] = np.dtype(bool)


class DLTensor(ctypes.Structure):
    """What a capsule describes."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]  # fmt: skip


class Managed(ctypes.Structure):
    """A DLTensor with what gives it back."""

    _fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
python = ctypes.pythonapi
new, take, rename, valid = (
    ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, DELETER)(("PyCapsule_New", python)),
    ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", python)),
    ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", python)),
    ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", python)),
)
untaken = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", python)
)

lent: dict[int, tuple] = {}
"""What is lent, by the address of its structure: the structure, its parts and the array."""


@DELETER
def deleter(address: int) -> None:
    """Who borrowed an array does not need it any more."""
    lent.pop(address, None)


@DELETER
def destructor(capsule: int) -> None:
    """A capsule that nobody has taken: its array comes back."""
    if valid(capsule, b"dltensor"):
        lent.pop(untaken(capsule, b"dltensor"), None)


def lend(array: Array) -> Any:
    """A capsule that describes an array, and keeps it alive."""
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    strides = (ctypes.c_int64 * array.ndim)(*array.strides)
    kind, place = array.device.kind, array.device.address(array)
    tensor = DLTensor(
        place, kind, 0, array.ndim, CODES[array.dtype.kind], 8 * array.dtype.itemsize, 1, shape, strides, 0
    )
    managed = Managed(tensor, None, ctypes.cast(deleter, ctypes.c_void_p))
    address = ctypes.addressof(managed)
    lent[address] = managed, shape, strides, array
    return new(address, b"dltensor", destructor)


def borrow(capsule: Any, device: Device) -> Array:
    """The array that a capsule describes; its deleter is called with the last view of it."""
    try:
        address = take(capsule, b"dltensor")
    except ValueError:
        raise ArgumentError(
            "from_dlpack: this capsule has been taken before, or is no DLPack tensor."
        ) from None
    managed = Managed.from_address(address)
    tensor = managed.tensor
    if tensor.device_type != device.kind:
        raise DeviceError(f"from_dlpack: the array is on DLPack's device {tensor.device_type}, not on a GPU.")
    if (tensor.code, tensor.bits) not in KINDS or tensor.lanes != 1:
        raise DTypeError(f"from_dlpack: no NumPy dtype has code {tensor.code} and {tensor.bits} bits.")
    shape = tuple(tensor.shape[k] for k in range(tensor.ndim))
    strides = tuple(tensor.strides[k] for k in range(tensor.ndim)) if tensor.strides else None
    rename(capsule, b"used_dltensor")
    back = DELETER(managed.deleter) if managed.deleter else None
    start = (tensor.data or 0) + tensor.byte_offset
    memory = borrowed(device, start, shape, strides, KINDS[tensor.code, tensor.bits], capsule)
    if back is not None:
        weakref.finalize(memory.memory, back, address)
    return memory


def borrowed(device: Device, address: int, shape: Any, strides: Any, dtype: Any, owner: Any) -> Array:
    """An array in somebody else's memory, who is kept alive."""
    array = Array(None, shape, dtype, 0, strides)  # type: ignore[arg-type]
    ends = [(n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)] if array.size else []
    low, high = sum(min(0, e) for e in ends), sum(max(0, e) for e in ends)
    size = array.dtype.itemsize
    memory = Memory(device, device.raw(address + low * size, (high - low + 1) * size), 0, owner)
    return Array(memory, array.shape, dtype, -low * size, array.strides)


def interface(array: Array) -> dict[str, Any]:
    """The CUDA array interface, version 3, of an array."""
    size = array.dtype.itemsize
    return {
        "shape": array.shape,
        "typestr": array.dtype.str,
        "data": (array.device.address(array) if array.size else 0, False),
        "strides": None if array.dense else tuple(s * size for s in array.strides),
        "stream": array.device.queue,
        "version": 3,
    }


def from_interface(x: Any, device: Device) -> Array:
    """The array of an object with a CUDA array interface, without a copy."""
    about = x.__cuda_array_interface__
    dtype = np.dtype(about["typestr"])
    if about.get("mask") is not None or dtype.kind not in CODES:
        raise DTypeError(f"{type(x).__name__}: arrays of {dtype} or with a mask cannot be tensors.")
    device.wait(about.get("stream"))
    strides = about.get("strides")
    steps = None if strides is None else tuple(s // dtype.itemsize for s in strides)
    return borrowed(device, about["data"][0], tuple(about["shape"]), steps, dtype, x)
