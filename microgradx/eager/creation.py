"""Tensors from scratch: from values, filled, counted or drawn at random.

All take `dtype` (float32 unless the values say otherwise), `device` and `requires_grad`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from microgradx.eager.arrays import as_dtype
from microgradx.eager.devices import Shape, devices
from microgradx.eager.mode import mode
from microgradx.eager.tensor import Tensor
from microgradx.errors import ArgumentError, checked
from microgradx.kernels.addresses import Lender
from microgradx.kernels.random import generator
from microgradx.kernels.strided import Size
from microgradx.primitives.shapes import one_shape

HOST = 1  # DLPack's number of the host's memory


@checked
def tensor(
    values: ArrayLike, dtype: DTypeLike | None = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A Tensor with a copy of the values; float32 for Python's numbers, else the dtype they have.

    ShapeError where lists do not form an array, DTypeError for what is no number, or has no gradient.

    values: numbers, nested lists, an array of NumPy, a device or another library, a Tensor. `device`: "cpu"
    or "cuda"; DeviceError for others.

    >>> mg.tensor([[1, 2], [3, 4]], np.float32)
    tensor([[1., 2.],
           [3., 4.]])
    """
    t = Tensor(values, dtype, device, requires_grad)
    if isinstance(values, Tensor):
        t._data = t.detach().clone()._data
    elif isinstance(t._data, np.ndarray) or id(t._data) == id(values):  # else a copy on the device already
        t._data = t._data.copy()
    return t


@checked
def from_dlpack(x: Lender) -> Tensor:
    """A Tensor that shares the memory of another library's array: NumPy's, PyTorch's, JAX's, CuPy's.

    On the CPU or on the GPU, by DLPack; nothing is copied.

    ArgumentError for what has no `__dlpack__`.

    >>> array = np.zeros(2)
    >>> t = mg.from_dlpack(array)
    >>> array[0] = 1.0
    >>> t
    tensor([1., 0.], dtype=float64)
    """
    if not hasattr(x, "__dlpack__"):
        raise ArgumentError(f"from_dlpack takes an array with __dlpack__, not {type(x).__name__}.")
    if x.__dlpack_device__()[0] == HOST:
        return Tensor(np.from_dlpack(x))  # type: ignore[arg-type]  # NumPy's type for it knows no other streams
    return Tensor(next(iter(devices.values())).from_dlpack(x))


@checked
def full(
    shape: int | Shape, value: float, dtype: DTypeLike | None = None, device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A Tensor filled with one value.

    Without `dtype`, float32 for a float, int64 for an integer. Errors, here and below, are those of `tensor`.

    >>> mg.full((2, 3), 7)
    tensor([[7, 7, 7],
           [7, 7, 7]], dtype=int64)
    """
    kind = dtype or (mode.number if isinstance(value, float) else None)
    return Tensor(np.full(shape, value, kind and as_dtype(kind)), dtype, device, requires_grad)


@checked
def zeros(
    *shape: Size, dtype: DTypeLike | None = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Zeros: `zeros(2, 3)` or `zeros((2, 3))`.

    >>> mg.zeros(3)
    tensor([0., 0., 0.])
    """
    return full(one_shape(shape), 0.0, dtype, device, requires_grad)


@checked
def ones(
    *shape: Size, dtype: DTypeLike | None = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Ones: `ones(2, 3)` or `ones((2, 3))`.

    >>> mg.ones(3, requires_grad=True)
    tensor([1., 1., 1.], requires_grad=True)
    """
    return full(one_shape(shape), 1.0, dtype, device, requires_grad)


@checked
def eye(
    n: int, m: int | None = None, dtype: DTypeLike | None = None, device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Ones on the diagonal of (n, m), which is (n, n) without m.

    Errors are those of `tensor`.

    >>> mg.eye(2)
    tensor([[1., 0.],
           [0., 1.]])
    """
    return Tensor(np.eye(n, m, dtype=as_dtype(dtype or mode.number)), None, device, requires_grad)


@checked
def arange(
    start: float, stop: float | None = None, step: float = 1, dtype: DTypeLike | None = None,
    device: str | None = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Evenly spaced numbers as np.arange; int64 for integers, else float32.

    >>> mg.arange(4)
    tensor([0, 1, 2, 3], dtype=int64)
    >>> mg.arange(1, 2, 0.25)
    tensor([1.  , 1.25, 1.5 , 1.75])
    """
    values = np.arange(start, stop, step)  # without stop, NumPy counts from 0 to start
    kind = dtype or (mode.number if values.dtype.kind == "f" else None)
    return Tensor(values, kind, device, requires_grad)


@checked
def rand(
    *shape: Size, dtype: DTypeLike | None = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Uniform random numbers in [0, 1); `mg.seed` says which.

    >>> mg.seed(0)
    >>> mg.rand(2)
    tensor([0.39904642, 0.88052016])
    """
    options = {"shape": one_shape(shape), "low": 0, "high": 1, "dtype": as_dtype(dtype or mode.number)}
    return draw("uniform", options, device, requires_grad)


@checked
def randn(
    *shape: Size, dtype: DTypeLike | None = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Random numbers of the standard normal distribution; `mg.seed` says which.

    >>> mg.seed(0)
    >>> mg.randn(2)
    tensor([-0.09047305, -1.0051318 ])
    """
    options = {"shape": one_shape(shape), "dtype": as_dtype(dtype or mode.number)}
    return draw("normal", options, device, requires_grad)


def draw(method: str, options: dict[str, object], device: str | None, requires_grad: bool) -> Tensor:
    """A Tensor of fresh random numbers, from a method of the generator."""
    there = devices.get(device or "cpu") if mode.recorder is None else None
    array = getattr(generator, method)(**options) if there is None else there.draw(method, options)
    t = Tensor(array, None, device, requires_grad)
    if mode.recorder is not None:
        mode.recorder.drawn(t, method, options)
    return t
