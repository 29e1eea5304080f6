"""Arrays lent to other libraries and borrowed from them, without a copy: DLPack and the CUDA array interface.

DLPack (Data API, 2021; unversioned capsules, which every consumer takes) is a C structure in a capsule. Who
takes it renames the capsule and calls its deleter when done; a capsule that nobody took does so itself.
"""

import ctypes
import weakref
from typing import Any, NamedTuple

import numpy as np

from microgradx.cuda.devices import Device, Memory, Pointer
from microgradx.errors import ArgumentError, DeviceError, DTypeError
from microgradx.kernels.strided import contiguous, extent

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

lent: dict[int, tuple[object, ...]] = {}
"""What is lent, by the address of its structure: the structure, its parts and the array."""


class Borrowed(NamedTuple):
    """What an array in somebody else's memory is made of: who lends it is kept alive by the memory."""

    memory: Memory
    shape: tuple[int, ...]
    dtype: np.dtype
    start: int  # byte of its first element
    strides: tuple[int, ...]  # in elements


@DELETER
def deleter(address: int) -> None:
    """Who borrowed an array does not need it any more."""
    lent.pop(address, None)


@DELETER
def destructor(capsule: int) -> None:
    """A capsule that nobody has taken: its array comes back."""
    if valid(capsule, b"dltensor"):
        lent.pop(untaken(capsule, b"dltensor"), None)


def lend(first: Pointer, shape: tuple[int, ...], strides: tuple[int, ...]) -> object:
    """A capsule that describes an array, and keeps it alive. `first`: the array, or where it begins."""
    axes = ctypes.c_int64 * len(shape)
    sizes, steps = axes(*shape), axes(*strides)
    kind, dtype = first.memory.device.kind, first.dtype
    about = kind, 0, len(shape), CODES[dtype.kind], 8 * dtype.itemsize, 1
    managed = Managed(
        DLTensor(first.address, *about, sizes, steps, 0), None, ctypes.cast(deleter, ctypes.c_void_p)
    )
    address = ctypes.addressof(managed)
    lent[address] = managed, sizes, steps, first
    return new(address, b"dltensor", destructor)


def borrow(capsule: object, device: Device) -> Borrowed:
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
    strides = tuple(tensor.strides[k] for k in range(tensor.ndim)) if tensor.strides else contiguous(shape)
    rename(capsule, b"used_dltensor")
    back = DELETER(managed.deleter) if managed.deleter else None
    start = (tensor.data or 0) + tensor.byte_offset
    found = borrowed(device, start, shape, strides, KINDS[tensor.code, tensor.bits], capsule)
    if back is not None:
        weakref.finalize(found.memory, back, address)
    return found


def borrowed(
    device: Device, address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype,
    owner: object,
) -> Borrowed:  # fmt: skip
    """An array in somebody else's memory, who is kept alive."""
    (low, high), size = extent(shape, strides), dtype.itemsize
    memory = Memory(device, address + low * size, (high - low + 1) * size, owner)
    return Borrowed(memory, shape, dtype, -low * size, strides)


def from_interface(x: Any, device: Device) -> Borrowed:  # of any library's class
    """The array of an object with a CUDA array interface, without a copy."""
    about = x.__cuda_array_interface__
    dtype, shape = np.dtype(about["typestr"]), tuple(about["shape"])
    if about.get("mask") is not None or dtype.kind not in CODES:
        raise DTypeError(f"{type(x).__name__}: arrays of {dtype} or with a mask cannot be tensors.")
    device.wait(about.get("stream"))
    strides = about.get("strides")
    steps = contiguous(shape) if strides is None else tuple(s // dtype.itemsize for s in strides)
    return borrowed(device, about["data"][0], shape, steps, dtype, x)
