"""Devices: where arrays are, and how they come there and back.

NumPy's arrays are on "cpu". Who has another place for arrays describes it as a Device and enters it: then
`t.to(name)` works, and operations run where their arrays are, by `primitives.executors[device.array]`.
"""

from abc import ABC, abstractmethod
from typing import Protocol, Self

import numpy as np

from microgradx.eager.mode import mode
from microgradx.errors import DeviceError
from microgradx.kernels.addresses import Lender
from microgradx.kernels.strided import Index
from microgradx.primitives.core import Operand, Shape


class DeviceArray(Protocol):
    """What Tensors ask of an array on another device: to look like NumPy's, and to come back."""

    @property
    def shape(self) -> Shape:
        """The size of each axis."""

    @property
    def ndim(self) -> int:
        """The number of axes."""

    @property
    def size(self) -> int:
        """The number of elements."""

    @property
    def dtype(self) -> np.dtype:
        """The number type."""

    @property
    def base(self) -> object:
        """What views of the same elements have in common."""

    @property
    def dense(self) -> bool:
        """Whether it is one piece of memory, which can be written to."""

    def __array__(self) -> np.ndarray: ...

    def numpy(self) -> np.ndarray:
        """A copy on the host."""

    def copy(self) -> Self:
        """A copy on the device."""

    def astype(self, dtype: np.dtype, copy: bool = True) -> Self:
        """The same values in another dtype."""

    def __len__(self) -> int: ...

    def __setitem__(self, index: Index, values: Operand) -> None: ...


Array = np.ndarray | DeviceArray
"""What a Tensor holds."""


class Device(ABC):
    """A place for arrays beside the host's memory."""

    name: str  # as users say it
    array: type  # of its arrays
    interface: str  # the attribute by which other libraries lend arrays there

    @abstractmethod
    def place(self, array: np.ndarray) -> DeviceArray:
        """A copy there."""

    @abstractmethod
    def empty(self, shape: Shape, dtype: np.dtype) -> DeviceArray:
        """A new array of any values."""

    @abstractmethod
    def draw(self, method: str, options: dict[str, object]) -> DeviceArray:
        """Fresh random numbers, of a method of the generator."""

    @abstractmethod
    def from_interface(self, x: object) -> DeviceArray:
        """The array of an object that has the attribute `interface`, without a copy."""

    @abstractmethod
    def from_dlpack(self, x: Lender) -> DeviceArray:
        """The array of an object that lends it by DLPack, without a copy."""

    @abstractmethod
    def in_use(self) -> bool:
        """Whether there may be Tensors there."""


devices: dict[str, Device] = {}
"""Every device beside "cpu", by its name."""

kinds: dict[type, Device] = {}
"""The same by the type of their arrays."""


def enter(device: Device) -> None:
    """Let Tensors be on a device from now on."""
    devices[device.name] = kinds[device.array] = device


def check_device(device: str | None) -> None:
    """DeviceError for what is no device."""
    if device is not None and (not isinstance(device, str) or device not in ("cpu", *devices)):
        known = " and ".join(f'"{name}"' for name in ("cpu", *devices))
        raise DeviceError(f"device {device!r}: the devices are {known}.")


def is_array(x: object) -> bool:
    """Whether something is an array, on whatever device."""
    return type(x) is np.ndarray or type(x) in kinds


def device_of(array: Array) -> str:
    """The name of the device that an array is on."""
    return kinds[type(array)].name if type(array) in kinds else "cpu"


def placed(array: Array, device: str | None) -> Operand:
    """An array where it is wanted, of that device's kind: itself, or a copy."""
    check_device(device)
    if device is None or device == device_of(array):
        return array
    if not isinstance(array, np.ndarray):
        array = array.numpy()
    if device == "cpu":
        return array
    if mode.recorder is not None:  # what it hears of stays on the host
        mode.recorder.device = device
        return array
    return devices[device].place(array)


def on_host(array: Operand) -> np.ndarray:
    """The array (or number of NumPy), or a copy of it if it is on another device."""
    return array.numpy() if type(array) in kinds else array


def room_for(array: Array) -> Array:
    """A new array like another, of any values; while somebody listens, one that stands for it."""
    if isinstance(array, np.ndarray) or mode.recorder is not None:
        return np.empty(array.shape, array.dtype)
    return kinds[type(array)].empty(array.shape, array.dtype)


def copy_into(array: Array, values: Operand) -> None:
    """array[...] = values; while somebody listens, what is on another device stays as it is."""
    if isinstance(array, np.ndarray):
        np.copyto(array, values)
    elif mode.recorder is None:
        array[...] = values


def borrowed(x: object) -> DeviceArray | None:
    """The array that another library lends on a device; None where it does not."""
    return next((d.from_interface(x) for d in devices.values() if hasattr(x, d.interface)), None)
